# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: psql and pg_dump as the postgres user, over the local socket, without a password."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .database_engine import ENV, INCONCLUSIVE, Copy, Database, DatabaseError, Engine, Finding, Tools, View, loading
from .postgresql_oracle import PostgresqlQuestions

USER = "postgres"
# --reset-env: the dump is started by restic, whose environment holds the login of the NAS
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--reset-env", "--")
PSQL = ("psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1")
BEGIN = "begin transaction isolation level repeatable read, read only;"
# a server may end idle or long transactions: ours is both, on purpose (transaction_timeout is PostgreSQL 17)
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")


def conninfo(database: str) -> str:
    """Connection text for a database of any name (a bare name with = in it would be read as options)."""
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def dump_command(database: str, snapshot: str) -> list[str]:
    """pg_dump of a held snapshot to standard output: custom format, uncompressed, so that restic sees what repeats."""
    dump = ["pg_dump", "-w", "-Fc", "-Z0", f"--snapshot={snapshot}", "-d", conninfo(database)]
    return [*AS_USER, *dump]


def first_line(text: str) -> str:
    """The line of an error that says what is wrong; what follows may quote data."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "ERROR:" in line or "FATAL:" in line), lines[0] if lines else "no message")


class PostgresqlView(View):
    """A transaction whose snapshot others may join: pg_dump does, and so does every question."""

    def __init__(self, database: str, tools: Tools) -> None:
        self.database = database
        self._tools = tools
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the view
        self._holder = tools.start(
            [*AS_USER, *PSQL, "-d", conninfo(database)],
            env=ENV,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )
        self.snapshot = self._export()
        self._questions: PostgresqlQuestions | None = None

    def _export(self) -> str:
        limits = ", ".join(f"'{limit}'" for limit in _LIMITS)
        script = f"select set_config(name, '0', false) from pg_settings where name in ({limits}) \\g /dev/null\n"  # noqa: S608 - fixed names
        script += f"{BEGIN}\nselect pg_export_snapshot();\n"
        try:
            self._holder.stdin.write(script.encode("ascii"))
            self._holder.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended already: the missing answer below says so, with its reason
        answer: str = self._holder.stdout.readline().decode("ascii", "replace").strip()
        if not answer:
            self._holder.wait()
            self._said.seek(0)
            said = self._said.read().decode("utf-8", "replace")
            self.close()
            raise DatabaseError("database_unreachable", first_line(said))
        return answer

    def query(self, sql: str) -> str:
        """Run SQL inside the view and return what psql printed.

        -c sends the text to the server as it is: psql reads no backslash command in it, and waits for no quote.
        """
        script = f"{BEGIN} set transaction snapshot '{self.snapshot}'; {sql}"
        argv: Sequence[str] = [*AS_USER, *PSQL, "-d", conninfo(self.database), "-c", script]
        code, out, err = self._tools.run(argv, ENV)
        if code != 0:
            raise DatabaseError("query_failed", first_line(err))
        return out

    @property
    def questions(self) -> PostgresqlQuestions:
        """Asked in the snapshot."""
        if self._questions is None:
            self._questions = PostgresqlQuestions(self.query)
        return self._questions

    def dump_command(self) -> list[str]:
        """pg_dump of the same snapshot."""
        return dump_command(self.database, self.snapshot)

    def system_id(self) -> str:
        """The cluster's number."""
        return self.questions.system_id()

    def close(self) -> None:
        """End the transaction."""
        if not self._holder.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        self._said.close()


class PostgresqlCopy(Copy):
    """A database of the machine's own cluster, as its postgres user."""

    def __init__(self, machine: Any, item: str, section: Mapping[str, Any]) -> None:
        self._machine = machine
        self.database = f"restored_{item}"
        self._search_path = section.get("search_path")

    def _call(self, *argv: str, timeout: float | None = None) -> Any:
        return self._machine.call(*argv, user=USER, timeout=timeout)

    def wait(self, seconds: float) -> bool:
        """Wait until the engine takes connections."""
        end = time.monotonic() + seconds
        while self._call("psql", "-X", "-q", "-c", "select 1", timeout=10).rc != 0:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True

    def load(self, dump: str) -> list[Finding]:
        """Owners and grants name roles of the live cluster, which a dump does not carry."""
        made = self._call("createdb", "--template=template0", "--encoding=UTF8", self.database)
        if made.rc != 0:
            raise DatabaseError("engine_failed", f"createdb ended with {made.rc} in the restore machine")
        arguments = ["--no-owner", "--no-privileges", "--jobs=2", f"--dbname={self.database}", dump]
        return load_findings(self._call("pg_restore", *arguments))

    def query(self, sql: str) -> str:
        """Run SQL in one session."""
        script = [*PSQL, "-v", "VERBOSITY=sqlstate", "-d", self.database, "-c", sql]
        done = self._call(*script)
        if done.rc != 0 or done.timed_out:
            state = re.search(r"ERROR:\s+([0-9A-Z]{5})", done.err)
            said = "no end in time" if done.timed_out else state.group(1) if state else f"psql {done.rc}"
            raise DatabaseError("query_failed", said)
        out: str = done.out.decode("utf-8", "surrogateescape")
        return out

    @property
    def questions(self) -> PostgresqlQuestions:
        """With the search path of the live database."""
        return PostgresqlQuestions(self.query, self._search_path)

    def check(self) -> tuple[str, list[Finding]]:
        """Check heap and indexes with pg_amcheck."""
        # psql's wrapper knows the version's own folder; pg_amcheck has no wrapper in Debian
        found = self._call("sh", "-c", "command -v pg_amcheck || ls /usr/lib/postgresql/*/bin/pg_amcheck | tail -n 1")
        program = found.out.decode("utf-8", "replace").strip()
        if found.rc != 0 or not program:
            return "not available", []
        done = self._call(program, "--install-missing", "--heapallindexed", f"--database={self.database}")
        if done.rc == 0 and not done.timed_out:
            return "done", []
        if done.timed_out:
            return "failed", [Finding("timeout", f"pg_amcheck: no end after {done.seconds:.0f} s", INCONCLUSIVE)]
        hits = len(re.findall(rb"^(?:heap|btree)", done.out, re.MULTILINE))
        return "failed", [
            Finding("engine_damage", f"pg_amcheck ended with {done.rc} and names {hits} damaged relations")
        ]


def load_findings(done: Any) -> list[Finding]:
    """Say what pg_restore's end means; its messages may quote rows, so only counts and table names are taken."""
    if done.rc == 0 and not done.timed_out:
        return []
    found = loading(done, "PostgreSQL")
    if found:
        return found
    if re.search(r"end of file|does not appear to be a valid archive|unexpected block|file is too short", done.err):
        return [Finding("dump_truncated", "the dump ends before its end or is no dump of PostgreSQL")]
    count = len(re.findall(r"^pg_restore: error:", done.err, re.MULTILINE))
    tables = sorted(set(re.findall(r"TOC entry \d+; \d+ \d+ (?:TABLE DATA|TABLE) (\S+)", done.err)))
    where = f" (tables {', '.join(tables[:5])})" if tables else ""
    return [Finding("load_failed", f"pg_restore ended with {done.rc} and {count} errors{where}")]


class Postgresql(Engine):
    """PostgreSQL of the host's own packages."""

    name = "postgresql"
    title = "PostgreSQL"
    packages = ("postgresql-17",)
    dump_owner = USER

    def open(self, database: Database, tools: Tools) -> PostgresqlView:
        """A held snapshot."""
        return PostgresqlView(database.label, tools)

    def copy(self, machine: Any, item: str, section: Mapping[str, Any]) -> PostgresqlCopy:
        """A database of its own in the machine."""
        return PostgresqlCopy(machine, item, section)

    def recovery(self, database: Database, version: str, dump: str) -> tuple[str, list[str]]:
        """Into an empty database. (The model refuses names with = in them, which would be read as connection options.)"""
        name, major = shlex.quote(database.label), version.split(".")[0]
        load = f"pg_restore --no-owner --no-privileges --exit-on-error --dbname={name} < {dump}"
        words = (
            "make an empty database, load the dump. A dump holds no roles: have the software's vendor make them, or make "
            "them first and leave out --no-owner --no-privileges"
        )
        return words, [
            f"apt-get install postgresql-{major}" if major else "apt-get install postgresql",
            f"runuser -u postgres -- createdb --template=template0 --encoding=UTF8 -- {name}",
            f"runuser -u postgres -- {load}",
        ]

    def release(self, version: str) -> Sequence[int]:
        """A dump loads into any version of at least its first number."""
        digits = version.split(".")[0]
        return (int(digits) if digits.isdigit() else 0,)
