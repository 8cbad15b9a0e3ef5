# SPDX-License-Identifier: Apache-2.0
"""What was proven when, and what never was: from the practice's document and its evidence alone. Pure.

A cell is one level (files, database ...) of one class of runs (hourly ... yearly) of one copy of one item. It has to be
proven again and again within objectives.proven. What was not is red, and so is a run that failed and never passed since.
States are "ok", "bad" and "none": nothing to prove yet, or not due yet.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.evidence import removed
from ansible_collections.holdfast.practice.plugins.module_utils.proof_history import rows_of
from ansible_collections.holdfast.practice.plugins.plugin_utils.proofs import CLASSES_S
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_words import parse_time

OTHER = "other"  # runs that are kept although no rule asks for them (module_utils/verify_choice.py)
NONE_YET = "none kept yet"
CONTENT = ("files", "database", "application")  # levels that tell of one run; the others tell of the repository


@dataclass
class _Seen:
    """What the evidence tells of one copy of one item."""

    tried: bool = False
    kept: dict[str, int] = field(default_factory=dict)
    since: dict[str, dt.datetime] = field(default_factory=dict)  # by class: there are runs of it since
    proven: dict[tuple[str, str], dt.datetime] = field(default_factory=dict)
    failed: dict[tuple[str, str], dt.datetime] = field(default_factory=dict)
    types: dict[str, tuple[dt.datetime, int]] = field(default_factory=dict)
    bad: dict[str, tuple[dt.datetime, str]] = field(default_factory=dict)


def coverage(summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]], now: dt.datetime) -> dict[str, Any]:
    """Work out the table: {"proven_s", "state", "cells", "types", "bad", "counts": {"ok", "bad", "none"}}.

    summary: practice_summary of the compiled inventory. records: of the verified ledger, oldest first. now: with a zone.
    cells: [{item, host, copy, class, level, state, late, last, due, kept, text}], last and due as ISO times or None.
    types: [{item, host, copy, type, files, last}]. bad: [{item, host, copy, class, snapshot, at}].
    """
    promise = dt.timedelta(seconds=float(summary["objectives"]["proven_s"]))
    seen = _read(records)
    cells, types, bad = [], [], []
    for item, host, copy, known in _promised(summary):
        mine = seen.get((item, host, copy), _Seen())
        name = {"item": item, "host": host, "copy": copy}
        for kind in _classes(summary, mine):
            cells += [
                {**name, "class": kind, "level": level, **_cell(mine, kind, level, promise, now)} for level in known
            ]
        for kind, (at, files) in sorted(mine.types.items()):
            types.append({**name, "type": kind, "files": files, "last": _iso(at)})
        for snapshot, (at, kind) in sorted(mine.bad.items(), key=lambda each: (each[1], each[0])):
            bad.append({**name, "class": kind, "snapshot": snapshot[:12], "at": _iso(at)})
    states = [cell["state"] for cell in cells]
    counts = {state: states.count(state) for state in ("ok", "bad", "none")}
    state = "bad" if counts["bad"] or bad or not cells else "ok" if counts["ok"] else "none"
    return {
        "proven_s": promise.total_seconds(),
        "state": state,
        "cells": cells,
        "types": types,
        "bad": bad,
        "counts": counts,
    }


def _promised(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[str]]]:
    for item, known in (summary.get("items") or {}).items():
        for host in known.get("hosts") or []:
            for copy in summary.get("copies") or {}:
                yield str(item), str(host), str(copy), list(known.get("levels") or [])


def _classes(summary: Mapping[str, Any], mine: _Seen) -> list[str]:
    within = (summary.get("retention") or {}).get("within") or {}
    told = {kind for kind, _level in mine.proven} | {kind for kind, count in mine.kept.items() if count}
    return [kind for kind in (*CLASSES_S, OTHER) if kind in within or kind in told]


def _read(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], _Seen]:
    found: dict[tuple[str, str, str], _Seen] = {}
    for record in records:
        at = parse_time(record.get("at"))
        for row in rows_of(record) if at else ():
            assert at is not None
            mine = found.setdefault(
                (str(row.get("item")), str(row.get("host")), str(row.get("copy") or "onsite")), _Seen()
            )
            mine.tried = True
            _note(mine, row, at)
    gone = removed([{"record": record} for record in records])
    for mine in found.values():
        mine.bad = {snapshot: known for snapshot, known in mine.bad.items() if snapshot not in gone}
    return found


def _note(mine: _Seen, row: Mapping[str, Any], at: dt.datetime) -> None:
    kind = str(row.get("class") or "")
    if row.get("kept"):
        mine.kept = {str(each): int(count) for each, count in row["kept"].items()}
        mine.since = {each: mine.since.get(each, at) for each, count in mine.kept.items() if count}
    levels = row.get("levels") or {}
    for level, judged in levels.items() if kind else ():
        if judged.get("verdict") == "PASS" and judged.get("checked"):
            mine.proven[(kind, level)] = at
            mine.failed.pop((kind, level), None)
        elif judged.get("verdict") == "FAIL":
            mine.failed[(kind, level)] = at
    if (levels.get("files") or {}).get("verdict") == "PASS":
        for each, count in ((row.get("figures") or {}).get("types") or {}).items():
            mine.types[str(each)] = (at, int(count))
    oracle = (row.get("snapshots") or {}).get("oracle")
    if not oracle or not kind:
        return
    verdicts = [(levels.get(level) or {}).get("verdict") for level in CONTENT if level in levels]
    if "FAIL" in verdicts:
        mine.bad[str(oracle)] = (at, kind)
    elif row.get("verdict") == "PASS":
        mine.bad.pop(str(oracle), None)


def _cell(mine: _Seen, kind: str, level: str, promise: dt.timedelta, now: dt.datetime) -> dict[str, Any]:
    last, failed = mine.proven.get((kind, level)), mine.failed.get((kind, level))
    kept = mine.kept.get(kind, 0)
    start = last or mine.since.get(kind)
    due = start + promise if start and kept and kind != OTHER else None
    if not mine.tried:
        state, text = "bad", "never"
    elif failed and kept:
        state, text = "bad", f"failed {_day(failed)}"
    elif kind == OTHER:
        state, text = "none", f"{_day(last)}, no rule keeps these" if last else "no rule keeps these"
    elif not kept:
        state, text = "none", f"{_day(last)}, none kept now" if last else NONE_YET
    elif due and due < now:
        state, text = "bad", f"{_day(last)}, overdue since {_day(due)}" if last else f"never, overdue since {_day(due)}"
    elif last:
        state, text = ("ok", _day(last)) if last <= now + dt.timedelta(minutes=5) else ("bad", "dated in the future")
    else:
        state, text = "none", f"not yet, due by {_day(due)}"
    late = state == "bad" and bool(due and due < now)
    return {"state": state, "late": late, "last": _iso(last), "due": _iso(due), "kept": kept, "text": text}


def _iso(at: dt.datetime | None) -> str | None:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def _day(at: dt.datetime | None) -> str:
    return at.date().isoformat() if at else ""


def table(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Put the cells into rows, as people read them: [{"item", "host", "copy", "class", "kept", "state", "cells"}]."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for cell in found["cells"]:
        key = (cell["item"], cell["host"], cell["copy"], cell["class"])
        named = {name: cell[name] for name in ("item", "host", "copy", "class", "kept")}
        row = rows.setdefault(key, {**named, "cells": []})
        row["cells"].append({name: cell[name] for name in ("level", "state", "text")})
    for row in rows.values():
        states = {cell["state"] for cell in row["cells"]}
        row["state"] = "bad" if "bad" in states else "none" if "none" in states else "ok"
    return list(rows.values())


def overdue(found: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """What is late, and which older runs are bad, by (item, host): ["monthly files: never, overdue since 2026-11-21"]."""
    said: dict[tuple[str, str], list[str]] = {}
    for cell in found["cells"]:
        if cell["late"]:
            text = f"{cell['class']} {cell['level']}: {cell['text']}"
            said.setdefault((cell["item"], cell["host"]), []).append(text)
    for each in found["bad"]:
        text = f"the {each['class']} run {each['snapshot']} failed on {each['at'][:10]} and has not passed since"
        said.setdefault((each["item"], each["host"]), []).append(text)
    return said


def words(found: Mapping[str, Any]) -> list[str]:
    """Say the table in lines for a terminal."""
    days = found["proven_s"] / 86400
    lines = [f"Everything that is kept has to be proven within {days:.0f} days."]
    before = None
    for row in table(found):
        name = f"{row['item']} of {row['host']}, copy {row['copy']}"
        if name != before:
            lines += ["", name]
            before = name
        if {cell["text"] for cell in row["cells"]} == {NONE_YET}:
            lines.append(f"  {row['class']}: {NONE_YET}")
            continue
        lines.append(f"  {row['class']}: {row['kept']} kept")
        lines += [f"    {cell['level']:12}{_MARKS[cell['state']]}{cell['text']}" for cell in row["cells"]]
    for key in dict.fromkeys((each["item"], each["host"], each["copy"]) for each in found["types"]):
        mine = [each for each in found["types"] if (each["item"], each["host"], each["copy"]) == key]
        listed = ", ".join(f"{each['type']} {each['files']} ({each['last'][:10]})" for each in mine)
        lines += ["", f"file types of {key[0]} of {key[1]}, copy {key[2]}, last proven: {listed}"]
    if found["bad"]:
        lines.append("")
    for each in found["bad"]:
        lines.append(
            f"BAD: the {each['class']} run {each['snapshot']} of {each['item']} of {each['host']} failed on {each['at'][:10]} "
            "and has not passed since"
        )
    counts = found["counts"]
    lines += [
        "",
        f"{counts['ok']} in time, {counts['bad']} overdue, failed or never, {counts['none']} not due or nothing kept",
    ]
    return lines


_MARKS = {"ok": "", "bad": "RED: ", "none": "- "}
