#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a network for nspawn machines."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_network
short_description: A network namespace with a bridge for nspawn machines
version_added: "0.1.0"
description:
  - Makes a named network namespace (/run/netns/NAME) with a bridge in it. Machines on the bridge reach each other and
    whoever enters the namespace, and have no other way out.
  - When the module itself runs inside the namespace, O(state=absent) removes the bridge and keeps the namespace,
    because whoever still sits in it could not come back to it otherwise.
author:
  - Holdfast maintainers (@holdfast)
options:
  name:
    description: Name of the namespace.
    type: str
    required: true
  bridge:
    description: Name of the bridge inside.
    type: str
    default: br0
  address:
    description: Address of the bridge, with its prefix. Required when O(state=present).
    type: str
  state:
    description: Whether the network should be there.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says what would be done.
    support: full
  diff_mode:
    description: A network has no diff beyond the returned steps.
    support: none
notes:
  - Needs root and iproute2. Enter it with C(nsenter --net=/run/netns/NAME), not with C(ip netns exec), which hides the
    control groups that systemd-nspawn needs.
"""

EXAMPLES = r"""
- name: Make a network for test machines
  holdfast.practice.nspawn_network:
    name: lab
    address: 198.18.0.1/24
"""

RETURN = r"""
namespace:
  description: Path of the namespace.
  returned: always
  type: str
  sample: /run/netns/lab
steps:
  description: What was done, or would be.
  returned: always
  type: list
  elements: str
  sample: [namespace, bridge, address]
inside:
  description: Whether the module ran inside the namespace.
  returned: always
  type: bool
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import NspawnError, plan_network
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn_host import RunCommand, run_checked


class Network:
    """One namespace with its bridge."""

    def __init__(self, run_command: RunCommand, name: str, bridge: str, address: str | None) -> None:
        self._run = run_command
        self.name, self.bridge, self.address = name, bridge, address
        self.path = Path("/run/netns") / name
        self._inside = ["nsenter", f"--net={self.path}", "ip"]

    def is_namespace(self) -> bool:
        """Say whether the name stands for a namespace: after a cut-short removal it is an empty file."""
        return self.path.exists() and self.path.stat().st_dev != self.path.parent.stat().st_dev

    def gather(self) -> tuple[set[str], bool]:
        """Return (the set of parts that are there, whether we are inside)."""
        if not self.is_namespace():
            return ({"stale"} if self.path.exists() else set()), False
        found = {"namespace"}
        own, its = Path("/proc/self/ns/net").stat(), self.path.stat()
        rc, out, _err = self._run([*self._inside, "-json", "address", "show"])
        if rc != 0:
            raise NspawnError(f"{self.path} cannot be entered; remove it with `ip netns delete {self.name}`")
        for link in json.loads(out or "[]"):
            addresses = [
                "{local}/{prefixlen}".format(**entry) for entry in link.get("addr_info", []) if "local" in entry
            ]
            if link.get("ifname") == "lo" and "UP" in link.get("flags", []):
                found.add("loopback")
            if link.get("ifname") == self.bridge:
                found.add("bridge")
                if "UP" in link.get("flags", []):
                    found.add("up")
                if self.address in addresses:
                    found.add("address")
        return found, (own.st_dev, own.st_ino) == (its.st_dev, its.st_ino)

    def apply(self, steps: list[str]) -> None:
        """Carry out the steps of a plan."""
        inside, bridge = self._inside, self.bridge
        commands = {
            "remove stale": ["rm", "-f", str(self.path)],
            "namespace": ["ip", "netns", "add", self.name],
            "loopback": [*inside, "link", "set", "lo", "up"],
            "bridge": [*inside, "link", "add", bridge, "type", "bridge"],
            "address": [*inside, "address", "replace", str(self.address), "dev", bridge],
            "up": [*inside, "link", "set", bridge, "up"],
            "remove bridge": [*inside, "link", "delete", bridge],
            "remove namespace": ["ip", "netns", "delete", self.name],
        }
        for step in steps:
            run_checked(self._run, commands[step], f"network {self.name}: {step}")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "bridge": {"type": "str", "default": "br0"},
            "address": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["address"])],
        supports_check_mode=True,
    )
    params = module.params
    network = Network(module.run_command, params["name"], params["bridge"], params["address"])
    try:
        found, inside = network.gather()
        steps = plan_network(found, inside, params["state"])
        if not module.check_mode:
            network.apply(steps)
    except NspawnError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(steps), namespace=str(network.path), steps=steps, inside=inside)


if __name__ == "__main__":
    main()
