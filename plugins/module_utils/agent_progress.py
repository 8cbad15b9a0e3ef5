# SPDX-License-Identifier: Apache-2.0
"""How far a run is: noted by the agent at most once a second, read by people who watch.

restic says so in JSON lines; each is looked at and dropped, so that memory does not grow with the length of a run.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from .agent_host import human, utc, write_json

PHASES = {
    "database": "dumping the database",
    "look": "looking at files",
    "files": "storing files",
    "hash": "hashing files",
    "settle": "comparing with the disk",
    "oracle": "storing the oracle",
    "copy": "copying runs",
    "restore": "restoring",
    "restore_dump": "restoring the dump",
    "verify": "comparing with the oracle",
}
# restic has to be told to speak once a second where it speaks to no terminal
RESTIC_PROGRESS = {"RESTIC_PROGRESS_FPS": "1"}
EVERY_S = 1.0
BAR = 20


class Progress:
    """Notes how far a run is and puts that where it is wanted.

    {schema, job, run, phase, started, updated, files, bytes, total_files, total_bytes, percent, rate}: totals and percent
    are None where nobody knows them yet, rate is bytes a second since the phase began.
    """

    def __init__(
        self, put: Callable[[dict[str, Any]], None], job: str, run: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._put, self._clock = put, clock
        self._now: dict[str, Any] = {"schema": 1, "job": job, "run": run}
        self._began = self._written = 0.0

    def begin(self, phase: str, files: int | None = None, size: int | None = None) -> None:
        """Enter a phase; files and size are what it will come to, as far as that is known."""
        self._began = self._clock()
        self._now.update(phase=phase, files=0, bytes=0, total_files=files, total_bytes=size, started=utc(time.time()))
        self._write()

    def add(self, files: int, size: int) -> None:
        """So much more is done."""
        self.so_far(self._now["files"] + files, self._now["bytes"] + size)

    def so_far(self, files: int, size: int) -> None:
        """So much is done."""
        self._now["files"], self._now["bytes"] = files, size
        self._write_soon()

    def restic(self, line: bytes) -> bool:
        """Take a line of restic's output if it only says how far it is."""
        said = status_of(line)
        if said is None:
            return False
        # backup and restore have words of their own
        files = int(said.get("files_done") or said.get("files_restored") or 0)
        self.so_far(files, int(said.get("bytes_done") or said.get("bytes_restored") or 0))
        return True

    def _write_soon(self) -> None:
        if self._clock() - self._written >= EVERY_S:
            self._write()

    def _write(self) -> None:
        self._written = self._clock()
        now = self._now
        took = self._written - self._began
        now["rate"] = round(now["bytes"] / took) if took > 0 else 0
        now["percent"] = percent(now)
        now["updated"] = utc(time.time())
        # nothing but a picture for people: a backup does not end because it cannot be drawn
        with contextlib.suppress(OSError):
            self._put(now)


def to_file(path: Path) -> Callable[[dict[str, Any]], None]:
    """Puts progress into a file."""
    return lambda now: write_json(path, now)


def status_of(line: bytes) -> dict[str, Any] | None:
    """A line in which ``restic --json`` says how far it is; None for every other one."""
    if b'"status"' not in line:
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("message_type") == "status" else None


def percent(now: Mapping[str, Any]) -> int | None:
    """How much of a phase is done; never 100 while it lasts, as totals are those of an earlier look."""
    for done, total in (("bytes", "total_bytes"), ("files", "total_files")):
        if now.get(total):
            return min(99, int(100 * now[done] / now[total]))
    return None


def words(now: Mapping[str, Any]) -> str:
    """How far a run is, as a phrase."""
    phase = str(now.get("phase"))
    parts = [PHASES.get(phase, phase)]
    if now.get("percent") is not None:
        parts[0] += f" {now['percent']} %"
    if now.get("files"):
        parts.append(f"{now['files']}{_of(now.get('total_files'), str)} files")
    if now.get("bytes"):
        parts.append(f"{human(now['bytes'])}{_of(now.get('total_bytes'), human)}")
        parts.append(f"{human(now.get('rate') or 0)}/s")
    return ", ".join(parts)


def _of(total: Any, show: Callable[[Any], str]) -> str:
    return f" of {show(total)}" if total else ""


def bar(now: Mapping[str, Any], width: int) -> str:
    """How far a run is, as one line of a terminal."""
    done = now.get("percent")
    filled = BAR * (done or 0) // 100
    drawn = "?" * BAR if done is None else "#" * filled + "." * (BAR - filled)
    return f"[{drawn}] {words(now)}"[: max(10, width - 1)]
