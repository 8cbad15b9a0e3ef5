# SPDX-License-Identifier: Apache-2.0
"""The host's own watch: which job is how, and a whole look with a mail server that is played."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent,
    agent_host,
    agent_notice,
    mail_send,
    notice,
)
from ansible_collections.holdfast.practice.plugins.module_utils.agent_notice import Signs, condition_of
from ansible_collections.holdfast.practice.plugins.module_utils.notice import Condition, News

H, D = 3600.0, 86400.0
T = 20_000 * D
JOB = {"deadline_s": 27 * 3600, "spread_s": 300, "time_limit_s": 7200}
NAME = "/srv/clinic/documents/letters/Jane Sample 1970.txt"


def record(state, *codes, ago=H, good=D):
    reasons = [{"code": code, "message": f"{NAME} is a problem"} for code in codes]
    last = {"run": "r", "finished": agent_host.utc(T - good)} if good is not None else None
    return {"state": state, "reasons": reasons, "finished": agent_host.utc(T - ago), "last_ok": last}


@pytest.mark.parametrize(
    ("found", "signs", "awake", "state", "codes"),
    [
        (record("OK"), Signs(), 9 * D, "OK", ()),
        (record("FAILED", "nas_full"), Signs(), 9 * D, "FAILED", ("nas_full",)),
        (record("FAILED", "nas_full"), Signs(running=True), 9 * D, "FAILED", ("nas_full",)),
        (record("INCOMPLETE", "probe_failed", "images_missing", "probe_failed"), Signs(), 9 * D,
         "INCOMPLETE", ("images_missing", "probe_failed")),
        (record("SOMETHING"), Signs(), 9 * D, "SOMETHING", ()),  # an unknown state is never good
        # late
        (record("OK", good=28 * H), Signs(), 9 * D, "LATE", ("missed",)),
        (record("OK", good=28 * H), Signs(running=True), 9 * D, "LATE", ("missed",)),
        (record("OK", good=28 * H), Signs(put_off="on_battery"), 9 * D, "LATE", ("missed", "on_battery")),
        (record("OK", good=3 * D), Signs(), 2 * H, "OK", ()),  # back after three days: it catches up first
        (record("OK", good=3 * D), Signs(), 2.5 * H, "LATE", ("missed",)),
        ({}, Signs(), 9 * D, "LATE", ("missed",)),
        ({}, Signs(), 2 * H, "WAITING", ()),
        # cut off by a power failure, and then under way again: the old record says nothing
        (record("OK"), Signs(cut_off=T - 5 * H), 9 * D, "FAILED", ("killed",)),
        (record("OK"), Signs(running=True), 9 * D, "WAITING", ()),
        # ended to be tried again every minute: a failure only when it comes to be late, or for another reason
        (record("FAILED", "on_battery"), Signs(put_off="on_battery"), 9 * D, "WAITING", ()),
        (record("FAILED", "on_battery", good=28 * H), Signs(put_off="on_battery"), 9 * D, "LATE", ("missed", "on_battery")),
        (record("FAILED", "nas_full"), Signs(put_off="on_battery"), 9 * D, "FAILED", ("nas_full",)),
        (record("FAILED", "on_battery"), Signs(), 9 * D, "FAILED", ("on_battery",)),
    ],
)  # fmt: skip
def test_how_a_job_is(found, signs, awake, state, codes):
    condition = condition_of(JOB, found, signs, T - 90 * D, T - awake, T)
    assert (condition.state, condition.codes) == (state, codes)


def test_a_job_without_a_deadline_is_never_late():
    assert condition_of({}, record("OK", good=90 * D), Signs(), T - 90 * D, T - 9 * D, T).state == "OK"


def test_since_when_and_what_is_left():
    late = condition_of(JOB, record("OK", good=28 * H), Signs(), T - 90 * D, T - 9 * D, T)
    assert (late.since, late.last_good) == (T - H, T - 28 * H)
    failed = condition_of(JOB, record("FAILED", "nas_full", ago=H, good=None), Signs(), T - 90 * D, T - 9 * D, T)
    assert (failed.since, failed.last_good) == (T - H, None)


def test_a_code_that_nobody_listed_is_told_by_name_and_never_by_its_message():
    words = agent_notice.words_for("server1", News("problem", "documents", Condition("FAILED", ("new_code",)), T))
    assert words.happened == ["the run gave a reason (new_code)"]
    assert "journalctl" in words.do[0]


@pytest.mark.parametrize("code", sorted(agent_notice.HAPPENED))
def test_every_word_is_plain_and_names_no_path(code):
    words = agent_notice.words_for("server1", News("problem", "documents", Condition("FAILED", (code,)), T))
    text = " ".join([*words.happened, *words.do])
    assert text.isascii()
    assert "/srv" not in text
    assert words.do


# --- a whole look -------------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    places = agent_host.Places(
        etc=tmp_path / "etc", state=tmp_path / "state", cache=tmp_path / "cache", run=tmp_path / "run",
        machine_id=tmp_path / "machine-id", boot_id=tmp_path / "boot-id",
    )  # fmt: skip
    places.boot_id.write_text("boot-2\n")
    for name in ("documents", "scans"):
        agent_host.write_json(places.job(name), JOB)
        agent_host.write_json(places.status(name), record("OK"))
    settings = {
        "practice": "harbour-street", "practice_name": "Harbour Street", "host": "server1", "timezone": "Australia/Sydney",
        "relay": "mail.example", "port": 587, "tls": "starttls", "sender": "holdfast@clinic.example",
        "to": ["manager@clinic.example", "help@it.example"], "user": "me", "ca": False,
    }  # fmt: skip
    agent_host.write_json(places.etc / "mail.json", settings)
    (places.etc / "credentials").mkdir()
    (places.etc / "credentials" / "mail-password").write_text("pass word\n")
    return places


@pytest.fixture
def mails(monkeypatch):
    found = []

    def send(settings, password, cafile, recipients, mail):
        assert (settings["user"], password, cafile) == ("me", "pass word", None)
        found.append((recipients, mail.decode()))
        return {}

    monkeypatch.setattr(mail_send, "send", send)
    return found


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = T

    monkeypatch.setattr(agent_notice.time, "time", lambda: Clock.now)
    return Clock


def test_a_failure_is_told_once_and_its_end_once(places, mails, clock):
    assert (agent.main(["watch"], places), mails) == (0, [])
    for name in ("documents", "scans"):
        agent_host.write_json(places.status(name), record("FAILED", "must_have_missing"))
    for _again in range(3):
        clock.now += 60
        assert agent.main(["watch"], places) == 0
    assert len(mails) == 1
    recipients, text = mails[0]
    assert recipients == ["manager@clinic.example", "help@it.example"]
    assert "Subject: [Holdfast] Harbour Street, server1: 2 in trouble" in text
    assert (NAME in text, "Jane" in text, "/srv" in text, "pass word" in text) == (False, False, False, False)
    agent_host.write_json(places.status("documents"), record("OK", ago=0, good=0))
    clock.now += 60
    for _again in range(2):
        assert agent.main(["watch"], places) == 0
    assert len(mails) == 2
    assert "backup of documents on server1 recovered" in mails[1][1]


def test_a_run_that_the_last_boot_took_is_told_and_not_called_well_while_the_next_one_runs(places, mails, clock):
    begun = {"facts": {"boot_id": "boot-1"}, "started": T - 600}
    agent_host.write_json(places.running("documents"), begun)
    assert agent.main(["watch"], places) == 0
    assert len(mails) == 1
    assert "(killed)" in mails[0][1]
    begun["facts"]["boot_id"] = "boot-2"
    agent_host.write_json(places.running("documents"), begun)
    clock.now += 60
    assert agent.main(["watch"], places) == 0
    assert len(mails) == 1
    places.running("documents").unlink()
    agent_host.write_json(places.status("documents"), record("OK", ago=0, good=0))
    clock.now += 60
    assert agent.main(["watch"], places) == 0
    assert len(mails) == 2


def test_mail_that_does_not_leave_is_an_error_and_stands_in_status(places, monkeypatch, clock, capsys):
    def send(*_what):
        raise mail_send.MailError("mail_login_refused", "mail.example:587 refuses the login")

    monkeypatch.setattr(mail_send, "send", send)
    agent_host.write_json(places.status("documents"), record("FAILED", "nas_full"))
    assert agent.main(["watch"], places) == 1
    assert "notice of 2024-10-04T00:00:00Z not sent, it is kept: mail_login_refused" in capsys.readouterr().out
    agent.main(["status"], places)
    assert "MAIL since 2024-10-04T00:00:00Z: mail_login_refused: mail.example:587 refuses the login (1 kept" in (
        capsys.readouterr().out
    )
    agent.main(["status", "--json"], places)
    assert {row["mail"]["code"] for row in json.loads(capsys.readouterr().out)} == {"mail_login_refused"}


@pytest.mark.parametrize("text", [None, "{"])
def test_without_settings_it_says_so(places, text, mails, capsys):
    (places.etc / "mail.json").unlink()
    if text:
        (places.etc / "mail.json").write_text(text)
    assert agent.main(["watch"], places) == agent_host.EXIT_INVALID
    assert "nobody can be told" in capsys.readouterr().out
    assert mails == []


def test_two_at_once(places, mails):
    post = notice.Post({}, places.state / "x", places.run / "notices.lock", places.etc, places.etc)
    with post.locked() as free:
        assert free
        assert agent.main(["watch"], places) == agent_host.EXIT_LOCKED
    assert mails == []
