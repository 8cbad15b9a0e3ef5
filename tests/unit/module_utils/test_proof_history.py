# SPDX-License-Identifier: Apache-2.0
"""What the evidence tells of earlier proofs."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import evidence
from ansible_collections.holdfast.practice.plugins.module_utils.proof_history import last_judged

FIRST, SECOND = "2026-11-20T10:00:00Z", "2026-11-21T10:00:00Z"


def entry(at, kind="proof", **more):
    row = {"host": "server1", "item": "documents", "verdict": "PASS", "snapshots": {"oracle": "o1"}, "class": "daily"}
    return {"record": {"kind": kind, "at": at, "body": {"items": [{**row, **more}]}}}


@pytest.mark.parametrize(
    ("entries", "runs", "classes"),
    [
        ([entry(FIRST)], {"o1": FIRST}, {"daily": FIRST}),
        ([entry(FIRST), entry(SECOND)], {"o1": SECOND}, {"daily": SECOND}),
        ([entry(FIRST, verdict="FAIL")], {"o1": FIRST}, {"daily": FIRST}),
        ([entry(FIRST), entry(SECOND, verdict="INCONCLUSIVE")], {"o1": FIRST}, {"daily": FIRST}),
        ([entry(FIRST), entry(SECOND, **{"class": None})], {"o1": SECOND}, {"daily": FIRST}),
    ],
)
def test_what_was_judged_last(entries, runs, classes):
    assert last_judged(entries) == {"server1/documents/onsite": {"runs": runs, "classes": classes}}


@pytest.mark.parametrize("each", [entry(FIRST, "drill"), entry(FIRST, snapshots={}), entry(FIRST, snapshots=None)])
def test_what_tells_of_no_run(each):
    assert last_judged([each]) == {}


def test_copies_are_apart():
    assert set(last_judged([entry(FIRST), entry(FIRST, copy="offsite")])) == {
        "server1/documents/onsite",
        "server1/documents/offsite",
    }


def test_what_retention_removed_is_not_missed():
    known = entry(FIRST, job="documents", arrived=FIRST)
    pruned = {"record": {"kind": "retention", "at": SECOND, "body": {"removed": [{"snapshots": ["o1"]}]}}}
    assert evidence.last_known([known]) == {"server1/documents": ["o1"]}
    assert evidence.last_known([known, pruned]) == {}
