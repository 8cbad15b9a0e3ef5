# SPDX-License-Identifier: Apache-2.0
"""Read what a report is made of: status records and the verified ledger. Broken input becomes a finding, not a gap."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import evidence


def read_statuses(folder: Path, practice: str) -> list[dict[str, Any]]:
    """Return the status records in FOLDER/status/HOST/JOB.json.

    One that cannot be read, or that speaks for another host or practice, counts as a failed run of that host's job.
    """
    return [_status(path, practice) for path in sorted((folder / "status").glob("*/*.json"))]


def _status(path: Path, practice: str) -> dict[str, Any]:
    host, job = path.parent.name, path.stem
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(status, dict):
            raise TypeError("not a mapping")
    except (OSError, ValueError, TypeError) as error:
        return _failed(path, f"its status record cannot be read ({error})")
    claims = (status.get("practice"), status.get("host"), status.get("job"))
    if claims != (practice, host, job):
        said = ", ".join(str(claim) for claim in claims)
        return _failed(path, f"its status record speaks for another practice, host or job ({said})")
    return status


def _failed(path: Path, message: str) -> dict[str, Any]:
    at = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC).isoformat(timespec="seconds")
    return {
        "host": path.parent.name,
        "job": path.stem,
        "item": path.stem,
        "state": "FAILED",
        "started": at,
        "finished": at,
        "reasons": [{"code": "status_unreadable", "message": message}],
    }


def read_published(folder: Path) -> dict[str, Any] | None:
    """Return what FOLDER/published.json says of published heads; None for one that is not there or cannot be read."""
    try:
        found = json.loads((folder / "published.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_power(folder: Path) -> dict[str, Any] | None:
    """Return what power_status.yml left in FOLDER/power_status.json; None when it never ran or it cannot be read."""
    try:
        found = json.loads((folder / "power_status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_ledger(folder: Path, signers: Path, practice: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return (records up to the first broken one, what the verification found); see report.build_report() for both."""
    state: dict[str, Any] = {"ok": False, "count": 0, "head": None, "broken": None, "notes": [], "error": None}
    if not folder.is_dir():
        return [], state
    try:
        found = evidence.verify(str(folder), str(signers), practice)
        lines = evidence.Ledger(str(folder)).lines()[: found.count]
        records = [evidence.parse_line(line)["record"] for line in lines]
    except evidence.EvidenceError as error:
        return [], state | {"error": str(error)}
    broken = found.broken
    state |= {
        "ok": found.ok,
        "count": found.count,
        "head": found.head,
        "notes": list(found.notes),
        "broken": broken and {"line": broken.line, "seq": broken.seq, "check": broken.check, "message": broken.message},
    }
    return records, state
