# SPDX-License-Identifier: Apache-2.0
"""Whether whoever claimed a place for restored data is still at work."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys

from ansible_collections.holdfast.practice.plugins.filter.restore_holder import FilterModule, holder, state


def test_nobody_holds_what_nobody_claimed():
    assert state({}) == "nobody"


def test_a_holder_is_alive_while_its_process_is():
    mine = holder("harbour-street")
    assert state(mine) == "alive"
    assert state({**mine, "started": mine["started"] + 1}) == "gone", "another process with the same number"


def test_a_holder_that_was_killed_is_gone():
    done = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine = {**holder("harbour-street"), "pid": done.pid, "started": 1}
    done.kill()
    done.communicate()
    assert state(mine) == "gone"


def test_the_holder_is_the_process_that_workers_come_from():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(holder, ("harbour-street",))["pid"] == holder("harbour-street")["pid"]


def test_after_a_restart_of_either_machine_the_holder_is_gone():
    mine = holder("harbour-street")
    assert state(mine, rebooted=True) == "gone"
    assert state({**mine, "node_boot": "another"}) == "gone"


def test_another_control_node_cannot_be_seen_from_here():
    assert state({**holder("harbour-street"), "node": "control2", "node_boot": "another"}) == "unknown"


def test_each_holder_has_a_token_of_its_own():
    filters = FilterModule().filters()
    first, second = filters["restore_holder"]("a"), filters["restore_holder"]("a")
    assert first["token"] != second["token"]
    assert json.loads(json.dumps(first)) == first
