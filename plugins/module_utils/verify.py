# SPDX-License-Identifier: Apache-2.0
"""What a restored backup has to show before it counts as proved: pure decisions, no file, no command, no clock.

A proof looks at five levels. ``arrival``: the newest run, by arrival on the NAS, is ours, whole and recent enough.
``structure``: every byte of the repository can be read. ``files``: the restored files are those of the oracle.
``database``: the restored database answers as the live one did. ``application``: a copy of the practice's software works with
what came back; only where the practice says how, and else said to be not promised. A level that checked nothing has
failed, and a level that could not be tried makes the proof inconclusive; neither is ever a pass.

Nothing in a result names a file or holds a value of a row: counts, ids, table names, and at most the head of a hash.
"""

from __future__ import annotations

import calendar
import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

from ansible_collections.holdfast.practice.plugins.module_utils import canary
from ansible_collections.holdfast.practice.plugins.module_utils.agent_files import image_path
from ansible_collections.holdfast.practice.plugins.module_utils.tripwires import (
    ENTROPY,
    MAGIC,
    Settings,
    wrong_looks,
)

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
LEVELS = ("arrival", "structure", "files", "database", "application")
PARTS = ("database", "files", "oracle")
# What a recovery is made of, in order, each on the monotonic clock of the restore machine's carrier.
PHASES = ("fetch_s", "restore_s", "engine_start_s", "load_s", "first_query_s", "application_s")

# Clocks of practice machines differ by seconds when they keep time at all; minutes are worth a word.
CLOCK_SLACK_S = 300
# restic stamps a snapshot when it begins to read: a first backup over a slow link arrives hours later, not days.
LONGEST_RUN_S = 48 * 3600
# of the files whose type is known: more of them spoilt than this is no practice at work
SPOILT_PERCENT = 20
# with a run of so long ago the files are compared once more
EARLIER_S = 28 * 24 * 3600
# a reason names so many by so much of their hash
NAMED, HASH_HEAD = 5, 12


class Reason(NamedTuple):
    """Why a level is not a pass. ``verdict`` is FAIL (the backup is bad) or INCONCLUSIVE (it could not be judged)."""

    code: str
    message: str
    verdict: str = FAIL

    def public(self) -> dict[str, str]:
        """As it stands in results and in evidence."""
        return {"code": self.code, "message": self.message}


class NothingMoreError(Exception):
    """Nothing more can be learnt from this item; the reasons say why."""

    def __init__(self, *reasons: Reason) -> None:
        super().__init__("; ".join(reason.message for reason in reasons))
        self.reasons = list(reasons)


@dataclass(frozen=True)
class Wanted:
    """What is to be proved. Times in seconds; ``username`` is the account, and so the folder, on the NAS."""

    practice: str
    item: str
    job: str
    host: str
    username: str
    rpo_s: float
    rto_s: float
    levels: tuple[str, ...]
    id: str = ""
    which: str = "newest"
    copy: str = "onsite"
    application: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """What tells this row of a proof from all others, fit for the name of a folder; an item may be there twice."""
        return self.id or self.item

    @property
    def newest(self) -> bool:
        """Is it about the newest run, which the promises of age are about?"""
        return self.which == "newest"


@dataclass(frozen=True)
class Snapshot:
    """One snapshot as restic lists it; ``time`` is what the client claims, in epoch seconds."""

    id: str
    time: float
    host: str
    tags: frozenset[str]

    def tagged(self, name: str) -> str | None:
        """Value of the tag ``name=value``, None without one."""
        return next((tag[len(name) + 1 :] for tag in sorted(self.tags) if tag.startswith(name + "=")), None)


@dataclass(frozen=True)
class Run:
    """The chosen run: its oracle snapshot and when that arrived on the NAS (epoch seconds)."""

    oracle: Snapshot
    arrived: float


class Way(NamedTuple):
    """So many files differ in one way; ``some``: name digests of a few of them, in hex."""

    number: int
    some: Sequence[str]


@dataclass(frozen=True)
class FilesCompared:
    """The outcome of a comparison in figures, none of which is longer for more files.

    entries and listed: of the manifest, all of them and those of different paths. restored: files that came back, whether
    expected or not; bytes: of those that are as they were. ways: what differs, by the codes of ``_WAYS``. unmet: folders
    that must not be empty and are. canaries: hashes of those that came back, by path. looks: how many files of an ending
    look how.
    """

    entries: int
    listed: int
    restored: int
    bytes: int
    volatile: int
    ways: Mapping[str, Way]
    unmet: Sequence[str] = ()
    canaries: Mapping[str, str] = field(default_factory=dict)
    looks: Mapping[tuple[str, str], int] = field(default_factory=dict)


# --- verdicts --------------------------------------------------------------------------------------------------------


def worst(verdicts: Iterable[str]) -> str:
    """FAIL beats INCONCLUSIVE beats PASS; none at all is INCONCLUSIVE."""
    found = set(verdicts)
    if not found or found - {PASS, FAIL, INCONCLUSIVE}:
        found.add(INCONCLUSIVE)
    return FAIL if FAIL in found else INCONCLUSIVE if INCONCLUSIVE in found else PASS


def level(checked: int, reasons: Sequence[Reason], **figures: Any) -> dict[str, Any]:
    """Judge one level: the reasons decide, and without one there must have been something to check."""
    held = list(reasons)
    if not held and checked <= 0:
        held.append(Reason("zero_checked", "nothing was there to check, so nothing is proved"))
    verdict = worst([reason.verdict for reason in held] or [PASS])
    return {"verdict": verdict, "checked": checked, "reasons": [reason.public() for reason in held], **figures}


def merge_item(
    wanted: Wanted, parts: Sequence[Mapping[str, Any]], extra: Sequence[Reason] = (), asked: Sequence[str] = LEVELS
) -> dict[str, Any]:
    """Put the phases of one item together: {"verdict", "reasons", "levels", "figures", "notes", ...}.

    A wanted level that no phase reported is INCONCLUSIVE, also when nobody asked for it. The recovery time is judged here,
    where all phases are known.
    """
    levels: dict[str, Any] = {}
    merged: dict[str, Any] = {"snapshots": {}, "taken": None, "arrived": None, "class": None, "kept": {}}
    figures: dict[str, Any] = {}
    phases: dict[str, float] = {}
    notes: list[dict[str, str]] = []
    for part in parts:
        levels.update(part.get("levels") or {})
        for key in merged:
            merged[key] = part.get(key) or merged[key]
        given = dict(part.get("figures") or {})
        phases.update(given.pop("phases", {}))
        figures.update(given)
        notes += part.get("notes") or []
    reasons = list(extra)
    for name in wanted.levels:
        if name not in levels:
            why = "was not run" if name in asked else "was left out (--tags, --skip-tags)"
            levels[name] = level(0, [Reason("not_run", f"the level {name} {why}", INCONCLUSIVE)])
    figures["phases"] = {name: round(seconds, 3) for name, seconds in phases.items()}
    restore_s = sum(phases.get(name, 0.0) for name in PHASES)
    figures["restore_s"] = round(restore_s, 3)
    if restore_s > wanted.rto_s:
        reasons.append(Reason("rto_exceeded", f"recovery took {spell(restore_s)}, promised are {spell(wanted.rto_s)}"))
    ordered = {name: levels[name] for name in LEVELS if name in levels and name in wanted.levels}
    public = [reason for name in ordered for reason in ordered[name]["reasons"]]
    public += [reason.public() for reason in reasons]
    return {
        "id": wanted.key,
        "item": wanted.item,
        "which": wanted.which,
        "copy": wanted.copy,
        "job": wanted.job,
        "host": wanted.host,
        "verdict": worst([*(found["verdict"] for found in ordered.values()), *(reason.verdict for reason in reasons)]),
        "reasons": unique(public),
        "notes": unique(notes),
        **merged,
        "levels": ordered,
        "not_promised": [name for name in ("application",) if name not in wanted.levels],
        "figures": figures,
    }


def stopped(wanted: Wanted, reasons: Sequence[Reason], begun: Mapping[str, Any]) -> dict[str, Any]:
    """Levels of a fetch that ended early: what was reached keeps its verdict, the others get the reasons."""
    reached = dict(begun)
    for name in wanted.levels:
        if name not in reached and name != "structure":
            reached[name] = level(0, reasons)
    return reached


def conclude(
    practice: str,
    items: Sequence[Wanted],
    planned: Sequence[Wanted],
    fetched: Mapping[str, Mapping[str, Any]],
    structures: Mapping[str, Mapping[str, Any]],
    judged: Mapping[str, Mapping[str, Any]],
    machine: Mapping[str, Any],
    levels: Sequence[str] = LEVELS,
) -> dict[str, Any]:
    """Make the body of a proof record from whatever the play got to: nothing that was asked for is left out.

    items: everything there is; planned: the rows that were to be proved, an item once for each of its runs.
    fetched, judged: results by the row's key; structures: by host.
    machine: {"driver", "created": bool, "disposed": bool, "disposal", "seconds": float}, and why it could not be had as
    {"broken": {"code", "message"}}. levels: those that were asked for.
    """
    results, not_run = [], []
    asked = {(row.host, row.item, row.copy) for row in planned}
    for item in items:
        if (item.host, item.item, item.copy) not in asked:
            not_run.append(_not_run(item, "not asked for"))
    for row in planned:
        first = fetched.get(row.key)
        if first and first.get("passed_over"):
            not_run.append(_not_run(row, str(first["passed_over"])))
            continue
        if not first and set(levels) - {"structure"}:
            not_run.append(_not_run(row, "the run ended before it"))
        known = [part for part in (first, structures.get(row.host), judged.get(row.key)) if part]
        results.append(merge_item(row, known, asked=levels))
    reasons = []
    if not results:
        reasons.append(Reason("zero_checked", "no run was proved: nothing was asked for, or there was none such"))
    broken = machine.get("broken")
    if broken:
        reasons.append(Reason(broken["code"], broken["message"], INCONCLUSIVE))
    if machine.get("created") and not machine.get("disposed"):
        reasons.append(
            Reason("machine_not_wiped", "the restore machine, with restored data on its disk, could not be removed")
        )
    verdict = worst([*(result["verdict"] for result in results), *(reason.verdict for reason in reasons)])
    figures = [result["figures"] for result in results]
    newest = [result["figures"] for result in results if result["which"] == "newest"]
    return {
        "proof": "restore",
        "practice": practice,
        "verdict": verdict,
        "scope": "all" if len(newest) == len(items) else "part",
        "levels": [name for name in LEVELS if name in levels],
        "reasons": [reason.public() for reason in reasons],
        "items": results,
        "not_run": not_run,
        "machine": {name: said for name, said in machine.items() if name != "broken"},
        "figures": {
            "age_s": _largest(newest, "age_s"),
            "data_loss_s": _largest(newest, "data_loss_s"),
            "restore_s": round(sum(figure.get("restore_s", 0.0) for figure in newest), 3),
            "files": sum(figure.get("files", 0) for figure in figures),
            "bytes": sum(figure.get("bytes", 0) for figure in figures),
            "rows": sum(figure.get("rows", 0) for figure in figures),
            "items": len(results),
        },
    }


def _not_run(row: Wanted, why: str) -> dict[str, str]:
    return {"item": row.item, "host": row.host, "which": row.which, "copy": row.copy, "why": why}


def describe(body: Mapping[str, Any]) -> list[str]:
    """Say a proof in a few lines, for people at 7 a.m."""
    lines = [f"{body['verdict']}: restore proof of practice {body['practice']}"]
    for item in body["items"]:
        figures = item["figures"]
        counts = [f"{figures[name]} {name}" for name in ("files", "tables", "rows", "images") if figures.get(name)]
        if "age_s" in figures:
            counts.append(f"backup {spell(figures['age_s'])} old")
        if "data_loss_s" in figures:
            counts.append(f"at most {spell(figures['data_loss_s'])} lost")
        if "application_s" in figures["phases"]:
            counts.append(f"software ready in {spell(figures['phases']['application_s'])}")
        if figures.get("restore_s"):
            counts.append(f"restored in {spell(figures['restore_s'])}")
        words = f"{item['item']} of {item['host']}{_run_words(item)}"
        lines.append(f"  {item['verdict']}: {words}" + (": " if counts else "") + ", ".join(counts))
        lines += [f"    {reason['code']}: {reason['message']}" for reason in item["reasons"]]
        lines += [f"    note: {note['message']}" for note in item["notes"]]
        lines += [f"    not promised: {name}" for name in item["not_promised"]]
    lines += [f"  {reason['code']}: {reason['message']}" for reason in body["reasons"]]
    disposal = body["machine"].get("disposal")
    if disposal:
        done = [name.replace("_", " ") for name in ("deleted", "key_destroyed") if disposal.get(name)]
        lines.append("  restored data: " + ", ".join([disposal["store"], *done]))
    for row in body["not_run"]:
        which = "" if row["which"] == "newest" else f" ({row['which']})"
        lines.append(f"  not run: {row['item']} of {row['host']}{which}: {row['why']}")
    return lines


def _run_words(item: Mapping[str, Any]) -> str:
    """Name the run of a result, unless it is the newest."""
    if item["which"] == "newest":
        return ""
    facts = [item["which"], item.get("class"), item.get("arrived")]
    return f" ({', '.join(str(fact) for fact in facts if fact)})"


def spell(seconds: float) -> str:
    """A length of time for people: 72h, 90min, 12.3s."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f}".rstrip("0").rstrip(".") + "h"
    if seconds >= 120:
        return f"{seconds / 60:.0f}min"
    return f"{seconds:.1f}".rstrip("0").rstrip(".") + "s"


def unique(rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Without repeats, in order."""
    kept: list[dict[str, str]] = []
    for row in rows:
        if dict(row) not in kept:
            kept.append(dict(row))
    return kept


def _largest(figures: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [figure[name] for figure in figures if figure.get(name) is not None]
    return max(values) if values else None


# --- arrival and identity --------------------------------------------------------------------------------------------


def parse_time(text: str) -> float:
    """Epoch seconds of an RFC 3339 time, as restic and the oracle write it; ValueError for anything else."""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|([+-])(\d\d):(\d\d))", text)
    if not match:
        raise ValueError(f"{text!r} is no RFC 3339 time")
    whole = calendar.timegm((*(int(match.group(n)) for n in range(1, 7)), 0, 0, 0))
    away = (int(match.group(10)) * 3600 + int(match.group(11)) * 60) if match.group(9) else 0
    return whole + float(match.group(7) or 0) - (away if match.group(9) == "+" else -away)


def parse_snapshots(rows: Sequence[Mapping[str, Any]]) -> list[Snapshot]:
    """Read ``restic snapshots --json``."""
    return [
        Snapshot(
            id=str(row["id"]),
            time=parse_time(str(row["time"])),
            host=str(row.get("hostname", "")),
            tags=frozenset(str(tag) for tag in row.get("tags") or ()),
        )
        for row in rows
    ]


def runs_of(wanted: Wanted, snapshots: Sequence[Snapshot], arrivals: Mapping[str, float] | None) -> list[Run]:
    """List the job's runs, the newest first: by arrival on the NAS, never by the client's own clock.

    Raises NothingMoreError when there is none.
    """
    where = f"repository of {wanted.username}"
    if not arrivals:
        raise NothingMoreError(
            Reason("arrivals_unknown", f"the NAS did not say what arrived in the {where}", INCONCLUSIVE)
        )
    ours = [
        snapshot
        for snapshot in snapshots
        if {f"practice={wanted.practice}", f"job={wanted.job}", "part=oracle"} <= snapshot.tags
    ]
    if not ours:
        raise NothingMoreError(Reason("no_run", f"the {where} holds no finished run of job {wanted.job}"))
    known = [Run(snapshot, float(arrivals[snapshot.id])) for snapshot in ours if snapshot.id in arrivals]
    if not known:
        message = f"no run of job {wanted.job} in the {where} has an arrival time"
        raise NothingMoreError(Reason("arrivals_unknown", message, INCONCLUSIVE))
    return sorted(known, key=lambda run: (run.arrived, run.oracle.id), reverse=True)


def foreign(
    wanted: Wanted, snapshots: Sequence[Snapshot], arrivals: Mapping[str, float]
) -> tuple[list[Reason], list[Reason]]:
    """Look for what does not belong in this host's repository: (reasons to fail, notes for people)."""
    strangers = [
        snapshot.id[:8]
        for snapshot in snapshots
        if snapshot.host != wanted.host or snapshot.tagged("practice") not in (None, wanted.practice)
    ]
    future = [
        snapshot.id[:8]
        for snapshot in snapshots
        if snapshot.id in arrivals and snapshot.time > arrivals[snapshot.id] + CLOCK_SLACK_S
    ]
    reasons, notes = [], []
    if strangers:
        reasons.append(
            Reason(
                "foreign_snapshots",
                f"{len(strangers)} snapshots of another host or practice are in the repository of {wanted.host} "
                f"({_few(strangers)}): wrong repository address on some host, or somebody has its password",
            )
        )
    if future:
        notes.append(
            Reason("future_snapshot", f"{len(future)} snapshots claim a time after their arrival ({_few(future)})")
        )
    return reasons, notes


def check_unreadable(run: Run, snapshots: Sequence[Snapshot], arrivals: Mapping[str, float]) -> list[Reason]:
    """A snapshot that arrived and that restic does not list is damaged; one newer than the run may be a newer run.

    (restic only warns of such a snapshot and ends with 0. Older ones are for the structure level to find.)
    """
    listed = {snapshot.id for snapshot in snapshots}
    lost = sorted(name for name, at in arrivals.items() if name not in listed and at >= run.arrived)
    if not lost:
        return []
    message = f"{len(lost)} snapshots newer than this run are on the NAS but cannot be read ({_few(lost)})"
    return [Reason("snapshot_unreadable", message)]


def check_known(known: Sequence[str], snapshots: Sequence[Snapshot]) -> list[Reason]:
    """The snapshots that earlier evidence names must still be there: an older one is never taken silently."""
    gone = sorted(set(known) - {snapshot.id for snapshot in snapshots})
    if not gone:
        return []
    message = f"{len(gone)} snapshots that the evidence ledger names are gone from the repository ({_few(gone)})"
    return [Reason("known_snapshot_missing", message)]


def check_identity(
    wanted: Wanted,
    run: Run,
    oracle: Mapping[str, Any],
    repository_id: str,
    snapshots: Sequence[Snapshot],
    arrivals: Mapping[str, float],
) -> list[Reason]:
    """Is this run what its oracle says, and is the oracle ours? Names every difference."""
    reasons = []
    for what, want, have in (
        ("practice", wanted.practice, oracle.get("practice")),
        ("host", wanted.host, oracle.get("host")),
        ("job", wanted.job, oracle.get("job")),
        ("item", wanted.item, oracle.get("item")),
        ("repository", repository_id, (oracle.get("identity") or {}).get("repository_id")),
    ):
        if want != have:
            shown = [str(value)[:16] if what == "repository" else str(value) for value in (want, have)]
            reasons.append(Reason(f"wrong_{what}", f"the oracle is of {what} {shown[1]}, expected {shown[0]}"))
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    named = {part: oracle["snapshots"].get(part) for part in ("database", "files") if oracle["snapshots"].get(part)}
    for part, given in [*named.items(), ("oracle", run.oracle.id)]:
        snapshot = by_id.get(given)
        if snapshot is None:
            reasons.append(Reason("snapshot_missing", f"the {part} snapshot {given[:8]} of the run is not there"))
            continue
        if snapshot.host != wanted.host:
            reasons.append(
                Reason(
                    "wrong_host", f"the {part} snapshot {given[:8]} is of host {snapshot.host}, expected {wanted.host}"
                )
            )
        tags = {"practice": wanted.practice, "job": wanted.job, "run": oracle.get("run"), "part": part}
        wrong = sorted(name for name, value in tags.items() if f"{name}={value}" not in snapshot.tags)
        if wrong:
            reasons.append(
                Reason("wrong_tags", f"the {part} snapshot {given[:8]} differs from its oracle in {', '.join(wrong)}")
            )
        reasons += _check_times(part, snapshot, arrivals.get(given), run)
    return reasons


def _check_times(part: str, snapshot: Snapshot, arrived: float | None, run: Run) -> list[Reason]:
    name = f"the {part} snapshot {snapshot.id[:8]}"
    if arrived is None:
        return [Reason("arrivals_unknown", f"the NAS did not say when {name} arrived", INCONCLUSIVE)]
    if snapshot.time > arrived + CLOCK_SLACK_S:
        ahead = spell(snapshot.time - arrived)
        return [Reason("time_implausible", f"{name} claims to be taken {ahead} after it arrived on the NAS")]
    if snapshot.time < arrived - LONGEST_RUN_S:
        behind = spell(arrived - snapshot.time)
        return [Reason("time_implausible", f"{name} claims to be taken {behind} before it arrived on the NAS")]
    if arrived > run.arrived + CLOCK_SLACK_S:
        return [Reason("time_implausible", f"{name} arrived after the oracle that names it")]
    return []


def judge_arrival(
    wanted: Wanted, run: Run, taken: float, now: float, reasons: Sequence[Reason]
) -> tuple[dict[str, Any], dict[str, float]]:
    """Judge the arrival level. Returns it and {"age_s", "data_loss_s"}; of an older run {"age_s"}, as it is meant to be old.

    age_s: since the run arrived. data_loss_s: what would be lost if the host died now, since the data were seen; the
    earlier of the client's and the NAS's clock counts, so that neither can make a backup younger than it is.
    """
    held = list(reasons)
    age_s = now - run.arrived
    loss_s = now - min(taken, run.arrived)
    if age_s < -CLOCK_SLACK_S:
        held.append(
            Reason(
                "clock_skew",
                f"the run arrived {spell(-age_s)} from now: the clocks of the NAS and of this machine differ",
                INCONCLUSIVE,
            )
        )
    figures = {"age_s": round(max(age_s, 0.0), 3)}
    if not wanted.newest:
        return level(1, held), figures
    if loss_s > wanted.rpo_s:
        held.append(Reason("rpo_exceeded", f"RPO exceeded: {spell(loss_s)} > {spell(wanted.rpo_s)}"))
    figures["data_loss_s"] = round(max(loss_s, 0.0), 3)
    return level(1, held, rpo_s=wanted.rpo_s), figures


# --- suspicion -------------------------------------------------------------------------------------------------------


def last_clean(wanted: Wanted, snapshots: Sequence[Snapshot], arrivals: Mapping[str, float], run: Run) -> Run | None:
    """The newest run of the job before this one, by arrival, that its agent did not hold for anything.

    Never the run itself: where a proof finds what the agent did not see, it is not clean, whatever the agent made of it.
    """
    before = (each for each in _clean_runs(wanted, snapshots, arrivals) if each.arrived < run.arrived)
    return max(before, key=_by_arrival, default=None)


def _clean_runs(wanted: Wanted, snapshots: Sequence[Snapshot], arrivals: Mapping[str, float]) -> list[Run]:
    tags = {f"practice={wanted.practice}", f"job={wanted.job}", "part=oracle"}
    return [
        Run(each, float(arrivals[each.id]))
        for each in snapshots
        if each.id in arrivals and tags <= each.tags and each.tagged("hold") is None
    ]


def earlier(wanted: Wanted, snapshots: Sequence[Snapshot], arrivals: Mapping[str, float], run: Run) -> Run | None:
    """The run without suspicion that this one is to be compared with: the newest of a month ago, or the oldest there is.

    What comes slowly, a few files a day, is seen only from afar.
    """
    before = [each for each in _clean_runs(wanted, snapshots, arrivals) if each.arrived < run.arrived]
    old = [each for each in before if each.arrived <= run.arrived - EARLIER_S]
    return max(old, key=_by_arrival) if old else min(before, key=_by_arrival, default=None)


def _by_arrival(run: Run) -> tuple[float, str]:
    return run.arrived, run.oracle.id


def check_held(oracle: Mapping[str, Any], run: Run, clean: Run | None) -> list[Reason]:
    """A run that its agent holds for suspect is no good backup, however whole it is."""
    if "suspect" not in (oracle.get("holds") or ()) and "hold=suspect" not in run.oracle.tags:
        return []
    text = "the agent saw signs of harmful software in this run"
    return [Reason("suspect", f"{text}: look at the host, see holdfast-agent clear. {clean_words(clean)}")]


def check_content(wanted: Wanted, noted: Mapping[str, Any], compared: FilesCompared, clean: Run | None) -> list[Reason]:
    """Do the restored files still look like what they are? noted: the oracle's ``tripwires``, hashes and counts.

    Independent of what the agent made of it: it sees what came too slowly for the agent's limits.
    """
    reasons = []
    canaries = noted.get("canaries") or {}
    spoilt = [path for path in canaries if compared.canaries.get(path) != _canary(wanted, path)]
    if spoilt:
        text = f"of {len(canaries)} canaries, {len(spoilt)} are missing or changed"
        reasons.append(Reason("canary_differs", f"{text}. {clean_words(clean)}"))
    judged = noted.get("judged", (MAGIC, ENTROPY))
    files, wrong = wrong_looks(compared.looks, judged)
    fresh = wrong - int(noted.get("accepted") or 0)
    if fresh >= int(noted.get("least") or Settings.least) and fresh * 100 >= files * SPOILT_PERCENT:
        text = f"{wrong} of {files} files of known types do not look like their type: encrypted?"
        reasons.append(Reason("content_spoilt", f"{text} {clean_words(clean)}"))
    return reasons


def _canary(wanted: Wanted, path: str) -> str:
    return canary.digest(wanted.practice, wanted.host, path)


def clean_words(clean: Run | None) -> str:
    """Name the last clean run, as a sentence."""
    if clean is None:
        return "No earlier run without suspicion is left in the repository"
    return f"The last clean run is that of oracle snapshot {clean.oracle.id[:8]}, arrived {utc(clean.arrived)}"


def utc(at: float) -> str:
    """A time as it stands in results."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


# --- files -----------------------------------------------------------------------------------------------------------


def judge_files(compared: FilesCompared, counted: int) -> list[Reason]:
    """What a comparison means. counted: how many files the oracle says that it lists."""
    reasons = [_file_reason(how, compared.ways[how], compared) for how in _WAYS if how in compared.ways]
    if compared.listed != compared.entries:
        reasons.append(Reason("manifest_damaged", "the manifest names files more than once"))
    if compared.entries != counted:
        reasons.append(Reason("manifest_damaged", f"the oracle counts {counted} files, its manifest is not it"))
    for root in compared.unmet:
        text = f"a folder that must not be empty has no file ({name_hash(root)})"
        reasons.append(Reason("must_have_missing", text))
    return reasons


_WAYS = {
    "missing": "are missing",
    "changed": "have other content than at backup time",
    "kind": "are no plain files any more (a folder, a link, a device)",
    "mode": "have other permissions",
    "mtime": "have another modification time",
    "extra": "are there that the manifest does not know",
}


def _file_reason(how: str, way: Way, compared: FilesCompared) -> Reason:
    counts = f"manifest has {compared.entries} files, restored {compared.restored}"
    hashes = _few([one[:HASH_HEAD] for one in way.some], way.number)
    return Reason(f"files_{how}", f"{counts}: {way.number} {_WAYS[how]} (name hashes {hashes})")


def path_digest(path: bytes) -> bytes:
    """What a path is known by where it must not be told, or would take too much space."""
    return hashlib.blake2b(path, digest_size=32).digest()[:16]


def raw(path: str) -> bytes:
    """A path as the bytes that it is on disk. One that no disk can have is some bytes as well, and never found."""
    try:
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogatepass")


def name_hash(path: str) -> str:
    """The head of the hash of a name: enough to find the file again for who has the manifest, no name for others."""
    return path_digest(raw(path)).hex()[:HASH_HEAD]


def check_images(names: Sequence[str], root: str, state: Callable[[str], str | None]) -> list[Reason]:
    """Every image that the restored database names must be in the manifest and restored as it was.

    state: what became of the file at a path, as ``verify_files.Index.state`` says it. Files that the practice itself
    deleted after the database was seen and before restic read them are not missed.
    """
    missing, damaged = [], []
    for name in names:
        path = image_path(root, name)
        found = state(path)
        if found in (None, "missing", "extra"):
            missing.append(path)
        elif found not in ("same", "volatile", "dropped"):
            damaged.append(path)
    reasons = []
    for code, paths, text in (
        ("images_missing", missing, "are not in the backup"),
        ("images_damaged", damaged, "differ from what was saved"),
    ):
        if paths:
            hashes = _few([name_hash(path) for path in sorted(paths)])
            counts = f"the database names {len(names)} images, {len(paths)} {text}"
            reasons.append(Reason(code, f"{counts} (name hashes {hashes})"))
    return reasons


def _few(names: Sequence[str], count: int | None = None) -> str:
    short = [name[:HASH_HEAD] for name in names[:NAMED]]
    more = (len(names) if count is None else count) - len(short)
    return ", ".join(short) + (f" and {more} more" if more > 0 else "")
