# SPDX-License-Identifier: Apache-2.0
"""The agent's account in Firebird: what gbak and the oracle need to read, and nothing of what they do not.

HOLDFAST is a user of the server, whose password is made on the host and stays there; HOLDFAST_READER is a role in each database
that is backed up, with the system privileges for that. gbak reads the sequences' values too, for which Firebird has no
privilege of that kind: each has to be granted, and one that comes later is granted at the next run of the play (the agent says
so until then). All of it goes with the last job. SYSDBA's password is read where Debian's package keeps it.

Deciding is pure; the module backup_agent hands in its ``run_command``.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.engine_firebird import (
    CREDENTIAL,
    ROLE,
    USER,
    error_text,
)
from ansible_collections.holdfast.practice.plugins.module_utils.firebird_oracle import (
    SESSION,
    FirebirdQuestions,
    answers,
    asked,
    quoted,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Change, HostStateError

SYSDBA = "/etc/firebird/4.0/SYSDBA.password"
CLIENT = ["isql-fb", "-q", "-bail", "-nodbtriggers", "-ch", "utf8"]
PRIVILEGES = "USE_GBAK_UTILITY, SELECT_ANY_OBJECT_IN_DATABASE, IGNORE_DB_TRIGGERS"
# The same three as bits in RDB$ROLES.
PRIVILEGE_BITS = "0048010000000000"
CREATE_USER = f"CREATE OR ALTER USER {USER}"

_ROLE_SQL = f"select hex_encode(rdb$system_privileges) from rdb$roles where rdb$role_name = '{ROLE}'"  # noqa: S608
_USER_SQL = f"select sec$user_name from sec$users where sec$user_name = '{USER}'"  # noqa: S608
_MEMBER_SQL = (
    f"select rdb$user from rdb$user_privileges where rdb$user = '{USER}' and rdb$relation_name = '{ROLE}' "  # noqa: S608
    "and rdb$privilege = 'M' and rdb$field_name = 'D'"
)


class AccountError(HostStateError):
    """Firebird refused; the text says what to do."""


def statements(role: str | None, member: bool, unreadable: Sequence[str]) -> list[str]:
    """SQL for one database. role: privileges of the role that is there, in hexadecimal digits; None: no role."""
    steps = []
    if role != PRIVILEGE_BITS:
        steps.append(f"{'CREATE' if role is None else 'ALTER'} ROLE {ROLE} SET SYSTEM PRIVILEGES TO {PRIVILEGES}")
    if not member:
        steps.append(f"GRANT DEFAULT {ROLE} TO USER {USER}")
    return steps + [f"GRANT USAGE ON SEQUENCE {quoted(name)} TO ROLE {ROLE}" for name in unreadable]


def login(text: str) -> dict[str, str]:
    """User and password out of Debian's file, which is one of shell assignments."""
    found = dict(re.findall(r'^(ISC_\w+)="?([^"\n]*?)"?\s*$', text, re.MULTILINE))
    if not {"ISC_USER", "ISC_PASSWORD"} <= set(found):
        raise AccountError(f"{SYSDBA}: expected ISC_USER and ISC_PASSWORD; run dpkg-reconfigure firebird4.0-server")
    return {name: found[name] for name in ("ISC_USER", "ISC_PASSWORD")}


class FirebirdAccount:
    """The account on this host. run(argv, data=None, environ_update=None) -> (code, out, err)."""

    def __init__(self, run: Callable[..., Any], credentials: str) -> None:
        self._run = run
        self._file = Path(credentials) / CREDENTIAL
        self._todo: list[tuple[Change, str, str]] = []

    def secret(self, databases: Iterable[str]) -> dict[str, str]:
        """The credential that jobs of these databases need: the one that is there, or a new one."""
        if not set(databases):
            return {}
        there = self._file.read_text(encoding="ascii").strip() if self._file.exists() else ""
        return {CREDENTIAL: there or secrets.token_hex(16)}

    def _sysdba(self) -> dict[str, str]:
        try:
            return login(Path(SYSDBA).read_text(encoding="utf-8"))
        except OSError as error:
            raise AccountError(
                f"{SYSDBA} cannot be read ({error.strerror}): the agent's account is made with it"
            ) from error

    def _isql(self, path: str, text: str, env: dict[str, str]) -> tuple[int, str, str]:
        code, out, err = self._run([*CLIENT, f"localhost:{path}"], data=SESSION + text, environ_update=env)
        return code, str(out), str(err)

    def _ask(self, path: str, text: str) -> str:
        code, out, err = self._isql(path, text, self._sysdba())
        if code != 0 or err.strip():
            raise AccountError(
                f"Firebird did not let SYSDBA in to see to the agent's account in {path} ({error_text(err)}): the server "
                f"must be running, and {SYSDBA} must hold SYSDBA's password"
            )
        return out

    def _add(self, target: str, reason: str, path: str, sql: str) -> None:
        self._todo.append((Change("firebird", target, reason), path, sql))

    def plan(self, databases: Iterable[str], known: Iterable[str], secret: dict[str, str]) -> list[Change]:
        """Steps to the account that these databases need. known: those that the jobs on the host had until now."""
        names = sorted(set(databases))
        gone = sorted(path for path in set(known) - set(names) if Path(path).exists())
        self._todo = []
        if not names and not set(known):
            return []
        if shutil.which(CLIENT[0]) is None:
            if names:
                raise AccountError(
                    f"databases of Firebird are to be backed up ({', '.join(names)}), and its programs are not installed "
                    "(package firebird4.0-utils)"
                )
            return []
        for path in names:
            self._plan_database(path, secret[CREDENTIAL])
        for path in gone:
            if answers(self._ask(path, asked(_ROLE_SQL))):
                self._add(f"{path}: DROP ROLE {ROLE}", "it is not backed up any more", path, f"DROP ROLE {ROLE}")
        if not names and gone and answers(self._ask(gone[0], asked(_USER_SQL))):
            self._add(f"DROP USER {USER}", "no database needs it", gone[0], f"DROP USER {USER}")
        return [change for change, _path, _sql in self._todo]

    def _plan_database(self, path: str, password: str) -> None:
        if not Path(path).exists():
            raise AccountError(f"{path} is to be backed up and does not exist: is a disk not mounted?")
        made = any(target.target == CREATE_USER for target, _path, _sql in self._todo)
        code, _out, _err = self._isql(path, "", {"ISC_USER": USER, "ISC_PASSWORD": password})
        self._ask(path, "")  # is it the account that is refused, or everybody?
        if code != 0 and not made:
            sql = f"{CREATE_USER} PASSWORD '{password}'"
            self._add(CREATE_USER, "the agent's account for databases", path, sql)
        roles = answers(self._ask(path, asked(_ROLE_SQL)))
        member = bool(answers(self._ask(path, asked(_MEMBER_SQL))))
        ask = FirebirdQuestions(lambda sql: self._ask(path, asked(sql)))
        for sql in statements(roles[0] if roles else None, member, ask.unreadable(ROLE)):
            self._add(f"{path}: {sql}", "rights of the agent", path, sql)

    def apply(self) -> None:
        """Carry out the plan."""
        for _change, path, sql in self._todo:
            self._ask(path, f"{sql}^\ncommit^\n")
