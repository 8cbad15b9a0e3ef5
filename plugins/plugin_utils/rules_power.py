# SPDX-License-Identifier: Apache-2.0
"""What must hold between the UPSs of a practice document and the hosts on them."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import NETWORK_DRIVERS, seconds
from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import budget
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
    for name, ups in view.power.items():
        stops = {
            host: seconds(known.stop_time)
            for host in (ups.feeds if ups else [])
            if (known := view.hosts.get(host)) is not None and hasattr(known, "stop_time")
        }
        if ups is None or len(stops) < len(ups.feeds):
            continue
        plan = budget(ups, stops)
        if plan.runtime_s < plan.need_s:
            got, expected = f"got {show(ups.runtime)}: {plan.runtime_s} s", f"at least {plan.words}"
            fix = "feed fewer machines or get a larger UPS"
            yield view.problem(("power", name, "runtime"), got, expected, fix)


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


RULES = (_ups_wiring, _ups_budget, _supplies, _one_battery_once, _usb_told_apart)
