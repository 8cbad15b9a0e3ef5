# SPDX-License-Identifier: Apache-2.0
"""What a machine that leaves still has, and what is said of it."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import backup_nas, power
from ansible_collections.holdfast.practice.plugins.modules import retired_host as module


@pytest.fixture
def etc(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "credentials").mkdir()
    (tmp_path / "nas.pem").write_text("PEM")
    (tmp_path / "credentials/rest-password").write_text("secret\n")
    job = {"repository": {"url": "rest:https://192.0.2.11:8000/desk1/", "username": "desk1"}}
    (tmp_path / "jobs/desk_files.json").write_text(json.dumps(job))
    return tmp_path


def test_the_login_is_tried_with_what_the_machine_has(etc, monkeypatch):
    asked = []
    monkeypatch.setattr(backup_nas, "knock", lambda *given: asked.append(given))
    assert module.login(etc) == "open"
    assert asked == [("rest:https://192.0.2.11:8000/desk1/", str(etc / "nas.pem"), "desk1", "secret")]


@pytest.mark.parametrize(
    ("code", "said"), [("rest_login_refused", "refused"), ("nas_unreachable", "nas_unreachable"), ("x", "x")]
)
def test_only_a_refused_login_is_called_refused(etc, monkeypatch, code, said):
    def knock(*_given):
        raise backup_nas.NasError(code, "no")

    monkeypatch.setattr(backup_nas, "knock", knock)
    assert module.login(etc) == said


@pytest.mark.parametrize("gone", ["jobs/desk_files.json", "credentials/rest-password", "nas.pem"])
def test_without_credentials_nothing_is_asked(etc, monkeypatch, gone):
    monkeypatch.setattr(backup_nas, "knock", lambda *_given: pytest.fail("it was asked"))
    (etc / gone).unlink()
    assert module.login(etc) == "not_asked"


def test_a_damaged_job_is_no_credential(etc):
    (etc / "jobs/desk_files.json").write_text("[]")
    assert module.login(etc) == "not_asked"


@pytest.mark.parametrize(
    ("name", "text", "is_ours"),
    [
        ("upsmon.conf", power.HEADER + "MONITOR x\n", True),
        ("upsd.users", power.HEADER, True),
        ("upsmon.conf", "MONITOR somebody-elses\n", False),
        ("other.conf", power.HEADER, False),
    ],
)
def test_nut_counts_only_when_we_configured_it(tmp_path, name, text, is_ours):
    (tmp_path / name).write_text(text)
    assert module.has_power(tmp_path) is is_ours
    assert module.has_power(tmp_path / "none") is False
