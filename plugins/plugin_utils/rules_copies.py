# SPDX-License-Identifier: Apache-2.0
"""What must hold for the copies of a practice: where they lie, how long they are kept, and when they are made."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    DAY_S,
    plain_address,
    seconds,
    url_host,
    weekdays,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import KINDS, Offsite, Slot, schedule
from ansible_collections.holdfast.practice.plugins.plugin_utils.regions import AWS, kilometres
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import (
    KeyPath,
    Problem,
    did_you_mean,
    show,
    value_at,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import Slot as Time
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import (
    minutes,
    overlapping,
    window_slot,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, valid


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
        also = [value_at(view.document.data, ("copies", copy, "on")) for copy in ("archive", "removable")]
        for store in stores:
            if store != name and store not in also:
                got, fix = "no copy goes to this nas", f"leave {store} out, or write copies.onsite.on: {store}"
                yield view.problem(("hosts", store), got, "one nas, the one in copies.onsite.on", fix, key=True)


def _offsite(view: View) -> Iterator[Problem]:
    offsite = view.offsite
    if offsite is None:
        return
    path: KeyPath = ("copies", "offsite")
    kinds = [kind for kind in ("s3", "rest", "sftp") if getattr(offsite, kind)]
    if len(kinds) != 1:
        got = f"there are {' and '.join(kinds)}" if kinds else "there is no s3, rest or sftp"
        yield view.problem(path, got, "one of s3, rest and sftp", key=True)
        return
    yield from _offsite_place(view, offsite)
    yield from _offsite_outside(view, offsite)
    if offsite.s3 and offsite.s3.object_lock and view.within:
        kept = max(_kept(view).values(), default=0)
        if seconds(offsite.s3.object_lock) > kept:
            got = f"got {show(offsite.s3.object_lock)}, longer than anything is kept ({kept // DAY_S} days by retention.within)"
            expected = "at most what retention keeps: a prune could never delete"
            yield view.problem((*path, "s3", "object_lock"), got, expected, "write a shorter lock, or keep longer")


def _offsite_outside(view: View, offsite: Offsite) -> Iterator[Problem]:
    """Refuse an offsite copy on a machine of the house."""
    inside = {plain_address(host.address): name for name, host in view.hosts.items() if hasattr(host, "address")}
    inside |= {name: name for name in view.hosts}
    places = {
        ("s3", "endpoint"): offsite.s3.endpoint if offsite.s3 else None,
        ("rest", "url"): offsite.rest.url if offsite.rest else None,
        ("sftp", "host"): offsite.sftp.host if offsite.sftp else None,
    }
    for where, value in places.items():
        host = inside.get(plain_address(url_host(value) if value.startswith("https:") else value)) if value else None
        if host:
            got = f"got {show(value)}, which is {host}, a machine of this practice"
            yield view.problem(("copies", "offsite", *where), got, "an address in another place")


def _offsite_place(view: View, offsite: Offsite) -> Iterator[Problem]:
    path: KeyPath = ("copies", "offsite")
    region = offsite.s3.region if offsite.s3 else ""
    # Other providers call their regions as they like, us-east-1 above all
    known = AWS.get(region) if offsite.s3 and not offsite.s3.endpoint else None
    if offsite.s3 and not offsite.s3.endpoint and not known:
        got, expected = f"got {show(region)}, an unknown region", "a region of AWS, or endpoint: of another provider"
        yield view.problem((*path, "s3", "region"), got, expected, did_you_mean(region, AWS))
        return
    country = known.country if known else offsite.country
    if known and offsite.country and offsite.country != known.country:
        got = f"got {show(offsite.country)}, but {region} is in {known.country}"
        yield view.problem((*path, "country"), got, f'"{known.country}"', "leave country out")
        return
    if country is None:
        yield view.problem((*path, "country"), "missing", "the country that the copy lies in")
    elif view.identity:
        allowed = view.identity.data_countries or [view.identity.country]
        if country not in allowed:
            got = f"{region} is in {country}" if known else f"got {show(country)}"
            where: KeyPath = (*path, "s3", "region") if known else (*path, "country")
            expected = f"a country that practice.data_countries allows: {', '.join(allowed)}"
            fix = f"choose another place, or write practice.data_countries: {show([*allowed, country])}"
            yield view.problem(where, got, expected, fix)
    place = offsite.location or ([known.latitude, known.longitude] if known else None)
    if view.identity and view.identity.location and place:
        away = kilometres(view.identity.location, place)
        if away < offsite.min_distance_km:
            got = f"the copy lies {away:.0f} km from the practice"
            expected = f"at least {offsite.min_distance_km} km: one fire or flood must not take both"
            where = (*path, "location") if offsite.location else (*path, "s3", "region")
            yield view.problem(where, got, expected, "choose a place further away")


_OFTEN_S = {"daily": DAY_S, "weekly": 7 * DAY_S, "monthly": 31 * DAY_S}


def _removable(view: View) -> Iterator[Problem]:
    removable = view.removable
    if removable is None:
        return
    path: KeyPath = ("copies", "removable")
    if view.hosts_sure and removable.on not in view.hosts:
        yield view.unknown((*path, "on"), removable.on, view.hosts, "a host of this practice")
    elif view.kinds.get(removable.on) == "restore_host":
        got = f"got {show(removable.on)}, which is a restore_host"
        yield view.problem((*path, "on"), got, "a host that is there for good")
    if len(removable.disks) < 2:
        got, fix = f"got {len(removable.disks)} disk", "get a second one: one is always away"
        yield view.problem((*path, "disks"), got, "at least 2 disks, or nothing rotates", fix)
    seen: dict[str, str] = {}
    for name, disk in removable.disks.items():
        first = seen.setdefault(disk.uuid.lower(), name)
        if first != name:
            got = f"got {show(disk.uuid)}, the UUID of {first}"
            yield view.problem((*path, "disks", name, "uuid"), got, "a UUID of its own (blkid prints it)")
    if removable.max_gap and seconds(removable.max_gap) > _OFTEN_S[removable.rotate]:
        days = _OFTEN_S[removable.rotate] // DAY_S
        got = f"got {show(removable.max_gap)}, longer than rotate: {removable.rotate} ({days} days)"
        yield view.problem(
            (*path, "max_gap"), got, "at most the time between two swaps", "write a shorter gap or rotate less often"
        )


def _other_copies(view: View) -> Iterator[Problem]:
    for copy, kind in (("standby", "standby"), ("archive", "nas")):
        name = value_at(view.document.data, ("copies", copy, "on"))
        if (
            isinstance(name, str)
            and view.hosts_sure
            and view.kinds.get(name, kind) != kind
            and view.kinds[name] in KINDS
        ):
            got = f"got {show(name)}, which is a {view.kinds[name]}"
            yield view.problem(("copies", copy, "on"), got, f"a host of kind {kind}")
        elif isinstance(name, str) and view.hosts_sure and name not in view.hosts:
            known = [host for host in view.hosts if view.kinds[host] == kind] or view.hosts
            yield view.unknown(("copies", copy, "on"), name, known, f"a host of kind {kind}")


SHORTEST_MEMORY_S = 30 * DAY_S
_PERIODS = {"hourly": 3600, "daily": DAY_S, "weekly": 7 * DAY_S, "monthly": 30 * DAY_S, "yearly": 365 * DAY_S}


def _kept(view: View) -> dict[str, int]:
    return {name: seconds(value) for name, value in view.within or () if value}


def _retention(view: View) -> Iterator[Problem]:
    if view.within is None:
        return
    kept = _kept(view)
    points = sum(span // _PERIODS[name] for name, span in kept.items())
    path = ("retention", "within")
    fix = "write for example {daily: 35d, weekly: 6mo, monthly: 3y}"
    if points < 2:
        yield view.problem(
            path,
            f"this keeps {points} restore point{'' if points == 1 else 's'}",
            "at least 2 restore points",
            fix,
            key=True,
        )
    elif max(kept.values()) < SHORTEST_MEMORY_S:
        longest = max(kept.values()) // DAY_S
        yield view.problem(path, f"this reaches back {longest} days", "at least 30 days", fix, key=True)


def _retention_long_enough(view: View) -> Iterator[Problem]:
    """Refuse a memory that ends before anybody looked: proofs and the RPO need something to be there still."""
    kept = list(_kept(view).values())
    if not kept or max(kept) < SHORTEST_MEMORY_S:
        return
    for name, often in view.prove.items():
        if isinstance(often, str) and _OFTEN_S.get(often, 0) > max(kept):
            got = f"proven {often}, but retention.within reaches back {max(kept) // DAY_S} days"
            yield view.problem(
                ("prove", name), got, "a proof before its backup is forgotten", "keep longer, or prove more often"
            )
    if view.objectives and seconds(view.objectives.rpo) > max(kept):
        got = f"got {show(view.objectives.rpo)}, longer than retention.within reaches back ({max(kept) // DAY_S} days)"
        yield view.problem(("objectives", "rpo"), got, "a restore point within the RPO", "keep longer")


def _overlaps(view: View) -> Iterator[Problem]:
    """Refuse times at which two jobs would lock each other out, across midnight too.

    Items that run every few hours are left out: maintenance stops writes for its own time, and their next run is near.
    """
    slots: dict[str, tuple[Time, KeyPath]] = {}
    for name, item in view.items.items():
        at = schedule(item, view.usual)[1] if item else None
        if item and at:
            length = seconds(item.time_limit or "2h") // 60
            days = tuple(weekdays(item.days or "mon-sun"))
            slots[f"backup {name}"] = (Time(f"backup {name}", days, minutes(at), length), ("protect", name))
    offsite = view.offsite
    if offsite:
        name = "copies.offsite"
        slot = (
            window_slot(name, "mon-sun", offsite.window)
            if offsite.window
            else Time(name, tuple(range(7)), minutes(offsite.at), 60)
        )
        slots[name] = (slot, ("copies", "offsite"))
    for name in ("prune", "check", "reboot"):
        raw = value_at(view.document.data, ("maintenance", name))
        part = getattr(view.maintenance, name) if view.maintenance else valid(Slot, raw)
        if part:
            slots[name] = (window_slot(name, part.days, part.window), ("maintenance", name))
    for first, second in overlapping(slot for slot, _ in slots.values()):
        if first.name.startswith("backup ") and second.name.startswith("backup "):
            continue
        got = f"{second} overlaps {first}"
        yield view.problem(slots[second.name][1], got, "times apart from each other", "move one of the two", key=True)


RULES = (
    _onsite,
    _offsite,
    _removable,
    _other_copies,
    _retention,
    _retention_long_enough,
    _overlaps,
)
