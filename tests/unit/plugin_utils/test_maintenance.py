# SPDX-License-Identifier: Apache-2.0
"""What retention is told of a host, and how its results are told."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils.maintenance import conclude, jobs_of, what_to_do

ITEMS = [
    {"item": "clinical_db", "job": "clinical_db", "host": "server1", "engine": "postgresql"},
    {"item": "documents", "job": "documents", "host": "server1"},
    {"item": "desk_files", "job": "desk_files", "host": "desk1"},
]
SUMMARY = {
    "items": {
        "clinical_db": {"interval_s": 14400},
        "documents": {"interval_s": 86400},
        "desk_files": {"interval_s": 86400},
    }
}


def answer(unclean=None, rc=0):
    rows = [{"job": "clinical_db", "unclean": unclean}, {"job": "documents", "unclean": None}]
    return {"rc": rc, "stdout": json.dumps(rows)}


def frozen(found):
    return {row["name"]: row["frozen"] for row in found if row["frozen"]}


@pytest.mark.parametrize("rc", [0, 1, 2])
def test_jobs_of_a_host_that_is_well(rc):
    """A job that failed last night is no reason to keep old runs for ever."""
    assert jobs_of(ITEMS, "server1", SUMMARY, answer(rc=rc)) == [
        {"name": "clinical_db", "interval_s": 14400.0, "frozen": ""},
        {"name": "documents", "interval_s": 86400.0, "frozen": ""},
    ]


def test_a_database_that_waits_to_be_found_sound_is_frozen():
    found = frozen(jobs_of(ITEMS, "server1", SUMMARY, answer(unclean="2026-11-25T20:00:00Z")))
    assert list(found) == ["clinical_db"]
    assert "2026-11-25T20:00:00Z" in found["clinical_db"]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"unreachable": True},
        {"rc": 127, "stdout": ""},
        {"rc": 0, "stdout": "half a li"},
        {"rc": 0, "stdout": "[1]"},
    ],
)
def test_a_host_that_does_not_answer_freezes_its_databases_only(said):
    """A workstation is off at night; a server that is off may have lost its power."""
    assert list(frozen(jobs_of(ITEMS, "server1", SUMMARY, said))) == ["clinical_db"]
    assert frozen(jobs_of(ITEMS, "desk1", SUMMARY, said)) == {}


def test_a_job_that_the_answer_does_not_name_is_not_frozen():
    """It is new, and its host was never without power while it had one."""
    assert frozen(jobs_of(ITEMS, "server1", SUMMARY, {"rc": 0, "stdout": "[]"})) == {}


RUN = {"job": "documents", "run": "R", "arrived": "2026-09-01T20:00:00Z", "parts": {"files": "a"}, "snapshots": ["a"]}
WELL = {
    "host": "server1",
    "verdict": "PASS",
    "removed": [RUN],
    "kept": {"documents": {"daily": 35}},
    "clean": {"documents": {"run": "S", "arrived": "2026-11-25T20:00:00Z"}},
    "freed_bytes": 5_000_000,
    "key_ids": ["k"],
}
REFUSED = {
    "host": "desk1",
    "verdict": "FAIL",
    "doubts": [{"code": "future_snapshots", "message": "1 snapshots claim a time (4c2b8e0d)", "ids": ["4c2b8e0d"]}],
    "removed": [],
}


def test_what_was_removed_stands_in_the_record_with_its_ids():
    found = conclude("harbour-street", ["server1"], [WELL], "", [])
    assert found["verdict"] == "PASS"
    assert found["body"]["removed"] == [{"host": "server1", **RUN}]
    assert found["body"]["hosts"]["server1"]["key_ids"] == ["k"]
    text = "\n".join(found["lines"])
    assert "1 runs removed, 5 MB freed" in text
    assert "documents: 35 daily kept; the last clean one arrived 2026-11-25T20:00:00Z" in text


def test_a_refused_repository_fails_it_all_and_says_what_to_do():
    found = conclude("harbour-street", ["server1", "desk1"], [WELL, REFUSED], "", ["abcdef12"])
    assert (found["verdict"], found["body"]["accepted"]) == ("FAIL", ["abcdef12"])
    text = "\n".join(found["lines"])
    assert "nothing was removed: 1 snapshots claim a time (4c2b8e0d)" in text
    assert "-e discard=4c2b8e0d" in text
    assert "-e accept=4c2b8e0d" in text


def test_a_host_that_was_not_reached_makes_it_inconclusive():
    found = conclude("harbour-street", ["server1", "desk1"], [WELL], "", [])
    assert found["verdict"] == "INCONCLUSIVE"
    assert found["body"]["hosts"]["desk1"]["reasons"][0]["code"] == "not_reached"
    assert conclude("harbour-street", ["server1"], [], "the disk is full", [])["verdict"] == "INCONCLUSIVE"


def test_a_machine_that_is_left_behind_fails_it():
    found = conclude("harbour-street", ["server1"], [WELL], "/var/lib/x could not be removed", [])
    assert found["verdict"] == "FAIL"
    assert found["lines"][-1] == "  /var/lib/x could not be removed"


def test_nothing_to_maintain_is_no_success():
    assert conclude("harbour-street", [], [], "", [])["verdict"] == "INCONCLUSIVE"


def test_what_was_thrown_away_is_recorded_so_that_no_proof_misses_it():
    found = conclude("harbour-street", ["server1"], [{**WELL, "removed": [], "discarded": ["f" * 64]}], "", [])
    assert found["body"]["removed"] == [{"host": "server1", "discarded": True, "snapshots": ["f" * 64]}]
    assert "1 snapshots thrown away, as asked for" in "\n".join(found["lines"])


def test_frozen_jobs_and_jobs_without_a_clean_run_are_named():
    row = {
        **WELL,
        "frozen": {"documents": "its host does not answer"},
        "kept": {"documents": {"daily": 2}},
        "clean": {},
        "strays": 3,
    }
    text = "\n".join(conclude("harbour-street", ["server1"], [row], "", [])["lines"])
    assert "nothing of documents was removed: its host does not answer" in text
    assert "documents: 2 daily kept; NONE of them is clean" in text
    assert "3 snapshots are of no job" in text


@pytest.mark.parametrize("code", ["unknown_keys", "unreadable_snapshots", "shrunk", "too_many_runs", "same_part_twice"])
def test_every_doubt_says_how_it_is_cleared(code):
    assert "-e accept=12345678" in what_to_do({"code": code, "ids": ["12345678"]})
