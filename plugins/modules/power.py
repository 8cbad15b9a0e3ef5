#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Module: a host's part in the practice's power protection."""

from __future__ import annotations

DOCUMENTATION = r"""
module: power
short_description: Make a host stop in order when the mains fail
version_added: "0.1.0"
description:
  - Configures NUT (Network UPS Tools 2.8) on Debian, as the primary, to which the UPS is wired, or as a secondary,
    which the primary tells to stop.
  - Writes only what belongs to the role. What an earlier role of the host left behind (credentials, drivers, units) is
    removed.
  - A service is restarted when one of its files is newer than its start, so a restart that an interrupted run never
    made is made by the next one.
  - Refuses to change anything while a UPS of this host is on battery, bypassed or calibrating, and to touch a host of another
    practice.
  - Installs the late hook that tells the UPS to cut the power, on a primary only, and only at the end of a stop that the
    UPS ordered; a record of how long each stop takes; the order and the bounds of a stop; and a firewall table of its own
    for the port of NUT.
  - After a change, and on every run, logs in to each UPS as the host's own monitor does.
options:
  state:
    description:
      - V(present) makes the host as described.
      - V(absent) removes configuration, credentials and units of NUT, whoever wrote them. Packages stay.
      - V(ceded) only takes from the host what belongs to the primary of a UPS that is no longer in O(ups). Run it on all
        hosts before any becomes a primary, so that no UPS ever has two. Without O(role), no UPS feeds the host any more,
        and everything goes that an earlier run of this module wrote.
    type: str
    choices: [present, absent, ceded]
    default: present
  practice:
    description: Id of the practice. Compared with the host's stamp before anything is written.
    type: str
    required: true
  host:
    description: Name of the host in the practice.
    type: str
    required: true
  role:
    description: Whether the UPS's cable ends here. Required when O(state=present).
    type: str
    choices: [primary, secondary]
  ups:
    description: The UPSes wired to this host. Only for a primary.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the UPS.
        type: str
        required: true
      driver:
        description: NUT driver, such as V(usbhid-ups). V(dummy-ups) plays a UPS for drills and tests.
        type: str
        required: true
      port:
        description: Where the UPS is, V(auto) for USB. For V(dummy-ups) the name of its file, such as V(ups1.dev).
        type: str
        default: auto
      description:
        description: One line for people.
        type: str
        default: ""
      settings:
        description: Further keys of the driver. V(true) is a bare flag.
        type: dict
        default: {}
      runtime_s:
        description: Battery runtime in seconds under the load of this practice. What V(dummy-ups) pretends.
        type: int
      secrets:
        description: Further keys of the driver that nobody may see, such as V(community), V(authPassword), V(privPassword).
        type: dict
        default: {}
  listen:
    description: Addresses on which the primary answers. Only for a primary.
    type: list
    elements: str
    default: []
  users:
    description: Who may speak with the primary. Only for a primary.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      password:
        description: 8 to 128 ASCII characters, without blanks, quotation marks, backslash, V(#) and V(=).
        type: str
        required: true
      role:
        description: The role of the host that logs in as this user.
        type: str
        choices: [primary, secondary]
      actions:
        description: Further rights. A secondary cannot have any.
        type: list
        elements: str
        choices: [SET, FSD]
        default: []
      instcmds:
        description: Commands that this user may give the UPS. Only those that begin a battery's own test can be given away.
        type: list
        elements: str
        choices: [test.battery.start, test.battery.start.quick]
        default: []
  monitors:
    description: The UPSes that feed this host. Required unless O(state=absent).
    type: list
    elements: dict
    default: []
    suboptions:
      ups:
        description: Name of the UPS on its primary.
        type: str
        required: true
      address:
        description: Address of its primary.
        type: str
        required: true
      user:
        description: User to log in with.
        type: str
        required: true
      password:
        description: Password of that user.
        type: str
        required: true
      power_value:
        description: How many of this host's power supplies hang on it.
        type: int
        default: 1
      type:
        description: This host's role towards that UPS.
        type: str
        choices: [primary, secondary]
        default: secondary
  min_supplies:
    description: How many supplies the host needs to keep running.
    type: int
    default: 1
  host_sync_s:
    description: How long, in seconds, the primary waits for its secondaries to leave.
    type: int
    default: 15
  final_delay_s:
    description: Seconds between the last notice and the shutdown of this host.
    type: int
    default: 5
  poll_s:
    description: Seconds between two looks at the UPS.
    type: int
    default: 5
  dead_time_s:
    description: Seconds of silence after which a UPS counts as dead. At least three polls.
    type: int
    default: 15
  shutdown_command:
    description: What stops the host.
    type: str
    default: /usr/sbin/shutdown -h now
  power_down_flag:
    description:
      - File by which upsmon says that it stops the host for its UPS. It should lie in V(/run), so that no boot inherits it.
    type: path
    default: /run/killpower
  notify:
    description: What NUT does with its notices.
    type: list
    elements: str
    choices: [SYSLOG, WALL]
    default: [SYSLOG]
  notify_command:
    description: Program that gets every notice as its argument.
    type: path
  standalone:
    description: Whether the host has its UPS to itself. Then O(listen) may hold V(127.0.0.1) only.
    type: bool
    default: false
  stop_s:
    description:
      - Seconds that switching the host off may take. Ten seconds before they are over (at a quarter, when that is less),
        the stop is broken off and all that still runs is killed.
      - A service without a bound of its own gets a quarter of them, and so do processes that do not end when they are told to.
      - A reboot may take its time, so that it shows how long a stop takes. Without O(stop_s) systemd's own bounds hold.
    type: int
  stop_units:
    description: Which units stop before which others.
    type: list
    elements: dict
    default: []
    suboptions:
      units:
        description: These units stop first.
        type: list
        elements: str
        required: true
      before:
        description: These stop when they have stopped.
        type: list
        elements: str
        required: true
  applications:
    description: Units that stop before all O(databases).
    type: list
    elements: str
    default: []
  databases:
    description: Units that stop before the network and the file systems go.
    type: list
    elements: str
    default: []
  unit_stop_s:
    description: Seconds that a unit may take to stop; then it is killed. By the unit's name.
    type: dict
    default: {}
  peers:
    description:
      - Addresses that may speak to port 3493 of a primary, besides itself. Everybody else is refused.
      - Without any there is no firewall.
    type: list
    elements: str
    default: []
  wake:
    description: MAC addresses of hosts that the primary wakes after an outage, when the mains are back.
    type: list
    elements: str
    default: []
  return_peers:
    description: Addresses of the hosts that have to be attached again after an outage.
    type: list
    elements: str
    default: []
  return_s:
    description: Seconds in which they have to be; otherwise the service C(holdfast-power-wake) names them and fails.
    type: int
    default: 900
  return_wait_s:
    description:
      - Seconds that the primary waits for the power to go after it told the UPS to cut it. When it still runs then, the
        mains are back, and it starts again.
      - By default 25 seconds more than the longest C(offdelay) in the settings of O(ups), of which NUT's own is 20. A
        V(dummy-ups) cuts nothing, and nobody waits for it. At most 75.
    type: int
  wait_s:
    description: How long, in seconds, to wait until every UPS answers after a change.
    type: int
    default: 30
attributes:
  check_mode:
    description: Says what would change, changes nothing.
    support: full
  diff_mode:
    description: Shows files as they are and become. Contents of files with passwords are never shown.
    support: full
seealso:
  - module: holdfast.practice.power_facts
  - module: holdfast.practice.power_mains
author:
  - Holdfast maintainers (@holdfast)
"""

EXAMPLES = r"""
- name: Let server1 stop when nas1 says so
  holdfast.practice.power:
    practice: harbour-street
    host: server1
    role: secondary
    monitors:
      - ups: ups1
        address: 198.18.0.11
        user: server1
        password: "{{ vault_nut_passwords['server1'] }}"

- name: Let nas1, to which the UPS is wired, command the others
  holdfast.practice.power:
    practice: harbour-street
    host: nas1
    role: primary
    ups:
      - name: ups1
        driver: usbhid-ups
        settings:
          pollonly: true
    listen: [127.0.0.1, 198.18.0.11]
    users:
      - name: nas1
        role: primary
        password: "{{ vault_nut_passwords['nas1'] }}"
      - name: server1
        role: secondary
        password: "{{ vault_nut_passwords['server1'] }}"
    monitors:
      - ups: ups1
        address: 127.0.0.1
        user: nas1
        password: "{{ vault_nut_passwords['nas1'] }}"
        type: primary

- name: Take the host off the UPS
  holdfast.practice.power:
    practice: harbour-street
    host: server1
    state: absent
"""

RETURN = r"""
changes:
  description: What was, or in check mode would be, done, in order.
  returned: always
  type: list
  elements: str
  sample: ["write /etc/nut/upsmon.conf (content)", "restart nut-monitor.service (/etc/nut/upsmon.conf changed)"]
ups:
  description: Each monitored UPS as this host sees it. Empty in check mode and when absent.
  returned: always
  type: list
  elements: dict
  contains:
    ups:
      description: Name of the UPS.
      type: str
      returned: always
      sample: ups1
    address:
      description: Address of its primary.
      type: str
      returned: always
      sample: 198.18.0.11
    status:
      description: Status words of the UPS, null when it could not be asked.
      type: str
      returned: always
      sample: OL
    charge:
      description: Battery charge in percent, or null.
      type: float
      returned: always
      sample: 100.0
    runtime_s:
      description: Battery runtime in seconds, or null.
      type: float
      returned: always
      sample: 600.0
    low_runtime_s:
      description: Battery runtime in seconds at which the UPS says that the battery is low, or null.
      type: float
      returned: always
      sample: 120.0
    driver:
      description: The UPS's driver on its primary, or null.
      type: str
      returned: always
      sample: usbhid-ups
    error:
      description: Null, or why the UPS could not be asked, as code and message.
      type: dict
      returned: always
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import (
    nut,
    power,
    power_hold,
    power_host,
    power_stop,
    power_wake,
    stamp,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Change,
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    plan,
)

PROGRAM = (nut, power_hold, power_stop, power_wake)
DRIVER_LINKS = "/etc/systemd/system/nut-driver.target.wants"


def source_of(module: ModuleType) -> str:
    """Text of a module, also out of the archive in which Ansible sends it."""
    loader: Any = sys.modules[module.__name__].__loader__
    text = loader.get_source(module.__name__)
    if not text:
        raise HostStateError(f"{module.__name__}: its source did not come along")
    return str(text)


def program() -> dict[str, str]:
    """Files of the host's own programs: {name: text}."""
    return {module.__name__.rsplit(".", 1)[-1] + ".py": source_of(module) for module in PROGRAM}


def surroundings(params: Mapping[str, Any]) -> power_host.Surroundings:
    """Turn the module's options into what surrounds NUT."""
    wait_s = params["return_wait_s"]
    if wait_s is None:
        real = [u["settings"] for u in params["ups"] if u["driver"] != power.DUMMY]
        wait_s = power_host.return_wait_s(settings.get("offdelay", power_host.OFFDELAY_S) for settings in real)
    return power_host.Surroundings(
        stop_s=params["stop_s"],
        stop_units=params["stop_units"],
        applications=params["applications"],
        databases=params["databases"],
        unit_stop_s={unit: int(seconds) for unit, seconds in params["unit_stop_s"].items()},
        peers=params["peers"],
        wake=params["wake"],
        return_peers=params["return_peers"],
        return_s=params["return_s"],
        return_wait_s=wait_s,
    )


def configuration(params: dict[str, Any]) -> power.Power:
    """Turn the module's options into what the planner reads."""
    return power.Power(
        role=params["role"],
        monitors=[power.Monitor(**m) for m in params["monitors"]],
        ups=[power.Ups(**u) for u in params["ups"]],
        listen=params["listen"],
        users=[
            power.User(u["name"], u["password"], u["role"], tuple(u["actions"]), tuple(u["instcmds"]))
            for u in params["users"]
        ],
        min_supplies=params["min_supplies"],
        host_sync_s=params["host_sync_s"],
        final_delay_s=params["final_delay_s"],
        poll_s=params["poll_s"],
        dead_time_s=params["dead_time_s"],
        shutdown_command=params["shutdown_command"],
        power_down_flag=params["power_down_flag"],
        notify=params["notify"],
        notify_command=params["notify_command"],
        standalone=params["standalone"],
        around=surroundings(params),
    )


def present_state(module: AnsibleModule) -> power.Present:
    """Look for what an earlier configuration left: driver units, dummy files, files of ours and of a primary."""
    links = Path(DRIVER_LINKS)
    drivers = {p.name for p in links.iterdir() if p.name.startswith("nut-driver@")} if links.is_dir() else set()
    command = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating", "nut-driver@*"]
    _code, out, _err = module.run_command(command, check_rc=True)
    running = [line.split()[0] for line in out.splitlines() if line.strip()]
    folder = Path(power.FOLDER)
    dummies = {p.name: p.read_bytes() for p in sorted(folder.glob("*.dev"))} if folder.is_dir() else {}
    files = [
        *Path(power_host.SYSTEMD).glob(f"*.d/{power_host.DROP_IN}"),
        *Path(power_host.MANAGER_FOLDER).glob(power_host.DROP_IN),
        *Path(power_host.LIB, power_host.PACKAGE).glob("*.py"),
        *(path for path in Path(power_host.LIB).glob("*") if path.is_file()),
    ]
    mode = folder / "nut.conf"
    return power.Present(
        drivers=sorted(drivers | set(running)),
        dummy_files=dummies,
        running=running,
        files=sorted(str(path) for path in files),
        primary_files=[name for name in power.PRIMARY_FILES if (folder / name).exists()],
        ours=mode.exists() and mode.read_bytes().startswith(power.HEADER.encode("ascii")),
    )


def refuse_on_battery(monitors: Sequence[dict[str, Any]], changes: Sequence[Change]) -> None:
    """Raise PowerError when services would be restarted while that could stop hosts, or keep them from stopping."""
    if not any(c.verb in ("restart", "stop") for c in changes):
        return
    for seen in nut.ask_each(monitors):
        state = nut.UpsState(tuple((seen["status"] or "").split()), None, None, None, None)
        if state.on_battery:
            raise power.PowerError(
                f"{seen['ups']} is on battery ({seen['status']}): nothing was changed, because the host must stay able "
                "to stop in order; run again when the mains are back"
            )
        if {"BYPASS", "CAL"} & set(state.status):
            raise power.PowerError(
                f"{seen['ups']} is bypassed or calibrating ({seen['status']}): nothing was changed, because a UPS that falls "
                "silent meanwhile counts as dead, and hosts on it would stop; run again when it no longer is"
            )


def deaf_addresses(listen: Sequence[str]) -> list[str]:
    """Name the addresses on which the running upsd should answer and does not."""
    deaf = []
    for address in listen:
        try:
            nut.Nut(address, timeout_s=2.0).close()
        except nut.NutError:
            deaf.append(address)
    return deaf


def repairs(module: AnsibleModule, params: Mapping[str, Any], changes: Sequence[Change]) -> list[Change]:
    """Find what runs and does not do its work: a server that is deaf, a firewall that somebody has emptied."""
    found = []
    touched = {c.target for c in changes}
    if power.SERVER not in touched:
        deaf = deaf_addresses(params["listen"])
        if deaf:
            found.append(Change("restart", power.SERVER, f"does not answer on {', '.join(deaf)}"))
    if params["peers"] and power_host.FIREWALL not in touched:
        code, _out, _err = module.run_command(["nft", "list", "table", "inet", power_host.TABLE])
        if code != 0:
            found.append(Change("restart", power_host.FIREWALL, "its table is not there"))
    return found


def debians_hook(module: AnsibleModule, silent: bool) -> list[Change]:
    """Say what makes Debian's own late hook silent, or lets it speak again. It stays silent when its package is updated."""
    code, out, _err = module.run_command(["dpkg-query", "--search", f"*{power_host.DEBIAN_HOOK}"])
    if code != 0:
        return []
    path = out.splitlines()[0].split(": ", 1)[1]
    listed = module.run_command(["dpkg-statoverride", "--list", path])[0] == 0
    speaks = os.access(path, os.X_OK)
    if silent and (speaks or not listed):
        return [Change("silence", path, "it looks at nothing but NUT's flag", want=listed)]
    return [Change("release", path, "not ours")] if listed and not silent else []


def apply_hook(module: AnsibleModule, changes: Sequence[Change]) -> None:
    """Carry out what debians_hook() found."""
    for change in changes:
        if change.verb == "release" or change.want:
            module.run_command(["dpkg-statoverride", "--remove", change.target], check_rc=True)
        if change.verb == "silence":
            command = ["dpkg-statoverride", "--update", "--add", "root", "root", "0644", change.target]
            module.run_command(command, check_rc=True)
        else:
            Path(change.target).chmod(0o755)


def wait_for_ups(monitors: list[dict[str, Any]], wait_s: float) -> list[dict[str, Any]]:
    """Ask each UPS, with a trial login, until all answer or the time is over."""
    end = time.monotonic() + wait_s
    while True:
        found = nut.ask_each(monitors, attach=True)
        if not any(entry["error"] for entry in found) or time.monotonic() >= end:
            return found
        time.sleep(1)


def judge_ups(monitors: Sequence[Mapping[str, Any]], found: Sequence[dict[str, Any]]) -> list[str]:
    """Raise PowerError for what leaves the host unprotected; give back what is only worth a warning. Pure."""
    warnings = []
    for monitor, entry in zip(monitors, found):
        error = entry["error"]
        if error is None:
            continue
        # another primary that is off for a while must not keep the rest of the practice from being configured
        if monitor["type"] == "secondary" and error["code"] in (nut.UNREACHABLE, "DRIVER-NOT-CONNECTED", "DATA-STALE"):
            warnings.append(f"{error['message']} - until then nobody tells this host to stop")
            continue
        raise power.PowerError(
            f"{entry['ups']} at {entry['address']}: the configuration is in place, but the trial login failed: "
            f"{error['message']}. Configure the primary in the same run"
        )
    return warnings


def wish(params: Mapping[str, Any], present: power.Present) -> tuple[Wanted, list[str]]:
    """What the options ask for, with warnings. Raises PowerError."""
    if params["state"] == "absent":
        return power.absent(present, params["power_down_flag"], program()), []
    practice, host = params["practice"], params["host"]
    config = configuration(dict(params)) if params["role"] else None
    if config is not None:
        power.check(config)
    if params["state"] == "ceded":
        return power.ceded(config, present, practice, host, program()), []
    if config is None:
        raise power.PowerError("role is missing")
    kept = [
        f"{path} differs from its description and is kept while its driver runs; "
        "stop nut-driver@ and run again to have it rewritten"
        for path in power.kept_dummies(config, present)
    ]
    return power.wanted(config, present, practice, host, program()), kept


def run(module: AnsibleModule) -> dict[str, Any]:
    """Gather, plan, apply; gives back the module's result."""
    params = module.params
    stamp.check(params["practice"], params["host"])
    present = present_state(module)
    want, warnings = wish(params, present)
    host = HostState(module.run_command)
    have = host.gather(want)
    changes = plan(have, want)
    if params["state"] == "present" and params["role"] == "primary":
        server = have.units.get(power.SERVER)
        if server is not None and server.active:
            changes += repairs(module, params, changes)
    hook: list[Change] = []
    if params["state"] != "ceded" or (params["role"] is None and present.ours):
        hook = debians_hook(module, silent=params["state"] == "present")
    if params["state"] != "absent":
        own = [{"ups": power.ups_of(unit), "address": "127.0.0.1"} for unit in present.running]
        refuse_on_battery([*params["monitors"], *(own if params["state"] == "ceded" else [])], changes)
    found: list[dict[str, Any]] = []
    if not module.check_mode:
        apply_hook(module, hook)
        host.apply(changes)
        if params["state"] == "present":
            found = wait_for_ups(params["monitors"], params["wait_s"])
            warnings += judge_ups(params["monitors"], found)
    for warning in warnings:
        module.warn(warning)
    changes = [*hook, *changes]
    return {"changed": bool(changes), "changes": describe(changes), "ups": found, "diff": diff_of(changes)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent", "ceded"], "default": "present"},
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "role": {"type": "str", "choices": ["primary", "secondary"]},
            "ups": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "driver": {"type": "str", "required": True},
                    "port": {"type": "str", "default": "auto"},
                    "description": {"type": "str", "default": ""},
                    "settings": {"type": "dict", "default": {}},
                    "runtime_s": {"type": "int"},
                    "secrets": {"type": "dict", "default": {}, "no_log": True},
                },
            },
            "listen": {"type": "list", "elements": "str", "default": []},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "role": {"type": "str", "choices": ["primary", "secondary"]},
                    "actions": {"type": "list", "elements": "str", "choices": ["SET", "FSD"], "default": []},
                    "instcmds": {
                        "type": "list",
                        "elements": "str",
                        "choices": ["test.battery.start", "test.battery.start.quick"],
                        "default": [],
                    },
                },
            },
            "monitors": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "ups": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "user": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "power_value": {"type": "int", "default": 1},
                    "type": {"type": "str", "choices": ["primary", "secondary"], "default": "secondary"},
                },
            },
            "min_supplies": {"type": "int", "default": 1},
            "host_sync_s": {"type": "int", "default": 15},
            "final_delay_s": {"type": "int", "default": 5},
            "poll_s": {"type": "int", "default": 5},
            "dead_time_s": {"type": "int", "default": 15},
            "shutdown_command": {"type": "str", "default": "/usr/sbin/shutdown -h now"},
            "power_down_flag": {"type": "path", "default": "/run/killpower"},
            "notify": {"type": "list", "elements": "str", "choices": ["SYSLOG", "WALL"], "default": ["SYSLOG"]},
            "notify_command": {"type": "path"},
            "standalone": {"type": "bool", "default": False},
            "stop_s": {"type": "int"},
            "stop_units": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "units": {"type": "list", "elements": "str", "required": True},
                    "before": {"type": "list", "elements": "str", "required": True},
                },
            },
            "applications": {"type": "list", "elements": "str", "default": []},
            "databases": {"type": "list", "elements": "str", "default": []},
            "unit_stop_s": {"type": "dict", "default": {}},
            "peers": {"type": "list", "elements": "str", "default": []},
            "wake": {"type": "list", "elements": "str", "default": []},
            "return_peers": {"type": "list", "elements": "str", "default": []},
            "return_s": {"type": "int", "default": 900},
            "return_wait_s": {"type": "int"},
            "wait_s": {"type": "int", "default": 30},
        },
        required_if=[("state", "present", ("role", "monitors"))],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except (HostStateError, stamp.StampError, power.PowerError) as error:
        module.fail_json(msg=f"{module.params['practice']}/{module.params['host']}: {error}")


if __name__ == "__main__":
    main()
