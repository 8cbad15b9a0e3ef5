#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: retired_host
short_description: See what a machine still has of Holdfast, and set it free
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - With O(state=present) looks only. It asks the NAS, with the credentials that are on the machine, whether its account is
    closed, and tells whether agent and UPS configuration of ours are there.
  - With O(state=absent) removes the practice's stamp, so that the machine can join another practice.
  - Refuses a machine that carries another stamp, and to set a machine free that still holds a credential of ours.
attributes:
  check_mode:
    description: Says what would change and changes nothing.
    support: full
  diff_mode:
    description: Shows the files that go.
    support: full
options:
  practice:
    description: Id of the practice that the machine belongs to.
    type: str
    required: true
  host:
    description: Name of the machine in the practice document.
    type: str
    required: true
  state:
    description: V(present) looks, V(absent) removes the stamp.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: See whether the old credentials still open anything
  holdfast.practice.retired_host:
    practice: harbour-street
    host: desk1
  register: before

- name: Let the machine join another practice
  holdfast.practice.retired_host:
    practice: harbour-street
    host: desk1
    state: absent
"""

RETURN = r"""
stamped:
  description: Whether the machine carries (or, with O(state=absent), carried) the practice's stamp.
  returned: success
  type: bool
login:
  description:
    - What became of a login at the NAS with the machine's own credentials. V(refused), V(open) when the NAS still lets it
      in, V(not_asked) when the machine holds none, else why it could not be asked, such as V(nas_unreachable).
  returned: success
  type: str
  sample: refused
agent:
  description: Whether the backup agent is there.
  returned: success
  type: bool
power:
  description: Whether a UPS configuration of ours is there. One that somebody else wrote does not count.
  returned: success
  type: bool
left:
  description: Folders and files of ours that are still there, the stamp's own folder left out.
  returned: success
  type: list
  elements: str
changes:
  description: One line for every step taken, or that would be taken in check mode.
  returned: success
  type: list
  elements: str
"""

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import (
    backup_host,
    backup_nas,
    nas_repository,
    nas_watch_host,
    power,
    power_host,
    stamp,
    ups_watch_host,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Dir,
    File,
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    plan,
)

REFUSED = "refused"
OPEN = "open"
NOT_ASKED = "not_asked"
# what must not stay on a machine that goes, by the end of its path
SECRET = ("/credentials", nas_repository.CONFIG, nas_watch_host.ETC, ups_watch_host.ETC)


class StillThereError(Exception):
    """The machine holds something that has to go first."""


def credentials_of(etc: Path) -> tuple[str, str, str, str] | None:
    """Give (address, pinned certificate's file, account, password) of the repository; None when the machine has none."""
    password, certificate = etc / "credentials/rest-password", etc / "nas.pem"
    jobs = sorted((etc / "jobs").glob("*.json")) if (etc / "jobs").is_dir() else []
    if not jobs or not password.is_file() or not certificate.is_file():
        return None
    try:
        repository = json.loads(jobs[0].read_text(encoding="utf-8"))["repository"]
        return (
            str(repository["url"]),
            str(certificate),
            str(repository["username"]),
            password.read_text("utf-8").strip(),
        )
    except (ValueError, KeyError, TypeError):
        return None


def login(etc: Path) -> str:
    """Try the machine's own credentials at the NAS."""
    found = credentials_of(etc)
    if found is None:
        return NOT_ASKED
    try:
        backup_nas.knock(*found)
    except backup_nas.NasError as error:
        return REFUSED if error.code == "rest_login_refused" else error.code
    except ValueError:
        return NOT_ASKED
    return OPEN


def ours(path: Path) -> bool:
    """Say whether a configuration file was written by us."""
    try:
        return path.read_bytes().startswith(power.HEADER.encode("ascii"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def has_power(folder: Path) -> bool:
    """Say whether NUT is configured by us here."""
    return any(ours(folder / name) for name in (*power.SHARED_FILES, *power.PRIMARY_FILES))


def left_over() -> list[str]:
    """Name what is of ours beside the stamp."""
    etc = Path(backup_host.ETC)
    inside = [f"{etc}/{p.name}" for p in etc.iterdir() if str(p) != stamp.PATH] if etc.is_dir() else []
    others = [backup_host.LIB, backup_host.STATE, backup_host.CACHE, nas_repository.CONFIG]
    others += [ups_watch_host.ETC, ups_watch_host.LIB, ups_watch_host.STATE]
    others += [nas_watch_host.ETC, nas_watch_host.LIB, nas_watch_host.STATE]
    others += [power_host.LIB, power_host.STATE]
    return sorted([*inside, *(path for path in others if Path(path).exists())])


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, and take the stamp off when asked to; returns the module's result."""
    params = module.params
    stamp.check(params["practice"], params["host"])
    facts: dict[str, Any] = {
        "stamped": Path(stamp.PATH).exists(),
        "agent": Path(backup_host.LIB, "agent").exists(),
        "power": has_power(Path(power.FOLDER)),
        "left": left_over(),
    }
    if params["state"] == "present":
        return {"changed": False, "changes": [], "login": login(Path(backup_host.ETC)), **facts}
    want = Wanted(dirs=[Dir(stamp.FOLDER, absent=True)], files=[File(stamp.PATH, None)])
    state = HostState(module.run_command)
    changes = plan(state.gather(want), want)
    # in check mode nothing was removed before this
    if not module.check_mode:
        secret = [path for path in facts["left"] if path.endswith(SECRET)]
        if secret or facts["power"]:
            what = ", ".join([*secret, *([f"{power.FOLDER}/upsmon.conf"] if facts["power"] else [])])
            raise StillThereError(f"the machine still holds {what}; remove agent, power and services first")
        state.apply(changes)
    return {
        "changed": bool(changes),
        "changes": describe(changes),
        "diff": diff_of(changes),
        "login": NOT_ASKED,
        **facts,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (HostStateError, StillThereError, stamp.StampError) as error:
        module.fail_json(msg=f"{module.params['practice']}/{module.params['host']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
