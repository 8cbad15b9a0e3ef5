#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_arrivals
short_description: Tell when each snapshot arrived at the NAS
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Reads, on the NAS, when the file of each snapshot was written. A client can claim any time for a snapshot, but not
    this one.
  - Reads names and times only; it opens no repository and needs no password.
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: There is nothing to show, as nothing changes.
    support: none
options:
  practice:
    description: Id of the practice that the NAS must belong to. Left out, it is not compared.
    type: str
  host:
    description: Name of the NAS in the practice document.
    type: str
  root:
    description: Where the pool is mounted.
    type: path
    default: /srv/holdfast
  accounts:
    description: Only these accounts; each must have a folder. Left out, all are read.
    type: list
    elements: str
  sizes:
    description: Also count files and bytes, which reads every folder of the repositories.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Ask the NAS when snapshots arrived
  holdfast.practice.snapshot_arrivals:
    practice: harbour-street
    host: nas1
  register: arrivals
"""

RETURN = r"""
arrivals:
  description: For each account, its snapshots (full id) and their arrival in seconds since the epoch.
  returned: success
  type: dict
  sample: {server1: {4c2b8e0d1f: 1795291812.25}}
repositories:
  description:
    - For each account, whether a repository exists (C(initialised)), the count of C(snapshots), the C(newest) arrival
      (null when there is none), its C(key_ids) and their arrival, and with O(sizes) C(files) and C(bytes).
  returned: success
  type: dict
  sample: {server1: {initialised: true, snapshots: 1, newest: 1795291812.25, key_ids: {9d1c0f5e77: 1795200000.5}}}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nas_storage as storage
from ansible_collections.holdfast.practice.plugins.module_utils import stamp
from ansible_collections.holdfast.practice.plugins.module_utils.nas_arrivals import ArrivalsError, survey
from ansible_collections.holdfast.practice.plugins.module_utils.nas_repository import FOLDER


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str"},
            "host": {"type": "str"},
            "root": {"type": "path", "default": "/srv/holdfast"},
            "accounts": {"type": "list", "elements": "str"},
            "sizes": {"type": "bool", "default": False},
        },
        required_together=[("practice", "host")],
        supports_check_mode=True,
    )
    asked = module.params
    try:
        if asked["practice"]:
            stamp.check(asked["practice"], asked["host"])
        # an unmounted pool is an empty folder, and would read as "no snapshots"
        if (
            storage.mount_at(asked["root"].rstrip("/"), Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
            is None
        ):
            raise ArrivalsError(f"{asked['root']}: no pool is mounted there; see its mount unit on the NAS")
        arrivals, repositories = survey(Path(asked["root"]) / FOLDER, asked["accounts"], asked["sizes"])
    except (ArrivalsError, stamp.StampError) as error:
        module.fail_json(msg=f"{asked['practice'] or 'NAS'}/{asked['host'] or asked['root']}: {error}")
    module.exit_json(changed=False, arrivals=arrivals, repositories=repositories)


if __name__ == "__main__":
    main()
