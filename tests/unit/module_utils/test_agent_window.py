"""Windows and rates follow the practice's own clock, also on the nights when it changes."""

from __future__ import annotations

import datetime
import os
import zoneinfo

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_job, agent_window
from ansible_collections.holdfast.practice.plugins.module_utils.agent_window import Hours

NIGHT = Hours("Australia/Sydney", "20:00-06:00")


def at(text, zone="Australia/Sydney", fold=0):
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        ("20:00-06:00", "2026-11-21T20:00", True),
        ("20:00-06:00", "2026-11-22T05:59:59", True),
        ("20:00-06:00", "2026-11-22T06:00", False),
        ("20:00-06:00", "2026-11-22T19:59:59", False),
        ("12:00-14:00", "2026-11-22T13:00", True),
        ("12:00-14:00", "2026-11-22T02:00", False),
        ("20:00-00:00", "2026-11-22T23:59", True),
        (None, "2026-11-22T12:00", True),
        ("20:00-02:30", "2027-10-03T03:00", False),  # 02:00 to 03:00 is skipped: the window ends with it
        ("20:00-02:30", "2027-10-03T01:59", True),
    ],
)
def test_a_moment_is_in_the_window_or_not(window, moment, inside):
    assert Hours("Australia/Sydney", window).inside(at(moment)) is inside


def test_a_repeated_hour_belongs_to_the_window_both_times():
    assert [NIGHT.inside(at("2027-04-04T02:30", fold=fold)) for fold in (0, 1)] == [True, True]
    assert at("2027-04-04T02:30", fold=1) - at("2027-04-04T02:30") == 3600


@pytest.mark.parametrize(
    ("hours", "moment", "rate"),
    [
        (Hours("Australia/Sydney"), "2026-11-22T12:00", None),
        (Hours("Australia/Sydney", limits={"08:00-18:00": 2_000_000}), "2026-11-22T12:00", 250_000),
        (Hours("Australia/Sydney", limits={"08:00-18:00": 2_000_000}), "2026-11-22T18:00", None),
        (Hours("Australia/Sydney", limits={"08:00-18:00": 2_000_000, "12:00-13:00": 800_000}), "2026-11-22T12:30", 100_000),
        (Hours("Australia/Sydney", "20:00-06:00", "throttle", 1_000_000), "2026-11-22T12:00", 125_000),
        (Hours("Australia/Sydney", "20:00-06:00", "throttle", 1_000_000), "2026-11-22T21:00", None),
    ],
)  # fmt: skip
def test_the_lowest_rate_in_force_counts(hours, moment, rate):
    assert hours.rate(at(moment)) == rate


def test_a_window_defers_a_start_and_its_end_stops_the_run_by_name():
    now = [at("2026-11-22T12:00")]
    gate = agent_window.gate("documents", NIGHT, lambda: now[0])
    answer = gate.begin()
    assert (answer.code, answer.retry, "20:00-06:00" in answer.message) == ("outside_window", True, True)
    now[0] = at("2026-11-22T20:00")
    assert (gate.begin(), gate.go_on()) == (None, None)
    now[0] = at("2026-11-23T06:00")
    answer = gate.go_on()
    assert (answer.code, answer.retry, "20:00-06:00" in answer.message) == ("window_ended", False, True)


def test_a_run_that_goes_on_says_so_once(capfdbinary):
    now = [at("2026-11-23T06:00")]
    hours = Hours("Australia/Sydney", "20:00-06:00", "throttle", 1_500_000)
    gate = agent_window.gate("documents", hours, lambda: now[0])
    assert [gate.go_on() for _ in range(3)] == [None] * 3
    said = capfdbinary.readouterr().out.decode()
    assert said == "documents: the window 20:00-06:00 ended; goes on at 1.5 Mbit/s\n"


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({"window": "20:00"}, "window '20:00'"),
        ({"window": "20:00-20:00"}, "window '20:00-20:00'"),
        ({"window": "20:00-25:00"}, "window '20:00-25:00'"),
        ({"window": "20:00-06:00", "timezone": "Australia/Sidney"}, "install tzdata"),
        ({"limits": {"x": 5}}, "window 'x'"),
        ({"limits": {"08:00-18:00": "2M"}}, "bits a second"),
        ({"limits": {"08:00-18:00": 0}}, "bits a second"),
        ({"limits": [1]}, "bits a second"),
        ({"throttle": 5}, "throttle wants"),
        ({"window": "20:00-06:00", "at_window_end": "throttle"}, "throttle wants"),
        ({"at_window_end": "stop"}, "want a window"),
        ({"window": "20:00-06:00", "at_window_end": "kill"}, "at_window_end 'kill'"),
        ({"nice": 20}, "nice 20"),
        ({"io_class": "realtime"}, "io_class 'realtime'"),
        ({"dump_limit_s": -1}, "dump_limit_s -1"),
    ],
)
def test_wrong_hours_are_refused(job, says):
    good = {
        "schema": 1, "practice": "p", "host": "h", "name": "j", "item": "j", "paths": ["/srv"],
        "repository": {"url": "rest:https://x/", "username": "h"},
    }  # fmt: skip
    assert agent_job.faults_of(good) == []
    faults = agent_job.faults_of({**good, **job})
    assert len(faults) == 1
    assert says in faults[0]


def test_the_hosts_own_zone_does_not_matter(monkeypatch):
    monkeypatch.setitem(os.environ, "TZ", "America/New_York")
    assert NIGHT.inside(at("2026-11-21T20:00"))
