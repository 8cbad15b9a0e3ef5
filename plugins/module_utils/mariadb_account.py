# SPDX-License-Identifier: Apache-2.0
"""The agent's account in MariaDB: what it needs to read, and nothing of what it does not. Removed when no job wants it.

MariaDB asks the kernel who is at its socket, so there is no password. Deciding is pure; the module backup_agent hands in its
``run_command``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Change, HostStateError

USER = "holdfast"
ACCOUNT = f"'{USER}'@'localhost'"
CLIENT = ["mariadb", "--no-defaults", "--protocol=socket", "--user=root", "--batch", "--skip-column-names"]
# LOCK TABLES, TRIGGER and EVENT are what MariaDB asks for to show triggers and events to a dump; RELOAD is for BACKUP STAGE.
READ = frozenset({"SELECT", "LOCK TABLES", "SHOW VIEW", "TRIGGER", "EVENT"})
ROUTINE_SHOWN_SINCE = (11, 3)

Grants = Mapping[str, "frozenset[str]"]


def scope(database: str) -> str:
    """A database as GRANT names it; _ and % would stand for any character."""
    escaped = database.replace("`", "``").replace("_", "\\_").replace("%", "\\%")
    return f"`{escaped}`.*"


def wanted(databases: Iterable[str], version: tuple[int, ...]) -> dict[str, frozenset[str]]:
    """Grants for reading these databases: {scope: privileges}."""
    names = sorted(set(databases))
    shown = version >= ROUTINE_SHOWN_SINCE
    grants = {scope(name): READ | {"SHOW CREATE ROUTINE"} if shown else READ for name in names}
    if names:
        grants["*.*"] = frozenset({"RELOAD"})
        if not shown:
            grants["`mysql`.`proc`"] = frozenset({"SELECT"})
    return grants


def read_grants(lines: Iterable[str]) -> dict[str, frozenset[str]]:
    """What SHOW GRANTS printed."""
    found: dict[str, frozenset[str]] = {}
    for line in lines:
        match = re.match(r"GRANT (.+?) ON (.+?) TO ", line)
        if match:
            privileges = frozenset(each.strip() for each in match.group(1).split(",")) - {"USAGE"}
            if "GRANT OPTION" in line.rsplit(" TO ", 1)[1]:
                privileges |= {"GRANT OPTION"}
            if privileges:
                found[match.group(2)] = privileges
    return found


def statements(have: Grants | None, want: Grants) -> list[str]:
    """SQL from what is there (None: no account) to what is wanted (empty: no account)."""
    if not want:
        return [] if have is None else [f"DROP USER {ACCOUNT}"]
    steps = [f"CREATE USER {ACCOUNT} IDENTIFIED VIA unix_socket"] if have is None else []
    had = have or {}
    for place in sorted(set(had) | set(want)):
        extra = had.get(place, frozenset()) - want.get(place, frozenset())
        lacking = want.get(place, frozenset()) - had.get(place, frozenset())
        if extra:
            steps.append(f"REVOKE {', '.join(sorted(extra))} ON {place} FROM {ACCOUNT}")
        if lacking:
            steps.append(f"GRANT {', '.join(sorted(lacking))} ON {place} TO {ACCOUNT}")
    return steps


class MariadbAccount:
    """The account on this host. run(argv, data=None, check_rc=False) -> (code, out, err)."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def _sql(self, sql: str) -> tuple[int, str, str]:
        code, out, err = self._run(CLIENT, data=sql + ";\n")
        return code, str(out), str(err)

    def _ask(self, sql: str) -> list[str]:
        code, out, err = self._sql(sql)
        if code != 0:
            said = err.strip().splitlines()[-1:] or ["no message"]
            raise HostStateError(
                f"MariaDB did not let root in to see to the account {ACCOUNT} ({said[0]}): it must be running, with root "
                "logging in over its socket"
            )
        return [line for line in out.split("\n") if line]

    def plan(self, databases: Iterable[str], had: bool = False) -> list[Change]:
        """Steps to the account that these databases need; to none when there are no databases.

        had: the host had jobs for MariaDB, so it has to answer.
        """
        names = sorted(set(databases))
        if shutil.which(CLIENT[0]) is None:
            if names:
                raise HostStateError(
                    f"databases of MariaDB are to be backed up ({', '.join(names)}), and it is not installed"
                )
            return []
        try:
            answer = self._ask("select version()")[0]
        except HostStateError:
            if names or had:
                raise
            return []
        numbers = re.match(r"(\d+)\.(\d+)", answer)
        version = (int(numbers.group(1)), int(numbers.group(2))) if numbers else (0, 0)
        want = wanted(names, version)
        exists = self._ask("select count(*) from mysql.global_priv where user = 'holdfast' and host = 'localhost'")
        have = read_grants(self._ask(f"show grants for {ACCOUNT}")) if exists == ["1"] else None
        return [Change("mariadb", sql, "rights of the agent") for sql in statements(have, want)]

    def apply(self, sql: str) -> None:
        """Carry out one step."""
        self._ask(sql)
