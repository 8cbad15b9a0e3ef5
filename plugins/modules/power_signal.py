#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Module: let upsmon leave a mark instead of stopping the host, for a power drill."""

from __future__ import annotations

DOCUMENTATION = r"""
module: power_signal
short_description: Let NUT leave a mark instead of stopping the host
version_added: "0.1.0"
description:
  - For a power drill that goes all the way through NUT and stops nothing. With V(armed), upsmon runs with a copy of its
    configuration whose shutdown command only writes down the time, and whose power-down flag is another file, so that the
    late hook never takes the drill for an outage.
  - B(While a host is armed it would not stop in a real outage.) A timer of the host takes everything away after
    O(seconds), also when the drill was killed. All of it lies below C(/run), so a start takes it away as well.
  - With V(absent), what an earlier drill left is taken away. Disarm the primary first, which drops the order to stop.
options:
  practice:
    description: Id of the practice. Compared with the host's stamp.
    type: str
    required: true
  host:
    description: Name of the host in the practice.
    type: str
    required: true
  state:
    description:
      - V(armed) prepares the host, V(read) reads the mark, V(ordered) orders the stop as upsmon does (only on a primary,
        for a UPS whose mains cannot fail by command; its output is not touched), V(absent) puts everything back.
    type: str
    choices: [armed, read, ordered, absent]
    default: armed
  monitors:
    description: The UPSes that the host watches.
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
  own:
    description: UPSes wired to this host, with the name of their driver.
    type: dict
    default: {}
  seconds:
    description: After so many seconds the host puts everything back by itself.
    type: int
    default: 300
  asked_at:
    description: The control node's clock, in seconds since the epoch, when it asked. Marks are given on that clock.
    type: float
attributes:
  check_mode:
    description: Changes nothing, says what would change.
    support: full
  diff_mode:
    description: There is nothing to show that is not in C(/run).
    support: none
seealso:
  - module: holdfast.practice.power_facts
author:
  - Holdfast maintainers (@holdfast)
"""

EXAMPLES = r"""
- name: Let the host leave a mark
  holdfast.practice.power_signal:
    practice: harbour-street
    host: server1
    monitors:
      - ups: ups1
        address: 198.18.0.11
    state: armed
"""

RETURN = r"""
found:
  description: Whether something of a drill was there before.
  returned: always
  type: bool
  sample: false
marked_s:
  description: When the host was told to stop, in seconds since the epoch; null when it was not.
  returned: always
  type: float
  sample: 1795292312.5
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import power, power_signal, stamp

REAL = Path(f"{power.FOLDER}/upsmon.conf")
STARTED_S = 20


def write(path: str, text: str, mode: int, like: os.stat_result | None = None) -> None:
    """Write a file that is whole and closed to others from its first moment."""
    Path(path).unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)
        if like:
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fchmod(descriptor, mode)


def left() -> bool:
    """Say whether something of a drill is there."""
    return Path(power_signal.FOLDER).exists() or Path(power_signal.DROP_IN).exists()


def put_back(module: AnsibleModule) -> None:
    """Take a drill away, whatever of it is there. What was armed knows how; without it there is nothing but a drop-in."""
    program = Path(power_signal.BACK)
    if not program.exists():
        folder = Path(power_signal.FOLDER)
        folder.mkdir(mode=0o700, exist_ok=True)
        write(str(program), programs(module.params), 0o700)
    module.run_command(["/bin/sh", str(program)], check_rc=True)


def programs(params: dict[str, Any]) -> str:
    """Give the program that puts everything back."""
    return power_signal.render_put_back([f"{m['ups']}@{m['address']}" for m in params["monitors"]], params["own"])


def arm(module: AnsibleModule) -> None:
    """Prepare the host: the way back first, then upsmon with its other configuration."""
    real = REAL.read_text(encoding="ascii")
    text = power_signal.render_upsmon_conf(real)
    Path(power_signal.FOLDER).mkdir(mode=0o700)
    # upsmon reads its configuration again as its own user
    shutil.chown(power_signal.FOLDER, group=REAL.stat().st_gid)
    Path(power_signal.FOLDER).chmod(0o750)
    write(power_signal.BACK, programs(module.params), 0o700)
    write(power_signal.COMMAND, power_signal.LEAVE_MARK, 0o700)
    write(power_signal.CONFIGURATION, text, 0o640, REAL.stat())
    # the primary goes first, as it drops the order; the others wait for that
    after = module.params["seconds"] if module.params["own"] else module.params["seconds"] + 5
    timer = [
        "systemd-run",
        "--collect",
        f"--unit={power_signal.TIMER}",
        f"--on-active={after}",
        "--timer-property=AccuracySec=1s",
    ]
    module.run_command([*timer, "/bin/sh", power_signal.BACK], check_rc=True)
    Path(power_signal.DROP_IN_FOLDER).mkdir(parents=True, exist_ok=True)
    write(power_signal.DROP_IN, power_signal.DROP_IN_TEXT, 0o644)
    module.run_command(["systemctl", "daemon-reload"], check_rc=True)
    module.run_command(["systemctl", "restart", power.MONITOR], check_rc=True)
    end = time.monotonic() + STARTED_S
    # forked twice: the one that would run the command has to be there, with its new configuration
    while module.run_command(["systemctl", "is-active", "--quiet", power.MONITOR])[0]:
        if time.monotonic() > end:
            raise power_signal.SignalError(f"{power.MONITOR} did not start with the drill's configuration")
        time.sleep(0.2)


def marked(asked_at: float | None) -> float | None:
    """Read the mark, on the control node's clock."""
    try:
        mark = power_signal.read_mark(Path(power_signal.MARK).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    if mark is None or asked_at is None:
        return mark
    return power_signal.on_control_clock(mark, time.time(), asked_at)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["armed", "read", "ordered", "absent"], "default": "armed"},
            "monitors": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "ups": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                },
            },
            "own": {"type": "dict", "default": {}},
            "seconds": {"type": "int", "default": 300},
            "asked_at": {"type": "float"},
        },
        supports_check_mode=True,
    )
    state = module.params["state"]
    try:
        stamp.check(module.params["practice"], module.params["host"])
        found, mark, changed = left(), None, False
        if state == "read":
            mark = marked(module.params["asked_at"])
        elif state == "ordered":
            changed = True
            if not found:
                raise power_signal.SignalError("the host is not armed, so the order would stop it for real")
            if not module.check_mode:
                module.run_command(["upsmon", "-c", "fsd"], check_rc=True)
        else:
            changed = found or state == "armed"
            if not module.check_mode and found:
                put_back(module)
            if not module.check_mode and state == "armed":
                arm(module)
    except (stamp.StampError, power_signal.SignalError, OSError, ValueError) as error:
        module.fail_json(msg=f"{module.params['practice']}/{module.params['host']}: {error}")
    module.exit_json(changed=changed, found=found, marked_s=mark)


if __name__ == "__main__":
    main()
