# SPDX-License-Identifier: Apache-2.0
"""Filter: choose the items whose restore is to be proven on a day."""

from __future__ import annotations

DOCUMENTATION = r"""
name: proofs_due
short_description: Choose the items whose restore is to be proven on a day
version_added: "0.2.0"
author: Holdfast maintainers (@holdfast)
description:
  - Each item has a turn (C(daily), a weekday, or a day of the month) that depends on names alone. So the rotation is the same
    wherever it is worked out.
  - A day that is nobody's turn takes one item after the other, so that no day passes without a proof.
options:
  _input:
    description: The items, each with its name as C(item).
    type: list
    elements: dict
    required: true
  turns:
    description: The turn of each item, by name.
    type: dict
    required: true
  timezone:
    description: The practice's time zone, whose day it is.
    type: str
    required: true
  day:
    description: Another day than today, as C(YYYY-MM-DD).
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Say what is due
  ansible.builtin.debug:
    msg: "{{ restore_verify_items | holdfast.practice.proofs_due(restore_verify_turns, practice_timezone) }}"
"""

RETURN = r"""
_value:
  description: The items that are due, at least one.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ansible.errors import AnsibleFilterError

try:
    from ansible_collections.holdfast.practice.plugins.plugin_utils.proofs import due
except ImportError as error:
    MISSING: str | None = str(error.name or error)
else:
    MISSING = None


def proofs_due(
    items: Sequence[Mapping[str, Any]], turns: Mapping[str, str], timezone: str, day: str = ""
) -> list[Mapping[str, Any]]:
    """Choose; raises AnsibleFilterError for a day that no calendar has."""
    if MISSING:
        raise AnsibleFilterError(f"the Python package {MISSING} is missing on this control node; run: make setup")
    try:
        chosen = date.fromisoformat(day) if day else datetime.now(ZoneInfo(timezone)).date()
    except ValueError:
        raise AnsibleFilterError(f"proofs_due: got {day!r}; expected a date as YYYY-MM-DD") from None
    return due(items, turns, chosen) if items else []


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"proofs_due": proofs_due}
