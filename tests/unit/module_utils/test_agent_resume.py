"""After a boot: what is started again, and what is not."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_host, agent_resume

BEGUN = {"facts": {"boot_id": "boot-1", "job": "documents", "last_ok": None}, "started": 1000.0}


@pytest.fixture
def places(tmp_path):
    places = agent_host.Places(tmp_path / "etc", tmp_path / "state", run=tmp_path / "run", boot_id=tmp_path / "boot-id")
    places.boot_id.write_text("boot-2\n")
    agent_host.write_json(places.job("documents"), {})
    return places


def ended(boot, *codes):
    return {"boot_id": boot, "state": "FAILED", "reasons": [{"code": code, "message": "x"} for code in codes]}


@pytest.mark.parametrize(
    ("begun", "record", "deferred", "again"),
    [
        (None, None, None, False),  # a job that never ran waits for its time
        ({**BEGUN, "facts": {**BEGUN["facts"], "boot_id": "boot-2"}}, None, None, False),  # it runs now
        (BEGUN, None, None, True),
        (None, ended("boot-1", "stopped"), None, True),
        (None, ended("boot-2", "stopped"), None, False),  # somebody stopped it after the boot
        (None, ended("boot-1", "nas_unreachable"), None, False),
        (None, ended("boot-1"), {"code": "on_battery", "message": "x", "since": "x"}, True),
    ],
)
def test_what_the_last_boot_ended_is_started_again(places, begun, record, deferred, again):
    for path, content in (("running", begun), ("status", record), ("deferred", deferred)):
        if content:
            agent_host.write_json(getattr(places, path)("documents"), content)
    assert agent_resume.cut_off(places) == (["documents"] if again else [])


def test_the_run_that_was_cut_off_is_recorded_before_the_next_begins(places, monkeypatch):
    agent_host.write_json(places.running("documents"), BEGUN)
    seen = []

    def run(_self, argv, _env):
        seen.append(json.loads(places.status("documents").read_text()))
        assert argv == ["systemctl", "start", "--no-block", "holdfast-backup@documents.service"]
        return 0, "", ""

    monkeypatch.setattr(agent_host.Children, "run", run)
    assert agent_resume.resume(places) == 0
    assert [(each["state"], each["reasons"][0]["code"]) for each in seen] == [("FAILED", "killed")]


def test_a_start_that_systemd_refuses_is_said(places, monkeypatch, capfdbinary):
    agent_host.write_json(places.running("documents"), BEGUN)
    monkeypatch.setattr(agent_host.Children, "run", lambda _self, _argv, _env: (5, "", "Unit not found."))
    assert agent_resume.resume(places) == 1
    assert b"Unit not found." in capfdbinary.readouterr().out


def test_a_job_that_is_gone_is_not_started(places):
    places.job("documents").unlink()
    agent_host.write_json(places.running("documents"), BEGUN)
    assert agent_resume.cut_off(places) == []
