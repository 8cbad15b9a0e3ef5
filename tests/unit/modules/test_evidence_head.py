# SPDX-License-Identifier: Apache-2.0
"""Published heads: appended and never replaced, another history refused, the clock of the other machine read."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.modules import evidence_head as module
from ansible_collections.holdfast.practice.plugins.modules import evidence_mail

FILE = "kept/heads-p-aaaaaaaaaaaa.txt"
SETTINGS = {
    "relay": "mail",
    "port": 587,
    "tls": "starttls",
    "sender": "h@x.example",
    "to": ["m@x.example"],
    "practice_name": "P",
}


def head(seq: int, letter: str = "a", practice: str = "p") -> str:
    return f"holdfast-head {practice} {seq} {letter * 64} 2026-11-21T20:30:0{seq}Z"


def run(capsys, tmp_path, **args):
    asked = {"folder": str(tmp_path / "kept"), "practice": "p", **args}
    with patch_module_args(asked), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


def text(tmp_path) -> str:
    return (tmp_path / FILE).read_text()


def test_only_what_is_missing_is_appended(capsys, tmp_path):
    first = run(capsys, tmp_path, heads=[head(1), head(2)])
    assert (first["changed"], first["added"], first["published"]) == (True, 2, 2)
    again = run(capsys, tmp_path, heads=[head(1), head(2)])
    assert (again["changed"], again["added"]) == (False, 0)
    # two records were made while this machine was off
    run(capsys, tmp_path, heads=[head(n) for n in range(1, 5)])
    assert text(tmp_path) == "".join(head(n) + "\n" for n in range(1, 5))


def test_what_else_is_in_the_file_stays_and_another_practice_is_not_compared(capsys, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / FILE).write_text(f"kept by Robin\n{head(1, 'b', 'other')}\n{head(1)[:50]}")
    assert run(capsys, tmp_path, heads=[head(1)])["added"] == 1
    assert text(tmp_path) == f"kept by Robin\n{head(1, 'b', 'other')}\n{head(1)[:50]}\n{head(1)}\n"


@pytest.mark.parametrize(
    ("heads", "word"),
    [([head(1), head(2, "b")], "record 2 was published as aaaa"), ([head(1)], "and is not there in this ledger")],
    ids=["written anew", "cut off"],
)
def test_another_history_is_refused_and_nothing_is_put_over_it(capsys, tmp_path, heads, word):
    run(capsys, tmp_path, heads=[head(1), head(2)])
    before = text(tmp_path)
    result = run(capsys, tmp_path, heads=[*heads, head(3, "c")])
    assert result["failed"]
    assert word in result["msg"]
    assert "Nothing was published" in result["msg"]
    assert text(tmp_path) == before


def test_a_ledger_that_was_begun_anew_is_published_beside_the_other_and_told(capsys, tmp_path):
    assert run(capsys, tmp_path, heads=[head(1)])["others"] == 0
    result = run(capsys, tmp_path, heads=[head(1, "b"), head(2, "b")])
    assert (result["added"], result["others"]) == (2, 1)
    assert text(tmp_path) == head(1) + "\n"


def test_check_mode_says_what_it_would_append(capsys, tmp_path):
    result = run(capsys, tmp_path, heads=[head(1)], _ansible_check_mode=True)
    assert (result["changed"], result["added"], result["diff"]["after"]) == (True, 1, head(1) + "\n")
    assert not (tmp_path / "kept").exists()


def test_a_place_that_is_not_mounted_takes_nothing(capsys, tmp_path):
    result = run(capsys, tmp_path, heads=[head(1)], mountpoint=str(tmp_path))
    assert "nothing is mounted there" in result["msg"]
    assert not (tmp_path / "kept").exists()


def test_a_machine_of_another_practice_takes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(module.stamp.check, "__defaults__", (str(tmp_path / "practice.json"),))
    (tmp_path / "practice.json").write_text('{"host": "nas1", "practice": "other"}')
    result = run(capsys, tmp_path, heads=[head(1)], host="nas1")
    assert 'this machine is "nas1" of practice "other"' in result["msg"]
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("off", [0, 7200, -7200])
def test_the_clock_is_compared_with_the_one_that_asks(capsys, tmp_path, off):
    asked = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=off)
    result = run(capsys, tmp_path, state="read", asked_at=asked.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    assert abs(result["clock"]["skew_s"] - off) < 5
    assert not (tmp_path / "kept").exists()
    assert "expected a time in UTC" in run(capsys, tmp_path, state="read", asked_at="yesterday")["msg"]


def test_the_mail_holds_heads_that_the_verifier_reads(capsys, monkeypatch):
    from ansible_collections.holdfast.practice.plugins.module_utils.evidence import parse_heads

    sent = []
    monkeypatch.setattr(evidence_mail, "send", lambda settings, password, ca, to, mail: sent.append((to, mail)) or {})
    settings = {
        "relay": "mail",
        "port": 587,
        "tls": "starttls",
        "sender": "h@x.example",
        "to": ["m@x.example"],
        "practice_name": "Ärzte",
    }
    asked = {"practice": "p", "settings": settings, "heads": [head(n) for n in range(1, 10)] * 2}
    with patch_module_args(asked), pytest.raises(SystemExit):
        evidence_mail.main()
    assert json.loads(capsys.readouterr().out)["published"] == 9
    to, mail = sent[0]
    assert to == ["m@x.example"]
    assert b"=\r\n" in mail, "expected a mail whose long lines are broken"
    assert {found.seq for found in parse_heads(mail.decode(), "p")} == set(range(1, 10))


def test_a_mail_server_that_refuses_is_red(capsys, monkeypatch):
    def refuse(*_args):
        raise evidence_mail.MailError("mail_unreachable", "mail:587 does not answer as a mail server (x)")

    monkeypatch.setattr(evidence_mail, "send", refuse)
    settings = {
        "relay": "mail",
        "port": 587,
        "tls": "tls",
        "sender": "h@x.example",
        "to": ["m@x.example"],
        "practice_name": "P",
    }
    with patch_module_args({"practice": "p", "settings": settings, "heads": [head(1)]}), pytest.raises(SystemExit):
        evidence_mail.main()
    assert "does not answer" in json.loads(capsys.readouterr().out)["msg"]
