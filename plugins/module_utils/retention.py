# SPDX-License-Identifier: Apache-2.0
"""Which snapshots of a host's repository may go, and when nothing may. Pure: no command, no clock.

Whoever holds a host's password can write what it likes into the host's repository: snapshots of any time, size and number, and
keys. So a rule that trusts the list alone can be made to throw away what is good. Times are those of the arrival on the NAS, a
repository in which anything looks forged is left alone until a person has looked, and what goes is named one by one.

Runs are judged job by job. Of the runs that their agent did not hold for anything, those stay that a rule asks for, as
``verify_choice`` reads the rules, the newest first of all. Runs that are held stay by the same rules beside them: they never
take a sound run's place.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone, tzinfo
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.verify import (
    CLOCK_SLACK_S,
    LONGEST_RUN_S,
    PARTS,
    Snapshot,
    parse_snapshots,
    spell,
    utc,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_choice import OTHER, classes_with_held

DAY_S = 86400
# the hold of agent_boot: a database that nobody has found sound since the power went
UNCLEAN = "unclean-boot"
# what a run that never came to its end left is of use for a while: it may be all there is of that night
UNFINISHED_S = 30 * DAY_S
# a day has at most so many runs of a job, or so many times what its schedule asks for: people start some by hand
RUNS_A_DAY, TIMES_SCHEDULE = 48, 4
# the newest run is compared with so many before it, and has to have at least this share of their median
COMPARED, LEAST_SHARE = 10, 0.5
LEAST_COMPARED, LEAST_FILES, LEAST_BYTES = 3, 20, 1 << 20
NAMED = 5
HEAD = 8


@dataclass(frozen=True)
class Job:
    """A job of the document. interval_s: from one run to the next by its schedule. frozen: why nothing of it may go, or ""."""

    name: str
    interval_s: float = DAY_S
    frozen: str = ""


@dataclass(frozen=True)
class Seen:
    """What is in a repository. rows: as ``restic snapshots --json`` gives them. arrivals, keys: on the NAS, {id: epoch s}.

    known_keys: those that an earlier maintenance saw. accepted: heads of ids that a person has looked at, and let be.
    """

    practice: str
    host: str
    rows: Sequence[Mapping[str, Any]]
    arrivals: Mapping[str, float]
    keys: Mapping[str, float]
    known_keys: Sequence[str] = ()
    accepted: Sequence[str] = ()


@dataclass(frozen=True)
class Rules:
    """within: how far back each class reaches, in seconds. zone: the practice's, whose days and weeks the classes are about."""

    within: Mapping[str, float]
    zone: tzinfo = timezone.utc


@dataclass(frozen=True)
class Saved:
    """A run as it lies in the repository. parts: its snapshots. sizes: of each part (files, bytes), where restic tells."""

    job: str
    run: str
    parts: Mapping[str, Snapshot]
    arrived: float
    holds: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Did it come to its end? The oracle is stored last."""
        return "oracle" in self.parts

    def public(self) -> dict[str, Any]:
        """As it stands in the record."""
        ids = {part: self.parts[part].id for part in PARTS if part in self.parts}
        return {
            "job": self.job,
            "run": self.run,
            "arrived": utc(self.arrived),
            "parts": ids,
            "snapshots": [*ids.values()],
        }


@dataclass(frozen=True)
class Doubt:
    """Why a repository is left alone. ids: of the objects that it is about; naming them says that a person has looked.

    snapshots: whether these are snapshots that could be thrown away without a loss.
    """

    code: str
    message: str
    ids: tuple[str, ...] = ()
    snapshots: bool = False

    def public(self) -> dict[str, Any]:
        """As it stands in results."""
        return {"code": self.code, "message": self.message, "ids": [each[:HEAD] for each in self.ids]}


@dataclass(frozen=True)
class Plan:
    """What may go, and why something may not.

    remove: runs that no rule asks for. doubts: with any, nothing goes. frozen: {job: why nothing of it goes}. kept: how many runs
    of each class stay, by job. clean: of each job the newest run that nothing holds. strays: snapshots that are no job's.
    """

    remove: tuple[Saved, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    frozen: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    clean: Mapping[str, Saved] = field(default_factory=dict)
    strays: tuple[str, ...] = ()

    @property
    def ids(self) -> list[str]:
        """The snapshots of the runs that no rule asks for."""
        return [each.id for run in self.remove for each in run.parts.values()]


def make_plan(seen: Seen, jobs: Sequence[Job], rules: Rules) -> Plan:
    """Decide what may go. Objects that a person accepted raise no doubt, and are no run."""
    snapshots = parse_snapshots(seen.rows)
    sizes = {str(row["id"]): _size(row) for row in seen.rows}
    looked_at = [*_snapshot_doubts(seen, snapshots)]
    # accepted or not, a snapshot that lies is no run
    lies = {name for doubt in looked_at for name in doubt.ids}
    doubts = [*(_fresh(each, seen.accepted) for each in looked_at), *_key_doubts(seen)]
    ours = [each for each in snapshots if each.id not in lies]
    runs, strays, twice = _runs_of(seen, ours, sizes, {job.name for job in jobs})
    doubts += twice
    remove: list[Saved] = []
    kept: dict[str, Mapping[str, int]] = {}
    clean: dict[str, Saved] = {}
    frozen: dict[str, str] = {}
    for job in jobs:
        mine = sorted(runs.get(job.name, ()), key=lambda each: (-each.arrived, each.run))
        sound = [each for each in mine if each.finished and not each.holds]
        doubts += _too_many(job, mine, rules.zone, seen.accepted)
        doubts += _shrunk(job, sound, seen.accepted)
        if sound:
            clean[job.name] = sound[0]
        why = job.frozen or _held(mine)
        if why:
            frozen[job.name] = why
        stays = _stays(mine, sound, rules)
        kept[job.name] = dict(Counter(stays.values()))
        remove += [] if why else [each for each in mine if each.run not in stays]
    return Plan(tuple(remove), tuple(each for each in doubts if each), frozen, kept, clean, tuple(strays))


def _stays(mine: Sequence[Saved], sound: Sequence[Saved], rules: Rules) -> dict[str, str]:
    """The runs that stay and as what: {run: class}."""
    if not sound:
        return {each.run: OTHER for each in mine}
    newest = sound[0].arrived
    ended = {each.run: (each.arrived, bool(each.holds)) for each in mine if each.finished}
    found = classes_with_held(ended, rules.within, rules.zone)
    held_since = newest - max(rules.within.values(), default=0.0)
    stays = {}
    for each in mine:
        kind = found.get(each.run, OTHER)
        if not each.finished:
            wanted = each.arrived > newest - UNFINISHED_S
        elif each.holds:
            wanted = kind != OTHER and each.arrived > held_since
        else:
            wanted = kind != OTHER
        if wanted:
            stays[each.run] = kind
    return stays


def _held(mine: Sequence[Saved]) -> str:
    newest = next((each for each in mine if each.finished), None)
    if newest and UNCLEAN in newest.holds:
        return f"its newest run, of {utc(newest.arrived)}, is of a database that nobody has found sound since the host went down"
    return ""


# --- doubts ----------------------------------------------------------------------------------------------------------


def _snapshot_doubts(seen: Seen, snapshots: Sequence[Snapshot]) -> Iterator[Doubt]:
    """What lies about its time or its host, or is only half there; also what was accepted."""
    listed, arrivals = {each.id for each in snapshots}, seen.arrivals
    for code, what, ids, throwable in (
        (
            "foreign_snapshots",
            f"snapshots of another host or practice are in the repository of {seen.host}",
            [s.id for s in snapshots if s.host != seen.host or s.tagged("practice") not in (None, seen.practice)],
            True,
        ),
        (
            "future_snapshots",
            "snapshots claim a time after their arrival on the NAS",
            [s.id for s in snapshots if s.id in arrivals and s.time > arrivals[s.id] + CLOCK_SLACK_S],
            True,
        ),
        (
            "past_snapshots",
            f"snapshots claim a time more than {spell(LONGEST_RUN_S)} before their arrival on the NAS",
            [s.id for s in snapshots if s.id in arrivals and s.time < arrivals[s.id] - LONGEST_RUN_S],
            True,
        ),
        ("unreadable_snapshots", "snapshots are on the NAS and cannot be read", sorted(set(arrivals) - listed), False),
        ("arrivals_unknown", "snapshots have no arrival on the NAS", sorted(listed - set(arrivals)), False),
    ):
        if ids:
            yield Doubt(code, what, tuple(ids), throwable)


def _fresh(doubt: Doubt, accepted: Sequence[str]) -> Doubt | None:
    """Without what was accepted; None when nothing is left of it."""
    ids = tuple(each for each in doubt.ids if not _named(each, accepted))
    return replace(doubt, ids=ids, message=f"{len(ids)} {doubt.message} ({_few(ids)})") if ids else None


def _key_doubts(seen: Seen) -> Iterator[Doubt]:
    known = set(seen.known_keys) or set(sorted(seen.keys, key=lambda key: (seen.keys[key], key))[:1])
    strange = [key for key in sorted(seen.keys) if key not in known and not _named(key, seen.accepted)]
    if strange:
        text = f"{len(strange)} keys open the repository of {seen.host} that nobody knows of ({_few(strange)})"
        yield Doubt("unknown_keys", text, tuple(strange))


def _runs_of(
    seen: Seen, snapshots: Sequence[Snapshot], sizes: Mapping[str, tuple[int, int]], jobs: set[str]
) -> tuple[dict[str, list[Saved]], list[str], list[Doubt]]:
    """Sort snapshots into runs: ({job: runs}, what is no job's, what claims to be what another is)."""
    found: dict[tuple[str, str], dict[str, list[Snapshot]]] = defaultdict(lambda: defaultdict(list))
    strays, twice = [], []
    for each in snapshots:
        job, run, part = (each.tagged(name) for name in ("job", "run", "part"))
        if each.tagged("practice") is None or job not in jobs or not run or part not in PARTS:
            strays.append(each.id)
        else:
            found[job, run][part].append(each)
    runs: dict[str, list[Saved]] = defaultdict(list)
    for (job, run), claims in found.items():
        parts = {}
        for part, claiming in claims.items():
            claiming.sort(key=lambda each: (_named(each.id, seen.accepted), seen.arrivals[each.id]))
            parts[part] = claiming[0]
            if sum(not _named(each.id, seen.accepted) for each in claiming) > 1:
                twice += [each.id for each in claiming]
        last = parts.get("oracle") or max(parts.values(), key=lambda each: seen.arrivals[each.id])
        holds = tuple(sorted(tag[len("hold=") :] for tag in last.tags if tag.startswith("hold=")))
        told = {part: sizes[snapshot.id] for part, snapshot in parts.items()}
        runs[job].append(Saved(job, run, parts, seen.arrivals[last.id], holds, told))
    text = f"{len(twice)} snapshots claim to be the same part of a run ({_few(twice)})"
    return runs, strays, [Doubt("same_part_twice", text, tuple(twice), True)] if twice else []


def _too_many(job: Job, mine: Sequence[Saved], zone: tzinfo, accepted: Sequence[str]) -> Iterator[Doubt]:
    most = max(RUNS_A_DAY, round(TIMES_SCHEDULE * DAY_S / job.interval_s))
    days: dict[str, list[Saved]] = defaultdict(list)
    for each in mine:
        days[datetime.fromtimestamp(each.arrived, zone).date().isoformat()].append(each)
    for day, runs in sorted(days.items()):
        name = _last_of(runs[0])
        if len(runs) > most and not any(_named(_last_of(each), accepted) for each in runs):
            text = (
                f"{len(runs)} runs of {job.name} arrived on {day}; expected at most {most} ({name[:HEAD]} is the last)"
            )
            yield Doubt("too_many_runs", text, (name,))


def _shrunk(job: Job, sound: Sequence[Saved], accepted: Sequence[str]) -> Iterator[Doubt]:
    """Is the newest run much smaller than those before it? What was accepted is what later ones are compared with."""
    if not sound or _named(_last_of(sound[0]), accepted):
        return
    since = next((n for n, each in enumerate(sound) if _named(_last_of(each), accepted)), len(sound))
    before = sound[1 : since + 1][:COMPARED]
    for part, what, place, least in (
        ("files", "files", 0, LEAST_FILES),
        ("files", "bytes of files", 1, LEAST_BYTES),
        ("database", "bytes of its database", 1, LEAST_BYTES),
    ):
        told = [each.sizes[part][place] for each in before if part in each.sizes]
        usual = statistics.median(told) if len(told) >= LEAST_COMPARED else 0
        have = sound[0].sizes.get(part, (0, 0))[place]
        if usual >= least and have < LEAST_SHARE * usual:
            name = _last_of(sound[0])
            text = f"the newest run of {job.name} ({name[:HEAD]}) has {have} {what}, those before it {usual:.0f}"
            yield Doubt("shrunk", text, (name,))
            return


def _last_of(run: Saved) -> str:
    return (run.parts.get("oracle") or max(run.parts.values(), key=lambda part: part.time)).id


def _size(row: Mapping[str, Any]) -> tuple[int, int]:
    told = row.get("summary") or {}
    return int(told.get("total_files_processed") or 0), int(told.get("total_bytes_processed") or 0)


def _named(name: str, heads: Iterable[str]) -> bool:
    return any(name.startswith(head) for head in heads)


def _few(ids: Sequence[str]) -> str:
    return ", ".join(each[:HEAD] for each in ids[:NAMED]) + (", ..." if len(ids) > NAMED else "")
