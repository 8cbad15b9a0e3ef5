# SPDX-License-Identifier: Apache-2.0
"""Filter: how the power of a practice is, from what its machines said."""

from __future__ import annotations

DOCUMENTATION = r"""
name: power_status
short_description: Say how the power of a practice is
version_added: "0.4.0"
author: Holdfast maintainers (@holdfast)
description:
  - Puts together what the watches said (C(holdfast-ups --json)), how the machines stopped last, and the drills in the evidence.
  - What could not be asked is never well.
positional: watches, stops, practice
options:
  _input:
    description:
      - 'What feeds what, as C({UPS: {primary, feeds}}), feeds being names of machines.'
    type: dict
    required: true
  watches:
    description: The result of C(holdfast-ups --json) on each watching host, by name.
    type: dict
    required: true
  stops:
    description: The result of reading C(stops.json) on each machine, by name.
    type: dict
    required: true
  practice:
    description:
      - Of a practice with evidence, C(id), C(timezone), C(evidence) (its folder) and C(signers). Left out for a plain inventory,
        whose drills are not known.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Put together what was said
  ansible.builtin.set_fact:
    power_status: "{{ wiring | holdfast.practice.power_status(watches, stops) }}"
"""

RETURN = r"""
_value:
  description: C(lines) for people, C(verdict) (PASS, FAIL or INCONCLUSIVE), and C(said), which the report shows.
  type: dict
"""

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo


def power_status(
    wiring: Mapping[str, Any],
    watches: Mapping[str, Any],
    stops: Mapping[str, Any],
    practice: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Say how it is."""
    # here and not above: plugins are listed where their packages are not
    from ansible_collections.holdfast.practice.plugins.plugin_utils import power_status as status
    from ansible_collections.holdfast.practice.plugins.plugin_utils.report import power_drill_row
    from ansible_collections.holdfast.practice.plugins.plugin_utils.report_sources import read_ledger

    now = dt.datetime.now(dt.UTC)
    said = status.gather(wiring, watches, stops, now)
    drills = {}
    if practice:
        records, _ledger = read_ledger(Path(practice["evidence"]), Path(practice["signers"]), str(practice["id"]))
        zone = ZoneInfo(str(practice["timezone"]))
        drills = {name: power_drill_row(ups, name, records, now, zone) for name, ups in wiring.items()}
    lines, verdict = status.lines(wiring, said, drills)
    return {"lines": lines, "verdict": verdict, "said": said}


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"power_status": power_status}
