# SPDX-License-Identifier: Apache-2.0
"""Filter: add the figures of a proof that need the practice's document."""

from __future__ import annotations

DOCUMENTATION = r"""
name: proof_figures
short_description: Add the figures of a proof that need the practice's document
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - Adds how much of each loss lies in opening hours, and how long the whole site would take to come back, over the practice's
    own network and over its line.
options:
  _input:
    description: The body of a proof, as M(holdfast.practice.restore_verify) concludes it.
    type: dict
    required: true
  summary:
    description: C(practice_summary) of the inventory.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say when everything would be back
  ansible.builtin.debug:
    msg: "{{ (concluded.body | holdfast.practice.proof_figures(practice_summary)).lines }}"
"""

RETURN = r"""
_value:
  description: C(body) with the figures added, and C(lines) that say them.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from ansible_collections.holdfast.practice.plugins.plugin_utils.proof_figures import with_figures
except ImportError as error:
    MISSING: str | None = str(error.name or error)
else:
    MISSING = None


def proof_figures(body: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """Add the figures."""
    if MISSING:
        raise AnsibleFilterError(f"the Python package {MISSING} is missing on this control node; run: make setup")
    done, lines = with_figures(body, summary)
    return {"body": done, "lines": lines}


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"proof_figures": proof_figures}
