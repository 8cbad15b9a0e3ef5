# SPDX-License-Identifier: Apache-2.0
"""Filter: who takes part in a power drill."""

from __future__ import annotations

DOCUMENTATION = r"""
name: power_scope
short_description: Find who takes part in a power drill
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Says which hosts stop when a UPS runs out, and which of those on it another UPS keeps running.
options:
  _input:
    description:
      - For each host C(types) and C(values), the type and the power value of each UPS that it watches, and C(min_supplies).
    type: dict
    required: true
  ups:
    description: Name of the UPS.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Find who takes part
  ansible.builtin.set_fact:
    power_drill_scope: "{{ power_drill_wiring | holdfast.practice.power_scope('ups1') }}"
"""

RETURN = r"""
_value:
  description: C(primary), and the names of the hosts in C(going) and C(stays).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def power_scope(hosts: Mapping[str, Mapping[str, Any]], ups: str) -> dict[str, Any]:
    """Find who takes part; raises AnsibleFilterError for a UPS that nobody has, or that has two primaries."""
    # here and not above: plugins are listed where their packages are not
    from ansible_collections.holdfast.practice.plugins.plugin_utils.power_drill import scope

    wired = {
        name: {
            "min_supplies": int(host["min_supplies"]),
            "monitors": [
                {"ups": each, "type": kind, "power_value": int(host["values"][each])}
                for each, kind in host["types"].items()
            ],
        }
        for name, host in hosts.items()
    }
    try:
        return scope(ups, wired)
    except ValueError as error:
        raise AnsibleFilterError(f"power_scope: {error}") from error


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"power_scope": power_scope}
