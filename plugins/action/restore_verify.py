# SPDX-License-Identifier: Apache-2.0
"""Action: run the module as it is, and while it restores say now and then how far it is."""

from __future__ import annotations

import copy
import json
import shlex
import threading
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.holdfast.practice.plugins.module_utils.agent_progress import words
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import PROGRESS_FILE

# seconds since the start, and from then on so many between two lines: a person sees it move, a log of four hours has 60
PACE = ((600, 300), (60, 60), (0, 10))


class ActionModule(ActionBase):
    """See plugins/modules/restore_verify.py for what it does and returns."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run it; only the phase that restores takes long and has something to tell."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        if args.get("phase") != "fetch" or self._task.check_mode:
            return {**result, **self._execute_module(task_vars=task_vars)}
        item = (args.get("items") or [{}])[0]
        watch = Watch(
            f"{item.get('item')} of {item.get('host')}",
            self._reader(f"{args.get('folder')}/{PROGRESS_FILE}"),
            Display().display,
        )
        watch.start()
        try:
            return {**result, **self._execute_module(task_vars=task_vars)}
        finally:
            watch.over.set()
            watch.join()

    def _reader(self, path: str) -> Callable[[], str]:
        """Reads the file over a connection of its own, as the module keeps the task's busy."""
        aside = copy.copy(self)
        aside._connection = copy.copy(self._connection)
        if aside._connection.become:
            aside._connection.become = copy.copy(aside._connection.become)

        def read() -> str:
            done = aside._low_level_execute_command(f"cat {shlex.quote(path)}")
            return str(done.get("stdout") or "")

        return read


class Watch(threading.Thread):
    """Says how far a restore is until it is over. It is only a picture: what goes wrong with it changes nothing."""

    def __init__(self, what: str, read: Callable[[], str], show: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self._what, self._read, self._show = what, read, show
        self.over = threading.Event()

    def run(self) -> None:
        """Look, say it when it is news, wait."""
        waited, before = 0.0, ""
        while True:
            pause = pause_after(waited)
            if self.over.wait(pause):
                return
            waited += pause
            try:
                said = words(json.loads(self._read()))
            except (AnsibleError, ValueError, KeyError, TypeError, AttributeError):
                continue
            if said != before:
                self._show(f"  {self._what}: {said}")
            before = said


def pause_after(waited: float) -> float:
    """How long to be silent, so many seconds after the start."""
    return next(pause for since, pause in PACE if waited >= since)
