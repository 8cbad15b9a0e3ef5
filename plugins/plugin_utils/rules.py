# SPDX-License-Identifier: Apache-2.0
"""What must hold between the parts of a practice document.

A rule takes a View and yields problems. It must cope with documents that are wrong in other places.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    DAY_S,
    FINALDELAY_S,
    HOSTSYNC_S,
    KINDS,
    NOT_AVAILABLE,
    SLOWEST_STOP_S,
    Host,
    HostId,
    Item,
    ItemId,
    Nas,
    Objectives,
    Practice,
    RestoreHost,
    Ups,
    Within,
    Zone,
    interval_s,
    schedule,
    seconds,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import (
    Document,
    KeyPath,
    Problem,
    did_you_mean,
    nearest,
    show,
    value_at,
)
from pydantic import TypeAdapter, ValidationError


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _valid(kind: Any, value: Any) -> Any:
    """Give the checked part, or None when it is wrong in itself (which is said elsewhere)."""
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError:
        return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _parts(kind: Any, value: Any) -> dict[str, Any]:
    return {name: _valid(kind, raw) for name, raw in _mapping(value).items()}


def _names_sure(document: Document, section: str, kind: Any) -> bool:
    if any(path[:1] == (section,) and len(path) == 2 for path in document.duplicates):
        return False
    names = _mapping(document.data.get(section))
    return all(_valid(kind, name) is not None and (section, name) not in document.hazards for name in names)


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


@dataclass
class View:
    """What is known of a document that may be wrong in places: parts that are wrong in themselves are None.

    So the rules between parts can be checked, and all mistakes be said, in one run. hosts_sure and items_sure are False
    when a name is wrong or came twice: then a name that is not known may well be the one that was meant.
    """

    document: Document
    hosts: dict[str, Any] = field(default_factory=dict)
    items: dict[str, Item | None] = field(default_factory=dict)
    power: dict[str, Ups | None] = field(default_factory=dict)
    objectives: Objectives | None = None
    prove: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    protected: dict[str, list[str]] = field(default_factory=dict)
    fed: set[str] = field(default_factory=set)
    hosts_sure: bool = True
    items_sure: bool = True

    @classmethod
    def of(cls, document: Document, practice: Practice | None) -> View:
        """Collect what can be known; practice is given when every part is right in itself."""
        data = document.data
        hosts = _mapping(data.get("hosts"))
        power = _mapping(data.get("power"))
        return cls(
            document,
            hosts=practice.hosts if practice else _parts(Host, hosts),
            items=dict(practice.protect) if practice else _parts(Item, data.get("protect")),
            power=dict(practice.power or {}) if practice else _parts(Ups, power),
            objectives=practice.objectives if practice else _valid(Objectives, data.get("objectives", {})),
            prove=_mapping(data.get("prove")),
            kinds={name: str(_mapping(raw).get("kind")) for name, raw in hosts.items()},
            protected={name: _strings(_mapping(raw).get("protect")) for name, raw in hosts.items()},
            hosts_sure=_names_sure(document, "hosts", HostId),
            items_sure=_names_sure(document, "protect", ItemId),
            fed={host for raw in power.values() for host in _strings(_mapping(raw).get("feeds"))},
        )

    def problem(self, path: KeyPath, got: str, expected: str, fix: str = "", key: bool = False) -> Problem:
        """Make a problem at a place of the document."""
        return self.document.problem(path, got, expected, fix, key)

    def unknown(self, path: KeyPath, name: str, known: Iterable[str], what: str) -> Problem:
        """Make the problem of a name that nothing stands behind."""
        known = list(known)
        listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        return self.problem(path, f"got {show(name)} (string)", f"{what}: {listed}", did_you_mean(name, known))


def _protected_items(view: View) -> Iterator[Problem]:
    if not view.items or not view.hosts:
        return
    meant = set()
    for host, names in view.protected.items():
        for index, name in enumerate(names):
            if name not in view.items and view.items_sure:
                meant.add(nearest(name, view.items))
                yield view.unknown(("hosts", host, "protect", index), name, view.items, "an item below protect")
    used = {name for names in view.protected.values() for name in names} | meant
    # A host that cannot be read may be the one that protects an item
    readable = view.hosts_sure and all(
        host or view.kinds[name] in ("nas", "restore_host") or view.protected[name] for name, host in view.hosts.items()
    )
    for name in view.items if readable else ():
        if name not in used:
            fix = f"add {name} to the protect list of a server or workstation"
            yield view.problem(
                ("protect", name), "no host protects it", "each item on at least one host", fix, key=True
            )


def _items_whole(view: View) -> Iterator[Problem]:
    for name, item in view.items.items():
        here = ("protect", name)
        if item is None:
            continue
        if bool(item.database) == bool(item.paths):
            got = "there are both database and paths" if item.paths else "there is neither database nor paths"
            yield view.problem(
                here, got, "one of the two", "describe them as two items" if item.paths else "", key=True
            )
        if item.every and item.at:
            fix = "keep one of the two"
            yield view.problem((*here, "at"), "there are both every and at", "one schedule", fix, key=True)
        if not item.database:
            for key in ("images", "probes"):
                if getattr(item, key):
                    yield view.problem((*here, key), f"{key} without a database", "database: beside it", key=True)
        if not item.paths:
            for key in ("must_have", "exclude", "min_files"):
                if key in item.model_fields_set:
                    yield view.problem((*here, key), f"{key} without paths", "paths: beside it", key=True)
        if item.time_limit and seconds(item.time_limit) > interval_s(item):
            got, expected = f"got {show(item.time_limit)} (string)", "at most the time between two backups"
            yield view.problem((*here, "time_limit"), got, expected)


def _below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root.rstrip("/") or path.startswith(root.rstrip("/") + "/") for root in roots)


def _hides(pattern: str, path: str) -> bool:
    """Say whether an exclude pattern hides a path or a folder above it, the way restic matches."""
    parts = path.strip("/").split("/")
    for end in range(1, len(parts) + 1):
        subject = "/" + "/".join(parts[:end]) if "/" in pattern else parts[end - 1]
        if fnmatchcase(subject, pattern):
            return True
    return False


def _items_paths(view: View) -> Iterator[Problem]:
    for name, item in view.items.items():
        if item is None or not item.paths:
            continue
        wanted = item.must_have or []
        for index, path in enumerate(wanted):
            if not _below(path.rstrip("/"), item.paths):
                got, expected = f"got {show(path)} (string)", "a path at or below one of paths"
                yield view.problem(("protect", name, "must_have", index), got, expected)
        for index, pattern in enumerate(item.exclude or []):
            hidden = next((path for path in [*item.paths, *wanted] if _hides(pattern, path)), None)
            if hidden:
                got = f"the pattern {show(pattern)} hides {show(hidden)}"
                yield view.problem(("protect", name, "exclude", index), got, "patterns that leave it in the backup")


def _one_database_once(view: View) -> Iterator[Problem]:
    for host, names in view.protected.items():
        seen: dict[tuple[str, str], str] = {}
        for index, name in enumerate(names):
            item = view.items.get(name)
            if not item or not item.database:
                continue
            database = (item.database.engine, item.database.name)
            if database in seen:
                got = f"{name} is the same database as {seen[database]} ({database[1]})"
                yield view.problem(("hosts", host, "protect", index), got, "each database once on a host")
            seen.setdefault(database, name)


def _roles(view: View) -> Iterator[Problem]:
    if not view.hosts:
        return
    protecting = [host for host, kind in view.kinds.items() if kind in ("server", "workstation")]
    for host in protecting:
        if view.hosts[host] and not view.protected[host] and host not in view.fed:
            fix = f"give it protect: [ITEM], or leave {host} out"
            yield view.problem(
                ("hosts", host), "nothing is to be done on this host", "protect: or a UPS", fix, key=True
            )
    restore_hosts = [host for host, kind in view.kinds.items() if kind == "restore_host"]
    if not restore_hosts and all(view.kinds[host] in KINDS for host in view.hosts):
        fix = "add proof1: {kind: restore_host, driver: nspawn, on: localhost}"
        yield view.problem(
            ("hosts",), "there is no host of kind restore_host", "one, to prove restores on", fix, key=True
        )
    for host in restore_hosts[1:]:
        got = f"a second restore_host (beside {restore_hosts[0]}) is {NOT_AVAILABLE}"
        yield view.problem(("hosts", host), got, "one host of kind restore_host", "leave it out", key=True)


def _restore_host_apart(view: View) -> Iterator[Problem]:
    for name, host in view.hosts.items():
        if not isinstance(host, RestoreHost) or host.on == "localhost":
            continue
        path = ("hosts", name, "on")
        if host.on in view.hosts:
            got = f"got {show(host.on)}, which is also a {view.kinds[host.on]} of this practice"
            yield view.problem(path, got, "localhost", "restores are never proven on a machine that is in use")
        else:
            got = f"got {show(host.on)}: another carrier than localhost is {NOT_AVAILABLE}"
            yield view.problem(path, got, "localhost")


def _onsite(view: View) -> Iterator[Problem]:
    name = value_at(view.document.data, ("copies", "onsite", "on"))
    stores = [host for host, kind in view.kinds.items() if kind == "nas"]
    if not isinstance(name, str) or not view.hosts or not view.hosts_sure:
        return
    path = ("copies", "onsite", "on")
    if name in view.hosts and view.kinds[name] not in ("nas", "None") and view.kinds[name] in KINDS:
        got = f"got {show(name)}, which is a {view.kinds[name]}"
        yield view.problem(path, got, "a host of kind nas", f"write {stores[0]}" if stores else "")
    elif name not in view.hosts:
        yield view.unknown(path, name, stores or view.hosts, "a host of kind nas")
    else:
        for store in stores:
            if store != name:
                got, fix = "no copy goes to this nas", f"leave {store} out, or write copies.onsite.on: {store}"
                yield view.problem(("hosts", store), got, "one nas, the one in copies.onsite.on", fix, key=True)


def _pools(view: View) -> Iterator[Problem]:
    for name, host in view.hosts.items():
        if isinstance(host, Nas):
            path, count = ("hosts", name, "pool", "devices"), len(host.pool.devices)
            if host.pool.profile == "raid1" and count < 2:
                expected = "at least 2 different devices for raid1"
                yield view.problem(
                    path, f"got {count} device", expected, "add the second disk, or write profile: single"
                )
            if host.pool.profile == "single" and count > 1:
                yield view.problem(path, f"got {count} devices", "one device for single", "write profile: raid1")


def _addresses(view: View) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, host in view.hosts.items():
        address = getattr(host, "address", None)
        if address is None:
            continue
        path = ("hosts", name, "address")
        try:
            plain = ipaddress.ip_address(address).compressed
        except ValueError:
            plain = address.lower()
        if plain in seen:
            yield view.problem(path, f"got {show(address)}, the address of {seen[plain]}", "an address of its own")
        seen.setdefault(plain, name)
        if isinstance(host, Nas) and "%" in address:
            yield view.problem(path, f"got {show(address)} (string)", "an address that is the same for all hosts")


def _names_free(view: View) -> Iterator[Problem]:
    """Refuse two names that are one for file systems and people: none now, as names are lower case only."""
    for ups in view.power:
        if ups in view.hosts:
            yield view.problem(("power", ups), f"the name {show(ups)} is also a host", "a name of its own", key=True)


def _ups_wiring(view: View) -> Iterator[Problem]:
    machines = [host for host, kind in view.kinds.items() if kind != "restore_host"]
    if not view.hosts or not view.hosts_sure:
        return
    for name, ups in view.power.items():
        raw = _mapping(value_at(view.document.data, ("power", name)))
        feeds, primary = _strings(raw.get("feeds")), raw.get("attached_to")
        for index, host in enumerate(feeds):
            if host not in machines:
                yield view.unknown(("power", name, "feeds", index), host, machines, "a machine of this practice")
        path = ("power", name, "attached_to")
        if isinstance(primary, str) and primary not in machines:
            yield view.unknown(path, primary, machines, "a machine of this practice (the primary)")
        elif isinstance(primary, str) and feeds and primary not in feeds:
            got, fix = f"got {show(primary)}, which {name} does not feed", f"add {primary} to feeds"
            yield view.problem(path, got, "one of the hosts that it feeds", fix)
        if ups and ups.driver in ("snmp-ups", "netxml-ups", "apcupsd-ups") and not ups.port:
            yield view.problem(("power", name, "port"), "missing", f"the UPS's network address for {ups.driver}")


def _ups_budget(view: View) -> Iterator[Problem]:
    need = HOSTSYNC_S + SLOWEST_STOP_S + FINALDELAY_S
    for name, ups in view.power.items():
        if ups and seconds(ups.runtime) < need:
            sum_text = f"HOSTSYNC {HOSTSYNC_S} + slowest stop {SLOWEST_STOP_S} + FINALDELAY {FINALDELAY_S} = {need} s"
            got = f"got {show(ups.runtime)}: {seconds(ups.runtime)} s"
            yield view.problem(
                ("power", name, "runtime"), got, f"at least {sum_text}", "feed fewer machines or get a larger UPS"
            )


def _proofs(view: View) -> Iterator[Problem]:
    for name in view.prove if view.items and view.items_sure else ():
        if name not in view.items:
            problem = view.unknown(("prove", name), name, view.items, "an item below protect")
            yield view.problem(("prove", name), f"unknown item {show(name)}", problem.expected, problem.fix, key=True)


def _rpo(view: View) -> Iterator[Problem]:
    if not view.objectives:
        return
    rpo = seconds(view.objectives.rpo)
    for name, item in view.items.items():
        if item and interval_s(item) > rpo:
            every, at = schedule(item)
            written = "every" if item.every else "at" if item.at else ""
            path: KeyPath = ("protect", name, written) if written else ("protect", name)
            fitting = [choice for choice in ("12h", "8h", "6h", "4h", "3h", "2h", "1h") if seconds(choice) <= rpo]
            how_often = f"every {every}" if every else f"once a day at {at}"
            got = f"a backup {how_often} cannot meet objectives.rpo {view.objectives.rpo}"
            fix = f"write every: {fitting[0]}" if fitting else "write a longer objectives.rpo"
            yield view.problem(path, got, f"a backup at least every {view.objectives.rpo}", fix, key=True)


def _clock_changes(view: View) -> Iterator[Problem]:
    zone = value_at(view.document.data, ("practice", "timezone"))
    if _valid(Zone, zone) is None or not changes_clocks(zone):
        return
    for name, item in view.items.items():
        if item and item.at and "01:00" <= item.at < "04:00":
            expected = f"a time outside 01:00-03:59, when clocks change in {zone}"
            yield view.problem(
                ("protect", name, "at"), f"got {show(item.at)} (string)", expected, 'write "00:30" or "04:00"'
            )


def changes_clocks(zone: str) -> bool:
    """Say whether a zone has summer time (judged by the months of one fixed year, so that the answer does not move)."""
    info = ZoneInfo(zone)
    return len({datetime(2026, month, 15, tzinfo=UTC).astimezone(info).utcoffset() for month in range(1, 13)}) > 1


_PERIODS = {"hourly": 3600, "daily": DAY_S, "weekly": 7 * DAY_S, "monthly": 30 * DAY_S, "yearly": 365 * DAY_S}


def _retention(view: View) -> Iterator[Problem]:
    raw = value_at(view.document.data, ("retention", "within"))
    within = _valid(Within, raw) if isinstance(raw, dict) else None
    if within is None:
        return
    kept = {name: seconds(value) for name, value in within.model_dump(exclude_none=True).items()}
    points = sum(span // _PERIODS[name] for name, span in kept.items())
    path = ("retention", "within")
    fix = "write for example {daily: 35d, weekly: 6mo, monthly: 3y}"
    if points < 2:
        yield view.problem(path, f"this keeps {points} restore points", "at least 2 restore points", fix, key=True)
    elif max(kept.values()) < 30 * DAY_S:
        longest = max(kept.values()) // DAY_S
        yield view.problem(path, f"this reaches back {longest} days", "at least 30 days", fix, key=True)


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (
    _protected_items,
    _items_whole,
    _items_paths,
    _one_database_once,
    _roles,
    _restore_host_apart,
    _onsite,
    _pools,
    _addresses,
    _names_free,
    _ups_wiring,
    _ups_budget,
    _proofs,
    _rpo,
    _clock_changes,
    _retention,
)
