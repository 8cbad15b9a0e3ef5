# SPDX-License-Identifier: Apache-2.0
"""The program that asks a service of the machine it runs in, over the loopback and nowhere else.

Usage: loopback_door <QUESTION

QUESTION is JSON: {"url", "contains", "limit_s"} or {"port", "limit_s"}. Prints JSON: {"status", "bytes", "blake2b", "contains",
"entries"}, for a port {"open": true}, or {"error": what kind}. What a service answers is patients' data: it stays here, and
only what is printed leaves. No proxy is asked and no redirection is followed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import sys
import urllib.parse
from collections.abc import Mapping
from typing import Any

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KEPT_BYTES = 64 << 20  # of an answer that is searched or counted; its hash is of all of it
_BLOCK = 1 << 20


def ask(question: Mapping[str, Any]) -> dict[str, Any]:
    """Put one question and describe the answer."""
    limit_s = float(question["limit_s"])
    try:
        if question.get("port"):
            with socket.create_connection(("127.0.0.1", int(question["port"])), limit_s):
                return {"open": True}
        return get(str(question["url"]), str(question.get("contains") or ""), limit_s)
    except (OSError, http.client.HTTPException) as error:
        return {"error": type(error).__name__}


def get(url: str, contains: str, limit_s: float) -> dict[str, Any]:
    """Fetch a page. Raises OSError and HTTPException."""
    parts = urllib.parse.urlsplit(url)
    if parts.hostname not in LOOPBACK:
        raise OSError("not on this machine")
    if parts.scheme == "https":
        # the certificate is made out for the practice's server, and nobody stands between a machine and itself
        context = ssl._create_unverified_context()  # noqa: S323
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=limit_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=limit_s)
    try:
        connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        digest, size, kept = hashlib.blake2b(digest_size=32), 0, bytearray()
        while True:
            block = answer.read(_BLOCK)
            if not block:
                break
            digest.update(block)
            size += len(block)
            kept += block[: max(0, KEPT_BYTES - len(kept))]
    finally:
        connection.close()
    return {
        "status": answer.status,
        "bytes": size,
        "blake2b": digest.hexdigest(),
        "contains": contains.encode() in kept,
        "entries": entries(bytes(kept)),
    }


def entries(body: bytes) -> int | None:
    """How many entries a JSON list has; None for anything else."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return len(found) if isinstance(found, list) else None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask(json.load(sys.stdin))))
