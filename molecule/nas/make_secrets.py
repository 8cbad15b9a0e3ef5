#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the scenario's passwords, their hashes and certificates once: make_secrets.py FOLDER.

Writes FOLDER/nas_secrets.json (mode 0600), which converge.yml and the tests read. Nothing here is used anywhere else.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import secrets
import sys
from pathlib import Path

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ACCOUNTS = ("server1", "desk1", "former")


def certificate(first_day: int, last_day: int) -> dict[str, str]:
    """Make a self-signed certificate for the NAS and its key; days count from now, and may be negative."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nas1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("198.18.0.11"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now + datetime.timedelta(days=first_day))
    made = made.not_valid_after(now + datetime.timedelta(days=last_day)).add_extension(address, critical=False)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"certificate": made.sign(key, hashes.SHA256()).public_bytes(pem).decode(), "key": secret.decode()}


def main() -> None:
    """Write the file unless it is there."""
    target = Path(sys.argv[1], "nas_secrets.json")
    if target.exists():
        return
    passwords = {name: secrets.token_urlsafe(24) for name in ACCOUNTS}
    good = certificate(-1, 3650)
    made = {
        "nas_test_passwords": passwords,
        "nas_test_hashes": {n: bcrypt.hashpw(p.encode(), bcrypt.gensalt(6)).decode() for n, p in passwords.items()},
        "nas_test_repository_password": secrets.token_urlsafe(24),
        "nas_test_certificate": good["certificate"],
        "nas_test_key": good["key"],
        "nas_test_renewed": certificate(-1, 20),
        "nas_test_expired": certificate(-400, -35),
    }
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        json.dump(made, stream)
    sys.stdout.write("made\n")


main()
