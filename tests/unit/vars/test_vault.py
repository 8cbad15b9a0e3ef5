# SPDX-License-Identifier: Apache-2.0
"""Without a password the vault stays closed and the rest is read; with one nothing is different."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible.inventory.group import Group
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.vars import host_group_vars
from ansible.template import Templar
from ansible_collections.holdfast.practice.plugins.plugin_utils import secrets
from ansible_collections.holdfast.practice.plugins.vars import vault

PASSWORD = [("p", VaultSecret(b"a password of the vault"))]


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "group_vars" / "all"
    place.mkdir(parents=True)
    (place / "plain.yml").write_text("plain: 1\n")
    text = "vault_practice_id: p\nvault_evidence_key: secret\n"
    (place / "vault.yml").write_bytes(VaultLib(PASSWORD).encrypt(text, vault_id="p", secret=PASSWORD[0][1]))
    host_group_vars.FOUND.clear()
    return tmp_path


def read(folder, password=None):
    loader = DataLoader()
    loader.set_vault_secrets(password)
    return vault.VarsModule().get_vars(loader, str(folder), [Group("all")]), loader


@pytest.mark.parametrize("password", [None, []])
def test_a_closed_vault_says_how_to_open_it_only_when_it_is_used(folder, password):
    found, loader = read(folder, password)
    assert found["plain"] == 1
    with pytest.raises(AnsibleError, match=r"the vault is closed; run again with --vault-id"):
        Templar(loader, variables=found).template(found["vault_practice_id"])


def test_an_open_vault_is_read(folder):
    found, _ = read(folder, PASSWORD)
    assert (found["plain"], found["vault_practice_id"], found["vault_evidence_key"]) == (1, "p", "secret")


def test_a_wrong_password_is_an_error(folder):
    with pytest.raises(AnsibleError):
        read(folder, [("p", VaultSecret(b"another"))])


def test_every_name_of_a_vault_explains_itself():
    import inspect

    source = inspect.getsource(secrets)
    assert [name for name in vault.NAMES if name not in source] == []
