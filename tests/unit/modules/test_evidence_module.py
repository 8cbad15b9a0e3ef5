# SPDX-License-Identifier: Apache-2.0
"""The evidence module: what it returns, refuses and leaves alone."""

from __future__ import annotations

import json
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.modules import evidence as module


@pytest.fixture
def key(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "k", "-f", str(tmp_path / "k")], check=True)
    (tmp_path / "signers").write_text("p " + (tmp_path / "k.pub").read_text())
    return (tmp_path / "k").read_text()


def run(capsys, tmp_path, **args):
    with patch_module_args({"folder": str(tmp_path / "evidence"), "practice": "p", **args}), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


def proof(key, tmp_path, **more):
    body = {"verdict": "PASS", "items": [{"host": "server1", "job": "documents", "snapshots": {"oracle": "aa"}}]}
    return {"kind": "proof", "body": body, "key": key, "signers": str(tmp_path / "signers"), **more}


def test_it_appends_and_reads_back(capsys, tmp_path, key):
    first = run(capsys, tmp_path, **proof(key, tmp_path))
    assert (first["changed"], first["seq"], first["verdict"], first["gap"]) == (True, 1, "PASS", False)
    second = run(capsys, tmp_path, **proof(key, tmp_path))
    assert second["seq"] == 2
    known = run(capsys, tmp_path, state="read")
    assert (known["changed"], known["seq"], known["hash"]) == (False, 2, second["hash"])
    assert known["known"] == {"server1/documents": ["aa"]}
    assert "PRIVATE KEY" not in json.dumps([first, second])


def test_check_mode_shows_the_record_and_writes_nothing(capsys, tmp_path, key):
    result = run(capsys, tmp_path, **proof(key, tmp_path), _ansible_check_mode=True, _ansible_diff=True)
    assert (result["changed"], result["seq"], result["hash"]) == (True, 1, "")
    assert '"verdict":"PASS"' in result["diff"]["after"]
    assert not (tmp_path / "evidence").exists()


def test_an_empty_ledger_reads_as_nothing_known(capsys, tmp_path):
    assert run(capsys, tmp_path, state="read")["known"] == {}


def test_a_key_that_is_not_pinned_is_refused(capsys, tmp_path, key):
    (tmp_path / "signers").write_text("# none\n")
    result = run(capsys, tmp_path, **proof(key, tmp_path))
    assert result["failed"]
    assert "is not pinned" in result["msg"]
    assert not (tmp_path / "evidence").exists()


def test_the_ledger_of_another_practice_is_refused(capsys, tmp_path, key):
    run(capsys, tmp_path, **proof(key, tmp_path))
    assert "refusing one of practice q" in run(capsys, tmp_path, **proof(key, tmp_path), practice="q")["msg"]


def test_appending_needs_a_key(capsys, tmp_path):
    assert "key" in run(capsys, tmp_path, kind="proof", body={})["msg"]


def test_a_folder_that_cannot_be_made_is_a_plain_message(capsys, tmp_path, key):
    (tmp_path / "evidence").write_text("a file")
    result = run(capsys, tmp_path, **proof(key, tmp_path))
    assert result["failed"]
    assert "not written" in result["msg"]


def test_it_knows_what_became_of_hosts_that_left(capsys, tmp_path, key):
    common = {"key": key, "signers": str(tmp_path / "signers")}
    for kind, host, machine in [("retirement", "desk1", "no"), ("retirement", "desk1", "yes"), ("deletion", "old", "")]:
        run(capsys, tmp_path, kind=kind, body={"host": host, "machine": machine}, **common)
    about = run(capsys, tmp_path, state="read")["about"]
    assert {name: (found["seq"], found["body"]["machine"]) for name, found in about.items()} == {
        "retirement/desk1": (2, "yes"),
        "deletion/old": (3, ""),
    }
