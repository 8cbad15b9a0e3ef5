#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: nas_maintenance
short_description: Let maintenance, and nobody else, into one repository of a practice's NAS
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - The repository service lets nobody erase, and stays so. For maintenance of one repository a second one takes its place
    for a while, C(holdfast-maintenance). It serves that one repository, on the next port, with the right to erase, to whoever
    has a password that lives as long as itself.
  - The two stop each other, so no client can write while objects are removed. Clients find nobody at the usual port,
    see that somebody is at the next one, and wait.
  - However it ends (closed, killed, its time over, the NAS started anew), the repository service comes back and the account is
    of no use any more.
  - Refuses to open while a client works in that repository, and while another maintenance is open.
  - The NAS never learns what opens the repository's data.
attributes:
  check_mode:
    description: Says whether it would open, and what is there, without touching the host.
    support: full
  diff_mode:
    description: Shows files and steps; the password file is hidden.
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
    description: Where the pool is mounted.
    type: path
    default: /srv/holdfast
  listen:
    description: Address and port of the repository service.
    type: str
    required: true
  account:
    description: The account whose repository it is about. Needed to open.
    type: str
  password_hash:
    description: Bcrypt hash of the password that opens it this time. Needed to open.
    type: str
  wait_s:
    description: How long to wait for a client that works in the repository.
    type: int
    default: 0
  limit_s:
    description: After so long it closes by itself.
    type: int
    default: 7200
  state:
    description: Open it, or close it.
    type: str
    choices: [open, closed]
    required: true
"""

EXAMPLES = r"""
- name: Let maintenance in
  holdfast.practice.nas_maintenance:
    practice: harbour-street
    host: nas1
    listen: 192.0.2.11:8000
    account: server1
    password_hash: "{{ once | holdfast.practice.bcrypt_hash('harbour-street/maintenance') }}"
    state: open
  register: door

- name: Close it
  holdfast.practice.nas_maintenance:
    practice: harbour-street
    host: nas1
    listen: 192.0.2.11:8000
    state: closed
"""

RETURN = r"""
listen:
  description: Address and port of the way in.
  returned: success
  type: str
  sample: 192.0.2.11:8001
busy:
  description: How many clients still worked in the repository; with any, it was not opened.
  returned: O(state=open)
  type: int
  sample: 0
arrivals:
  description: The repository's snapshots and when they arrived, in seconds since the epoch, read after it was opened.
  returned: O(state=open)
  type: dict
  sample: {4c2b8e0d1f: 1795291812.25}
key_ids:
  description: The repository's keys and when they arrived.
  returned: O(state=open)
  type: dict
  sample: {9d1c0f5e77: 1795200000.5}
bytes:
  description: How much the repository takes, in bytes.
  returned: O(state=open), or O(account) is given
  type: int
  sample: 1048576
changes:
  description: One line for every step taken, or that would be taken in check mode.
  returned: always
  type: list
  elements: str
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nas_repository as repository
from ansible_collections.holdfast.practice.plugins.module_utils import nas_storage as storage
from ansible_collections.holdfast.practice.plugins.module_utils import stamp, tls_answer
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Change,
    HostState,
    HostStateError,
    describe,
    diff_of,
    plan,
)
from ansible_collections.holdfast.practice.plugins.module_utils.nas_arrivals import (
    ArrivalsError,
    accounts_in,
    objects_in,
    size_of,
)

LOOK_EVERY_S = 2


class MaintenanceOnHost:
    """The way in on one NAS."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.root: str = self.params["root"].rstrip("/")
        self.folder = Path(self.root) / repository.FOLDER
        self.listen = repository.door_listen(self.params["listen"])
        self.state = HostState(module.run_command)
        self.changes: list[Change] = []

    def _carry_out(self, wanted: Any) -> None:
        changes = plan(self.state.gather(wanted), wanted)
        self.changes += changes
        if not self.module.check_mode:
            self.state.apply(changes)

    def _answers(self, listen: str, unit: str) -> None:
        seen = tls_answer.wait_for(listen, Path(repository.CERTIFICATE).read_text(encoding="ascii"))
        if seen:
            raise repository.RepositoryError(f"{unit} does not answer at {listen} ({seen}): journalctl -u {unit}")

    def clients(self, account: str) -> int:
        """How many clients work in a repository, once the wait is over or nobody does."""
        deadline = time.monotonic() + self.params["wait_s"]
        while True:
            busy = repository.locks_in_use(objects_in(self.folder / account, "locks"), time.time())
            if not busy or time.monotonic() >= deadline:
                return busy
            time.sleep(LOOK_EVERY_S)

    def open(self) -> dict[str, Any]:
        """Open it, unless a client works there."""
        account = self.params["account"]
        (row,) = repository.accounts_of([{"name": account, "password_hash": self.params["password_hash"]}])
        accounts_in(self.folder, [account])
        wanted = repository.door(row, self.root, self.listen, self.params["limit_s"])
        if self.state.gather(wanted).units[repository.DOOR].active:
            raise repository.RepositoryError(
                "another maintenance is open on this NAS; wait for it. One that was cut off closes by itself after "
                f"its time, or at once with: systemctl stop {repository.DOOR}"
            )
        busy = self.clients(account)
        if not busy:
            self._carry_out(wanted)
            if not self.module.check_mode:
                self._answers(self.listen, repository.DOOR)
        place = self.folder / account
        return {
            "busy": busy,
            "arrivals": objects_in(place, "snapshots"),
            "key_ids": objects_in(place, "keys"),
            "bytes": size_of(place)[1],
        }

    def close(self) -> dict[str, Any]:
        """Close it, and see the repository service answer."""
        self._carry_out(repository.door_closed())
        if not self.module.check_mode:
            self._answers(self.params["listen"], repository.SERVICE)
        account = self.params["account"]
        return {"bytes": size_of(self.folder / account)[1]} if account else {}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/srv/holdfast"},
            "listen": {"type": "str", "required": True},
            "account": {"type": "str"},
            "password_hash": {"type": "str", "no_log": True},
            "wait_s": {"type": "int", "default": 0},
            "limit_s": {"type": "int", "default": 7200},
            "state": {"type": "str", "choices": ["open", "closed"], "required": True},
        },
        required_if=[("state", "open", ["account", "password_hash"])],
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    params = module.params
    result: dict[str, Any] = {}
    try:
        stamp.check(params["practice"], params["host"])
        repository.check_root(params["root"].rstrip("/"))
        repository.check_listen(params["listen"])
        way = MaintenanceOnHost(module)
        result = way.open() if params["state"] == "open" else way.close()
    except (
        ArrivalsError,
        HostStateError,
        repository.RepositoryError,
        storage.StorageError,
        stamp.StampError,
    ) as error:
        module.fail_json(msg=f"{params['practice']}/{params['host']}: {error}")
    module.exit_json(
        changed=bool(way.changes),
        changes=describe(way.changes),
        diff=diff_of(way.changes),
        listen=way.listen,
        **result,
    )


if __name__ == "__main__":
    main()
