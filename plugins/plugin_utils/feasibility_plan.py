# SPDX-License-Identifier: Apache-2.0
"""What feasibility looks at: a plan's parts and the amounts that are known of them, and how amounts are written. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import DAY_S, bits_per_s, size_bytes
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    Copies,
    Hours,
    Item,
    Network,
    Objectives,
    Practice,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import usual_time
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, mapping, valid

MEASURED, DECLARED, ASSUMED, UNKNOWN = "measured", "declared", "assumed", "not known"


@dataclass(frozen=True)
class Amount:
    """A number and where it is from."""

    value: float
    source: str


def size_words(size: float) -> str:
    """Write a number of bytes for people: 1.2TiB, 340GiB, 12MiB, 900 bytes."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            number = size / factor
            return f"{number:.0f}{unit}" if number >= 10 else f"{number:.1f}".removesuffix(".0") + unit
    return f"{size:.0f} bytes"


def time_words(duration: float) -> str:
    """Write a number of seconds for people: 40 seconds, 25 minutes, 9 hours, 61 days, 38 weeks, 4 years."""
    for unit, factor, least in (
        ("year", 365 * DAY_S, 2 * 365 * DAY_S),
        ("week", 7 * DAY_S, 91 * DAY_S),
        ("day", DAY_S, 2 * DAY_S),
        ("hour", 3600, 2 * 3600),
        ("minute", 60, 2 * 60),
    ):
        if duration >= least:
            number = duration / factor
            text = f"{number:.1f}".removesuffix(".0") if number < 10 else f"{number:.0f}"
            return f"{text} {unit}s"
    count = max(round(duration), 1)
    return f"{count} second{'s' if count != 1 else ''}"


def rate_words(rate: float) -> str:
    """Write bits per second for people: 2Mbit/s."""
    for unit, factor in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if rate >= factor:
            return f"{rate / factor:.1f}".removesuffix(".0") + unit
    return f"{rate:.0f}bit/s"


def number(value: Any) -> float | None:
    """Give a number of a survey, or None for anything that is not one: the file may be of another day and version."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**80:
        return float(value)
    return None


def at(survey: Mapping[str, Any], *path: str) -> Any:
    """Give what stands at a path of a survey, or None."""
    here: Any = survey
    for part in path:
        here = mapping(here).get(part)
    return here


Job = tuple[str, str]  # host, item


def _amounts(items: Mapping[str, Item], jobs: list[Job], survey: Mapping[str, Any]) -> dict[str, dict[Job, Amount]]:
    """Give what is known of each job; what the document says of an item holds on each host that protects it."""
    counts: dict[str, int] = {}
    for _, name in jobs:
        counts[name] = counts.get(name, 0) + 1
    sizes: dict[Job, Amount] = {}
    changes: dict[Job, Amount] = {}
    for host, name in jobs:
        for found, key, said in (
            (sizes, "bytes", items[name].size),
            (changes, "changed_bytes_per_day", items[name].daily_change),
        ):
            measured = number(at(survey, "hosts", host, "items", name, key))
            if measured is None and counts[name] == 1:
                measured = number(at(survey, "items", name, key))
            if measured is not None:
                found[host, name] = Amount(measured, MEASURED)
            elif said:
                found[host, name] = Amount(size_bytes(said), DECLARED)
    return {"sizes": sizes, "changes": changes}


@dataclass(frozen=True)
class Plan:
    """What the checks look at: the document's parts as far as they are right, and the amounts that are known of them."""

    items: Mapping[str, Item]
    hosts: Mapping[str, Any]
    jobs: list[Job]
    objectives: Objectives | None
    copies: Copies | None
    line: Network | None
    hours: Mapping[str, str]
    usual: str
    survey: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[Job, Amount] = field(default_factory=dict)
    changes: Mapping[Job, Amount] = field(default_factory=dict)

    @classmethod
    def of(cls, view: View, survey: Mapping[str, Any] | None = None) -> Plan:
        """Collect what is known of a document that may be wrong in places."""
        items = {name: item for name, item in view.items.items() if item}
        jobs = [(host, name) for host, names in view.protected.items() for name in names if name in items]
        hours = valid(Hours, view.document.data.get("hours")) if view.copies and view.copies.offsite else None
        return cls(
            items=items,
            hosts=view.hosts,
            jobs=jobs,
            objectives=view.objectives,
            copies=view.copies,
            line=view.line,
            hours=hours or {},
            usual=view.usual,
            survey=survey or {},
            **_amounts(items, jobs, survey or {}),
        )

    @classmethod
    def of_practice(cls, practice: Practice, survey: Mapping[str, Any] | None = None) -> Plan:
        """Collect what is known of a practice."""
        items = practice.protect
        jobs = [(host, name) for host, each in practice.hosts.items() for name in getattr(each, "protect", None) or []]
        return cls(
            items=items,
            hosts=practice.hosts,
            jobs=jobs,
            objectives=practice.objectives,
            copies=practice.copies,
            line=practice.line,
            hours=practice.hours or {},
            usual=usual_time(practice.hours, practice.practice.timezone),
            survey=survey or {},
            **_amounts(items, jobs, survey or {}),
        )

    def total(self, amounts: Mapping[Job, Amount], jobs: list[Job] | None = None) -> Total:
        """Add up what is known of some jobs (all)."""
        wanted = self.jobs if jobs is None else jobs
        known = [amounts[job] for job in wanted if job in amounts]
        missing = list(dict.fromkeys(item for host, item in wanted if (host, item) not in amounts))
        sources = {amount.source for amount in known}
        source = DECLARED if DECLARED in sources else MEASURED if sources else UNKNOWN
        return Total(sum(amount.value for amount in known), source, missing)

    def up(self) -> Amount | None:
        """Give the rate at which a copy may leave the house."""
        rate = self._line("up")
        limit = self.copies.offsite.limit_up if self.copies and self.copies.offsite else None
        if limit and (rate is None or bits_per_s(limit) < rate.value):
            return Amount(bits_per_s(limit), DECLARED)
        return rate

    def down(self) -> Amount | None:
        """Give the rate at which a copy may come back."""
        return self._line("down")

    def _line(self, way: str) -> Amount | None:
        measured = number(at(self.survey, "line", f"{way}_bits_per_s"))
        if measured and at(self.survey, "line", "measured") is True:
            return Amount(measured, MEASURED)
        return Amount(bits_per_s(getattr(self.line, way)), DECLARED) if self.line else None

    def urgent(self) -> list[Job]:
        """Give the jobs of what a practice cannot work without: the critical items, or all where none is called so."""
        critical = [job for job in self.jobs if self.items[job[1]].class_ == "critical"]
        return critical or self.jobs


@dataclass(frozen=True)
class Total:
    """A sum, where its parts are from (the least sure one), and whose parts are missing in it."""

    value: float
    source: str
    missing: list[str]

    def words(self) -> str:
        """Write it with "at least" when parts are missing."""
        return f"{'at least ' if self.missing else ''}{size_words(self.value)}"
