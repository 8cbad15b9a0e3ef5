# SPDX-License-Identifier: Apache-2.0
"""All that must hold between the parts of a practice document.

A rule takes a View and yields problems. It must cope with documents that are wrong in other places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    feasibility,
    rules_alerts,
    rules_copies,
    rules_hosts,
    rules_items,
    rules_power,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View

Rule = Callable[[View], Iterator[Problem]]

# These say more than the parts' own mistakes at the same place, and stand instead of them.
OVERRULING: tuple[Rule, ...] = (rules_alerts.controls, rules_hosts.names_apart)

RULES: tuple[Rule, ...] = (
    *rules_hosts.RULES,
    *rules_items.RULES,
    *rules_copies.RULES,
    *rules_power.RULES,
    *rules_alerts.RULES,
    *feasibility.RULES,
)
