#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: recovery_facts
short_description: Tell which tools a recovery of this host needs
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - Reads the versions, packages and checksums of the programs that made the backups (restic, rest-server, database engines,
    btrfs, Python), the engines that the last backups met, and the id of the repository that is pinned on the host.
  - Reads only, opens no repository and needs no password.
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: There is nothing to show, as nothing changes.
    support: none
options:
  practice:
    description: Id of the practice that the host must belong to.
    type: str
    required: true
  host:
    description: Name of the host in the practice document.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Read what the recovery kit tells of this host
  holdfast.practice.recovery_facts:
    practice: harbour-street
    host: server1
  register: recovery_seen
"""

RETURN = r"""
facts:
  description:
    - C(os) and C(machine); C(programs), each with C(name), C(path), C(version), C(package) and C(sha256); C(engines), by job;
      and C(repository_id), which is null on a host without a repository.
  returned: success
  type: dict
  sample:
    os: Debian GNU/Linux 13 (trixie)
    machine: x86_64
    programs:
      - {name: restic, path: /usr/bin/restic, version: 0.18.0, package: restic 0.18.0-1+b2, sha256: 5f0c}
    engines: {clinical_db: postgresql 17.12}
    repository_id: 6e7f60a863b949d81f0ea452b10428fd488f105d2ce28216c7da1e335cd2be80
"""

from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import stamp
from ansible_collections.holdfast.practice.plugins.module_utils.recovery_facts import gather


def main() -> None:
    module = AnsibleModule(
        argument_spec={"practice": {"type": "str", "required": True}, "host": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    asked = module.params

    def run(argv: Sequence[str]) -> tuple[int, str]:
        try:
            code, out, err = module.run_command(list(argv), handle_exceptions=False)
        except OSError:
            return 127, ""
        return code, out + err

    try:
        stamp.check(asked["practice"], asked["host"])
        module.exit_json(changed=False, facts=gather(run))
    except (stamp.StampError, OSError) as error:
        module.fail_json(msg=f"{asked['practice']}/{asked['host']}: {error}")


if __name__ == "__main__":
    main()
