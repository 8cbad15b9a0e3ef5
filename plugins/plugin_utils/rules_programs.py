# SPDX-License-Identifier: Apache-2.0
"""What must hold for programs that hosts are given."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Problem, value_at
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View, mapping


def _one_source(view: View) -> Iterator[Problem]:
    """A program comes from one place."""
    here = ("programs", "restic")
    found = value_at(view.document.data, here)
    if not isinstance(found, dict):
        return
    named = [key for key in ("file", "url") if key in mapping(found)]
    if len(named) != 1:
        got = "there are both file and url" if named else "there is neither file nor url"
        fix = "keep one of the two" if named else "leave restic out to use the distribution's"
        yield view.problem(here, got, "one place that it comes from", fix, key=True)


RULES = (_one_source,)
