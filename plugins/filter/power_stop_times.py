# SPDX-License-Identifier: Apache-2.0
"""Filter: keep how long hosts took to stop."""

from __future__ import annotations

DOCUMENTATION = r"""
name: power_stop_times
short_description: Add stops that were measured to those that are kept
version_added: "0.1.0"
author: Holdfast maintainers (@holdfast)
description:
  - Gives the new content of C(results/stop_times.json) of a practice's folder. The larger of document and measurement counts
    when the budget of a UPS is reckoned.
options:
  _input:
    description: What each host wrote down of its stops, as M(holdfast.practice.power_facts) returns it.
    type: dict
    required: true
  practice:
    description: Id of the practice.
    type: str
    required: true
  folder:
    description: The practice's folder.
    type: path
    required: true
  seen:
    description: The stops of a drill, C(seconds) and C(by) of each host.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Keep the stop times
  ansible.builtin.copy:
    content: "{{ found | holdfast.practice.power_stop_times(practice_id, practice_folder, drill.stops) | to_nice_json }}"
    dest: "{{ practice_results_dir }}/stop_times.json"
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The whole new content of the file.
  type: dict
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError


def power_stop_times(
    recorded: Mapping[str, Iterable[Mapping[str, Any]]],
    practice: str,
    folder: str,
    seen: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Merge; raises AnsibleFilterError when what is kept cannot be read."""
    # here and not above: plugins are listed where their packages are not
    from ansible_collections.holdfast.practice.plugins.plugin_utils import stop_times

    by_drill = {host: float(stop["seconds"]) for host, stop in (seen or {}).items() if stop["by"] == "drill"}
    try:
        before = stop_times.stored(Path(folder), practice)
    except stop_times.InvalidStopTimesError as error:
        raise AnsibleFilterError(f"power_stop_times: {error}") from error
    return stop_times.merged(practice, before, recorded, by_drill, dt.datetime.now(dt.UTC))


class FilterModule:
    """Offer the filter to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"power_stop_times": power_stop_times}
