# SPDX-License-Identifier: Apache-2.0
"""What must hold between the hosts of a practice document: names, addresses, ports, pools, and where proofs run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import (
    CONTROL_NODE,
    NOT_AVAILABLE,
    SSH_PORT,
    plain_address,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import KINDS, Nas, RestoreHost, Retired
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem, show
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, mapping, valid


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


_CARRIER = "localhost, or the address of a machine that does nothing else"


def _restore_host_apart(view: View) -> Iterator[Problem]:
    in_use = {plain_address(getattr(host, "address", name)): name for name, host in view.hosts.items()}
    in_use |= {name: name for name in view.hosts}
    for name, host in view.hosts.items():
        if not isinstance(host, RestoreHost):
            continue
        path = ("hosts", name, "on")
        if host.on == CONTROL_NODE:
            if host.driver == "spare":
                expected = "the address of a machine that may be erased"
                yield view.problem(path, f"got {CONTROL_NODE}, which is no spare machine", expected)
            if host.ssh_port != SSH_PORT:
                got, fix = f"got {host.ssh_port}, for {CONTROL_NODE}", "write on: ADDRESS, or leave ssh_port out"
                yield view.problem(("hosts", name, "ssh_port"), got, "a port of another machine", fix)
        elif plain_address(host.on) in in_use:
            also = in_use[plain_address(host.on)]
            what = f"a {view.kinds[also]}" if also == host.on else f"{also}, a {view.kinds[also]}"
            got = f"got {show(host.on)}, which is also {what} of this practice"
            yield view.problem(path, got, _CARRIER, "restores are never proven on a machine that is in use")


def _pools(view: View) -> Iterator[Problem]:
    for name, host in view.hosts.items():
        if isinstance(host, Nas):
            path, count = ("hosts", name, "pool", "devices"), len(host.pool.devices)
            whole: dict[str, str] = {}
            for index, device in enumerate(host.pool.devices):
                first = whole.setdefault(re.sub(r"-part[0-9]+$", "", device), device)
                if first != device:
                    got = f"got {show(device)}, a part of the disk of {show(first)}"
                    yield view.problem((*path, index), got, "different disks")
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
        plain = plain_address(address)
        if plain in seen:
            yield view.problem(path, f"got {show(address)}, the address of {seen[plain]}", "an address of its own")
        seen.setdefault(plain, name)
        if isinstance(host, Nas) and "%" in address:
            yield view.problem(path, f"got {show(address)} (string)", "an address that is the same for all hosts")


def names_apart(view: View) -> Iterator[Problem]:
    """Refuse two names that are one for people and for disks that see no capitals: each has its own repository."""
    for section in ("hosts", "protect"):
        names = mapping(view.document.data.get(section))
        for name in names:
            small = name.lower()
            if name != small and small in names:
                got = f"the name {show(name)} is {show(small)} in capitals"
                expected = "names that differ in more: disks and people do not see capitals"
                yield view.problem((section, name), got, expected, "give it another name", key=True)


MOST_HOSTS = 1000


def _number_of_hosts(view: View) -> Iterator[Problem]:
    if len(view.hosts) > MOST_HOSTS:
        fix = "describe each site as a practice of its own"
        yield view.problem(
            ("hosts",), f"got {len(view.hosts)} hosts", f"at most {MOST_HOSTS} in a practice", fix, key=True
        )


def _names_free(view: View) -> Iterator[Problem]:
    for ups in view.power:
        if ups in view.hosts:
            yield view.problem(("power", ups), f"the name {show(ups)} is also a host", "a name of its own", key=True)


_NETBIOS_LIMIT = 15


def _netbios(view: View) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, host in view.hosts.items():
        windows = getattr(host, "os", "") == "windows"
        if not windows and not isinstance(host, Nas):
            continue
        said = host.netbios_name
        if not said and len(name) > _NETBIOS_LIMIT:
            got = f"missing, and the name {show(name)} has {len(name)} characters"
            expected = f"a NetBIOS name of at most {_NETBIOS_LIMIT} characters"
            fix = f"add netbios_name: {name[:_NETBIOS_LIMIT].strip('-').upper()}"
            yield view.problem(("hosts", name, "netbios_name"), got, expected, fix)
        short = (said or name).lower()
        if short in seen:
            got = f"got {show(said or name)}, the NetBIOS name of {seen[short]}"
            yield view.problem(("hosts", name, "netbios_name"), got, "a NetBIOS name of its own")
        seen.setdefault(short, name)


_NUT_PORT = 3493
_LAST_PORT = 65535


def _ports(view: View) -> Iterator[Problem]:
    for name, host in view.hosts.items():
        if not isinstance(host, Nas):
            continue
        taken = {host.ssh_port: "ssh_port"}
        primary = any(ups and ups.attached_to == name for ups in view.power.values())
        if primary:
            taken.setdefault(_NUT_PORT, "NUT's server")
        following = host.repository_port + 1
        if host.repository_port in taken:
            got = f"got {host.repository_port}, the port of {taken[host.repository_port]}"
            yield view.problem(("hosts", name, "repository_port"), got, "a port of its own")
        elif following in taken or following > _LAST_PORT:
            whose = f"is the port of {taken[following]}" if following in taken else "does not exist"
            got = f"got {host.repository_port}, and the next one, which is for maintenance, {whose}"
            yield view.problem(("hosts", name, "repository_port"), got, "two ports of its own")
        elif primary and host.ssh_port == _NUT_PORT:
            got = f"got {host.ssh_port}, the port of NUT's server"
            yield view.problem(("hosts", name, "ssh_port"), got, "a port of its own")


def _winrm(view: View) -> Iterator[Problem]:
    for name, host in view.hosts.items():
        winrm = getattr(host, "winrm", None)
        if winrm is None:
            continue
        path = ("hosts", name, "winrm")
        if host.os != "windows":
            fix = "write os: windows, or leave winrm out"
            yield view.problem(
                path, f"winrm on a host with os: {host.os}", "winrm only with os: windows", fix, key=True
            )


def _retired(view: View) -> Iterator[Problem]:
    for name, raw in mapping(view.document.data.get("retired")).items():
        part = valid(Retired, raw)
        if part and part.keep_until and part.keep_until < part.date:
            got, expected = f"got {show(part.keep_until)}, before {show(part.date)}", "a day after date"
            yield view.problem(("retired", name, "keep_until"), got, expected)
        if name in view.hosts:
            got = f"the host {show(name)} is in use and retired"
            fix = (
                "take it out of hosts, or give the new machine another name: the old one's backups lie under this name"
            )
            yield view.problem(("retired", name), got, "a host in one of the two", fix, key=True)


RULES = (
    _roles,
    _restore_host_apart,
    _pools,
    _addresses,
    _number_of_hosts,
    _names_free,
    _netbios,
    _ports,
    _winrm,
    _retired,
)
