# SPDX-License-Identifier: Apache-2.0
"""Times, durations and amounts in the words of somebody who does not read logs. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

_THIN = "\u202f"  # narrow no-break space: 150 000 stays on one line and is read the same in every country


def parse_time(value: Any) -> dt.datetime | None:
    """Read an ISO time with a zone; anything else is None."""
    if not isinstance(value, str):
        return None
    try:
        parsed = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else None


def clock_time(at: dt.datetime, zone: ZoneInfo) -> str:
    """ "Sat 21 Nov 2026, 20:47" on the practice's clock."""
    local = at.astimezone(zone)
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    return f"{days[local.weekday()]} {local.day} {months[local.month - 1]} {local.year}, {local:%H:%M}"


def duration(seconds: Any) -> str:
    """Two significant parts at most: "8.4 s", "45 s", "6 min 10 s", "4 h", "3 days"; "never" for None."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return "never"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for limit, unit, unit_name, lower, lower_name in (
        (3600, 60, "min", 1, "s"),
        (36 * 3600, 3600, "h", 60, "min"),
    ):
        if whole < 100 and unit == 60:
            return f"{whole} s"
        if whole < limit:
            major, rest = divmod(whole, unit)
            minor = rest // lower
            return f"{major} {unit_name}" + (f" {minor} {lower_name}" if minor and major < 10 else "")
    return f"{round(whole / 86400)} days"


def age(seconds: float) -> str:
    """How old something is: nobody counts the seconds of "8 min"."""
    return duration(seconds - seconds % 60 if 100 <= seconds < 3600 else seconds)


def ago(seconds: float) -> str:
    """ "6 min ago"; "just now" below ten seconds, "in the future" when a clock is wrong."""
    if seconds < -300:
        return "in the future"
    return "just now" if seconds < 10 else f"{age(seconds)} ago"


def amount(number: float) -> str:
    """A whole number with narrow spaces between its thousands."""
    return f"{int(number):,}".replace(",", _THIN)


def plural(number: float, noun: str) -> str:
    """ "1 file", "2 000 files"."""
    return f"{amount(number)} {noun}" + ("" if number == 1 else "s")


def size(count: float) -> str:
    """Bytes in decimal units, as disks are sold."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")
