#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: nas_orphan
short_description: Look at, or delete, what a NAS keeps of a retired host
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - Tells how much is kept of a host that has no account any more, and how new it is.
  - With O(state=absent) deletes it for good. Only C(playbooks/delete_orphan.yml) asks for that.
  - Refuses a host that still has an account, anything that is no subvolume, and another practice's pool.
attributes:
  check_mode:
    description: Says what would be deleted and deletes nothing.
    support: full
  diff_mode:
    description: Shows the folder that goes.
    support: full
options:
  practice:
    description: Id of the practice that the NAS belongs to.
    type: str
    required: true
  host:
    description: Name of the NAS in the practice document.
    type: str
    required: true
  root:
    description: Where the pool is mounted; repositories live in its folder C(repositories).
    type: path
    default: /srv/holdfast
  name:
    description: Name of the retired host.
    type: str
    required: true
  state:
    description: With V(present) nothing is changed; with V(absent) the data is deleted.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: See what is kept of desk1
  holdfast.practice.nas_orphan:
    practice: harbour-street
    host: nas1
    name: desk1
  register: kept
"""

RETURN = r"""
orphan:
  description:
    - What was there before the module acted, null when there was nothing.
    - C(bytes) is null while the pool counts none; C(newest) is when the newest of C(snapshots) arrived, null without any.
  returned: success
  type: dict
  sample: {name: desk1, path: /srv/holdfast/repositories/desk1, bytes: 1048576, snapshots: 3,
           newest: "2026-11-21T10:00:03Z"}
"""

import os
import stat
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nas_repository as repository
from ansible_collections.holdfast.practice.plugins.module_utils import nas_storage as storage
from ansible_collections.holdfast.practice.plugins.module_utils import stamp
from ansible_collections.holdfast.practice.plugins.module_utils.btrfs import Btrfs, BtrfsError
from ansible_collections.holdfast.practice.plugins.module_utils.nas_arrivals import snapshots_in

SUBVOLUME_INODE = 256  # the root of every btrfs subvolume


def check_pool(root: str, practice: str) -> None:
    """Raise RepositoryError or StorageError unless the pool is mounted and this practice's."""
    found = storage.mount_at(root, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if found is None or found["kind"] != "btrfs":
        raise repository.RepositoryError(f"{root}: no pool is mounted there; see its mount unit on the NAS")
    place = Path(root) / storage.STAMP_NAME
    text = place.read_text(encoding="utf-8") if place.exists() else ""
    storage.judge_pool_stamp(text, practice, str(place))


def folder_at(path: str, group: dict[str, Any]) -> repository.FoundFolder | None:
    """Look at one account's folder; None when there is none."""
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return None
    whole = stat.S_ISDIR(facts.st_mode) and facts.st_ino == SUBVOLUME_INODE
    return repository.FoundFolder("subvolume" if whole else "other", limit=group.get("limit"), used=group.get("used"))


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and delete when asked to; returns the module's result."""
    params = module.params
    stamp.check(params["practice"], params["host"])
    root, name = params["root"].rstrip("/"), params["name"]
    repository.check_root(root)
    check_pool(root, params["practice"])
    folder = f"{root}/{repository.FOLDER}"
    path = f"{folder}/{name}"
    accounts = Path(repository.HTPASSWD)
    names = repository.account_names(accounts.read_text(encoding="utf-8")) if accounts.exists() else []
    btrfs = Btrfs(module.run_command)
    groups = btrfs.qgroups(root) or {}
    # the name is judged before it becomes a path that is looked at
    problem = repository.deletion_problem(name, None, names, path)
    found = None if problem else folder_at(path, groups.get(f"{repository.FOLDER}/{name}", {}))
    problem = problem or repository.deletion_problem(name, found, names, path)
    if problem:
        raise repository.RepositoryError(problem)
    if found is None:
        return {"changed": False, "orphan": None}
    (kept,) = repository.orphans({name: found}, [], folder, {name: snapshots_in(Path(path))})
    if params["state"] == "present":
        return {"changed": False, "orphan": kept}
    if not module.check_mode:
        btrfs.delete_subvolume(path)
    shown = f"{path}: {kept['snapshots']} snapshots, newest {kept['newest'] or 'none'}\n"
    diff = {"before_header": path, "after_header": f"{path} (deleted)", "before": shown, "after": ""}
    return {"changed": True, "orphan": kept, "diff": diff}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/srv/holdfast"},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    try:
        result = run(module)
    except (BtrfsError, repository.RepositoryError, storage.StorageError, stamp.StampError) as error:
        module.fail_json(msg=f"{module.params['practice']}/{module.params['host']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
