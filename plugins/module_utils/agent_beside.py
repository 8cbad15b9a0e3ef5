# SPDX-License-Identifier: Apache-2.0
"""Work that goes on while restic does its own."""

from __future__ import annotations

import threading
from typing import Any, Callable


class Beside:
    """Runs ``work(go_on)`` in a thread of its own until it is done or the ``with`` is left early.

    go_on: what the work asks from time to time; False once nobody wants it any more.
    """

    def __init__(self, work: Callable[[Callable[[], bool]], Any]) -> None:
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self._unwanted = threading.Event()
        # a disk that hangs must not keep the agent from ending
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._unwanted.set()

    def _run(self) -> None:
        try:
            self._result = self._work(lambda: not self._unwanted.is_set())
        except BaseException as error:  # it is raised where the result is asked for
            self._error = error

    @property
    def busy(self) -> bool:
        """Is there still something to do?"""
        return self._thread.is_alive()

    def result(self, meanwhile: Callable[[], None], every_s: float) -> Any:
        """Wait for what the work returns, or raise what it raised. meanwhile: called every so often."""
        while self.busy:
            meanwhile()
            self._thread.join(every_s)
        if self._error:
            raise self._error
        return self._result
