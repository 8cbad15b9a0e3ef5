# SPDX-License-Identifier: Apache-2.0
"""A rate for restic that may change while it runs: a small proxy inside the agent, which restic's own fixed limits are not.

It listens on the loopback only, knows restic by a password of this run, and connects to the NAS and to nothing else. What
goes through is TLS from restic to the NAS: the pinned certificate is checked by restic as ever, and nothing can be read here.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Callable

HEAD_BYTES, BLOCK = 8192, 16384
# Small, so that restic sees the true pace: what it has handed over it takes for sent, and waits for an answer
BUFFER = 65536
STEP_S, BURST_S, PATIENCE_S = 0.5, 0.25, 30.0
USER = "run"


class Bucket:
    """Lets so many bytes a second through, all connections together. rate() may change at any time; None: no limit."""

    def __init__(self, rate: Callable[[], float | None], over: threading.Event) -> None:
        self._rate, self._over = rate, over
        self._lock = threading.Lock()
        self._left, self._at = 0.0, time.monotonic()

    def take(self, size: int) -> None:
        """Wait until so many bytes may go."""
        while True:
            with self._lock:
                now, rate = time.monotonic(), self._rate()
                if rate is None:
                    self._left, self._at = 0.0, now
                    return
                self._left = min(rate * BURST_S, self._left + (now - self._at) * rate)
                self._at = now
                if self._left >= 0:
                    self._left -= size
                    return
                wait = min(-self._left / rate, STEP_S)
            if self._over.wait(wait):
                return


class Proxy:
    """CONNECT to one address, and no other."""

    def __init__(self, host: str, port: int, rate: Callable[[], float | None]) -> None:
        self._target = (host.lower(), port)
        self._over = threading.Event()
        self._up, self._down = Bucket(rate, self._over), Bucket(rate, self._over)
        self._password = secrets.token_urlsafe(24)
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        threading.Thread(target=self._accept, name="throttle", daemon=True).start()

    @property
    def url(self) -> str:
        """What restic is given as its proxy."""
        return f"http://{USER}:{self._password}@127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """End every connection."""
        self._over.set()
        for each in (self._listener, *list(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="throttle", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self._open.add(client)
            try:
                client.settimeout(PATIENCE_S)
                refusal = self._judge(_head(client))
                if refusal:
                    client.sendall(
                        f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("ascii")
                    )
                    return
                try:
                    nas = socket.create_connection(self._target, timeout=PATIENCE_S)
                except OSError as error:
                    reason = (error.strerror or type(error).__name__).lower()
                    client.sendall(f"HTTP/1.1 502 {reason}\r\nContent-Length: 0\r\n\r\n".encode("ascii", "replace"))
                    return
                with nas:
                    self._open.add(nas)
                    client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                    self._join(client, nas)
                    self._open.discard(nas)
            finally:
                self._open.discard(client)

    def _judge(self, head: str) -> str:
        """Why a request is refused; empty when it is not."""
        first, *headers = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or words[0] != "CONNECT":
            return "405 only CONNECT"
        given = next((h.split(":", 1)[1].strip() for h in headers if h.lower().startswith("proxy-authorization:")), "")
        wanted = "Basic " + base64.b64encode(f"{USER}:{self._password}".encode()).decode("ascii")
        if not hmac.compare_digest(given.encode(), wanted.encode()):
            return "407 not for you"
        host, _, port = words[1].rpartition(":")
        if (host.strip("[]").lower(), port) != (self._target[0], str(self._target[1])):
            return "403 not the NAS"
        return ""

    def _join(self, client: socket.socket, nas: socket.socket) -> None:
        nas.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        for each in (client, nas):
            each.settimeout(None)
        back = threading.Thread(target=_pump, args=(nas, client, self._down), name="throttle", daemon=True)
        back.start()
        _pump(client, nas, self._up)
        back.join()


def _head(client: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_BYTES:
        block = client.recv(HEAD_BYTES)
        if not block:
            break
        head += block
    return head.decode("latin-1").split("\r\n\r\n")[0]


def _pump(source: socket.socket, sink: socket.socket, bucket: Bucket) -> None:
    with contextlib.suppress(OSError):
        while True:
            block = source.recv(BLOCK)
            if not block:
                break
            bucket.take(len(block))
            sink.sendall(block)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def throttled(env: dict[str, str], host: str, port: int, rate: Callable[[], float | None]) -> Iterator[None]:
    """Send restic, which is started with this environment, through a proxy for as long as the block lasts."""
    proxy = Proxy(host, port, rate)
    env["HTTPS_PROXY"] = proxy.url
    try:
        yield
    finally:
        env.pop("HTTPS_PROXY", None)
        proxy.close()
