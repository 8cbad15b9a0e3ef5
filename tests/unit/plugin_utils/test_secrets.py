# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.secrets import SecretsError
from cryptography import x509

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "inventories" / "harbour-street" / "practice.yml"
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def practice():
    return check.load(EXAMPLE)[0]


@pytest.fixture
def folder(tmp_path):
    shutil.copy(EXAMPLE, tmp_path / "practice.yml")
    return tmp_path


def content(folder):
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def opened(folder):
    secret = VaultSecret((folder / ".vault-password").read_bytes().strip())
    return yaml.safe_load(
        VaultLib([("harbour-street", secret)]).decrypt((folder / "group_vars/all/vault.yml").read_bytes())
    )


def test_all_that_the_inventory_names_is_made(practice):
    made = secrets.plan(practice, {}, {}, "", NOW)
    assert made.vault["vault_practice_id"] == "harbour-street"
    assert list(made.vault["vault_repository_passwords"]) == ["server1", "desk1"]
    assert list(made.vault["vault_rest_passwords"]) == ["server1", "desk1"]
    assert list(made.vault["vault_nut_passwords"]) == ["nas1", "server1", "desk1", "drill"]
    assert list(made.vault["vault_tls_keys"]) == ["nas1"]
    passwords = [
        value for name in ("repository", "rest", "nut") for value in made.vault[f"vault_{name}_passwords"].values()
    ]
    assert len(set(passwords)) == len(passwords) == 8
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}|[A-Za-z0-9]{32}", value) for value in passwords)
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", value) for value in made.vault["vault_nut_passwords"].values())
    assert made.vault["vault_evidence_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert re.fullmatch(r'harbour-street namespaces="holdfast-evidence" ssh-ed25519 [A-Za-z0-9+/=]+\n', made.signers)


def test_a_battery_that_is_tested_has_an_account_for_that(practice):
    power = {name: ups.model_copy(update={"self_test": "4w"}) for name, ups in practice.power.items()}
    made = secrets.plan(practice.model_copy(update={"power": power}), {}, {}, "", NOW)
    assert list(made.vault["vault_nut_passwords"]) == ["nas1", "server1", "desk1", "drill", "selftest"]


def test_what_opens_a_ups_gets_a_place_that_its_owner_fills(practice):
    power = {name: ups.model_copy(update={"vault_settings": ["community"]}) for name, ups in practice.power.items()}
    practice = practice.model_copy(update={"power": power})
    vault = {"vault_ups_secrets": {"ups9": {"community": "of before"}}}
    made = secrets.plan(practice, vault, {}, "", NOW)
    assert made.vault["vault_ups_secrets"] == {"ups9": {"community": "of before"}, "ups1": {"community": ""}}
    assert "vault_ups_secrets[ups1][community] (an empty place: put the UPS's own in)" in made.made
    made.vault["vault_ups_secrets"]["ups1"]["community"] = "lotus"
    again = secrets.plan(practice, made.vault, made.certificates, made.signers, NOW)
    assert (again.made, again.vault["vault_ups_secrets"]["ups1"]) == ([], {"community": "lotus"})


def test_what_is_there_stays(practice):
    first = secrets.plan(practice, {}, {}, "", NOW)
    first.vault["their_own"] = "value"
    again = secrets.plan(practice, first.vault, first.certificates, first.signers, NOW)
    assert (again.vault, again.certificates, again.signers, again.made) == (
        first.vault,
        first.certificates,
        first.signers,
        [],
    )


def test_only_what_is_missing_is_made(practice):
    first = secrets.plan(practice, {}, {}, "", NOW)
    before = first.vault["vault_rest_passwords"]["server1"]
    del first.vault["vault_rest_passwords"]["desk1"]
    again = secrets.plan(practice, first.vault, first.certificates, first.signers, NOW)
    assert again.made == ["vault_rest_passwords[desk1]"]
    assert again.vault["vault_rest_passwords"]["server1"] == before


def test_a_new_evidence_key_is_pinned_beside_the_old_one(practice):
    first = secrets.plan(practice, {}, {}, "", NOW)
    del first.vault["vault_evidence_key"]
    again = secrets.plan(practice, first.vault, first.certificates, first.signers, NOW)
    assert again.signers.startswith(first.signers)
    assert len(again.signers.splitlines()) == 2


@pytest.mark.parametrize("change", ["address", "age", "key", "damage"])
def test_a_certificate_that_no_longer_fits_is_made_anew_for_the_same_key(practice, change):
    first = secrets.plan(practice, {}, {}, "", NOW)
    now, vault, certificates = NOW, dict(first.vault), dict(first.certificates)
    if change == "address":
        nas = practice.hosts["nas1"].model_copy(update={"address": "198.18.0.99"})
        practice = practice.model_copy(update={"hosts": {**practice.hosts, "nas1": nas}})
    elif change == "age":
        now = NOW + timedelta(days=secrets.CERTIFICATE_DAYS - 30)
    elif change == "key":
        vault["vault_tls_keys"] = {"nas1": secrets._new_tls_key()}
    else:
        certificates["nas1"] = "-----BEGIN CERTIFICATE-----\nAAAA\n"
    again = secrets.plan(practice, vault, certificates, first.signers, now)
    assert again.made == ["certificates/nas1.pem"]
    assert again.vault == vault
    assert again.certificates["nas1"] != certificates["nas1"]


def test_the_certificate_names_host_and_address(practice):
    pem = secrets.plan(practice, {}, {}, "", NOW).certificates["nas1"]
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["nas1"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["198.18.0.11"]
    assert certificate.not_valid_after_utc - NOW > timedelta(days=3650)


@pytest.mark.parametrize("name", ["127.0.0.1", "nas1"])
def test_a_client_that_pins_the_certificate_accepts_the_server(practice, tmp_path, name):
    nas = practice.hosts["nas1"].model_copy(update={"address": "127.0.0.1"})
    practice = practice.model_copy(update={"hosts": {**practice.hosts, "nas1": nas}})
    made = secrets.plan(practice, {}, {}, "", datetime.now(UTC))
    (tmp_path / "cert").write_text(made.certificates["nas1"])
    (tmp_path / "key").write_text(made.vault["vault_tls_keys"]["nas1"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve():
        connection, _ = listener.accept()
        with server.wrap_socket(connection, server_side=True) as tls:
            tls.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=str(tmp_path / "cert"))
    try:
        with (
            socket.create_connection(listener.getsockname(), timeout=10) as plain,
            client.wrap_socket(plain, server_hostname=name) as tls,
        ):
            assert tls.recv(5) == b"hello"
    finally:
        thread.join(10)
        listener.close()


@pytest.mark.parametrize(
    ("vault", "words"),
    [
        ({"vault_practice_id": "other"}, "belongs to the practice 'other'"),
        ({"vault_rest_passwords": {"server1": "changeme"}}, r"vault_rest_passwords\[server1\] is weak"),
        ({"vault_rest_passwords": {"server1": 7}}, "is weak"),
        (
            {"vault_rest_passwords": {"server1": "x" * 30}, "vault_nut_passwords": {"nas1": "x" * 30}},
            "is the same secret as",
        ),
        ({"vault_rest_passwords": "text"}, "is not a mapping"),
        ({"vault_tls_keys": {"nas1": "nonsense"}}, r"vault_tls_keys\[nas1\] is not a private key"),
        ({"vault_evidence_key": "nonsense"}, "not a private key in OpenSSH's format"),
    ],
)
def test_a_vault_that_cannot_be_right_is_refused_without_showing_it(practice, vault, words):
    with pytest.raises(SecretsError, match=words) as error:
        secrets.plan(practice, vault, {}, "", NOW)
    assert not any(value in str(error.value) for value in ("changeme", "x" * 30, "nonsense"))


def test_the_folder_is_made_once_and_then_left_alone(folder, practice):
    old = os.umask(0)
    try:
        made = secrets.apply(folder, practice, None, create_password=True)
    finally:
        os.umask(old)
    assert ".vault-password" in made
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in content(folder) if name != "practice.yml"}
    assert modes == {
        ".vault-password": 0o600,
        "group_vars/all/vault.yml": 0o600,
        "certificates/nas1.pem": 0o644,
        "evidence_signers": 0o644,
    }
    vault = (folder / "group_vars/all/vault.yml").read_text()
    assert vault.startswith("$ANSIBLE_VAULT;1.2;AES256;harbour-street\n")
    before = content(folder)
    assert secrets.apply(folder, practice, None, create_password=True) == []
    assert content(folder) == before
    assert opened(folder)["vault_practice_id"] == "harbour-street"


def test_a_wide_open_vault_is_closed(folder, practice):
    secrets.apply(folder, practice, None, create_password=True)
    (folder / "group_vars/all/vault.yml").chmod(0o644)
    assert secrets.apply(folder, practice, None, create_password=False) == ["mode of group_vars/all/vault.yml"]
    assert (folder / "group_vars/all/vault.yml").stat().st_mode & 0o777 == 0o600


def test_no_password_is_made_unasked(folder, practice):
    with pytest.raises(SecretsError, match="--create-password"):
        secrets.apply(folder, practice, None, create_password=False)
    assert list(content(folder)) == ["practice.yml"]


@pytest.mark.parametrize("damage", ["other password", "plain text", "cut", "empty password"])
def test_a_vault_that_cannot_be_opened_is_left_as_it_is(folder, practice, damage):
    secrets.apply(folder, practice, None, create_password=True)
    vault = folder / "group_vars/all/vault.yml"
    if damage == "other password":
        (folder / ".vault-password").write_text("another\n")
    elif damage == "empty password":
        (folder / ".vault-password").write_text("")
    elif damage == "plain text":
        vault.write_text("vault_practice_id: harbour-street\n")
    else:
        vault.write_text(vault.read_text()[:200])
    before = content(folder)
    with pytest.raises(SecretsError) as error:
        secrets.apply(folder, practice, None, create_password=True)
    assert "\n" not in str(error.value)
    assert content(folder) == before


def test_a_write_that_fails_leaves_the_old_file_and_no_scraps(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(secrets.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        secrets.write(file, b"new", 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "old"


def test_the_evidence_key_signs_what_the_pinned_key_verifies(folder, practice):
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not on this machine")
    secrets.apply(folder, practice, None, create_password=True)
    key = folder / "key"
    key.write_text(opened(folder)["vault_evidence_key"])
    key.chmod(0o600)
    (folder / "record").write_text("record")
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "holdfast-evidence", folder / "record"], check=True
    )
    verify = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        folder / "evidence_signers",
        "-I",
        "harbour-street",
        "-s",
        folder / "record.sig",
    ]
    for namespace, good in (("holdfast-evidence", True), ("file", False)):
        result = subprocess.run([*verify, "-n", namespace], input=b"record", capture_output=True, check=False)
        assert (result.returncode == 0) is good


def command(*arguments):
    return subprocess.run(
        [sys.executable, REPOSITORY / "bin" / "holdfast", *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_names_what_it_made_and_shows_no_secret(folder):
    first = command("secrets", folder, "--create-password")
    assert first.returncode == 0
    assert "made vault_rest_passwords[server1]" in first.stdout
    said = first.stdout + first.stderr
    vault = opened(folder)
    assert not any(
        value in said for name in ("repository", "rest", "nut") for value in vault[f"vault_{name}_passwords"].values()
    )
    assert (folder / ".vault-password").read_text().strip() not in said
    second = command("secrets", folder, "--vault-password-file", folder / ".vault-password")
    assert (second.returncode, second.stdout) == (0, f"{folder}: ok: 0 made, the rest was there\n")


def test_the_command_refuses_a_wrong_document_and_a_missing_password(folder):
    missing = command("secrets", folder)
    assert missing.returncode == 3
    assert "--create-password" in missing.stderr
    (folder / "practice.yml").write_text("practice: {}\n")
    wrong = command("secrets", folder, "--create-password")
    assert wrong.returncode == 3
    assert "no secret was made" in wrong.stderr
    assert list(content(folder)) == ["practice.yml"]
