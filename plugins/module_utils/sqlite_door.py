# SPDX-License-Identifier: Apache-2.0
"""The program that opens SQLite files, run as a user who owns nothing else: on a host the database's own, else nobody.

Usage: sqlite_door copy SOURCE TARGET PATIENCE_S | sqlite_door ask FILE <SQL

``copy`` makes a consistent copy of a live database with SQLite's own online backup, its write-ahead log included. It opens
the source read-only: that never checkpoints the log of others, and what SQLite keeps beside the database meanwhile belongs
to the database's owner. ``ask`` runs one SELECT on a copy that nobody writes to, and prints each row as a JSON array.
Ends with 1 and one line of JSON (code, message) on standard error when it cannot.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

BUSY, LOCKED = 5, 6
# Steps between which writers of a database without a write-ahead log get their turn.
PAGES = 2000
PAUSE_S = 0.01
RETRY_S = 0.002
RESTARTS = 5

_MEANINGS = (
    ("file is not a database", "not_a_database", "it is no SQLite database, or it is encrypted"),
    ("file is encrypted", "not_a_database", "it is no SQLite database, or it is encrypted"),
    ("is locked", "database_locked", "another program holds it exclusively"),
    ("malformed", "database_damaged", "it is damaged"),
    ("attempt to write a readonly database", "database_unclean",
     "a transaction was cut off and is to be rolled back first: start the program that owns it once"),
    ("unable to open database file", "database_unreachable",
     "it cannot be opened: may its owner write in its folder, as SQLite needs to?"),
    ("disk is full", "not_enough_space", "the disk is full"),
    ("no such collation sequence", "not_available", "only the program that owns it can compare its texts"),
    ("no such module", "not_available", "only the program that owns it can read some of its tables"),
    ("disk is full", "not_enough_space", "there is no room left for a consistent copy of it"),
    ("no such function", "not_available", "only the program that owns it has a function that it uses"),
)  # fmt: skip


class RestartedError(Exception):
    """Writers came between too often."""


def uri(path: str, options: str) -> str:
    """Name of a file as SQLite takes options with it."""
    return "file:" + urllib.parse.quote(os.fsencode(path)) + "?" + options


def meaning(error: sqlite3.Error) -> tuple[str, str]:
    """Reason code and words for what SQLite says."""
    text = str(error)
    return next(((code, words) for part, code, words in _MEANINGS if part in text), ("query_failed", text))


def transfer(source: sqlite3.Connection, target: sqlite3.Connection, pages: int, patience_s: float) -> None:
    """Back up; TimeoutError when the source stays locked, RestartedError when it keeps changing between the steps."""
    state = {"deadline": time.monotonic() + patience_s, "remaining": 1 << 62, "restarts": 0}

    def step(status: int, remaining: int, _total: int) -> None:
        if status in (BUSY, LOCKED):
            if time.monotonic() > state["deadline"]:
                raise TimeoutError
            return
        state["deadline"] = time.monotonic() + patience_s
        state["restarts"] += remaining > state["remaining"]
        state["remaining"] = remaining
        if state["restarts"] > RESTARTS:
            raise RestartedError
        if remaining and pages > 0:
            time.sleep(PAUSE_S)

    source.backup(target, pages=pages, progress=step, sleep=RETRY_S)


def copy(path: str, target_path: str, patience_s: float) -> None:
    """Copy a live database. A folder for the copy is made, for this user only."""
    os.makedirs(os.path.dirname(target_path), mode=0o700)  # noqa: PTH103, PTH120 - any bytes
    source = sqlite3.connect(uri(path, "mode=ro"), uri=True, timeout=patience_s, isolation_level=None)
    try:
        # In a write-ahead log readers hold up nobody; else each step does, and the whole at once only when it must.
        wal = source.execute("pragma journal_mode").fetchone()[0] == "wal"
        # from here on it is transfer that waits: SQLite's own waits grow, and find no gap between busy writers
        source.execute("pragma busy_timeout = 0")
        for pages in (-1,) if wal else (PAGES, -1):
            target = sqlite3.connect(target_path, isolation_level=None)
            try:
                target.execute("pragma journal_mode = off")
                target.execute("pragma synchronous = off")
                transfer(source, target, pages, patience_s)
                return
            except RestartedError:
                os.unlink(target_path)  # noqa: PTH108 - half of it is written, and without a journal it stays so
            finally:
                target.close()
    except TimeoutError:
        raise sqlite3.OperationalError("database is locked") from None
    finally:
        source.close()


def ask(path: str, sql: str) -> list[str]:
    """Rows of a SELECT as JSON."""
    database = sqlite3.connect(uri(path, "mode=ro&immutable=1"), uri=True, isolation_level=None)
    try:
        database.create_function("holdfast_hash", -1, number_of, deterministic=True)
        database.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return [json.dumps([plain(value) for value in row]) for row in database.execute(sql)]
    finally:
        database.close()


def number_of(*values: Any) -> int:
    """A number for some values: small enough that a million of them can be added up."""
    return int.from_bytes(hashlib.blake2b(repr(values).encode("utf-8"), digest_size=5).digest(), "big")


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    return value.hex() if isinstance(value, bytes) else value


def main(argv: Sequence[str]) -> int:
    """Entry of the program."""
    os.umask(0o077)
    try:
        if argv[0] == "copy":
            copy(argv[1], argv[2], float(argv[3]))
        else:
            sql = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
            sys.stdout.write("".join(row + "\n" for row in ask(argv[1], sql)))
    except (sqlite3.Error, sqlite3.Warning, OSError) as error:
        code, words = meaning(error) if isinstance(error, sqlite3.Error) else ("query_failed", str(error))
        sys.stderr.write(json.dumps({"code": code, "message": words}) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
