# SPDX-License-Identifier: Apache-2.0
"""A dump that is under way before restic asks for it: its output waits in a pipe, its end is reported in another.

For engines whose dump program cannot be lent a view: the dump begins first, and the oracle's view is opened beside it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from . import dump_pipe
from .database_engine import Tools

_SCRIPT = 'n=$1; shift; "$@"; echo $? >&"$n"'


class PipedDump:
    """A dump program, and the program that vouches for its end.

    user: words that become its user. marker: how the last line of a whole dump begins. prepare: given the pipe's writing
    end before the program has it.
    """

    def __init__(
        self,
        tools: Tools,
        user: Sequence[str],
        dump: Sequence[str],
        env: Mapping[str, str],
        marker: str = "",
        plugged: bool = False,
    ) -> None:
        self.pipe, writes = os.pipe()
        self.status, reports = os.pipe()
        self._marker = marker
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the dump
        self._plug = _fill(writes) if plugged else 0
        self.process = tools.start(
            [*user, "bash", "-c", _SCRIPT, "dump", str(reports), *dump],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=writes,
            stderr=self._said,
            pass_fds=(reports,),
        )
        os.close(writes)
        os.close(reports)

    def unplug(self) -> None:
        """Let the dump go on that began with a pipe full of nothing."""
        while self._plug:
            self._plug -= len(os.read(self.pipe, self._plug))

    def command(self) -> list[str]:
        """Program and arguments that pass the dump on."""
        here = f"/proc/{os.getpid()}/fd"
        return ["python3", "-IB", str(dump_pipe.__file__), f"{here}/{self.pipe}", f"{here}/{self.status}", self._marker]

    def complaint(self) -> str:
        """What it said."""
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace").strip()

    def close(self) -> None:
        """End it, finished or not."""
        os.close(self.pipe)
        os.close(self.status)
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            self.process.wait()
        self._said.close()


def _fill(pipe: int) -> int:
    """Fill a pipe until whoever writes into it has to wait; how many bytes that took."""
    filled = 0
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(pipe, bytes(4096))
    # os.write of less than a page is all or nothing, so a pipe may still have room for less than a page
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(pipe, b"\0")
    os.set_blocking(pipe, True)
    return filled
