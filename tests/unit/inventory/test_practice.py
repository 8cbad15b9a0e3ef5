# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible_collections.holdfast.practice.plugins.inventory import practice as plugin
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, folder, secrets

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "inventories" / "harbour-street" / "practice.yml"


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "Dr O'B & Söhne"
    path.mkdir()
    shutil.copy(EXAMPLE, path / "practice.yml")
    return path


def parsed(document):
    inventory = InventoryData()
    plugin.InventoryModule().parse(inventory, DataLoader(), str(document), cache=False)
    return inventory


@pytest.mark.parametrize(("name", "wanted"), [("practice.yml", True), ("hosts.yml", False), ("practice.yaml", False)])
def test_only_the_document_is_taken(tmp_path, name, wanted):
    (tmp_path / name).write_text("x")
    assert plugin.InventoryModule().verify_file(str(tmp_path / name)) is wanted


def test_groups_and_variables_reach_ansible(place):
    inventory = parsed(place / "practice.yml")
    assert list(inventory.hosts) == ["nas1", "server1", "desk1", "proof1"]
    assert [host.name for host in inventory.groups["agents"].get_hosts()] == ["server1", "desk1"]
    assert inventory.groups["all"].vars["practice_folder"] == str(place)
    assert inventory.hosts["nas1"].vars["nas_repository_listen"] == "198.18.0.11:8000"


def test_a_group_without_hosts_is_there_all_the_same(place):
    document = place / "practice.yml"
    text = "".join(
        line for line in document.read_text().splitlines(True) if "ups1:" not in line and not line.startswith("power:")
    )
    document.write_text(text)
    assert parsed(document).groups["power"].get_hosts() == []


def test_one_short_message_for_many_mistakes(place):
    document = place / "practice.yml"
    document.write_text(
        document.read_text().replace("retention:", "retenton:").replace('"21:00"', "21:00").replace("AU", "au")
    )
    with pytest.raises(AnsibleParserError) as error:
        parsed(document)
    message = error.value.message
    assert message.count("\n") == 0
    assert "practice.country" in message
    assert "3 mistakes in all; run: bin/holdfast validate" in message


def test_a_missing_package_is_named(place, monkeypatch):
    monkeypatch.setattr(plugin, "MISSING", "pydantic")
    with pytest.raises(AnsibleParserError, match=r"pydantic is missing .* make setup"):
        parsed(place / "practice.yml")


def run(command, *arguments):
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        [str(Path(sys.executable).parent / command), *map(str, arguments)],
        cwd="/", env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["folder", "file"])
def test_ansible_inventory_reads_folder_and_file_without_vault(place, form):
    (place / "known_hosts").write_text("198.18.0.11 ssh-ed25519 AAAA\n")
    (place / "README.md").write_text("# notes\n")
    shown = run("ansible-inventory", "-i", place if form == "folder" else place / "practice.yml", "--list")
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert json.loads(shown.stdout)["agents"]["hosts"] == ["server1", "desk1"]


PLAYBOOK = """\
- name: Use the secrets
  hosts: nas
  connection: local
  gather_facts: false
  tasks:
    - name: Compare what the compiler wired with what the vault holds
      ansible.builtin.assert:
        that:
          - nas_repository_key == vault_tls_keys["nas1"]
          - nas_repository_accounts[0].password_hash is match("[$]2b[$]08[$]")
          - nas_repository_accounts[0].password_hash == nas_repository_accounts[0].password_hash
          - hostvars["server1"].backup_agent_rest_password == vault_rest_passwords["server1"]
          - hostvars["proof1"].restore_verify_credentials.desk1.rest_password == vault_rest_passwords["desk1"]
          - power_users[3].password == vault_nut_passwords["drill"]
          - "'BEGIN CERTIFICATE' in nas_repository_certificate"
          - practice_id == vault_practice_id
"""


def test_secrets_beside_the_document_reach_the_roles_variables(place):
    practice = check.load(place / "practice.yml")[0]
    secrets.apply(place, practice, None, create_password=True)
    (place / "play.yml").write_text(PLAYBOOK)
    result = run(
        "ansible-playbook", "-i", place, "--vault-id", f"harbour-street@{place}/.vault-password", place / "play.yml"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok=1" in result.stdout


def test_a_missing_certificate_is_said_when_it_is_needed(place):
    (place / "play.yml").write_text(
        "- hosts: nas\n  connection: local\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.debug: {msg: '{{ nas_storage_pool.label }}'}\n"
        "    - ansible.builtin.debug: {msg: '{{ nas_repository_certificate }}'}\n"
    )
    result = run("ansible-playbook", "-i", place, place / "play.yml")
    assert result.returncode != 0
    assert "holdfast-nas1" in result.stdout
    assert "make it with: bin/holdfast secrets" in result.stdout + result.stderr


def test_one_practice_is_compiled_in_a_moment(place):
    folder.load_inventory(place / "practice.yml")  # builds the model once, which a run does as well
    best = 9.0
    for _ in range(5):
        start = time.process_time()
        folder.load_inventory(place / "practice.yml")
        best = min(best, time.process_time() - start)
    assert best < 0.1
