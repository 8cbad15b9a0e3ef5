# SPDX-License-Identifier: Apache-2.0
"""Action: make the sealed recovery kit. Runs in Ansible's own process, so secrets are in no argument, file or other process."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.holdfast.practice.plugins.module_utils.break_glass import opening
from ansible_collections.holdfast.practice.plugins.plugin_utils import kit_seal, recovery_kit
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import (
    DOCUMENT,
    InvalidPracticeError,
    load_inventory,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.recovery_kit import SECRETS, KitError, Sources
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_sources import read_ledger
from ansible_collections.holdfast.practice.plugins.plugin_utils.secrets import SIGNERS_FILE

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "recovery"
SPEC = {
    "state": {"type": "str", "choices": ["ready", "sealed"], "default": "sealed"},
    "folder": {"type": "path", "required": True},
    "secrets": {
        "type": "dict",
        "required": True,
        "no_log": True,
        "options": {name: {"type": "dict", "required": True, "no_log": True} for name in SECRETS},
    },
    "facts": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):
    """See plugins/modules/recovery_kit.py for what it does and returns."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make the kit, or say that it is there."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _checked, validated = self.validate_argument_spec(SPEC)
        # Ansible's own kinds of text and mapping stay out of the kit
        asked = json.loads(json.dumps(validated))
        folder = Path(asked["folder"])
        try:
            kept = kit_seal.look(folder / FOLDER)
            sources = gather(folder, asked["secrets"], _facts(asked["facts"], kept))
            printed = recovery_kit.content(sources)
            kit_seal.keys(printed["recipients"])
            if asked["state"] == "ready":
                return {**result, "changed": False, "readers": [each["name"] for each in printed["recipients"]]}
            made = make(folder / FOLDER, sources, printed, kept, bool(self._task.check_mode))
            made["page"] = {**made["page"], "opening": opening(made["page"]["file"], made["page"]["folder"])}
            return {**result, **made}
        except (KitError, InvalidPracticeError) as error:
            return {**result, "failed": True, "msg": str(error)}
        except OSError as error:
            return {**result, "failed": True, "msg": f"{error.filename}: {error.strerror}; no kit was made"}


def _facts(asked: Mapping[str, Any], kept: kit_seal.Kept) -> dict[str, Any]:
    """Take what hosts said now, and for a host that does not answer what it said for the last kit."""
    return {**((kept.state or {}).get("facts") or {}), **{host: facts for host, facts in asked.items() if facts}}


def gather(folder: Path, secrets: Mapping[str, Any], facts: Mapping[str, Any]) -> Sources:
    """Read everything a kit is made of."""
    inventory = load_inventory(folder / DOCUMENT)
    signers = folder / SIGNERS_FILE
    practice = inventory.all_vars["practice_id"]
    records, ledger = read_ledger(folder / "evidence", signers, practice)
    return Sources(
        inventory=inventory,
        document=(folder / DOCUMENT).read_text("utf-8"),
        signers=signers.read_text("utf-8") if signers.exists() else "",
        secrets={name: secrets[name] for name in SECRETS},
        facts={host: facts[host] for host in inventory.host_vars if host in facts},
        records=records,
        ledger=ledger,
        version=version(ROOT),
        commit=commit(ROOT),
        made=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def make(
    folder: Path, sources: Sources, printed: Mapping[str, Any], kept: kit_seal.Kept, check_mode: bool
) -> dict[str, Any]:
    """Seal a new kit unless the last one still says the same."""
    files = recovery_kit.members(sources, printed)
    fingerprint = recovery_kit.fingerprint(files, printed, sources.secrets)
    before = (kept.state or {}).get("page") or {}
    why = kept.why or ("" if (kept.state or {}).get("fingerprint") == fingerprint else "its content changed")
    if not why:
        return {"changed": False, "why": "", "page": before, "diff": {"before": "", "after": ""}}
    name = f"kit-{sources.made[:10]}.age"
    page = {**printed, "file": name, "sha256": ""}
    if not check_mode:
        sealed = kit_seal.seal(printed["folder"], files, sources.made, printed["recipients"])
        page["sha256"] = kit_seal.sha256(sealed)
        state = {
            "format": recovery_kit.FORMAT,
            "fingerprint": fingerprint,
            "facts": dict(sources.facts),
            "page": page,
        }
        kit_seal.save(folder, name, sealed, state)
    return {
        "changed": True,
        "why": why,
        "page": page,
        "diff": {
            "before_header": "recovery kit",
            "after_header": f"recovery kit ({why})",
            "before": recovery_kit.listing(before) if before else "",
            "after": recovery_kit.listing(page),
        },
    }


def version(root: Path) -> str:
    """Holdfast's version."""
    found = re.search(r"^version:\s*[\"']?([^\s\"']+)", (root / "galaxy.yml").read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"


def commit(root: Path) -> str:
    """The checkout's commit; empty where this is no checkout. Read from its files: git refuses another user's folder."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text("ascii").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text("ascii").strip()
        packed = (git / "packed-refs").read_text("ascii")
    except OSError:
        return ""
    found = re.search(rf"^([0-9a-f]{{40,64}}) {re.escape(name)}$", packed, re.MULTILINE)
    return found[1] if found else ""
