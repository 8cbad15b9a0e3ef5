# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  (the tables read across)
"""Plans that cannot be carried out are refused with the numbers; what is not known is never called good."""

from __future__ import annotations

import re

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import available, check, feasibility, rules, source
from ansible_collections.holdfast.practice.plugins.plugin_utils.feasibility_plan import (
    rate_words,
    size_words,
    time_words,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View

GOOD = """\
practice: {id: hs, name: HS, country: AU, timezone: Australia/Sydney, location: [-33.86, 151.21]}
contacts: {backup_owner: {name: Robin, email: manager@hs.example}}
hours: {mon-fri: "08:00-18:30"}
objectives: {rpo: 24h, rto: 4h}
hosts:
  nas1: {kind: nas, address: 198.18.0.11, pool: {profile: raid1, devices: [/dev/disk/by-id/ata-1, /dev/disk/by-id/ata-2], capacity: 4TiB}}
  server1: {kind: server, address: 198.18.0.12, quota: 3TiB, protect: [clinical_db, images]}
  proof1: {kind: restore_host, space: 3TiB}
protect:
  clinical_db: {database: {engine: postgresql, name: clinic}, class: critical, size: 20GiB, daily_change: 200MiB}
  images: {paths: [/srv/clinic/images], size: 1000GiB, daily_change: 1GiB, every: 24h, time_limit: 10h}
copies:
  onsite: {on: nas1}
  offsite: {s3: {bucket: hs-copies, region: ap-southeast-4}}
line: {up: 40Mbit/s, down: 100Mbit/s, monthly: 2TiB}
"""


def document(text: str) -> source.Document:
    read, problems = source.parse(text.encode(), "practice.yml")
    assert read is not None
    assert problems == []
    return read


@pytest.fixture(autouse=True)
def everything_is_available(monkeypatch):
    """Judge what later versions will do as well: only the table of what is missing is set aside."""
    monkeypatch.setattr(available, "LATER", ())


def practice(text: str) -> Practice:
    found, problems = check.check(document(text))
    assert [str(problem) for problem in problems] == []
    assert found is not None
    return found


def view(text: str) -> View:
    return View.of(document(text), practice(text))


def figure(text: str, name: str, survey=None) -> feasibility.Figure:
    found = [each for each in feasibility.figures(practice(text), survey) if each.name == name]
    assert len(found) == 1
    return found[0]


def test_the_good_plan_is_good():
    states = {each.name: each.state for each in feasibility.figures(practice(GOOD))}
    assert set(states.values()) <= {"ok", "tight"}
    assert states["first upload offsite"] == "ok"
    assert states["place of the offsite copy"] == "ok"
    assert "711 km away" in figure(GOOD, "place of the offsite copy").value


# edit, what the message says
IMPOSSIBLE = {
    "first upload": (
        [("up: 40Mbit/s", "up: 2Mbit/s")],
        (
            "practice.yml:14: copies.offsite: the first upload of 1020GiB takes 51 days over 2Mbit/s; expected at most 30 days; "
            "write a faster line.up, first_copy: disk (and carry it there), or protect less"
        ),
    ),
    "first upload in a window": (
        [("region: ap-southeast-4}", 'region: ap-southeast-4}, window: "21:00-22:00"')],
        "copies.offsite: the first upload of 1020GiB takes 61 days over 40Mbit/s in the window 21:00-22:00; expected at most 30 days",
    ),
    "first upload by the limit": (
        [("region: ap-southeast-4}", "region: ap-southeast-4}, limit_up: 1Mbit/s")],
        "copies.offsite: the first upload of 1020GiB takes 14 weeks over 1Mbit/s; expected at most 30 days",
    ),
    "first upload by the month": (
        [("monthly: 2TiB", "monthly: 100GiB")],
        "copies.offsite: the first upload of 1020GiB takes 44 weeks at 100GiB a month (line.monthly); expected at most 30 days",
    ),
    "a day's change": (
        [
            ("daily_change: 1GiB", "daily_change: 20GiB"),
            ("region: ap-southeast-4}", 'region: ap-southeast-4}, first_copy: disk, window: "22:00-23:00"'),
            ("capacity: 4TiB", "capacity: 40TiB"),
            ("quota: 3TiB", "quota: 30TiB"),
        ],
        "copies.offsite.window: a day's change of 20GiB takes 72 minutes over 40Mbit/s; expected at most the 60 minutes of the window",
    ),
    "a month's change": (
        [("monthly: 2TiB", "monthly: 20GiB"), ("region: ap-southeast-4}", "region: ap-southeast-4}, first_copy: disk")],
        "line.monthly: got 20GiB, but 1.2GiB change in a day: 36GiB in a month; expected at least 36GiB",
    ),
    "restore over the line": (
        [("down: 100Mbit/s", "down: 5Mbit/s")],
        (
            "objectives.rto: got 4h, but bringing 20GiB of critical items back over 5Mbit/s takes 9.5 hours; expected a restore "
            "within it when the onsite copy is lost too; write how long that may take as objectives.rto_offsite"
        ),
    ),
    "restore over the line, longer": (
        [("down: 100Mbit/s", "down: 5Mbit/s"), ("rto: 4h", "rto: 4h, rto_offsite: 5h")],
        "objectives.rto_offsite: got 5h, but bringing 20GiB of critical items back over 5Mbit/s takes 9.5 hours",
    ),
    "restore in the house": (
        [
            ("size: 1000GiB", "size: 2000GiB"),
            ("rto: 4h", "rto: 20m, rto_offsite: 4h"),
            ("capacity: 4TiB", "capacity: 9TiB"),
        ],
        "objectives.rto: got 20m, but restoring 2TiB of images takes at least 33 minutes; expected a restore of each item",
    ),
    "growth": (
        [("capacity: 4TiB", "capacity: 1100GiB")],
        (
            "hosts.nas1.pool.capacity: got 1100GiB (pool.capacity), full after 67 days: 1020GiB and 1.2GiB more a day; "
            "expected at least 1.4TiB, for a year ahead: nothing is pruned in this version"
        ),
    ),
    "too small from the start": (
        [("capacity: 4TiB", "capacity: 500GiB")],
        "hosts.nas1.pool.capacity: got 500GiB (pool.capacity), too small for the first backups",
    ),
    "quota": (
        [("quota: 3TiB", "quota: 1TiB")],
        "hosts.server1.quota: got 1TiB, but 1020GiB and 1.2GiB a day come to 1.4TiB in a year; expected at least 1.4TiB",
    ),
    "restore space": (
        [("space: 3TiB", "space: 500GiB")],
        "hosts.proof1.space: got room of 500GiB, but restoring images takes 1000GiB; expected at least 1000GiB",
    ),
    "restore space of a database": (
        [("space: 3TiB", "space: 1100GiB"), ("size: 20GiB", "size: 700GiB"), ("rto: 4h", "rto: 4h, rto_offsite: 3d")],
        "hosts.proof1.space: got room of 1100GiB, but restoring clinical_db takes 1.4TiB, as a dump and loaded",
    ),
    "runs": (
        [
            ("class: critical, size: 20GiB", "class: critical, every: 1h, size: 5TiB"),
            ("space: 3TiB", "space: 30TiB"),
            ("4TiB", "40TiB"),
            ("quota: 3TiB", "quota: 30TiB"),
            ("rto: 4h", "rto: 24h, rto_offsite: 9d"),
            ("region: ap-southeast-4}", "region: ap-southeast-4}, first_copy: disk"),
        ],
        "protect.clinical_db: a run takes at least 85 minutes for 5TiB; expected at most the time to the next (every 1h); back up less often",
    ),
    "time limit": (
        [("time_limit: 10h", "time_limit: 10m")],
        "protect.images: a run takes at least 17 minutes for 1000GiB; expected at most the time_limit (10 minutes); write a longer time_limit than 17 minutes",
    ),
    "rto_offsite alone": (
        [
            ("rto: 4h", "rto: 4h, rto_offsite: 3d"),
            ("  offsite: {s3: {bucket: hs-copies, region: ap-southeast-4}}\n", ""),
        ],
        "objectives.rto_offsite: there is no copies.offsite that could be restored from; expected copies.offsite: beside it; leave rto_offsite out",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_plans_are_refused_with_the_numbers(name):
    edits, wanted = IMPOSSIBLE[name]
    text = GOOD
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    said = [str(problem) for problem in check.check(document(text))[1]]
    assert [each for each in said if wanted in each], said


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_each_of_them_alone(name):
    """A plan that is wrong in one way is told that one thing: the other checks do not repeat it in their words."""
    text = GOOD
    for old, new in IMPOSSIBLE[name][0]:
        text = text.replace(old, new)
    problems = check.check(document(text))[1]
    assert len(problems) == 1, [str(problem) for problem in problems]


def test_a_document_without_sizes_is_not_called_good():
    text = "".join(
        line.replace(", size: 20GiB, daily_change: 200MiB", "").replace(", size: 1000GiB, daily_change: 1GiB", "")
        for line in GOOD.splitlines(True)
    )
    assert check.check(document(text))[1] == []
    found = {each.name: each for each in feasibility.figures(practice(text))}
    for name in (
        "data to protect",
        "first upload offsite",
        "a day's change offsite",
        "room on nas1 for a year",
        "quota of server1",
    ):
        assert found[name].state == "not known", name
        assert "run playbooks/survey.yml" in found[name].value


def test_a_part_that_is_not_known_makes_a_lower_bound():
    text = GOOD.replace(", size: 20GiB", "")
    assert figure(text, "first upload offsite").state == "not known"
    assert "at least 1000GiB" in figure(text, "first upload offsite").value
    said = [str(problem) for problem in check.check(document(text.replace("up: 40Mbit/s", "up: 1Mbit/s")))[1]]
    assert any("the first upload of at least 1000GiB takes 14 weeks" in each for each in said)


def test_what_was_measured_beats_what_is_declared():
    survey = {
        "hosts": {"server1": {"items": {"images": {"bytes": 3 * 2**40, "changed_bytes_per_day": 2**30}}}},
        "items": {"clinical_db": {"bytes": 10 * 2**30, "changed_bytes_per_day": 2**20}},
        "line": {"up_bits_per_s": None, "down_bits_per_s": None, "measured": False},
    }
    said = [str(problem) for problem in feasibility.problems_measured(view(GOOD), survey)]
    assert any(
        "hosts.server1.quota: got 3TiB, but 3TiB and 1.0" in each or "hosts.server1.quota: got 3TiB" in each
        for each in said
    )
    assert any("hosts.proof1.space: got room of 3TiB, but restoring images takes 3TiB" in each for each in said)
    data = figure(GOOD, "data to protect", survey)
    assert data.state == "tight"
    assert "images has 3TiB, the document says 1000GiB" in data.value
    assert feasibility.problems_measured(view(GOOD), None) == []


def test_a_measured_line_pool_disk_and_run():
    survey = {
        "hosts": {
            "nas1": {"pool": {"bytes": 2**40, "free": 2**39}, "link_bits_per_s": 10**9},
            "server1": {"link_bits_per_s": 10**8, "runs": {"clinical_db": {"seconds": 5 * 3600}}},
            "proof1": {"restore": {"free": 100 * 2**30}},
        },
        "line": {"up_bits_per_s": 1e6, "down_bits_per_s": 1e6, "measured": True},
    }
    said = {problem.path: str(problem) for problem in feasibility.problems_measured(view(GOOD), survey)}
    assert "over 1Mbit/s" in said["copies.offsite"]
    # a measured link of 100Mbit/s is a fact: images cannot come back in four hours
    assert "restoring 1000GiB of images takes at least 24 hours" in said["objectives.rto"]
    assert "got 1TiB, full after" in said["hosts.nas1.pool"]
    assert "the last run took 5 hours, longer than the time to the next (every 4h)" in said["protect.clinical_db"]
    assert "got room of 100GiB" in said["hosts.proof1.space"]


def test_an_assumption_alone_never_refuses():
    text = GOOD.replace("rto: 4h", "rto: 2h")  # 2.4 hours at the assumed rate, 17 minutes at the best
    found = figure(text, "restore in the house")
    assert (found.state, found.source, found.refusal) == ("tight", "assumed", None)


@pytest.mark.parametrize(
    "survey",
    [
        {"hosts": [], "items": "x"},
        {"hosts": {"server1": None}, "items": {"images": {"bytes": "many"}}, "line": 3},
        {
            "items": {"images": {"bytes": True}, "clinical_db": {"bytes": -1}},
            "line": {"measured": "yes", "up_bits_per_s": []},
        },
        {"items": {"images": {"bytes": float("nan")}}},
    ],
)
def test_a_survey_that_makes_no_sense_counts_as_nothing(survey):
    assert feasibility.figures(practice(GOOD), survey) == feasibility.figures(practice(GOOD))
    assert feasibility.problems_measured(view(GOOD), survey) == []


def test_a_disk_that_is_carried_counts():
    text = GOOD.replace("up: 40Mbit/s", "up: 2Mbit/s").replace(
        "region: ap-southeast-4}", "region: ap-southeast-4}, first_copy: disk"
    )
    assert check.check(document(text))[1] == []
    assert figure(text, "first upload offsite").value == "carried there on a disk"


def test_without_an_offsite_copy_nothing_is_promised():
    text = GOOD.replace("  offsite: {s3: {bucket: hs-copies, region: ap-southeast-4}}\n", "")
    found = figure(text, "first upload offsite")
    assert found.state == "not planned"
    assert "it would take 2.5 days" in found.value
    assert not [
        each
        for each in feasibility.figures(practice(text))
        if each.name in ("restore over the line", "place of the offsite copy")
    ]


def test_a_copy_that_runs_into_opening_hours_is_tight():
    text = (
        GOOD.replace("daily_change: 1GiB", "daily_change: 200GiB")
        .replace("4TiB", "400TiB")
        .replace("quota: 3TiB, ", "")
        .replace("2TiB", "20TiB")
    )
    found = figure(text, "a day's change offsite")
    assert found.state == "tight"
    assert "begins at 23:00 and runs into opening hours" in found.value


def test_an_item_on_two_hosts_counts_twice():
    text = GOOD.replace("  proof1", "  desk1: {kind: workstation, address: 198.18.0.13, protect: [images]}\n  proof1")
    assert "2TiB" in figure(text, "data to protect").value


def test_the_rules_are_asked(monkeypatch):
    asked = []
    monkeypatch.setattr(feasibility, "RULES", (lambda view: asked.append(view) or iter(()),))
    plain = re.sub(r", (size|daily_change): \w+|, rto_offsite: \w+", "", GOOD)
    for text, times in ((plain, 0), (GOOD, 1), (plain.replace("rto: 4h", "rto: 4h, rto_offsite: 3d"), 1)):
        asked.clear()
        list(rules.feasible(View.of(document(text), None)))
        assert len(asked) == times
    assert rules.feasible in rules.RULES


@pytest.mark.parametrize(
    ("words", "value", "wanted"),
    [
        (size_words, 900, "900 bytes"),
        (size_words, 1536, "1.5KiB"),
        (size_words, 2**40 * 1.2, "1.2TiB"),
        (size_words, 340 * 2**30, "340GiB"),
        (time_words, 0, "1 second"),
        (time_words, 45, "45 seconds"),
        (time_words, 600, "10 minutes"),
        (time_words, 26 * 3600, "26 hours"),
        (time_words, 61 * 86400, "61 days"),
        (time_words, 270 * 86400, "39 weeks"),
        (time_words, 1100 * 86400, "3 years"),
        (rate_words, 2e6, "2Mbit/s"),
        (rate_words, 1.5e9, "1.5Gbit/s"),
        (rate_words, 300, "300bit/s"),
    ],
)
def test_amounts_are_written_for_people(words, value, wanted):
    assert words(value) == wanted


def test_a_week_seen_refuses_three_months_ahead_and_warns_of_a_year():
    def survey(change):
        parts = {"clinical_db": {"bytes": 20 * 2**30, "changed_bytes_per_day": 0}}
        parts["images"] = {"bytes": 1000 * 2**30, "changed_bytes_per_day": change * 2**30}
        return {"hosts": {"nas1": {"pool": {"bytes": 2 * 2**40, "free": 2 * 2**40}}}, "items": parts}

    text = GOOD.replace("quota: 3TiB, ", "")
    assert figure(text, "room on nas1 for a year", survey(1)).state == "ok"
    warned = figure(text, "room on nas1 for a year", survey(5))
    assert (warned.state, warned.refusal) == ("tight", None)
    assert "2.8TiB of 2TiB" in warned.value
    assert "full in 29 weeks" in warned.value
    said = {problem.path: str(problem) for problem in feasibility.problems_measured(view(text), survey(20))}
    assert "expected at least 2.8TiB, for 90 days ahead" in said["hosts.nas1.pool"]


def test_a_change_that_nobody_knows_is_said():
    found = figure(GOOD.replace(", daily_change: 1GiB", ""), "room on nas1 for a year")
    assert found.state == "not known"
    assert "not known: change of images" in found.value
