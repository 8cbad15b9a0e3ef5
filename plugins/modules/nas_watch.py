#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: nas_watch
short_description: Own the watch on a practice's NAS that mails when a host falls silent
version_added: "0.3.0"
author: Holdfast maintainers (@holdfast)
description:
  - Puts a small program, a service and a timer on the NAS. It judges by the arrival of snapshots on the NAS's disk, not by
    what a host claims, and mails once when nothing new came for too long, and once when something came again.
  - It reads no backup and can change none.
  - Refuses a host that carries another practice's stamp.
attributes:
  check_mode:
    description: Reports what would change without touching the host.
    support: full
  diff_mode:
    description: Shows files and steps; the password is hidden.
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
  timezone:
    description: Time zone of the times in mails.
    type: str
    default: UTC
  root:
    description: Where the pool is mounted; repositories live in its folder C(repositories).
    type: path
    default: /srv/holdfast
  hosts:
    description: The hosts to listen for.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host and of its repository.
        type: str
        required: true
      silent_after_s:
        description: So many seconds after its last snapshot a host is silent.
        type: int
        required: true
  mail:
    description: How mail leaves. Left out, nobody is told and nothing of the watch is there, as with O(state=absent).
    type: dict
    suboptions:
      practice_name:
        description: Name of the practice, for the mail's subject.
        type: str
        required: true
      relay:
        description: Address of the mail server.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        default: 587
      tls:
        description: V(starttls), or V(tls) from the first byte (port 465).
        type: str
        choices: [starttls, tls]
        default: starttls
      sender:
        description: Address that the mail comes from.
        type: str
        required: true
      to:
        description: Addresses that it goes to.
        type: list
        elements: str
        required: true
      user:
        description: Login at the mail server; needs O(mail_password).
        type: str
      ca:
        description: PEM of the certificate to trust for the mail server, and no other; left out, those of the system.
        type: str
  mail_password:
    description: Password of O(mail.user).
    type: str
  state:
    description: With V(absent) program, units, settings and memory are removed.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Mail when a host falls silent
  holdfast.practice.nas_watch:
    practice: harbour-street
    host: nas1
    timezone: Australia/Sydney
    hosts:
      - {name: server1, silent_after_s: 25500}
      - {name: desk1, silent_after_s: 356700}
    mail:
      practice_name: Harbour Street Medical Centre
      relay: mail.example.org
      sender: holdfast@example.org
      to: [manager@harbour-street.example, help@it.example]
      user: holdfast@example.org
    mail_password: "{{ vault_mail_password }}"
"""

RETURN = r"""
changes:
  description: One line for every step taken, or that would be taken in check mode.
  returned: always
  type: list
  elements: str
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent_host,
    backup_nas,
    mail_send,
    nas_arrivals,
    nas_watch,
    nas_watch_host,
    notice,
    notice_host,
    stamp,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    Change,
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    plan,
)

PROGRAM = (agent_host, backup_nas, mail_send, nas_arrivals, nas_watch, notice)


def source_of(module: ModuleType) -> str:
    """Text of a module, also out of the archive in which Ansible sends it."""
    loader: Any = sys.modules[module.__name__].__loader__
    text = loader.get_source(module.__name__)
    if not text:
        raise HostStateError(f"{module.__name__}: its source did not come along")
    return str(text)


def program() -> dict[str, str]:
    """The program's files: {name: text}."""
    return {module.__name__.rsplit(".", 1)[-1] + ".py": source_of(module) for module in PROGRAM}


def failed_unit(module: AnsibleModule) -> list[Change]:
    """Forget a failure of the service when it is about to go, or systemd would list it for ever."""
    name = f"{nas_watch_host.WATCHER.unit}.service"
    code, out, err = module.run_command(["systemctl", "list-units", "--failed", "--plain", "--no-legend", name])
    if code != 0:
        raise HostStateError(f"systemctl list-units failed ({code}): {err.strip()}")
    return [Change("reset-failed", name, "it goes")] if out.strip() else []


def converge(module: AnsibleModule) -> dict[str, Any]:
    """Gather, plan, apply; returns what the module returns."""
    params = module.params
    stamp.check(params["practice"], params["host"])
    present = params["state"] == "present" and params["mail"] is not None
    if present:
        want = nas_watch_host.wanted(
            params["practice"],
            params["host"],
            params["timezone"],
            params["root"].rstrip("/"),
            params["hosts"],
            params["mail"],
            params["mail_password"],
            program(),
        )
    else:
        want = nas_watch_host.unwanted(program())
    folder = Path(nas_watch_host.LIB) / nas_watch_host.PACKAGE
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    want = Wanted(want.dirs, [*nas_watch_host.stale(program(), found), *want.files], want.units)
    state = HostState(module.run_command)
    changes = plan(state.gather(want), want)
    if not present:
        changes += failed_unit(module)
    if not module.check_mode:
        state.apply(changes)
    return {"changed": bool(changes), "diff": diff_of(changes), "changes": describe(changes)}


def main() -> None:
    """Entry of the module."""
    mail = {
        "practice_name": {"type": "str", "required": True},
        "relay": {"type": "str", "required": True},
        "port": {"type": "int", "default": 587},
        "tls": {"type": "str", "choices": ["starttls", "tls"], "default": "starttls"},
        "sender": {"type": "str", "required": True},
        "to": {"type": "list", "elements": "str", "required": True},
        "user": {"type": "str"},
        "ca": {"type": "str"},
    }
    host = {"name": {"type": "str", "required": True}, "silent_after_s": {"type": "int", "required": True}}
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "timezone": {"type": "str", "default": "UTC"},
            "root": {"type": "path", "default": "/srv/holdfast"},
            "hosts": {"type": "list", "elements": "dict", "default": [], "options": host},
            "mail": {"type": "dict", "options": mail},
            "mail_password": {"type": "str", "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    try:
        result = converge(module)
    except (HostStateError, notice_host.NoticeError, stamp.StampError) as error:
        module.fail_json(msg=f"practice {module.params['practice']}, host {module.params['host']}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
