# SPDX-License-Identifier: Apache-2.0
"""The action that makes a recovery kit: when it makes one, what it leaves, and what it never shows."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleError
from ansible_collections.holdfast.practice.plugins.action import recovery_kit as action
from ansible_collections.holdfast.practice.plugins.plugin_utils import kit_seal, recovery_kit


@pytest.fixture
def own(make_practice, tmp_path):
    return make_practice(tmp_path / "harbour-street")


def run(practice, check_mode=False, **more):
    arguments = {
        "folder": str(practice.folder),
        "secrets": {n: practice.vault[n] for n in recovery_kit.SECRETS},
        **more,
    }
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=check_mode, action="recovery_kit")
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="unused"))
    module = action.ActionModule(task, connection, SimpleNamespace(), None, None, None)
    return module.run(task_vars={})


def kits(practice):
    return sorted(path.name for path in (practice.folder / "recovery").glob("*"))


def test_a_kit_is_made_once_and_kept_while_it_says_the_same(own):
    first = run(own)
    assert (first["changed"], first["why"]) == (True, "there is none yet")
    name = first["page"]["file"]
    assert kits(own) == [name, "latest.age", "state.json"]
    sealed = (own.folder / "recovery" / name).read_bytes()
    assert first["page"]["sha256"] == kit_seal.sha256(sealed)
    again = run(own)
    assert again["changed"] is False
    assert again["page"] == first["page"]
    assert (own.folder / "recovery" / name).read_bytes() == sealed


def test_what_it_leaves_is_for_its_owner_only_and_holds_no_secret_in_clear(own):
    result = run(own, facts={"server1": {"os": "Debian GNU/Linux 13 (trixie)"}})
    folder = own.folder / "recovery"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    text = json.dumps(result) + "".join(path.read_bytes().decode("latin-1") for path in folder.iterdir())
    assert "Debian GNU/Linux 13 (trixie)" in text
    assert [place for place, secret in own.telling().items() if secret in text] == []
    files = kit_seal.unseal((folder / "latest.age").read_bytes(), [own.owner], "kit")
    assert kit_seal.read_kit(files, "kit")["secrets"]["vault_tls_keys"] == own.vault["vault_tls_keys"]


def test_check_mode_says_what_would_be_made_and_makes_nothing(own):
    result = run(own, check_mode=True)
    assert result["changed"] is True
    assert kits(own) == []
    assert result["diff"]["before"] == ""
    assert "step 1: Storage: nas1" in result["diff"]["after"]
    assert [place for place, secret in own.telling().items() if secret in json.dumps(result)] == []


@pytest.mark.parametrize("spoil", ["remove", "damage"])
def test_a_kit_that_is_gone_or_damaged_is_made_anew(own, spoil):
    path = own.folder / "recovery" / run(own)["page"]["file"]
    if spoil == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = run(own)
    assert (result["changed"], result["why"]) == (True, f"{path.name} is gone or damaged")
    assert run(own)["changed"] is False


def test_a_host_that_does_not_answer_keeps_what_it_said_for_the_last_kit(own):
    told = {"server1": {"engines": {"clinical_db": "postgresql 17.12"}, "programs": [], "repository_id": "ab" * 32}}
    assert run(own, facts=told)["changed"] is True
    silent = run(own, facts={})
    assert silent["changed"] is False
    newer = {"server1": {**told["server1"], "engines": {"clinical_db": "postgresql 18.1"}}}
    result = run(own, facts=newer)
    assert (result["changed"], result["why"]) == (True, "its content changed")
    assert {item["item"]: item["engine"] for item in result["page"]["items"]}["clinical_db"] == "postgresql 18.1"


def test_ready_looks_and_makes_nothing(own):
    assert run(own, state="ready") == {"changed": False, "readers": ["Robin Example"]}
    assert kits(own) == []


def test_a_refusal_says_what_to_do(own):
    lines = (own.folder / "practice.yml").read_text().replace(f", recipient: {own.owner.to_public()}", "")
    (own.folder / "practice.yml").write_text(lines)
    result = run(own, state="ready")
    assert result["failed"]
    assert "contacts.backup_owner.recipient" in result["msg"]
    assert kits(own) == []


def test_a_secret_of_the_wrong_kind_is_refused_without_showing_it(own):
    wrong = {**own.vault, "vault_tls_keys": "a-secret-that-must-not-show"}
    with pytest.raises(AnsibleError) as refused:
        run(own, secrets={name: wrong[name] for name in recovery_kit.SECRETS})
    assert "vault_tls_keys" in str(refused.value)
    assert "a-secret-that-must-not-show" not in str(refused.value)


@pytest.mark.parametrize(
    ("files", "commit"),
    [
        ({"HEAD": "ref: refs/heads/main\n", "refs/heads/main": "ab" * 20 + "\n"}, "ab" * 20),
        ({"HEAD": "ref: refs/heads/main\n", "packed-refs": f"# pack-refs\n{'cd' * 20} refs/heads/main\n"}, "cd" * 20),
        ({"HEAD": "ef" * 20 + "\n"}, "ef" * 20),
        ({"HEAD": "ref: refs/heads/main\n"}, ""),
        ({}, ""),
    ],
)
def test_the_commit_is_read_from_the_checkouts_files(tmp_path, files, commit):
    for name, text in files.items():
        path = tmp_path / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert action.commit(tmp_path) == commit
