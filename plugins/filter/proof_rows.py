# SPDX-License-Identifier: Apache-2.0
"""Filter: make the rows of a proof, one for each run of each item."""

from __future__ import annotations

DOCUMENTATION = r"""
name: proof_rows
short_description: Make the rows of a proof, one for each run of each item
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - Without more, a proof takes the newest run of each item. A daily proof also takes older ones in turn, so that in time all
    that is kept is proven. A person may ask for another run.
  - Which snapshots those are is found out when they are restored, see O(holdfast.practice.restore_verify#module:items).
options:
  _input:
    description: The items, each with its C(host) and C(item), and C(copy) where it is not C(onsite).
    type: list
    elements: dict
    required: true
  which:
    description: C(newest), C(oldest), C(oldest-CLASS), C(rotation) or the id of a snapshot. Empty for the usual.
    type: str
    default: ""
  older:
    description: How many older runs a daily proof takes of an item, by its name. Empty for no daily proof.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Say what a daily proof takes
  ansible.builtin.debug:
    msg: "{{ restore_verify_items | holdfast.practice.proof_rows('', restore_verify_older) | map(attribute='id') }}"
"""

RETURN = r"""
_value:
  description: The items with C(which) run to take, and an C(id) of their own.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from ansible_collections.holdfast.practice.plugins.module_utils.verify_choice import NEWEST, WHICH
    from ansible_collections.holdfast.practice.plugins.plugin_utils.proofs import rows, rows_due
except ImportError as error:
    MISSING: str | None = str(error.name or error)
else:
    MISSING = None


def proof_rows(
    items: Sequence[Mapping[str, Any]], which: str = "", older: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """Make the rows; raises AnsibleFilterError for a run that cannot be named so."""
    if MISSING:
        raise AnsibleFilterError(f"the Python package {MISSING} is missing on this control node; run: make setup")
    asked = str(which)
    if asked and not WHICH.fullmatch(asked):
        expected = "newest, oldest, oldest-CLASS, rotation, or at least 8 characters of a snapshot's id"
        raise AnsibleFilterError(f"proof_rows: got {asked!r}; expected {expected}")
    return rows_due(items, older) if older and not asked else rows(items, [asked or NEWEST])


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"proof_rows": proof_rows}
