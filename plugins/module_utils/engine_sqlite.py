# SPDX-License-Identifier: Apache-2.0
"""SQLite: a file that is never copied as a file while its program writes to it.

The online backup of SQLite itself makes a copy, as the user who owns the database, in a folder that the agent's service has
for itself and that systemd removes with it, however the service ends. The copy is what is stored and what the oracle is
asked. (Streaming the live pages into restic would hold up the program's writers, or let its log grow, for as long as the
upload takes.)
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import sqlite_door
from .database_engine import (
    ENV,
    INCONCLUSIVE,
    Copy,
    Database,
    DatabaseError,
    Engine,
    Finding,
    Tools,
    View,
    as_owner,
    clean,
    lay,
    look,
)
from .sqlite_oracle import SqliteQuestions

# The service's own /var/tmp: on disk, for nobody else to see, and gone with the service.
COPIES = "/var/tmp"  # noqa: S108
PATIENCE_S = 60
SPARE = 64 << 20
MAGIC = b"SQLite format 3\0"
NOBODY = "nobody"


def reason_of(err: str, path: str) -> DatabaseError:
    """What sqlite_door said on its way out."""
    lines = [line for line in err.splitlines() if line.startswith("{")]
    try:
        said = json.loads(lines[-1])
        return DatabaseError(str(said["code"]), f"{path}: {said['message']}")
    except (IndexError, ValueError, KeyError):
        words = err.strip().splitlines()[-1:] or ["no message"]
        return DatabaseError("database_unreachable", f"{path}: it could not be opened: {words[0]}")


class SqliteView(View):
    """A copy, made at once; it goes when the view is closed."""

    def __init__(self, path: str, tools: Tools) -> None:
        facts = look(path)
        self.path = path
        self._tools = tools
        self._owner = [*clean(), *as_owner(facts.st_uid, facts.st_gid)]
        self._folder = f"{COPIES}/holdfast-{uuid.uuid4().hex}"
        self.copy = f"{self._folder}/copy.db"
        self._check_space(facts.st_size)
        try:
            self._door("copy", path, self.copy, str(PATIENCE_S))
        except BaseException:
            self.close()
            raise

    def _check_space(self, size: int) -> None:
        log = Path(self.path + "-wal")
        need = size + (log.stat().st_size if log.exists() else 0) + SPARE
        facts = os.statvfs(COPIES)
        free = facts.f_bavail * facts.f_frsize
        if free < need:
            message = f"a consistent copy of {self.path} needs {need} bytes in {COPIES}, {free} are free"
            raise DatabaseError("not_enough_space", message)

    def _door(self, *arguments: str, stdin: bytes = b"") -> str:
        argv = [*self._owner, "python3", "-IB", str(sqlite_door.__file__), *arguments]
        code, out, err = self._tools.run(argv, ENV, stdin)
        if code != 0:
            raise reason_of(err, self.path)
        return str(out)

    @property
    def questions(self) -> SqliteQuestions:
        """Asked of the copy."""
        return SqliteQuestions(lambda sql: self._door("ask", self.copy, stdin=sql.encode("utf-8", "surrogateescape")))

    def dump_command(self) -> list[str]:
        """The copy."""
        return [*self._owner, "cat", "--", self.copy]

    def system_id(self) -> None:
        """A file has no number of its own that it would keep."""
        return

    def close(self) -> None:
        """Remove the copy."""
        code, _out, err = self._tools.run([*self._owner, "rm", "-rf", "--", self._folder], ENV)
        if code != 0:
            raise DatabaseError("copy_not_removed", f"the copy of {self.path} could not be removed: {err.strip()}")


class SqliteCopy(Copy):
    """The restored file itself, asked as nobody."""

    def __init__(self, machine: Any, item: str, section: Mapping[str, Any]) -> None:
        self._machine = machine
        self._source = inspect.getsource(sqlite_door)
        self._file = ""
        self._path = str(section.get("name") or "")

    def _door(self, sql: str) -> str:
        argv = ["python3", "-IBc", self._source, "ask", self._file]
        done = self._machine.call(*argv, user=NOBODY, stdin=sql.encode("utf-8", "surrogateescape"))
        if done.timed_out:
            raise DatabaseError("timeout", "no end in time")
        if done.rc != 0:
            error = reason_of(done.err, "the copy")
            # SQLite's own words may quote names
            raise DatabaseError(error.code, error.code)
        return str(done.out.decode("ascii"))

    def wait(self, seconds: float) -> bool:
        """Python has SQLite with it."""
        return bool(self._machine.call("python3", "-IBc", "import sqlite3", timeout=seconds, user=NOBODY).rc == 0)

    def load(self, dump: str) -> list[Finding]:
        """There is nothing to load: the dump is the database."""
        self._file = dump
        return []

    @property
    def questions(self) -> SqliteQuestions:
        """Asked of the restored file."""
        return SqliteQuestions(self._door)

    def serve(self, owner: str) -> None:
        """A copy for its software to write in; questions are asked of the restored one."""
        lay(self._machine, self._file, self._path, owner)

    def check(self) -> tuple[str, list[Finding]]:
        """PRAGMA integrity_check."""
        try:
            wrong = self.questions.integrity()
        except DatabaseError as error:
            if error.code == "not_available":
                return "not available", []
            verdict = INCONCLUSIVE if error.code == "timeout" else "FAIL"
            return "failed", [Finding("engine_damage", f"SQLite's check came to no end ({error.code})", verdict)]
        if wrong:
            return "failed", [Finding("engine_damage", f"SQLite's integrity check finds {len(wrong)} faults")]
        return "done", []


def whole(head: bytes, size: int) -> Finding | None:
    """Does a file of this size begin like a SQLite database of this size? head: its first 100 bytes."""
    if len(head) < 100 or not head.startswith(MAGIC):
        return Finding("dump_truncated", "the dump is no SQLite database")
    (page,) = struct.unpack(">H", head[16:18])
    page = 65536 if page == 1 else page
    changes, pages, valid_for = (
        struct.unpack(">I", head[24:28]) + struct.unpack(">I", head[28:32]) + struct.unpack(">I", head[92:96])
    )
    # a program of before 2010 leaves the count as it was
    if pages and changes == valid_for and pages * page != size:
        return Finding("dump_truncated", f"the dump has {size} bytes, its own head tells of {pages * page}")
    return None


class Sqlite(Engine):
    """SQLite 3, read by the library that Python has with it."""

    name = "sqlite"
    title = "SQLite"
    is_file = True
    packages = ("python3",)
    loaded_per_dump = 0.0
    dump_owner = NOBODY

    def open(self, database: Database, tools: Tools) -> SqliteView:
        """A copy of now."""
        return SqliteView(str(database.path), tools)

    def sound(self, database: Database, tools: Tools) -> tuple[str, list[Finding]]:
        """PRAGMA integrity_check of a copy, which holds every page that the file has in use."""
        view = self.open(database, tools)
        try:
            wrong = view.questions.integrity()
        finally:
            view.close()
        message = f"SQLite's integrity check finds {len(wrong)} faults"
        return "done", [Finding("engine_damage", message)] if wrong else []

    def copy(self, machine: Any, item: str, section: Mapping[str, Any]) -> SqliteCopy:
        """The restored file."""
        return SqliteCopy(machine, item, section)

    def inspect(self, dump: str) -> list[Finding]:
        """Its head tells how long it is."""
        with open(dump, "rb") as stream:  # noqa: PTH123
            found = whole(stream.read(100), os.fstat(stream.fileno()).st_size)
        return [found] if found else []

    def writable(self, database: Database) -> list[str]:
        """Readers of a write-ahead log have to write into the index beside it."""
        return [str(Path(str(database.path)).parent)]

    def recovered(self, machine: Any, item: str, section: Mapping[str, Any], dump: str) -> SqliteCopy:
        """In its own place, which the commands leave to the user of its program: here nobody, who asks."""
        copy = SqliteCopy(machine, item, section)
        machine.call("chown", NOBODY, "--", str(section["name"]))
        copy.load(str(section["name"]))
        return copy

    def recovery(self, database: Database, version: str, dump: str, oracle: str) -> tuple[str, list[str]]:
        """The dump is the database."""
        place = str(database.path)
        words = (
            "put the file in place while its program is stopped, and give it to the user that the program runs as. Files of an "
            "earlier database beside it (-wal, -shm, -journal) must not stay"
        )
        return words, [
            f"rm -f -- {' '.join(shlex.quote(place + ending) for ending in ('-wal', '-shm', '-journal'))}",
            f"install -D -m 0640 {dump} {shlex.quote(place)}",
            "apt-get install sqlite3",
            f"sqlite3 -readonly {shlex.quote(place)} 'pragma integrity_check'",
        ]

    def release(self, version: str) -> Sequence[int]:
        """The format of the file has stayed the same since 2004."""
        return (int(version.split(".")[0]),) if version[:1].isdigit() else (0,)
