# SPDX-License-Identifier: Apache-2.0
"""What is the same for dumps that nobody can ask: they are measured on their way, restored, and compared byte for byte.

That a vendor's dump came back as it was does not say that it can be loaded. That takes a program which knows it: the ``check`` of
the practice document, run in the restore machine. Without one a proof says that it could not do it.
"""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from . import dump_pipe
from .database_engine import INCONCLUSIVE, Copy, Database, DatabaseError, Engine, Finding, View
from .database_oracle import Difference, Questions

PLACEHOLDER = "{dump}"
_NOT_RUN = (126, 127)  # of runuser: the program cannot be executed, or is not there


class StreamView(View):
    """A dump that is measured while restic takes it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.marker = str(database.settings.get("end_marker") or "")
        self._report, self._reports = os.pipe()

    @property
    def questions(self) -> Questions:
        """There is nobody to ask."""
        raise DatabaseError("not_available", f"{self.database.label}: a vendor's dump cannot be asked")

    def measured(self, source: int, status: int) -> list[str]:
        """Program and arguments that pass on what comes out of one of our files, measured."""
        here = f"/proc/{os.getpid()}/fd"
        program = ["python3", "-IB", str(dump_pipe.__file__)]
        return [*program, f"{here}/{source}", f"{here}/{status}", self.marker, f"{here}/{self._reports}"]

    def describe(self, database: Database, on_error: Callable[[str, Exception], None]) -> dict[str, Any]:
        """Size and hash."""
        os.set_blocking(self._report, False)
        try:
            stream = json.loads(os.read(self._report, 4096))
        except (OSError, ValueError) as error:
            raise DatabaseError("dump_failed", "nobody measured the dump") from error
        return {
            "engine": database.engine,
            "name": database.label,
            "version": "",
            "tables": {},
            "probes": {},
            "questions": {"probes": {}, "images": None},
            "images": None,
            "stream": {**stream, "end_marker": self.marker},
            "check": list(database.settings.get("check") or ()),
        }

    def system_id(self) -> None:
        """A dump does not tell."""
        return

    def close(self) -> None:
        """Let go of the report."""
        os.close(self._report)
        os.close(self._reports)


class StreamCopy(Copy):
    """The restored dump, as a file."""

    def __init__(self, machine: Any, section: Mapping[str, Any]) -> None:
        self._machine = machine
        self._section = section
        self._dump = ""

    def wait(self, seconds: float) -> bool:
        """No engine has to start."""
        return bool(self._machine.call("true", timeout=seconds).rc == 0)

    def load(self, dump: str) -> list[Finding]:
        """That is for the check to do."""
        self._dump = dump
        return []

    @property
    def questions(self) -> Questions:
        """There is nobody to ask."""
        raise DatabaseError("not_available", "a vendor's dump cannot be asked")

    def _answer(self, *argv: str) -> bytes:
        done = self._machine.call(*argv)
        if done.rc != 0 or done.timed_out:
            raise DatabaseError("query_failed", f"{argv[0]} ended with {done.rc}")
        return bytes(done.out)

    def describe(self, section: Mapping[str, Any]) -> dict[str, Any]:
        """Size, hash, and whether its end is there."""
        marker = str(section["stream"]["end_marker"])
        tail = self._answer("tail", "-c", str(dump_pipe.TAIL), "--", self._dump)
        stream = {
            "bytes": int(self._answer("stat", "-c", "%s", "--", self._dump)),
            "blake2b": self._answer("b2sum", "--length=256", "--", self._dump).split()[0].lstrip(b"\\").decode("ascii"),
            "end_marker": marker if dump_pipe.last_line(tail).startswith(marker.encode("utf-8")) else "",
        }
        return {**section, "stream": stream}

    def check(self) -> tuple[str, list[Finding]]:
        """The vendor's own program, or whatever knows such a dump, as root of the machine. Only how it ends is taken."""
        argv = [str(word).replace(PLACEHOLDER, self._dump) for word in self._section.get("check") or ()]
        if not argv:
            message = (
                "the dump came back byte for byte, but nothing tried to load it: give its database a check: (and packages: "
                "that it needs) in practice.yml"
            )
            return "not available", [Finding("check_missing", message, INCONCLUSIVE)]
        done = self._machine.call(*argv)
        if done.timed_out:
            return "failed", [Finding("timeout", f"the check: no end after {done.seconds:.0f} s", INCONCLUSIVE)]
        if done.rc in _NOT_RUN:
            message = f"the check could not be started ({done.rc}): which package has {argv[0]}? Name it in packages:"
            return "failed", [Finding("check_not_started", message, INCONCLUSIVE)]
        if done.rc != 0:
            return "failed", [Finding("check_failed", f"the check ended with {done.rc}")]
        return "done", []


class StreamEngine(Engine):
    """An engine whose dumps are taken as they come."""

    asked = False

    def copy(self, machine: Any, item: str, section: Mapping[str, Any]) -> StreamCopy:
        """A file."""
        return StreamCopy(machine, section)

    def compare(self, oracle: Mapping[str, Any], restored: Mapping[str, Any]) -> list[Difference]:
        """Byte for byte."""
        want, have = oracle["stream"], restored["stream"]
        found = []
        if want["bytes"] != have["bytes"]:
            found.append(
                Difference("size_differs", f"{want['bytes']} bytes at backup time, {have['bytes']} bytes restored.")
            )
        if want["blake2b"] != have["blake2b"]:
            found.append(Difference("dump_differs", "The restored dump is not the one that was backed up."))
        if want["end_marker"] != have["end_marker"]:
            found.append(Difference("dump_truncated", "The restored dump ends without its end marker."))
        return found

    def checked(self, section: Mapping[str, Any]) -> int:
        """One dump, if there is anything in it."""
        return int(section["stream"]["bytes"] > 0)

    @abstractmethod
    def faults(self, database: Mapping[str, Any]) -> list[str]:
        """What is wrong with a job's settings."""

    def recovered(self, machine: Any, item: str, section: Mapping[str, Any], dump: str) -> StreamCopy:
        """The file that the kit's command saved: loading it is for the vendor."""
        copy = StreamCopy(machine, section)
        copy.load(dump)
        return copy

    def recovery(self, database: Database, version: str, dump: str, oracle: str) -> tuple[str, list[str]]:
        """What the vendor says."""
        words = (
            "a vendor's own backup. Is it whole? Its hash has to be the one that the oracle gives. Loading it is for the "
            "vendor's program: have the software's vendor do it, or its manual"
        )
        read = "import json, sys; print(json.load(open(sys.argv[1]))['database']['stream']['blake2b'])"
        return words, [f"python3 -c '{read.replace(chr(39), chr(34))}' {oracle}", f"b2sum --length=256 {dump}"]

    def release(self, version: str) -> Sequence[int]:
        """Nobody knows."""
        return ()


def faults_of_texts(database: Mapping[str, Any], *keys: str) -> list[str]:
    """Faults of those settings that have to be a list of texts, the first of them a program."""
    faults = []
    for key in keys:
        words: Any = database.get(key)
        fits = isinstance(words, list) and all(isinstance(word, str) and "\0" not in word for word in words)
        if not fits or not words or not words[0].startswith("/"):
            faults.append(
                f"database.{key} {words!r}: expected a list of texts that begins with a program's absolute path"
            )
    return faults
