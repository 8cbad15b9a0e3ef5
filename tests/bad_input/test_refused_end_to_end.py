# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  (the tables read across)
"""A wrong document stops bin/holdfast and Ansible before any host is spoken to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "inventories" / "harbour-street" / "practice.yml"
HOLDFAST = REPOSITORY / "bin" / "holdfast"

WRONG = {
    "misspelt key": ("retention: ", "retenton: ", "retenton", 'unknown key "retenton"', 'did you mean "retention"?'),
    "unquoted time": ('at: "21:00"', "at: 22:00", "protect.documents.at", "got 1320 (integer)", 'write "22:00" in quotes'),
    "unknown engine": ("engine: postgresql", "engine: postgress", "protect.clinical_db.database.engine", '"postgress"', 'did you mean "postgresql"?'),
    "missing UPS primary": ("attached_to: nas1, ", "", "power.ups1.attached_to", "missing", "the primary"),
    "template": ("address: 198.18.0.12", 'address: "{{ server }}"', "hosts.server1.address", "got a template", "not templated"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a practice").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "a practice" / "practice.yml")
    return tmp_path / "a practice"


@pytest.fixture
def ssh_calls(tmp_path, monkeypatch):
    """Put a command ssh first on the PATH that only writes down that it was called."""
    log = tmp_path / "ssh-calls"
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "ssh"
    fake.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\nexit 255\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    return lambda: log.read_text().splitlines() if log.exists() else []


def break_document(folder, name):
    old, new, path, *fragments = WRONG[name]
    document = folder / "practice.yml"
    text = document.read_text()
    assert old in text
    line = text.count("\n", 0, text.index(old)) + 1
    document.write_text(text.replace(old, new, 1))
    return document, line, path, fragments


def run(*command, cwd, **extra):
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **extra}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ansible(command, folder, *arguments):
    return run(Path(sys.executable).parent / command, "-i", folder, *arguments, cwd=folder.parent)


@pytest.mark.parametrize("name", WRONG)
def test_validate_says_the_one_mistake_and_ends_with_3(folder, name):
    document, line, path, fragments = break_document(folder, name)
    result = run(sys.executable, HOLDFAST, "validate", folder, cwd="/")
    assert result.returncode == 3
    errors = result.stdout.splitlines()
    assert len(errors) == 2
    # a missing key is named at the mapping that lacks it, which may begin on an earlier line
    assert errors[0].startswith(f"{document}:{line}: {path}: ")
    assert all(fragment in errors[0] for fragment in fragments)
    assert errors[1] == "1 mistake found; nothing was touched"
    assert result.stderr == ""


@pytest.mark.parametrize("name", WRONG)
def test_ansible_inventory_refuses(folder, name):
    _, line, path, fragments = break_document(folder, name)
    result = ansible("ansible-inventory", folder, "--list")
    said = re.sub(r"\s+", " ", result.stderr)
    assert result.returncode != 0
    assert f"practice.yml:{line}: {path}: " in said
    assert all(fragment in said for fragment in fragments)
    assert "Traceback" not in result.stderr
    assert "hostvars" not in result.stdout


PLAYBOOK = """\
- name: Speak to all hosts
  hosts: all:!restore_hosts
  gather_facts: false
  tasks:
    - name: Ping
      ansible.builtin.ping:
"""


@pytest.mark.parametrize("name", ["template", "missing UPS primary"])
def test_ansible_playbook_refuses_without_speaking_to_a_host(folder, ssh_calls, name):
    break_document(folder, name)
    (folder.parent / "play.yml").write_text(PLAYBOOK)
    result = ansible("ansible-playbook", folder, folder.parent / "play.yml")
    assert result.returncode != 0
    assert "PLAY [" not in result.stdout
    assert ssh_calls() == []


def test_a_good_document_does_reach_ssh(folder, ssh_calls):
    """So that the silence in the tests above means something."""
    (folder.parent / "play.yml").write_text(PLAYBOOK)
    result = ansible("ansible-playbook", folder, folder.parent / "play.yml")
    assert result.returncode != 0  # the ssh in the way connects to nobody
    assert {word for call in ssh_calls() for word in call.split()} >= {"198.18.0.11", "198.18.0.12", "198.18.0.13"}
    assert all("StrictHostKeyChecking=yes" in call and "a practice/known_hosts" in call for call in ssh_calls())


def test_a_folder_without_document_is_refused_by_ansible(tmp_path):
    (tmp_path / "hosts.yml").write_text("all: {hosts: {server1: {}}}\n")
    result = ansible("ansible-inventory", tmp_path, "--list")
    assert result.returncode != 0


def test_validate_accepts_files_and_folders_of_practices_from_anywhere(folder):
    other = folder.parent / "other"
    other.mkdir()
    text = (folder / "practice.yml").read_text().replace("id: harbour-street", "id: other")
    text = re.sub(r"\b(nas1|server1|desk1|proof1)\b", r"other-\1", text).replace("198.18.0.", "198.18.1.")
    (other / "practice.yml").write_text(text)
    for paths in ([folder], [folder / "practice.yml"], [folder.parent], [folder, other]):
        result = run(sys.executable, HOLDFAST, "validate", *paths, cwd="/")
        assert (result.returncode, result.stderr) == (0, "")
        assert "ok: harbour-street: 4 hosts, 8 items" in result.stdout


def test_validate_refuses_two_practices_with_one_id(folder):
    shutil.copytree(folder, folder.parent / "copy")
    result = run(sys.executable, HOLDFAST, "validate", folder.parent, cwd="/")
    assert result.returncode == 3
    assert 'practice.id: got "harbour-street" (string), also practice.id in' in result.stdout


@pytest.mark.parametrize("path", ["nothing-here", "."])
def test_validate_of_nothing_is_refused(tmp_path, path):
    result = run(sys.executable, HOLDFAST, "validate", path, cwd=tmp_path)
    assert result.returncode == 3
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize("arguments", [[], ["validate"], ["nonsense"], ["secrets"], ["verify-evidence", "x"]])
def test_a_wrong_command_line_ends_with_3(arguments, tmp_path):
    result = run(sys.executable, HOLDFAST, *arguments, cwd=tmp_path)
    assert result.returncode == 3
    assert "Traceback" not in result.stderr


def test_help_and_version_are_for_people(tmp_path):
    shown = run(sys.executable, HOLDFAST, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("validate", "secrets", "verify-evidence", "exit codes"))
    assert re.fullmatch(r"holdfast \d+\.\d+\.\d+\n", run(sys.executable, HOLDFAST, "--version", cwd=tmp_path).stdout)


def copy_of_holdfast(tmp_path):
    copy = tmp_path / "copy"
    (copy / "bin").mkdir(parents=True)
    shutil.copy(HOLDFAST, copy / "bin" / "holdfast")
    shutil.copy(REPOSITORY / "galaxy.yml", copy / "galaxy.yml")
    return copy


def bare_python():
    """This Python without the virtualenv's packages."""
    return [Path(sys._base_executable), "-S", "-E"]


def test_without_its_packages_it_says_what_to_run(tmp_path, folder):
    copy = copy_of_holdfast(tmp_path)
    result = run(*bare_python(), copy / "bin" / "holdfast", "validate", folder, cwd="/")
    assert result.returncode == 3
    assert result.stdout == ""
    assert re.fullmatch(r"holdfast: the Python package \w+ is missing; run: make setup\n", result.stderr)


def test_without_its_packages_it_goes_over_to_the_virtualenv(tmp_path, folder):
    copy = copy_of_holdfast(tmp_path)
    (copy / ".venv" / "bin").mkdir(parents=True)
    python = copy / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\nshift; echo "virtualenv: $*"\n')
    python.chmod(0o755)
    result = run(*bare_python(), copy / "bin" / "holdfast", "validate", folder, cwd="/")
    assert (result.returncode, result.stdout) == (0, f"virtualenv: validate {folder}\n")


def test_evidence_is_verified_without_any_package(tmp_path):
    copy = copy_of_holdfast(tmp_path)
    (copy / "plugins" / "module_utils").mkdir(parents=True)
    verifier = copy / "plugins" / "module_utils" / "evidence.py"
    verifier.write_text("def main(arguments, program):\n    print(program, *arguments)\n    return 1\n")
    result = run(
        *bare_python(), copy / "bin" / "holdfast", "verify-evidence", "F", "--signers", "S", "--head", "H", cwd="/"
    )
    assert (result.returncode, result.stdout) == (1, "holdfast verify-evidence F --signers S --head H\n")
    verifier.unlink()
    result = run(*bare_python(), copy / "bin" / "holdfast", "verify-evidence", "F", "--signers", "S", cwd="/")
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
