# SPDX-License-Identifier: Apache-2.0
"""The way in for maintenance: what it may do, for how long, and that the repository service comes back."""

from __future__ import annotations

import re

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nas_repository as repository

HASH = "$2b$12$" + "a" * 53
ACCOUNT = repository.Account("server1", HASH)


def lines(text):
    return [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def test_it_and_the_service_stop_each_other_and_the_service_comes_back():
    unit = repository.render_door("/srv/holdfast", "198.18.0.11:8001", "server1", 600)
    assert f"Conflicts={repository.SERVICE}" in lines(unit)
    # without the order systemd could start the one while the other still runs
    assert f"After={repository.SERVICE}" in lines(unit)
    assert f"ExecStopPost=+/usr/bin/systemctl start --no-block {repository.SERVICE}" in lines(unit)
    assert "RuntimeMaxSec=600" in lines(unit)
    assert not [line for line in lines(unit) if line.startswith(("Restart=", "WantedBy="))]


def test_it_may_erase_and_in_one_repository_only():
    unit = repository.render_door("/srv/holdfast", "198.18.0.11:8001", "server1", 600)
    assert "--append-only" not in unit
    assert "--private-repos" in unit
    assert "ReadWritePaths=/srv/holdfast/repositories/server1" in lines(unit)


def test_it_is_shut_in_as_the_service_is():
    """Whatever guards the service guards this as well; only what it may write is less."""
    usual = re.sub("ReadWritePaths=.*", "", repository.render_unit("/srv/holdfast", "198.18.0.11:8000"))
    door = set(lines(repository.render_door("/srv/holdfast", "198.18.0.11:8001", "server1", 600)))
    guards = [
        line
        for line in lines(usual)
        if re.match(r"(Protect|Private|Restrict|System|Lock|Memory|No|Cap|Ambient|UMask)", line)
    ]
    assert len(guards) > 20
    assert set(guards) <= door


def test_its_password_is_in_no_diff_and_goes_with_it():
    open_, closed = repository.door(ACCOUNT, "/srv/holdfast", "198.18.0.11:8001", 600), repository.door_closed()
    assert {file.path: file.secret for file in open_.files} == {
        repository.DOOR_HTPASSWD: True,
        repository.DOOR_PATH: False,
    }
    assert {file.path for file in closed.files if file.content is None} == {file.path for file in open_.files}
    assert [folder.absent for folder in closed.dirs] == [True]
    assert all(file.path.startswith("/run/") for file in open_.files), "gone with the next boot"
    assert [(unit.name, unit.active) for unit in closed.units] == [(repository.DOOR, False), (repository.SERVICE, True)]


@pytest.mark.parametrize(
    ("listen", "door"),
    [("198.18.0.11:8000", "198.18.0.11:8001"), ("[2001:db8::11]:9000", "[2001:db8::11]:9001")],
)
def test_it_answers_one_port_further(listen, door):
    assert repository.door_listen(listen) == door


def test_a_lock_is_in_use_as_long_as_its_client_writes_it_anew():
    """restic does so every five minutes."""
    assert repository.locks_in_use({"a": 1000.0, "b": 1500.0}, 1600.0) == 2
    assert repository.locks_in_use({"a": 1000.0, "b": 1500.0}, 1000.0 + 660.0) == 1
    assert repository.locks_in_use({}, 0.0) == 0
