# SPDX-License-Identifier: Apache-2.0
"""The program that keeps a machine running, with a shell script in the machine's place."""

from __future__ import annotations

import fcntl
import json
import signal

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nspawn_supervisor


def machine(folder, script):
    spec = {"command": ["/bin/sh", "-c", script], "cgroups": [], "environment": {"PLACE": str(folder)}}
    (folder / "start.json").write_text(json.dumps(spec), encoding="utf-8")


def events(folder):
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [(event["event"], event["rc"]) for event in map(json.loads, lines)]


@pytest.mark.parametrize("rc", [0, 1])
def test_a_machine_that_is_off_stays_off(tmp_path, rc):
    machine(tmp_path, f"echo said; exit {rc}")
    assert nspawn_supervisor.supervise(tmp_path) == rc
    assert events(tmp_path) == [("started", None), ("exited", rc), ("stopped", rc)]
    assert (tmp_path / "console.log").read_text(encoding="utf-8") == "said\n"


def test_a_machine_whose_power_was_cut_stays_off(tmp_path):
    machine(tmp_path, "kill -9 $$")
    assert nspawn_supervisor.supervise(tmp_path) == -signal.SIGKILL
    assert events(tmp_path)[-1] == ("stopped", -signal.SIGKILL)


def test_a_machine_that_asks_for_a_reboot_is_started_again(tmp_path):
    machine(tmp_path, 'test -e "$PLACE/once" || { touch "$PLACE/once"; exit 133; }')
    assert nspawn_supervisor.supervise(tmp_path) == 0
    assert events(tmp_path) == [("started", None), ("exited", 133), ("started", None), ("exited", 0), ("stopped", 0)]


def test_a_machine_has_one_supervisor(tmp_path):
    machine(tmp_path, "exit 0")
    with (tmp_path / "supervisor.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert nspawn_supervisor.supervise(tmp_path) == 75
    assert not (tmp_path / "events.jsonl").exists()


def test_empty_control_groups_are_removed_from_the_bottom(tmp_path):
    (tmp_path / "group/payload/system.slice").mkdir(parents=True)
    nspawn_supervisor.remove_cgroup(tmp_path / "group")
    assert not (tmp_path / "group").exists()
    nspawn_supervisor.remove_cgroup(tmp_path / "group")
