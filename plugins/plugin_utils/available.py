# SPDX-License-Identifier: Apache-2.0
"""What a practice document may say but this version does not do yet.

A document never promises what is not done. A part listed here is checked like any other, and then refused by name; whoever
builds it takes its line out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import NOT_AVAILABLE
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import KeyPath, Problem, show
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View


class Later(NamedTuple):
    """A key path (* stands for any name), the values that are not available there (None: all), and what is meant."""

    path: tuple[str, ...]
    values: tuple[str, ...] | None = None
    what: str = ""
    expected: str = "a document without it"


LATER = (
    Later(("hosts", "*", "kind"), ("standby",), "a host of kind", "nas, server, workstation or restore_host"),
    Later(("hosts", "*", "os"), ("windows",), "", "linux"),
    Later(
        ("protect", "*", "database", "engine"),
        ("sqlserver",),
        "the engine",
        "postgresql, mariadb, sqlite or firebird",
    ),
    Later(("copies", "offsite")),
    Later(("copies", "removable")),
    Later(("copies", "standby")),
    Later(("copies", "archive")),
    Later(("maintenance",)),
    Later(("alerts", "heartbeat")),
)


def not_available(view: View) -> Iterator[Problem]:
    """Refuse every part of the document that nothing stands behind in this version."""
    for later in LATER:
        for path, value in _found(view.document.data, later.path, ()):
            if later.values is None:
                yield view.problem(path, NOT_AVAILABLE, later.expected, "leave it out", key=True)
            elif value in later.values:
                what = f"{later.what} {show(value)}" if later.what else show(value)
                yield view.problem(path, f"{what} is {NOT_AVAILABLE}", later.expected)


def _found(data: Any, pattern: tuple[str, ...], path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if not pattern:
        yield path, data
    elif isinstance(data, dict):
        for key in data if pattern[0] == "*" else [pattern[0]] if pattern[0] in data else []:
            yield from _found(data[key], pattern[1:], (*path, key))
