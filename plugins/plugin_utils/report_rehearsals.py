# SPDX-License-Identifier: Apache-2.0
"""What the report says of break-glass rehearsals, of restores that a person signed off, and of published heads. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from .report_words import ago, clock_time, duration, parse_time, plural

GLASS_DUE_S = 400 * 86400  # once a year
STATE_OF = {"PASS": "ok", "INCONCLUSIVE": "warn", "FAIL": "bad"}
MOST = 10


def break_glass(records: Sequence[Mapping[str, Any]], now: dt.datetime, zone: ZoneInfo) -> dict[str, Any]:
    """The newest rehearsal: {state, value, at, detail, phases, kit, blocked}; state "none" when there was never one."""
    rehearsed = [record for record in records if record["kind"] == "break_glass"]
    if not rehearsed:
        return {"state": "none", "value": "never", "at": "", "detail": "", "phases": [], "kit": "", "blocked": ""}
    record = rehearsed[-1]
    body, at = record["body"], parse_time(record.get("at"))
    old = (now - at).total_seconds() if at else 0.0
    state = STATE_OF.get(str(body.get("verdict")), "bad")
    rows = [*(body.get("reasons") or []), *(each for item in body.get("items") or [] for each in item["reasons"])]
    detail = "; ".join(dict.fromkeys(str(row.get("message") or row.get("code")).rstrip(".") for row in rows))
    if state == "ok" and old > GLASS_DUE_S:
        state, detail = "bad", f"Overdue: rehearse at least every {duration(GLASS_DUE_S)}."
    figures, blocked = body.get("figures") or {}, body.get("blocked") or {}
    phases = [
        {"name": name.removesuffix("_s").replace("_", " "), "text": duration(seconds)}
        for name, seconds in (figures.get("phases") or {}).items()
    ]
    return {
        "state": state,
        "value": f"{body.get('verdict')}, {ago(old)}",
        "at": clock_time(at, zone) if at else "",
        "detail": detail,
        "phases": [*phases, {"name": "in all", "text": duration(figures.get("total_s"))}] if phases else [],
        "kit": str((body.get("kit") or {}).get("made") or ""),
        "blocked": "the control node was out of reach" if blocked and not blocked.get("open_from_machine") else "",
    }


def sign_offs(records: Sequence[Mapping[str, Any]], zone: ZoneInfo) -> list[dict[str, str]]:
    """What people restored by hand and signed off, the newest first."""
    found = []
    for record in reversed([each for each in records if each["kind"] == "sign_off"]):
        body, at = record["body"], parse_time(record["body"].get("done"))
        found.append(
            {
                "state": STATE_OF.get(str(body.get("verdict")), "bad"),
                "item": str(body.get("item")),
                "by": str(body.get("by")),
                "what": str(body.get("what")),
                "at": clock_time(at, zone) if at else str(body.get("done")),
                "seq": str(record.get("seq")),
            }
        )
    return found[:MOST]


def published(facts: Mapping[str, Any] | None, count: int) -> tuple[str, str]:
    """Say where the heads of the ledger are kept: (state, text). facts: results/published.json, None without one."""
    places = (facts or {}).get("places") or {}
    if not places:
        return "bad", "No head of it was ever published: nobody could tell if it was written anew."
    behind = sorted(name for name, seq in places.items() if int(seq or 0) < count)
    if behind:
        return "bad", f"The newest head was not published: {', '.join(behind)}."
    if (facts or {}).get("others"):
        text = "Another ledger of this practice was published before: the evidence was begun anew, and somebody has to know why."
        return "warn", text
    return "ok", f"The head of all {plural(count, 'record')} is published: {', '.join(sorted(places))}."
