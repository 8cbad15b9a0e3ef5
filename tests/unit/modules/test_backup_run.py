"""A run is a success only by a record of its own."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.modules import backup_run

OLD = {"run": "1", "state": "OK", "reasons": []}
NEW = {"run": "2", "state": "OK", "reasons": []}
GAP = {"run": "2", "state": "INCOMPLETE", "reasons": [{"code": "images_missing", "message": "1 of 2"}]}


WAITS = {"ActiveState": "activating", "SubState": "auto-restart", "Job": "7", "ExecMainExitTimestampMonotonic": "100"}


@pytest.mark.parametrize(
    ("now", "over"),
    [
        ({"ActiveState": "inactive", "SubState": "dead", "Job": ""}, True),
        ({"ActiveState": "failed", "SubState": "failed", "Job": "0"}, True),
        ({"ActiveState": "inactive", "SubState": "dead", "Job": "9"}, False),  # asked for, not begun
        ({"ActiveState": "activating", "SubState": "start", "Job": "9"}, False),
        (WAITS, False),  # it waited before we asked: what it says is old
        ({**WAITS, "ExecMainExitTimestampMonotonic": "101"}, True),
    ],
)
def test_a_deferred_job_is_waited_for_until_it_has_been_tried_once(now, over):
    assert backup_run.settled(WAITS, now) is over


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
