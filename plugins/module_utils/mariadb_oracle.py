# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 -- SQL is this file's trade: names come quoted from the catalogue, probes from the practice document
"""What a MariaDB database looks like from outside. The caller hands in ``query``:

``query(sql: str) -> str``: runs one statement and returns what ``mariadb --batch --skip-column-names`` prints: a row a line,
values parted by tabs, with tabs, line ends, NUL and backslashes in them written as \\t, \\n, \\0 and \\\\.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .database_oracle import SAMPLE_WIDTH, OracleError, Query, Questions, bare

ENGINE = "mariadb"
COUNT_CHUNK = 100
HERE = "table_schema = database()"
# Rows of these are carried by a dump; what is gone by now is a part of a table with a history.
ROWS_TYPES = ("BASE TABLE", "SYSTEM VERSIONED")

VERSION_SQL = "select version()"
# What decides how a probe is read and answered.
SETTINGS_SQL = (
    "select @@sql_mode, default_collation_name from information_schema.schemata where schema_name = database()"
)
TABLES_SQL = f"select table_name, table_type, ifnull(engine, '') from information_schema.tables where {HERE} order by 1"
# When each table was made: emptied or exchanged, it is made anew.
MARKS_SQL = f"select table_name, table_type, ifnull(create_time, '') from information_schema.tables where {HERE}"
VIEWS_SQL = f"""\
select table_name, concat_ws('|', 'view', view_definition, check_option, definer, security_type, algorithm)
  from information_schema.views where {HERE}"""
TRIGGERS_SQL = """\
select event_object_table, concat_ws('|', 'trigger', trigger_name, action_timing, event_manipulation, action_order,
    action_statement, sql_mode, definer)
  from information_schema.triggers where trigger_schema = database()"""
ROUTINES_SQL = """\
select routine_name, concat_ws('|', 'routine', routine_type, ifnull(dtd_identifier, ''), ifnull(routine_definition, '(hidden)'),
    sql_data_access, is_deterministic, security_type, sql_mode, definer)
  from information_schema.routines where routine_schema = database()
union all
select specific_name, concat_ws('|', 'parameter', ordinal_position, ifnull(parameter_mode, ''), ifnull(parameter_name, ''),
    dtd_identifier)
  from information_schema.parameters where specific_schema = database()"""
EVENTS_SQL = """\
select event_name, concat_ws('|', 'event', event_definition, ifnull(execute_at, ''), ifnull(interval_value, ''),
    ifnull(interval_field, ''), ifnull(starts, ''), ifnull(ends, ''), status, on_completion, time_zone, sql_mode, definer)
  from information_schema.events where event_schema = database()"""

# Of what is generated the rest tells, and of places on the earth versions write differently.
SAMPLE_COLUMNS_SQL = f"""\
select table_name, column_name, data_type, column_key = 'PRI' from information_schema.columns
  where {HERE} and extra not like '%GENERATED%' and data_type not in ('geometry', 'point', 'linestring', 'polygon',
    'multipoint', 'multilinestring', 'multipolygon', 'geometrycollection')
  order by table_name, column_name"""
BINARY_TYPES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit")

_ESCAPES = {"t": "\t", "n": "\n", "0": "\0", "\\": "\\"}


def rows(answer: str) -> list[list[str]]:
    """Rows of what the client printed."""
    return [[_plain(value) for value in line.split("\t")] for line in answer.split("\n") if line]


def _plain(value: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(0)), value)


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return "`" + name.replace("`", "``") + "`"


def sent(sql: str) -> str:
    """A statement that the client hands on unread: it knows commands of its own, some of which start programs."""
    return f"execute immediate convert(x'{sql.encode('utf-8', 'surrogateescape').hex()}' using utf8mb4);"


def steady(definition: str) -> str:
    """CREATE TABLE without what changes with every row."""
    return re.sub(r"(?m)^(\) .*?) AUTO_INCREMENT=\d+", r"\1", definition)


def count_sql(tables: Sequence[tuple[str, str]]) -> str:
    """SQL that counts the rows of (table, its type), in their order; rows that are history count too."""
    parts = []
    for number, (name, kind) in enumerate(tables):
        history = " for system_time all" if kind == "SYSTEM VERSIONED" else ""
        parts.append(f"select {number}, (select count(*) from {quoted(name)}{history})")
    return "\nunion all ".join(parts)


def _sample_value(column: str, kind: str) -> str:
    """SQL of a column's text in ASCII, null included, whatever its character set."""
    name = quoted(column)
    raw = name if kind in BINARY_TYPES else f"cast({name} as char character set utf8mb4)"
    return f"ifnull(concat(length({raw}), '=', hex(left({raw}, {SAMPLE_WIDTH})), ';'), '~')"


def sample_sql(columns: Mapping[str, Sequence[Sequence[str]]], one_in: Mapping[str, int]) -> str:
    """SQL that samples tables: name, rows, sum of hashes. columns: rows of SAMPLE_COLUMNS_SQL without the table's name."""
    parts = []
    for table, divisor in one_in.items():
        row = ", ".join(_sample_value(name, kind) for name, kind, _key in columns[table])
        key = ", ".join(_sample_value(name, kind) for name, kind, is_key in columns[table] if is_key == "1") or row
        where = f" where conv(left(md5(concat({key})), 7), 16, 10) % {int(divisor)} = 0" if divisor > 1 else ""
        number = f"cast(conv(left(md5(concat({row})), 15), 16, 10) as unsigned)"
        label = f"convert(x'{table.encode('utf-8', 'surrogateescape').hex()}' using utf8mb4)"
        parts.append(f"select {label}, count(*), ifnull(sum({number}), 0) from {quoted(table)}{where}")
    return "\nunion all ".join(parts)


class MariadbQuestions(Questions):
    """How to ask MariaDB."""

    engine = ENGINE

    def __init__(self, query: Query) -> None:
        self._query = query

    def ask(self, sql: str) -> list[list[str]]:
        """Rows of one statement."""
        return rows(self._query(sql))

    def version(self) -> str:
        """Like 11.8.6-MariaDB."""
        return "-".join(self.ask(VERSION_SQL)[0][0].split("-")[:2])

    def settings(self) -> dict[str, Any]:
        """The way statements are read, and the database's own collation."""
        found = self.ask(SETTINGS_SQL)
        if len(found) != 1 or len(found[0]) != 2:
            raise OracleError(f"expected the settings of one database, got {len(found)}")
        return {"sql_mode": found[0][0], "collation": found[0][1]}

    def kinds(self) -> list[tuple[str, str, str]]:
        """(name, type, storage engine) of everything that is like a table."""
        return [(row[0], row[1], row[2]) for row in self.ask(TABLES_SQL)]

    def tables(self) -> list[str]:
        """Tables with rows."""
        return [name for name, kind, _engine in self.kinds() if kind in ROWS_TYPES]

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Many in one query."""
        kinds = {name: kind for name, kind, _engine in self.kinds()}
        found: dict[str, int] = {}
        for start in range(0, len(tables), COUNT_CHUNK):
            chunk = tables[start : start + COUNT_CHUNK]
            counted = self.ask(count_sql([(name, kinds.get(name, "")) for name in chunk]))
            found.update({chunk[int(number)]: int(count) for number, count in counted})
        return found

    def samples(self, one_in: Mapping[str, int]) -> dict[str, list[str]]:
        """See SAMPLE_COLUMNS_SQL for the columns."""
        columns: dict[str, list[list[str]]] = {}
        for table, *column in self.ask(SAMPLE_COLUMNS_SQL):
            columns.setdefault(table, []).append(column)
        some = {table: k for table, k in one_in.items() if table in columns}
        return {name: found for name, *found in self.ask(sample_sql(columns, some))} if some else {}

    def schema(self) -> list[list[str]]:
        """Tables and sequences as MariaDB would make them; the rest from its catalogue."""
        lines = [["(database)", f"collation|{self.settings()['collation']}"]]
        for name, kind, _engine in self.kinds():
            if kind in ROWS_TYPES:
                lines.append([name, steady(self.ask(f"show create table {quoted(name)}")[0][1])])
            elif kind == "SEQUENCE":
                lines.append([name, self.ask(f"show create sequence {quoted(name)}")[0][1]])
        for sql in (VIEWS_SQL, TRIGGERS_SQL, ROUTINES_SQL, EVENTS_SQL):
            lines += self.ask(sql)
        return lines

    def marks(self) -> str:
        """Changes when any table is made, changed, emptied or removed, or anything else of the schema is changed."""
        found = [*self.schema(), *self.ask(MARKS_SQL)]
        return hashlib.blake2b(repr(sorted(found)).encode("utf-8", "surrogateescape")).hexdigest()

    def probe(self, sql: str) -> str | None:
        """As text. The line break ends a comment in the probe."""
        found = self.ask(f"select v is null, ifnull(cast(v as char), '') from (select ({bare(sql)}\n) as v) as probe")
        if len(found) != 1 or len(found[0]) != 2:
            raise OracleError(f"expected one value from the database, got {len(found)} rows")
        return None if found[0][0] == "1" else found[0][1]

    def images(self, sql: str) -> list[str]:
        """The first column, whatever its name."""
        found = self.ask(f"with i(path) as ({bare(sql)}\n) select cast(path as char) from i where path is not null")
        return [row[0] for row in found]

    def more(self) -> dict[str, int]:
        """What is only there for a look: nothing."""
        return {}

    def system_id(self) -> str | None:
        """The server's own number, which newer ones have."""
        found = self.ask(
            "select variable_value from information_schema.global_variables where variable_name = 'server_uid'"
        )
        return found[0][0] if found and found[0][0] != "unknown" else None
