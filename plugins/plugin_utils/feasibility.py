# SPDX-License-Identifier: Apache-2.0
"""Whether a plan can be carried out: line, windows, capacity and time in numbers. Pure.

Figures come from three places, the best one first: measured (results/survey.json), declared (the document), assumed (said so).
A plan is refused only by what is measured or declared, or by what no machine of a practice can do; an assumption alone makes
a figure tight, and what is not known is called so. Country, distance, RPO and retention have their rules in rules_copies.py
and rules_items.py; here they only become figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.feasibility_plan import (
    ASSUMED,
    DECLARED,
    MEASURED,
    UNKNOWN,
    Amount,
    Job,
    Plan,
    Total,
    at,
    number,
    rate_words,
    size_words,
    time_words,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import DAY_S, seconds, size_bytes
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    Nas,
    Practice,
    RestoreHost,
    interval_s,
    schedule,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.regions import AWS, kilometres
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import KeyPath, Problem
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import minutes, quiet_window, within
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View

# Until the first upload is through there is no offsite copy. A month without is the most that a practice should bear, and
# the least that its retention has to reach back (rules_copies.SHORTEST_MEMORY_S).
FIRST_UPLOAD_S = 30 * DAY_S
MONTH_DAYS = 30
# Nothing is pruned in this version, so a pool has to hold what comes in for as long as until somebody plans anew.
PLAN_DAYS = 365
# A survey sees one week's change: enough to refuse what is full in three months by it, not to foretell a year.
MEASURED_DAYS = 90
# btrfs wants room to work in, and so does whoever has to order disks.
POOL_FULL = 0.8
# A figure above this share of what is allowed is called tight: links are shared, and data grows.
TIGHT = 0.7
# Seen on two cores: 3 GB in 40,000 files restored in 25 s; reading, hashing and packing take as long.
USUAL_BYTES_PER_S = 120 * 2**20
# No server of a practice reads, hashes and sends faster than this: 10Gbit/s, less what the wire itself takes.
FASTEST_BYTES_PER_S = 2**30
USUAL_LAN = 10**9
# What the agent gives a run that says nothing (compiler.TIME_LIMIT_S)
USUAL_LIMIT_S = 7200
# A database is restored as a dump and then loaded: it is there twice for a while.
RESTORED_TIMES = 2
SPACE_TO_SPARE = 256 * 2**20
# A declared size that is exceeded by this share is no longer true.
OUTGROWN = 1.25

OK, TIGHT_STATE, IMPOSSIBLE, NOT_PLANNED = "ok", "tight", "impossible", "not planned"
ASK = "run playbooks/survey.yml"


@dataclass(frozen=True)
class Refusal:
    """What is said of an impossible figure: where it stands in the document, and how to mend it."""

    path: KeyPath
    got: str
    expected: str
    fix: str


@dataclass(frozen=True)
class Figure:
    """One thing that a plan comes to. value is in words; source: measured, declared, assumed or "not known";

    state: ok, tight, impossible, "not known" (something it needs is), or "not planned". A refusal makes it impossible.
    """

    name: str
    value: str
    source: str
    state: str = OK
    refusal: Refusal | None = None


def _not_known(name: str, what: str) -> Figure:
    return Figure(name, f"not known ({what}): {ASK}", UNKNOWN, UNKNOWN)


def _missing(total: Total) -> str:
    listed = ", ".join(total.missing[:4]) + (", ..." if len(total.missing) > 4 else "")
    return f"size of {listed}"


def _state(value: float, limit: float, missing: list[str], tight: float = TIGHT) -> str:
    """Judge a lower bound: what is too much stays so, what would fit is only known when nothing is missing."""
    if value > limit:
        return IMPOSSIBLE
    if missing:
        return UNKNOWN
    return TIGHT_STATE if value > limit * tight else OK


_OFFSITE: KeyPath = ("copies", "offsite")


def _data(plan: Plan) -> Iterator[Figure]:
    name = "data to protect"
    total = plan.total(plan.sizes)
    if not plan.sizes:
        yield _not_known(name, _missing(total))
        return
    grown = []
    for host, item in plan.jobs:
        said, found = plan.items[item].size, plan.sizes.get((host, item))
        if said and found and found.source == MEASURED and found.value > OUTGROWN * size_bytes(said):
            grown.append(f"{item} has {size_words(found.value)}, the document says {said}")
    change = plan.total(plan.changes)
    words = total.words() + (f", {change.words()} changed a day" if plan.changes else ", change not known")
    words += f" ({_missing(total)} not known: {ASK})" if total.missing else ""
    state = UNKNOWN if total.missing else TIGHT_STATE if grown else OK
    yield Figure(name, "; ".join([words, *grown]), total.source, state)


def _hours_a_day(plan: Plan) -> tuple[int, str]:
    """Give how many seconds of a day the offsite copy has, and in which words; a copy without a window has all of them."""
    offsite = plan.copies.offsite if plan.copies else None
    if offsite and offsite.window:
        start, end = (minutes(part) for part in offsite.window.split("-"))
        return (end - start) % (24 * 60) * 60, f"in the window {offsite.window}"
    return DAY_S, "day and night"


def _first_upload(plan: Plan) -> Iterator[Figure]:
    name = "first upload offsite"
    offsite = plan.copies.offsite if plan.copies else None
    rate, total = plan.up(), plan.total(plan.sizes)
    if offsite is None and plan.line is None:
        yield Figure(name, "not planned: the document has no copies.offsite", DECLARED, NOT_PLANNED)
        return
    if offsite and offsite.first_copy == "disk":
        yield Figure(name, "carried there on a disk", DECLARED)
        return
    if rate is None or not plan.sizes:
        yield _not_known(name, "line.up" if rate is None else _missing(total))
        return
    available, when = _hours_a_day(plan)
    needed = total.value * 8 / rate.value * DAY_S / available
    over = f"over {rate_words(rate.value)}" + (f" {when}" if available < DAY_S else "")
    quota = size_bytes(plan.line.monthly) if plan.line and plan.line.monthly else None
    if quota and total.value / quota * MONTH_DAYS * DAY_S > max(needed, MONTH_DAYS * DAY_S):
        needed = total.value / quota * MONTH_DAYS * DAY_S
        over = f"at {plan.line.monthly if plan.line else ''} a month (line.monthly)"
    words = f"{time_words(needed)} for {total.words()} {over}"
    source = DECLARED if DECLARED in (total.source, rate.source) else MEASURED
    if offsite is None:
        yield Figure(name, f"not planned (no copies.offsite); it would take {words}", source, NOT_PLANNED)
        return
    state = _state(needed, FIRST_UPLOAD_S, total.missing)
    refusal = None
    if state == IMPOSSIBLE:
        refusal = Refusal(
            _OFFSITE,
            f"the first upload of {total.words()} takes {time_words(needed)} {over}",
            f"at most {time_words(FIRST_UPLOAD_S)}",
            "write a faster line.up, first_copy: disk (and carry it there), or protect less",
        )
    yield Figure(name, words, source, state, refusal)


def _nightly(plan: Plan) -> Iterator[Figure]:
    name = "a day's change offsite"
    offsite = plan.copies.offsite if plan.copies else None
    rate, total = plan.up(), plan.total(plan.changes)
    if offsite is None:
        return
    if rate is None or not plan.changes:
        yield _not_known(name, "line.up" if rate is None else "daily change")
        return
    available, when = _hours_a_day(plan)
    needed = total.value * 8 / rate.value
    words = f"{time_words(needed)} for {total.words()} over {rate_words(rate.value)}"
    source = DECLARED if DECLARED in (total.source, rate.source) else MEASURED
    state = _state(needed, available, total.missing)
    refusal = None
    if state == IMPOSSIBLE:
        where: KeyPath = (*_OFFSITE, "window") if offsite.window else _OFFSITE
        got = f"a day's change of {total.words()} takes {time_words(needed)} over {rate_words(rate.value)}"
        expected = f"at most the {time_words(available)} {'of the window' if offsite.window else 'of a day'}"
        fix = "write a faster line.up, a longer window, or protect less"
        refusal = Refusal(where, got, expected, fix)
    elif not offsite.window and state != UNKNOWN:
        start, length = quiet_window(plan.hours)
        left = (length - (minutes(offsite.at) - start) % (24 * 60)) * 60
        if plan.hours and within(start, length, minutes(offsite.at)) and needed > left:
            state, words = TIGHT_STATE, f"{words}: it begins at {offsite.at} and runs into opening hours"
    yield Figure(name, words + (f" {when}" if offsite.window else ""), source, state, refusal)


def _monthly(plan: Plan) -> Iterator[Figure]:
    if plan.line is None or plan.line.monthly is None or not plan.copies or not plan.copies.offsite:
        return
    name, quota, total = "a month's change against line.monthly", plan.line.monthly, plan.total(plan.changes)
    if not plan.changes:
        yield _not_known(name, "daily change")
        return
    needed = total.value * MONTH_DAYS
    words = f"{'at least ' if total.missing else ''}{size_words(needed)} of {quota}"
    state = _state(needed, size_bytes(quota), total.missing)
    refusal = None
    if state == IMPOSSIBLE:
        refusal = Refusal(
            ("line", "monthly"),
            f"got {quota}, but {total.words()} change in a day: {size_words(needed)} in a month",
            f"at least {size_words(needed)} a month for the offsite copy",
            "get a contract with more, or protect less",
        )
    yield Figure(name, words, total.source, state, refusal)


def _restore_offsite(plan: Plan) -> Iterator[Figure]:
    offsite = plan.copies.offsite if plan.copies else None
    if offsite is None or plan.objectives is None:
        return
    name = "restore over the line"
    jobs = plan.urgent()
    rate, total = plan.down(), plan.total(plan.sizes, jobs)
    if rate is None or not total.value:
        yield _not_known(name, "line.down" if rate is None else _missing(total))
        return
    allowed = plan.objectives.rto_offsite or plan.objectives.rto
    key = "rto_offsite" if plan.objectives.rto_offsite else "rto"
    needed = total.value * 8 / rate.value
    what = "" if len(jobs) == len(plan.jobs) else " of critical items"
    words = (
        f"{time_words(needed)} for {total.words()}{what} over {rate_words(rate.value)}; objectives.{key} is {allowed}"
    )
    everything = plan.total(plan.sizes)
    if what and not everything.missing:
        words += f"; all of it: {time_words(everything.value * 8 / rate.value)}"
    state = _state(needed, seconds(allowed), total.missing)
    refusal = None
    if state == IMPOSSIBLE and plan.copies and (plan.copies.removable or plan.copies.standby):
        state = TIGHT_STATE  # a disk that is carried back, or a standby machine, beats the line
    elif state == IMPOSSIBLE:
        refusal = Refusal(
            ("objectives", key),
            f"got {allowed}, but bringing {total.words()}{what} back over {rate_words(rate.value)} takes {time_words(needed)}",
            "a restore within it when the onsite copy is lost too",
            "write how long that may take as objectives.rto_offsite, a faster line.down, or plan copies.removable",
        )
    source = DECLARED if DECLARED in (total.source, rate.source) else MEASURED
    yield Figure(name, words, source, state, refusal)


def _link(plan: Plan, host: str) -> Amount:
    """Give the slower of the two links between a host and the NAS: measured, or assumed."""
    store = plan.copies.onsite.on if plan.copies else ""
    found = [number(at(plan.survey, "hosts", name, "link_bits_per_s")) for name in (host, store)]
    known = [rate for rate in found if rate]
    return Amount(min(known), MEASURED) if len(known) == len(found) else Amount(USUAL_LAN, ASSUMED)


def _restore_onsite(plan: Plan) -> Iterator[Figure]:
    """Judge each item by itself against the RTO, as a proof does; only a measured link makes it impossible."""
    name = "restore in the house"
    if plan.objectives is None:
        return
    rto = seconds(plan.objectives.rto)
    slowest: tuple[float, float, Job, Amount] | None = None
    for job in plan.jobs:
        if job in plan.sizes:
            size, link = plan.sizes[job].value, _link(plan, job[0])
            usual = size / min(link.value / 8, USUAL_BYTES_PER_S)
            best = size / min(link.value / 8 if link.source == MEASURED else FASTEST_BYTES_PER_S, FASTEST_BYTES_PER_S)
            slowest = max(slowest or (0.0, 0.0, job, link), (usual, best, job, link), key=lambda each: each[:2])
    missing = plan.total(plan.sizes).missing
    if slowest is None:
        yield _not_known(name, _missing(plan.total(plan.sizes)))
        return
    usual, best, job, link = slowest
    named, much = job[1], size_words(plan.sizes[job].value)
    how = f"{rate_words(link.value)} ({link.source}) and at most {size_words(USUAL_BYTES_PER_S)} a second (assumed)"
    words = f"{time_words(usual)} for {named}, the slowest ({much}), at {how}; objectives.rto is {plan.objectives.rto}"
    state = _state(usual, rto, missing)
    refusal = None
    if state == IMPOSSIBLE and best <= rto:
        state = TIGHT_STATE
    elif state == IMPOSSIBLE:
        refusal = Refusal(
            ("objectives", "rto"),
            f"got {plan.objectives.rto}, but restoring {much} of {named} takes at least {time_words(best)}",
            "a restore of each item within it",
            "write a longer objectives.rto, or describe the data as several items",
        )
    yield Figure(name, words, ASSUMED, state, refusal)


def _growth(first: float, change: Total, room: float, missing: list[str]) -> tuple[str, float, float, str]:
    """Judge a year's growth. Returns (state, need in a year, need that is refused by, and for how long that is).

    What a document says of its daily change holds for a year; what a survey saw in a week only refuses for three months.
    """
    a_year = first + PLAN_DAYS * change.value
    state = _state(a_year, room, missing, POOL_FULL)
    if change.source != MEASURED:
        return state, a_year, a_year, "a year"
    soon = first + MEASURED_DAYS * change.value
    if state == IMPOSSIBLE and soon <= room:
        state = UNKNOWN if missing else TIGHT_STATE
    return state, a_year, soon, time_words(MEASURED_DAYS * DAY_S)


def _growth_words(needed: float, first: float, size: Total, change: Total, room: str) -> str:
    missing = f"; not known: {_missing(size)}" if size.missing else ""
    missing += f"; not known: change of {', '.join(change.missing)}" if change.missing else ""
    least = "at least " if missing else ""
    parts = f"{size_words(first)} and {PLAN_DAYS} days of {size_words(change.value)}"
    return f"{least}{size_words(needed)} of {room} ({parts}{missing})"


def _pool(plan: Plan) -> Iterator[Figure]:
    store = plan.copies.onsite.on if plan.copies else ""
    nas = plan.hosts.get(store)
    if not isinstance(nas, Nas):
        return
    name = f"room on {store} for a year"
    measured, free = (number(at(plan.survey, "hosts", store, "pool", key)) for key in ("bytes", "free"))
    declared = size_bytes(nas.pool.capacity) if nas.pool.capacity else None
    capacity = Amount(measured, MEASURED) if measured else Amount(declared, DECLARED) if declared else None
    size, change = plan.total(plan.sizes), plan.total(plan.changes)
    if capacity is None or not plan.sizes:
        yield _not_known(name, f"hosts.{store}.pool.capacity" if capacity is None else _missing(size))
        return
    used = max(capacity.value - free, 0.0) if measured and free is not None else 0.0
    first = max(size.value, used)
    state, needed, refused_by, ahead = _growth(first, change, capacity.value, [*size.missing, *change.missing])
    words = (
        _growth_words(needed, first, size, change, size_words(capacity.value)) + "; nothing is pruned in this version"
    )
    full = (capacity.value - first) / change.value * DAY_S if change.value else 0.0
    if first < capacity.value < needed:
        words += f"; full in {time_words(full)}"
    refusal = None
    if state == IMPOSSIBLE:
        when = f"full after {time_words(full)}" if full >= DAY_S else "too small for the first backups"
        have = f"{nas.pool.capacity} (pool.capacity)" if capacity.source == DECLARED else size_words(capacity.value)
        refusal = Refusal(
            ("hosts", store, "pool", *(("capacity",) if capacity.source == DECLARED else ())),
            f"got {have}, {when}: {size_words(first)} and {size_words(change.value)} more a day",
            f"at least {size_words(refused_by)}, for {ahead} ahead: nothing is pruned in this version",
            "write a larger pool, or protect less",
        )
    source = DECLARED if DECLARED in (capacity.source, size.source) else MEASURED
    yield Figure(name, words, source, state, refusal)


def _quotas(plan: Plan) -> Iterator[Figure]:
    for host, machine in plan.hosts.items():
        quota = getattr(machine, "quota", None)
        jobs = [job for job in plan.jobs if job[0] == host]
        if not quota or not jobs:
            continue
        name = f"quota of {host}"
        size, change = plan.total(plan.sizes, jobs), plan.total(plan.changes, jobs)
        if not size.value:
            yield _not_known(name, _missing(size))
            continue
        missing = [*size.missing, *change.missing]
        state, needed, refused_by, ahead = _growth(size.value, change, size_bytes(quota), missing)
        refusal = None
        if state == IMPOSSIBLE:
            come_to = f"{size.words()} and {size_words(change.value)} a day come to {size_words(refused_by)} in {ahead}"
            refusal = Refusal(
                ("hosts", host, "quota"),
                f"got {quota}, but {come_to}",
                f"at least {size_words(refused_by)}: nothing is pruned in this version",
                "write a larger quota, leave it out, or protect less",
            )
        yield Figure(name, _growth_words(needed, size.value, size, change, quota), size.source, state, refusal)


def _restore_space(plan: Plan) -> Iterator[Figure]:
    for host, machine in plan.hosts.items():
        if not isinstance(machine, RestoreHost):
            continue
        name = f"room on {host} for a restore"
        free = number(at(plan.survey, "hosts", host, "restore", "free"))
        declared = size_bytes(machine.space) if machine.space else None
        space = Amount(free, MEASURED) if free is not None else Amount(declared, DECLARED) if declared else None
        if space is None or not plan.sizes:
            yield _not_known(name, f"hosts.{host}.space" if space is None else _missing(plan.total(plan.sizes)))
            continue
        needs = {
            job: amount.value * (RESTORED_TIMES if plan.items[job[1]].database else 1)
            for job, amount in plan.sizes.items()
        }
        largest = max(needs, key=lambda job: needs[job])
        needed = needs[largest] + SPACE_TO_SPARE
        everything = sum(needs.values()) + SPACE_TO_SPARE
        missing = plan.total(plan.sizes).missing
        words = f"{size_words(needed)} for {largest[1]}, the largest, of {size_words(space.value)}"
        state = _state(needed, space.value, missing, 1)
        if state == OK and everything > space.value:
            state, words = TIGHT_STATE, f"{words}; all of them at once need {size_words(everything)}"
        refusal = None
        if state == IMPOSSIBLE:
            have = machine.space if space.source == DECLARED else size_words(space.value)
            twice = ", as a dump and loaded" if plan.items[largest[1]].database else ""
            refusal = Refusal(
                ("hosts", host, *(("space",) if machine.space else ())),
                f"got room of {have}, but restoring {largest[1]} takes {size_words(needed)}{twice}",
                f"at least {size_words(needed)}",
                "give the restore host a larger disk",
            )
        yield Figure(name, words, space.source, state, refusal)


def _runs(plan: Plan) -> Iterator[Figure]:
    """Judge runs by the last ones where there were some, else by what a machine can read, hash and send."""
    for host, item_name in plan.jobs:
        item, size = plan.items[item_name], plan.sizes.get((host, item_name))
        name = f"a run of {item_name} on {host}"
        interval = interval_s(item)
        every = schedule(item, plan.usual)[0] or ("24h" if interval == DAY_S else time_words(interval))
        limit = seconds(item.time_limit) if item.time_limit else min(USUAL_LIMIT_S, interval)
        ran = number(at(plan.survey, "hosts", host, "runs", item_name, "seconds"))
        if ran is not None:
            state = TIGHT_STATE if ran > limit * TIGHT else OK
            refusal = None
            if ran > interval:
                state = IMPOSSIBLE
                got = f"the last run took {time_words(ran)}, longer than the time to the next (every {every})"
                refusal = Refusal(
                    ("protect", item_name), got, f"at least {time_words(ran)} between two runs", "back up less often"
                )
            yield Figure(name, f"{time_words(ran)}, every {every}", MEASURED, state, refusal)
            continue
        if size is None:
            yield _not_known(name, f"size of {item_name}")
            continue
        usual, best = size.value / USUAL_BYTES_PER_S, size.value / FASTEST_BYTES_PER_S
        words = (
            f"{time_words(usual)} for {size_words(size.value)} at {size_words(USUAL_BYTES_PER_S)} a second (assumed)"
        )
        words += f"; every {every}, ended after {time_words(limit)}"
        state = TIGHT_STATE if usual > limit * TIGHT else OK
        refusal = None
        if best > min(limit, interval):
            state = IMPOSSIBLE
            got = f"a run takes at least {time_words(best)} for {size_words(size.value)}"
            if best > interval:
                expected, fix = f"at most the time to the next (every {every})", "back up less often, or protect less"
            else:
                expected = f"at most the time_limit ({time_words(limit)})"
                fix = f"write a longer time_limit than {time_words(best)}"
            refusal = Refusal(("protect", item_name), got, expected, fix)
        yield Figure(name, words, ASSUMED, state, refusal)


def _only_with_offsite(plan: Plan) -> Iterator[Figure]:
    if plan.objectives and plan.objectives.rto_offsite and plan.copies and not plan.copies.offsite:
        refusal = Refusal(
            ("objectives", "rto_offsite"),
            "there is no copies.offsite that could be restored from",
            "copies.offsite: beside it",
            "leave rto_offsite out",
        )
        yield Figure("restore over the line", "no offsite copy is planned", DECLARED, IMPOSSIBLE, refusal)


Check = Callable[[Plan], Iterator[Figure]]
CHECKS: tuple[Check, ...] = (
    _data,
    _first_upload,
    _nightly,
    _monthly,
    _restore_offsite,
    _only_with_offsite,
    _restore_onsite,
    _pool,
    _quotas,
    _restore_space,
    _runs,
)


def _refused(view: View, plan: Plan, checks: tuple[Check, ...] = CHECKS) -> Iterator[Problem]:
    for check in checks:
        for figure in check(plan):
            if figure.refusal:
                said = figure.refusal
                yield view.problem(said.path, said.got, said.expected, said.fix, key=True)


def feasible(view: View) -> Iterator[Problem]:
    """Refuse what the document itself says to be impossible."""
    plan = Plan.of(view)
    # most documents say no sizes: then there is nothing to compute
    yield from _refused(view, plan, CHECKS if plan.sizes or plan.changes else (_only_with_offsite,))


def problems_measured(view: View, survey: Mapping[str, Any] | None) -> list[Problem]:
    """Refuse what is impossible by measured figures; those of the document stand in where nothing was measured.

    view: of a document that is right otherwise (view.View.of). survey: what survey.stored() gives.
    """
    return sorted(set(_refused(view, Plan.of(view, survey)))) if survey else []


def figures(practice: Practice, survey: Mapping[str, Any] | None = None) -> list[Figure]:
    """Say what the plan of a practice comes to, in the order in which people ask."""
    plan = Plan.of_practice(practice, survey)
    found = [figure for check in CHECKS for figure in check(plan)]
    return [*found, *_by_rules(practice)]


def _by_rules(practice: Practice) -> Iterator[Figure]:
    """Say what the rules of other modules have judged already: a document that breaks them never gets here."""
    if practice.protect:
        worst = max(interval_s(item) for item in practice.protect.values())
        words = f"at most {time_words(worst)} and a run lost; objectives.rpo is {practice.objectives.rpo}"
        yield Figure("data loss", words, DECLARED)
    kept = [seconds(each) for each in practice.retention.within.model_dump(exclude_none=True).values()]
    if kept:
        words = f"restore points reach back {time_words(max(kept))}; each item is proven at least once in that time"
        yield Figure("retention", words, DECLARED)
    offsite = practice.copies.offsite
    if offsite:
        region = AWS.get(offsite.s3.region) if offsite.s3 else None
        country = region.country if region else offsite.country
        place = offsite.location or ([region.latitude, region.longitude] if region else None)
        allowed = ", ".join(practice.practice.data_countries or [practice.practice.country])
        words = f"in {country}; allowed: {allowed}"
        known = bool(practice.practice.location and place)
        if practice.practice.location and place:
            words += (
                f"; {kilometres(practice.practice.location, place):.0f} km away, at least {offsite.min_distance_km} km"
            )
        else:
            words += "; distance not known (practice.location, copies.offsite.location)"
        yield Figure("place of the offsite copy", words, DECLARED, OK if known else UNKNOWN)


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (feasible,)
