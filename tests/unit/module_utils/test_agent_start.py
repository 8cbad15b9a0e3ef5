"""A person starts a run: systemd carries it out, and what is shown and returned is that run's."""

from __future__ import annotations

import io
import json
import time

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent_advice,
    agent_host,
    agent_start,
    agent_status,
)

RECORD = {"job": "documents", "run": "R2", "state": "OK", "seconds": 3.0, "files": 2, "bytes": 10, "reasons": []}
IDLE = {"ActiveState": "inactive", "SubState": "dead", "InvocationID": "one", "Job": "", "ExecMainCode": "0"}
BUSY = {**IDLE, "ActiveState": "activating", "SubState": "start", "InvocationID": "two"}
DONE = {**IDLE, "InvocationID": "two", "ExecMainCode": "1", "ExecMainStatus": "0"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(agent_start, "POLL_S", 0.01)
    places = agent_host.Places(etc=tmp_path / "etc", state=tmp_path / "state", run=tmp_path / "run")
    (tmp_path / "etc/jobs").mkdir(parents=True)
    places.job("documents").write_text("{}")
    places.run.mkdir()
    return places


class Systemd:
    """Shows one state after the other; the record appears with the last."""

    def __init__(self, places, states, record=RECORD):
        self.places, self.states, self.record, self.started = places, list(states), record, 0

    def __call__(self, verb, *arguments):
        if verb == "start":
            self.started += 1
            assert "--no-block" in arguments
            assert arguments[-1] == "holdfast-backup@documents.service"
            return ""
        state = self.states.pop(0)
        if isinstance(state, BaseException):
            raise state
        if not self.states and self.record:
            agent_host.write_json(self.places.status("documents"), self.record)
        return "\n".join(f"{key}={value}" for key, value in state.items())


def go(places, states, as_json=False, out=None, record=RECORD):
    systemd, out = Systemd(places, states, record), out or io.StringIO()
    return agent_start.start_job("documents", places, as_json, out, systemd), out.getvalue(), systemd.started


@pytest.mark.parametrize(
    ("state", "ended", "code"),
    [
        ("OK", DONE, 0),
        ("INCOMPLETE", {**DONE, "ExecMainStatus": "2"}, 2),
        ("FAILED", {**DONE, "ExecMainStatus": "1"}, 1),
        ("FAILED", {**DONE, "ExecMainStatus": "3"}, 3),
        ("FAILED", {**DONE, "ExecMainCode": "2", "ExecMainStatus": "9"}, 1),
    ],
)
def test_it_ends_as_the_run_did(places, state, ended, code):
    found, said, started = go(places, [IDLE, BUSY, ended], record={**RECORD, "state": state})
    assert (found, started) == (code, 1)
    assert f"documents: {state} after 3 s: 2 files, 10 B, run R2" in said


def test_a_run_under_way_is_followed_and_nothing_is_started(places):
    found, said, started = go(places, [BUSY, BUSY, DONE])
    assert (found, started) == (0, 0)
    assert "under way already" in said


def test_a_run_that_another_process_holds_the_lock_of_ends_with_4(places):
    agent_host.write_json(places.status("documents"), RECORD)
    found, said, _started = go(places, [IDLE, {**DONE, "ExecMainStatus": "4"}])
    assert found == 4
    assert "left no record" in said


def test_a_service_that_never_ran_is_a_failure(places, capsys):
    assert go(places, [IDLE, IDLE])[0] == 1
    assert "did not run" in capsys.readouterr().err


def test_a_run_that_puts_itself_off_is_not_waited_for(places):
    agent_host.write_json(places.state / "deferred/documents.json", {"code": "on_battery", "message": "no mains"})
    waiting = {**BUSY, "SubState": "auto-restart", "ExecMainCode": "1", "ExecMainStatus": "75"}
    found, said, _started = go(places, [IDLE, BUSY, waiting], record=None)
    assert found == 75
    assert "not now: on_battery: no mains" in said


def test_who_goes_away_hears_how_to_watch_and_how_to_stop(places):
    found, said, _started = go(places, [IDLE, BUSY, KeyboardInterrupt()], record=None)
    assert found == 130
    assert "holdfast-agent run documents" in said
    assert "systemctl stop holdfast-backup@documents.service" in said


def test_a_job_that_is_not_there_is_named_with_those_that_are(places, capsys):
    assert agent_start.start_job("other", places, False, ask=None) == 3
    assert "there are: documents" in capsys.readouterr().err


def test_machines_get_json_and_terminals_a_bar(places):
    progress = {"phase": "files", "files": 1, "bytes": 5, "total_files": 2, "total_bytes": 10, "percent": 50, "rate": 1,
                "updated": "x"}  # fmt: skip
    agent_host.write_json(places.progress("documents"), progress)
    lines = [json.loads(line) for line in go(places, [IDLE, BUSY, BUSY, DONE], as_json=True)[1].splitlines()]
    assert [line["type"] for line in lines] == ["progress", "result"]
    assert (lines[0]["percent"], lines[1]["record"]["run"]) == (50, "R2")
    places.status("documents").unlink()
    said = go(places, [IDLE, BUSY, BUSY, DONE], out=Terminal())[1]
    assert "\r[##########..........] storing files 50 %" in said
    places.status("documents").unlink()
    plain = go(places, [IDLE, BUSY, BUSY, DONE])[1]
    assert plain.count("storing files 50 %, 1 of 2 files") == 1
    assert "\r" not in plain


def test_the_next_run_is_systemds():
    listed = [{"next": 1764000000000000, "unit": "holdfast-backup@documents.timer"},
              {"next": None, "unit": "holdfast-backup@other.timer"}]  # fmt: skip
    assert agent_status.read_timers(json.dumps(listed)) == {"documents": 1764000000.0}
    assert agent_status.read_timers("") == {}


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s"), (60, "1 min"), (3700, "61 min"), (7200, "2 h"), (90000, "25 h"), (200000, "2 d")]
)
def test_a_span_is_told_in_its_largest_unit(seconds, words):
    assert agent_status.span(seconds) == words


def test_status_tells_what_is_put_off_what_runs_and_what_to_do(places):
    places = agent_host.Places(etc=places.etc, state=places.state, run=places.run, boot_id=places.run / "boot")
    places.boot_id.write_text("boot-1\n")
    agent_host.write_json(places.state / "deferred/documents.json",
                          {"code": "on_battery", "message": "no mains", "since": "2026-11-24T10:00:00Z"})  # fmt: skip
    agent_host.write_json(places.running("documents"), {"facts": {"boot_id": "boot-1"}, "started": time.time()})
    agent_host.write_json(places.progress("documents"), {"phase": "hash", "files": 3, "bytes": 0})
    (row,) = agent_status.overview(places, time.time(), {"documents": 1764000000.0})
    assert (row["next_run"], row["deferred"]["code"], row["progress"]["files"]) == (
        "2025-11-24T16:00:00Z",
        "on_battery",
        3,
    )
    shown = agent_status.table([row])
    for words in ("never ran", "running now: hashing files, 3 files", "put off since", "holdfast-agent run documents"):
        assert words in shown


def test_every_reason_has_its_advice():
    assert agent_advice.advice("never_ran", "documents") == "start it once: holdfast-agent run documents"
    assert "journalctl" in agent_advice.advice("something_new", "documents")
