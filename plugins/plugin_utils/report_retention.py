# SPDX-License-Identifier: Apache-2.0
"""What the report says of the rotation: what is kept, what went, and what stops it. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from .report_words import ago, clock_time, parse_time, plural

STATE_OF = {"PASS": "ok", "INCONCLUSIVE": "warn", "FAIL": "bad"}


def kept(records: Sequence[Mapping[str, Any]], now: dt.datetime, zone: ZoneInfo) -> dict[str, Any]:
    """The newest maintenance: {state, value, at, detail, rows: [{job, host, kept, clean, note}]}; state "none" without any."""
    done = [record for record in records if record["kind"] == "retention"]
    if not done:
        return {"state": "none", "value": "never", "at": "", "detail": "", "rows": []}
    record = done[-1]
    body, at = record["body"], parse_time(record.get("at"))
    hosts: Mapping[str, Mapping[str, Any]] = body.get("hosts") or {}
    faults = [
        f"{host}: {row['message']}"
        for host, found in hosts.items()
        for row in [*(found.get("doubts") or ()), *(found.get("reasons") or ())]
    ]
    removed = [run for run in body.get("removed") or () if not run.get("discarded")]
    old = (now - at).total_seconds() if at else 0.0
    return {
        "state": STATE_OF.get(str(body.get("verdict")), "bad"),
        "value": f"{body.get('verdict')}, {ago(old)}, {plural(len(removed), 'run')} removed",
        "at": clock_time(at, zone) if at else "",
        "detail": "; ".join(faults),
        "rows": [_row(host, job, found, zone) for host, found in hosts.items() for job in found.get("kept") or {}],
    }


def _row(host: str, job: str, found: Mapping[str, Any], zone: ZoneInfo) -> dict[str, str]:
    counts = found["kept"][job]
    clean = parse_time(((found.get("clean") or {}).get(job) or {}).get("arrived"))
    return {
        "job": job,
        "host": host,
        "kept": ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "nothing",
        "clean": clock_time(clean, zone) if clean else "none",
        "note": (found.get("frozen") or {}).get(job, ""),
    }
