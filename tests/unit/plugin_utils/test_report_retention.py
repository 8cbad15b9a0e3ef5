# SPDX-License-Identifier: Apache-2.0
"""What the report says of the rotation."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from ansible_collections.holdfast.practice.plugins.plugin_utils.report_retention import kept

NOW, ZONE = dt.datetime(2026, 11, 26, 20, tzinfo=dt.UTC), ZoneInfo("Australia/Sydney")


def record(verdict="PASS", **host):
    found = {
        "kept": {"documents": {"daily": 35, "monthly": 4}},
        "clean": {"documents": {"arrived": "2026-11-25T20:00:00Z"}},
    }
    body = {
        "verdict": verdict,
        "hosts": {"server1": {**found, **host}},
        "removed": [{"job": "documents"}, {"discarded": True}],
    }
    return {"kind": "retention", "at": "2026-11-26T18:00:00Z", "seq": 4, "body": body}


def test_no_maintenance_is_said_to_be_none():
    assert kept([{"kind": "proof"}], NOW, ZONE)["state"] == "none"


def test_the_newest_one_counts():
    found = kept([record("FAIL"), record()], NOW, ZONE)
    assert (found["state"], found["detail"]) == ("ok", "")
    assert found["value"] == "PASS, 2 h ago, 1 run removed"
    assert found["rows"][0] == {
        "job": "documents",
        "host": "server1",
        "kept": "35 daily, 4 monthly",
        "clean": found["rows"][0]["clean"],
        "note": "",
    }
    assert "26 Nov" in found["rows"][0]["clean"], "in the practice's own zone"


def test_what_stops_it_is_named():
    doubts = [{"code": "future_snapshots", "message": "1 snapshots claim a time after their arrival"}]
    found = kept([record("FAIL", doubts=doubts, clean={}, frozen={"documents": "its host does not answer"})], NOW, ZONE)
    assert (found["state"], found["detail"]) == ("bad", "server1: 1 snapshots claim a time after their arrival")
    assert (found["rows"][0]["clean"], found["rows"][0]["note"]) == ("none", "its host does not answer")
