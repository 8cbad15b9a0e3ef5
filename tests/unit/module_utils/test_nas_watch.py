# SPDX-License-Identifier: Apache-2.0
"""The watch on the NAS: arrivals decide, and nothing that a client says."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    mail_send,
    nas_watch,
    nas_watch_host,
    notice,
    notice_host,
)
from ansible_collections.holdfast.practice.plugins.module_utils.nas_watch import condition_of, newest

H, D = 3600.0, 86400.0
T = 20_000 * D
ONE, TWO = "a" * 64, "b" * 64
MAIL = {
    "practice_name": "Harbour Street", "relay": "mail.example", "port": 587, "tls": "starttls",
    "sender": "holdfast@clinic.example", "to": ["manager@clinic.example"], "user": None, "ca": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("arrivals", "last"),
    [({}, None), ({ONE: T - D, TWO: T - H}, T - H), ({ONE: T - D, TWO: T + D}, T - D), ({ONE: T + D}, None)],
)
def test_the_newest_arrival_is_not_ahead_of_the_clock(arrivals, last):
    assert newest(arrivals, T) == last


@pytest.mark.parametrize(
    ("last", "seen", "awake", "state"),
    [
        (T - 26 * H, T - 9 * D, T - 9 * D, "OK"),
        (T - 28 * H, T - 9 * D, T - 9 * D, "SILENT"),
        (None, T - 28 * H, T - 9 * D, "SILENT"),
        (None, T - 26 * H, T - 9 * D, "OK"),
        (T - 90 * D, T - 26 * H, T - 9 * D, "OK"),  # its account is back: it gets its time
        (T - 3 * D, T - 9 * D, T - 26 * H, "OK"),  # the NAS itself was off: nobody could send anything
        (T - 3 * D, T - 9 * D, T - 28 * H, "SILENT"),
    ],
)
def test_silence(last, seen, awake, state):
    assert condition_of(last, seen, awake, 27 * H, T).state == state


@pytest.fixture
def places(tmp_path, monkeypatch):
    root = tmp_path / "pool"
    (root / "repositories" / "server1" / "snapshots").mkdir(parents=True)
    monkeypatch.setattr(nas_watch.os.path, "ismount", lambda path: os.fspath(path) == str(root) and root.is_dir())
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    places = nas_watch.NasPlaces(etc=tmp_path / "etc", state=tmp_path / "state", run=tmp_path / "run")
    places.etc.mkdir()
    settings = notice_host.settings(MAIL, "harbour-street", "nas1", "Australia/Sydney")
    (places.etc / "mail.json").write_text(json.dumps(settings))
    task = {"folder": str(root / "repositories"), "hosts": {"server1": 27 * H}}
    (places.etc / "watch.json").write_text(json.dumps(task))
    return places


def arrive(places, name, at):
    file = places.etc.parent / "pool" / "repositories" / "server1" / "snapshots" / name
    file.write_text("x")
    os.utime(file, (at, at))


def test_silent_once_and_back_once(places, monkeypatch):
    mails, now = [], [T - 9 * D]
    monkeypatch.setattr(mail_send, "send", lambda *what: mails.append(what[4].decode()) or {})
    monkeypatch.setattr(nas_watch.time, "time", lambda: now[0])
    arrive(places, ONE, T - 9 * D)

    def look_until(end):
        while now[0] < end:
            now[0] += 900
            assert nas_watch.watch(places) == 0

    look_until(T - 9 * D + 26 * H)
    assert mails == []
    look_until(T - 9 * D + 30 * H)
    assert len(mails) == 1
    assert "Subject: [Holdfast] Harbour Street: server1, seen from nas1, SILENT" in mails[0]
    look_until(T - 9 * D + 50 * H)
    assert len(mails) == 1
    arrive(places, TWO, now[0])
    look_until(now[0] + 2 * H)
    assert len(mails) == 2
    assert "recovered" in mails[1]


def test_a_pool_that_is_gone_is_told_and_calls_no_host_silent(places, monkeypatch):
    mails, now = [], [T]
    monkeypatch.setattr(mail_send, "send", lambda *what: mails.append(what[4].decode()) or {})
    monkeypatch.setattr(nas_watch.time, "time", lambda: now[0])
    pool = places.etc.parent / "pool"
    pool.rename(places.etc.parent / "gone")
    for _look in range(200):
        now[0] += 600
        assert nas_watch.watch(places) == 0
    assert len(mails) == 2  # one, and one reminder
    assert "Subject: [Holdfast] Harbour Street: repositories on nas1 MISSING" in mails[0]
    assert "server1" not in "".join(mails)


def test_settings_that_are_missing_are_said(places, capsys):
    (places.etc / "watch.json").unlink()
    assert nas_watch.watch(places) == 3
    assert "nobody can be told" in capsys.readouterr().out


# --- what it leaves on a NAS --------------------------------------------------------------------------------------------


def wanted(hosts=({"name": "server1", "silent_after_s": 5},), mail=MAIL, password=None):
    return nas_watch_host.wanted("p", "nas1", "UTC", "/srv/holdfast", list(hosts), mail, password, {"notice.py": "x"})


def test_what_is_put_there_goes_again():
    there, gone = wanted(), nas_watch_host.unwanted(["notice.py"])
    kept = {"/etc/holdfast/practice.json"}
    assert {f.path for f in there.files} - kept <= {f.path for f in gone.files if f.content is None}
    assert {d.path for d in there.dirs} - {"/etc/holdfast"} <= {d.path for d in gone.dirs if d.absent}
    assert {u.name for u in there.units} <= {u.name for u in gone.units if u.active is False}


def test_the_password_is_in_one_secret_file():
    want = wanted(mail={**MAIL, "user": "me"}, password="s3cret")
    holders = [f for f in want.files if b"s3cret" in (f.content or b"")]
    assert [(f.path, f.mode, f.secret) for f in holders] == [("/etc/holdfast-nas-watch/mail-password", 0o600, True)]


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"to": []}, "nobody would be told"),
        ({"to": ["reception"]}, "'reception': expected NAME@DOMAIN"),
        ({"sender": "a b@c.example"}, "expected NAME@DOMAIN"),
        ({"relay": ""}, "mail.relay '': expected one line of text"),
        ({"practice_name": "a\nBcc: x@y.example"}, "expected one line of text"),
        ({"port": 0}, "expected a port"),
        ({"user": "me"}, "put the password that the mail provider gave into the vault as vault_mail_password"),
    ],
)
def test_settings_that_are_refused(edits, said):
    with pytest.raises(notice_host.NoticeError, match=".*") as refused:
        wanted(mail={**MAIL, **edits})
    assert said in str(refused.value)


def test_hosts_that_are_refused():
    with pytest.raises(notice_host.NoticeError, match="named twice"):
        wanted(hosts=[{"name": "a", "silent_after_s": 5}] * 2)
    with pytest.raises(notice_host.NoticeError, match="more than 0"):
        wanted(hosts=[{"name": "a", "silent_after_s": 0}])


def test_it_may_read_and_nothing_else():
    text = next(f.content.decode() for f in wanted().files if f.path.endswith(".service"))
    for line in (
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
        "ProtectSystem=strict",
        "StateDirectory=holdfast-nas-watch",
    ):
        assert line in text.splitlines()
    assert "ReadWritePaths" not in text
    assert "LoadCredential" not in text
    assert (
        notice.GAP_S > 2 * 900
    )  # two looks of the timer may fail before anybody takes the machine for one that was off
