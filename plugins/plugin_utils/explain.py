# SPDX-License-Identifier: Apache-2.0
"""The whole policy of a practice, value by value, each with where it came from. Pure.

A value stands on a line of the document, is a default of the model, or is derived: worked out by the compiler from others.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils import feasibility
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import Inventory, compile_practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Part, Practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Document, KeyPath, dotted
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import clock, quiet_window, usual_time

LINE, DEFAULT, DERIVED = "line", "default", "derived"
NARROWEST = 60
_DERIVED_MEANING = {
    "quiet_window": "when the practice is closed on every day, half an hour away from people",
    "usual_time": "when backups without a time of their own begin",
    "calendar": "systemd's expression for when the job starts",
    "spread_s": "within this time after it the host really starts, at a moment of its own",
    "dump_limit_s": "a dump that takes longer is ended, and its run counts as failed",
    "time_limit_s": "a run that takes longer is ended and counts as failed",
    "canaries": "files of ours that nobody has a reason to touch: a missing or changed one makes a run suspect",
    "disable": "wires that are switched off",
    "least": "fewer spoilt files than this raise nothing",
    "magic": "so many percent of new or changed files not beginning as their type does make a run suspect",
    "entropy": "so many percent of new or changed text files looking random make a run suspect",
    "rename": "so many percent of new files being old ones with an unknown ending make a run suspect",
    "change": "so many percent of all files changed or gone, and what came looking spoilt, make a run suspect",
    "deadline_s": "so long after its last good run a job is late",
    "silent_after_s": "so long after the host's last snapshot the NAS says that it is silent",
    "recipients": "who gets a mail when a backup fails, is late or is well again",
    "url": "the host's own repository",
    "username": "the account that may add to this repository, and to no other",
    "accounts": "the accounts of this NAS, one for each host with something to protect",
    "rpo_s": "a newest backup older than this is late",
    "rto_s": "a restore that takes longer than this is too slow",
    "levels": "what a proof looks at",
    "often": "how often a restore is proven",
    "older": "so many older runs each daily proof takes of it, so that all is proven within objectives.proven",
    "turn": "the day of its proof: daily, a day of the week or a day of the month",
    "order": "in which order machines stop; the last one cuts the power",
    "slowest": "the secondary that takes longest to stop",
    "slowest_s": "how long the slowest secondary takes to stop",
    "hostsync_s": "how long the primary waits for the others to go",
    "primary_s": "how long the primary takes to stop",
    "finaldelay_s": "the primary's pause before it goes itself",
    "late_hook_s": "until the UPS has cut the power, when the primary's file systems are down",
    "need_s": "from the order to stop until the power may go",
    "low_battery_s": "runtime left when everything is told to stop; nothing: the UPS itself says when its battery is low",
    "margin_s": "what the battery carries beyond need_s from then on",
    "words": "the sum",
}


@dataclass(frozen=True)
class Row:
    """One value of the policy. origin is LINE (then line counts from 1), DEFAULT or DERIVED."""

    path: KeyPath
    value: Any
    origin: str
    line: int | None = None
    meaning: str = ""

    def data(self) -> dict[str, Any]:
        """Give it as plain data for JSON."""
        return {
            "path": dotted(self.path),
            "value": self.value,
            "from": self.origin,
            "line": self.line,
            "meaning": self.meaning,
        }


def explain(document: Document, practice: Practice, survey: Mapping[str, Any] | None = None) -> list[Row]:
    """List every value in force: all fields of all parts that are there, and then what is derived from them.

    practice is what the check made of the document. It refuses one with secrets in it, so nothing here has to be hidden.
    survey: what survey.yml found (results/survey.json): measured figures beat declared ones.
    """
    return [*_part(document, practice, ()), *derived(practice), *_feasibility(practice, survey)]


def as_data(practice: Practice, file: str, rows: Iterable[Row]) -> dict[str, Any]:
    """Give all rows as plain data for JSON."""
    return {"practice": practice.practice.id, "file": file, "values": [row.data() for row in rows]}


def _part(document: Document, part: Part, path: KeyPath) -> Iterator[Row]:
    for name, info in type(part).model_fields.items():
        meaning = info.description or (type(part).__doc__ or "").split("\n")[0]  # kind has none
        yield from _value(document, getattr(part, name), (*path, info.alias or name), meaning)


def _value(document: Document, value: Any, path: KeyPath, meaning: str) -> Iterator[Row]:
    if isinstance(value, Part):
        yield from _part(document, value, path)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _value(document, each, (*path, name), meaning)
    elif path not in document.value_marks:
        yield Row(path, value, DEFAULT, None, meaning)
    else:
        yield Row(path, value, LINE, document.mark(path, key=True)[0], meaning)


# --- what the compiler works out ------------------------------------------------------------------------------------


def derived(practice: Practice) -> Iterator[Row]:
    """List what the compiler works out from the document: times, deadlines, accounts, proofs, shutdown."""
    inventory = compile_practice(practice, "/", {})
    for path, value in _worked_out(practice, inventory):
        yield Row(("derived", *path), value, DERIVED, None, _DERIVED_MEANING.get(str(path[-1]), ""))


def _worked_out(practice: Practice, inventory: Inventory) -> Iterator[tuple[KeyPath, Any]]:
    start, length = quiet_window(practice.hours or {})
    yield ("quiet_window",), f"{clock(start)}-{clock(start + length)}" if length else "never"
    yield ("usual_time",), usual_time(practice.hours, practice.practice.timezone)
    hosts = inventory.host_vars
    yield from _jobs(inventory)
    for host, variables in hosts.items():
        if "nas_repository_accounts" in variables:
            yield ("repositories", host, "accounts"), [each["name"] for each in variables["nas_repository_accounts"]]
        for each in variables.get("nas_watch_hosts", ()):
            yield ("repositories", host, each["name"], "silent_after_s"), each["silent_after_s"]
        if "backup_agent_repository" in variables:
            for key in ("url", "username"):
                yield ("repositories", host, key), variables["backup_agent_repository"][key]
    told = next((v["nas_watch_mail"]["to"] for v in hosts.values() if "nas_watch_mail" in v), None)
    yield ("alerts", "recipients"), told or "nobody: there is no alerts.mail"
    yield from _proofs(inventory)
    for ups, known in inventory.all_vars["practice_summary"]["power"].items():
        for key, value in known.get("budget", {}).items():
            yield ("power", ups, key), value


def _jobs(inventory: Inventory) -> Iterator[tuple[KeyPath, Any]]:
    for host, variables in inventory.host_vars.items():
        for job in variables.get("backup_agent_jobs", ()):
            for key in ("calendar", "spread_s", "time_limit_s", "dump_limit_s", "deadline_s"):
                if key in job:
                    yield ("jobs", host, job["name"], key), job[key]
            for key, value in job.get("tripwires", {}).items():
                yield ("jobs", host, job["name"], "tripwires", key), value


def _proofs(inventory: Inventory) -> Iterator[tuple[KeyPath, Any]]:
    for item, known in inventory.all_vars["practice_summary"]["items"].items():
        yield ("proofs", item, "often"), known["prove"]
        for variables in inventory.host_vars.values():
            if item in variables.get("restore_verify_turns", {}):
                yield ("proofs", item, "turn"), variables["restore_verify_turns"][item]
                yield ("proofs", item, "older"), variables["restore_verify_older"][item]
            for each in variables.get("restore_verify_items", ()):
                if each["item"] == item:
                    for key in ("rpo_s", "rto_s", "levels"):
                        yield ("proofs", item, each["host"], key), each[key]


def _feasibility(practice: Practice, survey: Mapping[str, Any] | None) -> Iterator[Row]:
    """Say in figures whether the plan can be carried out."""
    for figure in feasibility.figures(practice, survey):
        path = ("derived", "feasibility", figure.name.replace(" ", "-"))
        yield Row(path, figure.value, DERIVED, None, f"{figure.state}; {figure.source}")


# --- for people -----------------------------------------------------------------------------------------------------


def table(practice: Practice, file: str, rows: list[Row], width: int) -> list[str]:
    """Write the rows as the lines of a table, section by section, for a terminal of so many columns."""
    width = max(width, NARROWEST)
    lines = [f"{_plain(practice.practice.name)} ({practice.practice.id}): {_plain(file)}"]
    alone = [row for row in rows if len(row.path) == 1]
    for section, found in groupby((row for row in rows if len(row.path) > 1), key=lambda row: row.path[0]):
        lines += ["", str(section), *_aligned(_cells(list(found)), width)]
    if alone:
        lines += ["", "whole sections", *_aligned(_cells([replace(row, path=("", *row.path)) for row in alone]), width)]
    counts = {origin: sum(row.origin == origin for row in rows) for origin in (LINE, DEFAULT, DERIVED)}
    lines += ["", f"{counts[LINE]} values from the document, {counts[DEFAULT]} defaults, {counts[DERIVED]} derived"]
    return lines


def _cells(rows: list[Row]) -> Iterator[tuple[str, str, str]]:
    """Make the cells of a section: (from, key, value). What is not set in a part is one line, after what is."""
    for parent, found in groupby(rows, key=lambda row: row.path[1:-1]):
        unset = []
        for row in found:
            if row.value is None and row.origin == DEFAULT:
                unset.append(_plain(str(row.path[-1])))
            else:
                origin = f"line {row.line}" if row.origin == LINE else row.origin
                yield origin, _plain(dotted(row.path[1:])), _plain(_words(row))
        if unset:
            yield DEFAULT, f"{_plain(dotted(parent))}: not set" if parent else "not set", ", ".join(unset)


def _words(row: Row) -> str:
    value = row.value
    if value is None:
        return "(nothing)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and str(row.path[-1]).endswith("_s"):
        return _duration(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(str(each) for each in value)
    return str(value)


def _duration(value: int) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if value and value % size == 0:
            return f"{value // size} {unit}"
    return f"{value} s"


def _plain(text: str) -> str:
    """Make what a terminal would not show, or would obey, visible."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _columns(text: str) -> int:
    """Count the columns that a terminal needs for a text."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _pad(text: str, width: int) -> str:
    return text + " " * max(0, width - _columns(text))


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text at spaces into lines of so many columns; a longer word is cut."""
    lines, here = [], ""
    for word in text.split(" "):
        joined = f"{here} {word}" if here else word
        if _columns(joined) <= width:
            here = joined
            continue
        if here:
            lines.append(here)
        here = ""
        for char in word:
            if _columns(here + char) > width:
                lines.append(here)
                here = ""
            here += char
    return [*lines, here]


_FROM_WIDTH = len("line 9999")


def _aligned(cells: Iterable[tuple[str, str, str]], width: int) -> Iterator[str]:
    """Set the cells under each other: where it came from, key, value (broken into lines)."""
    listed = list(cells)
    keys = min(max((_columns(key) for _, key, _ in listed), default=0), width * 2 // 5)
    for origin, key, value in listed:
        first, *others = _wrapped(value, width - _FROM_WIDTH - keys - 6)
        lead = f"  {origin:{_FROM_WIDTH}}  "
        if _columns(key) > keys:
            yield lead + key
            lead, key = f"{'':{len(lead)}}", ""
        yield f"{lead}{_pad(key, keys)}  {first}".rstrip()
        yield from (f"{'':{len(lead) + keys}}  {each}" for each in others)
