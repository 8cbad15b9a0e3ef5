# SPDX-License-Identifier: Apache-2.0
"""A restic that opens the repository while the agent still looks at the disk, and reads no file before it may.

restic takes a second to open a repository, and reads its lists of excludes after that. One of them is a pipe on which the
agent has put half a pattern. With the other half restic goes on. Where that does not come, because the run failed or the
agent was killed, half a pattern is a fault: restic ends with 1 and has stored nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable

from .agent_host import Begun

# together a pattern that no file matches: nothing is below /dev/null
HALF, REST = b"/dev/null/[", b"x]\n"


class Latch:
    """Holds a restic until ``lift``."""

    def __init__(self, restic: Begun, pipe: int) -> None:
        self.restic, self._pipe = restic, pipe

    def lift(self) -> None:
        """Let it read."""
        # a restic that has ended says why with its exit code
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, REST)
        self.close()

    def close(self) -> None:
        """Without ``lift`` before it: no, it may not."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)


@contextlib.contextmanager
def held(begin: Callable[..., Begun], command: Sequence[str], env: Mapping[str, str], stdin: bytes) -> Iterator[Latch]:
    """Start a ``restic backup``, which reads no file before ``lift``.

    begin: of ``Children``, so that it is ended with the run.
    """
    waits, pipe = os.pipe()
    os.write(pipe, HALF)
    try:
        restic = begin([*command, f"--exclude-file=/dev/fd/{waits}"], env, stdin, pass_fds=(waits,))
    except BaseException:
        os.close(pipe)
        raise
    finally:
        os.close(waits)
    latch = Latch(restic, pipe)
    try:
        yield latch
    finally:
        latch.close()
