#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the place that holds restored data while a proof runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_store
short_description: Claim, make and destroy the place that holds restored data
version_added: "0.3.0"
description:
  - Everything that a proof restores goes into one place on the carrier, fresh each time. Its content cannot be read any more
    once the place is gone, whatever the carrier's disk does with blocks that were deleted.
  - An V(encrypted) store is an ext4 file system in a sparse file, encrypted (fscrypt, AES-256) with a key that is made for it
    and that only the kernel's memory has. The key is destroyed when the store is unmounted, and with the power.
  - A V(memory) store is a tmpfs that is never swapped out. It is faster, and as large as memory allows.
  - A place is claimed first, so that two proofs of one practice do not meet, and says who has it and since when.
  - A folder that holds anything that is not of a proof is refused.
author:
  - Holdfast maintainers (@holdfast)
options:
  folder:
    description: The place. Several places in one folder know of each other's needs.
    type: path
    required: true
  state:
    description:
      - V(seen) only says who has it.
      - V(claimed) takes it for O(holder), when memory allows another machine.
      - V(fresh) makes a new store. What a proof that was killed left is wiped first. Nothing must be running or mounted in it.
      - V(absent) destroys the key, and removes the store and the claim. Nothing must be running or mounted in it.
    type: str
    choices: [seen, claimed, fresh, absent]
    required: true
  store:
    description: How restored data is kept.
    type: str
    choices: [encrypted, memory]
    default: encrypted
  size:
    description: Size of the store in bytes, as far as there is room. 0 takes half of what is free.
    type: int
    default: 0
  holder:
    description: Who claims it (C(token), C(who), C(node), C(pid), C(since)), as the filter C(restore_holder) says.
    type: dict
    default: {}
  over:
    description: Token of a claim whose holder is known to be gone.
    type: str
    default: ""
  discard:
    description: Whether an operator says that another's claim may go.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: A place has no diff beyond the returned steps.
    support: none
notes:
  - Needs root. An encrypted store needs Linux 5.4 or newer with file system encryption, as Debian and Ubuntu have it, mkfs.ext4
    and losetup.
"""

EXAMPLES = r"""
- name: Take the place for this proof
  holdfast.practice.restore_store:
    folder: /var/lib/holdfast/restore/harbour-street
    state: claimed
    holder: "{{ practice_id | holdfast.practice.restore_holder }}"

- name: Make a fresh store
  holdfast.practice.restore_store:
    folder: /var/lib/holdfast/restore/harbour-street
    state: fresh
  register: store

- name: Destroy it
  holdfast.practice.restore_store:
    folder: /var/lib/holdfast/restore/harbour-street
    state: absent
  register: wiped
"""

RETURN = r"""
holder:
  description: Whose claim was found; empty for nobody's.
  returned: success
  type: dict
  sample: {token: 7d9f, who: anna, node: control1, pid: 4711, since: "2026-11-21T20:31:40Z"}
rebooted:
  description: Whether the carrier was restarted since that claim, so that nothing of its proof is running.
  returned: success
  type: bool
path:
  description: Folder that restored data goes into.
  returned: success
  type: str
  sample: /var/lib/holdfast/restore/harbour-street/store/data
steps:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [file, format, mount, seal, note]
disposal:
  description:
    - What became of restored data that was there. C(key_destroyed) means that what may be left on the disk cannot be read by
      anybody; C(deleted) that the files are gone by name.
  returned: a store was there and is gone
  type: dict
  sample: {store: encrypted, key_destroyed: true, deleted: true}
reason:
  description: Why a proof cannot begin now, as a reason of its result.
  returned: failed for lack of room or memory
  type: dict
  sample: {code: not_enough_memory, message: the carrier has 1 byte of memory available}
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import NspawnError
from ansible_collections.holdfast.practice.plugins.module_utils.restore_store import ENCRYPTED, KINDS, StoreError
from ansible_collections.holdfast.practice.plugins.module_utils.restore_store_host import Place, boot_id


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["seen", "claimed", "fresh", "absent"], "required": True},
            "store": {"type": "str", "choices": list(KINDS), "default": ENCRYPTED},
            "size": {"type": "int", "default": 0},
            "holder": {"type": "dict", "default": {}},
            "over": {"type": "str", "default": ""},
            "discard": {"type": "bool", "default": False},
        },
        required_if=[("state", "claimed", ["holder"])],
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()
    place = Place(module.run_command, params["folder"].rstrip("/"), params["store"])
    steps: list[str] = []
    more = {}
    try:
        claim = place.gather().claim
        if params["state"] == "claimed":
            claim = place.claim(params["holder"], params["over"], params["discard"], params["size"], module.check_mode)
            steps = ["claim"]
        elif params["state"] != "seen":
            steps, disposal = place.reach(params["state"], params["size"], module.check_mode)
            more = {"disposal": disposal} if disposal else {}
    except StoreError as error:
        message = f"{place.folder}: {error}"
        reason = {"reason": {"code": error.code, "message": str(error)}} if error.code else {}
        module.fail_json(msg=message, **reason)
    except (NspawnError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(steps),
        holder=dict(claim),
        rebooted=bool(claim) and claim.get("boot") != boot_id(),
        path=str(place.data),
        steps=steps,
        seconds=round(time.monotonic() - started, 3),
        **more,
    )


if __name__ == "__main__":
    main()
