# SPDX-License-Identifier: Apache-2.0
"""When a battery is tested, what came of it, and when it is overdue."""

from __future__ import annotations

import datetime
import zoneinfo

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import ups_test

D = 86400.0
T = 20_000 * D
HOURS = {"mon-fri": "08:00-18:30", "sat": "09:00-12:00"}
SYDNEY = "Australia/Sydney"


def at(text):
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(SYDNEY)).timestamp()


@pytest.mark.parametrize(
    ("offered", "command"),
    [
        (["load.off", "test.battery.start.deep"], None),
        (["test.battery.start", "test.battery.start.deep"], "test.battery.start"),
        (["test.battery.start", "test.battery.start.quick"], "test.battery.start.quick"),
        ([], None),
    ],
)
def test_a_deep_test_is_never_chosen(offered, command):
    assert ups_test.command_of(offered) == command


@pytest.mark.parametrize(
    ("hours", "now", "is_open"),
    [
        (HOURS, "2026-11-26 12:00", True),  # a Thursday
        (HOURS, "2026-11-26 07:29", False),
        (HOURS, "2026-11-26 07:30", True),
        (HOURS, "2026-11-26 18:30", True),
        (HOURS, "2026-11-26 18:31", False),
        (HOURS, "2026-11-28 11:00", True),  # a Saturday
        (HOURS, "2026-11-28 13:00", False),
        (HOURS, "2026-11-29 12:00", False),
        ({"sat-mon": "08:00-09:00"}, "2026-11-29 08:30", True),
        ({}, "2026-11-26 19:59", True),
        ({}, "2026-11-26 20:00", False),
        ({}, "2026-11-26 23:30", True),
    ],
)
def test_opening_hours(hours, now, is_open):
    assert ups_test.open_at(hours, SYDNEY, at(now)) is is_open


FULL = {"ups.status": "OL", "battery.charge": "100", "battery.runtime": "600"}


@pytest.mark.parametrize(
    ("variables", "now", "outage", "why"),
    [
        (FULL, "2026-11-26 22:00", None, None),
        ({"ups.status": "OL"}, "2026-11-26 22:00", None, None),
        (FULL, "2026-11-26 12:00", None, "open"),
        ({**FULL, "ups.status": "OB DISCHRG"}, "2026-11-26 22:00", None, "on mains only"),
        ({}, "2026-11-26 22:00", None, "says nothing"),
        ({**FULL, "ups.status": "OL RB"}, "2026-11-26 22:00", None, "mended first"),
        ({**FULL, "ups.status": "OL FSD"}, "2026-11-26 22:00", None, "mended first"),
        ({**FULL, "ups.status": "OL CAL"}, "2026-11-26 22:00", None, "mended first"),
        ({**FULL, "battery.charge": "89"}, "2026-11-26 22:00", None, "89 %"),
        (FULL, "2026-11-26 22:00", 3599, "within the last hour"),
        (FULL, "2026-11-26 22:00", 3600, None),
    ],
)
def test_why_no_test_begins(variables, now, outage, why):
    last = None if outage is None else at(now) - outage
    said = ups_test.refusal(variables, HOURS, SYDNEY, last, at(now))
    assert said is None if why is None else why in said


def record(days_ago, verdict="PASS"):
    began = T - days_ago * D
    return {
        "started": began,
        "ended": began + 10,
        "verdict": verdict,
        "result": "said",
        "runtime_s": 500,
        "runtime_before_s": 600,
    }


@pytest.mark.parametrize(
    ("test", "due"),
    [
        ({}, True),
        ({"tests": [record(29)]}, False),
        ({"tests": [record(30)]}, True),
        ({"tests": [record(90), record(5, "FAIL")]}, False),
        ({"tried": T - 5 * 3600}, False),
        ({"tried": T - 6 * 3600}, True),
        ({"tried": T + 5 * 3600}, True),  # the clock went back
    ],
)
def test_when_it_is_due(test, due):
    assert ups_test.due(test, 30 * D, T) is due


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        ("Done and passed", "PASS"),
        ("OK", "PASS"),
        ("Battery GOOD", "PASS"),
        ("Done and warning", "FAIL"),
        ("Done and error", "FAIL"),
        ("Aborted", "FAIL"),
        ("Battery BAD", "FAIL"),
        ("In progress", None),
        ("No test initiated", "UNSURE"),
        ("", "UNSURE"),
        (None, "UNSURE"),
    ],
)
def test_words_of_a_result(result, verdict):
    assert ups_test.judge(result) == verdict


def follow(*looks, before="No test initiated"):
    """Play looks: (seconds, status, result, more); returns the record, or None while it runs."""
    start = {**FULL, **({"ups.test.result": before} if before is not None else {})}
    running = ups_test.begin(start, T)
    for seconds, status, result, more in looks:
        variables = None if status is None else {**FULL, **more, "ups.status": status}
        if variables is not None and result is not None:
            variables["ups.test.result"] = result
        running, done = ups_test.follow(running, variables, T + seconds)
        if done:
            return done
    return None


def test_a_test_that_passes_is_kept_with_what_was_measured():
    done = follow(
        (5, "OL DISCHRG", "In progress", {"battery.runtime": "580", "battery.charge": "97"}),
        (10, "OL DISCHRG", "In progress", {"battery.runtime": "560", "battery.charge": "95"}),
        (15, "OL CHRG", "Done and passed", {"battery.runtime": "570", "battery.charge": "95"}),
    )
    assert (done["verdict"], done["result"], done["runtime_s"], done["charge_after"]) == (
        "PASS",
        "Done and passed",
        560,
        95,
    )
    assert (done["runtime_before_s"], done["charge_before"], done["on_battery_s"]) == (600, 100, 10)


@pytest.mark.parametrize(
    ("looks", "before", "verdict"),
    [
        ([(5, "OL", "No test initiated", {})], "No test initiated", None),
        # the result of the last test stands until this one has said something
        ([(5, "OL", "Done and passed", {})], "Done and passed", None),
        ([(5, "OL", "Done and passed", {}), (21, "OL", "Done and passed", {})], "Done and passed", "PASS"),
        ([(5, "OB", "Done and passed", {})], "Done and passed", None),
        ([(5, "OB", "Done and passed", {}), (9, "OL", "Done and passed", {})], "Done and passed", "PASS"),
        ([(5, "OL DISCHRG", "In progress", {}), (9, "OL RB", "Done and passed", {})], "x", "FAIL"),
        ([(5, "OL DISCHRG", "In progress", {}), (9, "OL", "Aborted", {})], "x", "FAIL"),
        ([(5, "OB", None, {}), (9, "OL", None, {})], None, "UNSURE"),  # the UPS has no word for it
        ([(5, "OL", "In progress", {}), (601, "OL", "In progress", {})], "x", "UNSURE"),
        ([(5, None, None, {}), (601, None, None, {})], "x", "UNSURE"),
    ],
)
def test_how_a_test_ends(looks, before, verdict):
    done = follow(*looks, before=before)
    assert (done and done["verdict"]) == verdict


@pytest.mark.parametrize(
    ("test", "every_s", "state"),
    [
        ({"first_seen": T}, None, "OK"),
        ({"first_seen": T - 400 * D}, None, "OK"),
        ({"first_seen": T}, 30 * D, "OK"),
        ({"first_seen": T - 33 * D}, 30 * D, "OK"),
        ({"first_seen": T - 34 * D}, 30 * D, "OVERDUE"),
        ({"first_seen": T - 400 * D, "tests": [record(20)]}, 30 * D, "OK"),
        ({"first_seen": T - 400 * D, "tests": [record(34)]}, 30 * D, "OVERDUE"),
        # what tells nothing does not count as tested
        ({"first_seen": T - 400 * D, "tests": [record(34), record(1, "UNSURE")]}, 30 * D, "OVERDUE"),
        ({"first_seen": T - 400 * D, "tests": [record(20), record(1, "FAIL")]}, 30 * D, "FAILED"),
        ({"first_seen": T - 400 * D, "tests": [record(1, "FAIL"), record(0)]}, 30 * D, "OK"),
    ],
)
def test_how_the_promise_of_tests_is_kept(test, every_s, state):
    assert ups_test.standing(test, every_s, T, FULL).state == state
