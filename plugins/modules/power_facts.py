#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Module: what a power drill needs to know of a host. Changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: power_facts
short_description: Look at a host before and after a power drill
version_added: "0.1.0"
description:
  - Reads how the host sees its UPSes, which services and databases run, how each PostgreSQL cluster and MariaDB came up,
    how long its last stops took, and whether NUT and the units are set up as they should be.
  - Changes nothing. Can wait until the host is well again after a start; when it does not become well in time, the
    module still succeeds and returns what it found, for the drill to judge.
options:
  practice:
    description: Id of the practice. Compared with the host's stamp.
    type: str
    required: true
  host:
    description: Name of the host in the practice.
    type: str
    required: true
  monitors:
    description: The UPSes to ask.
    type: list
    elements: dict
    required: true
    suboptions:
      ups:
        description: Name of the UPS on its primary.
        type: str
        required: true
      address:
        description: Address of its primary.
        type: str
        required: true
  primary_of:
    description: UPSes wired to this host. Their attached clients are listed and the late hook is looked at.
    type: list
    elements: str
    default: []
  expect_clients:
    description: Addresses that have to be attached to every UPS of O(primary_of) for the host to be well.
    type: list
    elements: str
    default: []
  power_down_flag:
    description: The file that upsmon leaves for the late hook.
    type: path
    default: /run/killpower
  expect_units:
    description: Units that have to be active for the host to be well.
    type: list
    elements: str
    default: []
  expect_engines:
    description: Engines of the databases that the host keeps, so that it is not well without them.
    type: list
    elements: str
    choices: [postgresql, mariadb]
    default: []
  also_units:
    description: Further units that belong to what has to come back, such as those of applications.
    type: list
    elements: str
    default: []
  expected:
    description:
      - What upsmon.conf and the units are compared with. Keys are C(min_supplies), C(hostsync_s), C(finaldelay_s),
        C(monitors) (by name of the UPS, its address, power value and type) and C(unit_stop_s) (seconds
        by unit). Nothing is compared without it.
    type: dict
  wait_s:
    description: How long, in seconds, to wait for the host to be well. 0 looks once.
    type: int
    default: 0
attributes:
  check_mode:
    description: The module never changes anything.
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: full
seealso:
  - module: holdfast.practice.power
author:
  - Holdfast maintainers (@holdfast)
"""

EXAMPLES = r"""
- name: Look at the host before the drill
  holdfast.practice.power_facts:
    practice: harbour-street
    host: server1
    monitors:
      - ups: ups1
        address: 198.18.0.11
  register: before
"""

RETURN = r"""
well:
  description: All UPSes online, no power-down flag, expected units and clients there, all databases running.
  returned: always
  type: bool
  sample: true
boot_id:
  description: The kernel's id of this boot.
  returned: always
  type: str
  sample: 5bd8d0b0-6f4b-4bb5-9b4d-2b6d1f6f2b1e
started:
  description: When the first process of the host started, in seconds since the epoch. Differs after a start.
  returned: always
  type: float
  sample: 1795292312.5
ups:
  description: Each UPS as the host sees it, with ups, address, status, charge, runtime_s, low_runtime_s, driver, error.
  returned: always
  type: list
  elements: dict
clients:
  description: Addresses attached to each UPS of O(primary_of).
  returned: always
  type: dict
  sample: {"ups1": ["127.0.0.1", "198.18.0.12"]}
hook:
  description: Whether the late hook is there and executable; null on a host that is no primary.
  returned: always
  type: bool
  sample: true
power_down_flag:
  description: Whether the power-down flag is set.
  returned: always
  type: bool
  sample: false
units:
  description: Active units of ours.
  returned: always
  type: list
  elements: str
  sample: ["nut-monitor.service", "postgresql@17-main.service"]
missing_units:
  description: Units of O(expect_units) that are not active.
  returned: always
  type: list
  elements: str
  sample: []
expect_engines:
  description: O(expect_engines) as given, for the judge.
  returned: always
  type: list
  elements: str
  sample: [postgresql]
signal_left:
  description: Whether something of a drill with a signal is left on the host, which then would not stop.
  returned: always
  type: bool
  sample: false
differences:
  description: In which ways the host is not set up as O(expected) says.
  returned: always
  type: list
  elements: str
  sample: ["HOSTSYNC is 30, expected 15"]
over_s:
  description: By how many seconds a unit may take longer to stop than O(expected) says.
  returned: always
  type: float
  sample: 0.0
stops:
  description: What the host wrote down of its own stops, the newest last.
  returned: always
  type: list
  elements: dict
  sample: [{"boot_id": "5bd8d0b0-6f4b-4bb5-9b4d-2b6d1f6f2b1e", "began": 1795292300.5, "seconds": 7.5, "on_battery": true}]
clusters:
  description:
    - Each PostgreSQL cluster, and MariaDB, with engine, version, cluster, online, state (of pg_control; null for MariaDB),
      started (seconds since the epoch), and clean, which says whether its last start followed a clean stop (null when its
      log does not tell).
  returned: always
  type: list
  elements: dict
  sample:
    - engine: postgresql
      version: "17"
      cluster: main
      online: true
      state: in production
      started: 1795292300
      clean: true
"""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nut, power, power_signal, stamp
from ansible_collections.holdfast.practice.plugins.module_utils import power_facts as reading

LOG_TAIL = 4 << 20
STOPS = Path("/var/lib/holdfast-power/stops.json")
UPSMON = Path(f"{power.FOLDER}/upsmon.conf")
MARIADB = "mariadb.service"
MARIADB_LOG = "/var/log/mysql/error.log"


def tail(path: str, start: re.Pattern[str] = reading.START) -> str:
    """Give the end of a log, and of its predecessor when the log was rotated since the start."""
    text = ""
    for name in (path, path + ".1"):
        if name.startswith("/") and Path(name).is_file():
            with Path(name).open("rb") as stream:
                stream.seek(max(0, Path(name).stat().st_size - LOG_TAIL))
                text = stream.read().decode("utf-8", "replace") + "\n" + text
        if start.search(text):
            break
    return text


def clusters(module: AnsibleModule) -> list[dict[str, Any]]:
    """Look at every PostgreSQL cluster of the host."""
    command = module.get_bin_path("pg_lsclusters")
    if command is None:
        return []
    _code, listing, _err = module.run_command([command, "--no-header"], check_rc=True)
    found = []
    for cluster in reading.read_clusters(listing):
        version, name, data = cluster["version"], cluster["cluster"], cluster["data"]
        control = ["env", "LC_ALL=C", f"/usr/lib/postgresql/{version}/bin/pg_controldata", "-D", data]
        _code, text, _err = module.run_command(control, check_rc=True)
        pid = Path(data) / "postmaster.pid"
        log = tail(cluster["log"])
        if not reading.START.search(log):
            unit = f"postgresql@{version}-{name}.service"
            _code, log, _err = module.run_command(["journalctl", "-b", "-q", "--no-pager", "-o", "cat", "-u", unit])
        found.append(
            {
                "engine": "postgresql",
                "version": version,
                "cluster": name,
                "online": cluster["online"],
                "state": reading.read_control_state(text),
                "started": reading.read_postmaster_start(pid.read_text(encoding="utf-8")) if pid.exists() else None,
                "clean": reading.judge_start(log),
            }
        )
    return found


def mariadb(module: AnsibleModule) -> list[dict[str, Any]]:
    """Look at the host's MariaDB."""
    show = ["systemctl", "show", "--timestamp=unix", "-p", "LoadState,ActiveState,ExecMainStartTimestamp", MARIADB]
    _code, out, _err = module.run_command(show, check_rc=True)
    unit = reading.read_properties(out)[0]
    if unit["LoadState"] != "loaded":
        return []
    _code, log, _err = module.run_command(["journalctl", "-b", "-q", "--no-pager", "-o", "cat", "-u", MARIADB])
    if not reading.MARIADB_START.search(log):
        log = tail(MARIADB_LOG, reading.MARIADB_START)
    started = unit.get("ExecMainStartTimestamp", "").lstrip("@")
    return [
        {
            "engine": "mariadb",
            "version": "",
            "cluster": "",
            "online": unit["ActiveState"] == "active",
            "state": None,
            "started": int(started) if started.isdigit() else None,
            "clean": reading.judge_mariadb_start(log),
        }
    ]


def stop_limits(module: AnsibleModule, wanted: dict[str, Any]) -> dict[str, float | None]:
    """Give how long the units that are there may take to stop."""
    patterns = [name.replace("@.", "@*.") for name in wanted]
    if not patterns:
        return {}
    show = ["systemctl", "show", "-p", "Id,LoadState,TimeoutStopUSec", "--", *patterns]
    _code, out, _err = module.run_command(show, check_rc=True)
    units = [unit for unit in reading.read_properties(out) if unit.get("LoadState") == "loaded"]
    return {unit["Id"]: reading.read_span(unit["TimeoutStopUSec"]) for unit in units if "TimeoutStopUSec" in unit}


def first_start() -> float:
    """When process 1 started. A container shares the kernel and its boot id, so that alone does not show a restart."""
    ticks = int(Path("/proc/1/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[19])
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return round(boot + ticks / os.sysconf("SC_CLK_TCK"), 1)


def look(module: AnsibleModule) -> dict[str, Any]:
    """Look once."""
    params = module.params
    ups = nut.ask_each(params["monitors"])
    attached: dict[str, list[str]] = {}
    for name in params["primary_of"]:
        address = next((m["address"] for m in params["monitors"] if m["ups"] == name), "127.0.0.1")
        try:
            with nut.Nut(address) as conversation:
                attached[name] = sorted(conversation.clients(name))
        except nut.NutError as error:
            # the same trouble stands in "ups", where it is judged
            attached[name] = []
            module.debug(str(error))
    patterns = [*reading.UNIT_PATTERNS, *params["also_units"]]
    listing = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", *patterns]
    _code, out, _err = module.run_command(listing, check_rc=True)
    units = reading.read_units(out)
    missing = reading.missing_units(params["expect_units"], units)
    flag = Path(params["power_down_flag"]).exists()
    databases = [*clusters(module), *mariadb(module)]
    expected = params["expected"] or {}
    limits = stop_limits(module, expected.get("unit_stop_s") or {})
    upsmon = UPSMON.read_text(encoding="ascii") if expected and UPSMON.exists() else ""
    states = [nut.UpsState(tuple((u["status"] or "").split()), None, None, None, None) for u in ups]
    kept = [each for each in databases if each["engine"] in params["expect_engines"] or each["engine"] == "postgresql"]
    served = all(c["online"] for c in kept) and set(params["expect_engines"]) <= {c["engine"] for c in kept}
    heard = all(set(params["expect_clients"]) <= set(addresses) for addresses in attached.values())
    return {
        "well": all(state.online for state in states) and not flag and not missing and served and heard,
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "started": first_start(),
        "ups": ups,
        "clients": attached,
        "hook": (Path(power.HOOK).is_file() and os.access(power.HOOK, os.X_OK)) if params["primary_of"] else None,
        "power_down_flag": flag,
        "signal_left": any(Path(left).exists() for left in (power_signal.FOLDER, power_signal.DROP_IN)),
        "units": units,
        "missing_units": missing,
        "expect_engines": params["expect_engines"],
        "differences": reading.differences(expected, upsmon, limits) if expected else [],
        "over_s": reading.over_s(expected, limits),
        "stops": json.loads(STOPS.read_text(encoding="utf-8")) if STOPS.exists() else [],
        "clusters": kept,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "monitors": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "ups": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                },
            },
            "primary_of": {"type": "list", "elements": "str", "default": []},
            "expect_clients": {"type": "list", "elements": "str", "default": []},
            "power_down_flag": {"type": "path", "default": "/run/killpower"},
            "expect_units": {"type": "list", "elements": "str", "default": []},
            "expect_engines": {
                "type": "list",
                "elements": "str",
                "choices": ["postgresql", "mariadb"],
                "default": [],
            },
            "also_units": {"type": "list", "elements": "str", "default": []},
            "expected": {"type": "dict"},
            "wait_s": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        stamp.check(module.params["practice"], module.params["host"])
        end = time.monotonic() + module.params["wait_s"]
        found = look(module)
        while not found["well"] and time.monotonic() < end:
            time.sleep(2)
            found = look(module)
    except (stamp.StampError, OSError, ValueError) as error:
        module.fail_json(msg=f"{module.params['practice']}/{module.params['host']}: {error}")
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
