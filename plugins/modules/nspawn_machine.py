#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a throw-away machine under systemd-nspawn."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_machine
short_description: Create, start, stop, cut off and wipe a machine under systemd-nspawn
version_added: "0.1.0"
description:
  - Keeps one machine in a folder of its own, its disk being an overlay over read-only image layers.
  - Works without systemd as the carrier's first process. A detached supervisor starts the machine again after a reboot
    and writes down in events.jsonl when it was started and when it went off.
  - Every run first looks at what is really there (processes, mounts, loop devices, files), so that a run that was cut
    short is put right by the next one.
author:
  - Holdfast maintainers (@holdfast)
options:
  name:
    description: Host name of the machine.
    type: str
    required: true
  folder:
    description: The machine's folder. All of it belongs to the machine and is removed with it.
    type: path
    required: true
  state:
    description:
      - V(created) lays out and mounts the disk, and does not start anything.
      - V(started) also boots the machine, and returns once it answers.
      - V(stopped) powers it off in good order.
      - V(killed) cuts its power.
      - V(absent) cuts its power and removes all of it. Safe when nothing is there.
    type: str
    choices: [created, started, stopped, killed, absent]
    default: started
  layers:
    description:
      - Image folders, topmost first, as returned by M(holdfast.practice.nspawn_image). Needed to create a machine.
    type: list
    elements: path
    default: []
  network:
    description: The machine's network. Without it the machine has none at all, only its own loopback.
    type: dict
    suboptions:
      namespace:
        description: Path of the network namespace.
        type: path
        required: true
      bridge:
        description: Bridge inside the namespace.
        type: str
        default: br0
      address:
        description: Address with its prefix.
        type: str
        required: true
  disks:
    description: Further disks, kept over reboots.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name below /dev/disk/by-id in the machine, or an absolute path.
        type: str
        required: true
      size:
        description: Size, for example V(2GiB). The file is sparse. The size of a disk that is there is left alone.
        type: str
        default: 2GiB
  binds:
    description: Folders of the carrier to be seen in the machine.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Path on the carrier.
        type: path
        required: true
      target:
        description: Path in the machine.
        type: path
        required: true
      writable:
        description: Whether the machine may write there.
        type: bool
        default: false
  shelf:
    description: Folder of a package shelf. It becomes the machine's only package source, at /srv/shelf.
    type: path
  hosts:
    description: Names and addresses for the machine's /etc/hosts.
    type: dict
    default: {}
  authorized_key:
    description: Public ssh key that may log in as root.
    type: str
    default: ""
  timeout:
    description: Seconds for starting or stopping.
    type: float
    default: 60
attributes:
  check_mode:
    description: Says which steps would be taken.
    support: full
  diff_mode:
    description: A machine has no diff beyond the returned steps.
    support: none
notes:
  - Needs root, systemd-nspawn, nsenter, losetup and ssh-keygen.
  - A machine's clock is the carrier's.
"""

EXAMPLES = r"""
- name: Start a test machine
  holdfast.practice.nspawn_machine:
    name: nas1
    folder: /var/lib/holdfast-lab/test/machines/nas1
    layers: "{{ base.layers }}"
    network: {namespace: /run/netns/test, address: 198.18.0.11/24}
    disks: [{name: lab-nas1-a}, {name: lab-nas1-b}]

- name: Lay out a disk for a machine without a network
  holdfast.practice.nspawn_machine:
    name: proof
    folder: /var/lib/holdfast/restore/clinical_db
    layers: "{{ restore.layers }}"
    state: created

- name: Leave nothing of it
  holdfast.practice.nspawn_machine:
    name: proof
    folder: /var/lib/holdfast/restore/clinical_db
    state: absent
"""

RETURN = r"""
state:
  description:
    - What is there now (in check mode, before), one of V(absent), V(created), V(started), or V(partial) when a run was
      cut short. A machine that was stopped or killed is V(created).
  returned: always
  type: str
  sample: started
steps:
  description: What was done, or would be.
  returned: always
  type: list
  elements: str
  sample: [lay_out, mount, furnish, start]
leader:
  description:
    - Process id of the machine's first process, for C(nsenter --target LEADER --all COMMAND). Null when it is off.
  returned: always
  type: int
root:
  description: The machine's disk, mounted unless the machine is absent.
  returned: always
  type: str
address:
  description: Address without its prefix; null without a network.
  returned: always
  type: str
known_hosts:
  description: Line that pins the machine's ssh key; null without a network.
  returned: always
  type: str
events:
  description: File with one JSON record for each start and end.
  returned: always
  type: str
console:
  description: File with what the machine said since it was last started.
  returned: always
  type: str
seconds:
  description: How long it took.
  returned: always
  type: float
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import (
    Bind,
    Disk,
    Machine,
    NspawnError,
    check,
    parse_size,
)
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn_host import MachineHost, reach


def wanted(params: dict[str, Any]) -> Machine:
    """Turn the module's options into the machine they describe."""
    network = params["network"] or {}
    machine = Machine(
        name=params["name"],
        folder=params["folder"].rstrip("/"),
        layers=tuple(layer.rstrip("/") for layer in params["layers"]),
        namespace=network.get("namespace"),
        bridge=network.get("bridge"),
        address=network.get("address"),
        disks=tuple(Disk(disk["name"], parse_size(disk["size"])) for disk in params["disks"]),
        binds=tuple(Bind(bind["source"], bind["target"], bind["writable"]) for bind in params["binds"]),
        shelf=params["shelf"],
        hosts=tuple(sorted((str(name), str(address)) for name, address in params["hosts"].items())),
        authorized_key=params["authorized_key"].strip(),
    )
    check(machine)
    return machine


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "folder": {"type": "path", "required": True},
            "state": {
                "type": "str",
                "choices": ["created", "started", "stopped", "killed", "absent"],
                "default": "started",
            },
            "layers": {"type": "list", "elements": "path", "default": []},
            "network": {
                "type": "dict",
                "options": {
                    "namespace": {"type": "path", "required": True},
                    "bridge": {"type": "str", "default": "br0"},
                    "address": {"type": "str", "required": True},
                },
            },
            "disks": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "size": {"type": "str", "default": "2GiB"},
                },
            },
            "binds": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "source": {"type": "path", "required": True},
                    "target": {"type": "path", "required": True},
                    "writable": {"type": "bool", "default": False},
                },
            },
            "shelf": {"type": "path"},
            "hosts": {"type": "dict", "default": {}},
            # a public key
            "authorized_key": {"type": "str", "default": "", "no_log": False},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()
    try:
        want = wanted(params)
        if params["state"] in ("created", "started") and not want.layers:
            raise NspawnError("layers: a machine is made of at least one image folder (nspawn_image returns them)")
        machine = MachineHost(module.run_command, want)
        steps, have = reach(machine, params["state"], module.check_mode, params["timeout"])
    except (NspawnError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(steps),
        state=have.state,
        steps=steps,
        leader=have.leader,
        root=want.root,
        address=want.address.partition("/")[0] if want.address else None,
        known_hosts=machine.known_hosts(),
        events=want.folder + "/events.jsonl",
        console=want.folder + "/console.log",
        seconds=round(time.monotonic() - started, 3),
    )


if __name__ == "__main__":
    main()
