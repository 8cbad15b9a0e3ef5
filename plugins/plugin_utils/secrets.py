# SPDX-License-Identifier: Apache-2.0
"""Make the secrets of a practice: what is missing is made, what is there stays as it is.

plan() is pure but for randomness; apply() writes. Secrets never leave this module except into the vault.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import secrets as random
import string
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, get_file_vault_secret, is_encrypted
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import (
    SELF_TEST,
    compile_practice,
    is_ip,
    ups_secrets,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Nas, Practice
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VAULT_FILE = "group_vars/all/vault.yml"
PASSWORD_FILE = ".vault-password"  # noqa: S105  (a file name)
SIGNERS_FILE = "evidence_signers"
SIGNATURE_NAMESPACE = "holdfast-evidence"
CERTIFICATE_DAYS = 3652
RENEW_DAYS = 90
SHORTEST = 20
_AGAIN = "delete it with: ansible-vault edit, and run this again"
_NUT_CHARACTERS = string.ascii_letters + string.digits


class SecretsError(Exception):
    """Secrets cannot be made; the message says what was expected and what to do. It never holds a secret."""


@dataclass
class Plan:
    """What the folder is to hold, and what of it is new."""

    vault: dict[str, Any] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    signers: str = ""
    made: list[str] = field(default_factory=list)


# --- what is wanted -------------------------------------------------------------------------------------------------


def password() -> str:
    """Make a password of 256 bits in URL-safe ASCII."""
    return random.token_urlsafe(32)


def nut_password() -> str:
    """Make a password of 32 ASCII letters and digits: NUT's configuration files have trouble with anything else."""
    return "".join(random.choice(_NUT_CHARACTERS) for _ in range(32))


def wanted_names(practice: Practice) -> dict[str, list[str]]:
    """Say for which names each of the vault's mappings needs an entry."""
    groups = compile_practice(practice, "/", {}).groups
    upses = (practice.power or {}).values()
    drill = any(ups.driver == "dummy-ups" for ups in upses)
    accounts = [*(["drill"] if drill else []), *([SELF_TEST] if any(ups.self_test for ups in upses) else [])]
    return {
        "vault_repository_passwords": groups["agents"],
        "vault_rest_passwords": groups["agents"],
        "vault_nut_passwords": [*groups["power"], *accounts],
        "vault_tls_keys": groups["nas"],
    }


def plan(
    practice: Practice, vault: Mapping[str, Any], certificates: Mapping[str, str], signers: str, now: datetime
) -> Plan:
    """Complete what is there: vault (decrypted), certificates (PEM by NAS), signers (text of evidence_signers).

    Raises SecretsError for a vault of another practice, or with a weak or shared secret.
    """
    _check_vault(practice, vault)
    result = Plan(vault={"vault_practice_id": practice.practice.id})
    makers: dict[str, Callable[[], str]] = {
        "vault_repository_passwords": password,
        "vault_rest_passwords": password,
        "vault_nut_passwords": nut_password,
        "vault_tls_keys": _new_tls_key,
    }
    for variable, names in wanted_names(practice).items():
        result.vault[variable] = dict(vault.get(variable) or {})
        for name in names:
            if name not in result.vault[variable]:
                result.vault[variable][name] = makers[variable]()
                result.made.append(f"{variable}[{name}]")
    if "vault_mail_password" in vault or (practice.alerts and practice.alerts.mail and practice.alerts.mail.user):
        # nobody but the mail provider can make this one: a place for it, which site.yml refuses while it is empty
        result.vault["vault_mail_password"] = vault.get("vault_mail_password") or ""
        if "vault_mail_password" not in vault:
            result.made.append("vault_mail_password (an empty place: put the mail provider's password in)")
    for ups, keys in ups_secrets(practice).items():
        # as the UPS has them
        kept = result.vault.setdefault("vault_ups_secrets", deepcopy(vault.get("vault_ups_secrets") or {})).setdefault(
            ups, {}
        )
        for key in keys:
            if key not in kept:
                kept[key] = ""
                result.made.append(f"vault_ups_secrets[{ups}][{key}] (an empty place: put the UPS's own in)")
    result.vault["vault_evidence_key"] = vault.get("vault_evidence_key") or _new_evidence_key(practice.practice.id)
    if "vault_evidence_key" not in vault:
        result.made.append("vault_evidence_key")
    # What else somebody keeps in this vault is theirs
    result.vault.update({name: value for name, value in vault.items() if name not in result.vault})
    for name, host in practice.hosts.items():
        if isinstance(host, Nas):
            result.certificates[name] = _certificate(practice, name, host, result, certificates.get(name, ""), now)
    result.signers = _signers(practice.practice.id, result, signers)
    return result


def _check_vault(practice: Practice, vault: Mapping[str, Any]) -> None:
    stamp = vault.get("vault_practice_id", practice.practice.id)
    if stamp != practice.practice.id:
        raise SecretsError(
            f"{VAULT_FILE} belongs to the practice {stamp!r}, expected {practice.practice.id!r}; move it away"
        )
    seen: dict[str, str] = {}
    for variable in ("vault_repository_passwords", "vault_rest_passwords", "vault_nut_passwords"):
        values = vault.get(variable) or {}
        if not isinstance(values, Mapping):
            raise SecretsError(
                f"{VAULT_FILE}: {variable} is not a mapping of names to passwords; mend it with ansible-vault edit"
            )
        for name, value in values.items():
            label = f"{variable}[{name}]"
            if not isinstance(value, str) or len(value) < SHORTEST or not value.isascii():
                raise SecretsError(
                    f"{VAULT_FILE}: {label} is weak (expected at least {SHORTEST} ASCII characters); {_AGAIN}"
                )
            if value in seen:
                raise SecretsError(f"{VAULT_FILE}: {label} is the same secret as {seen[value]}; {_AGAIN}")
            seen[value] = label


def _new_tls_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _new_evidence_key(practice_id: str) -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


def _alternative_names(name: str, address: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if is_ip(address):
        names.append(x509.IPAddress(ipaddress.ip_address(address)))
    elif address.lower() != name:
        names.append(x509.DNSName(address.lower()))
    return names


def _certificate(practice: Practice, name: str, host: Nas, result: Plan, present: str, now: datetime) -> str:
    """Keep the certificate that is there if it fits key, names and time; else make a new one for the key."""
    try:
        key = serialization.load_pem_private_key(result.vault["vault_tls_keys"][name].encode(), None)
    except (ValueError, TypeError, AttributeError):
        raise SecretsError(f"{VAULT_FILE}: vault_tls_keys[{name}] is not a private key in PEM; {_AGAIN}") from None
    names = _alternative_names(name, host.address)
    if present and _fits(present, key, names, now):
        return present
    result.made.append(f"certificates/{name}.pem")
    return _new_certificate(practice.practice.name, name, key, names, now)


def _fits(pem: str, key: Any, names: list[x509.GeneralName], now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        present = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound):
        return False
    return (
        certificate.public_key() == key.public_key()
        and all(name in present for name in names)
        and certificate.not_valid_after_utc - now > timedelta(days=RENEW_DAYS)
    )


def _new_certificate(organisation: str, name: str, key: Any, names: list[x509.GeneralName], now: datetime) -> str:
    # X.520 allows 64 characters for either
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64].strip()),
        ]
    )
    usage = {
        name: name == "digital_signature"
        for name in [
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ]
    }
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of hosts differ
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def certificate_facts(pem: str) -> str:
    """Say on one line which certificate this is: fingerprint, names and last day. Raises SecretsError."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        raise SecretsError(
            "a certificate of a NAS is no PEM with names; delete certificates/NAS.pem and run: bin/holdfast secrets"
        ) from None
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
    listed = ", ".join(str(name.value) for name in names)
    return f"SHA-256 {fingerprint}, for {listed}, until {certificate.not_valid_after_utc:%Y-%m-%d}"


def _signers(practice_id: str, result: Plan, present: str) -> str:
    """Pin the evidence key; keys that are already pinned stay, as older evidence is verified with them."""
    try:
        key = serialization.load_ssh_private_key(result.vault["vault_evidence_key"].encode(), None)
    except (ValueError, TypeError, AttributeError):
        raise SecretsError(
            f"{VAULT_FILE}: vault_evidence_key is not a private key in OpenSSH's format; {_AGAIN}"
        ) from None
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    if public in present:
        return present
    result.made.append(SIGNERS_FILE)
    before = present if not present or present.endswith("\n") else present + "\n"
    return f'{before}{practice_id} namespaces="{SIGNATURE_NAMESPACE}" {public}\n'


# --- the folder -----------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes keys in PEM as blocks of lines."""


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _represent_text)


def apply(folder: Path, practice: Practice, password_file: Path | None, create_password: bool) -> list[str]:
    """Make what is missing in a practice's folder. Returns what was made, by name; an empty list: not a byte changed.

    Raises SecretsError, or OSError when a file cannot be read or written.
    """
    with locked(folder):
        made = []
        file = password_file or folder / PASSWORD_FILE
        if not file.exists():
            if not create_password:
                fix = "give --vault-password-file FILE, or --create-password to make one"
                raise SecretsError(f"{file}: there is no vault password; {fix}")
            write(file, f"{password()}\n".encode(), 0o600)
            made.append(str(file.name))
        secret = _vault_secret(file, practice.practice.id)
        vault_path = folder / VAULT_FILE
        vault = _read_vault(vault_path, secret, practice.practice.id)
        present = {name: _text(folder / "certificates" / f"{name}.pem") for name in practice.hosts}
        signers = _text(folder / SIGNERS_FILE)
        result = plan(practice, vault, present, signers, datetime.now(UTC))
        if result.vault != vault:
            # The vault first: a certificate or pinned key without its secret would be worthless
            save_vault(folder, practice.practice.id, secret, result.vault)
        elif vault_path.stat().st_mode & 0o077:
            vault_path.chmod(0o600)
            made.append(f"mode of {VAULT_FILE}")
        for name, pem in result.certificates.items():
            if pem != present[name]:
                write(folder / "certificates" / f"{name}.pem", pem.encode(), 0o644)
        if result.signers != signers:
            write(folder / SIGNERS_FILE, result.signers.encode(), 0o644)
        return made + result.made


def open_vault(folder: Path, practice_id: str, password_file: Path | None) -> tuple[VaultSecret, dict[str, Any]]:
    """Decrypt a practice's vault; the first part is what save_vault() needs. Raises SecretsError, or OSError."""
    file = password_file or folder / PASSWORD_FILE
    if not file.exists():
        raise SecretsError(f"{file}: there is no vault password; give --vault-password-file FILE")
    secret = _vault_secret(file, practice_id)
    return secret, _read_vault(folder / VAULT_FILE, secret, practice_id)


def save_vault(folder: Path, practice_id: str, secret: VaultSecret, vault: Mapping[str, Any]) -> None:
    """Encrypt and write a practice's vault. Whoever changes what was there holds locked() from reading to writing."""
    text = yaml.dump(dict(vault), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    write(folder / VAULT_FILE, VaultLib().encrypt(text, secret=secret, vault_id=practice_id), 0o600)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one process write in a folder: two that make secrets at once would each keep its own."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _vault_secret(file: Path, vault_id: str) -> VaultSecret:
    try:
        secret = get_file_vault_secret(filename=str(file), vault_id=vault_id, loader=DataLoader())
        secret.load()
    except AnsibleError as error:
        raise SecretsError(f"{file}: the vault password cannot be read: {error.message}") from None
    return secret


def _read_vault(path: Path, secret: VaultSecret, vault_id: str) -> dict[str, Any]:
    if not path.exists():
        return {}
    raw = path.read_bytes()
    if not is_encrypted(raw):
        raise SecretsError(
            f"{path}: it is not encrypted; encrypt it with: ansible-vault encrypt --encrypt-vault-id {vault_id} FILE"
        )
    try:
        vault = yaml.safe_load(VaultLib([(vault_id, secret)]).decrypt(raw))
    except AnsibleError:
        raise SecretsError(
            f"{path}: it cannot be decrypted with this vault password; give the right --vault-password-file"
        ) from None
    except yaml.YAMLError:
        raise SecretsError(f"{path}: what is inside is not YAML; mend it with ansible-vault edit") from None
    if not isinstance(vault, dict):
        raise SecretsError(f"{path}: expected variables inside; mend it with ansible-vault edit")
    return vault


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file as a whole or not at all, with its mode from the first moment, and make sure that it is on the disk."""
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o755, parents=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
