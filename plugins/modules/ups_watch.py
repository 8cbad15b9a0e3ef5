#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

DOCUMENTATION = r"""
module: ups_watch
short_description: Own the watch over a practice's UPSes
version_added: "0.4.0"
author: Holdfast maintainers (@holdfast)
description:
  - Puts the program C(holdfast-ups) and its service on a host. It asks upsd every few seconds, mails once when something is
    wrong with a UPS or with a machine that hangs on it, and once when that is over.
  - It tests batteries on a schedule, outside opening hours and on mains only.
  - It never stops a machine and has no right to; that is upsmon's part (M(holdfast.practice.power)).
  - Refuses a host that carries another practice's stamp.
attributes:
  check_mode:
    description: Reports what would change without touching the host.
    support: full
  diff_mode:
    description: Shows files and steps; passwords are hidden.
    support: full
options:
  practice:
    description: Id of the practice that the host belongs to.
    type: str
    required: true
  host:
    description: Name of the host in the practice document.
    type: str
    required: true
  timezone:
    description: Time zone of O(hours), of dates, and of the times in mails.
    type: str
    default: UTC
  hours:
    description:
      - 'Opening hours, such as C({mon-fri: "08:00-18:30"}). No battery is tested in them, nor half an hour before.'
    type: dict
    default: {}
  upses:
    description: The UPSes to watch.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the UPS on its primary.
        type: str
        required: true
      address:
        description: Where upsd listens, seen from this host.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        default: 3493
      primary:
        description: Name of the host that the UPS's data cable goes to.
        type: str
        required: true
      deputy:
        description: Whether this host only tells that nothing of the primary answers any more.
        type: bool
        default: false
      feeds:
        description: The machines that hang on it, as name and address. One that is not attached to upsd is told.
        type: dict
        required: true
      may_be_off:
        description: Machines of O(upses[].feeds) that may be off. They are told only when they answer and are not attached.
        type: list
        elements: str
        default: []
      runtime_s:
        description: For how long the battery carries everything when it is full, in seconds, by the practice document.
        type: int
      low_s:
        description: Runtime at which the battery is called low, in seconds, for a UPS that does not say itself.
        type: int
      need:
        description: What the machines need to stop. Compared with what the battery still has when it is called low.
        type: dict
        suboptions:
          slowest:
            description: The slowest secondary.
            type: dict
            suboptions:
              host:
                description: Its name.
                type: str
                required: true
              seconds:
                description: For how long it stops.
                type: float
                required: true
              measured:
                description: Whether that was measured; else it is by the practice document.
                type: bool
                default: false
          hostsync_s:
            description: For how long the primary waits for the others.
            type: float
          primary_s:
            description: For how long the primary stops.
            type: float
          finaldelay_s:
            description: For how long the primary waits before it stops.
            type: float
          late_hook_s:
            description: Until the UPS was told to cut the power.
            type: float
          total_s:
            description: All of it.
            type: float
            required: true
      self_test_every_s:
        description: How often the battery is to be tested, in seconds. Left out, never.
        type: int
      battery:
        description: Age of the battery.
        type: dict
        suboptions:
          installed:
            description: Day on which it was put in, such as V(2026-03-01).
            type: str
          replace_by:
            description: Day by which it is to be replaced. Told 30 days ahead, and when it has come.
            type: str
            required: true
  every_s:
    description: Seconds between two looks.
    type: int
    default: 5
  settle_s:
    description: Something has to be well for so many seconds before its end is told, so that mains that flap are told once.
    type: int
    default: 120
  absent_s:
    description: A machine may be away for so many seconds before it is told.
    type: int
    default: 180
  test_user:
    description: User of upsd who may begin a battery's test and nothing else.
    type: str
    default: selftest
  test_password:
    description: That user's password. Needed with O(upses[].self_test_every_s).
    type: str
  mail:
    description: How mail leaves. Left out, the journal alone is told.
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
    description: With V(absent), or without any UPS, program, service, settings and memory are removed.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: holdfast.practice.power
"""

EXAMPLES = r"""
- name: Watch the UPS on this host's cable
  holdfast.practice.ups_watch:
    practice: harbour-street
    host: nas1
    timezone: Australia/Sydney
    hours: {mon-fri: "08:00-18:30"}
    upses:
      - name: ups1
        address: 127.0.0.1
        primary: nas1
        feeds: {nas1: 198.18.0.11, server1: 198.18.0.12}
        low_s: 300
        need: {slowest: {host: server1, seconds: 60}, total_s: 90}
        self_test_every_s: 2592000
        battery: {installed: "2026-03-01", replace_by: "2030-03-01"}
    test_password: "{{ vault_nut_passwords['selftest'] }}"
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
    notice,
    notice_host,
    nut,
    stamp,
    ups_test,
    ups_watch,
    ups_watch_host,
    ups_watch_run,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import (
    HostState,
    HostStateError,
    Wanted,
    describe,
    diff_of,
    plan,
)

PROGRAM = (agent_host, backup_nas, mail_send, notice, nut, ups_test, ups_watch, ups_watch_run)
TASK = ("practice", "host", "timezone", "hours", "every_s", "settle_s", "absent_s", "test_user", "upses")


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


def converge(module: AnsibleModule) -> dict[str, Any]:
    """Gather, plan, apply; returns what the module returns."""
    params = module.params
    stamp.check(params["practice"], params["host"])
    if params["state"] == "present" and params["upses"]:
        task = {key: params[key] for key in TASK}
        want = ups_watch_host.wanted(task, params["mail"], params["mail_password"], params["test_password"], program())
    else:
        want = ups_watch_host.unwanted(program())
    folder = Path(ups_watch_host.LIB) / ups_watch_host.PACKAGE
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    want = Wanted(want.dirs, [*ups_watch_host.stale(program(), found), *want.files], want.units)
    state = HostState(module.run_command)
    changes = plan(state.gather(want), want)
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
    slowest = {
        "host": {"type": "str", "required": True},
        "seconds": {"type": "float", "required": True},
        "measured": {"type": "bool", "default": False},
    }
    need = {
        "slowest": {"type": "dict", "options": slowest},
        "hostsync_s": {"type": "float"},
        "primary_s": {"type": "float"},
        "finaldelay_s": {"type": "float"},
        "late_hook_s": {"type": "float"},
        "total_s": {"type": "float", "required": True},
    }
    battery = {"installed": {"type": "str"}, "replace_by": {"type": "str", "required": True}}
    ups = {
        "name": {"type": "str", "required": True},
        "address": {"type": "str", "required": True},
        "port": {"type": "int", "default": 3493},
        "primary": {"type": "str", "required": True},
        "deputy": {"type": "bool", "default": False},
        "feeds": {"type": "dict", "required": True},
        "may_be_off": {"type": "list", "elements": "str", "default": []},
        "runtime_s": {"type": "int"},
        "low_s": {"type": "int"},
        "need": {"type": "dict", "options": need},
        "self_test_every_s": {"type": "int"},
        "battery": {"type": "dict", "options": battery},
    }
    module = AnsibleModule(
        argument_spec={
            "practice": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "timezone": {"type": "str", "default": "UTC"},
            "hours": {"type": "dict", "default": {}},
            "upses": {"type": "list", "elements": "dict", "default": [], "options": ups},
            "every_s": {"type": "int", "default": 5},
            "settle_s": {"type": "int", "default": 120},
            "absent_s": {"type": "int", "default": 180},
            "test_user": {"type": "str", "default": "selftest"},
            "test_password": {"type": "str", "no_log": True},
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
