# SPDX-License-Identifier: Apache-2.0
"""The runs that a repository holds, from the snapshots that restic lists. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PARTS = ("database", "files", "oracle")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass
class Run:
    """A run as the repository has it: {part: full id of its snapshot}, UTC time of its newest part.

    originals: {part: the id by which the oracle speaks of it}, which in a copy is not its own.
    """

    job: str
    run: str
    taken: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    originals: dict[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    holds: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """The oracle is stored last, so a run that has one came to its end."""
        return "oracle" in self.parts

    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "complete": self.complete}


def utc_of(text: str) -> str:
    """restic's time in UTC, whole seconds; empty for what is no time."""
    match = _TIME.match(text)
    if not match:
        return ""
    moment = datetime.datetime.fromisoformat(match.group(1) + match.group(2).replace("Z", "+00:00"))
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def tags_of(snapshot: Mapping[str, Any]) -> dict[str, list[str]]:
    """``key=value`` tags of a snapshot."""
    found: dict[str, list[str]] = {}
    for tag in snapshot.get("tags") or ():
        key, _, value = str(tag).partition("=")
        found.setdefault(key, []).append(value)
    return found


def runs_of(snapshots: Iterable[Mapping[str, Any]]) -> tuple[list[Run], int]:
    """The runs, newest first, and how many snapshots are of none. Of two snapshots of one part the earlier one counts."""
    runs: dict[tuple[str, str], Run] = {}
    strangers = 0
    for snapshot in sorted(snapshots, key=lambda each: utc_of(str(each.get("time")))):
        tags = tags_of(snapshot)
        job, run, part = (tags.get(key, [""])[0] for key in ("job", "run", "part"))
        if not job or not run or part not in PARTS:
            strangers += 1
            continue
        found = runs.setdefault((job, run), Run(job, run))
        if part in found.parts:
            strangers += 1
            continue
        found.parts[part] = str(snapshot["id"])
        found.originals[part] = str(snapshot.get("original") or snapshot["id"])
        found.taken = utc_of(str(snapshot.get("time")))
        found.holds += tags.get("hold", [])
        summary = snapshot.get("summary") or {}
        if part != "oracle":
            found.files += int(summary.get("total_files_processed") or 0)
            found.bytes += int(summary.get("total_bytes_processed") or 0)
    return sorted(runs.values(), key=lambda each: (each.taken, each.run), reverse=True), strangers
