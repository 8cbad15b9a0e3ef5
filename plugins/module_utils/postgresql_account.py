# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 -- the only name in this SQL is the agent's own
"""The agent's role in PostgreSQL: what it needs to read a whole database, and nothing else. Removed when no job wants it.

pg_read_all_data lets it read every table, view and sequence. BYPASSRLS lets it read every row: pg_dump and the oracle set
row_security off, so without it a table with policies is an error, never a smaller table. lo_compat_privileges lets it
read large objects, which pg_read_all_data leaves out. It is no superuser and can change nothing. (pg_read_all_data reaches
hashed passwords too, in pg_authid; the agent does not ask for them.)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from ansible_collections.holdfast.practice.plugins.module_utils.engine_postgresql import USER, conninfo
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import Change, HostStateError

SUPERUSER = "postgres"
CLIENT = ["psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]
READ = "pg_read_all_data"
OLDEST = 14
SETTING = "lo_compat_privileges=on"
# name in the catalogue: (wanted, words of ALTER ROLE)
ATTRIBUTES = {
    "rolcanlogin": (True, "LOGIN"),
    "rolbypassrls": (True, "BYPASSRLS"),
    "rolinherit": (True, "INHERIT"),
    "rolsuper": (False, "NOSUPERUSER"),
    "rolcreaterole": (False, "NOCREATEROLE"),
    "rolcreatedb": (False, "NOCREATEDB"),
    "rolreplication": (False, "NOREPLICATION"),
}
STATE_SQL = f"""\
select json_build_object(
  'version', current_setting('server_version_num')::int / 10000,
  'role', (select to_json(r) from pg_catalog.pg_roles r where r.rolname = '{USER}'),
  'member_of', (select coalesce(json_agg(g.rolname order by g.rolname), '[]') from pg_catalog.pg_auth_members m
    join pg_catalog.pg_roles g on g.oid = m.roleid join pg_catalog.pg_roles u on u.oid = m.member where u.rolname = '{USER}'),
  'connects', (select json_object_agg(d.datname, pg_catalog.has_database_privilege(
    coalesce((select u.rolname::text from pg_catalog.pg_roles u where u.rolname = '{USER}'), 'public'), d.oid, 'CONNECT'))
    from pg_catalog.pg_database d),
  'granted', (select coalesce(json_agg(distinct d.datname order by d.datname), '[]') from pg_catalog.pg_database d,
    aclexplode(d.datacl) a join pg_catalog.pg_roles u on u.oid = a.grantee where u.rolname = '{USER}'));
"""


def identifier(name: str) -> str:
    """A name in SQL."""
    quoted = name.replace('"', '""')
    return f'"{quoted}"'


def statements(have: Mapping[str, Any], databases: Iterable[str]) -> list[str]:
    """SQL from what STATE_SQL gave to what is wanted (no databases: no role)."""
    names, role = sorted(set(databases)), have["role"]
    if not names:
        if role is None:
            return []
        revoked = [f"REVOKE CONNECT ON DATABASE {identifier(name)} FROM {USER}" for name in have["granted"]]
        return [*revoked, f"DROP ROLE {USER}"]
    steps = []
    if role is None:
        steps.append(f"CREATE ROLE {USER} {' '.join(words for _value, words in ATTRIBUTES.values())}")
    else:
        wrong = [words for key, (value, words) in ATTRIBUTES.items() if role[key] != value]
        steps += [f"ALTER ROLE {USER} {' '.join(wrong)}"] if wrong else []
    if SETTING not in ((role or {}).get("rolconfig") or []):
        steps.append(f"ALTER ROLE {USER} SET {SETTING.replace('=', ' = ')}")
    members = set(have["member_of"])
    steps += [f"REVOKE {identifier(name)} FROM {USER}" for name in sorted(members - {READ})]
    steps += [] if READ in members else [f"GRANT {READ} TO {USER}"]
    # a database that is not there yet is for the run to miss
    shut = [name for name in names if have["connects"].get(name) is False]
    return [*steps, *(f"GRANT CONNECT ON DATABASE {identifier(name)} TO {USER}" for name in shut)]


class PostgresqlAccount:
    """The role in this host's cluster. run(argv, data=None) -> (code, out, err)."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def _ask(self, sql: str, user: str = SUPERUSER, database: str = "postgres") -> str:
        code, out, err = self._run(["runuser", "-u", user, "--", *CLIENT, "-d", database], data=sql + "\n")
        if code != 0:
            said = [line for line in err.splitlines() if "could not change directory" not in line][-1:] or [
                "no message"
            ]
            raise HostStateError(said[0].strip())
        return str(out)

    def plan(self, databases: Iterable[str], had: bool = False) -> list[Change]:
        """Steps to the role that these databases need; to none when there are no databases.

        had: the host had jobs for PostgreSQL, so it has to answer.
        """
        names = sorted(set(databases))
        if shutil.which(CLIENT[0]) is None:
            if names:
                listed = ", ".join(names)
                raise HostStateError(f"databases of PostgreSQL are to be backed up ({listed}), and it is not installed")
            return []
        try:
            have = json.loads(self._ask(STATE_SQL))
        except HostStateError as error:
            if not names and not had:
                return []
            raise HostStateError(
                f"PostgreSQL did not let {SUPERUSER} in to see to the role {USER} ({error}): it must be running, with "
                f"{SUPERUSER} logging in over its socket"
            ) from error
        if names and have["version"] < OLDEST:
            raise HostStateError(
                f"PostgreSQL {have['version']} has no role that may read everything without being superuser; upgrade it to "
                f"{OLDEST} or later"
            )
        return [Change("postgresql", sql, "rights of the agent") for sql in statements(have, names)]

    def apply(self, sql: str) -> None:
        """Carry out one step."""
        try:
            self._ask(sql + ";")
        except HostStateError as error:
            raise HostStateError(f"PostgreSQL refused {sql}: {error}") from error

    def check(self, databases: Iterable[str]) -> None:
        """Log in as a run will. A database that is not there is for the run to miss."""
        known = json.loads(self._ask(STATE_SQL))["connects"] if databases else {}
        for name in sorted(set(databases) & set(known)):
            try:
                self._ask("select 1;", USER, conninfo(name))
            except HostStateError as error:
                raise HostStateError(
                    f"PostgreSQL does not let {USER} into {name} ({error}). Write this line into pg_hba.conf, above the other "
                    f"local ones, and reload the server: local all {USER} peer"
                ) from error
