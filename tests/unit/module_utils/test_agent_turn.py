"""One job of a host at a time, an awake machine, and a network that may come later."""

from __future__ import annotations

import errno
import fcntl
import json
import socket

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_host, agent_turn
from ansible_collections.holdfast.practice.plugins.module_utils.backup_nas import NasError


@pytest.fixture
def places(tmp_path):
    return agent_host.Places(state=tmp_path / "state", run=tmp_path / "run")


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """What systemd is told."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind(str(tmp_path / "notify"))
    channel.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield channel
    channel.close()


def test_the_time_limit_counts_from_the_turn(places, manager):
    with agent_turn.turn(places, "documents", 60):
        assert manager.recv(100) == b"EXTEND_TIMEOUT_USEC=60000000"
        assert (places.run / agent_turn.LOCK).read_text() == "documents"
    assert not places.deferred("documents").exists()


@pytest.mark.parametrize("ends", [True, False])
def test_a_job_waits_for_another_one_but_not_for_ever(places, manager, monkeypatch, capfdbinary, ends):
    places.run.mkdir()
    other = (places.run / agent_turn.LOCK).open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    other.write("clinical_db")
    other.flush()
    clock = [0.0]

    def sleep(_seconds):
        note = json.loads(places.deferred("documents").read_text())
        assert (note["code"], "clinical_db" in note["message"]) == ("host_busy", True)
        clock[0] += 2000
        if ends:
            other.close()

    monkeypatch.setattr(agent_turn.time, "sleep", sleep)
    monkeypatch.setattr(agent_turn.time, "monotonic", lambda: clock[0])
    with agent_turn.turn(places, "documents", 60):
        pass
    other.close()
    said = capfdbinary.readouterr().out.decode().splitlines()
    assert said[0] == "documents: waits for clinical_db, which is being backed up on this host"
    assert len(said) == (1 if ends else 2)
    assert ends or said[1] == "documents: has waited for 60 minutes; begins beside clinical_db"
    assert manager.recv(100) == b"EXTEND_TIMEOUT_USEC=120000000"


@pytest.mark.parametrize("program", ["#!/bin/sh\nexec cat\n", "#!/bin/sh\nexit 1\n", None])
def test_a_machine_is_kept_awake_where_somebody_can_be_asked(tmp_path, monkeypatch, program):
    if program:
        (tmp_path / "systemd-inhibit").write_text(program)
        (tmp_path / "systemd-inhibit").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if program else str(tmp_path))
    with agent_turn.awake("documents", wanted=True), agent_turn.awake("documents", wanted=False):
        pass


def unreachable(number):
    error = NasError("nas_unreachable", "x")
    error.__cause__ = OSError(number, "x")
    return error


@pytest.mark.parametrize(
    ("errors", "asked"),
    [
        ([unreachable(errno.ENETUNREACH), unreachable(errno.EHOSTUNREACH)], 3),
        ([unreachable(errno.ECONNREFUSED)], 2),
        ([unreachable(errno.ECONNREFUSED)] * 99, None),
        ([NasError("certificate_mismatch", "x")], None),
        ([unreachable(errno.ENETUNREACH)] * 99, None),
    ],
)
def test_a_nas_is_asked_again_while_the_network_may_be_coming(monkeypatch, errors, asked):
    clock, left, count = [0.0], list(errors), [0]
    monkeypatch.setattr(agent_turn.time, "monotonic", lambda: clock[0])

    def ask():
        count[0] += 1
        if left:
            raise left.pop(0)
        return "id"

    def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr(agent_turn, "outage_left_s", lambda: 0.0)
    if asked is None:
        with pytest.raises(NasError):
            agent_turn.once_the_network_is_back("documents", ask, lambda: False, sleep)
        assert count[0] <= 32
    else:
        assert agent_turn.once_the_network_is_back("documents", ask, lambda: False, sleep) == "id"
        assert count[0] == asked


@pytest.mark.parametrize(("left_s", "refused", "ends"), [(600.0, 150, True), (600.0, 250, False), (0.0, 9, False)])
def test_after_an_outage_the_nas_gets_time_to_start(monkeypatch, left_s, refused, ends):
    clock, errors = [0.0], [unreachable(errno.ECONNREFUSED)] * refused
    monkeypatch.setattr(agent_turn.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(agent_turn, "outage_left_s", lambda: left_s)

    def ask():
        if errors:
            raise errors.pop()
        return "id"

    def sleep(seconds):
        clock[0] += seconds

    if ends:
        assert agent_turn.once_the_network_is_back("documents", ask, lambda: False, sleep) == "id"
    else:
        with pytest.raises(NasError):
            agent_turn.once_the_network_is_back("documents", ask, lambda: False, sleep)
        assert clock[0] <= max(left_s, agent_turn.RESTART_S) + agent_turn.AGAIN_S


@pytest.mark.parametrize(("minutes", "ends"), [(90, True), (130, False)])
def test_a_nas_under_maintenance_is_waited_for_as_long_as_that_can_last(monkeypatch, minutes, ends):
    clock = [0.0]
    monkeypatch.setattr(agent_turn.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(agent_turn, "outage_left_s", lambda: 0.0)

    def ask():
        if clock[0] < minutes * 60:
            raise unreachable(errno.ECONNREFUSED)
        return "id"

    def sleep(seconds):
        clock[0] += seconds

    if ends:
        assert agent_turn.once_the_network_is_back("documents", ask, lambda: True, sleep) == "id"
    else:
        with pytest.raises(NasError):
            agent_turn.once_the_network_is_back("documents", ask, lambda: True, sleep)


@pytest.mark.parametrize(
    ("text", "up_s", "left_s"),
    [
        (None, 10.0, 0.0),
        ('{"boot_id": "b", "outage": false}', 10.0, 0.0),
        ('{"boot_id": "b", "outage": true}', 10.0, agent_turn.STARTED_S - 10),
        ('{"boot_id": "b", "outage": true}', 10_000.0, 0.0),
        ("{", 10.0, 0.0),
    ],
)
def test_only_an_outage_not_long_ago_is_a_reason_to_wait(tmp_path, monkeypatch, text, up_s, left_s):
    monkeypatch.setattr(agent_turn, "machine_up_s", lambda: up_s)
    if text is not None:
        (tmp_path / "came-back.json").write_text(text)
    assert agent_turn.outage_left_s(tmp_path / "came-back.json") == left_s


def test_a_machine_knows_how_long_it_is_up():
    assert 0 < agent_turn.machine_up_s() < 10**9
