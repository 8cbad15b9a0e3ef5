# SPDX-License-Identifier: Apache-2.0
"""The restore_verify module's face: what it needs, what check mode claims, what it concludes."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.modules import restore_verify as module

ITEM = {
    "item": "documents",
    "job": "documents",
    "host": "server1",
    "repository": {"url": "rest:https://198.18.0.11:8000/server1/", "username": "server1", "certificate": "PEM"},
    "rpo_s": 86400,
    "rto_s": 14400,
    "engine": None,
    "levels": ["arrival", "structure", "files"],
}
LEVEL = {"verdict": "PASS", "checked": 3, "reasons": []}


def run(capsys, **args):
    with patch_module_args({"practice": "harbour", "items": [ITEM], **args}), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


def results():
    fetched = {
        "row": "documents",
        "item": "documents",
        "host": "server1",
        "levels": {"arrival": LEVEL, "files": LEVEL},
        "figures": {},
    }
    return {"fetched": [fetched], "structures": [{"item": "", "host": "server1", "levels": {"structure": LEVEL}}]}


MACHINE = {"driver": "nspawn", "created": True, "disposed": True}


def test_a_whole_proof_passes(capsys):
    result = run(capsys, phase="conclude", results=results(), machine=MACHINE)
    assert (result["changed"], result["verdict"], result["body"]["verdict"]) == (False, "PASS", "PASS")
    assert result["lines"][0].startswith("PASS")


@pytest.mark.parametrize(
    "broken",
    [
        {"fetched": [], "structures": []},
        {"fetched": [{"prove_item": ITEM, "skipped": True}]},
        {"fetched": [{**results()["fetched"][0], "failed": True}]},
        {"structures": []},
    ],
)
def test_what_did_not_run_is_never_a_pass(capsys, broken):
    result = run(capsys, phase="conclude", results={**results(), **broken}, machine=MACHINE)
    assert result["verdict"] == "INCONCLUSIVE"


def test_a_level_that_was_left_out_is_said_to_be(capsys):
    result = run(capsys, phase="conclude", results=results(), machine=MACHINE, levels=["arrival", "files"])
    assert (result["verdict"], result["body"]["levels"]) == (
        "PASS",
        ["arrival", "files"],
    )  # the structure came all the same
    result = run(capsys, phase="conclude", results={**results(), "structures": []}, machine=MACHINE, levels=["files"])
    assert result["verdict"] == "INCONCLUSIVE"
    assert any("left out" in line for line in result["lines"])


def test_a_phase_gets_only_the_levels_that_are_asked_for(capsys, monkeypatch):
    seen = []

    class Fetch:
        def __init__(self, item, *_rest):
            seen.append(item.levels)

        def do(self):
            return {"levels": {}, "figures": {}}

    monkeypatch.setattr(module, "Fetch", Fetch)
    monkeypatch.setattr(module, "MachineRestic", lambda *_arguments: None)
    secrets = {"repository_password": "one-1", "rest_password": "two-2"}
    run(capsys, phase="fetch", folder="/nowhere", levels=["files", "database"], **secrets)
    assert seen == [("files",)]


def test_check_mode_restores_nothing_and_claims_nothing(capsys):
    secrets = {"repository_password": "one", "rest_password": "two"}
    result = run(capsys, phase="fetch", folder="/nowhere", **secrets, _ansible_check_mode=True)
    assert result["verdict"] == "INCONCLUSIVE"
    assert result["levels"]["files"]["reasons"][0]["code"] == "check_mode"


def test_what_was_planned_is_concluded_and_the_rest_is_named(capsys):
    other = {**ITEM, "item": "other", "job": "other"}
    result = run(capsys, phase="conclude", items=[ITEM, other], planned=[ITEM], results=results(), machine=MACHINE)
    assert (result["verdict"], result["body"]["scope"]) == ("PASS", "part")
    assert [row["item"] for row in result["body"]["not_run"]] == ["other"]


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ({"phase": "fetch", "folder": "/x"}, "repository_password"),
        ({"phase": "judge", "folder": "/x"}, "leader"),
        (
            {"phase": "fetch", "items": [], "folder": "/x", "repository_password": "one-1", "rest_password": "two-2"},
            "needs an item",
        ),
        ({"phase": "judge", "folder": "/x", "leader": 1, "timezone": "Nowhere/Else"}, "install tzdata"),
        ({"phase": "judge", "folder": "/x", "leader": 1, "history": {"runs": {"a": "noon"}}}, "no RFC 3339 time"),
        ({"phase": "judge", "folder": "/x", "leader": 1, "items": [{**ITEM, "which": "../x"}]}, "expected newest"),
        ({"phase": "conclude", "items": [{**ITEM, "levels": ["speed"]}]}, "levels"),
    ],
)
def test_what_is_missing_or_wrong_is_named(capsys, args, names):
    result = run(capsys, **args)
    assert result["failed"]
    assert names in result["msg"]


def software(ask):
    application = {"units": ["pms.service"], "limit_s": 60, "ask": ask}
    return {**ITEM, "levels": [*ITEM["levels"], "application"], "application": application}


def test_software_that_was_not_tried_is_no_pass(capsys):
    item = software({"it": {"port": 80}})
    result = run(capsys, phase="conclude", items=[item], results=results(), machine=MACHINE)
    assert result["verdict"] == "INCONCLUSIVE"
    assert result["body"]["items"][0]["levels"]["application"]["reasons"][0]["code"] == "not_run"
    assert result["body"]["items"][0]["not_promised"] == []


def test_software_that_nobody_described_is_said_to_be_not_promised(capsys):
    result = run(capsys, phase="conclude", results=results(), machine=MACHINE)
    assert result["body"]["items"][0]["not_promised"] == ["application"]
    assert "    not promised: application" in result["lines"]


def test_software_that_answered_counts_and_its_time_is_part_of_the_way_back(capsys):
    judged = {
        "row": "documents", "item": "documents", "host": "server1", "levels": {"application": LEVEL},
        "figures": {"phases": {"application_s": 12.5}},
    }  # fmt: skip
    item = software({"it": {"port": 80}})
    result = run(capsys, phase="conclude", items=[item], results={**results(), "judged": [judged]}, machine=MACHINE)
    assert result["verdict"] == "PASS"
    assert result["body"]["items"][0]["figures"]["restore_s"] == 12.5
    assert "software ready in 12.5s" in result["lines"][1]
