"""A run is a success only by a record of its own."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.modules import backup_run

OLD = {"run": "1", "state": "OK", "reasons": []}
NEW = {"run": "2", "state": "OK", "reasons": []}
GAP = {"run": "2", "state": "INCOMPLETE", "reasons": [{"code": "images_missing", "message": "1 of 2"}]}


@pytest.mark.parametrize(
    ("before", "after", "accept", "why"),
    [
        (None, NEW, [], ""),
        (OLD, NEW, [], ""),
        (OLD, OLD, [], "the run left no status record"),
        (None, None, [], "the run left no status record"),
        (OLD, GAP, [], "INCOMPLETE: images_missing: 1 of 2"),
        (OLD, GAP, ["INCOMPLETE"], ""),
        (OLD, {**NEW, "state": "FAILED"}, ["INCOMPLETE"], "FAILED: no reason was recorded"),
        (OLD, {**NEW, "state": "fine"}, [], "fine: no reason was recorded"),
    ],
)
def test_judge(before, after, accept, why):
    assert backup_run.judge(before, after, accept) == why
