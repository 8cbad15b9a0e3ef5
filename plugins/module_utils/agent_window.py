# SPDX-License-Identifier: Apache-2.0
"""When a job may run, and how fast: its window, and rates that follow the clock, in the practice's own time. Pure."""

from __future__ import annotations

import datetime
import re
import time
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from .agent_host import say
from .agent_watch import Answer, Gate

STOP, THROTTLE = "stop", "throttle"
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_DAY_MIN = 24 * 60


@dataclass(frozen=True)
class Window:
    """A time of day that comes back every day; it may cross midnight. Minutes since midnight; the end is outside."""

    start: int
    end: int

    def holds(self, minute: int) -> bool:
        """Is this minute of the day in it?"""
        return (minute - self.start) % _DAY_MIN < (self.end - self.start) % _DAY_MIN


def window_of(text: str) -> Window:
    """Window of "20:00-06:00"; ValueError when it is none, or empty."""
    found = _WINDOW.fullmatch(text)
    hours = [int(part) for part in found.groups()] if found else [0, 0, 0, 0]
    window = Window(hours[0] * 60 + hours[1], hours[2] * 60 + hours[3])
    if not found or window.start == window.end:
        raise ValueError(f"{text!r}: expected a window such as 20:00-06:00")
    return window


def minute_of_day(now: float, timezone: str) -> int:
    """Minutes since midnight as a clock on the wall there shows them. Both changes of clocks take care of themselves."""
    local = datetime.datetime.fromtimestamp(now, zoneinfo.ZoneInfo(timezone))
    return local.hour * 60 + local.minute


@dataclass(frozen=True)
class Hours:
    """When a job may run and how fast. throttle and limits in bits a second; of several limits the lowest counts."""

    timezone: str = "UTC"
    window: str | None = None
    at_end: str = STOP
    throttle: int = 0
    limits: Mapping[str, int] | None = None

    def inside(self, now: float) -> bool:
        """May the job run? Always, without a window."""
        return self.window is None or window_of(self.window).holds(minute_of_day(now, self.timezone))

    def rate(self, now: float) -> float | None:
        """Bytes a second that may go over the line now; None: as many as there are."""
        minute = minute_of_day(now, self.timezone)
        rates = [rate for text, rate in (self.limits or {}).items() if window_of(text).holds(minute)]
        rates += [self.throttle] if self.throttle and not self.inside(now) else []
        return min(rates) / 8 if rates else None

    @property
    def limited(self) -> bool:
        """Is there any rate to keep?"""
        return bool(self.limits or self.throttle)


def hours_of(job: Mapping[str, Any]) -> Hours:
    """Hours of a job's file, which has been checked."""
    return Hours(
        str(job.get("timezone") or "UTC"),
        job.get("window"),
        str(job.get("at_window_end") or STOP),
        int(job.get("throttle") or 0),
        dict(job.get("limits") or {}),
    )


def hours_faults(job: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a job's hours, in words."""
    faults, limits = [], job.get("limits") or {}
    for text in [
        *([job["window"]] if job.get("window") is not None else []),
        *(limits if isinstance(limits, dict) else []),
    ]:
        try:
            window_of(str(text))
        except ValueError as error:
            faults.append(f"window {error}")
    rates = [*(limits.values() if isinstance(limits, dict) else [None])]
    rates += [job["throttle"]] if job.get("throttle") is not None else []
    if any(isinstance(rate, bool) or not isinstance(rate, int) or rate < 1 for rate in rates):
        faults.append("limits, throttle: expected bits a second, a number from 1")
    end = job.get("at_window_end")
    if end not in (None, STOP, THROTTLE):
        faults.append(f"at_window_end {end!r}: expected {STOP} or {THROTTLE}")
    if (end == THROTTLE) != bool(job.get("throttle")) or (end and not job.get("window")):
        faults.append("at_window_end, throttle: throttle wants a rate, and both want a window")
    if job.get("window") or limits:
        try:
            zoneinfo.ZoneInfo(str(job.get("timezone") or "UTC"))
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            faults.append(f"timezone {job.get('timezone')!r}: this host does not know it; install tzdata")
    return faults


def speed(bits: float) -> str:
    """A rate for people."""
    return f"{bits / 1e6:g} Mbit/s" if bits >= 1e6 else f"{bits / 1e3:g} kbit/s"


def gate(name: str, hours: Hours, clock: Callable[[], float] = time.time) -> Gate:
    """The window as a gate: a run begins inside; at the end it stops, or goes on at its own rate."""
    said: list[bool] = []

    def begin() -> Answer | None:
        if hours.inside(clock()):
            return None
        return Answer("outside_window", f"waits for its window {hours.window} ({hours.timezone})")

    def go_on() -> Answer | None:
        if hours.inside(clock()):
            said.clear()
            return None
        if hours.at_end == STOP:
            text = (
                f"the window {hours.window} ended before the backup did. What was sent is not sent again next time; if this "
                "comes back, give the job a wider window, or at_window_end: throttle"
            )
            return Answer("window_ended", text, retry=False)
        if not said:
            said.append(True)
            say(f"{name}: the window {hours.window} ended; goes on at {speed(hours.throttle)}", 5)
        return None

    return Gate(begin, go_on)
