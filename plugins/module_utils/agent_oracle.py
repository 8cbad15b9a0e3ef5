# SPDX-License-Identifier: Apache-2.0
"""How the oracle of a run is stored: last, and only when the run has decided that there is one.

restic takes a second to open a repository. It is started as soon as the oracle's tags are known, and waits while the rest of
the oracle is made. What it waits for is a program that hands over the oracle's file after a word from the agent. Where that
word does not come, because the run failed or the agent was killed, the program ends with 1, and restic stores no snapshot of
a program that failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from . import agent_files

WORD = b"whole\n"
SCRIPT = f'read -r word < "/dev/fd/$0" && [ "$word" = {WORD.decode().strip()} ] && exec cat -- "$1"'


def pieces(oracle: Mapping[str, Any]) -> Iterator[str]:
    """Text of an oracle, in pieces; what its files have as ``manifest`` is the ``Manifest``."""
    if not oracle["files"]:
        yield _text(oracle)
        return
    files = {key: each for key, each in oracle["files"].items() if key != "manifest"}
    yield _text({key: each for key, each in oracle.items() if key != "files"})[:-1]
    yield f',"files":{_text(files)[:-1]},"manifest":['
    yield from agent_files.in_pieces(oracle["files"]["manifest"].entries())
    yield "]}}"


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=True, separators=(",", ":"), sort_keys=True)


class Door:
    """A restic that opens the repository and waits for an oracle.

    start: of ``Children``, so that it is ended with the run. arguments: restic's, up to what is stored. file: where the
    oracle will be.
    """

    def __init__(
        self,
        start: Callable[..., subprocess.Popen[bytes]],
        arguments: Sequence[str],
        env: Mapping[str, str],
        name: str,
        file: Path,
    ) -> None:
        waits, self._word = os.pipe()
        program = ["sh", "-c", SCRIPT, str(waits), str(file)]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        arguments = [*arguments, "--stdin-from-command", "--stdin-filename", name, "--", *program]
        try:
            self._process = start(arguments, env, **pipes, pass_fds=(waits,))
        finally:
            os.close(waits)

    def store(self) -> tuple[int, str, str]:
        """Say that the file is whole, and wait for restic: (exit code, output, errors)."""
        # a restic that has ended says why with its exit code
        with contextlib.suppress(BrokenPipeError):
            os.write(self._word, WORD)
        os.close(self._word)
        out, err = self._process.communicate()
        return self._process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
