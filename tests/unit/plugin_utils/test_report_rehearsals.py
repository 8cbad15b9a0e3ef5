# SPDX-License-Identifier: Apache-2.0
"""What the report says of rehearsals, sign-offs and published heads."""

from __future__ import annotations

import datetime as dt
import json
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_rehearsals import (
    break_glass,
    published,
    sign_offs,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_sources import read_published

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
ZONE = ZoneInfo("Australia/Sydney")


def rehearsed(verdict: str, at: str = "2026-11-20T10:00:00Z", **body):
    figures = {"phases": {"open_kit_s": 0.5, "load_s": 61.0}, "total_s": 61.5}
    whole = {"verdict": verdict, "figures": figures, "items": [], "reasons": [], "kit": {"made": "2026-11-01"}, **body}
    return {"kind": "break_glass", "at": at, "body": whole}


WRONG = [{"code": "wrong_password", "message": "the password does not open it"}]


@pytest.mark.parametrize(
    ("records", "state", "detail"),
    [
        ([], "none", ""),
        ([rehearsed("PASS")], "ok", ""),
        ([rehearsed("PASS"), rehearsed("FAIL", items=[{"reasons": WRONG}])], "bad", "the password does not open it"),
        ([rehearsed("FAIL"), rehearsed("PASS")], "ok", ""),
        ([rehearsed("INCONCLUSIVE", reasons=[{"code": "nas_unreachable", "message": ""}])], "warn", "nas_unreachable"),
        ([rehearsed("nonsense")], "bad", ""),
        ([rehearsed("PASS", at="2025-01-01T00:00:00Z")], "bad", "Overdue: rehearse at least every 400 days."),
    ],
)
def test_the_newest_rehearsal_speaks(records, state, detail):
    said = break_glass(records, NOW, ZONE)
    assert (said["state"], said["detail"]) == (state, detail)


def test_its_phases_are_told():
    assert [phase["name"] for phase in break_glass([rehearsed("PASS")], NOW, ZONE)["phases"]] == [
        "open kit",
        "load",
        "in all",
    ]


def test_sign_offs_come_newest_first():
    rows = [
        {
            "kind": "sign_off",
            "seq": n,
            "body": {"item": "x", "by": "R", "what": "w", "done": "2026-11-20T01:00:00Z", "verdict": v},
        }
        for n, v in enumerate(["PASS", "FAIL"], start=1)
    ]
    assert [(each["seq"], each["state"]) for each in sign_offs(rows, ZONE)] == [("2", "bad"), ("1", "ok")]


@pytest.mark.parametrize(
    ("facts", "state", "word"),
    [
        (None, "bad", "ever published"),
        ({"places": {}}, "bad", "ever published"),
        ({"places": {"nas1": 7}}, "ok", "nas1"),
        ({"places": {"nas1": 6, "mail": 7}}, "bad", "not published: nas1"),
        ({"places": {"nas1": 7}, "others": 0}, "ok", "nas1"),
        ({"places": {"nas1": 7}, "others": 1}, "warn", "begun anew"),
        ({"places": {"nas1": 0}}, "bad", "not published: nas1"),
    ],
)
def test_a_head_that_was_not_published_is_red(facts, state, word):
    said = published(facts, 7)
    assert said[0] == state
    assert word in said[1]


def test_a_file_that_cannot_be_read_says_nothing(tmp_path):
    assert read_published(tmp_path) is None
    (tmp_path / "published.json").write_text("[")
    assert read_published(tmp_path) is None
    (tmp_path / "published.json").write_text(json.dumps({"places": {"nas1": 1}}))
    assert read_published(tmp_path) == {"places": {"nas1": 1}}
