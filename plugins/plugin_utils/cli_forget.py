# SPDX-License-Identifier: Apache-2.0
"""Forget a retired host whose backups were deleted: its line in the document, and the password that opened them.

Refuses while the evidence has no signed record of the deletion, which playbooks/delete_orphan.yml makes.

Exit codes: 0 done, or nothing left to do; 2 not confirmed, nothing was changed; 3 invalid input.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import evidence
from ansible_collections.holdfast.practice.plugins.plugin_utils import retiring, secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import fail
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli_retire import (
    NOT_CONFIRMED,
    common_arguments,
    confirmed,
    playbook,
    replace,
    show,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import DOCUMENT, InvalidPracticeError, load
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    common_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Show, ask, change; returns the exit code."""
    folder = Path(options.folder)
    try:
        with secrets.locked(folder):
            practice, _ = load(folder / DOCUMENT)
            return _forget(folder, practice, options)
    except InvalidPracticeError as error:
        print(*error.problems, sep="\n")
        return fail(f"the document has mistakes ({len(error.problems)}); nothing was changed")
    except (retiring.RetiringError, secrets.SecretsError, evidence.EvidenceError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}")


def records_of(folder: Path, practice_id: str) -> list[dict[str, Any]]:
    """Read the verified evidence of a practice; none is no record. Raises EvidenceError for a ledger that does not hold."""
    ledger = folder / "evidence"
    if not (ledger / evidence.LEDGER).exists():
        return []
    result = evidence.verify(str(ledger), str(folder / secrets.SIGNERS_FILE), practice_id)
    if not result.ok:
        raise evidence.EvidenceError(
            f"{ledger}: the evidence does not hold, so nobody knows whether anything was deleted; see: bin/holdfast "
            f"verify-evidence {ledger} --signers {folder / secrets.SIGNERS_FILE}"
        )
    return [entry["record"] for entry in evidence.Ledger(str(ledger)).entries()]


def _forget(folder: Path, practice: Practice, options: argparse.Namespace) -> int:
    host, identity = options.host, practice.practice.id
    document = folder / DOCUMENT
    raw = document.read_bytes()
    edit = retiring.forget(raw, str(document), host)
    secret, vault = secrets.open_vault(folder, identity, options.vault_password_file)
    left, taken = retiring.erase(vault, host)
    if edit is None and not taken:
        print(f"{host}: neither {document} nor the vault knows it; nothing to change.")
        return 0
    records = records_of(folder, identity)
    deleted, retired = (retiring.last_record(records, kind, host) for kind in ("deletion", "retirement"))
    if deleted is None or (retired is not None and retired["seq"] > deleted["seq"]):
        file = options.vault_password_file or folder / secrets.PASSWORD_FILE
        phrase = f"-e host={host} -e confirm=delete-{host}-of-{identity}"
        return fail(
            f"the backups of {host} are still kept (there is no record of their deletion), and without the password in the "
            f"vault nobody could read them. To delete them first:\n  "
            + playbook("delete_orphan.yml", folder, identity, file, phrase)
        )
    print(f"The backups of {host} were deleted at {deleted['at']} (record {deleted['seq']} of the evidence).")
    if edit:
        show(document, raw, edit.text)
    for name in taken:
        print(f"the vault loses {name}")
    if not confirmed(host, options.confirm):
        return NOT_CONFIRMED
    if edit:
        replace(document, edit.text)
    if taken:
        secrets.save_vault(folder, identity, secret, left)
    print(f"{host} is forgotten. A new machine may have this name.")
    return 0
