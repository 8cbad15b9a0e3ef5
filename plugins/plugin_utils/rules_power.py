# SPDX-License-Identifier: Apache-2.0
"""What must hold between the UPSs of a practice document and the hosts on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.holdfast.practice.plugins.module_utils.power import is_secret
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import NETWORK_DRIVERS, seconds
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import LOW_RESERVE_S
from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import Stop, budget, stops, units
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem, show, value_at
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, mapping, strings


def _ups_wiring(view: View) -> Iterator[Problem]:
    machines = [host for host, kind in view.kinds.items() if kind != "restore_host"]
    if not view.hosts or not view.hosts_sure:
        return
    for name, ups in view.power.items():
        raw = mapping(value_at(view.document.data, ("power", name)))
        feeds, primary = strings(raw.get("feeds")), raw.get("attached_to")
        for index, host in enumerate(feeds):
            if host not in machines:
                yield view.unknown(("power", name, "feeds", index), host, machines, "a machine of this practice")
        path = ("power", name, "attached_to")
        if isinstance(primary, str) and primary not in machines:
            yield view.unknown(path, primary, machines, "a machine of this practice (the primary)")
        elif isinstance(primary, str) and feeds and primary not in feeds:
            got, fix = f"got {show(primary)}, which {name} does not feed", f"add {primary} to feeds"
            yield view.problem(path, got, "one of the hosts that it feeds", fix)
        if ups and ups.driver in NETWORK_DRIVERS and not ups.port:
            yield view.problem(("power", name, "port"), "missing", f"the UPS's network address for {ups.driver}")


def _ups_budget(view: View) -> Iterator[Problem]:
    yield from budget_problems(view, {})


def budget_problems(view: View, measured: Mapping[str, Stop]) -> Iterator[Problem]:
    """Refuse a UPS whose battery is empty before its machines are off. measured: stops of machines that were measured."""
    known = stops({name: host for name, host in view.hosts.items() if host}, measured)
    power = {name: ups for name, ups in view.power.items() if ups}
    for name, ups in power.items():
        if ups.attached_to not in ups.feeds or not set(ups.feeds) <= set(known):
            continue
        plan = budget(name, power, known)
        low, runtime = plan.written_low_s, plan.runtime_s
        key, has = ("runtime", runtime) if low is None or runtime < plan.need_s else ("low_battery", low)
        said = getattr(ups, key)
        if plan.need_s > has:
            got = f"got {show(said)}: {has} s, {plan.need_s - has} s too few"
            fix = "feed fewer machines or get a larger UPS"
            if key == "low_battery":
                fix = f'write "{plan.need_s + LOW_RESERVE_S}s" or more' if runtime > plan.need_s else fix
            fix = (
                f"write a shorter stop_time of {plan.offender} where it stops sooner, {fix}"
                if key == "runtime"
                else fix
            )
            yield view.problem(("power", name, key), got, f"at least {plan.words}", fix)
        elif low is not None and low >= runtime:
            got = f"got {show(ups.low_battery)}: {low} s, and the whole battery lasts {runtime} s"
            fix = "write less than runtime, or leave it out"
            yield view.problem(
                ("power", name, "low_battery"), got, "a part of the battery: mains that fail are no low battery", fix
            )


def _battery_age(view: View) -> Iterator[Problem]:
    for name, ups in view.power.items():
        if ups and ups.battery and ups.battery.replace_by <= ups.battery.installed:
            got = f"got {show(ups.battery.replace_by)}, and it was installed on {show(ups.battery.installed)}"
            yield view.problem(
                ("power", name, "battery", "replace_by"), got, "a later day", "write the day it has to go by"
            )


LEAST_STOP_S = 8  # in less, no host stops its services one after another and writes its disks


def _stop_times(view: View) -> Iterator[Problem]:
    for name, host in view.hosts.items():
        said = getattr(host, "stop_time", None)
        if said and name in view.fed and seconds(said) < LEAST_STOP_S:
            yield view.problem(("hosts", name, "stop_time"), f"got {show(said)}", f"at least {LEAST_STOP_S}s")


def _unit_stops(view: View) -> Iterator[Problem]:
    """Refuse limits of units that add up to more than the host has."""
    for name, host in view.hosts.items():
        if host is None or not getattr(host, "stop_limits", None):
            continue
        items = [view.items.get(item) for item in view.protected.get(name, ())]
        plan, has = units(host, [item for item in items if item]), seconds(host.stop_time)
        if plan.need_s > has:
            got = f"together {plan.need_s} s, and {name} has {has} s (stop_time), {plan.need_s - has} s too few"
            fix = f"shorten them, or write stop_time: {plan.need_s}s"
            yield view.problem(("hosts", name, "stop_limits"), got, f"{plan.words}, at most stop_time", fix, key=True)


def _supplies(view: View) -> Iterator[Problem]:
    for name, host in view.hosts.items():
        wanted = getattr(host, "min_supplies", 1)
        feeds = [
            ups
            for ups, raw in mapping(view.document.data.get("power")).items()
            if name in strings(mapping(raw).get("feeds"))
        ]
        written = host is not None and "min_supplies" in host.model_fields_set
        if written and wanted > len(feeds):
            fed = f"{name} is fed by {len(feeds)} ({', '.join(feeds)})" if feeds else f"no UPS feeds {name}"
            fix = (
                f"write {len(feeds)}, or add {name} to another UPS's feeds" if feeds else "leave it out, or add the UPS"
            )
            yield view.problem(
                ("hosts", name, "min_supplies"), f"got {wanted}: {fed}", "at most the number of its UPSs", fix
            )


def _one_battery_once(view: View) -> Iterator[Problem]:
    """Refuse one UPS written down twice: two primaries would both believe that they decide."""
    seen: dict[tuple[str, str], str] = {}
    for name, ups in view.power.items():
        if ups is None:
            continue
        serial = (ups.settings or {}).get("serial", "")
        networked = ups.port if ups.port and ups.driver in NETWORK_DRIVERS else ""
        for key, kind in ((serial, "serial"), (networked, "port")):
            if not key:
                continue
            first = seen.setdefault((kind, key), name)
            other = view.power[first]
            if first != name and other:
                got = f"got {show(key)}, which is also {first}: one UPS with the primaries {other.attached_to}, {ups.attached_to}"
                path = ("power", name, "settings", "serial") if kind == "serial" else ("power", name, "port")
                yield view.problem(path, got, "each UPS once", f"add {name}'s hosts to the feeds of {first}")


_TELLS_APART = ("serial", "vendorid", "productid", "product", "vendor", "bus", "busport", "device")


def _usb_told_apart(view: View) -> Iterator[Problem]:
    """Refuse two batteries on the USB of one host that nothing tells apart: both drivers would take the same one."""
    first: dict[str, str] = {}
    for name, ups in view.power.items():
        usb = ups and (ups.port in (None, "auto")) and ("usb" in ups.driver or ups.driver == "nutdrv_qx")
        if not ups or not usb or set(ups.settings or {}) & set(_TELLS_APART):
            continue
        other = first.setdefault(ups.attached_to, name)
        if other != name:
            got = f"nothing tells {name} from {other}: both are on the USB of {ups.attached_to}"
            fix = 'add settings: {serial: "..."} to both (nut-scanner prints it)'
            yield view.problem(("power", name), got, "a serial number of each", fix, key=True)


def _secrets_kept(view: View) -> Iterator[Problem]:
    """Refuse what opens a UPS in a document that everybody may read; the text itself is not repeated."""
    for name, ups in view.power.items():
        for key, value in ((ups.settings if ups else None) or {}).items():
            path = ("power", name, "settings", key)
            if ups and key in (ups.vault_settings or ()):
                yield view.problem(
                    path, "given here and in vault_settings", "one of them", "take it out of settings", key=True
                )
            elif is_secret(key, value):
                fix = f"write vault_settings: [{key}] instead, and run bin/holdfast secrets: it makes a place in the vault"
                yield view.problem(path, "a secret in the document", "its name alone", fix, key=True)


RULES = (
    _ups_wiring,
    _ups_budget,
    _battery_age,
    _stop_times,
    _unit_stops,
    _supplies,
    _one_battery_once,
    _usb_told_apart,
    _secrets_kept,
)
