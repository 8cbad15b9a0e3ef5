#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A practice's software on a busy day: hundreds of transactions a second, until it is stopped.

Usage: busy mariadb | busy sqlite [TRANSACTIONS]. Every transaction leaves as many rows more in one table as in the other.
"""

import itertools
import sqlite3
import subprocess
import sys
import time

PAUSE_S = 0.002
ROW = "x" * 300


def mariadb() -> None:
    """Three clients at once."""
    book = (
        f"start transaction; insert into account (name, note) values ('busy', '{ROW}'); "
        "insert into entry (account) values (last_insert_id()); commit;\n"
    )
    clients = [subprocess.Popen(["mariadb", "billing"], stdin=subprocess.PIPE) for _ in range(3)]
    for client in itertools.cycle(clients):
        client.stdin.write(book.encode())
        client.stdin.flush()
        time.sleep(PAUSE_S)


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


if sys.argv[1] == "mariadb":
    mariadb()
else:
    sqlite(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
