# SPDX-License-Identifier: Apache-2.0
"""What the last runs on this host came to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .agent_host import EXIT, Places, read_json, seconds_of, utc


def overview(places: Places, now: float) -> list[dict[str, Any]]:
    """One row for each job: job, state, finished, age_s, last_ok, running, deferred, reasons. A job that never ran is FAILED."""
    rows = []
    boot = places.boot_id.read_text(encoding="ascii").strip()
    for path in sorted((places.etc / "jobs").glob("*.json")):
        record = read_json(places.status(path.stem)) or {}
        begun = read_json(places.running(path.stem))
        if begun and begun["facts"]["boot_id"] != boot:
            reason = {"code": "killed", "message": f"the host went down during the run of {utc(begun['started'])}"}
            record = {**record, "state": "FAILED", "reasons": [reason]}
            begun = None
        finished = record.get("finished")
        age = now - seconds_of(finished) if finished else None
        rows.append(
            {
                "job": path.stem,
                "state": record.get("state", "FAILED"),
                "finished": finished,
                "age_s": round(age) if age is not None else None,
                "last_ok": (record.get("last_ok") or {}).get("finished"),
                "running": begun is not None,
                "deferred": read_json(places.deferred(path.stem)),
                "reasons": record.get("reasons", [{"code": "never_ran", "message": "this job has not run yet"}]),
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows for people."""
    lines = [("JOB", "STATE", "FINISHED", "LAST OK", "WHY")]
    for row in rows:
        state = f"{row['state']} (running now)" if row["running"] else str(row["state"])
        why = "; ".join(f"{reason['code']}: {reason['message']}" for reason in row["reasons"]) or "-"
        waits = row["deferred"]
        if waits:
            why = f"waits since {waits['since']} ({waits['code']}: {waits['message']}); last run: {why}"
        lines.append((str(row["job"]), state, str(row["finished"] or "-"), str(row["last_ok"] or "-"), why))
    widths = [max(len(line[n]) for line in lines) for n in range(4)]
    return "\n".join("  ".join([line[n].ljust(widths[n]) for n in range(4)] + [line[4]]) for line in lines)


def show_status(places: Places, as_json: bool) -> int:
    """``agent status``: exit code like the worst job; no job at all is a failure too."""
    rows = overview(places, time.time())
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        sys.stdout.write((table(rows) if rows else "This host has no backup job.") + "\n")
    states = {str(row["state"]) for row in rows} or {"FAILED"}
    return next(EXIT[state] for state in ("FAILED", "INCOMPLETE", "OK") if state in states)


def register(verbs: Any) -> None:
    """The verb of this part."""
    status = verbs.add_parser("status", help="show the last run of every job")
    status.add_argument("--json", action="store_true")
    status.set_defaults(call=lambda wanted, places: show_status(places, wanted.json))
