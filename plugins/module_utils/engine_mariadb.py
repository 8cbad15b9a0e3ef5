# SPDX-License-Identifier: Apache-2.0
"""MariaDB: mariadb-dump and the oracle's questions see the same moment, in two transactions that begin together.

MariaDB cannot lend a transaction's view to another session, as PostgreSQL does. So commits are held back (BACKUP STAGE
BLOCK_COMMIT: running queries go on, nothing waits for them) from before the oracle's transaction begins until the dump
has begun to write, which it does after its own transaction began. That takes some tens of milliseconds, and is given up and
tried again rather than holding a practice up for longer.

The account is holdfast, of the system and of the database alike (unix_socket: no password), with the right to read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shlex
import struct
import subprocess
import tempfile
import termios
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from . import dump_pipe
from .database_engine import ENV, INCONCLUSIVE, Copy, Database, DatabaseError, Engine, Finding, Tools, View, loading
from .mariadb_oracle import ROWS_TYPES, MariadbQuestions, quoted, sent
from .piped_dump import PipedDump

USER = "holdfast"
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--reset-env", "--")
CLIENT = ("mariadb", "--no-defaults", "--protocol=socket", "--default-character-set=utf8mb4", "--batch",
          "--skip-column-names")  # fmt: skip
DUMP = ("mariadb-dump", "--no-defaults", "--protocol=socket", "--default-character-set=utf8mb4", "--single-transaction",
        "--quick", "--routines", "--events", "--triggers", "--hex-blob", "--skip-dump-date", "--no-tablespaces",
        "--max-allowed-packet=1G")  # fmt: skip
MARKER = "-- Dump completed"
# mariadb-dump writes its output in blocks of this size: the first one follows on its first tables.
BLOCK = 4096
# Longest time for which commits are held back, how often that is tried, and how long in between.
HOLD_S = 5.0
ATTEMPTS = 4
PAUSE_S = 10.0
PATIENCE_S = 30

SESSION_SQL = (
    "set session transaction isolation level repeatable read",
    "set time_zone = '+00:00', group_concat_max_len = 4294967295, lock_wait_timeout = 60",
    "set max_statement_time = 0, wait_timeout = 604800, net_write_timeout = 3600",
    "set idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0",
)
BEGIN_SQL = "start transaction with consistent snapshot, read only"


def error_text(text: str) -> str:
    """The line of an error that says what is wrong, without the place."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((line for line in lines if line.startswith("ERROR")), lines[0] if lines else "no message")
    return re.sub(r"^ERROR (\d+ \(\w+\)) at line \d+:", r"ERROR \1:", found)


class Session:
    """A client that stays connected. An error of a statement is raised, and the session goes on."""

    def __init__(self, database: str, tools: Tools) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the session
        self._heard = 0
        self._process = tools.start(
            [*AS_USER, *CLIENT, f"--user={USER}", "--unbuffered", "--force", "--", database],
            env=ENV,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )

    def query(self, sql: str, patience_s: float = 0) -> str:
        """Run one statement; patience_s: end the session when there is no answer by then (0: wait)."""
        end = uuid.uuid4().hex
        lines: list[bytes] = []
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{sent(sql)}\nselect '{end}';\n".encode("ascii"))
            self._process.stdin.flush()
        deadline = time.monotonic() + patience_s
        while not lines or lines[-1].strip() != end.encode("ascii"):
            if patience_s and not self._ready(deadline - time.monotonic()):
                raise DatabaseError("database_busy", f"no answer within {patience_s:.0f} s")
            line = self._process.stdout.readline()
            if not line:
                self._process.wait()
                raise DatabaseError("database_unreachable", error_text(self._errors()))
            lines.append(line)
        errors = self._errors()
        if errors.strip():
            raise DatabaseError("query_failed", error_text(errors))
        return b"".join(lines[:-1]).decode("utf-8", "surrogateescape")

    def _ready(self, seconds: float) -> bool:
        # the client writes a line at a time, and only one is waited for at a time where patience is given
        return bool(select.select([self._process.stdout], [], [], max(0.0, seconds))[0])

    def _errors(self) -> str:
        self._said.seek(self._heard)
        said = self._said.read()
        self._heard += len(said)
        return said.decode("utf-8", "replace")

    def close(self) -> None:
        """End the session, and what it holds with it."""
        if not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()


class Dump(PipedDump):
    """A dump under way."""

    def __init__(self, database: str, history: bool, tools: Tools) -> None:
        dump = [*DUMP, f"--user={USER}", *(["--dump-history"] if history else []), "--", database]
        super().__init__(tools, AS_USER, dump, ENV, MARKER)

    def begun(self, seconds: float) -> bool:
        """Wait until it has written its first block, or ended."""
        watch = select.poll()
        watch.register(self.pipe, select.POLLIN)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            events = dict(watch.poll(100)).get(self.pipe, 0)
            (waiting,) = struct.unpack("i", fcntl.ioctl(self.pipe, termios.FIONREAD, b"\0" * 4))
            if waiting >= BLOCK or events & select.POLLHUP:
                return True
            time.sleep(0.005)
        return False

    def complaint(self) -> str:
        """What it said is wrong."""
        said = super().complaint()
        return error_text(said) if said else ""


class MariadbView(View):
    """A transaction of the oracle's, and a dump whose transaction began at the same moment."""

    def __init__(self, database: str, tools: Tools) -> None:
        self.database = database
        self._tools = tools
        self._dump: Dump | None = None
        self._session: Session | None = None
        self.held_s = 0.0
        try:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._begin()
                    break
                except DatabaseError as error:
                    if error.code != "database_busy" or attempt == ATTEMPTS:
                        raise
                    self._end()
                    time.sleep(PAUSE_S)
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self._session = Session(self.database, self._tools)
        for sql in SESSION_SQL:
            self._session.query(sql)
        ask = self.questions
        kinds = ask.kinds()
        self._unsafe = [name for name, kind, engine in kinds if kind in ROWS_TYPES and engine != "InnoDB"]
        history = any(kind == "SYSTEM VERSIONED" for _name, kind, _engine in kinds)
        self._marks = ask.marks()
        holder = Session(self.database, self._tools)
        try:
            holder.query(f"set session lock_wait_timeout = {int(HOLD_S)}")
            began = time.monotonic()
            self._hold(holder)
            self._session.query(BEGIN_SQL, HOLD_S)
            self._dump = Dump(self.database, history, self._tools)
            if not self._dump.begun(HOLD_S - (time.monotonic() - began)):
                message = f"the dump could not begin within {HOLD_S:.0f} s for which commits may be held back"
                raise DatabaseError("database_busy", message)
            holder.query("backup stage end", HOLD_S)
            self.held_s = time.monotonic() - began
        finally:
            holder.close()

    @staticmethod
    def _hold(holder: Session) -> None:
        try:
            for stage in ("start", "block_commit"):
                holder.query(f"backup stage {stage}", HOLD_S)
        except DatabaseError as error:
            if "1205" in error.message:
                message = "commits could not be held back: another backup, or a change of the schema, is under way"
                raise DatabaseError("database_busy", message) from error
            raise

    @property
    def questions(self) -> MariadbQuestions:
        """Asked in the transaction."""
        assert self._session is not None
        return MariadbQuestions(self._session.query)

    def dump_command(self) -> list[str]:
        """What passes the dump on to restic."""
        assert self._dump is not None
        return self._dump.command()

    def complaint(self) -> str:
        """Of mariadb-dump."""
        return self._dump.complaint() if self._dump else ""

    def system_id(self) -> str | None:
        """The server's number."""
        return self.questions.system_id()

    def meanwhile(self) -> list[Finding]:
        """Changes of the schema have no place in a transaction of MariaDB, and rows of other engines neither."""
        found = []
        if self._unsafe:
            names = ", ".join(self._unsafe[:5]) + (
                f" and {len(self._unsafe) - 5} more" if len(self._unsafe) > 5 else ""
            )
            found.append(
                Finding(
                    "tables_not_transactional",
                    f"{len(self._unsafe)} tables are not InnoDB, so what was written into them meanwhile may be half in "
                    f"the dump ({names}): ALTER TABLE ... ENGINE=InnoDB mends it",
                )
            )
        if self.questions.marks() != self._marks:
            message = (
                f"the schema of {self.database} was changed, or a table emptied, while it was dumped: run it again"
            )
            found.append(Finding("schema_changed", message))
        return found

    def _end(self) -> None:
        if self._dump is not None:
            self._dump.close()
        if self._session is not None:
            self._session.close()
        self._dump = self._session = None

    def close(self) -> None:
        """End the dump and the transaction."""
        self._end()


class MariadbCopy(Copy):
    """A database of the machine's own server, under its own name: views and routines may name it."""

    def __init__(self, machine: Any, section: Mapping[str, Any]) -> None:
        self._machine = machine
        self._section = section
        self.database = str(section["name"])
        self._served = False

    def _sql(self, sql: str, *database: str, timeout: float | None = None) -> Any:
        text = f"set foreign_key_checks = 0;\n{sent(sql)}\n"
        return self._machine.call(*CLIENT, "--", *database, stdin=text.encode("ascii"), timeout=timeout)

    def wait(self, seconds: float) -> bool:
        """Wait until the engine takes connections."""
        end = time.monotonic() + seconds
        while self._sql("select 1", timeout=10).rc != 0:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True

    def load(self, dump: str) -> list[Finding]:
        """Whatever the dump brings to life (events) stays asleep."""
        collation = re.sub(r"\W", "", str(self._section.get("collation") or "utf8mb4_general_ci"))
        for sql in (
            "set global event_scheduler = off",
            "set global max_allowed_packet = 1073741824",
            f"create or replace database {quoted(self.database)} collate {collation}",
        ):
            done = self._sql(sql)
            if done.rc != 0:
                raise DatabaseError(
                    "engine_failed", f"MariaDB refused to be prepared ({done.rc}): {error_text(done.err)}"
                )
        script = 'exec mariadb --no-defaults --protocol=socket --max-allowed-packet=1G -- "$1" < "$2"'
        return load_findings(self._machine.call("sh", "-c", script, "sh", self.database, dump))

    def query(self, sql: str) -> str:
        """Run one statement, read as the live database read it."""
        mode = re.sub(r"[^A-Z_,]", "", str(self._section.get("sql_mode") or ""))
        before = f"set time_zone = '+00:00', sql_mode = '{mode}', group_concat_max_len = 4294967295;\n"
        text = (before + sent(sql) + "\n").encode("ascii")
        done = self._machine.call(*CLIENT, "--", self.database, stdin=text)
        if done.rc != 0 or done.timed_out:
            code = re.search(r"ERROR (\d+)", done.err)
            said = "no end in time" if done.timed_out else f"error {code.group(1)}" if code else f"mariadb {done.rc}"
            raise DatabaseError("query_failed", said)
        out: str = done.out.decode("utf-8", "surrogateescape")
        return out

    @property
    def questions(self) -> MariadbQuestions:
        """Asked one by one."""
        return MariadbQuestions(self.query)

    def check(self) -> tuple[str, list[Finding]]:
        """CHECK TABLE ... EXTENDED of every table."""
        try:
            bad = damaged(self.questions)
        except DatabaseError as error:
            verdict = INCONCLUSIVE if error.message == "no end in time" else "FAIL"
            return "failed", [Finding("engine_damage", f"CHECK TABLE came to no end ({error.message})", verdict)]
        return ("failed", damage(bad)) if bad else ("done", [])

    def serve(self, owner: str) -> None:
        """It has its own name already; without its table of grants the server lets everybody in, and no event runs."""
        self._served = True
        self._restart("--skip-grant-tables")

    def _restart(self, options: str) -> None:
        for argv in (("set-environment", f"MYSQLD_OPTS={options}"), ("restart", "mariadb.service")):
            done = self._machine.call("systemctl", *argv)
            if done.rc != 0:
                raise DatabaseError("engine_failed", f"MariaDB could not be opened to its software ({done.rc})")

    def drop(self) -> None:
        """Another item may have a database of the same name."""
        if self._served:
            self._restart("")
        done = self._sql(f"drop database {quoted(self.database)}")
        if done.rc != 0:
            raise DatabaseError("engine_failed", f"the loaded copy could not be dropped: {error_text(done.err)}")


def damaged(questions: MariadbQuestions) -> list[str]:
    """Tables in which CHECK TABLE ... EXTENDED finds something."""
    bad = []
    for name in questions.tables():
        said = questions.ask(f"check table {quoted(name)} extended")
        if not said or any(row[2].lower() == "error" for row in said) or said[-1][3] != "OK":
            bad.append(name)
    return bad


def damage(tables: Sequence[str]) -> list[Finding]:
    """Name the first of damaged tables."""
    names = ", ".join(tables[:5])
    return [Finding("engine_damage", f"CHECK TABLE finds {len(tables)} damaged tables ({names})")] if tables else []


def load_findings(done: Any) -> list[Finding]:
    """Say what the client's end means; its messages may quote rows, so only the code is taken."""
    if done.rc == 0 and not done.timed_out:
        return []
    found = loading(done, "MariaDB")
    if found:
        return found
    code = re.search(r"ERROR (\d+)", done.err)
    if code and code.group(1) in ("1114", "1021"):
        return [Finding("not_enough_space", "loading the dump: the restore machine's disk is full", INCONCLUSIVE)]
    what = f"error {code.group(1)}" if code else "no error code"
    return [Finding("load_failed", f"loading the dump ended with {done.rc} ({what})")]


class Mariadb(Engine):
    """MariaDB of the host's own packages, 10.5 or later."""

    name = "mariadb"
    title = "MariaDB"
    packages = ("mariadb-server",)

    def open(self, database: Database, tools: Tools) -> MariadbView:
        """Two transactions that began together."""
        return MariadbView(database.label, tools)

    def sound(self, database: Database, tools: Tools) -> tuple[str, list[Finding]]:
        """CHECK TABLE ... EXTENDED of every live table."""
        session = Session(database.label, tools)
        try:
            return "done", damage(damaged(MariadbQuestions(session.query)))
        finally:
            session.close()

    def copy(self, machine: Any, item: str, section: Mapping[str, Any]) -> MariadbCopy:
        """A database under its own name."""
        return MariadbCopy(machine, section)

    def inspect(self, dump: str) -> list[Finding]:
        """Its last line says that it is whole; a client that loads it would not miss it."""
        with open(dump, "rb") as stream:  # noqa: PTH123
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - dump_pipe.TAIL))
            tail = stream.read()
        if dump_pipe.last_line(tail).startswith(MARKER.encode("ascii")):
            return []
        return [Finding("dump_truncated", "the dump ends without its end marker")]

    def recovery(self, database: Database, version: str, dump: str, oracle: str) -> tuple[str, list[str]]:
        """Into an empty database of the same name, which views and routines may have in them."""
        words = (
            "make an empty database of the same name, load the dump. A dump holds no users: have the software's vendor make "
            "them, or views and routines will say that their definer does not exist"
        )
        return words, [
            "apt-get install mariadb-server",
            f"mariadb -e {shlex.quote(f'CREATE DATABASE {quoted(database.label)}')}",
            f"mariadb --max-allowed-packet=1G -- {shlex.quote(database.label)} < {dump}",
            f"tail -n 1 {dump}   # has to begin with: {MARKER}",
        ]

    def release(self, version: str) -> Sequence[int]:
        """A dump loads into any version of at least its series."""
        found = re.match(r"(\d+)\.(\d+)", version)
        return (int(found.group(1)), int(found.group(2))) if found else (0, 0)
