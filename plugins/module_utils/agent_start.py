# SPDX-License-Identifier: Apache-2.0
"""``holdfast-agent run``: a person starts a job's own service, and watches. The run is systemd's: it goes on without them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Callable

from .agent_advice import advice
from .agent_host import EXIT_INVALID, Places, human, read_json
from .agent_progress import bar, words
from .agent_status import UNIT, span

EXIT_LEFT = 130  # what a shell says of a program that ^C ended
POLL_S = 0.3
PLAIN_EVERY_S = 15.0
PATIENCE_S = 15.0
_ASKED = ("ActiveState", "SubState", "ExecMainCode", "ExecMainStatus", "InvocationID", "Job")
_EXITED = "1"  # CLD_EXITED


class StartError(Exception):
    """systemd did not do it."""


def systemctl(*arguments: str) -> str:
    """Its output; StartError with its words."""
    try:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise StartError("systemctl is not on this host") from error
    if done.returncode != 0:
        raise StartError((done.stderr or done.stdout).strip())
    return done.stdout


def service(name: str, ask: Callable[..., str]) -> dict[str, str]:
    """The service as systemd shows it."""
    shown = ask("show", "--property", ",".join(_ASKED), "--", UNIT.format(name))
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def under_way(shown: Mapping[str, str]) -> bool:
    """Does it run, or is it about to?"""
    queued = shown.get("Job") not in (None, "", "0")
    return queued or shown.get("ActiveState") in ("activating", "active", "deactivating", "reloading")


def waits(shown: Mapping[str, str]) -> bool:
    """Has it put itself off, and waits for its next try?"""
    return str(shown.get("SubState")).startswith("auto-restart")


def exit_code(shown: Mapping[str, str]) -> int:
    """The run's own; a run that was killed has none and FAILED."""
    return int(shown.get("ExecMainStatus") or 1) if shown.get("ExecMainCode") == _EXITED else 1


class Screen:
    """Shows how far a run is: a bar on a terminal, a line now and then elsewhere, or JSON lines."""

    def __init__(self, out: Any, as_json: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.out, self.as_json, self._clock = out, as_json, clock
        self._terminal = out.isatty() and not as_json
        self._last: tuple[Any, float] = (None, 0.0)
        self._drawn = False

    def show(self, name: str, now: Mapping[str, Any]) -> None:
        """Draw, if it is time to."""
        if self._terminal:
            width = shutil.get_terminal_size().columns
            self.out.write("\r" + bar(now, width) + "\x1b[K")
            self._drawn = True
        elif self.as_json:
            if self._last[0] == now.get("updated"):
                return
            self.out.write(json.dumps({"type": "progress", **now}) + "\n")
            self._last = (now.get("updated"), 0.0)
        else:
            if self._last[0] == now.get("phase") and self._clock() - self._last[1] < PLAIN_EVERY_S:
                return
            self.out.write(f"{name}: {words(now)}\n")
            self._last = (now.get("phase"), self._clock())
        self.out.flush()

    def say(self, text: str) -> None:
        """A line for people; machines get none."""
        self.clear()
        if not self.as_json:
            self.out.write(text + "\n")
            self.out.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            self.out.write("\r\x1b[K")
            self._drawn = False

    def result(self, content: Mapping[str, Any]) -> None:
        """What machines get at the end."""
        if self.as_json:
            self.out.write(json.dumps({"type": "result", **content}) + "\n")
            self.out.flush()


def ending(record: Mapping[str, Any]) -> list[str]:
    """The end of a run, for people."""
    name = str(record["job"])
    came_to = f"{record['files']} files, {human(record['bytes'])}, run {record['run']}"
    lines = [f"{name}: {record['state']} after {span(record['seconds'])}: {came_to}"]
    for reason in record["reasons"]:
        lines += [f"  {reason['code']}: {reason['message']}", f"    what to do: {advice(reason['code'], name)}"]
    return lines


def start_job(name: str, places: Places, as_json: bool, out: Any = None, ask: Callable[..., str] = systemctl) -> int:
    """Start and follow; the run's exit code. A run that is under way already is followed instead."""
    screen = Screen(out or sys.stdout, as_json)
    unit = UNIT.format(name)
    if not places.job(name).exists():
        known = ", ".join(sorted(path.stem for path in (places.etc / "jobs").glob("*.json"))) or "none"
        sys.stderr.write(f"{name}: no such job on this host; there are: {known}\n")
        return EXIT_INVALID
    try:
        before = service(name, ask)
        last = (read_json(places.status(name)) or {}).get("run")
        if under_way(before):
            screen.say(f"{name}: a run is under way already; this follows it (nothing new was started)")
        else:
            ask("start", "--no-block", "--", unit)
            screen.say(f"{name}: started; ^C leaves it running")
        return _follow(name, places, screen, ask, before, last)
    except StartError as error:
        sys.stderr.write(f"{name}: systemd did not start it: {error}\n")
        return 1
    except KeyboardInterrupt:
        screen.say(
            f"{name}: the run goes on without you. Watch it: holdfast-agent run {name}   (it follows, and starts nothing)\n"
            f"Stop it: systemctl stop {unit}"
        )
        return EXIT_LEFT


def _follow(
    name: str, places: Places, screen: Screen, ask: Callable[..., str], before: Mapping[str, str], last: str | None
) -> int:
    while True:
        shown = service(name, ask)
        if waits(shown):
            return _put_off(name, places, screen, shown)
        if not under_way(shown):
            break
        now = read_json(places.progress(name))
        if now:
            screen.show(name, now)
        time.sleep(POLL_S)
    screen.clear()
    deadline = time.monotonic() + PATIENCE_S
    while places.running(name).exists() and time.monotonic() < deadline:
        time.sleep(POLL_S)  # of a run that was killed, another service writes the record
    if shown.get("InvocationID") == before.get("InvocationID") and not under_way(before):
        raise StartError(f"the service did not run; see: journalctl -u {UNIT.format(name)}")
    code = exit_code(shown)
    record = read_json(places.status(name)) or {}
    if not record or record.get("run") == last:
        screen.say(f"{name}: the run left no record and ended with {code}; see: journalctl -u {UNIT.format(name)}")
        screen.result({"job": name, "exit_code": code, "record": None})
        return code
    for line in ending(record):
        screen.say(line)
    screen.result({"job": name, "exit_code": code, "record": record})
    return code


def _put_off(name: str, places: Places, screen: Screen, shown: Mapping[str, str]) -> int:
    """Not now: it tries again by itself."""
    told = read_json(places.state / "deferred" / f"{name}.json") or {}
    screen.say(
        f"{name}: not now: {told.get('code', 'put off')}: {told.get('message', 'the run put itself off')}. It tries again "
        f"every minute by itself; to call it off: systemctl stop {UNIT.format(name)}"
    )
    code = exit_code(shown)
    screen.result({"job": name, "exit_code": code, "record": None, "deferred": told or None})
    return code


def register(verbs: Any) -> None:
    """The verb of this part."""
    run = verbs.add_parser("run", help="start a job now and watch it; ^C leaves it running")
    run.add_argument("job")
    run.add_argument("--json", action="store_true", help="JSON lines: progress, then the result")
    run.set_defaults(call=lambda wanted, places: start_job(wanted.job, places, wanted.json))
