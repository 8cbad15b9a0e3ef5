# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import times
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import weekdays
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import Slot, window_slot
from hypothesis import given, settings
from hypothesis import strategies as st

OPEN = {"mon-fri": "08:00-18:30", "sat": "09:00-12:00"}


@pytest.mark.parametrize(
    ("hours", "start", "length"),
    [
        ({}, "00:00", 24 * 60),
        (OPEN, "19:00", 12 * 60 + 30),
        ({"mon-sun": "08:00-23:00"}, "23:30", 8 * 60),
        ({"mon-sun": "20:00-23:59"}, "00:29", 19 * 60 + 1),  # a night practice backs up by day
        ({"mon": "00:00-06:00", "tue": "20:00-23:59"}, "06:30", 13 * 60),  # both count, whatever their days
        ({"mon": "08:00-12:00", "tue": "12:00-18:00"}, "18:30", 13 * 60),  # they touch
        ({"mon": "08:00-12:00", "tue": "11:00-13:00", "wed": "07:00-09:00"}, "13:30", 17 * 60),
        ({"mon-sun": "00:00-23:59"}, "00:00", 0),
        ({"mon-sun": "00:30-23:40"}, "00:00", 0),  # not even half an hour on either side
    ],
)
def test_the_quiet_time_is_the_longest_away_from_people(hours, start, length):
    assert times.quiet_window(hours) == (times.minutes(start), length)


hour_windows = st.tuples(st.integers(0, 1438), st.integers(1, 1439)).map(
    lambda pair: f"{times.clock(min(pair))}-{times.clock(max(pair) if max(pair) > min(pair) else min(pair) + 1)}"
)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from(["mon", "tue", "wed-fri", "sat", "sun"]), hour_windows, max_size=4))
def test_in_the_quiet_time_nobody_is_near(hours):
    start, length = times.quiet_window(hours)
    busy = [tuple(times.minutes(part) for part in window.split("-")) for window in hours.values()]
    near = {minute % 1440 for begin, end in busy for minute in range(begin - 30, end + 30)}
    assert not {(start + minute) % 1440 for minute in range(length)} & near
    if not length:
        free = [minute for minute in range(1440) if minute not in near]
        assert not free


@pytest.mark.parametrize(
    ("hours", "usual"),
    [
        (None, "21:00"),
        ({}, "21:00"),
        (OPEN, "21:00"),
        ({"mon-sun": "08:00-21:30"}, "22:00"),
        ({"mon-sun": "08:00-23:00"}, "23:30"),
        ({"mon-sun": "00:00-23:59"}, "21:00"),  # never closed
        ({"mon-sun": "08:00-23:59", "sat": "00:00-01:00"}, "04:00"),  # not at an hour at which clocks change
        ({"mon-sun": "05:30-23:59", "sat": "00:00-02:00"}, "04:00"),
        ({"mon-sun": "04:00-23:59", "sat": "00:00-00:30"}, "01:00"),  # nothing else is free
    ],
)
def test_the_usual_time_of_backups(hours, usual):
    assert times.usual_time(hours) == usual


def slot(days, window, name="x"):
    return window_slot(name, days, window)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("mon", "01:00-02:00"), ("mon", "01:30-03:00"), True),
        (("mon", "01:00-02:00"), ("mon", "02:00-03:00"), False),  # they touch
        (("mon", "01:00-02:00"), ("tue", "01:00-02:00"), False),
        (("mon-sun", "22:00-02:00"), ("sun", "01:30-03:00"), True),  # across midnight
        (("mon", "22:00-02:00"), ("mon", "01:30-03:00"), False),
        (("mon", "22:00-02:00"), ("tue", "01:30-03:00"), True),
        (("sun", "23:00-01:00"), ("mon", "00:30-02:00"), True),  # across the week's end
        (("sun", "23:00-01:00"), ("mon", "01:00-02:00"), False),
        (("sun", "23:00-01:00"), ("sun", "00:30-02:00"), False),
        (("mon-sun", "00:00-23:59"), ("wed", "12:00-12:01"), True),
    ],
)
def test_overlaps(one, other, same):
    assert slot(*one).overlaps(slot(*other)) is same
    assert slot(*other).overlaps(slot(*one)) is same


slots = st.builds(
    Slot,
    st.just("x"),
    st.sets(st.integers(0, 6), min_size=1, max_size=3).map(tuple),
    st.integers(0, 1439),
    st.integers(1, 3000),
)


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(slots, slots)
def test_overlaps_is_what_counting_minutes_says(one, other):
    def covered(each):
        return {(day * 1440 + each.start + minute) % (7 * 1440) for day in each.days for minute in range(each.length)}

    assert one.overlaps(other) is bool(covered(one) & covered(other))


def test_overlapping_names_each_pair_once_in_order():
    a, b, c = slot("sun", "01:00-04:00", "a"), slot("sun", "03:00-05:00", "b"), slot("sun", "03:30-03:45", "c")
    assert [(x.name, y.name) for x, y in times.overlapping([a, b, c])] == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize(
    ("days", "window", "words"),
    [
        ("mon-sun", "22:00-02:00", "x 22:00-02:00"),
        ("sun", "01:30-03:00", "x 01:30-03:00 (sun)"),
        ("mon-fri", "01:30-03:00", "x 01:30-03:00 (mon-fri)"),
    ],
)
def test_a_slot_in_words(days, window, words):
    assert str(slot(days, window)) == words
    assert slot(days, window).days == tuple(weekdays(days))


@pytest.mark.parametrize(
    ("zone", "hours", "winter"),
    [
        ("Australia/Sydney", ("01:00", "04:00"), 600),
        ("Australia/Perth", None, 480),
        ("Australia/Lord_Howe", ("01:00", "04:00"), 630),
        ("Europe/Berlin", ("01:00", "04:00"), 60),
        ("America/New_York", ("01:00", "04:00"), -300),
        ("Pacific/Chatham", ("01:00", "04:00"), 765),
        ("America/Santiago", ("23:00", "01:00"), -240),
        ("Africa/Cairo", ("23:00", "01:00"), 120),
        ("Atlantic/Azores", ("00:00", "01:00"), -60),
        ("Pacific/Easter", ("21:00", "23:00"), -360),
    ],
)
def test_the_hours_in_which_clocks_change(zone, hours, winter):
    assert times.changing_hours(zone) == hours
    assert times.winter_offset_min(zone) == winter


@pytest.mark.parametrize(
    ("hours", "zone", "usual"),
    [
        ({"mon-sun": "08:00-18:00"}, "Pacific/Easter", "23:00"),
        ({"mon-sun": "08:00-22:00"}, "America/Santiago", "01:00"),
        ({"mon-sun": "08:00-22:00"}, "Europe/Berlin", "22:30"),
        ({"mon-sun": "02:00-22:00"}, "America/Santiago", "01:00"),
    ],
)
def test_the_usual_time_keeps_away_from_the_hours_in_which_a_zone_changes(hours, zone, usual):
    assert times.usual_time(hours, zone) == usual
