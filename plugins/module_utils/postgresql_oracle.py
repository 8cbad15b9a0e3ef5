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

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

ENGINE = "postgresql"
Query = Callable[[str], str]

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

_USER_SCHEMA = "n.nspname <> 'information_schema' and n.nspname !~ '^pg_'"
_NOT_OF_EXTENSION = """not exists (
    select from pg_depend d where d.deptype = 'e' and d.classid = '{catalogue}'::regclass and d.objid = {oid})"""
_RELATION = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
_OWN_RELATION = _USER_SCHEMA + " and " + _NOT_OF_EXTENSION.format(catalogue="pg_class", oid="c.oid")

# Ordinary tables, leaf partitions among them: what pg_dump carries the rows of. Extensions fill their own tables.
TABLES_SQL = f"""\
select coalesce(json_agg(t.name order by t.name), '[]') from (
  select {_RELATION} as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and c.relpersistence <> 't' and {_OWN_RELATION}) t;"""

# [object, line] pairs: no owners, no grants, no positions of dropped columns, no sequence values (those are not part of
# a snapshot). Everything else that pg_dump is to bring back.
SCHEMA_SQL = f"""\
select coalesce(json_agg(json_build_array(s.object, s.line)), '[]') from (
  select {_RELATION} as object,
         concat_ws('|', 'relation', c.relkind, c.relpersistence, c.relrowsecurity, c.relforcerowsecurity,
                   pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid)) as line
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'c') and c.relpersistence <> 't' and {_OWN_RELATION}
  union all
  select {_RELATION},
         concat_ws('|', 'column', row_number() over (partition by a.attrelid order by a.attnum), a.attname,
                   format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                   nullif(a.attcollation, t.typcollation)::regcollation::text, pg_get_expr(v.adbin, v.adrelid))
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_type t on t.oid = a.atttypid
  left join pg_attrdef v on v.adrelid = a.attrelid and v.adnum = a.attnum
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'c') and c.relpersistence <> 't' and a.attnum > 0 and not a.attisdropped
    and {_OWN_RELATION}
  union all
  select {_RELATION}, concat_ws('|', 'index', pg_get_indexdef(i.indexrelid))
  from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and {_OWN_RELATION}
  union all
  select coalesce({_RELATION}, y.typnamespace::regnamespace || '.' || quote_ident(y.typname)),
         concat_ws('|', 'constraint', k.conname, k.contype, pg_get_constraintdef(k.oid))
  from pg_constraint k join pg_namespace n on n.oid = k.connamespace
  left join pg_class c on c.oid = k.conrelid left join pg_type y on y.oid = k.contypid
  where k.contype <> 'n' and {_USER_SCHEMA}
    and (c.oid is null or (c.relpersistence <> 't' and {_NOT_OF_EXTENSION.format(catalogue="pg_class", oid="c.oid")}))
    and (y.oid is null or {_NOT_OF_EXTENSION.format(catalogue="pg_type", oid="y.oid")})
  union all
  select {_RELATION}, concat_ws('|', 'trigger', g.tgname, g.tgenabled, pg_get_triggerdef(g.oid))
  from pg_trigger g join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace
  where not g.tgisinternal and {_OWN_RELATION}
  union all
  select {_RELATION}, concat_ws('|', 'policy', p.polname, p.polcmd, p.polpermissive,
                                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
  where {_OWN_RELATION}
  union all
  select {_RELATION}, concat_ws('|', 'sequence', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax,
                                q.seqcache, q.seqcycle)
  from pg_sequence q join pg_class c on c.oid = q.seqrelid join pg_namespace n on n.oid = c.relnamespace
  where c.relpersistence <> 't' and {_OWN_RELATION}
  union all
  select quote_ident(n.nspname) || '.' || quote_ident(r.proname),
         concat_ws('|', 'routine', r.prokind, pg_get_function_identity_arguments(r.oid), pg_get_function_result(r.oid),
                   l.lanname, r.provolatile, r.prosecdef, r.proisstrict, md5(r.prosrc))
  from pg_proc r join pg_namespace n on n.oid = r.pronamespace join pg_language l on l.oid = r.prolang
  where {_USER_SCHEMA} and {_NOT_OF_EXTENSION.format(catalogue="pg_proc", oid="r.oid")}
  union all
  select quote_ident(n.nspname) || '.' || quote_ident(y.typname),
         concat_ws('|', 'type', y.typtype, format_type(y.typbasetype, y.typtypmod), y.typnotnull, y.typdefault,
                   (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = y.oid))
  from pg_type y join pg_namespace n on n.oid = y.typnamespace
  where y.typtype in ('d', 'e', 'r') and {_USER_SCHEMA} and {_NOT_OF_EXTENSION.format(catalogue="pg_type", oid="y.oid")}
  union all
  select 'extension ' || quote_ident(x.extname), 'extension' from pg_extension x
) s;"""

COUNT_CHUNK = 100


class Difference(NamedTuple):
    """One thing in which the restored database is not the one that was backed up. Holds no value of any row."""

    code: str
    message: str


class OracleError(Exception):
    """A query was answered with something that is not what it asked for."""


def count_sql(tables: list[str]) -> str:
    """SQL that counts the rows of quoted table names, as one JSON object. ONLY: heirs have their own entry."""
    parts = [f"select {_literal(name)}, (select count(*) from only {name})" for name in tables]
    return "select json_object_agg(t.name, t.n) from (\n  " + "\n  union all ".join(parts) + "\n) t (name, n);"


def probe_sql(probe: str) -> str:
    """SQL that gives a probe's single value as JSON text (or null). The line break ends a comment in the probe."""
    return f"select coalesce(to_json(({_bare(probe)}\n)::text), 'null');"


def images_sql(images_query: str) -> str:
    """SQL that gives the first column of a query as a JSON list of text; rows with null are left out."""
    query = f"({_bare(images_query)}\n) i (path)"
    return f"select coalesce(json_agg(i.path::text), '[]') from {query} where i.path is not null;"


def read_system_identifier(query: Query) -> str:
    """The cluster's own number: the same for the life of a data directory and its physical copies."""
    return str(_ask(query, CATALOGUE_PATH_SQL + SYSTEM_IDENTIFIER_SQL))


def read_database(
    query: Query,
    name: str,
    probes: Mapping[str, str] | None = None,
    images: Mapping[str, str] | None = None,
    search_path: str | None = None,
    on_error: Callable[[str, Exception], None] | None = None,
) -> dict[str, Any]:
    """Describe a database: the oracle's ``database`` section without ``dump_path``.

    name: the database's name (for the record; ``query`` is connected already).
    probes: {probe name: SELECT of one value}. images: {"query": SELECT of one column, "root": folder} or None.
    search_path: as the oracle recorded it, for the probes and the image query; None takes the session's own, which is
        what the agent does. (A restored database may have lost an ``ALTER DATABASE ... SET search_path``.)
    on_error: called with ("probe NAME" or "images", error) when such a query fails, which is then left out;
        without it the error is raised.

    Returns {"engine", "name", "version", "search_path", "tables": {"schema.table": rows}, "large_objects": n,
    "probes": {name: text or None}, "questions": {"probes": {name: SELECT}, "images": {"query", "root"} or None},
    "schema_fingerprint": 64 hex, "schema_objects": {"schema.object": 16 hex}, "images": {"count", "root", "names"} or
    None}. ``questions`` are those that were answered, to be asked again of a restored copy. Raises what ``query``
    raises, and OracleError.
    """
    if search_path is None:
        search_path = str(_ask(query, SEARCH_PATH_SQL))
    catalogue = CATALOGUE_PATH_SQL
    own_path = f"set search_path = {search_path};\n" if search_path.strip() else "set search_path = '';\n"
    tables = [str(table) for table in _ask(query, catalogue + TABLES_SQL)]
    counts: dict[str, int] = {}
    for start in range(0, len(tables), COUNT_CHUNK):
        counts.update(_ask(query, catalogue + count_sql(tables[start : start + COUNT_CHUNK])))
    lines = _ask(query, catalogue + SCHEMA_SQL)
    large_objects = int(_ask(query, catalogue + LARGE_OBJECTS_SQL))
    version = str(_ask(query, VERSION_SQL)).split()[0]

    found_probes: dict[str, str | None] = {}
    for probe, sql in sorted((probes or {}).items()):
        try:
            found_probes[probe] = _ask(query, own_path + probe_sql(sql))
        except Exception as error:
            if on_error is None:
                raise
            on_error(f"probe {probe}", error)
    found_images = None
    if images:
        try:
            names = [str(path) for path in _ask(query, own_path + images_sql(images["query"]))]
            found_images = {"count": len(names), "root": images["root"], "names": names}
        except Exception as error:
            if on_error is None:
                raise
            on_error("images", error)
    questions = {
        "probes": {probe: sql for probe, sql in sorted((probes or {}).items()) if probe in found_probes},
        "images": {"query": images["query"], "root": images["root"]} if images and found_images else None,
    }
    return {
        "engine": ENGINE,
        "name": name,
        "version": version,
        "search_path": search_path,
        "tables": {table: int(counts[table]) for table in tables},
        "large_objects": large_objects,
        "probes": found_probes,
        "questions": questions,
        "schema_fingerprint": fingerprint(lines),
        "schema_objects": fingerprint_objects(lines),
        "images": found_images,
    }


def fingerprint(lines: list[list[str]]) -> str:
    """blake2b (32 bytes, hex) of the sorted [object, line] pairs."""
    return _digest(lines, 32)


def fingerprint_objects(lines: list[list[str]]) -> dict[str, str]:
    """A short digest for each object, so that a difference can be named without keeping the schema itself."""
    grouped: dict[str, list[list[str]]] = {}
    for line in lines:
        grouped.setdefault(line[0], []).append(line)
    return {name: _digest(grouped[name], 8) for name in sorted(grouped)}


def compare(oracle_database: Mapping[str, Any], restored_database: Mapping[str, Any]) -> list[Difference]:
    """Say in what a restored database differs from the oracle's ``database`` section. Empty means: the same.

    Both are what read_database returned (the oracle's may have more keys). Codes: nothing_to_compare, engine_differs,
    version_older, table_missing, table_extra, rows_differ, large_objects_differ, schema_differs, probe_missing,
    probe_differs, images_missing, images_differ. Messages hold names of tables and probes, and counts; never a value.
    """
    found: list[Difference] = []
    want_tables, have_tables = oracle_database["tables"], restored_database["tables"]
    if not want_tables:
        found.append(Difference("nothing_to_compare", "The oracle lists no table: there is nothing to compare."))
    if oracle_database["engine"] != restored_database["engine"]:
        engines = f"{oracle_database['engine']} was backed up, {restored_database['engine']} was restored"
        found.append(Difference("engine_differs", f"{engines}."))
    if _major(restored_database["version"]) < _major(oracle_database["version"]):
        found.append(
            Difference(
                "version_older",
                f"The restored engine is version {restored_database['version']}, older than the "
                f"{oracle_database['version']} that was backed up.",
            )
        )
    for table in sorted(set(want_tables) - set(have_tables)):
        found.append(
            Difference(
                "table_missing", f"Live has table {table} ({want_tables[table]} rows), the restored copy has not."
            )
        )
    for table in sorted(set(have_tables) - set(want_tables)):
        found.append(Difference("table_extra", f"The restored copy has table {table}, live had not at backup time."))
    for table in sorted(set(want_tables) & set(have_tables)):
        if want_tables[table] != have_tables[table]:
            found.append(
                Difference(
                    "rows_differ",
                    f"Table {table}: {want_tables[table]} rows at backup time, {have_tables[table]} restored "
                    f"({have_tables[table] - want_tables[table]:+d}); none may differ.",
                )
            )
    found += _compare_large_objects(oracle_database, restored_database)
    found += _compare_schema(oracle_database, restored_database)
    found += _compare_probes(oracle_database["probes"], restored_database["probes"])
    found += _compare_images(oracle_database.get("images"), restored_database.get("images"))
    return found


def _compare_large_objects(want: Mapping[str, Any], have: Mapping[str, Any]) -> list[Difference]:
    if "large_objects" not in want or want["large_objects"] == have.get("large_objects"):
        return []
    counts = f"{want['large_objects']} large objects at backup time, {have.get('large_objects')} restored"
    return [Difference("large_objects_differ", f"{counts}.")]


def _compare_schema(want: Mapping[str, Any], have: Mapping[str, Any]) -> list[Difference]:
    if want["schema_fingerprint"] == have["schema_fingerprint"]:
        return []
    want_objects, have_objects = want.get("schema_objects") or {}, have.get("schema_objects") or {}
    names = sorted(
        name for name in set(want_objects) | set(have_objects) if want_objects.get(name) != have_objects.get(name)
    )
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [
        Difference("schema_differs", f"The schema differs from that at backup time in: {listed or 'unknown objects'}.")
    ]


def _compare_probes(want: Mapping[str, str | None], have: Mapping[str, str | None]) -> list[Difference]:
    found = []
    for probe in sorted(want):
        if probe not in have:
            found.append(Difference("probe_missing", f"Probe {probe} gave no answer in the restored copy."))
        elif want[probe] != have[probe]:
            late = _seconds_between(have[probe], want[probe])
            how = f" by {abs(late):.0f} s (the restored one is {'older' if late > 0 else 'newer'})" if late else ""
            found.append(Difference("probe_differs", f"Probe {probe} gives another value than at backup time{how}."))
    return found


def _compare_images(want: Mapping[str, Any] | None, have: Mapping[str, Any] | None) -> list[Difference]:
    if want is None:
        return []
    if have is None:
        return [Difference("images_missing", f"The restored copy lists no images; {want['count']} were listed.")]
    lost, extra = set(want["names"]) - set(have["names"]), set(have["names"]) - set(want["names"])
    if not lost and not extra and want["count"] == have["count"]:
        return []
    counts = f"{want['count']} images listed at backup time, {have['count']} restored"
    return [Difference("images_differ", f"{counts}: {len(lost)} are missing and {len(extra)} are new in the list.")]


def _seconds_between(earlier: str | None, later: str | None) -> float | None:
    """Seconds from one ISO time stamp to another; None when they are not two of a kind."""
    try:
        first, last = _timestamp(str(earlier)), _timestamp(str(later))
        return (last - first).total_seconds()
    except (ValueError, TypeError):
        return None


def _timestamp(text: str) -> datetime.datetime:
    """PostgreSQL writes +00 and any number of fraction digits, Python 3.9 reads +00:00 and three or six."""
    zone = "+00:00" if text.endswith("+00") else ""
    text = text[: -len("+00")] if zone else text
    whole, dot, fraction = text.partition(".")
    return datetime.datetime.fromisoformat(whole + (dot + fraction.ljust(6, "0") if dot else "") + zone)


def _ask(query: Query, sql: str) -> Any:
    answer = query(SESSION_SQL + sql)
    try:
        return json.loads(answer)
    except ValueError as error:
        raise OracleError(
            f"expected one JSON value from the database, got {len(answer)} characters of other text"
        ) from error


def _digest(lines: list[list[str]], size: int) -> str:
    text = json.dumps(sorted([str(part) for part in line] for line in lines), ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=size).hexdigest()


def _major(version: str) -> int:
    digits = version.split(".")[0]
    return int(digits) if digits.isdigit() else 0


def _bare(sql: str) -> str:
    return sql.strip().rstrip(";").rstrip()


def _literal(text: str) -> str:
    """A text literal that reads the same whatever standard_conforming_strings says."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else "'" + quoted + "'"
