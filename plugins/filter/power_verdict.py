# SPDX-License-Identifier: Apache-2.0
"""Filter: judge a power drill."""

from __future__ import annotations

DOCUMENTATION = r"""
name: power_verdict
short_description: Judge a power drill
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Turns what C(playbooks/power_drill.yml) has seen into the body of its evidence record.
options:
  _input:
    description:
      - What was seen, with C(level), C(ups), C(primary), C(hosts), C(need), C(before), C(after), and for a real drill
        C(watch), C(back), C(on_battery_s), C(low_battery_s), for one with a signal C(marks) and C(ordered_s).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Judge the drill
  ansible.builtin.set_fact:
    power_drill_result: "{{ power_drill_seen | holdfast.practice.power_verdict }}"
"""

RETURN = r"""
_value:
  description: Verdict, reasons, timeline, figures, order and databases.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def power_verdict(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Judge; raises AnsibleFilterError when a part of what has to be seen is not given."""
    # here and not above: plugins are listed where their packages are not
    from ansible_collections.holdfast.practice.plugins.plugin_utils.power_drill import judge

    try:
        return judge(seen)
    except KeyError as error:
        raise AnsibleFilterError(f"power_verdict: {error} is missing from what the drill has seen") from error


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"power_verdict": power_verdict}
