# SPDX-License-Identifier: Apache-2.0
"""While a proof restores, a person sees how far it is, and a log is not flooded."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.action import restore_verify as action


class Clock:
    """An event that is set after so many seconds, of which none passes."""

    def __init__(self, seconds):
        self.left = seconds

    def wait(self, pause):
        self.left -= pause
        return self.left <= 0


def lines(seconds, read):
    said = []
    watch = action.Watch("documents of server1", read, said.append)
    watch.over = Clock(seconds)
    watch.run()
    return said


def grows():
    now = {"phase": "restore", "percent": 0, "files": 0, "bytes": 0}

    def read():
        now["files"] += 1
        return json.dumps(now)

    return read


@pytest.mark.parametrize(("seconds", "most"), [(5, 0), (60, 5), (600, 14), (4 * 3600, 62)])
def test_a_long_restore_says_little_more_than_a_short_one(seconds, most):
    said = lines(seconds, grows())
    assert len(said) <= most
    assert len(said) >= most - 3


def test_it_says_how_far_it_is():
    now = {"phase": "restore", "percent": 43, "files": 7, "bytes": 1 << 20, "total_bytes": 2 << 20, "rate": 1 << 20}
    assert lines(15, lambda: json.dumps(now)) == [
        "  documents of server1: restoring 43 %, 7 files, 1.0 MiB of 2.0 MiB, 1.0 MiB/s"
    ]


@pytest.mark.parametrize(
    "text", ["", "not JSON", "[]", "3", '{"percent": 3, "files": 1, "total_files": 1, "bytes": "x"}']
)
def test_a_picture_that_cannot_be_drawn_is_left_out(text):
    assert lines(100, lambda: text) == []


def test_nothing_new_is_said_once():
    assert len(lines(300, lambda: json.dumps({"phase": "verify", "percent": 3}))) == 1


class Connection:
    become = None

    def __init__(self):
        self._shell = SimpleNamespace(tmpdir="unused")


@pytest.mark.parametrize(
    ("phase", "check_mode", "watched"), [("fetch", False, 1), ("fetch", True, 0), ("judge", False, 0)]
)
def test_only_a_restore_is_watched_and_the_result_is_the_modules(monkeypatch, phase, check_mode, watched):
    started = []
    monkeypatch.setattr(action.Watch, "start", lambda self: started.append(self))
    monkeypatch.setattr(action.Watch, "join", lambda _self: None)
    item = {"item": "documents", "host": "server1"}
    arguments = {"phase": phase, "folder": "/x y", "items": [item]}
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=check_mode, action="restore_verify")
    connection = Connection()
    module = action.ActionModule(task, connection, SimpleNamespace(), None, None, None)
    asked = []
    monkeypatch.setattr(action.ActionModule, "_execute_module", lambda _self, **_named: {"verdict": "PASS"})
    monkeypatch.setattr(
        action.ActionModule,
        "_low_level_execute_command",
        lambda self, command: asked.append((command, self._connection is connection)) or {"stdout": "{}"},
    )
    assert module.run(task_vars={})["verdict"] == "PASS"
    assert len(started) == watched
    for watch in started:
        assert watch.over.is_set()
        assert watch._read() == "{}"
        assert asked == [("cat '/x y/proof/progress.json'", False)]
