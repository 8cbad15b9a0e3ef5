# SPDX-License-Identifier: Apache-2.0
"""Which of the kept runs a proof takes: the newest, the oldest, one that a person names, or the one whose turn it is. Pure.

What is kept is what restic lists and the NAS saw arriving. A run is of the class of the finest rule of the retention that
still holds it: the newest ones are hourly, last week's daily, last year's monthly. Which run's turn it is follows from the
repository, the day and the evidence alone, so that whoever works it out again comes to the same.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ansible_collections.holdfast.practice.plugins.module_utils.verify import Run, Snapshot

NEWEST, OLDEST, ROTATION = "newest", "oldest", "rotation"
CLASSES = ("hourly", "daily", "weekly", "monthly", "yearly")
OTHER = "other"  # kept although no rule asks for it
DAY_S = 86400
WHICH = re.compile(
    rf"{NEWEST}|{OLDEST}(?:-(?:{'|'.join((*CLASSES, OTHER))}))?|{ROTATION}(?:-[1-9]\d?)?|[0-9a-f]{{8,64}}"
)


class PassedOverError(Exception):
    """There is no such run, and nothing is wrong with that; the text says why."""


@dataclass(frozen=True)
class Rules:
    """What a choice goes by. within: how far back each class reaches, in seconds; proven_s: within what time everything
    that is kept has to have been proven."""

    within: Mapping[str, float] = field(default_factory=dict)
    proven_s: float = 180 * DAY_S


@dataclass(frozen=True)
class Past:
    """What the evidence says was judged, and when (epoch seconds): each run by the id of its oracle, and each class."""

    runs: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """A run, its class, and how many runs of each class are kept."""

    run: Run
    kind: str
    kept: Mapping[str, int]


@dataclass(frozen=True)
class Choice:
    """All that a choice goes by. zone: of the practice, whose days and weeks the classes are about."""

    rules: Rules = Rules()
    past: Past = Past()
    zone: tzinfo = timezone.utc

    def of(self, which: str, runs: Sequence[Run], snapshots: Sequence[Snapshot], now: float) -> Chosen:
        """Choose one of the runs of a job (newest first, at least one); raises PassedOverError when there is none such."""
        held = {run.oracle.id: (run.arrived, run.oracle.tagged("hold") is not None) for run in runs}
        classes = classes_with_held(held, self.rules.within, self.zone)
        run = pick(which, runs, snapshots, classes, self.rules, self.past, now)
        return Chosen(run, classes[run.oracle.id], dict(Counter(classes.values())))


def classes_of(arrivals: Mapping[str, float], within: Mapping[str, float], zone: tzinfo) -> dict[str, str]:
    """Say of which class each run is: {id: class}. arrivals: of the runs of one job, by the id of their oracle.

    As restic's --keep-within-* do: of each hour, day, week, month and year the last run, as far back from the newest as the
    rule reaches.
    """
    found: dict[str, str] = {}
    order = sorted(arrivals, key=lambda name: (-arrivals[name], name))
    for kind in CLASSES:
        seen = set()
        for name in order if within.get(kind) else ():
            if arrivals[order[0]] - arrivals[name] > within[kind]:
                break
            period = _period(kind, datetime.fromtimestamp(arrivals[name], zone))
            if period not in seen:
                seen.add(period)
                found.setdefault(name, kind)
    return {name: found.get(name, OTHER) for name in order}


def classes_with_held(
    runs: Mapping[str, tuple[float, bool]], within: Mapping[str, float], zone: tzinfo
) -> dict[str, str]:
    """As classes_of, for runs of which the agent holds some: {id: (arrival, whether it is held)}.

    Those are judged by themselves, so that none takes a sound run's place: the last run of a day may be the one in which
    everything is encrypted.
    """
    found: dict[str, str] = {}
    for apart in (False, True):
        found |= classes_of({name: at for name, (at, held) in runs.items() if held is apart}, within, zone)
    return found


def _period(kind: str, at: datetime) -> tuple[object, ...]:
    if kind == "weekly":
        return tuple(at.isocalendar())[:2]
    parts = {"yearly": 1, "monthly": 2, "daily": 3, "hourly": 4}[kind]
    # an hour that comes twice when clocks go back is two hours
    return (*at.timetuple()[:parts], at.utcoffset() or timedelta()) if kind == "hourly" else at.timetuple()[:parts]


def zone_of(name: str) -> tzinfo:
    """The practice's time zone; raises ValueError for one that this machine does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"timezone is {name!r}; expected one that this machine knows: install tzdata") from None


def pick(
    which: str,
    runs: Sequence[Run],
    snapshots: Sequence[Snapshot],
    classes: Mapping[str, str],
    rules: Rules,
    past: Past,
    now: float,
) -> Run:
    """Pick one of the runs of a job (newest first, at least one); raises PassedOverError when there is none such."""
    if which == NEWEST:
        return runs[0]
    if which.startswith(OLDEST):
        kind = which[len(OLDEST) + 1 :]
        oldest = next((run for run in reversed(runs) if not kind or classes[run.oracle.id] == kind), None)
        if oldest is None:
            raise PassedOverError(f"no run of the class {kind} is kept")
        return oldest
    if which.startswith(ROTATION):
        return _turn(int(which[len(ROTATION) + 1 :] or 1), runs, classes, rules, past, now)
    # a run is named by any of its snapshots
    named = {snapshot.tagged("run") for snapshot in snapshots if snapshot.id.startswith(which)}
    found = next((run for run in runs if run.oracle.tagged("run") in named - {None}), None)
    if found is None:
        raise PassedOverError(f"no run of it has a snapshot {which[:12]}")
    return found


def _turn(number: int, runs: Sequence[Run], classes: Mapping[str, str], rules: Rules, past: Past, now: float) -> Run:
    older = order(runs, classes, rules, past)
    if not older:
        raise PassedOverError("no run but the newest is kept")
    if len(older) < number:
        raise PassedOverError(f"only {len(older)} older runs are kept")
    due, run = older[number - 1]
    today = now - now % DAY_S
    if number > 1 and (due > today + rules.proven_s / 2 or classes[run.oracle.id] == OTHER):
        raise PassedOverError("all other older runs arrived or were proven lately")
    return run


def order(runs: Sequence[Run], classes: Mapping[str, str], rules: Rules, past: Past) -> list[tuple[float, Run]]:
    """Put the older runs (runs: newest first) into the order in which they have to be proven: [(due, run)].

    A run is due so long after it was judged last, or else after it arrived. The oldest of a class is also due so long after
    any of its class was judged, and at once when none ever was. Who is due together goes by the hash of its id. A run that
    its agent holds for suspect is no backup to come back to, and no part of this. Those that no rule asks for, which are to be
    removed, come after all others.
    """
    older = [run for run in runs[1:] if run.oracle.tagged("hold") is None]
    oldest: dict[str, str] = {classes[run.oracle.id]: run.oracle.id for run in older}
    found = []
    for run in older:
        name = run.oracle.id
        due = max(run.arrived, past.runs.get(name, 0.0)) + rules.proven_s
        kind = classes[name]
        if oldest[kind] == name:
            due = min(due, past.classes[kind] + rules.proven_s if kind in past.classes else 0.0)
        found.append((due, run))

    def turn(each: tuple[float, Run]) -> tuple[bool, float, bytes]:
        name = each[1].oracle.id
        return classes[name] == OTHER, each[0], hashlib.blake2b(name.encode()).digest()

    return sorted(found, key=turn)
