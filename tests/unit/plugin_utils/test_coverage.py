# SPDX-License-Identifier: Apache-2.0
"""Last proven on, for all that was promised; what is late, failed or never is red."""

from __future__ import annotations

import datetime as dt

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils.coverage import coverage, overdue, table, words

NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
SUMMARY = {
    "objectives": {"proven_s": 180 * 86400},
    "items": {"documents": {"hosts": ["server1"], "levels": ["arrival", "files"]}},
    "copies": {"onsite": {"on": "nas1"}},
    "retention": {"within": {"daily": "35d", "monthly": "3y"}},
}
GOOD = {"verdict": "PASS", "checked": 5, "reasons": []}
FAILED = {"verdict": "FAIL", "checked": 5, "reasons": []}


def ago(days):
    return (NOW - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def proof(days, kind="daily", files=GOOD, kept=None, oracle="a", **more):
    row = {
        "item": "documents",
        "host": "server1",
        "copy": "onsite",
        "which": "newest",
        "class": kind,
        "kept": {"daily": 9} if kept is None else kept,
        "snapshots": {"oracle": oracle * 64},
        "verdict": files["verdict"],
        "levels": {"arrival": GOOD, "files": files},
        "figures": {"types": {"pdf": 7}},
        **more,
    }
    return {"kind": "proof", "at": ago(days), "body": {"items": [row]}}


def cell(records, kind="daily", level="files", summary=SUMMARY):
    cells = coverage(summary, records, NOW)["cells"]
    return next((each["state"], each["text"]) for each in cells if (each["class"], each["level"]) == (kind, level))


BOTH = {"daily": 9, "monthly": 2}


@pytest.mark.parametrize(
    ("records", "kind", "want"),
    [
        ([], "daily", ("bad", "never")),
        ([], "monthly", ("bad", "never")),
        ([proof(1)], "daily", ("ok", "2026-11-20")),
        ([proof(179)], "daily", ("ok", "2026-05-26")),
        ([proof(181)], "daily", ("bad", "2026-05-24, overdue since 2026-11-20")),
        ([proof(181), proof(3)], "daily", ("ok", "2026-11-18")),
        # no run of the class yet, then not due yet, then overdue
        ([proof(1)], "monthly", ("none", "none kept yet")),
        ([proof(10, kept=BOTH), proof(1, kept=BOTH)], "monthly", ("none", "not yet, due by 2027-05-10")),
        ([proof(200, kept=BOTH), proof(1, kept=BOTH)], "monthly", ("bad", "never, overdue since 2026-11-01")),
        # it was gone in between: the time begins anew
        ([proof(200, kept=BOTH), proof(9), proof(1, kept=BOTH)], "monthly", ("none", "not yet, due by 2027-05-19")),
        ([proof(9, "monthly", kept=BOTH), proof(1)], "monthly", ("none", "2026-11-12, none kept now")),
        # failures
        ([proof(5), proof(1, files=FAILED)], "daily", ("bad", "failed 2026-11-20")),
        ([proof(5, files=FAILED), proof(1)], "daily", ("ok", "2026-11-20")),
        ([proof(1, files={**GOOD, "checked": 0})], "daily", ("none", "not yet, due by 2027-05-19")),
        ([proof(1, files={**GOOD, "verdict": "INCONCLUSIVE"})], "daily", ("none", "not yet, due by 2027-05-19")),
        ([proof(-3)], "daily", ("bad", "dated in the future")),
        # of another item, host or copy
        ([proof(1, host="desk1")], "daily", ("bad", "never")),
        ([proof(1, copy="offsite")], "daily", ("bad", "never")),
        # what older versions wrote names no class: it was tried, and that is all one knows
        ([proof(1, kind=None, kept={})], "daily", ("none", "none kept yet")),
    ],
)
def test_a_cell(records, kind, want):
    assert cell(records, kind) == want


def test_runs_that_no_rule_keeps_are_no_promise():
    kept = {"daily": 9, "other": 400}
    assert cell([proof(300, kept=kept), proof(1, kept=kept)], "other") == ("none", "no rule keeps these")
    assert cell([proof(300, "other", kept=kept), proof(1, kept=kept)], "other")[0] == "none"


def test_the_state_of_the_whole():
    assert coverage(SUMMARY, [], NOW)["state"] == "bad"
    assert coverage(SUMMARY, [proof(1)], NOW)["state"] == "ok"
    assert coverage(SUMMARY, [proof(190)], NOW)["state"] == "bad"
    nothing = {**SUMMARY, "items": {}}
    assert coverage(nothing, [proof(1)], NOW)["state"] == "bad", "a table without a cell covers nothing"


def older(days, files, oracle="b"):
    return proof(days, "monthly", files, BOTH, oracle, which="rotation")


@pytest.mark.parametrize(
    ("records", "bad"),
    [
        ([older(9, GOOD)], []),
        (
            [older(9, FAILED), older(5, GOOD, "c")],
            ["b" * 12],
        ),  # another run of the class that passes does not make it good
        ([older(9, FAILED), older(5, GOOD)], []),
        ([older(9, FAILED), proof(5, kept=BOTH)], ["b" * 12]),
        (
            [
                older(9, FAILED),
                {"kind": "retention", "at": ago(2), "body": {"removed": [{"snapshots": ["b" * 64]}]}},
            ],
            [],
        ),
    ],
)
def test_a_bad_run_stays_named_until_it_passes_or_is_removed(records, bad):
    found = coverage(SUMMARY, records, NOW)
    assert [each["snapshot"] for each in found["bad"]] == bad
    assert any("has not passed since" in text for texts in overdue(found).values() for text in texts) == bool(bad)


def test_what_fails_for_its_age_alone_is_no_bad_run():
    late = proof(5, levels={"arrival": FAILED, "files": GOOD}, verdict="FAIL")
    assert coverage(SUMMARY, [late], NOW)["bad"] == []


def test_file_types_tell_when_they_were_proven_last():
    found = coverage(SUMMARY, [proof(9), proof(5, files=FAILED)], NOW)
    assert [(each["type"], each["files"], each["last"]) for each in found["types"]] == [("pdf", 7, ago(9))]


def test_for_people():
    found = coverage(SUMMARY, [proof(200, kept=BOTH), older(100, FAILED), proof(1, kept=BOTH)], NOW)
    (daily, monthly) = table(found)
    assert (daily["class"], daily["state"], monthly["state"], monthly["kept"]) == ("daily", "ok", "bad", 2)
    text = "\n".join(words(found))
    assert "within 180 days" in text
    assert "RED: failed 2026-08-13" in text
    assert "pdf 7 (2026-11-20)" in text
    assert "BAD: the monthly run bbbbbbbbbbbb of documents of server1" in text
    assert list(overdue(found)) == [("documents", "server1")]
