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
  - Refuses to change anything while a UPS of this host is on battery, and to touch a host of another practice.
  - Refuses a primary whose late hook, which tells the UPS to cut the power, is missing or cannot be executed.
  - After a change, and on every run, logs in to each UPS as the host's own monitor does.
options:
  state:
    description:
      - V(present) makes the host as described.
      - V(absent) removes configuration, credentials and units of NUT, whoever wrote them. Packages stay.
    type: str
    choices: [present, absent]
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
    description: Whether the UPS's cable ends here. Required unless O(state=absent).
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
    description: File by which the late hook knows that the UPS has to be told to cut the power.
    type: path
    default: /etc/killpower
  notify:
    description: What NUT does with its notices.
    type: list
    elements: str
    choices: [SYSLOG, WALL]
    default: [SYSLOG]
  notify_command:
    description: Program that gets every notice as its argument.
    type: path
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
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nut, power, stamp
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Change,
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    plan,
)

DRIVER_LINKS = "/etc/systemd/system/nut-driver.target.wants"


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
    )


def present_state(module: AnsibleModule) -> power.Present:
    """Look for what an earlier configuration left: driver units, dummy files."""
    links = Path(DRIVER_LINKS)
    drivers = {p.name for p in links.iterdir() if p.name.startswith("nut-driver@")} if links.is_dir() else set()
    command = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating", "nut-driver@*"]
    _code, out, _err = module.run_command(command, check_rc=True)
    running = [line.split()[0] for line in out.splitlines() if line.strip()]
    folder = Path(power.FOLDER)
    dummies = {p.name: p.read_bytes() for p in sorted(folder.glob("*.dev"))} if folder.is_dir() else {}
    return power.Present(sorted(drivers | set(running)), dummies, running)


def refuse_on_battery(monitors: Sequence[dict[str, Any]], changes: Sequence[Change]) -> None:
    """Raise PowerError when services would be restarted in the middle of an outage."""
    if not any(c.verb in ("restart", "stop") for c in changes):
        return
    for seen in nut.ask_each(monitors):
        state = nut.UpsState(tuple((seen["status"] or "").split()), None, None, None, None)
        if state.on_battery:
            raise power.PowerError(
                f"{seen['ups']} is on battery ({seen['status']}): nothing was changed, because the host must stay able "
                "to stop in order; run again when the mains are back"
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


def check_hook(dry: bool) -> None:
    """Raise PowerError when the late hook could not cut the UPS's output. ``dry``: the package may still be missing."""
    if dry and not Path("/usr/sbin/upsd").exists():
        return
    if not os.access(power.HOOK, os.X_OK) or not Path(power.HOOK).is_file():
        raise power.PowerError(
            f"{power.HOOK}: expected an executable file; without it the UPS is never told to cut the power and the "
            "hosts stay off when the mains return. Run: apt-get install --reinstall nut-server"
        )


def wait_for_ups(monitors: list[dict[str, Any]], wait_s: float) -> list[dict[str, Any]]:
    """Ask each UPS, with a trial login, until all answer or the time is over."""
    end = time.monotonic() + wait_s
    while True:
        found = nut.ask_each(monitors, attach=True)
        if not any(entry["error"] for entry in found) or time.monotonic() >= end:
            return found
        time.sleep(1)


def judge_ups(role: str, found: Sequence[dict[str, Any]]) -> list[str]:
    """Raise PowerError for what leaves the host unprotected; give back what is only worth a warning. Pure."""
    warnings = []
    for entry in found:
        error = entry["error"]
        if error is None:
            continue
        # a primary that is off for a while must not keep the rest of the practice from being configured
        if role == "secondary" and error["code"] in (nut.UNREACHABLE, "DRIVER-NOT-CONNECTED", "DATA-STALE"):
            warnings.append(f"{error['message']} - until then nobody tells this host to stop")
            continue
        raise power.PowerError(
            f"{entry['ups']} at {entry['address']}: the configuration is in place, but the trial login failed: "
            f"{error['message']}. Configure the primary in the same run"
        )
    return warnings


def run(module: AnsibleModule) -> dict[str, Any]:
    """Gather, plan, apply; gives back the module's result."""
    params = module.params
    stamp.check(params["practice"], params["host"])
    present = present_state(module)
    want: Wanted
    warnings: list[str] = []
    if params["state"] == "absent":
        want = power.absent(present, params["power_down_flag"])
    else:
        config = configuration(params)
        power.check(config)
        if config.role == "primary":
            check_hook(module.check_mode)
        want = power.wanted(config, present, params["practice"], params["host"])
        warnings = [
            f"{path} differs from its description and is kept while its driver runs; "
            "stop nut-driver@ and run again to have it rewritten"
            for path in power.kept_dummies(config, present)
        ]
    host = HostState(module.run_command)
    have = host.gather(want)
    changes = plan(have, want)
    if params["state"] == "present":
        server = have.units.get(power.SERVER)
        touched = any(c.target == power.SERVER for c in changes)
        if params["role"] == "primary" and server is not None and server.active and not touched:
            deaf = deaf_addresses(params["listen"])
            if deaf:
                changes.append(Change("restart", power.SERVER, f"does not answer on {', '.join(deaf)}"))
        refuse_on_battery(params["monitors"], changes)
    found: list[dict[str, Any]] = []
    if not module.check_mode:
        host.apply(changes)
        if params["state"] == "present":
            found = wait_for_ups(params["monitors"], params["wait_s"])
            warnings += judge_ups(params["role"], found)
    for warning in warnings:
        module.warn(warning)
    return {"changed": bool(changes), "changes": describe(changes), "ups": found, "diff": diff_of(changes)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
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
            "power_down_flag": {"type": "path", "default": "/etc/killpower"},
            "notify": {"type": "list", "elements": "str", "choices": ["SYSLOG", "WALL"], "default": ["SYSLOG"]},
            "notify_command": {"type": "path"},
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
