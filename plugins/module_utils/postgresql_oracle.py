# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 -- SQL is this file's trade: names come quoted from the catalogue, probes from the practice document
"""What a PostgreSQL database looks like from outside: asked before a dump, asked again after a restore, and compared.

The agent asks inside the very snapshot that pg_dump uses; the restore verification asks the restored copy. Both run
the text of this file, so a difference is a difference of the data and never of the question. Nothing here opens a
connection: the caller hands in ``query``, a function that runs SQL and returns what psql printed.

``query(sql: str) -> str``: runs ``sql`` (several statements, each ended by a semicolon) in ONE session of
``psql -X -q -A -t`` with ON_ERROR_STOP, connected to the database in question, and returns standard output. The last
statement gives exactly one JSON value, so names and values may hold anything (decode with errors="surrogateescape").
It raises its own error when SQL fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .database_oracle import SAMPLE_WIDTH, Query, Questions, bare, decode
from .postgresql_access import ACCESS_SQL, ROLES_SQL, SUBSCRIPTIONS_SQL
from .postgresql_catalogue import NOT_OF_EXTENSION, OWN_RELATION, RELATION, USER_SCHEMA

ENGINE = "postgresql"

# What would otherwise follow the server's or the role's own settings, and so differ between two equal databases.
# row_security off: a filtered answer must be an error and not a smaller number.
SESSION_SQL = """\
set client_encoding = 'UTF8';
set timezone = 'UTC';
set datestyle = 'ISO, YMD';
set intervalstyle = 'iso_8601';
set extra_float_digits = 1;
set bytea_output = 'hex';
set lc_monetary = 'C';
set lc_numeric = 'C';
set quote_all_identifiers = off;
set row_security = off;
set statement_timeout = 0;
set lock_timeout = 0;
"""
# With nothing but pg_catalog on the path, PostgreSQL writes every user object with its schema.
CATALOGUE_PATH_SQL = "set search_path = pg_catalog;\n"

VERSION_SQL = "select to_json(current_setting('server_version'));"
SEARCH_PATH_SQL = "select to_json(current_setting('search_path'));"
SYSTEM_IDENTIFIER_SQL = "select to_json(system_identifier::text) from pg_catalog.pg_control_system();"
LARGE_OBJECTS_SQL = "select to_json(count(*)) from pg_catalog.pg_largeobject_metadata;"

# Ordinary tables, leaf partitions among them: what pg_dump carries the rows of. Extensions fill their own tables.
TABLES_SQL = f"""\
select coalesce(json_agg(t.name order by t.name), '[]') from (
  select {RELATION} as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and c.relpersistence <> 't' and {OWN_RELATION}) t;"""

# [object, line] pairs: no owners and grants (postgresql_access.py has them), no positions of dropped columns, no sequence
# values (those are not part of a snapshot). Everything else that pg_dump is to bring back.
SCHEMA_SQL = f"""\
select coalesce(json_agg(json_build_array(s.object, s.line)), '[]') from (
  select {RELATION} as object,
         concat_ws('|', 'relation', c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
                   pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)) as line
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'c') and c.relpersistence <> 't' and {OWN_RELATION}
  union all
  select {RELATION},
         concat_ws('|', 'column', row_number() over (partition by a.attrelid order by a.attnum), a.attname,
                   format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                   nullif(a.attcollation, t.typcollation)::regcollation::text, pg_get_expr(v.adbin, v.adrelid))
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_type t on t.oid = a.atttypid
  left join pg_attrdef v on v.adrelid = a.attrelid and v.adnum = a.attnum
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'c') and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped
    and {OWN_RELATION}
  union all
  select {RELATION}, concat_ws('|', 'index', pg_get_indexdef(i.indexrelid))
  from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and {OWN_RELATION}
  union all
  select coalesce({RELATION}, y.typnamespace::regnamespace || '.' || quote_ident(y.typname)),
         concat_ws('|', 'constraint', k.conname, k.contype, pg_get_constraintdef(k.oid))
  from pg_constraint k join pg_namespace n on n.oid = k.connamespace
  left join pg_class c on c.oid = k.conrelid left join pg_type y on y.oid = k.contypid
  where k.contype <> 'n' and {USER_SCHEMA}
    and (c.oid is null or (c.relpersistence <> 't' and {NOT_OF_EXTENSION.format(catalogue="pg_class", oid="c.oid")}))
    and (y.oid is null or {NOT_OF_EXTENSION.format(catalogue="pg_type", oid="y.oid")})
  union all
  select {RELATION}, concat_ws('|', 'trigger', g.tgname, g.tgenabled, pg_get_triggerdef(g.oid))
  from pg_trigger g join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace
  where not g.tgisinternal and {OWN_RELATION}
  union all
  select {RELATION}, concat_ws('|', 'policy', p.polname, p.polcmd, p.polpermissive,
                                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
  where {OWN_RELATION}
  union all
  select {RELATION}, concat_ws('|', 'sequence', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax,
                                q.seqcache, q.seqcycle)
  from pg_sequence q join pg_class c on c.oid = q.seqrelid join pg_namespace n on n.oid = c.relnamespace
  where c.relpersistence <> 't' and {OWN_RELATION}
  union all
  select quote_ident(n.nspname) || '.' || quote_ident(r.proname),
         concat_ws('|', 'routine', r.prokind, pg_get_function_identity_arguments(r.oid), pg_get_function_result(r.oid),
                   l.lanname, r.provolatile, r.prosecdef, r.proisstrict, md5(r.prosrc))
  from pg_proc r join pg_namespace n on n.oid = r.pronamespace join pg_language l on l.oid = r.prolang
  where {USER_SCHEMA} and {NOT_OF_EXTENSION.format(catalogue="pg_proc", oid="r.oid")}
  union all
  select quote_ident(n.nspname) || '.' || quote_ident(y.typname),
         concat_ws('|', 'type', y.typtype, format_type(y.typbasetype, y.typtypmod), y.typnotnull, y.typdefault,
                   (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = y.oid))
  from pg_type y join pg_namespace n on n.oid = y.typnamespace
  where y.typtype in ('d', 'e', 'r') and {USER_SCHEMA} and {NOT_OF_EXTENSION.format(catalogue="pg_type", oid="y.oid")}
  union all
  select 'extension ' || quote_ident(x.extname), 'extension' from pg_extension x
) s;"""

# Columns of which the text is the same in every version and session, as [quoted name, kind, place in the primary key].
# Large objects, oids and the like name things that get new numbers; what is generated follows from the rest.
SAMPLE_COLUMNS_SQL = f"""\
select coalesce(json_object_agg(s.name, s.columns), '{{}}') from (
  select {RELATION} as name, json_agg(json_build_array(quote_ident(a.attname),
    case when b.typname in ('float4', 'float8') then b.typname
         when b.typname = 'bytea' then 'bytes'
         when b.typname in ('text', 'varchar', 'bpchar', 'json', 'jsonb', 'xml') or e.typname in ('text', 'varchar', 'bpchar')
              then 'text'
         else 'plain' end,
    coalesce(array_position(k.conkey, a.attnum), 0)) order by a.attname) as columns
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_type t on t.oid = a.atttypid join pg_type b on b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
  left join pg_type e on e.oid = b.typelem and b.typcategory = 'A'
  left join pg_constraint k on k.conrelid = c.oid and k.contype = 'p'
  where c.relkind = 'r' and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    and (b.typtype = 'e' or coalesce(e.typname, b.typname) in ('bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar',
      'bpchar', 'date', 'time', 'timestamp', 'timestamptz', 'interval', 'uuid', 'inet', 'cidr', 'macaddr', 'bit', 'varbit')
      or b.typname in ('float4', 'float8', 'bytea', 'json', 'jsonb', 'xml'))
    and {OWN_RELATION}
  group by 1) s;"""

COUNT_CHUNK = 100


def count_sql(tables: Sequence[str]) -> str:
    """SQL that counts the rows of quoted table names, as one JSON object. ONLY: heirs have their own entry."""
    parts = [f"select {_literal(name)}, (select count(*) from only {name})" for name in tables]
    return "select json_object_agg(t.name, t.n) from (\n  " + "\n  union all ".join(parts) + "\n) t (name, n);"


def _number(text: str, digits: int) -> str:
    """SQL of a number out of a hash. (Not of hashtext, which may change with the version.)"""
    return f"('x' || left(encode(sha256(convert_to({text}, 'UTF8')), 'hex'), {digits}))::bit({digits * 4})"


def _sample_value(name: str, kind: str) -> str:
    """SQL of a column's text in ASCII, null included."""
    bytes_of = {
        "float4": f"float4send({name}::float4)",  # their text has other digits before PostgreSQL 12
        "float8": f"float8send({name}::float8)",
        "bytes": f"{name}::bytea",
        "text": f"convert_to({name}::text, 'UTF8')",
    }.get(kind)
    if bytes_of is None:
        return f"coalesce('=' || {name}::text || ';', '~')"
    cut = f"encode(substr({bytes_of}, 1, {SAMPLE_WIDTH}), 'hex')"
    return f"coalesce(octet_length({bytes_of}) || '=' || {cut} || ';', '~')"


def sample_sql(columns: Mapping[str, Sequence[Sequence[Any]]], one_in: Mapping[str, int]) -> str:
    """SQL that samples quoted tables, as one JSON object. columns: as SAMPLE_COLUMNS_SQL has them."""
    parts = []
    for table, divisor in one_in.items():
        row = " || ".join(_sample_value(name, kind) for name, kind, _place in columns[table])
        key = [_sample_value(name, kind) for name, kind, place in columns[table] if place]
        where = f" where mod({_number(' || '.join(key) or row, 7)}::int, {int(divisor)}) = 0" if divisor > 1 else ""
        parts.append(
            f"select {_literal(table)}, json_build_array(count(*)::text, coalesce(sum({_number(row, 15)}::bigint), 0)::text) "
            f"from only {table}{where}"
        )
    return "select json_object_agg(t.name, t.found) from (\n  " + "\n  union all ".join(parts) + "\n) t (name, found);"


def probe_sql(probe: str) -> str:
    """SQL that gives a probe's single value as JSON text (or null). The line break ends a comment in the probe."""
    return f"select coalesce(to_json(({bare(probe)}\n)::text), 'null');"


def images_sql(images_query: str) -> str:
    """SQL that gives the first column of a query as a JSON list of text; rows with null are left out."""
    query = f"({bare(images_query)}\n) i (path)"
    return f"select coalesce(json_agg(i.path::text), '[]') from {query} where i.path is not null;"


class PostgresqlQuestions(Questions):
    """How to ask PostgreSQL. search_path: as the oracle recorded it, for probes and the image query; None takes the
    session's own, which is what the agent does. (A restored database may have lost an ``ALTER DATABASE ... SET``.)
    """

    engine = ENGINE

    def __init__(self, query: Query, search_path: str | None = None) -> None:
        self._query = query
        self._search_path = search_path
        self._columns: dict[str, list[list[Any]]] | None = None

    def _ask(self, sql: str) -> Any:
        return decode(self._query(SESSION_SQL + sql))

    def _catalogue(self, sql: str) -> Any:
        return self._ask(CATALOGUE_PATH_SQL + sql)

    @property
    def search_path(self) -> str:
        """As given, or the session's own."""
        if self._search_path is None:
            self._search_path = str(self._ask(SEARCH_PATH_SQL))
        return self._search_path

    def _own(self, sql: str) -> Any:
        path = self.search_path if self.search_path.strip() else "''"
        return self._ask(f"set search_path = {path};\n" + sql)

    def version(self) -> str:
        """Like 17.4."""
        return str(self._ask(VERSION_SQL)).split()[0]

    def settings(self) -> dict[str, Any]:
        """The search path."""
        return {"search_path": self.search_path}

    def tables(self) -> list[str]:
        """Ordinary tables and leaf partitions, as schema.table."""
        return [str(table) for table in self._catalogue(TABLES_SQL)]

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Many in one query: a statement each would take longer than small tables do."""
        found: dict[str, int] = {}
        for start in range(0, len(tables), COUNT_CHUNK):
            found.update(self._catalogue(count_sql(tables[start : start + COUNT_CHUNK])))
        return found

    def samples(self, one_in: Mapping[str, int]) -> dict[str, list[str]]:
        """See SAMPLE_COLUMNS_SQL for the columns."""
        if self._columns is None:
            self._columns = self._catalogue(SAMPLE_COLUMNS_SQL)
        some = {table: k for table, k in one_in.items() if table in self._columns}
        found: dict[str, list[str]] = self._catalogue(sample_sql(self._columns, some)) if some else {}
        return found

    def schema(self) -> list[list[str]]:
        """See SCHEMA_SQL."""
        lines: list[list[str]] = self._catalogue(SCHEMA_SQL)
        return lines

    def probe(self, sql: str) -> str | None:
        """With the search path."""
        value: str | None = self._own(probe_sql(sql))
        return value

    def images(self, sql: str) -> list[str]:
        """With the search path."""
        return [str(path) for path in self._own(images_sql(sql))]

    def more(self) -> dict[str, int]:
        """Large objects."""
        return {"large objects": int(self._catalogue(LARGE_OBJECTS_SQL))}

    def access(self) -> list[list[str]]:
        """See ACCESS_SQL."""
        lines: list[list[str]] = self._catalogue(ACCESS_SQL)
        return lines

    def roles(self) -> list[list[str]]:
        """The part of access that belongs to the cluster."""
        lines: list[list[str]] = self._catalogue(ROLES_SQL)
        return lines

    def subscriptions(self) -> int:
        """How many this database has."""
        return int(self._catalogue(SUBSCRIPTIONS_SQL))

    def system_id(self) -> str:
        """The cluster's own number: the same for the life of a data directory and its physical copies."""
        return str(self._catalogue(SYSTEM_IDENTIFIER_SQL))


def _literal(text: str) -> str:
    """A text literal that reads the same whatever standard_conforming_strings says."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else "'" + quoted + "'"
