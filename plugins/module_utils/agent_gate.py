# SPDX-License-Identifier: Apache-2.0
"""The power gate: no backup begins on battery, and one under way ends before the battery does.

Who is asked is upsd on the machine that the UPS is attached to. It may be silent: then the backup goes ahead, as a broken
monitor must not cost a practice its backups. Only where the last thing heard was that mains are out does silence count as
that, because upsd itself goes down in an outage.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from . import nut
from .agent_host import Places, read_json, say, seconds_of
from .agent_watch import Answer, Gate

CODE = "on_battery"
# A run is not given up for a blip, or for the UPS's test of itself; data that is on the way is worth some seconds of battery.
BLIP_S = 15.0
# No UPS of a practice lasts longer: what is still silent then is broken, not out of mains.
SILENCE_S = 3600.0
ASK_S = 2.0
BATTERY, MAINS, UNKNOWN = "battery", "mains", "unknown"
_MONITOR = re.compile(r"(?P<ups>[^@\s]+)@(?:\[(?P<six>[^\]\s]+)\]|(?P<address>[^:\s\[\]]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True)
class Power:
    """What feeds this host. monitors: UPS@ADDRESS[:PORT]; min_supplies: how many of them it needs to run."""

    monitors: Sequence[str]
    min_supplies: int = 1


def monitor_of(text: str) -> tuple[str, str, int] | None:
    """Name, address and port of a monitored UPS; None when the text is none."""
    found = _MONITOR.fullmatch(text)
    return (found["ups"], found["six"] or found["address"], int(found["port"] or nut.PORT)) if found else None


def power_faults(power: Any) -> list[str]:
    """Everything that is wrong with a job's ``power``, in words."""
    if power is None:
        return []
    if not isinstance(power, Mapping) or not set(power) <= {"monitors", "min_supplies"}:
        return ["power: expected monitors, and perhaps min_supplies"]
    monitors, need = power.get("monitors"), power.get("min_supplies", 1)
    if not isinstance(monitors, list) or not monitors:
        return ["power.monitors: expected a list such as [ups1@192.0.2.11]"]
    faults = [f"power.monitors {m!r}: expected UPS@ADDRESS" for m in monitors if not monitor_of(str(m))]
    if isinstance(need, bool) or not isinstance(need, int) or not 1 <= need <= len(monitors):
        faults.append(f"power.min_supplies {need!r}: expected a number from 1 to {len(monitors)}")
    return faults


def status_of(monitor: str) -> tuple[str, ...] | None:
    """Ask upsd for the words of ups.status; None when nobody knows them."""
    found = monitor_of(monitor)
    try:
        ups, address, port = found or ("", "", 0)
        with nut.Nut(address, port, ASK_S) as server:
            return tuple(server.variable(ups, "ups.status").split())
    except nut.NutError:
        return None


def judge(found: Sequence[tuple[str, ...] | None], min_supplies: int) -> tuple[str, bool]:
    """What the words of all UPSs mean: (battery, mains or unknown; is the end near). Pure.

    OL LB is mains: a battery that charges again, or is worn out, does not stop backups.
    """
    out = [words for words in found if words and {"OB", "FSD"} & set(words)]
    if len(found) - len(out) < min_supplies:
        return BATTERY, any({"LB", "FSD"} & set(words) for words in out)
    return (UNKNOWN if all(not words for words in found) else MAINS), False


@dataclass
class PowerGate:
    """How the power of one run is judged. ask(monitor) -> words or None; clock: monotonic seconds."""

    power: Power
    ask: Callable[[str], tuple[str, ...] | None] = status_of
    clock: Callable[[], float] = time.monotonic
    out_since: float | None = field(default=None, init=False)

    def _look(self) -> tuple[str, bool, str]:
        found = [self.ask(monitor) for monitor in self.power.monitors]
        words = ", ".join(
            f"{name}: {' '.join(said) if said else 'no answer'}" for name, said in zip(self.power.monitors, found)
        )
        return (*judge(found, self.power.min_supplies), words)

    def begin(self, job: str, note: Mapping[str, Any] | None, now: float) -> Answer | None:
        """Before a run. note: of the deferral so far; now: seconds since 1970."""
        state, _near, words = self._look()
        if state == BATTERY:
            return Answer(CODE, f"mains are out ({words})")
        if state == UNKNOWN:
            if note and note.get("code") == CODE and now - seconds_of(str(note["since"])) < SILENCE_S:
                return Answer(CODE, f"mains were out when the UPS was last heard of ({words})")
            say(f"{job}: goes ahead without knowing whether mains are there ({words})", 4)
        return None

    def go_on(self) -> Answer | None:
        """During a run."""
        state, near, words = self._look()
        if state == MAINS or (state == UNKNOWN and self.out_since is None):
            self.out_since = None
            return None
        now = self.clock()
        self.out_since = now if self.out_since is None else self.out_since
        if near or now - self.out_since >= BLIP_S:
            message = (
                f"ended after {now - self.out_since:.0f} s without mains ({words}); begins again when they are back"
            )
            return Answer(CODE, message)
        return None


def power_gate(job: str, power: Power | None, places: Places) -> list[Gate]:
    """The gate of a job; none on a host without a UPS."""
    if power is None:
        return []
    gate = PowerGate(power)
    return [Gate(lambda: gate.begin(job, read_json(places.deferred(job)), time.time()), gate.go_on)]
