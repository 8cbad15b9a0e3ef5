#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A practice's software on a busy day: hundreds of transactions a second, until it is stopped.

Usage: busy postgresql | busy mariadb | busy firebird | busy sqlite [TRANSACTIONS].
Every transaction leaves as many rows more in one table as in the other.
"""

import itertools
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

PAUSE_S = 0.002
ROW = "x" * 300


def three_at_once(command: list[str], begin: str, book: str) -> None:
    """Clients of a server, which take turns."""
    clients = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(3)]
    for client in clients:
        client.stdin.write(begin.encode())
    for client in itertools.cycle(clients):
        client.stdin.write(book.encode())
        client.stdin.flush()
        time.sleep(PAUSE_S)


def postgresql() -> None:
    """A transaction of two statements."""
    book = (
        f"begin; insert into patient (name) values ('{ROW}'); "
        "insert into appointment (patient, starts) values (currval('patient_id_seq'), now()); commit;\n"
    )
    three_at_once(["runuser", "-u", "postgres", "--", "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "clinic"], "", book)


def mariadb() -> None:
    """A transaction of two statements."""
    book = (
        f"start transaction; insert into account (name, note) values ('busy', '{ROW}'); "
        "insert into entry (account) values (last_insert_id()); commit;\n"
    )
    three_at_once(["mariadb", "billing"], "", book)


def firebird() -> None:
    """As SYSDBA, like much software of practices."""
    login = Path("/etc/firebird/4.0/SYSDBA.password").read_text(encoding="utf-8")
    os.environ.update({name: value.strip('"') for name, value in re.findall(r"^(ISC_\w+)=(.*)", login, re.MULTILINE)})
    book = (
        f"execute block as declare n bigint; begin insert into bed (note) values ('{ROW}') returning id into n; "
        "insert into stay (bed) values (:n); end^ commit^\n"
    )
    three_at_once(["isql-fb", "-q", "-bail", "localhost:/srv/ward/ward.fdb"], "set term ^;\n", book)


def sqlite(most: int) -> None:
    """In a write-ahead log that is folded into the database now and then."""
    database = sqlite3.connect("/srv/pms/pms.db", timeout=30, isolation_level=None)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma wal_autocheckpoint = 500")
    database.execute("create table if not exists picture (id integer primary key, note text)")
    database.execute("create table if not exists finding (id integer primary key, picture integer references picture)")
    for number in itertools.count(1):
        database.execute("begin immediate")
        added = database.execute("insert into picture (note) values (?)", (ROW,)).lastrowid
        database.execute("insert into finding (picture) values (?)", (added,))
        database.execute("commit")
        if number == most:
            return
        time.sleep(0 if most else PAUSE_S)


SERVERS = {"postgresql": postgresql, "mariadb": mariadb, "firebird": firebird}
if sys.argv[1] in SERVERS:
    SERVERS[sys.argv[1]]()
else:
    sqlite(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
