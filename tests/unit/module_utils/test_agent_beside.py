"""Work beside restic is waited for, and is not left alone with its errors."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_beside


def test_its_result_is_waited_for():
    go, asked = threading.Event(), []

    def meanwhile():
        asked.append(1)
        go.set()

    with agent_beside.Beside(lambda _go_on: go.wait(20) and "done") as beside:
        assert beside.busy
        assert beside.result(meanwhile, 0.01) == "done"
    assert asked
    assert not beside.busy


def test_its_error_is_the_callers():
    with pytest.raises(ZeroDivisionError), agent_beside.Beside(lambda _go_on: 1 / 0) as beside:
        beside.result(lambda: None, 0.01)


def test_it_hears_that_nobody_wants_it_any_more():
    ended = threading.Event()

    def work(go_on):
        while go_on():
            ended.wait(0.01)
        ended.set()

    with pytest.raises(KeyError), agent_beside.Beside(work):
        raise KeyError
    assert ended.wait(20)
