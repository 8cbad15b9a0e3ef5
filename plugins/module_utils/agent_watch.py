# SPDX-License-Identifier: Apache-2.0
"""Not now, and not any more: what keeps a run from beginning, and what ends one that is under way.

A gate is asked before a run; its answer defers the run: no record, a note in ``deferred/JOB.json``, exit code 75, and the
service tries again every minute. During a run a thread asks it again; an answer then ends the run as a stop from outside
does, under the answer's own reason.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, NamedTuple, Optional

from .agent_host import Places, read_json, say, utc, write_json

EVERY_S = 3.0


class Answer(NamedTuple):
    """Why not. ``retry``: the service tries again by itself, every minute, until no gate answers."""

    code: str
    message: str
    retry: bool = True


Check = Callable[[], Optional[Answer]]


@dataclass(frozen=True)
class Gate:
    """What may keep a job from running: asked before a run, and every few seconds while it lasts. None: go ahead."""

    begin: Check
    go_on: Check


def first(checks: Sequence[Check]) -> Answer | None:
    """Give the first answer."""
    for check in checks:
        answer = check()
        if answer:
            return answer
    return None


class Watch:
    """A thread that asks checks while a run lasts. At the first answer it sends the main thread the signal to stop."""

    def __init__(self, checks: Sequence[Check], every_s: float = EVERY_S) -> None:
        self.answer: Answer | None = None
        self._checks, self._every_s = checks, every_s
        self._over = threading.Event()
        self._broken = False

    @contextlib.contextmanager
    def running(self) -> Iterator[Watch]:
        """Ask until the block ends. To be entered in the main thread, with a handler for SIGTERM in place."""
        thread = threading.Thread(target=self._ask, name="watch", daemon=True)
        if self._checks:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()

    def _ask(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                answer = first(self._checks)
            except Exception as error:  # a check that breaks must not end the backup, nor the other checks for good
                if not self._broken:
                    say(f"a check during the run does not work: {type(error).__name__}: {error}", 4)
                self._broken = True
                continue
            if answer and not self._over.is_set():
                self.answer = answer
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
                return


def defer(places: Places, job: str, answer: Answer) -> None:
    """Note that a job waits, and since when; the journal hears of it once."""
    before = read_json(places.deferred(job)) or {}
    since = before.get("since") or utc(time.time())
    write_json(places.deferred(job), {"code": answer.code, "message": answer.message, "since": since})
    if before.get("code") != answer.code:
        say(f"{job}: deferred: {answer.code}: {answer.message}; tried again every minute", 5)


def resume(places: Places, job: str) -> None:
    """The job runs now."""
    before = read_json(places.deferred(job))
    if before:
        say(f"{job}: goes ahead; it was deferred since {before['since']} ({before['code']})", 5)
    places.deferred(job).unlink(missing_ok=True)
