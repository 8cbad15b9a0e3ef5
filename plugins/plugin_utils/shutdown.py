# SPDX-License-Identifier: Apache-2.0
"""In which order a UPS's machines stop, and how long that takes against its battery. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import RUNTIME_DRIVERS, seconds
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    FINALDELAY_S,
    LATE_HOOK_S,
    LOW_RESERVE_S,
    Item,
    Ups,
)

# Of engines that serve, as Debian calls them: the unit that others are ordered by, and the one that has to stop in time.
# PostgreSQL's clusters, whatever their version, stop after the unit that stands for all of them.
DATABASE_UNITS = {
    "postgresql": ("postgresql.service", "postgresql@.service"),
    "mariadb": ("mariadb.service", "mariadb.service"),
    "firebird": ("firebird4.0.service", "firebird4.0.service"),
}
FINAL_JOB_S = 10  # of a host's stop: what comes after the units (unmounting, and the stop of the rest)
APPLICATION_S = 30  # of an application's stop, where the document says nothing


@dataclass(frozen=True)
class Stop:
    """How long a machine takes to stop at most. measured: which measurement says so; empty when the document does."""

    seconds: int
    measured: str = ""

    def named(self, host: str) -> str:
        """Write it out."""
        return f"{self.seconds} ({', '.join(part for part in (host, self.measured) if part)})"


def stops(hosts: Mapping[str, Any], measured: Mapping[str, Stop]) -> dict[str, Stop]:
    """Give each machine's stop: the time of the document, or a measurement that is longer. hosts: parts of the model."""
    found = {}
    for name, host in hosts.items():
        if stop_time := getattr(host, "stop_time", None):
            written = Stop(seconds(stop_time))
            found[name] = max(written, measured.get(name, written), key=lambda stop: stop.seconds)
    return found


@dataclass(frozen=True)
class Budget:
    """Seconds that a shutdown needs at most, part by part, and what the battery carries."""

    order: tuple[str, ...]
    slowest: str | None
    slowest_stop: Stop
    slowest_waits_s: int
    hostsync_s: int
    primary: str
    primary_stop: Stop
    runtime_s: int
    written_low_s: int | None
    told_by_us: bool
    finaldelay_s: int = FINALDELAY_S
    late_hook_s: int = LATE_HOOK_S

    @property
    def slowest_s(self) -> int:
        """Seconds of the slowest secondary: its stop, and its own wait when others hang on a UPS of its own."""
        return self.slowest_stop.seconds + self.slowest_waits_s

    @property
    def need_s(self) -> int:
        """Seconds from the order to stop until the power may go."""
        total: int = self.need()["total_s"]
        return total

    @property
    def low_s(self) -> int | None:
        """Seconds of runtime left at which the battery counts as low; None when the UPS alone knows."""
        if self.written_low_s is not None:
            return self.written_low_s
        return min(self.need_s + LOW_RESERVE_S, self.runtime_s) if self.told_by_us else None

    @property
    def missing_s(self) -> int:
        """Seconds that the battery lacks at its low threshold; 0 when it lasts."""
        return max(0, self.need_s - (self.runtime_s if self.low_s is None else self.low_s))

    @property
    def offender(self) -> str:
        """The machine whose stop is longest."""
        return self.slowest if self.slowest and self.slowest_s >= self.primary_stop.seconds else self.primary

    @property
    def words(self) -> str:
        """Write the sum out."""
        parts = []
        if self.slowest:
            parts.append(f"slowest secondary {self.slowest_stop.named(self.slowest)}")
            parts += [f"HOSTSYNC of {self.slowest} {self.slowest_waits_s}"] if self.slowest_waits_s else []
        parts += [f"HOSTSYNC {self.hostsync_s}"] if self.hostsync_s else []
        parts.append(f"primary {self.primary_stop.named(self.primary)}")
        parts += [f"FINALDELAY {self.finaldelay_s}", f"late hook {self.late_hook_s}"]
        return f"{' + '.join(parts)} = {self.need_s} s"

    def figures(self) -> dict[str, Any]:
        """Give the budget as plain data."""
        return {
            "order": list(self.order),
            "slowest": self.slowest,
            "slowest_s": self.slowest_s,
            "hostsync_s": self.hostsync_s,
            "primary_s": self.primary_stop.seconds,
            "finaldelay_s": self.finaldelay_s,
            "late_hook_s": self.late_hook_s,
            "need_s": self.need_s,
            "low_battery_s": self.low_s,
            "margin_s": (self.runtime_s if self.low_s is None else self.low_s) - self.need_s,
            "words": self.words,
        }

    def need(self) -> dict[str, Any]:
        """Give what the watch on the primary compares with the battery."""
        slowest, stop, length = self.slowest, self.slowest_stop, self.slowest_s
        if slowest is None:
            slowest, stop, length = self.primary, self.primary_stop, 0
        parts: dict[str, Any] = {
            "slowest": {"host": slowest, "seconds": length, "measured": bool(stop.measured)},
            "hostsync_s": self.hostsync_s,
            "primary_s": self.primary_stop.seconds,
            "finaldelay_s": self.finaldelay_s,
            "late_hook_s": self.late_hook_s,
        }
        return {**parts, "total_s": total_s(parts)}


def total_s(need: Mapping[str, Any]) -> int:
    """Add up what a shutdown needs."""
    parts = ("hostsync_s", "primary_s", "finaldelay_s", "late_hook_s")
    return int(need["slowest"]["seconds"]) + sum(int(need[part]) for part in parts)


def raised(need: Mapping[str, Any], measured: Mapping[str, float], primary: str) -> dict[str, Any]:
    """Give a need in which stops that were measured now count where they are longer."""
    found = {**need, "slowest": dict(need["slowest"])}
    for host, length in measured.items():
        whole = math.ceil(length)
        if host == primary:
            found["primary_s"] = max(found["primary_s"], whole)
        elif whole > found["slowest"]["seconds"]:
            found["slowest"] = {"host": host, "seconds": whole, "measured": True}
    return {**found, "total_s": total_s(found)}


def need_words(need: Mapping[str, Any], primary: str) -> str:
    """Write such a sum out."""
    slowest = need["slowest"]
    measured = ", measured" if slowest["measured"] else ""
    parts = [f"slowest secondary {slowest['seconds']} ({slowest['host']}{measured})"] if slowest["seconds"] else []
    parts += [f"HOSTSYNC {need['hostsync_s']}"] if need["hostsync_s"] else []
    parts += [f"primary {need['primary_s']} ({primary})", f"FINALDELAY {need['finaldelay_s']}"]
    return f"{' + '.join([*parts, f'late hook {need["late_hook_s"]}'])} = {need['total_s']} s"


def hostsync_s(host: str, power: Mapping[str, Ups]) -> int:
    """Give HOSTSYNC of a host's upsmon, which has one for all its UPSs."""
    return max(seconds(ups.hostsync) for ups in power.values() if host in ups.feeds)


def waits_s(host: str, power: Mapping[str, Ups]) -> int:
    """Give how long a host waits for others before it stops itself: not at all when nobody hangs on a UPS of its own."""
    waited_for = any(ups.attached_to == host and set(ups.feeds) - {host} for ups in power.values())
    return hostsync_s(host, power) if waited_for else 0


def patience_s(host: str, power: Mapping[str, Ups], known: Mapping[str, Stop]) -> int:
    """Give how long a host's upsmon waits for others at most: a secondary stays counted until its databases have stopped."""
    own = [name for name, ups in power.items() if ups.attached_to == host]
    return hostsync_s(host, power) + max((budget(name, power, known).slowest_s for name in own), default=0)


def budget(name: str, power: Mapping[str, Ups], known: Mapping[str, Stop]) -> Budget:
    """Work out the budget of a UPS. known: the stop of each machine that it feeds.

    The secondaries stop at once and side by side, in the document's order; the primary goes last and cuts the power. A
    machine with a second supply counts too: when the other UPS has failed before, this one has to carry it to its end.
    A secondary that is itself the primary of another UPS first waits for those who hang on that one.
    """
    ups = power[name]
    others = [host for host in ups.feeds if host != ups.attached_to]
    waits = {host: waits_s(host, power) for host in others}
    slowest = max(others, key=lambda host: known[host].seconds + waits[host], default=None)
    return Budget(
        order=(*others, ups.attached_to),
        slowest=slowest,
        slowest_stop=known[slowest] if slowest else Stop(0),
        slowest_waits_s=waits[slowest] if slowest else 0,
        hostsync_s=waits_s(ups.attached_to, power),
        primary=ups.attached_to,
        primary_stop=known[ups.attached_to],
        runtime_s=seconds(ups.runtime),
        written_low_s=seconds(ups.low_battery) if ups.low_battery else None,
        told_by_us=ups.driver in RUNTIME_DRIVERS,
    )


def deputy(ups: Ups, kinds: Mapping[str, str]) -> str | None:
    """Name who tells what the primary cannot: the first server on the UPS that is not its primary, or a NAS."""
    others = [host for host in ups.feeds if host != ups.attached_to]
    return next((host for kind in ("server", "nas") for host in others if kinds.get(host) == kind), None)


# --- within a host: applications, then databases ------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """What stops in order on a host (applications, then databases), with the seconds that each unit has."""

    applications: tuple[str, ...]
    databases: tuple[str, ...]
    limits: Mapping[str, int]
    parts: tuple[tuple[str, str], ...]  # phase, its slowest unit

    @property
    def need_s(self) -> int:
        """Seconds of the whole stop, if every unit takes all that it has."""
        return sum(self.limits[unit] for _phase, unit in self.parts) + FINAL_JOB_S

    @property
    def words(self) -> str:
        """Write the sum out."""
        parts = [f"{phase} {self.limits[unit]} ({unit})" for phase, unit in self.parts]
        return f"{' + '.join([*parts, f'the rest {FINAL_JOB_S}'])} = {self.need_s} s"


def units(host: Any, items: Iterable[Item]) -> Units:
    """Give the units of a host in the order of their stop. host: a machine of the model. items: what it protects.

    Left out, applications are the units that proofs start on its restored data. Those of one kind stop side by side;
    databases have what the applications leave of the host's time.
    """
    items = list(items)
    engines = dict.fromkeys(item.database.engine for item in items if item.database)
    served = [DATABASE_UNITS[engine] for engine in engines if engine in DATABASE_UNITS]
    proven = [unit for item in items if item.application for unit in item.application.units or ()]
    applications = tuple(dict.fromkeys(host.applications if host.applications is not None else proven))
    written = {unit: seconds(limit) for unit, limit in (host.stop_limits or {}).items()}
    left = max(2, seconds(host.stop_time) - FINAL_JOB_S)
    limits = {unit: written.get(unit, min(APPLICATION_S, left // 2)) for unit in applications}
    rest = max(1, left - max(limits.values(), default=0))
    bounded = [name for _order, name in served]
    limits.update(dict.fromkeys(bounded, rest))
    limits.update(written)
    clusters = [unit for unit in written if any(_instance(unit, name) for name in bounded)]
    stopping = [unit for unit in bounded if not any(_instance(each, unit) for each in clusters)] + clusters
    others = [unit for unit in written if unit not in (*applications, *stopping)]
    phases = (("applications", applications), ("databases", stopping), ("other units", others))
    parts = tuple((phase, max(some, key=lambda unit: limits[unit])) for phase, some in phases if some)
    return Units(applications, tuple(order for order, _name in served), limits, parts)


def _instance(unit: str, template: str) -> bool:
    """Say whether a unit is made of that template, as postgresql@17-main.service is of postgresql@.service."""
    return "@." in template and unit != template and unit.startswith(template.partition("@")[0] + "@")
