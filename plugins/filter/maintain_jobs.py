# SPDX-License-Identifier: Apache-2.0
"""Filters: what retention is told of a host, and what its results come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    from ansible_collections.holdfast.practice.plugins.plugin_utils.maintenance import conclude, jobs_of
except ImportError as error:
    MISSING: str | None = str(error.name or error)
else:
    MISSING = None


def maintain_jobs(items: Any, host: str, summary: Any, answer: Any) -> list[dict[str, Any]]:
    """See the documentation beside this file."""
    _complete()
    return jobs_of(items, host, summary, answer or {})


def maintain_result(results: Any, practice: str, hosts: Any, machine: str = "", accepted: Any = ()) -> dict[str, Any]:
    """See the documentation beside this file."""
    _complete()
    return conclude(practice, hosts, results, machine, accepted)


def _complete() -> None:
    if MISSING:
        raise AnsibleFilterError(f"the Python package {MISSING} is missing on this control node; run: make setup")


class FilterModule:
    """Offer the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"maintain_jobs": maintain_jobs, "maintain_result": maintain_result}
