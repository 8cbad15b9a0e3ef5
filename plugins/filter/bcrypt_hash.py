# SPDX-License-Identifier: Apache-2.0
"""Filter: a bcrypt hash that is the same every time it is made."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

try:
    import bcrypt
except ImportError:
    bcrypt = None  # type: ignore[assignment]

_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPT = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_LIMIT = 72


def bcrypt_hash(password: Any, context: Any, rounds: int = 8) -> str:
    """Hash a password with bcrypt, with a salt derived from the password and the context.

    password: 1 to 72 bytes of text. context: text that names the place of use, so that one password in two places has two
    hashes. rounds: bcrypt's cost, 4 to 14. Raises AnsibleFilterError; no message holds the password.
    """
    if bcrypt is None:
        raise AnsibleFilterError(
            "bcrypt_hash: the Python package bcrypt is missing on this control node; run: make setup"
        )
    if not isinstance(password, str) or not isinstance(context, str) or not context:
        raise AnsibleFilterError("bcrypt_hash: expected a password and a context, both text")
    secret = password.encode()
    if not 1 <= len(secret) <= _LIMIT or b"\0" in secret:
        raise AnsibleFilterError(f"bcrypt_hash: expected a password of 1 to {_LIMIT} bytes without NUL for {context}")
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 4 <= rounds <= 14:
        raise AnsibleFilterError("bcrypt_hash: expected rounds from 4 to 14")
    key = hashlib.blake2b(secret).digest()
    salt = hashlib.blake2b(context.encode(), key=key, digest_size=16, person=b"holdfast-bcrypt").digest()
    encoded = base64.b64encode(salt).rstrip(b"=").translate(bytes.maketrans(_STANDARD, _BCRYPT))
    return bcrypt.hashpw(secret, b"$2b$%02d$%s" % (rounds, encoded)).decode()


class FilterModule:
    """Filters for secrets."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"bcrypt_hash": bcrypt_hash}
