# SPDX-License-Identifier: Apache-2.0
"""Filter: how long a practice is open within the next seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
name: opening_seconds
short_description: Say how long a practice is open within the next seconds
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Counts the seconds of opening hours from now on. 0 for a practice that says no hours.
options:
  _input:
    description: Opening hours as C(practice_summary.hours) has them, windows by days.
    type: dict
    required: true
  zone:
    description: The practice's time zone.
    type: str
    required: true
  within:
    description: How many seconds to look ahead.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Leave a practice alone that is open
  ansible.builtin.assert:
    that: practice_summary.hours | holdfast.practice.opening_seconds(practice_timezone, 1800) == 0
"""

RETURN = r"""
_value:
  description: Seconds of opening hours.
  type: float
"""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any


def opening_seconds(hours: Mapping[str, str], zone: str, within: int) -> float:
    """Count from now on."""
    # here and not above: plugins are listed where their packages are not
    from ansible_collections.holdfast.practice.plugins.plugin_utils.opening import open_seconds

    now = dt.datetime.now(dt.UTC)
    return open_seconds(dict(hours), zone, now, now + dt.timedelta(seconds=within)) or 0.0


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"opening_seconds": opening_seconds}
