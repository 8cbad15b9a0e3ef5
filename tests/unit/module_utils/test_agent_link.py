"""A NAS that is gone for a moment ends no run; one that stays away does."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_link


@pytest.mark.parametrize(
    ("silent", "ends"),
    [
        ([], None),
        ([(100, 160)], None),
        ([(100, 380)], None),
        ([(100, 300), (340, 600)], None),  # it was there in between
        ([(100, 2000)], 380),
    ],
)
def test_patience(silent, ends):
    now = [0.0]
    asked = []

    def ask(host, port):
        asked.append((host, port))
        return port == 8000 and not any(begin <= now[0] < end for begin, end in silent)

    link = agent_link.Link("198.18.0.11", 8000, ask, lambda: now[0])
    answer = None
    while now[0] < 1000 and not answer:
        now[0] += 3
        answer = link.go_on()
    assert {(host, port) for host, port in asked} <= {("198.18.0.11", 8000), ("198.18.0.11", 8001)}
    assert asked.count(("198.18.0.11", 8000)) <= now[0] / agent_link.EVERY_S
    if ends is None:
        assert answer is None
    else:
        assert (answer.code, answer.retry) == ("nas_unreachable", False)
        assert ends <= now[0] <= ends + 2 * agent_link.EVERY_S + agent_link.PATIENCE_S - 280


def test_a_repository_that_is_on_no_nas_has_no_such_gate():
    assert agent_link.link_gate("s3:https://192.0.2.1/bucket") == []
    (gate,) = agent_link.link_gate("rest:https://198.18.0.11:8000/server1/")
    assert gate.begin() is None
    assert gate.go_on() is None


def test_a_port_that_nobody_listens_on_does_not_answer():
    assert agent_link.answers("127.0.0.1", 1) is False


def test_a_nas_under_maintenance_is_there():
    """It serves nobody else meanwhile, on the next port."""
    now = [0.0]
    link = agent_link.Link("198.18.0.11", 8000, lambda _host, port: port == 8001, lambda: now[0])
    while now[0] < 3000:
        now[0] += 10
        assert link.go_on() is None


@pytest.mark.parametrize(
    ("url", "open_port", "expected"),
    [
        ("rest:https://198.18.0.11:8000/server1/", 8001, True),
        ("rest:https://198.18.0.11:8000/server1/", 8000, False),
        ("s3:https://192.0.2.1/bucket", 8001, False),
    ],
)
def test_maintenance_is_seen_by_the_next_port(url, open_port, expected):
    assert agent_link.is_maintained(url, lambda _host, port: port == open_port) is expected
