# SPDX-License-Identifier: Apache-2.0
"""All that must hold between the parts of a practice document.

A rule takes a View and yields problems. It must cope with documents that are wrong in other places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    rules_alerts,
    rules_application,
    rules_copies,
    rules_hosts,
    rules_items,
    rules_power,
    rules_programs,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View

Rule = Callable[[View], Iterator[Problem]]


def feasible(view: View) -> Iterator[Problem]:
    """Refuse what the document itself says to be impossible. Most say no sizes; then nothing is loaded to reckon with them."""
    sizes = any(item and (item.size or item.daily_change) for item in view.items.values())
    if sizes or (view.objectives and view.objectives.rto_offsite):
        from ansible_collections.holdfast.practice.plugins.plugin_utils import feasibility

        for rule in feasibility.RULES:
            yield from rule(view)


# These say more than the parts' own mistakes at the same place, and stand instead of them.
OVERRULING: tuple[Rule, ...] = (rules_alerts.controls, rules_hosts.names_apart)

RULES: tuple[Rule, ...] = (
    *rules_hosts.RULES,
    *rules_items.RULES,
    *rules_application.RULES,
    *rules_copies.RULES,
    *rules_power.RULES,
    *rules_alerts.RULES,
    *rules_programs.RULES,
    feasible,
)
