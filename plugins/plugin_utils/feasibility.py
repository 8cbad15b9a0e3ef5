# SPDX-License-Identifier: Apache-2.0
"""Whether a plan can be carried out: line, windows, capacity and retention in numbers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View

RULES: tuple[Callable[[View], Iterator[Problem]], ...] = ()
