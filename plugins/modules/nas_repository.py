#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: nas_repository
short_description: Own the repository service of a practice's NAS
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Runs restic's rest-server append-only over TLS, with one account, one folder and one limit for every host.
  - Each account's folder is a btrfs subvolume of the pool, so that a host that fills its own limit stops no other.
  - An account that is no longer listed cannot log in any more. Its data stays, closed to everybody but root, and is
    reported; when the account comes back, so does its folder.
  - Owners and modes that drifted are put right and reported.
  - Refuses a certificate that is not valid now, a key that is not its own, and another practice's pool.
  - Debian's own service of the package is kept stopped, as it starts without TLS and lets clients erase.
attributes:
  check_mode:
    description: Reports what would change without touching the host.
    support: full
  diff_mode:
    description: Shows files and steps; the key and the password file are hidden.
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
  listen:
    description: Address and port to answer on. Required to be present.
    type: str
  certificate:
    description: The TLS certificate in PEM form, which clients pin. Required to be present.
    type: str
  key:
    description: The certificate's private key in PEM form, without a passphrase. Required to be present.
    type: str
  accounts:
    description: The accounts; one for every host that backs up here.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the account and of its folder.
        type: str
        required: true
      password_hash:
        description: Bcrypt hash of its password.
        type: str
        required: true
      quota:
        description: How much the host may store, such as V(200GiB). Left out, there is no limit.
        type: str
  state:
    description: With V(absent) service, accounts, certificate and key are removed; the repositories stay.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Offer a repository to every host
  holdfast.practice.nas_repository:
    practice: harbour-street
    host: nas1
    listen: 192.0.2.11:8000
    certificate: "{{ lookup('ansible.builtin.file', 'nas1.pem') }}"
    key: "{{ vault_tls_keys['nas1'] }}"
    accounts:
      - name: server1
        password_hash: "{{ vault_rest_passwords['server1'] | holdfast.practice.bcrypt_hash('harbour-street/server1') }}"
        quota: 200GiB
"""

RETURN = r"""
accounts:
  description: The accounts with their folder, limit and use in bytes (no limit is null).
  returned: always
  type: dict
  sample: {server1: {path: /srv/holdfast/repositories/server1, quota: 214748364800, used: 1048576}}
orphans:
  description:
    - Folders whose account is not listed any more. Their data is kept.
    - C(bytes) is null while the pool counts none; C(newest) is when the newest of C(snapshots) arrived, null without any.
  returned: always
  type: list
  elements: dict
  sample: [{name: desk1, path: /srv/holdfast/repositories/desk1, bytes: 1048576, snapshots: 3,
            newest: "2026-11-21T10:00:03Z"}]
repaired:
  description: Paths whose owner or mode had drifted and was put right (or would be, in check mode).
  returned: always
  type: list
  elements: str
certificate:
  description: When the certificate expires, and in how many whole days.
  returned: when state is present
  type: dict
  sample: {expires: "2036-11-19", days_left: 3650}
serving:
  description: Whether the service answered with this certificate. Not asked in check mode.
  returned: always
  type: bool
listen:
  description: The address that it answers on.
  returned: when state is present
  type: str
  sample: 192.0.2.11:8000
changes:
  description: One line for every step taken, or that would be taken in check mode.
  returned: always
  type: list
  elements: str
"""

import os
import stat
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import nas_repository as repository
from ansible_collections.holdfast.practice.plugins.module_utils import nas_storage as storage
from ansible_collections.holdfast.practice.plugins.module_utils import stamp, tls_answer
from ansible_collections.holdfast.practice.plugins.module_utils.btrfs import Btrfs, BtrfsError
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Change,
    Dir,
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    look_at,
    plan,
)
from ansible_collections.holdfast.practice.plugins.module_utils.nas_arrivals import snapshots_in

SUBVOLUME_INODE = 256  # the root of every btrfs subvolume
WARN_DAYS = 30


class RepositoryOnHost:
    """The service on one host: looks, decides through nas_repository, acts."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.root: str = module.params["root"].rstrip("/")
        self.folder = f"{self.root}/{repository.FOLDER}"
        self.btrfs = Btrfs(module.run_command)
        self.state = HostState(module.run_command)
        self.changes: list[Change] = []
        self.accounts: list[repository.Account] = []

    def pool_is_mounted(self) -> bool:
        """Say whether the pool is there and ours; raises when it is another practice's."""
        found = storage.mount_at(self.root, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        if found is None or found["kind"] != "btrfs":
            return False
        place = Path(self.root) / storage.STAMP_NAME
        if not place.exists():
            raise repository.RepositoryError(
                f"{place}: this pool carries no practice's stamp; set it up with the role nas_storage first"
            )
        storage.judge_pool_stamp(place.read_text(encoding="utf-8"), self.module.params["practice"], str(place))
        return True

    def folders(self) -> dict[str, repository.FoundFolder]:
        """Look at every folder beside each other, those of former accounts included."""
        if not Path(self.folder).is_dir():
            return {}
        groups = self.btrfs.qgroups(self.root)
        if groups is None and any(a.quota for a in self.accounts):
            raise repository.RepositoryError(
                f"{self.root}: quotas are off; run the role nas_storage, which turns them on"
            )
        found = {}
        for entry in sorted(os.scandir(self.folder), key=lambda e: e.name):
            facts, seen = entry.stat(follow_symlinks=False), look_at(entry.path, read=False)
            kind = "dir" if stat.S_ISDIR(facts.st_mode) else "other"
            if kind == "dir" and facts.st_ino == SUBVOLUME_INODE:
                kind = "subvolume"
            if seen is not None:
                group = (groups or {}).get(f"{repository.FOLDER}/{entry.name}", {})
                found[entry.name] = repository.FoundFolder(
                    kind, seen.mode, seen.owner, seen.group, group.get("limit"), group.get("used")
                )
        return found

    def orphans(self, have: dict[str, repository.FoundFolder]) -> list[dict[str, Any]]:
        """Describe what is kept of former accounts."""
        named = {account.name for account in self.accounts}
        arrivals = {name: snapshots_in(Path(self.folder) / name) for name in have if name not in named}
        return repository.orphans(have, self.accounts, self.folder, arrivals)

    def _carry_out(self, changes: list[Change]) -> None:
        self.changes += changes
        if not self.module.check_mode:
            self.state.apply(changes)

    def _make_folders(self, changes: list[Change]) -> None:
        self.changes += changes
        if self.module.check_mode:
            return
        for change in changes:
            if change.verb == "subvolume":
                self.btrfs.create_subvolume(change.target)
                self.state.apply([Change("chmod", change.target, "new", change.want)])
            elif change.verb in ("seal", "unseal"):
                self.state.apply([Change("chmod", change.target, change.why, change.want)])
            elif change.verb == "limit":
                self.btrfs.limit(change.target, change.want.quota)
            else:
                self.state.apply([change])

    def present(self) -> dict[str, Any]:
        """Bring the service to the wanted state and see it answer."""
        params = self.module.params
        self.accounts = repository.accounts_of(params["accounts"])
        repository.check_listen(params["listen"])
        # a PEM text that came through YAML may have lost its last line's end
        certificate, key = params["certificate"].strip() + "\n", params["key"].strip() + "\n"
        valid = repository.parse_certificate(certificate)
        repository.check_certificate(valid, time.time())
        repository.check_pair(certificate, key)
        mounted = self.pool_is_mounted()
        if not mounted and not self.module.check_mode:
            raise repository.RepositoryError(
                f"{self.root}: no pool is mounted there; repositories would fill the system disk. "
                f"Run the role nas_storage first"
            )
        have = self.folders() if mounted else {}
        steps = repository.plan_folders(have, self.accounts, self.folder)
        base = Wanted(
            dirs=[
                stamp.folder(),
                repository.config_folder(),
                Dir(self.folder, repository.FOLDER_MODE, "root", repository.USER),
            ],
            files=[stamp.wanted(params["practice"], params["host"])],
        )
        self._carry_out(plan(self.state.gather(base), base))
        self._make_folders(steps)
        service = Wanted(
            files=repository.config_files(self.accounts, self.root, params["listen"], certificate, key),
            units=repository.units(present=True),
        )
        self._carry_out(repository.without_repeats(plan(self.state.gather(service), service)))
        # last: whoever is being served under a former account is out by now
        self._make_folders(repository.plan_seals(have, self.accounts, self.folder))
        days = valid.days_left(time.time())
        if days < WARN_DAYS:
            self.module.warn(f"the certificate expires on {repository.day_of(valid.not_after)}, in {days} days")
        serving = False
        if not self.module.check_mode:
            self._wait_for_answer(params["listen"], certificate)
            serving, have = True, self.folders()
        return {
            "accounts": repository.summary(have, self.accounts, self.folder),
            "orphans": self.orphans(have),
            "certificate": {"expires": repository.day_of(valid.not_after), "days_left": days},
            "listen": params["listen"],
            "serving": serving,
        }

    def _wait_for_answer(self, listen: str, certificate: str) -> None:
        """Connect until the service shows this certificate; raises RepositoryError with its last words."""
        seen = tls_answer.wait_for(listen, certificate)
        if not seen:
            return
        _code, log, _err = self.module.run_command(
            ["journalctl", "--no-pager", "-q", "-n", "5", "-o", "cat", "-u", repository.SERVICE]
        )
        raise repository.RepositoryError(
            f"{repository.SERVICE} does not serve {listen} with its certificate ({seen}); its last words: {log.strip()}"
        )

    def absent(self) -> dict[str, Any]:
        """Remove the service and everything secret; keep the repositories."""
        wanted = Wanted(
            dirs=[repository.config_folder(absent=True)],
            files=repository.absent_files(),
            units=repository.units(present=False),
        )
        self._carry_out(plan(self.state.gather(wanted), wanted))
        kept = self.folders() if self.pool_is_mounted() else {}
        return {"accounts": {}, "orphans": self.orphans(kept), "serving": False}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "root": {"type": "path", "default": "/srv/holdfast"},
            "listen": {"type": "str"},
            "certificate": {"type": "str"},
            "key": {"type": "str", "no_log": True},
            "accounts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "password_hash": {"type": "str", "required": True, "no_log": True},
                    "quota": {"type": "str"},
                },
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["listen", "certificate", "key"])],
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C"}
    service = RepositoryOnHost(module)
    result: dict[str, Any] | None = None
    try:
        stamp.check(module.params["practice"], module.params["host"])
        repository.check_root(service.root)
        result = service.present() if module.params["state"] == "present" else service.absent()
    except (
        BtrfsError,
        HostStateError,
        repository.RepositoryError,
        storage.StorageError,
        stamp.StampError,
    ) as error:
        module.fail_json(
            msg=f"{module.params['practice']}/{module.params['host']}: {error}",
            changes=describe(service.changes),
            repaired=repository.repaired(service.changes),
        )
    module.exit_json(
        changed=bool(service.changes),
        changes=describe(service.changes),
        repaired=repository.repaired(service.changes),
        diff=diff_of(service.changes),
        **(result or {}),
    )


if __name__ == "__main__":
    main()
