# SPDX-License-Identifier: Apache-2.0
"""The agent's door to PostgreSQL: psql and pg_dump as the postgres user, over the local socket, without a password."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Callable

USER = "postgres"
# --reset-env: the agent's environment holds the login of the NAS, which is none of the database user's business
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--reset-env", "--")
PSQL = ("psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1")
BEGIN = "begin transaction isolation level repeatable read, read only;"
# a server may end idle or long transactions: ours is both, on purpose (transaction_timeout is PostgreSQL 17)
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")

Run = Callable[..., "tuple[int, str, str]"]
Start = Callable[..., Any]


class DatabaseError(Exception):
    """PostgreSQL refused. ``code``: database_unreachable or query_failed; the message is PostgreSQL's first line."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


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


class View:
    """One consistent view of a database, held open until closed: a transaction whose snapshot others may join.

    run(argv, env) -> (code, out, err); start(argv, **pipes) -> Popen. Both are the agent's own, which end their
    processes when the agent is stopped.
    """

    def __init__(self, database: str, run: Run, start: Start, env: Mapping[str, str]) -> None:
        self.database = database
        self._run, self._env = run, env
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the view
        self._holder = start(
            [*AS_USER, *PSQL, "-d", conninfo(database)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
        )
        self.snapshot = self._export()

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
        """Run SQL inside the view and return what psql printed; for postgresql_oracle.read_database.

        -c sends the text to the server as it is: psql reads no backslash command in it, and waits for no quote.
        """
        script = f"{BEGIN} set transaction snapshot '{self.snapshot}'; {sql}"
        argv: Sequence[str] = [*AS_USER, *PSQL, "-d", conninfo(self.database), "-c", script]
        code, out, err = self._run(argv, self._env)
        if code != 0:
            raise DatabaseError("query_failed", first_line(err))
        return out

    def close(self) -> None:
        """End the transaction."""
        if not self._holder.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        self._said.close()
