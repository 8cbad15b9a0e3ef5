# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 -- SQL is this file's trade: names come quoted from the catalogue, probes from the practice document
"""What a SQLite database looks like from outside. The caller hands in ``query``, which is sqlite_door's ``ask``:

``query(sql: str) -> str``: runs one SELECT and returns each row as a JSON array, a line each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .database_oracle import SAMPLE_WIDTH, OracleError, Query, Questions, bare, decode_lines

ENGINE = "sqlite"
# SQLite's own limit of SELECTs in one is 500.
COUNT_CHUNK = 100

VERSION_SQL = "select sqlite_version()"
# What a virtual table shows lies in ordinary tables beside it; without its module it could not even be counted.
TABLES_SQL = """\
select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'
  and lower(sql) not like 'create virtual table%' order by name"""
# Statements as they were written. What SQLite makes by itself (sqlite_...) follows from them.
SCHEMA_SQL = """\
select tbl_name, type || '|' || name || '|' || coalesce(sql, '') from sqlite_master
  where name not like 'sqlite\\_%' escape '\\'
union all select '(database)', 'encoding|' || encoding from pragma_encoding
union all select '(database)', 'user_version|' || user_version from pragma_user_version
union all select '(database)', 'application_id|' || application_id from pragma_application_id"""
# Many programs never ask SQLite to watch these; a copy has to have as many that lead nowhere as the live one.
ORPHANS_SQL = "select count(*) from pragma_foreign_key_check"
INTEGRITY_SQL = "select integrity_check from pragma_integrity_check"


# Three arguments a column; SQLite of 2014 takes no more than 127.
SAMPLE_CHUNK = 40


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def count_sql(tables: Sequence[str]) -> str:
    """SQL that counts the rows of tables, in their order."""
    return "\nunion all ".join(f"select {n}, (select count(*) from {quoted(name)})" for n, name in enumerate(tables))


def _hash(columns: Sequence[str]) -> str:
    """SQL of a number for some columns. Texts are taken as bytes: not every program writes what is UTF-8."""
    values = []
    for name in (quoted(column) for column in columns):
        cut = f"substr({name}, 1, {SAMPLE_WIDTH})"
        values.append(
            f"typeof({name}), length({name}), "
            f"case typeof({name}) when 'text' then cast({cut} as blob) when 'blob' then {cut} else {name} end"
        )
    chunks = [f"holdfast_hash({', '.join(values[n : n + SAMPLE_CHUNK])})" for n in range(0, len(values), SAMPLE_CHUNK)]
    return chunks[0] if len(chunks) == 1 else f"holdfast_hash({', '.join(chunks)})"


def sample_sql(table: str, columns: Sequence[str], key: Sequence[str], one_in: int) -> str:
    """SQL that samples a table: rows, sum of hashes."""
    where = f" where {_hash(key or columns)} % {int(one_in)} = 0" if one_in > 1 else ""
    return (
        f"select cast(count(*) as text), cast(coalesce(sum({_hash(columns)}), 0) as text) from {quoted(table)}{where}"
    )


class SqliteQuestions(Questions):
    """How to ask SQLite."""

    engine = ENGINE

    def __init__(self, query: Query) -> None:
        self._query = query

    def _rows(self, sql: str) -> list[list[Any]]:
        return decode_lines(self._query(sql))

    def _one(self, sql: str) -> Any:
        rows = self._rows(sql)
        if len(rows) != 1 or len(rows[0]) != 1:
            raise OracleError(f"expected one value from the database, got {len(rows)} rows")
        return rows[0][0]

    def version(self) -> str:
        """Of the library that reads the file; the file itself is of all versions."""
        return str(self._one(VERSION_SQL))

    def settings(self) -> dict[str, Any]:
        """There are none that an answer would depend on."""
        return {}

    def tables(self) -> list[str]:
        """Ordinary tables."""
        return [str(row[0]) for row in self._rows(TABLES_SQL)]

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Many in one query."""
        found: dict[str, int] = {}
        for start in range(0, len(tables), COUNT_CHUNK):
            chunk = tables[start : start + COUNT_CHUNK]
            found.update({chunk[number]: count for number, count in self._rows(count_sql(chunk))})
        return found

    def samples(self, one_in: Mapping[str, int]) -> dict[str, list[str]]:
        """holdfast_hash is sqlite_door's. Its table_info leaves out what is generated."""
        found = {}
        for table, divisor in one_in.items():
            name = table.replace("'", "''")
            columns = self._rows(f"select name, pk from pragma_table_info('{name}') order by cid")
            key = [column for column, place in columns if place]
            (found[table],) = self._rows(sample_sql(table, [column for column, _place in columns], key, divisor))
        return found

    def schema(self) -> list[list[str]]:
        """See SCHEMA_SQL."""
        return self._rows(SCHEMA_SQL)

    def probe(self, sql: str) -> str | None:
        """As text. The line break ends a comment in the probe."""
        value: str | None = self._one(f"select cast(({bare(sql)}\n) as text)")
        return value

    def images(self, sql: str) -> list[str]:
        """The first column, whatever its name."""
        rows = self._rows(f"with i(path) as ({bare(sql)}\n) select cast(path as text) from i where path is not null")
        return [str(row[0]) for row in rows]

    def more(self) -> dict[str, int]:
        """Foreign keys that lead nowhere."""
        return {"foreign key violations": int(self._one(ORPHANS_SQL))}

    def integrity(self) -> list[str]:
        """What SQLite finds wrong; empty when it is sound."""
        said = [str(row[0]) for row in self._rows(INTEGRITY_SQL)]
        return [] if said == ["ok"] else said
