# SPDX-License-Identifier: Apache-2.0
"""What retention lets go, and everything that makes it let nothing go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.retention import (
    DAY_S,
    Job,
    Rules,
    Seen,
    make_plan,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
WITHIN = {"daily": 35 * DAY_S, "weekly": 182 * DAY_S, "monthly": 3 * 365 * DAY_S}
RULES = Rules(WITHIN)
DOCUMENTS, CLINIC = Job("documents"), Job("clinic")
KEY = "a" * 64


class Repository:
    """A host's repository: what restic lists and when it arrived."""

    def __init__(self):
        self.rows, self.arrivals, self.keys, self.count = [], {}, {KEY: NOW - 900 * DAY_S}, 0

    def store(self, at, tags, host="server1", claimed=None, files=100, size=50 << 20):
        self.count += 1
        name = f"{self.count:08x}" + "0" * 56
        time = datetime.fromtimestamp(at - 60 if claimed is None else claimed, UTC).isoformat()
        told = {"total_files_processed": files, "total_bytes_processed": size}
        self.rows.append({"id": name, "time": time, "hostname": host, "tags": tags, "summary": told})
        self.arrivals[name] = at
        return name

    def run(self, days_ago, job="documents", hold=(), parts=("files", "oracle"), **facts):
        """A run that arrived so many days ago; its name."""
        at, name = NOW - days_ago * DAY_S, f"R{self.count}"
        for number, part in enumerate(parts):
            tags = ["practice=harbour-street", f"job={job}", f"run={name}", f"part={part}"]
            held = [f"hold={each}" for each in hold] if part == "oracle" else []
            self.store(at + number, tags + held, **facts)
        return name

    def plan(self, *jobs, rules=RULES, **seen):
        facts = {"practice": "harbour-street", "host": "server1", "rows": self.rows}
        found = Seen(**{**facts, "arrivals": self.arrivals, "keys": self.keys, **seen})
        return make_plan(found, jobs or (DOCUMENTS,), rules)


def removed(plan):
    return {run.run for run in plan.remove}


def codes(plan):
    return [doubt.code for doubt in plan.doubts]


@pytest.fixture
def repository():
    return Repository()


def test_what_no_rule_asks_for_goes_and_the_rest_is_counted(repository):
    """Two runs a day for 50 days: the first of each day goes, and beyond 35 days all but one a week."""
    names = {(day, turn): repository.run(day + turn / 4) for day in range(50) for turn in (0, 1)}
    plan = repository.plan()
    assert codes(plan) == []
    gone = removed(plan)
    assert {names[day, 1] for day in range(35)} <= gone
    assert not {names[day, 0] for day in range(35)} & gone
    assert plan.kept == {"documents": {"daily": 36, "weekly": 2}}
    assert plan.clean["documents"].run == names[0, 0]
    assert len(plan.ids) == 2 * len(gone) == 2 * (100 - 38)


def test_nothing_to_remove_is_a_plan(repository):
    repository.run(0)
    plan = repository.plan()
    assert (plan.ids, codes(plan), plan.kept) == ([], [], {"documents": {"daily": 1}})


def test_an_empty_repository_is_left_alone(repository):
    plan = repository.plan()
    assert (plan.ids, plan.clean, plan.kept) == ([], {}, {"documents": {}})


def test_days_are_the_practices_own(repository):
    """Half past midnight in Sydney is the day before in UTC: both runs are of two days there, and of one here."""
    late, early = datetime(2026, 11, 20, 12, 30, tzinfo=UTC), datetime(2026, 11, 20, 13, 30, tzinfo=UTC)
    repository.run((NOW - late.timestamp()) / DAY_S)
    repository.run((NOW - early.timestamp()) / DAY_S)
    repository.run(0)
    assert len(removed(repository.plan())) == 1
    assert not removed(repository.plan(rules=Rules(WITHIN, ZoneInfo("Australia/Sydney"))))


def test_the_last_clean_run_stays_however_old(repository):
    """A month of encrypted nights: they count their own days, and the last clean run is nobody's to push out."""
    clean = repository.run(400)
    older = repository.run(900)
    suspect = [repository.run(day, hold=["suspect"]) for day in range(30)]
    plan = repository.plan()
    assert clean not in removed(plan)
    assert older not in removed(plan), "the rules reach back from the last clean run, not from the encrypted ones"
    assert not removed(plan) & set(suspect)
    assert plan.clean["documents"].run == clean


def test_a_held_run_never_takes_a_sound_ones_place(repository):
    """Encrypted in the evening: the morning's run is the one of that day."""
    repository.run(0)
    morning, evening = repository.run(3.4), repository.run(3.1, hold=["suspect"])
    plan = repository.plan()
    assert morning not in removed(plan)
    assert evening not in removed(plan)
    assert plan.kept["documents"] == {"daily": 3}


def test_held_runs_go_by_the_same_rules(repository):
    repository.run(0)
    first, second = repository.run(5.3, hold=["suspect"]), repository.run(5.1, hold=["suspect"])
    ancient = repository.run(4 * 365, hold=["suspect"])
    assert removed(repository.plan()) == {first, ancient}
    assert second


def test_a_held_run_beyond_all_rules_goes_also_when_it_is_the_last_held_one(repository):
    repository.run(0)
    ancient = repository.run(4 * 365, hold=["suspect"])
    assert removed(repository.plan()) == {ancient}


def test_a_job_without_a_clean_run_loses_nothing(repository):
    for day in range(5):
        repository.run(day / 10, hold=["suspect"])
    plan = repository.plan()
    assert (plan.ids, plan.clean) == ([], {})


def test_after_an_unclean_boot_nothing_rotates_until_the_database_is_found_sound(repository):
    for turn in range(4):
        repository.run(3 + turn / 10, job="clinic")
        repository.run(3 + turn / 10)
    repository.run(0, job="clinic", hold=["unclean-boot"])
    repository.run(0)
    plan = repository.plan(CLINIC, DOCUMENTS)
    assert {run.job for run in plan.remove} == {"documents"}
    assert "found sound" in plan.frozen["clinic"]
    repository.run(-0.01, job="clinic")
    after = repository.plan(CLINIC, DOCUMENTS)
    assert {run.job for run in after.remove} == {"clinic", "documents"}
    assert after.frozen == {}


def test_a_job_that_is_frozen_loses_nothing(repository):
    for turn in range(4):
        repository.run(turn / 10)
    assert removed(repository.plan())
    plan = repository.plan(replace(DOCUMENTS, frozen="its host does not answer"))
    assert (plan.ids, plan.frozen) == ([], {"documents": "its host does not answer"})


def test_what_an_unfinished_run_left_goes_after_a_month(repository):
    new, old = repository.run(29, parts=("files",)), repository.run(31, parts=("files",))
    repository.run(0)
    assert removed(repository.plan()) == {old}
    assert new


def test_unfinished_runs_alone_lose_nothing(repository):
    """All there is of a job whose runs never came to their end may be what somebody needs."""
    for days in (40, 50, 60):
        repository.run(days, parts=("files",))
    assert repository.plan().ids == []


def test_snapshots_of_no_job_are_left_alone(repository):
    repository.run(0)
    repository.store(NOW - 500 * DAY_S, [])
    repository.store(NOW - 500 * DAY_S, ["practice=harbour-street", "job=gone", "run=R", "part=files"])
    plan = repository.plan()
    assert (plan.ids, len(plan.strays), codes(plan)) == ([], 2, [])


# --- doubts ----------------------------------------------------------------------------------------------------------


def forged(repository, **facts):
    for turn in range(3):
        repository.run(1 + turn / 10)
    repository.run(0)
    name = repository.store(NOW, ["practice=harbour-street", "job=documents", "run=F", "part=oracle"], **facts)
    assert removed(repository.plan()), "there is something to remove, or the doubt would stop nothing"
    return name


DOUBTS = {
    "future_snapshots": {"claimed": NOW + 9 * 365 * DAY_S},
    "past_snapshots": {"claimed": NOW - 3 * DAY_S},
    "foreign_snapshots": {"host": "server9"},
}


@pytest.mark.parametrize("code", DOUBTS)
def test_a_forged_snapshot_stops_everything_until_somebody_has_looked(repository, code):
    name = forged(repository, **DOUBTS[code])
    plan = repository.plan()
    assert codes(plan) == [code]
    assert plan.doubts[0].ids == (name,)
    assert plan.doubts[0].snapshots
    assert name[:8] in plan.doubts[0].message
    cleared = repository.plan(accepted=[name[:8]])
    assert (codes(cleared), len(removed(cleared))) == ([], 2)
    assert name not in cleared.ids


def test_a_forged_snapshot_is_no_run(repository):
    """Accepted, it still takes nobody's place: it claims to be the newest there is, and it is not."""
    name = forged(repository, claimed=NOW + 9 * 365 * DAY_S)
    assert repository.plan(accepted=[name[:8]]).clean["documents"].run != "F"


@pytest.mark.parametrize("slack", [200, 47 * 3600])
def test_a_clock_that_is_a_little_wrong_and_a_slow_line_are_no_forgery(repository, slack):
    repository.store(NOW, [], claimed=NOW + 200 if slack == 200 else NOW - slack)
    assert codes(repository.plan()) == []


def test_a_snapshot_that_restic_does_not_list_stops_everything(repository):
    repository.run(0)
    repository.arrivals["f" * 64] = NOW - DAY_S
    plan = repository.plan()
    assert (codes(plan), plan.doubts[0].snapshots) == (["unreadable_snapshots"], False)
    assert codes(repository.plan(accepted=["f" * 64])) == []


def test_a_snapshot_without_an_arrival_stops_everything(repository):
    repository.run(0)
    repository.arrivals.clear()
    assert codes(repository.plan()) == ["arrivals_unknown"]


def test_two_snapshots_for_one_part_stop_everything(repository):
    name = repository.run(0)
    repository.store(NOW, ["practice=harbour-street", "job=documents", f"run={name}", "part=files"])
    plan = repository.plan()
    assert codes(plan) == ["same_part_twice"]
    assert len(plan.doubts[0].ids) == 2
    assert codes(repository.plan(accepted=[plan.doubts[0].ids[1]])) == []


def test_a_key_that_nobody_knows_stops_everything(repository):
    repository.run(0)
    repository.keys["b" * 64] = NOW
    plan = repository.plan()
    assert (codes(plan), plan.doubts[0].ids) == (["unknown_keys"], ("b" * 64,))
    assert codes(repository.plan(known_keys=[KEY])) == ["unknown_keys"]
    assert codes(repository.plan(known_keys=[KEY, "b" * 64])) == []
    assert codes(repository.plan(accepted=["b" * 8])) == []


def test_the_first_maintenance_knows_the_oldest_key(repository):
    """Its ids are random: it is the arrival that tells which one the host made."""
    repository.run(0)
    repository.keys = {"f" * 64: NOW - 100 * DAY_S, "0" * 64: NOW}
    assert repository.plan().doubts[0].ids == ("0" * 64,)


def test_too_many_runs_of_a_day_stop_everything(repository):
    for turn in range(49):
        repository.run(2 + turn / 1000)
    repository.run(0)
    plan = repository.plan()
    assert codes(plan) == ["too_many_runs"]
    assert "49 runs of documents arrived on 2026-11-24; expected at most 48" in plan.doubts[0].message
    assert codes(repository.plan(accepted=plan.doubts[0].ids)) == []
    assert codes(repository.plan(replace(DOCUMENTS, interval_s=3600))) == [], "four times what its schedule asks for"


def test_the_day_of_too_many_runs_is_the_practices_own(repository):
    """Around midnight in UTC they are of two days, in Sydney of one."""
    midnight = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
    for turn in range(50):
        repository.run((NOW - midnight - (turn - 25) * 60) / DAY_S)
    repository.run(0)
    assert codes(repository.plan()) == []
    assert codes(repository.plan(rules=Rules(WITHIN, ZoneInfo("Australia/Sydney")))) == ["too_many_runs"]


@pytest.mark.parametrize(
    ("part", "facts", "words"),
    [
        ("files", {"files": 40}, "has 40 files, those before it 100"),
        ("files", {"size": 20 << 20}, f"has {20 << 20} bytes of files"),
        ("database", {"size": 20 << 20}, f"has {20 << 20} bytes of its database"),
    ],
)
def test_a_newest_run_that_is_much_smaller_stops_everything(repository, part, facts, words):
    for day in range(4, 0, -1):
        repository.run(day, parts=(part, "oracle"))
        repository.run(day + 0.1, parts=(part, "oracle"))
    repository.run(0, parts=(part, "oracle"), **facts)
    plan = repository.plan()
    assert codes(plan) == ["shrunk"]
    assert words in plan.doubts[0].message
    assert codes(repository.plan(accepted=plan.doubts[0].ids)) == []


def test_after_a_smaller_run_was_accepted_it_is_what_counts(repository):
    """A practice that moved its archive away is not asked every week."""
    for day in (9, 8, 7, 6):
        repository.run(day)
    repository.run(5, files=30)
    accepted = repository.plan().doubts[0].ids
    repository.run(4, files=31)
    assert codes(repository.plan(accepted=accepted)) == []
    assert codes(repository.plan()) == ["shrunk"], "it is the acceptance that makes the difference"
    for day in (3, 2):
        repository.run(day, files=31)
    repository.run(1, files=10)
    assert codes(repository.plan(accepted=accepted)) == ["shrunk"]


@pytest.mark.parametrize(("before", "files"), [(2, 1), (5, 60)])
def test_a_young_job_and_a_little_less_are_no_doubt(repository, before, files):
    for day in range(before, 0, -1):
        repository.run(day)
    repository.run(0, files=files)
    assert codes(repository.plan()) == []


def test_a_held_run_is_not_asked_for_its_size(repository):
    """It is held already, and takes nobody's place."""
    for day in range(5, 0, -1):
        repository.run(day)
    repository.run(0, files=1, hold=["suspect"])
    assert codes(repository.plan()) == []


def test_several_doubts_are_told_together(repository):
    name = forged(repository, claimed=NOW + 9 * 365 * DAY_S)
    repository.keys["b" * 64] = NOW
    assert codes(repository.plan()) == ["future_snapshots", "unknown_keys"]
    assert codes(repository.plan(accepted=[name])) == ["unknown_keys"]
