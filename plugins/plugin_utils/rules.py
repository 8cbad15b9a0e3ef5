# SPDX-License-Identifier: Apache-2.0
"""All that must hold between the parts of a practice document.

A rule takes a View and yields problems. It must cope with documents that are wrong in other places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils import (
    available,
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

RULES: tuple[Rule, ...] = (
    *rules_hosts.RULES,
    *rules_items.RULES,
    *rules_copies.RULES,
    *rules_power.RULES,
    *rules_alerts.RULES,
    *feasibility.RULES,
    available.not_available,
)
