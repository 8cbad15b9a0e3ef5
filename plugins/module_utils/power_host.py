# SPDX-License-Identifier: Apache-2.0
"""What surrounds NUT on a host: the order and the bounds of a stop, its record, the late hook, who may ask. Pure.

Facts about Debian's own late hook (nutshutdown of NUT 2.8.0 and 2.8.1) that shaped this:
- systemd calls it at every stop, a reboot too, and it looks at nothing but "upsmon -K": not at what kind of stop it is, not at
  the age of the flag. upsmon sets the flag on secondaries as well, and only upsmon removes it.
- With MODE=none in nut.conf, Debian's upsmon is a script that ends with 0, so the hook has the power cut at every stop.
- So it is made silent (its mode is overridden, which a package update respects), the flag lies in /run, which no boot
  inherits, and it is taken away when a stop begins (power_stop.py). Our hook acts on the mark that is left for a stop which
  the UPS did order.
- A UPS whose mains are back may ignore the order to cut the power, and then everything would stay off. So the hook waits, and
  a host that still runs after it starts again.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import nut
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Dir, File, Unit, Wanted

HEADER = "# Written by Holdfast (holdfast.practice.power); changes made here are undone by the next run.\n"
LIB, STATE, PACKAGE = "/usr/lib/holdfast-power", "/var/lib/holdfast-power", "holdfast_power"
FLAG = "/run/killpower"
DEBIAN_FLAG = "/etc/killpower"
HOOK = "/usr/lib/systemd/system-shutdown/holdfast-power"
DEBIAN_HOOK = "/systemd/system-shutdown/nutshutdown"
SYSTEMD = "/etc/systemd/system"
DROP_IN = "holdfast-power.conf"
MANAGER_FOLDER = "/etc/systemd/system.conf.d"
LAST, BEGIN = "holdfast-power-last.service", "holdfast-power-begin.service"
WAKE, FIREWALL = "holdfast-power-wake.service", "holdfast-power-firewall.service"
HOLD = "holdfast-power-hold.service"
UNITS = (LAST, BEGIN, WAKE, FIREWALL, HOLD)
REFUSED, DENIED = "refused", "denied"
WAKE_CONFIG, RULES, TABLE = "/etc/holdfast/power-wake.json", "/etc/holdfast/power.nft", "holdfast_power"
# of a host's stop, for what comes after its units; the budget of a shutdown reckons with it too
FINAL_S = 10
# systemd gives the late hooks 90 seconds; a part of them belongs to the order itself
LONGEST_WAIT_S = 75
# NUT's own offdelay where none is written, and what a UPS may take beyond it
OFFDELAY_S, AFTER_S = 20, 25
# of TCP, for a machine that does not answer
SYN_RETRIES = 2
UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,200}\.(service|socket|target|mount|timer|slice|scope)")
MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


@dataclass(frozen=True)
class Surroundings:
    """All but NUT itself. Times are in seconds; ``stop_s`` bounds the whole stop, None leaves it to systemd."""

    stop_s: int | None = None
    stop_units: Sequence[Mapping[str, Sequence[str]]] = ()
    applications: Sequence[str] = ()
    databases: Sequence[str] = ()
    unit_stop_s: Mapping[str, int] = field(default_factory=dict)
    peers: Sequence[str] = ()
    wake: Sequence[str] = ()
    return_peers: Sequence[str] = ()
    return_s: int = 900
    return_wait_s: int = 0


def faults_of(around: Surroundings) -> list[str]:
    """Everything that is wrong, in words."""
    faults = []
    pairs = [unit for entry in around.stop_units for key in ("units", "before") for unit in entry.get(key) or ()]
    for unit in [*pairs, *around.applications, *around.databases, *around.unit_stop_s]:
        if not UNIT.fullmatch(unit):
            faults.append(f'"{unit}" is not the name of a unit; expected one such as postgresql@17-main.service')
    for unit in sorted(set(around.applications) & set(around.databases)):
        faults.append(f"{unit} is both an application and a database; a unit cannot stop before itself")
    if around.stop_s is not None and around.stop_s < 8:
        faults.append(f"stop_s is {around.stop_s}, expected at least 8: no host stops in less")
    for unit, seconds in around.unit_stop_s.items():
        if seconds < 1:
            faults.append(f"unit_stop_s of {unit} is {seconds}, expected at least 1")
        elif around.stop_s is not None and seconds > job_bound_s(around.stop_s):
            faults.append(
                f"unit_stop_s of {unit} is {seconds}, but with stop_s {around.stop_s} all units have to have stopped "
                f"after {job_bound_s(around.stop_s)}"
            )
    for address in around.peers:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            faults.append(f'peers: "{address}" is not an address; the firewall knows no names')
    faults += [
        f'wake: "{mac}" is not a MAC address such as 52:54:00:12:34:56' for mac in around.wake if not MAC.fullmatch(mac)
    ]
    if not 0 <= around.return_wait_s <= LONGEST_WAIT_S:
        faults.append(
            f"return_wait_s is {around.return_wait_s}, expected 0 to {LONGEST_WAIT_S}: systemd waits no longer"
        )
    return faults


def share_s(stop_s: int) -> int:
    """Seconds for a service that has no bound of its own."""
    return max(2, stop_s // 4)


def job_bound_s(stop_s: int) -> int:
    """Seconds after which a stop is broken off: what still runs is killed, and the host goes off."""
    return stop_s - min(FINAL_S, share_s(stop_s))


def return_wait_s(offdelays: Iterable[Any]) -> int:
    """Seconds after which a host that still runs knows that its UPS did not cut the power. offdelays: of real UPSes."""
    delays = [int(d) if str(d).isdigit() else OFFDELAY_S for d in offdelays]
    return max(delays) + AFTER_S if delays else 0


def _units_text(around: Surroundings, holding: bool) -> dict[str, dict[str, list[str]]]:
    """Sections of each unit's drop-in: {unit: {"after": [...], "bound": [...]}}."""
    found: dict[str, dict[str, list[str]]] = {}

    def of(unit: str) -> dict[str, list[str]]:
        return found.setdefault(unit, {"after": [HOLD] if holding else [], "bound": []})

    # what starts after something stops before it
    for entry in around.stop_units:
        for unit in entry.get("units") or ():
            of(unit)["after"] += list(entry.get("before") or ())
    for unit in around.applications:
        of(unit)["after"] += list(around.databases)
    for unit in around.databases:
        of(unit)["after"] += ["local-fs.target", "remote-fs.target", "network.target"]
    bounds = dict(around.unit_stop_s)
    if around.stop_s is not None:
        for unit in [*around.applications, *around.databases]:
            bounds.setdefault(unit, share_s(around.stop_s))
    for unit, seconds in bounds.items():
        if unit.endswith((".service", ".socket", ".mount", ".scope")):
            of(unit)["bound"] = [str(seconds)]
    return found


def drop_ins(around: Surroundings, holding: bool) -> dict[str, str]:
    """Drop-ins that put a stop in order and bound it: {path: text}."""
    texts = {}
    for unit, lines in sorted(_units_text(around, holding).items()):
        text = HEADER
        after = [name for name in dict.fromkeys(lines["after"]) if name != unit]
        if after:
            text += f"[Unit]\n# so it stops before them\nAfter={' '.join(after)}\n"
        if lines["bound"]:
            kind = unit.rsplit(".", 1)[1].capitalize()
            key = "TimeoutSec" if kind in ("Socket", "Mount") else "TimeoutStopSec"
            text += f"[{kind}]\n{key}={lines['bound'][0]}s\n"
        texts[f"{SYSTEMD}/{unit}.d/{DROP_IN}"] = text
    if around.stop_s is not None:
        bound = f"JobTimeoutSec={job_bound_s(around.stop_s)}s\n"
        for verb in ("poweroff", "halt"):
            texts[f"{SYSTEMD}/{verb}.target.d/{DROP_IN}"] = HEADER + (
                "[Unit]\n# a battery does not wait; a reboot may take its time, so that it shows how long a stop takes\n"
                f"{bound}JobTimeoutAction={verb}-force\n"
            )
        texts[f"{MANAGER_FOLDER}/{DROP_IN}"] = HEADER + (
            f"[Manager]\nDefaultTimeoutStopSec={share_s(around.stop_s)}s\n"
        )
    return texts


def render_last(flag: str) -> str:
    """Render the service that starts before all others and stops after them."""
    return HEADER + (
        "[Unit]\nDescription=Holdfast: record of stops, kept\n"
        "DefaultDependencies=no\n"
        f"RequiresMountsFor={STATE}\n"
        "After=local-fs.target systemd-tmpfiles-setup.service\n"
        "Before=sysinit.target shutdown.target\nConflicts=shutdown.target\n\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart={LIB}/stop start {flag}\nExecStop={LIB}/stop end\n"
        "TimeoutStartSec=20\nTimeoutStopSec=20\n\n"
        "[Install]\nWantedBy=sysinit.target\n"
    )


def render_begin(flag: str) -> str:
    """Render the service that stops as soon as a stop begins: nothing is ordered after it."""
    return HEADER + (
        "[Unit]\nDescription=Holdfast: record of stops, begun\n"
        f"Requires={LAST}\nAfter={LAST}\n\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart=/bin/true\nExecStop={LIB}/stop begin {flag}\n"
        "TimeoutStopSec=20\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def render_hook(wait_s: int) -> str:
    """Render the late hook. systemd runs it when everything is stopped and unmounted; $1 is what comes then."""
    lines = f"""\
{HEADER}# Told to cut the power is a UPS only of a host that is its primary, and only in a stop that the UPS ordered.
say() {{
  echo "holdfast-power: $*" >&2
  [ ! -w /dev/kmsg ] || echo "holdfast-power: $*" >/dev/kmsg
}}
case "$1" in poweroff | halt) ;; *) exit 0 ;; esac
[ -e /run/holdfast-power/ordered ] || exit 0
if ! grep -q -x -e MODE=netserver -e MODE=standalone /etc/nut/nut.conf; then
  say "nut.conf says that no UPS is wired to this host: the power is not cut"
  exit 0
fi
say "the UPS is told to cut the power"
if ! /usr/sbin/upsdrvctl shutdown; then
  say "the UPS could not be told: when the mains return, this host may have to be switched on by hand"
  exit 0
fi
"""
    if wait_s:
        lines += f"""\
sleep {wait_s}
say "still running after {wait_s} seconds, so the mains are back: starting again"
systemctl reboot --force --force
"""
    return "#!/bin/sh\n" + lines


def launcher(module: str, title: str) -> str:
    """Render what starts one of the host programs."""
    return (
        f"#!/usr/bin/python3 -IB\n# {title} Managed by Ansible.\nimport sys\n\n"
        f'sys.path.insert(0, "{LIB}")\nfrom {PACKAGE}.{module} import main\n\nsys.exit(main())\n'
    )


def render_rules(peers: Sequence[str]) -> str:
    """Render our own table: nobody but the peers speaks with upsd. Other tables are not touched.

    Who was turned away is kept for a day in two sets, and goes to the kernel's log. upsd itself does not tell of a wrong
    password, so its answer is looked for in what it sends, behind a TCP header with and without time stamps.
    """
    sets: dict[str, list[str]] = {"ip": [], "ip6": []}
    for address in peers:
        sets["ip" if ipaddress.ip_address(address).version == 4 else "ip6"].append(address)
    allowed = "".join(
        f"    {family} saddr {{ {', '.join(sorted(set(found)))} }} accept\n" for family, found in sets.items() if found
    )
    kept = "".join(
        f"  set {name} {{ type ipv4_addr; flags dynamic,timeout; timeout 1d; size 256; }}\n"
        for name in (REFUSED, DENIED)
    )
    answer = "0x" + nut.DENIED_ANSWER.encode("ascii")[:16].hex()
    denied = "".join(
        f"    tcp sport {nut.PORT} tcp doff {words} @th,{words * 32},128 {answer} update @{DENIED} {{ ip daddr }} jump noted\n"
        for words in (5, 8)
    )
    log = 'limit rate 6/minute burst 6 packets log prefix "holdfast-power: '
    return HEADER + (
        f"table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{kept}"
        "  chain input {\n    type filter hook input priority filter - 10; policy accept;\n"
        f'    meta l4proto != tcp accept\n    tcp dport != {nut.PORT} accept\n    iif "lo" accept\n{allowed}'
        f'    update @{REFUSED} {{ ip saddr }}\n    {log}refused "\n    reject with tcp reset\n  }}\n'
        f'  chain noted {{\n    {log}access denied "\n  }}\n'
        f"  chain output {{\n    type filter hook output priority filter - 10; policy accept;\n{denied}  }}\n}}\n"
    )


def render_firewall() -> str:
    """Render the service that loads the table at boot, and again when nftables' own service emptied everything."""
    return HEADER + (
        "[Unit]\nDescription=Holdfast: who may ask the UPS\n"
        "DefaultDependencies=no\nAfter=local-fs.target nftables.service\nPartOf=nftables.service\n"
        "ReloadPropagatedFrom=nftables.service\nWants=network-pre.target\n"
        "Before=network-pre.target nut-server.service shutdown.target\n\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        f"ExecStart=/usr/sbin/nft -f {RULES}\nExecReload=/usr/sbin/nft -f {RULES}\n"
        # the second kind of "delete" would fail where somebody has emptied everything
        f"ExecStop=/bin/sh -c 'printf \"table inet {TABLE}\\\\ndelete table inet {TABLE}\\\\n\" | /usr/sbin/nft -f -'\n\n"
        "[Install]\nWantedBy=sysinit.target nftables.service\n"
    )


def render_wake() -> str:
    """Render the service that wakes the others after an outage."""
    return HEADER + (
        "[Unit]\nDescription=Holdfast: after an outage, wake the hosts that stayed off\n"
        f"Wants=network-online.target\nAfter=network-online.target nut-server.service {LAST}\n\n"
        "[Service]\n"
        # exec: the boot does not wait for it
        f"Type=exec\nExecStart={LIB}/wake\n"
        "NoNewPrivileges=yes\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nCapabilityBoundingSet=\n"
        f"ReadWritePaths={STATE}\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def render_hold() -> str:
    """Render the service that keeps a secondary counted at its primary; units in our drop-ins start after it.

    It runs wherever upsmon asks another machine. upsmon does one thing after the other, and once that machine is off, each
    try to reach it takes as long as TCP tries, two minutes by default, in which no other UPS is looked at: a host with two
    feeds would not hear that the other runs low too. Two further tries take 3 to 7 seconds. No socket of NUT's can be told
    so, only the kernel. A host that may not (a container) is held all the same.
    """
    return HEADER + (
        "[Unit]\nDescription=Holdfast: stay counted at the UPS until the databases have stopped\n"
        "After=network.target\nStartLimitIntervalSec=0\n\n"
        f"[Service]\nType=exec\nUser=nut\nGroup=nut\nExecStart={LIB}/hold\n"
        "# upsmon must not wait for minutes for a primary that is off\n"
        f"ExecStartPre=-+/bin/sh -c 'echo {SYN_RETRIES} >/proc/sys/net/ipv4/tcp_syn_retries'\n"
        "Restart=on-failure\nRestartSec=5\nTimeoutStopSec=5\n"
        "NoNewPrivileges=yes\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\nPrivateDevices=yes\n"
        "CapabilityBoundingSet=\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )


def wanted(
    around: Surroundings,
    primary: bool,
    upses: Sequence[str],
    flag: str,
    program: Mapping[str, str],
    found: Iterable[str],
    holding: bool,
) -> Wanted:
    """Describe the surroundings. holding: the host is a secondary of some UPS.

    program: {file name: text}; found: paths of drop-ins and program files that are there.
    """
    texts = drop_ins(around, holding)
    launchers = {"stop": ("power_stop", "Holdfast: how long this host takes to stop.")}
    waking = primary and bool(around.wake or around.return_peers)
    if waking:
        launchers["wake"] = ("power_wake", "Holdfast: wakes hosts after an outage.")
    if holding:
        launchers["hold"] = ("power_hold", "Holdfast: stays counted at the UPS.")
    hold = render_hold().encode("ascii")
    hold_files = (f"{SYSTEMD}/{HOLD}", f"{LIB}/{PACKAGE}/power_hold.py", "/etc/nut/upsmon.conf")
    guarded = primary and bool(around.peers)
    config = {
        "wake": list(around.wake),
        "peers": list(around.return_peers),
        "ups": list(upses),
        "limit_s": around.return_s,
    }
    files = [
        *(File(path, text.encode("ascii")) for path, text in sorted(texts.items())),
        *(File(f"{LIB}/{PACKAGE}/{name}", text.encode(), 0o644) for name, text in sorted(program.items())),
        *(File(f"{LIB}/{name}", launcher(*words).encode(), 0o755) for name, words in sorted(launchers.items())),
        File(f"{SYSTEMD}/{LAST}", render_last(flag).encode("ascii")),
        File(f"{SYSTEMD}/{BEGIN}", render_begin(flag).encode("ascii")),
        File(HOOK, render_hook(around.return_wait_s).encode("ascii") if primary else None, 0o755),
        File(WAKE_CONFIG, (json.dumps(config, indent=1, sort_keys=True) + "\n").encode("ascii") if waking else None),
        File(f"{SYSTEMD}/{WAKE}", render_wake().encode("ascii") if waking else None),
        File(f"{SYSTEMD}/{HOLD}", hold if holding else None),
        File(RULES, render_rules(around.peers).encode("ascii") if guarded else None),
        File(f"{SYSTEMD}/{FIREWALL}", render_firewall().encode("ascii") if guarded else None),
        *([File(DEBIAN_FLAG, None)] if flag != DEBIAN_FLAG else []),
    ]
    ours = {item.path for item in files}
    gone = [File(path, None) for path in sorted(set(found) - ours)]
    dirs = [
        Dir("/usr/lib/systemd/system-shutdown"),
        Dir(LIB),
        Dir(f"{LIB}/{PACKAGE}"),
        *_folders([*texts], [item.path for item in gone]),
    ]
    units = [
        Unit(LAST, True, True),
        Unit(BEGIN, True, True),
        Unit(FIREWALL, guarded, guarded, (RULES, f"{SYSTEMD}/{FIREWALL}") if guarded else ()),
        Unit(HOLD, holding, holding, hold_files if holding else ()),
        # it runs at the next start of this host
        Unit(WAKE, waking, None if waking else False),
    ]
    return Wanted(dirs, [*files, *gone], units)


def _folders(texts: Sequence[str], gone: Sequence[str]) -> list[Dir]:
    """Folders of drop-ins: those that are needed, and those that nothing of ours is left in."""
    needed = {path.rsplit("/", 1)[0] for path in texts}
    left = {path.rsplit("/", 1)[0] for path in gone if path.endswith(f"/{DROP_IN}")} - needed
    return [*(Dir(path) for path in sorted(needed)), *(Dir(path, absent=True) for path in sorted(left))]


def absent(flag: str, program: Iterable[str], found: Iterable[str]) -> Wanted:
    """Describe a host with none of it."""
    drop = [path for path in found if path.endswith(f"/{DROP_IN}")]
    paths = [
        *drop,
        *(f"{LIB}/{PACKAGE}/{name}" for name in program),
        *(path for path in found if path not in drop),
        *(f"{LIB}/{name}" for name in ("stop", "wake", "hold")),
        *(f"{SYSTEMD}/{unit}" for unit in UNITS),
        *(f"{STATE}/{name}" for name in ("stops.json", "boot", "reserve", "back.json")),
        HOOK, WAKE_CONFIG, RULES, flag, DEBIAN_FLAG,
    ]  # fmt: skip
    dirs = [Dir(path, absent=True) for path in (STATE, LIB, f"{LIB}/{PACKAGE}")]
    units = [Unit(name, False, False) for name in UNITS]
    return Wanted([*dirs, *_folders([], drop)], [File(path, None) for path in dict.fromkeys(paths)], units)
