# SPDX-License-Identifier: Apache-2.0
"""A job's hooks: programs of the practice's own that run before a backup, after it, and when it failed.

The agent's sandbox would let a hook do next to nothing (it is there to stop and start the practice's software), so each runs as
a transient unit of systemd outside of it, as the user that the document names: its own control group, which goes as a whole at
its time limit; an environment without our secrets; its output in the journal under ``holdfast-hook``, a bounded number of lines.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from .database_engine import ENV

PHASES = ("before", "after", "on_failure")
CODE = "hook_failed"
# What is left of the service's own time to stop when a run is stopped.
HURRY_S = 15
LINES = 200
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")

Run = Callable[[Sequence[str], Mapping[str, str]], "tuple[int, str, str]"]


@dataclass(frozen=True)
class Hook:
    """One program: argv, seconds that it may take, whose it is."""

    run: Sequence[str]
    limit_s: int
    user: str = "root"


def parsed(found: Mapping[str, Any]) -> dict[str, Hook]:
    """Hooks of a job by phase, from what ``hook_faults`` finds nothing wrong with."""
    return {
        phase: Hook(tuple(hook["run"]), int(hook["limit_s"]), str(hook.get("user") or "root"))
        for phase, hook in found.items()
    }


def hook_faults(hooks: Any) -> list[str]:
    """Everything that is wrong with a job's ``hooks``, in words."""
    if hooks is None:
        return []
    if not isinstance(hooks, Mapping) or not set(hooks) <= set(PHASES):
        return [f"hooks: expected {', '.join(PHASES)}"]
    faults = []
    for phase, hook in hooks.items():
        where = f"hooks.{phase}"
        if not isinstance(hook, Mapping) or not set(hook) <= {"run", "limit_s", "user"}:
            faults.append(f"{where}: expected run, limit_s, and perhaps user")
            continue
        argv, limit, user = hook.get("run"), hook.get("limit_s"), hook.get("user", "root")
        if (
            not isinstance(argv, list)
            or not argv
            or not all(isinstance(word, str) and "\0" not in word for word in argv)
        ):
            faults.append(f"{where}.run: expected a list: a program and its arguments")
        elif not argv[0].startswith("/"):
            faults.append(f"{where}.run {argv[0]!r}: expected the absolute path of a program first")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            faults.append(f"{where}.limit_s {limit!r}: expected a number, 1 or more")
        if not isinstance(user, str) or not _USER.fullmatch(user):
            faults.append(f"{where}.user {user!r}: expected the name of a user")
    return faults


def command(unit: str, hook: Hook, limit_s: int, environment: Mapping[str, str]) -> list[str]:
    """Arguments of systemd-run for a hook. Pure. ($ and % are the program's own: nothing is expanded.)"""
    properties = {
        "RuntimeMaxSec": str(limit_s),
        "TimeoutStopSec": "5",
        "KillMode": "control-group",
        "SyslogIdentifier": "holdfast-hook",
        "LogRateLimitIntervalSec": str(limit_s + 60),
        "LogRateLimitBurst": str(LINES),
    }
    return [
        "systemd-run", "--quiet", "--wait", "--collect", "--service-type=exec", "--expand-environment=no",
        f"--unit={unit}", f"--uid={hook.user}", "--working-directory=/",
        *(f"--property={name}={value}" for name, value in properties.items()),
        *(f"--setenv={name}={value}" for name, value in environment.items()),
        "--", *hook.run,
    ]  # fmt: skip


class Hooks:
    """The hooks of one run. facts: JOB, PRACTICE, HOST and RUN, for their environment."""

    def __init__(
        self, hooks: Mapping[str, Hook], facts: Mapping[str, str], run: Run, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hooks, self._facts, self._run, self._clock = hooks, facts, run, clock
        self.begun = False

    def afterwards(self, state: Callable[[], str], hurry: bool) -> Iterator[str]:
        """After the run: what failed, hook by hook. state() is asked before each, as a failed hook changes it."""
        if self.begun:
            yield from filter(None, [self.call("after", state(), hurry)])
        if state() == "FAILED":
            yield from filter(None, [self.call("on_failure", state(), hurry)])

    def call(self, phase: str, state: str, hurry: bool = False) -> str:
        """Run a hook, if there is one: why it failed, or nothing. ``hurry``: the service itself is being stopped."""
        self.begun = self.begun or phase == "before"
        hook = self._hooks.get(phase)
        if not hook:
            return ""
        limit = min(hook.limit_s, HURRY_S) if hurry else hook.limit_s
        unit = f"holdfast-hook-{self._facts['JOB']}-{phase}.service"
        told = {f"HOLDFAST_{name}": value for name, value in {**self._facts, "STATE": state}.items()}
        began = self._clock()
        try:
            code, _out, err = self._run(command(unit, hook, limit, told), ENV)
        except BaseException:  # the run is being stopped: the hook goes with it
            self._run(["systemctl", "stop", "--", unit], ENV)
            raise
        if code == 0:
            return ""
        look = "journalctl -t holdfast-hook has what it said"
        if self._clock() - began >= limit:
            return f"the hook {phase} ({hook.run[0]}) was ended at its limit of {limit} s; {look}"
        said = " ".join(err.split())[:200]
        return f"the hook {phase} ({hook.run[0]}) ended with {code}{': ' + said if said else ''}; {look}"
