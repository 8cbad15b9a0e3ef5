# SPDX-License-Identifier: Apache-2.0
"""Opening hours within a time, counted on the practice's own clock, which changes twice a year."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils.opening import open_seconds

SYDNEY, BERLIN = "Australia/Sydney", "Europe/Berlin"
HOURS = {"mon-fri": "08:00-18:30", "sat": "09:00-12:00"}
H = 3600


def count(hours, zone, start, end):
    first, last = (datetime.fromisoformat(each).replace(tzinfo=ZoneInfo(zone)) for each in (start, end))
    return open_seconds(hours, zone, first, last)


@pytest.mark.parametrize(
    ("start", "end", "want"),
    [
        ("2026-11-18T10:00", "2026-11-18T10:30", 0.5 * H),  # Wednesday morning
        ("2026-11-18T20:00", "2026-11-19T07:00", 0),  # a night
        ("2026-11-18T18:00", "2026-11-19T08:30", 1 * H),
        ("2026-11-20T18:00", "2026-11-23T08:15", (0.5 + 3 + 0.25) * H),  # Friday evening to Monday morning
        ("2026-11-16T00:00", "2026-11-23T00:00", (5 * 10.5 + 3) * H),  # a week
        ("2026-11-22T00:00", "2026-11-23T00:00", 0),  # Sunday
        ("2026-11-18T10:00", "2026-11-18T10:00", 0),
        ("2026-11-18T10:30", "2026-11-18T10:00", 0),
    ],
)
def test_only_opening_hours_count(start, end, want):
    assert count(HOURS, SYDNEY, start, end) == want


@pytest.mark.parametrize(
    ("zone", "start", "end", "want"),
    [
        # open all night while clocks go forward (2:00 to 3:00): an hour less
        (SYDNEY, "2026-10-04T00:00", "2026-10-04T12:00", 5 * H),
        (BERLIN, "2026-03-29T00:00", "2026-03-29T12:00", 5 * H),
        # and back (3:00 to 2:00): an hour more
        (SYDNEY, "2026-04-05T00:00", "2026-04-05T12:00", 7 * H),
        (BERLIN, "2026-10-25T00:00", "2026-10-25T12:00", 7 * H),
        (SYDNEY, "2026-04-06T00:00", "2026-04-06T12:00", 6 * H),
        ("Australia/Perth", "2026-04-05T00:00", "2026-04-05T12:00", 6 * H),
    ],
)
def test_nights_on_which_clocks_change(zone, start, end, want):
    assert count({"mon-sun": "00:00-06:00"}, zone, start, end) == want


@pytest.mark.parametrize(("day", "away"), [("2026-10-04", 23), ("2026-04-05", 25)])
def test_a_working_day_is_as_long_as_ever_when_clocks_change_at_night(day, away):
    start = datetime.fromisoformat(f"{day}T00:00").replace(tzinfo=ZoneInfo(SYDNEY))
    end = (start + timedelta(days=1)).replace(tzinfo=ZoneInfo(SYDNEY))
    assert end.timestamp() - start.timestamp() == away * H, "clocks did not change: this proves nothing"
    assert open_seconds({"sun": "08:00-18:00"}, SYDNEY, start, end) == 10 * H


def test_an_opening_in_an_hour_that_is_skipped_begins_as_much_later():
    assert count({"sun": "02:30-04:00"}, SYDNEY, "2026-10-04T00:00", "2026-10-04T12:00") == 0.5 * H


def test_times_of_another_zone_are_the_same_instants():
    start, end = (datetime.fromisoformat(each) for each in ("2026-11-17T21:30:00+00:00", "2026-11-18T00:00:00+00:00"))
    assert open_seconds(HOURS, SYDNEY, start, end) == 2.5 * H  # 8:30 to 11:00 there


def test_a_practice_that_never_closes():
    assert count({"mon-sun": "00:00-23:59"}, SYDNEY, "2026-11-18T00:00", "2026-11-20T00:00") == 48 * H


def test_windows_that_overlap_count_once_and_no_hours_are_no_figure():
    assert (
        count({"mon-fri": "08:00-12:00", "wed": "10:00-14:00"}, SYDNEY, "2026-11-18T00:00", "2026-11-19T00:00") == 6 * H
    )
    assert count({}, SYDNEY, "2026-11-18T00:00", "2026-11-19T00:00") is None
