# SPDX-License-Identifier: Apache-2.0
"""Backup files that a vendor's software makes by itself: the newest one is taken, once nobody writes to it any more.

A file that is too old, too small, or much smaller than the one before is no backup: a vendor's job that fell asleep, or
that dumps an empty database, is silent about it.
"""

from __future__ import annotations

import fnmatch
import os
import stat
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from .database_engine import Database, DatabaseError, Tools
from .engine_stream import StreamEngine, StreamView, faults_of_texts

# Two looks at a file, so far apart, have to see the same; and nothing was written for as long before the second.
SETTLE_S = 5.0
# Clocks differ; a file from further ahead would stay the newest for ever.
AHEAD_S = 300
SHRUNK = 0.5
MAX_AGE_S, WAIT_S = 26 * 3600, 600


class Seen(NamedTuple):
    """One look at a file."""

    name: str
    size: int
    mtime_ns: int


def look(folder: str, pattern: str) -> Seen | None:
    """The newest file that fits; links and folders do not count. Raises DatabaseError when there is no such folder."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not fnmatch.fnmatchcase(entry.name, pattern):
                    continue
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # the vendor's software tidies up
                if stat.S_ISREG(facts.st_mode):
                    found.append(Seen(entry.name, facts.st_size, facts.st_mtime_ns))
    except OSError as error:
        raise DatabaseError("pickup_missing", f"{folder}: {error.strerror}: is a disk not mounted?") from error
    return max(found, key=lambda seen: (seen.mtime_ns, seen.name), default=None)


def judge_age(seen: Seen, now: float, max_age_s: int, what: str) -> None:
    """Raise DatabaseError unless a file is of late."""
    age = now - seen.mtime_ns / 1e9
    if age > max_age_s:
        raise DatabaseError(
            "pickup_stale",
            f"{what}: the newest file is {age / 3600:.1f} hours old, at most {max_age_s / 3600:.0f} are allowed: does the "
            "vendor's own backup still run?",
        )
    if age < -AHEAD_S:
        raise DatabaseError(
            "pickup_ahead", f"{what}: the newest file claims to be {-age / 60:.0f} minutes from the future"
        )


def judge_size(size: int, min_size: int, before: int, what: str) -> None:
    """Raise DatabaseError for a file that can hardly be a whole backup. before: size of the last one, 0 for none."""
    if size < max(min_size, 1):
        raise DatabaseError(
            "pickup_small", f"{what}: the newest file has {size} bytes, at least {min_size} are expected"
        )
    if size < before * SHRUNK:
        raise DatabaseError(
            "pickup_shrunk",
            f"{what}: the newest file has {size} bytes, the one before had {before}. If that is right, remove this job's "
            "file in /var/lib/holdfast/oracle and run it again",
        )


def settled(
    look_now: Callable[[], Seen | None], wait_s: float, what: str, sleep: Callable[[float], None] = time.sleep
) -> Seen:
    """Wait until two looks see the same newest file, unchanged. Raises DatabaseError."""
    left = wait_s
    seen = look_now()
    while True:
        if seen is None:
            raise DatabaseError("pickup_missing", f"{what}: there is no such file")
        sleep(SETTLE_S)
        left -= SETTLE_S
        again = look_now()
        if again == seen:
            return seen
        if left <= 0:
            message = (
                f"{what}: the newest file is still being written to, after {wait_s:.0f} s: back up later in the day"
            )
            raise DatabaseError("pickup_growing", message)
        seen = again


class PickupView(StreamView):
    """The newest file, open."""

    def __init__(self, database: Database, tools: Tools) -> None:
        super().__init__(database)
        folder, pattern = str(database.path), str(database.settings["pattern"])
        self._what = f"{folder}/{pattern}"
        self._file = self._status = -1
        try:
            first = look(folder, pattern)
            if first:
                judge_age(first, time.time(), int(database.settings.get("max_age_s") or MAX_AGE_S), self._what)
            wait_s = int(database.settings.get("wait_s") or WAIT_S)
            seen = settled(lambda: look(folder, pattern), wait_s, self._what)
            before = int(((tools.before or {}).get("stream") or {}).get("bytes") or 0)
            judge_size(seen.size, int(database.settings.get("min_size") or 0), before, self._what)
            self._open(folder, seen)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: str, seen: Seen) -> None:
        self._seen = seen
        try:
            self._file = os.open(f"{folder}/{seen.name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise DatabaseError("pickup_missing", f"{self._what}: {error.strerror}") from error
        self._unchanged()
        # no program has to end well: the word is given beforehand
        self._status, word = os.pipe()
        os.write(word, b"0\n")
        os.close(word)

    def _unchanged(self) -> None:
        facts = os.fstat(self._file)
        if not stat.S_ISREG(facts.st_mode) or (facts.st_size, facts.st_mtime_ns) != self._seen[1:]:
            raise DatabaseError("pickup_growing", f"{self._what}: the newest file was written to while it was read")

    def dump_command(self) -> list[str]:
        """What passes the file on."""
        return self.measured(self._file, self._status)

    def describe(self, database: Database, on_error: Callable[[str, Exception], None]) -> dict[str, Any]:
        """It has to be what it was."""
        self._unchanged()
        section = super().describe(database, on_error)
        if section["stream"]["bytes"] != self._seen.size:
            raise DatabaseError("pickup_growing", f"{self._what}: the newest file was written to while it was read")
        return section

    def taken(self) -> float:
        """The data are as old as the file."""
        return self._seen.mtime_ns / 1e9

    def close(self) -> None:
        """Let go of the file."""
        for number in (self._file, self._status):
            if number >= 0:
                os.close(number)
        super().close()


class Pickup(StreamEngine):
    """Files that the vendor's software leaves in a folder."""

    name = "pickup"
    title = "vendor's"
    settings = ("pattern", "max_age_s", "min_size", "wait_s", "check")

    def open(self, database: Database, tools: Tools) -> PickupView:
        """Wait for the newest file to be whole."""
        return PickupView(database, tools)

    def faults(self, database: Mapping[str, Any]) -> list[str]:
        """Of the place, the figures and the check."""
        faults = faults_of_texts(database, "check") if database.get("check") else []
        pattern = database.get("pattern")
        if not isinstance(pattern, str) or not pattern.strip() or "/" in pattern:
            faults.append(f"database.pattern {pattern!r}: expected a pattern of file names such as *.bak")
        for key in ("max_age_s", "min_size", "wait_s"):
            value = database.get(key)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                faults.append(f"database.{key} {value!r}: expected a number, 0 or more")
        path = database.get("path")
        if not isinstance(path, str) or not path.startswith("/") or ".." in path.split("/"):
            faults.append(f"database.path {path!r}: expected the absolute path of a folder")
        return faults + (["database.name: pickup has a path and no name"] if database.get("name") else [])
