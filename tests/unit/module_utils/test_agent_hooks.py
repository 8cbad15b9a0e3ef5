"""A hook runs as its user, for as long as it may, and fails aloud."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_hooks

HOOK = {"run": ["/bin/stop", "$HOME", "%n"], "limit_s": 300}
FACTS = {"JOB": "pms_db", "PRACTICE": "harbour-street", "HOST": "server1", "RUN": "R"}


@pytest.mark.parametrize(
    ("hooks", "faults"),
    [
        (None, 0),
        ({}, 0),
        ({"before": HOOK, "after": {**HOOK, "user": "pms"}, "on_failure": HOOK}, 0),
        ({"during": HOOK}, 1),
        ([], 1),
        ({"before": "stop"}, 1),
        ({"before": {**HOOK, "shell": True}}, 1),
        ({"before": {"run": [], "limit_s": 1}}, 1),
        ({"before": {"run": "stop", "limit_s": 1}}, 1),
        ({"before": {"run": ["stop"], "limit_s": 0}, "after": {"run": ["/bin/a\0b"], "limit_s": True}}, 4),
        ({"before": {**HOOK, "user": "pms user"}}, 1),
        ({"before": {**HOOK, "user": "-x"}}, 1),
    ],
)
def test_hook_faults(hooks, faults):
    assert len(agent_hooks.hook_faults(hooks)) == faults


class Played:
    """Hooks with systemd-run played. ends: {phase: (code, seconds) or an exception}."""

    def __init__(self, ends, hooks=("before", "after", "on_failure")):
        self.ends, self.now, self.calls, self.stopped = ends, 0.0, [], []
        found = agent_hooks.parsed(dict.fromkeys(hooks, HOOK))
        self.hooks = agent_hooks.Hooks(found, FACTS, self.run, lambda: self.now)

    def run(self, argv, env):
        assert "RESTIC_PASSWORD" not in " ".join(env)
        if argv[0] == "systemctl":
            self.stopped.append(argv[-1])
            return 0, "", ""
        (unit,) = [word for word in argv if word.startswith("--unit=")]
        phase = unit.rsplit("-", 1)[-1].split(".")[0]
        self.calls.append((phase, next(w for w in argv if "HOLDFAST_STATE" in w).split("=")[-1], argv))
        end = self.ends.get(phase, (0, 1))
        if isinstance(end, BaseException):
            raise end
        self.now += end[1]
        return end[0], "", "Unit not found"


def test_what_a_hook_is_told_and_how_it_is_kept():
    played = Played({})
    assert played.hooks.call("before", "RUNNING") == ""
    ((_phase, _state, argv),) = played.calls
    assert argv[-3:] == ["/bin/stop", "$HOME", "%n"]
    for word in (
        "--uid=root",
        "--expand-environment=no",
        "--property=RuntimeMaxSec=300",
        "--setenv=HOLDFAST_JOB=pms_db",
    ):
        assert word in argv
    assert "--property=KillMode=control-group" in argv


@pytest.mark.parametrize(
    ("ends", "state", "hurry", "phases", "words"),
    [
        ({}, "OK", False, ["after"], []),
        ({}, "FAILED", False, ["after", "on_failure"], []),
        ({"after": (3, 1)}, "OK", False, ["after"], ["ended with 3: Unit not found"]),
        ({"after": (1, 300)}, "OK", False, ["after"], ["ended at its limit of 300 s"]),
        ({"after": (1, 15)}, "FAILED", True, ["after", "on_failure"], ["ended at its limit of 15 s"]),
        (
            {"on_failure": (1, 1)},
            "FAILED",
            False,
            ["after", "on_failure"],
            ["the hook on_failure (/bin/stop) ended with 1"],
        ),
    ],
)
def test_after_a_run(ends, state, hurry, phases, words):
    played = Played(ends)
    played.hooks.call("before", "RUNNING")
    said = list(played.hooks.afterwards(lambda: state, hurry))
    assert [phase for phase, _state, _argv in played.calls[1:]] == phases
    assert [told for _phase, told, _argv in played.calls[1:]] == [state] * len(phases)
    assert len(said) == len(words)
    assert all(word in text for word, text in zip(words, said, strict=True))


def test_a_run_that_never_came_to_its_before_has_no_after():
    played = Played({})
    assert list(played.hooks.afterwards(lambda: "FAILED", False)) == []
    assert [phase for phase, _state, _argv in played.calls] == ["on_failure"]


def test_a_hook_that_is_stopped_takes_its_unit_with_it():
    played = Played({"before": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        played.hooks.call("before", "RUNNING")
    assert played.stopped == ["holdfast-hook-pms_db-before.service"]


def test_without_hooks_nothing_is_run():
    played = Played({}, hooks=())
    assert played.hooks.call("before", "RUNNING") == ""
    assert list(played.hooks.afterwards(lambda: "FAILED", False)) == []
    assert played.calls == []
