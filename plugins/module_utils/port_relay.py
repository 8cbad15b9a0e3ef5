# SPDX-License-Identifier: Apache-2.0
"""One TCP port of another machine, and nothing else of the world, to be had inside a network namespace.

The listening socket is made in the namespace, the connections to the target from where this process is. No address is
translated and no packet forwarded, so whoever is in the namespace reaches that port or nothing. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 18
_CONNECT_S = 10.0


class RelayError(Exception):
    """The relay cannot listen; the text says why."""


def listen_in(namespace: str, address: str, port: int) -> socket.socket:
    """Make a listening socket in a network namespace (its path). Raises RelayError."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        # a thread of its own goes into the namespace and ends there; the others stay where they are
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(fd, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                os.close(fd)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made.append(socket.create_server((address, port), family=family, backlog=64))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise RelayError(f"cannot listen at {address}:{port} in {namespace}: {failed[0].strerror or failed[0]}")
    return made[0]


class Relay:
    """Carries connections that are made to ``server`` over to ``target``. ``connections`` and ``bytes`` tell what passed."""

    def __init__(self, server: socket.socket, target: tuple[str, int]) -> None:
        self._server, self._target = server, target
        self._lock = threading.Lock()
        self.connections = 0
        self.bytes = 0

    def serve(self) -> None:
        """Take connections until the server socket is closed."""
        while True:
            try:
                near, _address = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection(self._target, _CONNECT_S)
            except OSError:
                return  # who is inside sees a connection that ends, as from a server that is off
            with self._lock:
                self.connections += 1
            with far:
                self._pump(near, far)

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with selectors.DefaultSelector() as chooser, contextlib.suppress(OSError):
            for each in other:
                each.settimeout(600)
                chooser.register(each, selectors.EVENT_READ)
            while chooser.get_map():
                for key, _events in chooser.select():
                    source = key.fileobj
                    data = source.recv(_CHUNK)  # type: ignore[union-attr]
                    if data:
                        other[source].sendall(data)  # type: ignore[index]
                        with self._lock:
                            self.bytes += len(data)
                    else:
                        chooser.unregister(source)
                        other[source].shutdown(socket.SHUT_WR)  # type: ignore[index]


@contextmanager
def relay(namespace: str, address: str, port: int, target: tuple[str, int]) -> Iterator[Relay]:
    """Offer ``target`` at ``address``:``port`` inside a namespace for as long as the block lasts."""
    with listen_in(namespace, address, port) as server:
        found = Relay(server, target)
        thread = threading.Thread(target=found.serve, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
