# SPDX-License-Identifier: Apache-2.0
"""Which run a proof takes, and that in time it takes all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.verify import Run, Snapshot
from ansible_collections.holdfast.practice.plugins.module_utils.verify_choice import (
    WHICH,
    Choice,
    PassedOverError,
    Past,
    Rules,
    classes_of,
    order,
    pick,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.proofs import turns_needed

DAY = 86400
WITHIN = {"hourly": 2 * DAY, "daily": 35 * DAY, "weekly": 180 * DAY, "monthly": 3 * 365 * DAY, "yearly": 7 * 365 * DAY}
SYDNEY = ZoneInfo("Australia/Sydney")


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def run(name, arrived, hold=None):
    tags = {f"run=R-{name}", "part=oracle"} | ({f"hold={hold}"} if hold else set())
    return Run(Snapshot(f"{name:0>64}", arrived, "server1", frozenset(tags)), arrived)


@pytest.mark.parametrize(
    ("arrivals", "classes"),
    [
        ({}, {}),
        ({"a": "2026-11-21T10:30"}, {"a": "hourly"}),
        # of an hour the last, of a day the last, of a week the last
        ({"a": "2026-11-21T10:30", "b": "2026-11-21T10:10"}, {"a": "hourly", "b": "other"}),
        (
            {"a": "2026-11-21T10:30", "b": "2026-11-18T10:00", "c": "2026-11-18T08:00"},
            {"a": "hourly", "b": "daily", "c": "other"},
        ),
        (
            {"a": "2026-11-21T10:30", "b": "2026-09-18T10:00", "c": "2026-09-17T10:00", "d": "2025-09-30T10:00"},
            {"a": "hourly", "b": "weekly", "c": "other", "d": "monthly"},
        ),
        ({"a": "2026-11-21T10:30", "b": "2021-05-01T10:00"}, {"a": "hourly", "b": "yearly"}),
        ({"a": "2026-11-21T10:30", "b": "2011-05-01T10:00"}, {"a": "hourly", "b": "other"}),
    ],
)
def test_a_run_is_of_the_finest_rule_that_holds_it(arrivals, classes):
    assert classes_of({name: at(text) for name, text in arrivals.items()}, WITHIN, UTC) == classes


def test_without_rules_nothing_is_of_a_class():
    assert classes_of({"a": 5.0}, {}, UTC) == {"a": "other"}


def test_days_are_the_practices_own_and_a_doubled_hour_is_two():
    late, early = at("2026-11-18T12:50"), at("2026-11-18T13:10")  # 23:50 and 0:10 in Sydney
    newest = at("2026-11-25T12:00")
    assert classes_of({"n": newest, "b": early, "a": late}, WITHIN, SYDNEY) == {
        "n": "hourly",
        "b": "daily",
        "a": "daily",
    }
    assert classes_of({"n": newest, "b": early, "a": late}, WITHIN, UTC)["a"] == "other"
    # 2026-04-05 at 3:00 clocks in Sydney go back to 2:00: both of these are at 2:30
    first, second = at("2026-04-04T15:30"), at("2026-04-04T16:30")
    assert classes_of({"a": first, "b": second}, WITHIN, SYDNEY) == {"b": "hourly", "a": "hourly"}


RUNS = [run(str(number), 1e9 - number * 10 * DAY) for number in range(5)]  # newest first
KINDS = {
    each.oracle.id: kind for each, kind in zip(RUNS, ["hourly", "daily", "daily", "weekly", "weekly"], strict=True)
}
RULES = Rules(WITHIN, 180 * DAY)


def chosen(which, past=None, runs=RUNS, now=1e9):
    part = Snapshot("f" * 64, 0.0, "server1", frozenset({"run=R-3", "part=files"}))
    return (
        pick(which, runs, [*(each.oracle for each in runs), part], KINDS, RULES, past or Past(), now).oracle.id.lstrip(
            "0"
        )
        or "0"
    )


@pytest.mark.parametrize(
    ("which", "want"),
    [
        ("newest", "0"),
        ("oldest", "4"),
        ("oldest-daily", "2"),
        ("oldest-hourly", "0"),
        ("ffffffff", "3"),  # any snapshot of a run names it
        ("0" * 63 + "1", "1"),
    ],
)
def test_which(which, want):
    assert WHICH.fullmatch(which)
    assert chosen(which) == want


@pytest.mark.parametrize("which", ["", "old", "oldest-", "oldest-hour", "rotation-0", "abc", "../etc", "newest\n"])
def test_what_is_no_way_to_name_a_run(which):
    assert not WHICH.fullmatch(which)


@pytest.mark.parametrize(
    ("which", "runs", "why"),
    [
        ("oldest-yearly", RUNS, "no run of the class yearly is kept"),
        ("rotation", RUNS[:1], "no run but the newest is kept"),
        ("rotation-2", RUNS[:2], "only 1 older runs are kept"),
        ("eeeeeeee", RUNS, "no run of it has a snapshot eeeeeeee"),
    ],
)
def test_there_is_no_such_run(which, runs, why):
    with pytest.raises(PassedOverError, match=why):
        chosen(which, runs=runs)


def past_of(classes=("daily", "weekly"), **days_ago):
    runs = {f"{name[1:]:0>64}": 1e9 - ago * DAY for name, ago in days_ago.items()}
    return Past(runs, dict.fromkeys(classes, 1e9))


@pytest.mark.parametrize(
    ("past", "want"),
    [
        (past_of(), "4"),  # nothing was judged yet: what has been there longest
        (past_of(r4=1), "3"),
        (past_of(r4=1, r3=1), "2"),
        (past_of(r4=9, r3=8, r2=7, r1=6), "4"),  # then what was judged longest ago
        (past_of(r4=6, r3=8, r2=7, r1=9), "1"),
        (past_of(("weekly",), r4=9, r3=8, r2=7, r1=6), "2"),  # no daily one ever: the oldest of that class
    ],
)
def test_the_rotation_takes_what_was_judged_longest_ago(past, want):
    assert chosen("rotation", past) == want
    assert chosen("rotation", past, now=1e9 + 5000) == want, "the same day gives another choice"


def test_further_turns_take_the_next_but_not_what_was_judged_lately():
    assert chosen("rotation-2", past_of(), now=1e9 + 100 * DAY) == "3"
    with pytest.raises(PassedOverError, match="lately"):
        chosen("rotation-2", past_of(r4=1, r3=1, r2=1, r1=1))


def test_who_is_due_together_goes_by_the_hash_of_the_id():
    together = [RUNS[0], *(run(name, 5.0) for name in "abcdef")]
    kinds = dict.fromkeys((each.oracle.id for each in together), "daily")
    past = Past({}, {"daily": 1e9})
    names = [each.oracle.id for _due, each in order(together, kinds, RULES, past)]
    again = [each.oracle.id for _due, each in order([RUNS[0], *together[:0:-1]], kinds, RULES, past)]
    assert sorted(names) != names
    assert {*names[1:]} == {*again[1:]} or names == again


def test_runs_that_no_rule_asks_for_come_last():
    kinds = {**KINDS, RUNS[4].oracle.id: "other"}
    assert [each for _due, each in order(RUNS, kinds, RULES, past_of())] == [RUNS[3], RUNS[2], RUNS[1], RUNS[4]]


def test_a_run_under_suspicion_is_no_part_of_the_rotation():
    runs = [RUNS[0], run("9", 5.0, hold="suspect"), RUNS[2]]
    kinds = {**KINDS, runs[1].oracle.id: "weekly"}
    assert [each for _due, each in order(runs, kinds, RULES, Past())] == [RUNS[2]]


def test_a_choice_tells_the_class_and_what_is_kept():
    found = Choice(RULES).of("oldest", RUNS, [each.oracle for each in RUNS], 1e9)
    assert (found.run, found.kind) == (RUNS[4], "weekly")
    assert sum(found.kept.values()) == 5


@pytest.mark.parametrize(
    ("often_s", "proven_s", "want"),
    [
        (DAY, 180 * DAY, 1),
        (7 * DAY, 180 * DAY, 3),
        (31 * DAY, 180 * DAY, 12),
        (7 * DAY, 365 * DAY, 1),
        (DAY, 30 * DAY, 4),
    ],
)
def test_how_many_older_runs_a_proof_needs(often_s, proven_s, want):
    assert turns_needed(WITHIN, proven_s, often_s) == want


# smaller than usual, for speed
SMALL = {"hourly": DAY, "daily": 14 * DAY, "weekly": 60 * DAY, "monthly": 365 * DAY, "yearly": 2 * 365 * DAY}


def years_of(often_days, proven_days, years):
    """Live through some years: back up daily, prune, prove. Yields each day (now, runs, classes, when judged: runs, classes)."""
    need = turns_needed(SMALL, proven_days * DAY, often_days * DAY)
    runs, past_runs, past_classes = [], {}, {}
    for day in range(years * 365):
        now = at("2026-01-01T00:00") + day * DAY
        runs.insert(0, run(f"{day:x}", now))
        classes = classes_of({each.oracle.id: each.arrived for each in runs}, SMALL, UTC)
        runs = [each for each in runs if classes[each.oracle.id] != "other"]
        if day % often_days == 0:
            choice = Choice(Rules(SMALL, proven_days * DAY), Past(dict(past_runs), dict(past_classes)))
            for which in ["newest", "rotation", *(f"rotation-{n}" for n in range(2, need + 1))]:
                try:
                    found = choice.of(which, runs, [], now)
                except PassedOverError:
                    continue
                past_runs[found.run.oracle.id] = now
                past_classes[found.kind] = now
        yield now, runs, classes, past_runs, past_classes


@pytest.mark.parametrize(("often_days", "proven_days"), [(1, 60), (7, 60)])
def test_over_the_years_everything_is_proven_within_the_promise(often_days, proven_days):
    checked = 0
    since: dict[str, float] = {}
    for now, runs, classes, past, past_classes in years_of(often_days, proven_days, 3):
        for each in runs[1:]:
            last = max(each.arrived, past.get(each.oracle.id, 0.0))
            assert now - last <= proven_days * DAY, (classes[each.oracle.id], (now - last) / DAY)
            checked += 1
        there = {classes[each.oracle.id] for each in runs[1:]}
        since = {kind: since.get(kind, now) for kind in there}
        for kind in there:
            assert now - max(past_classes.get(kind, 0.0), since[kind]) <= proven_days * DAY, kind
    assert checked > 20_000
    assert {"daily", "weekly", "monthly", "yearly"} <= set(since), "too short: this proves nothing"


def test_a_run_that_rots_after_it_was_proven_is_taken_again_in_time():
    """Fine last month, bad today: whatever run it is, the rotation comes back to it within the promise."""
    bad, since, found = None, 0.0, None
    for now, runs, classes, past, _classes in years_of(7, 60, 3):
        if bad is None and now >= at("2028-06-01T00:00"):
            monthly = [each for each in runs if classes[each.oracle.id] == "monthly" and each.oracle.id in past]
            bad, since = max(monthly, key=lambda each: past[each.oracle.id]), now  # the one whose turn is farthest
        elif bad and past[bad.oracle.id] > since:
            found = past[bad.oracle.id]
            break
        elif bad:
            assert bad in runs, "it was pruned before: this proves nothing"
    assert found is not None
    assert 0 < found - since <= 60 * DAY
