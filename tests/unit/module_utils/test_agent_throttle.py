"""The proxy keeps to a rate that may change, knows one target, and ends with the run."""

from __future__ import annotations

import base64
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.agent_throttle import Bucket, Proxy, throttled


@pytest.fixture
def nas():
    """Something that takes whatever comes, counts it, and answers with its length."""
    listener = socket.create_server(("127.0.0.1", 0))

    def take(peer):
        with peer:
            while block := peer.recv(65536):
                counted.got += len(block)
            peer.sendall(str(counted.got).encode())

    class Counted:
        got = 0
        port = listener.getsockname()[1]

    counted = Counted()

    def serve():
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=take, args=(peer,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield counted
    listener.close()


def connect(url, target, user=None):
    parts = urlsplit(url)
    peer = socket.create_connection((parts.hostname, parts.port), timeout=10)
    login = base64.b64encode((user or f"{parts.username}:{parts.password}").encode()).decode()
    peer.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {login}\r\n\r\n".encode())
    return peer, peer.recv(200).decode().split("\r\n")[0]


def test_a_rate_is_kept_and_may_change_on_the_way(nas, monkeypatch):
    rate = [200_000.0]
    env = {}
    with throttled(env, "127.0.0.1", nas.port, lambda: rate[0]):
        url = env["HTTPS_PROXY"]
        peer, said = connect(url, f"127.0.0.1:{nas.port}")
        assert said.split()[1] == "200"
        began = time.monotonic()
        sender = threading.Thread(target=peer.sendall, args=(b"x" * 3_000_000,), daemon=True)
        sender.start()
        time.sleep(1.0)
        slow = nas.got
        assert 100_000 < slow < 320_000, slow
        rate[0] = None
        sender.join(10)
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(100) == b"3000000"
        assert time.monotonic() - began < 8
    assert "HTTPS_PROXY" not in env
    with pytest.raises(OSError, match=r"refused|reset"):
        connect(url, f"127.0.0.1:{nas.port}")


@pytest.mark.parametrize(
    ("target", "user", "code"),
    [
        ("127.0.0.1:22", None, "403"),
        ("198.18.0.12:PORT", None, "403"),
        ("127.0.0.1:PORT", "run:guess", "407"),
        ("127.0.0.1:PORT", None, "200"),
    ],
)
def test_only_the_run_gets_through_and_only_to_the_nas(nas, target, user, code):
    proxy = Proxy("127.0.0.1", nas.port, lambda: None)
    try:
        peer, said = connect(proxy.url, target.replace("PORT", str(nas.port)), user)
        peer.close()
        assert said.split()[1] == code
        assert urlsplit(proxy.url).hostname == "127.0.0.1"
    finally:
        proxy.close()


def test_a_nas_that_does_not_answer_is_told_as_such():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    proxy = Proxy("127.0.0.1", port, lambda: None)
    try:
        assert connect(proxy.url, f"127.0.0.1:{port}")[1] == "HTTP/1.1 502 connection refused"
    finally:
        proxy.close()


def test_an_end_waits_for_no_rate():
    over = threading.Event()
    bucket = Bucket(lambda: 1.0, over)
    bucket.take(1000)
    threading.Timer(0.2, over.set).start()
    began = time.monotonic()
    bucket.take(1000)
    assert time.monotonic() - began < 2
