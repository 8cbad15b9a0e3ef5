# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL: psql and pg_dump over the local socket, as a role that may read everything (see postgresql_account.py).

Roles belong to the cluster and not to a database: they are asked for beside each dump, without their passwords, and lie in
the oracle. A proof makes them before it loads the dump with its owners and grants.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from .database_engine import ENV, INCONCLUSIVE, Copy, Database, DatabaseError, Engine, Finding, Tools, View, loading
from .postgresql_oracle import PostgresqlQuestions

USER = "holdfast"
SUPERUSER = "postgres"  # of a restore machine; on a live one, only for the check after a power cut
# --reset-env: the dump is started by restic, whose environment holds the login of the NAS
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--reset-env", "--")
AS_SUPERUSER = ("setpriv", f"--reuid={SUPERUSER}", f"--regid={SUPERUSER}", "--init-groups", "--reset-env", "--")
PSQL = ("psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1")
GLOBALS_END = "PostgreSQL database cluster dump complete"
BEGIN = "begin transaction isolation level repeatable read, read only;"
# a server may end idle or long transactions: ours is both, on purpose (transaction_timeout is PostgreSQL 17)
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")


# amcheck over every heap and B-tree, the catalogue's too, in a transaction that takes the extension back with it. Damage is told
# by its code; anything else ends the check, which is then tried again. (A table may be dropped meanwhile.)
SOUND_SQL = r"""
begin;
set local statement_timeout = 0;
set local search_path = pg_catalog;
create schema holdfast_amcheck;
create extension if not exists amcheck schema holdfast_amcheck;
do $check$
declare
  place text := (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
                 where e.extname = 'amcheck');
  each record;
  faults bigint;
  bad text[] := '{}';
begin
  for each in
    select c.oid, c.relkind, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_am a on a.oid = c.relam
    left join pg_index i on i.indexrelid = c.oid
    where c.relpersistence = 'p' and n.nspname <> 'holdfast_amcheck'
      and ((c.relkind in ('r', 'm', 't') and a.amname = 'heap')
        or (c.relkind = 'i' and a.amname = 'btree' and i.indisvalid and i.indisready))
    order by c.relkind desc, c.oid
  loop
    begin
      if each.relkind = 'i' then
        execute format('select %s.bt_index_check($1, true)', place) using each.oid::regclass;
      else
        execute format('select count(*) from %s.verify_heapam($1)', place) into faults using each.oid::regclass;
        if faults > 0 then bad := bad || each.name; end if;
      end if;
    exception
      when data_corrupted or index_corrupted or io_error or undefined_file then bad := bad || each.name;
      when undefined_table or undefined_object then null;
    end;
  end loop;
  perform set_config('holdfast.damaged', array_to_json(bad)::text, true);
end
$check$;
select current_setting('holdfast.damaged');
rollback;
"""


def conninfo(database: str) -> str:
    """Connection text for a database of any name (a bare name with = in it would be read as options)."""
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def dump_command(database: str, snapshot: str) -> list[str]:
    """pg_dump of a held snapshot to standard output: custom format, uncompressed, so that restic sees what repeats."""
    dump = ["pg_dump", "-w", "-Fc", "-Z0", f"--snapshot={snapshot}", "-d", conninfo(database)]
    return [*AS_USER, *dump]


def globals_command(database: str) -> list[str]:
    """pg_dumpall of what belongs to the cluster. Hashed passwords stay where they are: the oracle is kept on the host as well."""
    dump = ["pg_dumpall", "-w", "--globals-only", "--no-role-passwords", "-l", database]
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
        self._whole = False
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

    def describe(self, database: Database, on_error: Callable[[str, Exception], None]) -> dict[str, Any]:
        """With the SQL that makes the roles again."""
        section = super().describe(database, on_error)
        code, out, err = self._tools.run(globals_command(self.database), ENV)
        if code != 0 or GLOBALS_END not in out[-200:]:
            raise DatabaseError("globals_failed", f"the roles could not be read: {first_line(err)}")
        return {**section, "globals": out}

    def system_id(self) -> str:
        """The cluster's number."""
        return self.questions.system_id()

    def _query_now(self, sql: str) -> str:
        code, out, err = self._tools.run([*AS_USER, *PSQL, "-d", conninfo(self.database), "-c", sql], ENV)
        if code != 0:
            raise DatabaseError("query_failed", first_line(err))
        return str(out)

    def meanwhile(self) -> list[Finding]:
        """Roles are not part of a snapshot, and subscriptions not of a dump that no superuser makes."""
        found = []
        if self.questions.roles() != PostgresqlQuestions(self._query_now).roles():
            found.append(Finding("roles_changed", "roles were changed during the backup: run it again"))
        left_out = self.questions.subscriptions()
        if left_out:
            found.append(
                Finding(
                    "subscriptions_left_out",
                    f"{left_out} subscriptions of {self.database} are not in the dump, as only a superuser may read them: keep "
                    "how they were made elsewhere",
                )
            )
        self._whole = True
        return found

    def _let_go(self) -> None:
        """End what is left of a run that broke off: a session that waits for a lock does not notice that its client is gone."""
        mine = "usename = current_user and datname = current_database() and pid <> pg_backend_pid()"
        sql = f"select pg_terminate_backend(pid) from pg_stat_activity where {mine}"  # noqa: S608 - fixed names
        # a server that does not even answer to this is the run's trouble already, which has its reason
        self._tools.run([*AS_USER, *PSQL, "-d", conninfo(self.database) + " connect_timeout=5", "-c", sql], ENV)

    def close(self) -> None:
        """End the transaction, and after a failure every session of this run."""
        if not self._whole:
            self._let_go()
        if not self._holder.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        self._said.close()


# ownership goes with the databases, what is granted on shared things with DROP OWNED
CLEAR_SQL = """\
select format('drop database %I with (force)', datname) from pg_database where datname like 'restored\\_%' \\gexec
select format('drop owned by %s', string_agg(quote_ident(rolname), ', ')) from pg_roles
where oid <> 10 and rolname !~ '^pg_' having count(*) > 0 \\gexec
select format('drop role %s', string_agg(quote_ident(rolname), ', ')) from pg_roles
where oid <> 10 and rolname !~ '^pg_' having count(*) > 0 \\gexec
"""
# the live superuser may be shut out, or work under limits; the machine's own has to go on
OURS_SQL = f"""
alter role {SUPERUSER} superuser login connection limit -1 valid until 'infinity';
alter role {SUPERUSER} reset all;
"""


# of a machine that nobody reaches: its only way in is its loopback
OPEN = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all ::1/128 trust\n"


class PostgresqlCopy(Copy):
    """A database of the machine's own cluster, as its superuser."""

    def __init__(self, machine: Any, item: str, section: Mapping[str, Any]) -> None:
        self._machine = machine
        self.database = f"restored_{item}"
        self._search_path = section.get("search_path")
        self._globals = str(section.get("globals") or "")  # runs of earlier versions have none
        self._name = str(section.get("name") or "")

    def _call(self, *argv: str, timeout: float | None = None, stdin: str = "") -> Any:
        text = stdin.encode("utf-8", "surrogateescape")
        return self._machine.call(*argv, user=SUPERUSER, timeout=timeout, stdin=text)

    def wait(self, seconds: float) -> bool:
        """Wait until the engine takes connections."""
        end = time.monotonic() + seconds
        while self._call("psql", "-X", "-q", "-c", "select 1", timeout=10).rc != 0:
            if time.monotonic() > end:
                return False
            time.sleep(0.2)
        return True

    def _make_roles(self) -> None:
        """Those of the live cluster, in the place of those of an item before. What could not be made is missing later on."""
        for options, sql in ((("ON_ERROR_STOP=1",), CLEAR_SQL), (("ON_ERROR_STOP=0",), self._globals + OURS_SQL)):
            done = self._call("psql", "-X", "-q", "-w", "-v", *options, "-d", "postgres", stdin=sql)
            if done.rc != 0 or done.timed_out:
                raise DatabaseError("engine_failed", f"the restore machine could not make the roles (psql {done.rc})")

    def load(self, dump: str) -> list[Finding]:
        """With owners and grants, so that a role that is missing is an error. Tablespaces are places on the live machine."""
        if self._globals:
            self._make_roles()
        made = self._call("createdb", "--template=template0", "--encoding=UTF8", self.database)
        if made.rc != 0:
            raise DatabaseError("engine_failed", f"createdb ended with {made.rc} in the restore machine")
        plain = [] if self._globals else ["--no-owner", "--no-privileges"]
        arguments = [*plain, "--no-tablespaces", "--jobs=2", f"--dbname={self.database}", dump]
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

    def serve(self, owner: str) -> None:
        """Under its own name, and without a password."""
        quoted = '"' + self._name.replace('"', '""') + '"'
        steps = [
            ("-d", "template1", "-c", f"drop database if exists {quoted} with (force)"),
            ("-d", "template1", "-c", f'alter database "{self.database}" rename to {quoted}'),
            ("-d", "template1", "-c", "select pg_reload_conf()"),
        ]
        places = self._call(*PSQL, "-d", "template1", "-c", "show hba_file")
        made = self._call("tee", places.out.decode("utf-8").strip(), stdin=OPEN)
        for step in steps if made.rc == 0 else ():
            made = self._call(*PSQL, *step)
            if made.rc != 0:
                break
        if made.rc != 0:
            raise DatabaseError(
                "engine_failed", f"the restored database could not be opened to its software ({made.rc})"
            )
        self.database = self._name

    def drop(self) -> None:
        """Only what bears its own name: the rest goes with the roles of the next item."""
        if self.database != self._name:
            return
        done = self._call("dropdb", "--force", "--maintenance-db=template1", "--", self.database)
        if done.rc != 0:
            raise DatabaseError("engine_failed", f"the loaded copy could not be dropped ({done.rc})")

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


def damage(out: str) -> list[Finding]:
    """Read what SOUND_SQL printed."""
    try:
        names = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise DatabaseError("check_failed", "amcheck gave no answer") from None
    listed = ", ".join(names[:5])
    return [Finding("engine_damage", f"amcheck finds {len(names)} damaged relations ({listed})")] if names else []


class Postgresql(Engine):
    """PostgreSQL of the host's own packages."""

    name = "postgresql"
    title = "PostgreSQL"
    packages = ("postgresql-17",)
    dump_owner = SUPERUSER

    def open(self, database: Database, tools: Tools) -> PostgresqlView:
        """A held snapshot."""
        return PostgresqlView(database.label, tools)

    def sound(self, database: Database, tools: Tools) -> tuple[str, list[Finding]]:
        """amcheck of the live database, which only a superuser may ask for; nothing of it stays."""
        argv = [*AS_SUPERUSER, *PSQL, "-d", conninfo(database.label), "-f", "-"]
        code, out, err = tools.run(argv, ENV, SOUND_SQL.encode("ascii"))
        if code != 0 and re.search(r'extension "amcheck" is not available|read-only transaction', err):
            return "not available", []
        if code != 0:
            raise DatabaseError("check_failed", first_line(err))
        return "done", damage(out)

    def copy(self, machine: Any, item: str, section: Mapping[str, Any]) -> PostgresqlCopy:
        """A database of its own in the machine."""
        return PostgresqlCopy(machine, item, section)

    def recovered(self, machine: Any, item: str, section: Mapping[str, Any], dump: str) -> PostgresqlCopy:
        """Under its own name."""
        copy = PostgresqlCopy(machine, item, section)
        copy.database = str(section["name"])
        return copy

    def recovery(self, database: Database, version: str, dump: str, oracle: str) -> tuple[str, list[str]]:
        """Into an empty database. (The model refuses names with = in them, which would be read as connection options.)"""
        name, major = shlex.quote(database.label), version.split(".")[0]
        read = "import json, sys; print(json.load(open(sys.argv[1]))['database']['globals'])"
        words = (
            "make the roles, make an empty database, load the dump. The roles come out of the oracle, as a dump holds none; "
            "that a role such as postgres is there already does no harm. Passwords of roles, and of foreign servers, are "
            "not in the backup: give each role that logs in with one a new one (psql: \\password ROLE)"
        )
        return words, [
            f"apt-get install postgresql-{major}" if major else "apt-get install postgresql",
            f"python3 -c {shlex.quote(read)} {oracle} | runuser -u postgres -- psql -X -q -d postgres",
            f"runuser -u postgres -- createdb --template=template0 --encoding=UTF8 -- {name}",
            f"runuser -u postgres -- pg_restore --exit-on-error --dbname={name} < {dump}",
        ]

    def release(self, version: str) -> Sequence[int]:
        """A dump loads into any version of at least its first number."""
        digits = version.split(".")[0]
        return (int(digits) if digits.isdigit() else 0,)
