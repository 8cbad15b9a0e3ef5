# SPDX-License-Identifier: Apache-2.0
"""Knock at a rest-server before restic does: pinned certificate first, then the account, then the repository.

restic tries again for many minutes on errors that will never heal and words them differently from version to version.
One request of our own gives each of them its own name, and credentials are not sent to a server that fails the pin.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

_EXPIRED, _NOT_YET_VALID = 10, 9
_PARTIAL_CHAIN = 0x80000
_STRICT = 0x20
CONFIG_BYTES = 65536  # a config has some 150


class NasError(Exception):
    """The NAS cannot be used.

    ``code`` is one of nas_unreachable, certificate_mismatch, certificate_expired, rest_login_refused, rest_forbidden,
    nas_error.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def split_url(url: str) -> tuple[str, int, str]:
    """Host, port and path (with a slash at its end) of ``rest:https://HOST:PORT/PATH/``; anything else: ValueError."""
    if not url.startswith("rest:https://"):
        raise ValueError(f'repository address {url!r}: expected "rest:https://ADDRESS:PORT/ACCOUNT/"')
    parts = urlsplit(url[len("rest:") :])
    if parts.username or parts.password or not parts.hostname:
        raise ValueError('repository address: expected "rest:https://ADDRESS:PORT/ACCOUNT/" without a login in it')
    return parts.hostname, parts.port or 443, parts.path.rstrip("/") + "/"


def pinned_context(cafile: str) -> ssl.SSLContext:
    """TLS that trusts the pinned certificate and nothing else, and still checks its name and dates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The pin may be a plain server certificate: take it as the anchor, without the rules for certificate authorities.
    context.verify_flags = ssl.VerifyFlags((context.verify_flags | _PARTIAL_CHAIN) & ~_STRICT)
    context.load_verify_locations(cafile)
    return context


def expiry_of(cafile: str) -> str:
    """When the pinned certificate ends, as text for a message."""
    try:
        decode: Any = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]
        return str(decode(cafile)["notAfter"])
    except (AttributeError, KeyError, ssl.SSLError, OSError):
        return "a date that could not be read"


def knock(url: str, cafile: str, username: str, password: str, timeout_s: float = 15.0) -> bool:
    """True when the repository exists, False when the account works and has none. Raises NasError for the rest."""
    return config(url, cafile, username, password, timeout_s) is not None


def config(url: str, cafile: str, username: str, password: str, timeout_s: float = 15.0) -> bytes | None:
    """Get a repository's config, sealed; None when the account works and has no repository. Raises NasError for the rest."""
    host, port, path = split_url(url)
    where = f"{host}:{port}"
    login = base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
    connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=pinned_context(cafile))
    try:
        connection.connect()
        connection.request("GET", path + "config", headers={"Authorization": "Basic " + login})
        answer = connection.getresponse()
        status, content = answer.status, answer.read(CONFIG_BYTES)
    except ssl.SSLCertVerificationError as error:
        raise _certificate_error(error, where, cafile) from error
    except ssl.SSLError as error:
        message = f"{where}: no TLS conversation ({error.reason}); is this the backup server's port?"
        raise NasError("certificate_mismatch", message) from error
    except (OSError, http.client.HTTPException, socket.timeout) as error:
        message = (
            f"{where} does not answer ({error}); check that the NAS is on, its backup server runs, and the network"
        )
        raise NasError("nas_unreachable", message) from error
    finally:
        connection.close()
    return content if judge_status(status, where, username) else None


def judge_status(status: int, where: str, username: str) -> bool:
    """Turn the answer to a request for the repository's config into True, False or NasError. Pure."""
    if status == 200:
        return True
    if status == 404:
        return False
    if status == 401:
        raise NasError(
            "rest_login_refused",
            f"{where} refuses the login of account {username} (401): its password here and on the NAS differ, "
            f"or the address is another account's; run site.yml for the NAS and this host",
        )
    if status == 403:
        raise NasError(
            "rest_forbidden", f"{where} forbids account {username} this repository (403): address and account differ"
        )
    raise NasError("nas_error", f"{where} answered {status}; look at the backup server's journal on the NAS")


def _certificate_error(error: ssl.SSLCertVerificationError, where: str, cafile: str) -> NasError:
    if error.verify_code == _EXPIRED:
        return NasError("certificate_expired", f"{where}: its certificate ended on {expiry_of(cafile)}; renew it")
    if error.verify_code == _NOT_YET_VALID:
        return NasError("certificate_expired", f"{where}: its certificate is not valid yet; check this host's clock")
    return NasError(
        "certificate_mismatch",
        f"{where} shows another certificate than the pinned one ({error.verify_message}). No credentials were sent. "
        f"If the NAS got a new certificate on purpose, pin it in the practice folder and run site.yml; "
        f"if not, find out who answers there",
    )
