# SPDX-License-Identifier: Apache-2.0
"""Filter: conclude the retirement of a host or a practice."""

from __future__ import annotations

DOCUMENTATION = r"""
name: retirement
short_description: Conclude the retirement of a host or a practice
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - Turns what C(playbooks/retire_host.yml) or C(playbooks/retire_practice.yml) did and saw into the body of its evidence
    record and the lines that a person reads.
options:
  _input:
    description:
      - For a host C(host), C(practice), C(retired), C(why_not), C(seen), C(nas), C(primaries), C(about) and C(check).
      - For a whole practice C(practice), C(name), C(folder), C(machines), C(nas), C(about) and C(check).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Conclude
  ansible.builtin.set_fact:
    retire_outcome: "{{ retire_facts | holdfast.practice.retirement }}"
"""

RETURN = r"""
_value:
  description:
    - The record's C(body), whether there is anything new to C(record), the C(lines) for people, and whether everything
      that answered is C(clean).
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.plugin_utils.retirement import outcome


def retirement(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conclude; raises AnsibleFilterError when a part of what has to be known is not given."""
    try:
        return outcome(facts)
    except KeyError as error:
        raise AnsibleFilterError(f"retirement: {error} is missing from what the play has seen") from error


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"retirement": retirement}
