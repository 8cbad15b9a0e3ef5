# SPDX-License-Identifier: Apache-2.0
"""How much of a time lies within opening hours: a lost night costs less than a lost morning. Pure.

Hours are on the wall clock of the practice, so each opening is turned into two instants before anything is counted: a day on
which clocks change is an hour longer or shorter, and an opening that spans the change is too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import weekdays
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import DAY_MIN, minutes


def open_seconds(hours: Mapping[str, str], zone: str, start: datetime, end: datetime) -> float | None:
    """Count the seconds from start to end within opening hours; None for a practice that says none.

    hours: {DAYS: "HH:MM-HH:MM"}, checked. start, end: with a zone. Windows that overlap count once.
    """
    if not hours:
        return None
    info = ZoneInfo(zone)
    total, reached = timedelta(), start.astimezone(UTC)
    until = end.astimezone(UTC)
    day = start.astimezone(info).date()
    while day <= end.astimezone(info).date():
        for opens, closes in sorted(_openings(hours, info, day)):
            first, last = max(opens, reached), min(closes, until)
            if last > first:
                total += last - first
                reached = last
        day += timedelta(days=1)
    return total.total_seconds()


def _openings(hours: Mapping[str, str], info: ZoneInfo, day: date) -> list[tuple[datetime, datetime]]:
    found = []
    for days, window in hours.items():
        if day.weekday() in weekdays(days):
            opens, closes = (minutes(part) for part in window.split("-"))
            # a document writes the end of a day as 23:59
            found.append(
                (_instant(day, opens, info), _instant(day, DAY_MIN if closes == DAY_MIN - 1 else closes, info))
            )
    return found


def _instant(day: date, minute: int, info: ZoneInfo) -> datetime:
    """A time of day as an instant. One that is skipped is as much later, one that comes twice is the first."""
    day += timedelta(days=minute // DAY_MIN)
    return datetime.combine(day, time(minute % DAY_MIN // 60, minute % 60), info).astimezone(UTC)
