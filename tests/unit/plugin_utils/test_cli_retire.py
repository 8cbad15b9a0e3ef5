# SPDX-License-Identifier: Apache-2.0
"""bin/holdfast retire and forget on a folder: shown first, done when confirmed, begun again after an interruption."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from ansible_collections.holdfast.practice.plugins.module_utils.evidence import Ledger, SigningKey
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, cli, secrets

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A practice's folder with its secrets."""
    folder = tmp_path_factory.mktemp("made") / "harbour-street"
    folder.mkdir()
    shutil.copy(REPOSITORY / "inventories/harbour-street/practice.yml", folder)
    secrets.apply(folder, check.load(folder / "practice.yml")[0], None, create_password=True)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "harbour-street"))


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def holdfast(capsys):
    """Run a command as bin/holdfast does; pytest's standard input is no terminal."""

    def run(*arguments):
        code = cli.main([str(each) for each in arguments], REPOSITORY)
        return Done(code, *capsys.readouterr())

    return run


def vault(folder):
    return secrets.open_vault(folder, "harbour-street", None)[1]


def content(folder):
    return {p: (p.read_bytes(), p.stat().st_mode) for p in sorted(folder.rglob("*")) if p.is_file()}


def record(folder, kind, host):
    key = SigningKey(vault(folder)["vault_evidence_key"])
    Ledger(str(folder / "evidence")).append("harbour-street", kind, {"host": host}, key)


def test_it_shows_everything_and_does_nothing_until_it_is_confirmed(holdfast, folder):
    before, known = content(folder), vault(folder)
    done = holdfast("retire", folder, "desk1")
    assert done.returncode == 2, done.stderr
    assert content(folder) == before
    for said in (
        "-  desk1: {kind: workstation",
        "+  desk1: {date: ",
        "desk_files goes with it",
        "the vault loses vault_rest_passwords[desk1]",
        "the vault loses vault_nut_passwords[desk1]",
        "the vault keeps vault_repository_passwords[desk1]",
        "Nothing was changed. To do this, add: --confirm desk1",
    ):
        assert said in done.stdout, said
    wrong = holdfast("retire", folder, "desk1", "--confirm", "desk2")
    assert (wrong.returncode, content(folder) == before) == (2, True)
    assert not [name for name, value in flat(known) if value in done.stdout + done.stderr]


def flat(known):
    return [(f"{k}.{n}", v) for k, entry in known.items() if isinstance(entry, dict) for n, v in entry.items()]


def test_logins_go_the_password_of_the_backups_stays_and_once_more_changes_nothing(holdfast, folder):
    was = vault(folder)
    mode = (folder / "practice.yml").stat().st_mode
    done = holdfast("retire", folder, "desk1", "--confirm", "desk1", "--keep-until", "2099-12-31")
    assert done.returncode == 0, done.stderr
    assert "playbooks/retire_host.yml -e host=desk1 -e confirm=desk1" in done.stdout
    left = vault(folder)
    assert list(left["vault_rest_passwords"]) == ["server1"]
    assert list(left["vault_nut_passwords"]) == ["nas1", "server1", "drill"]
    assert left["vault_repository_passwords"] == was["vault_repository_passwords"]
    assert left["vault_evidence_key"] == was["vault_evidence_key"]
    practice = check.load(folder / "practice.yml")[0]
    assert practice.retired["desk1"].keep_until == "2099-12-31"
    assert (folder / "practice.yml").stat().st_mode == mode
    after = content(folder)
    again = holdfast("retire", folder, "desk1", "--confirm", "desk1")
    assert (again.returncode, content(folder) == after) == (0, True)
    assert "nothing to change here" in again.stdout
    # the secrets command does not bring the logins back
    assert secrets.apply(folder, practice, None, create_password=False) == []


def test_an_interrupted_run_is_finished_by_the_next(holdfast, folder):
    document = (folder / "practice.yml").read_bytes()
    holdfast("retire", folder, "desk1", "--confirm", "desk1")
    retired = (folder / "practice.yml").read_bytes()
    # as if it had been killed between document and vault: the old vault with the new document
    (folder / "practice.yml").write_bytes(document)
    secrets.apply(folder, check.load(folder / "practice.yml")[0], None, create_password=False)
    (folder / "practice.yml").write_bytes(retired)
    assert "desk1" in vault(folder)["vault_rest_passwords"]
    done = holdfast("retire", folder, "desk1", "--confirm", "desk1")
    assert done.returncode == 0, done.stderr
    assert "desk1" not in vault(folder)["vault_rest_passwords"]
    assert (folder / "practice.yml").read_bytes() == retired


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nas1",), "nas1 is a nas and holds the backups"),
        (("desk9",), "no host is named 'desk9'"),
        (("desk1", "--keep-until", "tomorrow"), 'expected a date such as "2033-11-30"'),
        (("desk1", "--vault-password-file", "/none"), "/none: there is no vault password"),
    ],
)
def test_refusals_are_one_sentence_and_change_nothing(holdfast, folder, arguments, said):
    before = content(folder)
    done = holdfast("retire", folder, *arguments, "--confirm", arguments[0])
    assert done.returncode == 3
    assert said in done.stderr
    assert content(folder) == before


def test_a_wrong_vault_password_is_noticed_before_the_document_changes(holdfast, folder):
    (folder / ".vault-password").write_text("another-one-of-twenty-characters\n")
    before = content(folder)
    done = holdfast("retire", folder, "desk1", "--confirm", "desk1")
    assert (done.returncode, content(folder) == before) == (3, True)
    assert "cannot be decrypted" in done.stderr


def test_nothing_is_forgotten_before_its_deletion_is_on_record(holdfast, folder):
    in_use = holdfast("forget", folder, "desk1", "--confirm", "desk1")
    assert (in_use.returncode, "desk1 is in use" in in_use.stderr) == (3, True)
    holdfast("retire", folder, "desk1", "--confirm", "desk1")
    before = content(folder)
    kept = holdfast("forget", folder, "desk1", "--confirm", "desk1")
    assert kept.returncode == 3
    assert "still kept (there is no record of their deletion)" in kept.stderr
    assert "confirm=delete-desk1-of-harbour-street" in kept.stderr
    assert content(folder) == before
    record(folder, "deletion", "desk1")  # of an earlier machine of that name
    record(folder, "retirement", "desk1")
    assert holdfast("forget", folder, "desk1", "--confirm", "desk1").returncode == 3
    record(folder, "deletion", "desk2")
    assert holdfast("forget", folder, "desk1", "--confirm", "desk1").returncode == 3
    record(folder, "deletion", "desk1")
    asked = holdfast("forget", folder, "desk1")
    assert (asked.returncode, "To do this, add: --confirm desk1" in asked.stdout) == (2, True)
    done = holdfast("forget", folder, "desk1", "--confirm", "desk1")
    assert done.returncode == 0, done.stderr
    assert "desk1" not in (folder / "practice.yml").read_text()
    assert list(vault(folder)["vault_repository_passwords"]) == ["server1"]
    again = holdfast("forget", folder, "desk1")
    assert (again.returncode, "nothing to change" in again.stdout) == (0, True)


def test_a_ledger_that_does_not_hold_is_no_proof_of_a_deletion(holdfast, folder):
    holdfast("retire", folder, "desk1", "--confirm", "desk1")
    record(folder, "deletion", "desk2")
    ledger = folder / "evidence/ledger.jsonl"
    ledger.write_text(ledger.read_text().replace("desk2", "desk1"))
    done = holdfast("forget", folder, "desk1", "--confirm", "desk1")
    assert done.returncode == 3
    assert "the evidence does not hold" in done.stderr
    assert "desk1" in vault(folder)["vault_repository_passwords"]


def test_the_document_is_a_file_that_others_can_read_as_before(holdfast, folder):
    (folder / "practice.yml").rename(folder / "kept-elsewhere.yml")
    (folder / "practice.yml").symlink_to("kept-elsewhere.yml")
    assert holdfast("retire", folder, "desk1", "--confirm", "desk1").returncode == 0
    assert (folder / "practice.yml").is_symlink()
    assert yaml.safe_load((folder / "kept-elsewhere.yml").read_text())["retired"]["desk1"]
