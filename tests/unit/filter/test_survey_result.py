# SPDX-License-Identifier: Apache-2.0
"""The filter behind survey.yml: from what hosts said to a result, with the document that lies in the folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.filter.survey_result import FilterModule

REPOSITORY = Path(__file__).resolve().parents[3]
survey_result = FilterModule().filters()["survey_result"]


@pytest.fixture
def folder(tmp_path):
    shutil.copy(REPOSITORY / "inventories/harbour-street/practice.yml", tmp_path)
    return tmp_path


def said(**more):
    return {"survey": {"os": "Debian 13", "items": {}, "databases": [], "stores": [], **more}}


def test_it_compares_with_the_document_in_the_folder(folder):
    store = {
        "kind": "mail",
        "path": "/home/x/Maildir",
        "files": 3,
        "bytes": 900,
        "changed_bytes_per_day": 0,
        "item": None,
    }
    hosts = {"nas1": said(pool={"bytes": 2**40, "free": 2**40}), "server1": said(), "desk1": said(stores=[store])}
    result = survey_result({**hosts, "proof1": said()}, str(folder))
    assert (result["unreached"], result["impossible"]) == ("", [])
    assert [each["line"] for each in result["survey"]["unprotected"]] == ["maildir: {paths: [/home/x/Maildir]}"]
    assert any("NOT PROTECTED: desk1" in line for line in result["lines"])
    json.dumps(result)  # what Ansible keeps and writes


def test_an_impossible_plan_is_told(folder):
    items = {"documents": {"bytes": 2**41, "changed_bytes_per_day": 0, "files": 1, "missing": []}}
    hosts = {"nas1": said(pool={"bytes": 2**40, "free": 2**40}), "server1": said(items=items)}
    result = survey_result(hosts, str(folder))
    assert len(result["impossible"]) >= 1
    assert "hosts.nas1.pool: got 1TiB, too small for the first backups" in " ".join(result["impossible"])
    assert "desk1, proof1" in result["unreached"]


def test_a_broken_result_of_an_earlier_survey_is_written_anew(folder):
    (folder / "results").mkdir()
    (folder / "results/survey.json").write_text("{")
    assert survey_result({}, str(folder))["survey"]["format"] == 1


def test_a_document_that_is_wrong_is_named(tmp_path):
    (tmp_path / "practice.yml").write_text("practice: 1\n")
    with pytest.raises(AnsibleFilterError, match=r"survey_result: .*practice.yml:1"):
        survey_result({}, str(tmp_path))
