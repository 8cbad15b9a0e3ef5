#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: nas_storage
short_description: Own the disk pool that holds a practice's backups
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Makes one btrfs pool out of whole disks, mounts it by a systemd unit, turns quotas on and scrubs it every month.
  - The practice is part of the pool's label and is stamped in its root, so that another practice's play refuses it.
  - Refuses, before anything is written, devices that carry any signature or unknown data, that are in use, missing,
    named twice or too few for the profile. An existing pool is never formatted, grown or converted.
attributes:
  check_mode:
    description: Reports what would change without touching the host.
    support: full
  diff_mode:
    description: Shows the unit files and the steps.
    support: full
options:
  practice:
    description: Id of the practice that the pool belongs to.
    type: str
    required: true
  host:
    description: Name of the NAS in the practice document.
    type: str
    required: true
  pool:
    description: The pool.
    type: dict
    required: true
    suboptions:
      label:
        description: First part of the file system's label; the practice is the second.
        type: str
        default: holdfast
      profile:
        description: How data is kept. V(raid1) keeps two copies on different disks, and mends one from the other.
        type: str
        choices: [single, raid1, raid1c3, raid1c4, raid10]
        default: raid1
      devices:
        description: Whole disks by a name that does not change, such as those under C(/dev/disk/by-id).
        type: list
        elements: str
        required: true
      mountpoint:
        description: Where the pool is mounted.
        type: str
        default: /srv/holdfast
  allow_format:
    description:
      - Erase devices that carry something. For one run only.
      - Does not hold for devices in use, for an existing pool of this practice, nor for a pool of another practice.
    type: bool
    default: false
  state:
    description: With V(absent) the pool is unmounted and its units are removed; the data on the disks stays.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Mount the backup pool
  holdfast.practice.nas_storage:
    practice: harbour-street
    host: nas1
    pool:
      profile: raid1
      devices: [/dev/disk/by-id/ata-A, /dev/disk/by-id/ata-B]
"""

RETURN = r"""
uuid:
  description: The pool's UUID; empty while it does not exist.
  returned: always
  type: str
  sample: 7d3d6e7f-4299-4ad7-a1d5-902bf3466191
label:
  description: The label on the disks.
  returned: always
  type: str
  sample: "holdfast:harbour-street"
profile:
  description: The wanted profile.
  returned: always
  type: str
  sample: raid1
mountpoint:
  description: Where the pool is mounted.
  returned: always
  type: str
  sample: /srv/holdfast
mounted:
  description: Whether the pool is mounted now.
  returned: always
  type: bool
degraded:
  description: Whether a member of the pool is missing.
  returned: always
  type: bool
devices:
  description:
    - The members of the mounted pool with their error counters (C(write_io_errs), C(read_io_errs), C(flush_io_errs),
      C(corruption_errs), C(generation_errs)), counted since they were last reset.
  returned: always
  type: list
  elements: dict
  sample: [{device: /dev/sda, devid: 1, missing: false, write_io_errs: 0, read_io_errs: 0, flush_io_errs: 0,
            corruption_errs: 0, generation_errs: 0}]
device_errors:
  description: Sum of all error counters.
  returned: always
  type: int
bytes:
  description: Size and free space of the mounted pool as a writer sees them, in bytes.
  returned: always
  type: dict
  sample: {total: 2147483648, free: 1717239808}
quota:
  description: Kind of quota in force, V(simple), V(full) or V(off).
  returned: always
  type: str
changes:
  description: One line for every step taken, or that would be taken in check mode.
  returned: always
  type: list
  elements: str
"""

import os
import uuid
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nas_storage as storage
from ansible_collections.holdfast.practice.plugins.module_utils import stamp
from ansible_collections.holdfast.practice.plugins.module_utils.btrfs import PROFILES, Btrfs, BtrfsError
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Change,
    Dir,
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    plan,
)

NOTHING_MOUNTED = {"devices": [], "device_errors": 0, "bytes": {}, "quota": "off", "degraded": False}
REPOSITORY_UNIT = "/etc/systemd/system/holdfast-rest-server.service"


class RefusedError(Exception):
    """The wanted state is refused; ``facts`` tells what was found."""

    def __init__(self, text: str, **facts: Any) -> None:
        super().__init__(text)
        self.facts = facts


class PoolOnHost:
    """One pool on one host: looks, decides through nas_storage, acts."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        pool = module.params["pool"]
        self.want = storage.Pool(
            module.params["practice"], pool["label"], pool["profile"], tuple(pool["devices"]), pool["mountpoint"]
        )
        self.btrfs = Btrfs(module.run_command)
        self.state = HostState(module.run_command)
        self.changes: list[Change] = []

    def mounted(self) -> storage.Mounted | None:
        """Say what is mounted at the mountpoint."""
        found = storage.mount_at(self.want.mountpoint, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        if found is None:
            return None
        pool_uuid = self.btrfs.pool(self.want.mountpoint)[0] if found["kind"] == "btrfs" else ""
        return storage.Mounted(found["kind"], pool_uuid, found["source"])

    def facts(self) -> dict[str, Any]:
        """Describe the mounted pool, or give the same keys empty."""
        facts: dict[str, Any] = dict(NOTHING_MOUNTED)
        here = self.mounted()
        facts["mounted"] = here is not None and here.kind == "btrfs"
        if not facts["mounted"] or here is None:
            return facts
        facts["uuid"] = here.uuid
        facts["devices"] = self.btrfs.stats(self.want.mountpoint)
        facts["degraded"] = any(d["missing"] for d in facts["devices"])
        facts["device_errors"] = sum(v for d in facts["devices"] for k, v in d.items() if k.endswith("_errs"))
        space = os.statvfs(self.want.mountpoint)
        facts["bytes"] = {"total": space.f_blocks * space.f_frsize, "free": space.f_bavail * space.f_frsize}
        if self.btrfs.qgroups(self.want.mountpoint) is not None:
            blocks = [storage.Devices(self.module.run_command).look(path).superblock for path in self.want.devices]
            facts["quota"] = "simple" if any(b and b.simple_quota for b in blocks) else "full"
        return facts

    def _carry_out(self, changes: list[Change]) -> None:
        self.changes += changes
        if not self.module.check_mode:
            self.state.apply(changes)

    def _do(self, verb: str, target: str, why: str) -> bool:
        """Note a step of our own; True when it is to be done now."""
        self.changes.append(Change(verb, target, why))
        return not self.module.check_mode

    def _stamp_text(self) -> str | None:
        place = Path(self.want.mountpoint) / storage.STAMP_NAME
        return place.read_text(encoding="utf-8") if place.exists() else None

    def _judge_mounted(self, pool_uuid: str) -> None:
        """Refuse a mounted pool that is another practice's, lacks a member or has another profile."""
        storage.judge_pool_stamp(self._stamp_text(), self.want.practice, f"{self.want.mountpoint}/{storage.STAMP_NAME}")
        missing = self.btrfs.pool(self.want.mountpoint)[2]
        if missing:
            raise RefusedError(
                f"pool {pool_uuid} is mounted without member {', '.join(map(str, missing))}: one more failure loses "
                f"data. "
                f"Replace the disk: btrfs replace start {missing[0]} NEW_DEVICE {self.want.mountpoint}",
                degraded=True,
            )
        problem = storage.profile_problem(self.btrfs.profiles(self.want.mountpoint), self.want, pool_uuid)
        if problem:
            raise RefusedError(problem)

    def present(self) -> None:
        """Make, mount, limit and stamp the pool."""
        looker = storage.Devices(self.module.run_command)
        devices = [looker.look(path) for path in self.want.devices]
        here = self.mounted()
        verdict = storage.judge(devices, self.want, here, self.module.params["allow_format"])
        if verdict.problems:
            raise RefusedError("; ".join(verdict.problems), degraded=verdict.degraded)
        if here is not None:
            self._judge_mounted(verdict.uuid)
        pool_uuid = verdict.uuid or str(uuid.uuid4())
        if verdict.action == "make":
            what = f"{' '.join(self.want.devices)} as {self.want.profile} {self.want.full_label}"
            if self._do("format", what, "no pool yet"):
                self.btrfs.make(self.want.devices, self.want.profile, self.want.full_label, pool_uuid, verdict.force)
        udev = Path("/run/udev/control").exists()
        if udev and verdict.action == "make" and not self.module.check_mode:
            self.module.run_command(["udevadm", "settle"], check_rc=True)
        mine = stamp.wanted(self.want.practice, self.module.params["host"])
        wanted = Wanted(
            dirs=[stamp.folder(), Dir(self.want.mountpoint)],
            files=[mine, *storage.unit_files(self.want, pool_uuid, udev)],
            units=storage.units(self.want.mountpoint, present=True),
        )
        self._carry_out(plan(self.state.gather(wanted), wanted))
        self._settle(verdict.action == "make", here is not None)

    def _settle(self, made: bool, was_mounted: bool) -> None:
        """See to what is inside the pool, now that it is mounted (or would be)."""
        now_mounted = was_mounted or not self.module.check_mode
        if now_mounted and not was_mounted:
            here = self.mounted()
            if here is None:
                raise RefusedError(f"{self.want.mountpoint}: its mount unit started, but nothing is mounted there")
            self._judge_mounted(here.uuid)
        off = self.btrfs.qgroups(self.want.mountpoint) is None if now_mounted else made
        if off and self._do("quota", self.want.mountpoint, "quotas are off"):
            self.btrfs.enable_quota(self.want.mountpoint)
        inside = Wanted(files=[storage.pool_stamp(self.want.practice, self.want.mountpoint)])
        if now_mounted or made:
            self._carry_out(plan(self.state.gather(inside), inside))

    def absent(self) -> None:
        """Unmount the pool and remove its units."""
        if Path(REPOSITORY_UNIT).exists() and not self.module.check_mode:
            raise RefusedError(
                f"{self.want.mountpoint}: the repository service still lives on this pool; remove it first "
                f"(nas_repository_state: absent)"
            )
        here = self.mounted()
        wanted = Wanted(
            files=storage.absent_files(self.want.mountpoint), units=storage.units(self.want.mountpoint, present=False)
        )
        self._carry_out(plan(self.state.gather(wanted), wanted))
        place = Path(self.want.mountpoint)
        empty = place.is_dir() and (here is not None or not any(place.iterdir()))
        if empty and self._do("rmdir", self.want.mountpoint, "empty"):
            place.rmdir()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "pool": {
                "type": "dict",
                "required": True,
                "options": {
                    "label": {"type": "str", "default": "holdfast"},
                    "profile": {"type": "str", "choices": list(PROFILES), "default": "raid1"},
                    "devices": {"type": "list", "elements": "str", "required": True},
                    "mountpoint": {"type": "str", "default": "/srv/holdfast"},
                },
            },
            "allow_format": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    pool = PoolOnHost(module)
    known: dict[str, Any] = {
        "uuid": "",
        "label": pool.want.full_label,
        "profile": pool.want.profile,
        "mountpoint": pool.want.mountpoint,
        "mounted": False,
        **NOTHING_MOUNTED,
    }
    try:
        stamp.check(module.params["practice"], module.params["host"])
        storage.check_names(pool.want)
        if module.params["state"] == "present":
            pool.present()
        else:
            pool.absent()
        known.update(pool.facts())
    except RefusedError as refused:
        known.update(pool.facts())
        known.update(refused.facts)
        module.fail_json(msg=_in_words(module, str(refused)), changes=describe(pool.changes), **known)
    except (BtrfsError, HostStateError, storage.StorageError, stamp.StampError) as error:
        module.fail_json(msg=_in_words(module, str(error)), changes=describe(pool.changes), **known)
    module.exit_json(changed=bool(pool.changes), changes=describe(pool.changes), diff=diff_of(pool.changes), **known)


def _in_words(module: AnsibleModule, text: str) -> str:
    return f"{module.params['practice']}/{module.params['host']}: {text}"


if __name__ == "__main__":
    main()
