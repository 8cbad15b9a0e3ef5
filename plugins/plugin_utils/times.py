# SPDX-License-Identifier: Apache-2.0
"""Times of a week, in the practice's own zone: opening hours, the quiet time between them, and what overlaps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import WEEKDAYS, weekdays

DAY_MIN, WEEK_MIN = 24 * 60, 7 * 24 * 60
USUAL_AT = "21:00"
MARGIN_MIN = 30  # between people and backups, on either side
CHANGE_FROM, CHANGE_TO = "01:00", "04:00"  # clocks change in here, but for few zones
STAGGER_MIN = 55  # jobs without a time of their own start within this time


@dataclass(frozen=True)
class Slot:
    """A time that comes back each week: what it is for, its days (Monday is 0), its start and length in minutes."""

    name: str
    days: tuple[int, ...]
    start: int
    length: int

    def spans(self) -> list[tuple[int, int]]:
        """Give the minutes of the week it covers; what crosses Sunday's midnight comes as two."""
        found = []
        for day in self.days:
            begin = day * DAY_MIN + self.start
            end = begin + min(self.length, WEEK_MIN)
            found.append((begin, min(end, WEEK_MIN)))
            if end > WEEK_MIN:
                found.append((0, end - WEEK_MIN))
        return found

    def overlaps(self, other: Slot) -> bool:
        """Say whether the two have a minute in common."""
        return any(a < d and c < b for a, b in self.spans() for c, d in other.spans())

    def __str__(self) -> str:
        days = "" if len(self.days) == len(WEEKDAYS) else f" ({_named(self.days)})"
        return f"{self.name} {clock(self.start)}-{clock(self.start + self.length)}{days}"


def _named(days: tuple[int, ...]) -> str:
    return WEEKDAYS[days[0]] if len(days) == 1 else f"{WEEKDAYS[days[0]]}-{WEEKDAYS[days[-1]]}"


def minutes(text: str) -> int:
    """Turn a checked time of day (21:30) into minutes since midnight."""
    return int(text[:2]) * 60 + int(text[3:])


def clock(minute: int) -> str:
    """Write minutes since midnight as a time of day."""
    minute %= DAY_MIN
    return f"{minute // 60:02d}:{minute % 60:02d}"


def window_slot(name: str, days: str, window: str) -> Slot:
    """Make the slot of a checked window ("22:00-02:00") on checked days ("mon-fri")."""
    start, end = (minutes(part) for part in window.split("-"))
    return Slot(name, tuple(weekdays(days)), start, (end - start) % DAY_MIN)


def quiet_window(hours: Mapping[str, str]) -> tuple[int, int]:
    """Give the longest time of day at which the practice is closed on every day, half an hour away from people.

    hours: {DAYS: "HH:MM-HH:MM"}, checked. Returns (start, length) in minutes; length 0 when there is no such time.
    """
    busy = sorted(tuple(minutes(part) for part in window.split("-")) for window in hours.values())
    if not busy:
        return (0, DAY_MIN)
    joined: list[list[int]] = []
    for start, end in busy:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    best = (0, 0)
    for index, (_, end) in enumerate(joined):
        following = joined[(index + 1) % len(joined)][0]
        length = (following - end) % DAY_MIN or DAY_MIN
        best = max(best, (length - 2 * MARGIN_MIN, (end + MARGIN_MIN) % DAY_MIN))
    return (best[1], best[0]) if best[0] > 0 else (0, 0)


def within(start: int, length: int, minute: int) -> bool:
    """Say whether a minute of the day lies in a window that may cross midnight."""
    return (minute - start) % DAY_MIN < length


def usual_time(hours: Mapping[str, str] | None, zone: str | None = None) -> str:
    """Give the time of day for backups that name none: 21:00, or as soon as the practice is closed on every day.

    A start at an hour when clocks change moves to the end of it. A practice that never closes gets 21:00, and so does one
    where the move would lead out of its quiet time.
    """
    change_from, change_to = (changing_hours(zone) if zone else None) or (CHANGE_FROM, CHANGE_TO)
    start, length = quiet_window(hours or {})
    if not length:
        return USUAL_AT
    first = minutes(USUAL_AT) if within(start, length, minutes(USUAL_AT)) else start
    change = (minutes(change_from), (minutes(change_to) - minutes(change_from)) % DAY_MIN)
    changing = within(*change, first) or within(first, STAGGER_MIN + 1, change[0])
    return change_to if changing and within(start, length, minutes(change_to)) else clock(first)


@cache
def changing_hours(zone: str) -> tuple[str, str] | None:
    """Give the time of day, from and to, at which a zone's clocks skip or repeat; None for a zone without summer time.

    systemd leaves out a start at a time that is skipped. As one rule is easier to remember, it is 01:00 to 04:00 for every
    zone that changes within that. Judged by one fixed year, so that the answer does not move.
    """
    info, hour = ZoneInfo(zone), timedelta(hours=1)
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + hour * number for number in range(0, 366 * 24, 24)]
    touched: list[int] = []
    for day, after in pairwise(moments):
        if day.astimezone(info).utcoffset() == after.astimezone(info).utcoffset():
            continue
        steps = [day + timedelta(minutes=15 * number) for number in range(24 * 4 + 1)]
        at = next(n for n in range(1, len(steps)) if _offset(steps[n], info) != _offset(steps[0], info))
        before, since = _offset(steps[0], info), _offset(steps[at], info)
        # the clock jumps from one of these to the other: forward they are skipped, backward repeated
        jump = sorted((steps[at] + timedelta(minutes=offset)).replace(tzinfo=None) for offset in (before, since))
        length = int((jump[1] - jump[0]).total_seconds()) // 60
        touched += [(jump[0].hour * 60 + jump[0].minute + minute) % DAY_MIN for minute in range(length)]
    if not touched:
        return None
    noon = DAY_MIN // 2  # clocks never change around noon, so that is where the day may be cut
    first, last = (pick((minute - noon) % DAY_MIN for minute in touched) for pick in (min, max))
    found = clock(first + noon), clock(last + noon + 1)
    usual = CHANGE_FROM <= found[0] < CHANGE_TO and found[0] < found[1] <= CHANGE_TO
    return (CHANGE_FROM, CHANGE_TO) if usual else found


def _offset(moment: datetime, info: ZoneInfo) -> int:
    offset = moment.astimezone(info).utcoffset() or timedelta()
    return int(offset.total_seconds()) // 60


@cache
def winter_offset_min(zone: str) -> int:
    """Give the smaller of a zone's distances from UTC within one fixed year, in minutes."""
    info = ZoneInfo(zone)
    return min(_offset(datetime(2026, month, 15, tzinfo=UTC), info) for month in range(1, 13))


def overlapping(slots: Iterable[Slot]) -> list[tuple[Slot, Slot]]:
    """Give each pair of slots that overlap, in order."""
    listed = list(slots)
    return [(a, b) for index, a in enumerate(listed) for b in listed[index + 1 :] if a.overlaps(b)]
