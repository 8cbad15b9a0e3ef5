"""The table of faults in the docs is made of what was seen, all of it."""

from __future__ import annotations

import re
from pathlib import Path

import faults_table
import pytest
from kit_faults import CLEAN, FAULTS

PAGE = Path(__file__).resolve().parents[3] / "docs/faults.md"
ROW = {
    "id": "R01",
    "title": "a | b",
    "verdict": "FAIL",
    "levels": ["files"],
    "codes": ["files_missing"],
    "seconds": 1.25,
}


def test_every_fault_of_the_kit_is_in_the_table_of_the_newest_run():
    told = set(re.findall(r"(?m)^\| ([\w-]+) \|", PAGE.read_text()))
    assert {fault.id for fault in FAULTS} - told == set(), "run make test-faults: it writes docs/faults.md"


def test_a_fault_is_seen_by_something_and_has_to_say_what():
    assert all(fault.codes for fault in FAULTS if fault not in CLEAN)
    assert all(fault.verdict == "PASS" and not fault.codes for fault in CLEAN)
    assert {fault.job for fault in FAULTS if fault.quick} == {
        "clinical_db", "billing_db", "pms_db", "ward_db", "documents"}  # fmt: skip


def test_a_table_tells_of_faults_and_of_what_is_none():
    page = faults_table.table([ROW, {**ROW, "id": "clean", "verdict": "PASS", "levels": [], "codes": []}])
    assert "1 faults, all of them seen; 1 changes that are none" in page
    assert "| R01 | a \\| b | files | FAIL | `files_missing` | 1.2 |" in page
    assert "| clean | a \\| b | quiet | PASS |  | 1.2 |" in page


def test_a_fault_that_two_tests_tell_of_is_refused():
    with pytest.raises(AssertionError, match="twice"):
        faults_table.table([ROW, ROW])


def test_a_row_is_told_only_where_somebody_listens(tmp_path, monkeypatch):
    monkeypatch.delenv("HOLDFAST_FAULTS_TOLD", raising=False)
    faults_table.tell(**ROW)
    monkeypatch.setenv("HOLDFAST_FAULTS_TOLD", str(tmp_path / "told"))
    faults_table.tell(**ROW)
    assert (tmp_path / "told").read_text().count("\n") == 1
