# SPDX-License-Identifier: Apache-2.0
"""The relay carries one port, whole and in both directions, and ends with its block."""

from __future__ import annotations

import socket
import threading

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.port_relay import Relay, RelayError, listen_in


def everything(peer: socket.socket) -> bytes:
    return b"".join(iter(lambda: peer.recv(65536), b""))


@pytest.fixture
def echo():
    """A server that sends everything back when the other side is done."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _address = server.accept()
            except OSError:
                return
            with peer:
                peer.sendall(everything(peer))

    threading.Thread(target=serve, daemon=True).start()
    with server:
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)


def started(target):
    server = socket.create_server(("127.0.0.1", 0))
    relay = Relay(server, target)
    threading.Thread(target=relay.serve, daemon=True).start()
    return server, relay


def through(address, content: bytes) -> bytes:
    with socket.create_connection(address, 10) as peer:
        threading.Thread(target=lambda: (peer.sendall(content), peer.shutdown(socket.SHUT_WR)), daemon=True).start()
        return everything(peer)


def test_bytes_come_through_whole_and_are_counted(echo):
    server, relay = started(echo)
    content = bytes(range(256)) * 20_000
    assert through(server.getsockname(), content) == content
    assert through(server.getsockname(), b"again") == b"again"
    assert (relay.connections, relay.bytes) == (2, 2 * (len(content) + 5))
    server.close()


def test_a_target_that_is_off_ends_the_connection(echo):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nobody = unused.getsockname()
    server, relay = started(nobody)
    with socket.create_connection(server.getsockname(), 10) as peer:
        peer.settimeout(10)
        assert peer.recv(1) == b""
    assert relay.connections == 0
    server.close()


def test_a_namespace_that_is_not_there_is_said():
    with pytest.raises(RelayError, match=r"cannot listen at 198\.18\.0\.11:8000 in /run/netns/nobody"):
        listen_in("/run/netns/nobody", "198.18.0.11", 8000)
