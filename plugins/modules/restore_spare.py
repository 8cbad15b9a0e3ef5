#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a spare machine that proofs run on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_spare
short_description: Prepare a spare machine for restored data, cut it off, and give it back
version_added: "0.3.0"
description:
  - Works only on a machine that an operator gave up for it, in a file of root's that says C(PRACTICE/NAME)
    (C(/etc/holdfast-spare)), and that is no host of a practice.
  - Folders that restored data may touch are covered by folders of the encrypted store (M(holdfast.practice.restore_store)), with
    what is in them. What was there before is not changed, and is there again afterwards.
  - The packet filter lets through the sessions of the control node and, until V(isolated), restic's way to the NAS.
  - A timer on the machine wipes everything after O(wipe_after_h) hours, so that a lost connection leaves nothing either.
author:
  - Holdfast maintainers (@holdfast)
options:
  state:
    description:
      - V(checked) looks whether the machine may be used, and changes nothing.
      - V(covered) covers the folders, arms the timer and cuts the network but for O(nas).
      - V(isolated) cuts the way to the NAS as well and starts O(units).
      - V(absent) takes all of that away. The store itself is left to M(holdfast.practice.restore_store).
    type: str
    choices: [checked, covered, isolated, absent]
    required: true
  practice:
    description: Id of the practice.
    type: str
    required: true
  name:
    description: Name of the spare machine in the practice document.
    type: str
    required: true
  place:
    description: The place that M(holdfast.practice.restore_store) made.
    type: path
    required: true
  covers:
    description:
      - Folders that restored data may touch. Those that are not there are left out.
      - The place for restored files is always covered.
    type: list
    elements: path
    default: []
  units:
    description:
      - Services that are stopped while folders are covered, and started to be judged. Those that are not there are left out.
    type: list
    elements: str
    default: []
  nas:
    description: Where restic reads, each as C(address) and C(port).
    type: list
    elements: dict
    default: []
    suboptions:
      address:
        description: IP address, or a name that /etc/hosts knows, as names cannot be asked for once the network is cut.
        type: str
        required: true
      port:
        description: Port.
        type: int
        required: true
  wipe_after_h:
    description: Hours after which the machine wipes itself.
    type: int
    default: 24
attributes:
  check_mode:
    description: Says whether the machine may be used, and changes nothing.
    support: full
  diff_mode:
    description: There is no diff beyond the returned steps.
    support: none
notes:
  - Needs root over ssh, systemd, nft and mount.
"""

EXAMPLES = r"""
- name: Look whether the machine may be used
  holdfast.practice.restore_spare:
    state: checked
    practice: harbour-street
    name: proof1
    place: /var/lib/holdfast/restore/harbour-street
"""

RETURN = r"""
steps:
  description: What was done.
  returned: success
  type: list
  elements: str
  sample: [timer, cover:/srv/holdfast-restore, network]
root:
  description: Path that leads to the machine's root, where a machine's disk is expected.
  returned: success
  type: str
reason:
  description: Why the machine cannot be used, as a reason of a proof's result.
  returned: the machine is refused
  type: dict
  sample: {code: spare_machine_refused, message: nobody has given this machine up for proofs}
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import os
import socket
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import restore_spare as spare
from ansible_collections.holdfast.practice.plugins.module_utils import stamp
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import NspawnError
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn_host import run_checked, write
from ansible_collections.holdfast.practice.plugins.module_utils.restore_spare import Mark, SpareError
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import PLACE


class SpareMachine:
    """This machine."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params: dict[str, Any] = module.params
        self._run = module.run_command
        self.data = f"{self.params['place']}/store/data"
        self.wipe = Path(spare.RUN) / "wipe"
        self.covers = spare.covers([PLACE, *self.params["covers"]], self.data)
        self.steps: list[str] = []

    def check(self) -> None:
        """Refuse a machine that was not given up for this, or whose place for restored files is taken."""
        spare.check_mark(_mark(spare.MARK), self.params["practice"], self.params["name"])
        if Path(stamp.PATH).exists():
            raise SpareError(
                f"this machine is a host of a practice ({stamp.PATH} is there); expected one that does nothing else. Restores "
                "are never proven on a machine that is in use"
            )
        if PLACE not in _covered() and Path(PLACE).is_dir() and any(Path(PLACE).iterdir()):
            raise SpareError(f"{PLACE} is not empty; expected a folder that is not there. Look at it and move it away")

    def _do(self, step: str, *argv: str, data: str | None = None) -> None:
        run_checked(self._run, argv, step, data=data)
        self.steps.append(step)

    def units(self) -> list[str]:
        """Those services that are there."""
        there = []
        for unit in self.params["units"]:
            if self._run(["systemctl", "cat", "--", unit])[0] == 0:
                there.append(unit)
        return there

    def cover(self) -> None:
        """Arm the timer, cover the folders, and leave only the control node and the NAS."""
        write(
            self.wipe,
            spare.wipe_script(self.params["place"], PLACE, self.units()),
            0o700,
        )
        after = f"--on-active={self.params['wipe_after_h']}h"
        self._do(
            "timer",
            "systemd-run",
            "--quiet",
            f"--unit={spare.UNIT}",
            after,
            "--timer-property=AccuracySec=1min",
            str(self.wipe),
        )
        write(Path(spare.VOLATILE), "[Journal]\nStorage=volatile\n")
        self._do("journal", "systemctl", "restart", "systemd-journald.service")
        if self.units():
            self._do("stop", "systemctl", "stop", "--", *spare.stopped(self.units()))
        Path(PLACE).mkdir(parents=True, exist_ok=True)
        for folder, over in self.covers:
            if not Path(folder).is_dir():
                continue
            Path(over).mkdir(parents=True)
            run_checked(self._run, ["cp", "--archive", f"{folder}/.", over], f"copying {folder} into the store")
            self._do(f"cover:{folder}", "mount", "--bind", over, folder)
        (Path(self.data) / "machine").mkdir(mode=0o700)
        (Path(self.data) / "machine/root").symlink_to("/")
        self.network(
            [
                (str(found[4][0]), nas["port"])
                for nas in self.params["nas"]
                for found in socket.getaddrinfo(nas["address"], nas["port"], type=socket.SOCK_STREAM)
            ]
        )

    def network(self, nas: Sequence[tuple[str, int]]) -> None:
        """Let through what is named, and nothing else."""
        control = spare.control_of(os.environ.get("SSH_CONNECTION", ""))
        self._do("network", "nft", "--file", "-", data=spare.rules(control, nas))

    def isolate(self) -> None:
        """Cut the last way out, then start what is to be judged."""
        self.network([])
        if self.units():
            self._do("start", "systemctl", "start", "--", *self.units())

    def release(self) -> None:
        """Take away what ``cover`` did; what a restart of the machine took away already is no fault."""
        if self.wipe.exists():
            self._do("wipe", str(self.wipe), "release")
        if _covered():
            raise SpareError(
                "folders are still covered by the store; restart the machine, which takes them away with the key"
            )
        if self._run(["systemctl", "is-active", "--quiet", f"{spare.UNIT}.timer"])[0] == 0:
            self._do("disarm", "systemctl", "stop", f"{spare.UNIT}.timer")
        self.wipe.unlink(missing_ok=True)


def _covered() -> list[str]:
    return spare.covered(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))


def _mark(path: str) -> Mark | None:
    try:
        facts = os.lstat(path)
        text = Path(path).read_text(encoding="utf-8") if stat.S_ISREG(facts.st_mode) else ""
    except FileNotFoundError:
        return None
    return Mark(text, stat.S_ISREG(facts.st_mode), facts.st_uid, stat.S_IMODE(facts.st_mode))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["checked", "covered", "isolated", "absent"], "required": True},
            "practice": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "place": {"type": "path", "required": True},
            "covers": {"type": "list", "elements": "path", "default": []},
            "units": {"type": "list", "elements": "str", "default": []},
            "nas": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"address": {"type": "str", "required": True}, "port": {"type": "int", "required": True}},
            },
            "wipe_after_h": {"type": "int", "default": 24},
        },
        supports_check_mode=True,
    )
    started = time.monotonic()
    try:
        machine = SpareMachine(module)
        state = module.params["state"]
        if state != "absent":  # what a proof of ours did is taken away, whatever became of the mark since
            machine.check()
        if not module.check_mode and state != "checked":
            {"covered": machine.cover, "isolated": machine.isolate, "absent": machine.release}[state]()
    except SpareError as error:
        module.fail_json(msg=str(error), reason={"code": "spare_machine_refused", "message": str(error)})
    except (NspawnError, OSError) as error:
        module.fail_json(msg=str(error))
    seconds = round(time.monotonic() - started, 3)
    folder = f"{machine.data}/machine"
    module.exit_json(changed=bool(machine.steps), steps=machine.steps, root=f"{folder}/root", seconds=seconds)


if __name__ == "__main__":
    main()
