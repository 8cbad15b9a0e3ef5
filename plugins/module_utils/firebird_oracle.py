# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S608 -- SQL is this file's trade: names come quoted from the catalogue, probes from the practice document
"""What a Firebird database looks like from outside. The caller hands in ``query``, which is isql fed with ``asked``:

``query(sql: str) -> str``: runs one SELECT of one column and returns what isql printed, to be read by ``answers``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .database_oracle import SAMPLE_WIDTH, OracleError, Query, Questions, bare

ENGINE = "firebird"
# Contexts in one statement of Firebird are 255; a table is one.
COUNT_CHUNK = 50
# What would otherwise follow the server's settings. A statement ends with ^, so that ; may stand in it.
SESSION = "set list on;\nset keep_tran_params off;\nset time zone '+00:00';\ncommit;\nset term ^;\n"

# isql reads text up to a character that it knows; so text goes in, and answers come out, in hexadecimal digits. The block
# also refuses what is not one statement.
_BLOCK = """\
execute block returns (V varchar(32000) character set ascii) as
declare q varchar(32000) character set octets;
declare a varchar(4000) character set utf8;
begin
  q = {text};
  for execute statement (q) into a do begin V = coalesce('x' || hex_encode(a), '-'); suspend; end
end^
"""
_ANSWER = re.compile(r"V\s+(x[0-9A-F]*|-)\s*")

VERSION_SQL = "select rdb$get_context('SYSTEM', 'ENGINE_VERSION') from rdb$database"
SYSTEM_ID_SQL = "select trim(mon$guid) from mon$database"
TABLES_SQL = """\
select trim(rdb$relation_name) from rdb$relations
where rdb$system_flag = 0 and coalesce(rdb$relation_type, 0) = 0 and rdb$view_blr is null order by 1"""
# gbak carries the definition of such a table, and none of its rows.
EXTERNAL_SQL = """\
select trim(rdb$relation_name) from rdb$relations
where rdb$system_flag = 0 and rdb$relation_type = 2 order by 1"""
# Sequences that the asking account may not read, which makes gbak fail. Those of identity columns have the system flag 6.
UNREADABLE_SQL = """\
select trim(g.rdb$generator_name) from rdb$generators g
where g.rdb$system_flag in (0, 6) and not exists (
  select 1 from rdb$user_privileges p
  where p.rdb$relation_name = g.rdb$generator_name and p.rdb$object_type = 14 and p.rdb$privilege = 'G'
    and trim(p.rdb$user) in ('PUBLIC', '{role}')) order by 1"""


def _hash(source: str) -> str:
    return f"hex_encode(crypt_hash({source} using sha256))"


def _line(kind: str, what: str, *parts: str) -> str:
    """SQL of one line: an object, a tab, and what it is."""
    texts = [f"coalesce(trim({part}), '')" for part in parts]
    return f"trim({what}) || ascii_char(9) || '{kind}|' || " + " || '|' || ".join(texts)


def _number(column: str) -> str:
    """Where null means 0: gbak brings back the one as the other."""
    return f"coalesce({column}, 0)"


_TYPE = tuple(
    _number(f"f.rdb${column}")
    for column in (
        "field_type", "field_sub_type", "field_length", "field_precision", "field_scale", "character_length",
        "segment_length", "character_set_id", "dimensions",
    )
)  # fmt: skip
# [object, line] pairs: no values of sequences (those are not part of a transaction's view), no owners. Everything else
# that gbak is to bring back.
SCHEMA = (
    "select " + _line("database", "'(database)'", "rdb$character_set_name") + " from rdb$database",
    "select " + _line("dialect", "'(database)'", "mon$sql_dialect") + " from mon$database",
    "select "
    + _line("relation", "rdb$relation_name", "rdb$relation_type", "rdb$sql_security", _hash("rdb$view_source"))
    + " from rdb$relations where rdb$system_flag = 0",
    "select "
    + _line(
        "column", "r.rdb$relation_name",
        "row_number() over (partition by r.rdb$relation_name order by r.rdb$field_position, r.rdb$field_name)",
        "r.rdb$field_name", "iif(f.rdb$field_name starting with 'RDB$', '', f.rdb$field_name)", *_TYPE,
        "coalesce(r.rdb$collation_id, f.rdb$collation_id)",
        f"maxvalue({_number('r.rdb$null_flag')}, {_number('f.rdb$null_flag')})",
        "r.rdb$identity_type", _hash("r.rdb$default_source"), _hash("f.rdb$default_source"), _hash("f.rdb$computed_source"),
        _hash("f.rdb$validation_source"),
    )
    + " from rdb$relation_fields r join rdb$fields f on f.rdb$field_name = r.rdb$field_source"
    " join rdb$relations t on t.rdb$relation_name = r.rdb$relation_name where t.rdb$system_flag = 0",
    "select "
    + _line(
        "domain", "f.rdb$field_name", *_TYPE, "f.rdb$collation_id", _number("f.rdb$null_flag"), _hash("f.rdb$default_source"),
        _hash("f.rdb$validation_source"),
    )
    + " from rdb$fields f where f.rdb$system_flag = 0 and f.rdb$field_name not starting with 'RDB$'",
    "select "
    + _line(
        "index", "i.rdb$relation_name", "i.rdb$index_name", "i.rdb$unique_flag", _number("i.rdb$index_inactive"),
        _number("i.rdb$index_type"), "i.rdb$foreign_key", "s.rdb$field_position", "s.rdb$field_name",
        _hash("i.rdb$expression_source"),
    )
    + " from rdb$indices i left join rdb$index_segments s on s.rdb$index_name = i.rdb$index_name where i.rdb$system_flag = 0",
    "select "
    + _line(
        "constraint", "c.rdb$relation_name", "c.rdb$constraint_type", "c.rdb$constraint_name", "c.rdb$index_name",
        "r.rdb$const_name_uq", "r.rdb$update_rule", "r.rdb$delete_rule", _hash("t.rdb$trigger_source"),
    )
    + " from rdb$relation_constraints c left join rdb$ref_constraints r on r.rdb$constraint_name = c.rdb$constraint_name"
    " left join rdb$check_constraints k on k.rdb$constraint_name = c.rdb$constraint_name"
    " left join rdb$triggers t on t.rdb$trigger_name = k.rdb$trigger_name"
    " join rdb$relations o on o.rdb$relation_name = c.rdb$relation_name where o.rdb$system_flag = 0",
    "select "
    + _line("sequence", "rdb$generator_name", "rdb$initial_value", "rdb$generator_increment")
    + " from rdb$generators where rdb$system_flag in (0, 6)",
    "select "
    + _line(
        "trigger", "coalesce(rdb$relation_name, '(database)')", "rdb$trigger_name", "rdb$trigger_type",
        "rdb$trigger_sequence", _number("rdb$trigger_inactive"), "rdb$sql_security", _hash("rdb$trigger_source"),
        "rdb$engine_name", "rdb$entrypoint",
    )
    + " from rdb$triggers where rdb$system_flag = 0",
    "select "
    + _line(
        "procedure", "rdb$procedure_name", "rdb$package_name", _number("rdb$procedure_type"), "rdb$private_flag",
        "rdb$sql_security", _hash("rdb$procedure_source"), "rdb$engine_name", "rdb$entrypoint",
    )
    + " from rdb$procedures where rdb$system_flag = 0",
    "select "
    + _line(
        "parameter", "p.rdb$procedure_name", "p.rdb$package_name", "p.rdb$parameter_type", "p.rdb$parameter_number",
        "p.rdb$parameter_name", *_TYPE, _number("p.rdb$null_flag"), _hash("p.rdb$default_source"),
    )
    + " from rdb$procedure_parameters p join rdb$fields f on f.rdb$field_name = p.rdb$field_source"
    " where p.rdb$system_flag = 0",
    "select "
    + _line(
        "function", "rdb$function_name", "rdb$package_name", "rdb$private_flag", "rdb$deterministic_flag",
        "rdb$sql_security", _hash("rdb$function_source"), "rdb$engine_name", "rdb$entrypoint",
    )
    + " from rdb$functions where rdb$system_flag = 0",
    "select "
    + _line(
        "argument", "a.rdb$function_name", "a.rdb$package_name", "a.rdb$argument_position", "a.rdb$argument_name", *_TYPE,
        _number("a.rdb$null_flag"), _hash("a.rdb$default_source"),
    )
    + " from rdb$function_arguments a left join rdb$fields f on f.rdb$field_name = a.rdb$field_source"
    " where a.rdb$system_flag = 0",
    "select "
    + _line(
        "package", "rdb$package_name", "rdb$sql_security", _hash("rdb$package_header_source"),
        _hash("rdb$package_body_source"),
    )
    + " from rdb$packages where rdb$system_flag = 0",
    "select "
    + _line("exception", "rdb$exception_name", "rdb$message")
    + " from rdb$exceptions where rdb$system_flag = 0",
    "select "
    + _line("role", "rdb$role_name", "hex_encode(rdb$system_privileges)")
    + " from rdb$roles where rdb$system_flag = 0",
    "select "
    + _line(
        "collation", "rdb$collation_name", "rdb$character_set_id", "rdb$collation_attributes", "rdb$base_collation_name",
    )
    + " from rdb$collations where rdb$system_flag = 0",
    "select distinct "
    + _line(
        "right", "rdb$relation_name", "rdb$object_type", "rdb$user_type", "rdb$user", "rdb$privilege", "rdb$grant_option",
        "rdb$field_name",
    )
    + " from rdb$user_privileges where rdb$user not in ('SYSDBA') and rdb$relation_name not starting with 'RDB$'"
    " and rdb$relation_name not starting with 'MON$' and rdb$relation_name not starting with 'SEC$'"
    " and rdb$relation_name not starting with 'SQL$' and rdb$user <> rdb$grantor",
)  # fmt: skip


# What has a text that is the same everywhere: no arrays, and no times with a zone, which follow the zones' own history.
SAMPLE_COLUMNS_SQL = """\
select trim(r.rdb$relation_name) || ascii_char(9) || trim(r.rdb$field_name) || ascii_char(9)
  || iif(f.rdb$field_type = 261, 'blob', iif(f.rdb$field_type in (14, 37), 'text', 'plain')) || ascii_char(9)
  || iif(exists (select 1 from rdb$relation_constraints c join rdb$index_segments s on s.rdb$index_name = c.rdb$index_name
     where c.rdb$relation_name = r.rdb$relation_name and c.rdb$constraint_type = 'PRIMARY KEY'
       and s.rdb$field_name = r.rdb$field_name), '1', '0')
from rdb$relation_fields r join rdb$fields f on f.rdb$field_name = r.rdb$field_source
where r.rdb$system_flag = 0 and f.rdb$computed_blr is null and f.rdb$dimensions is null
  and f.rdb$field_type in (7, 8, 10, 12, 13, 14, 16, 23, 24, 25, 26, 27, 35, 37, 261)
order by r.rdb$relation_name, r.rdb$field_name"""
# Longest statement that a block can hold.
SAMPLE_TEXT = 31000


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def hexed(text: str) -> str:
    """A text as SQL that no character of it can break."""
    return "x'" + text.encode("utf-8", "surrogateescape").hex() + "'"


def asked(sql: str) -> str:
    """What isql is to be given so that it runs one SELECT of one column."""
    return _BLOCK.format(text=hexed(sql))


def answers(printed: str) -> list[str | None]:
    """Values in what isql printed, null as None."""
    found = (_ANSWER.fullmatch(line) for line in printed.split("\n"))
    return [
        None if match.group(1) == "-" else bytes.fromhex(match.group(1)[1:]).decode("utf-8", "surrogateescape")
        for match in found
        if match
    ]


def count_sql(tables: Sequence[str]) -> str:
    """SQL that counts the rows of tables: number in their order, space, count."""
    return "\nunion all ".join(f"select {n} || ' ' || count(*) from {quoted(name)}" for n, name in enumerate(tables))


def _sample_value(column: str, kind: str) -> str:
    """SQL of a hash of a column, null included. As octets, which no character set can refuse."""
    name = quoted(column)
    # a character of a text takes up to four bytes
    cut = f"substring({name} from 1 for {SAMPLE_WIDTH // 4})" if kind != "plain" else name
    text = f"cast({cut} as varchar({SAMPLE_WIDTH if kind != 'plain' else 100}) character set octets)"
    length = f"octet_length({name}) || '='" if kind != "plain" else "'='"
    return f"coalesce({length} || hex_encode(crypt_hash({text} using md5)), '~')"


def _sample_number(values: Sequence[str]) -> str:
    return f"hash(hex_encode(crypt_hash({' || '.join(values)} using sha256)))"


def sample_sql(table: str, columns: Sequence[Sequence[str]], one_in: int) -> str:
    """SQL that samples a table: rows, space, sum of hashes.

    columns: name, kind, 1 in the primary key; as many as there is room for.
    """
    room = SAMPLE_TEXT // (2 if one_in > 1 else 1)
    values: list[str] = []
    for name, kind, _key in columns:
        value = _sample_value(name, kind)
        if sum(len(each.encode()) + 4 for each in [*values, value]) > room - 500 or len(values) == 400:
            break
        values.append(value)
    key = [_sample_value(name, kind) for name, kind, is_key in columns if is_key == "1"] or values
    where = f" where mod(abs({_sample_number(key)}), {int(one_in)}) = 0" if one_in > 1 else ""
    return f"select count(*) || ' ' || coalesce(sum({_sample_number(values)}), 0) from {quoted(table)}{where}"


class FirebirdQuestions(Questions):
    """How to ask Firebird."""

    engine = ENGINE

    def __init__(self, query: Query) -> None:
        self._query = query
        self._columns: dict[str, list[list[str]]] = {}

    def _rows(self, sql: str) -> list[str]:
        return [row for row in answers(self._query(sql)) if row is not None]

    def _one(self, sql: str) -> str | None:
        rows = answers(self._query(sql))
        if len(rows) != 1:
            raise OracleError(f"expected one value from the database, got {len(rows)} rows")
        return rows[0]

    def version(self) -> str:
        """Of the engine, as 4.0.5."""
        return str(self._one(VERSION_SQL))

    def settings(self) -> dict[str, Any]:
        """SESSION settles them all."""
        return {}

    def system_id(self) -> str | None:
        """Number of the file; a restored one gets another."""
        return self._one(SYSTEM_ID_SQL)

    def tables(self) -> list[str]:
        """Ordinary tables: not external, not temporary ones."""
        return self._rows(TABLES_SQL)

    def external(self) -> list[str]:
        """Tables that lie in files of their own."""
        return self._rows(EXTERNAL_SQL)

    def unreadable(self, role: str) -> list[str]:
        """Sequences that nobody has let the role read."""
        return self._rows(UNREADABLE_SQL.format(role=role))

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Many in one query."""
        found: dict[str, int] = {}
        for start in range(0, len(tables), COUNT_CHUNK):
            chunk = tables[start : start + COUNT_CHUNK]
            for row in self._rows(count_sql(chunk)):
                number, count = row.split(" ")
                found[chunk[int(number)]] = int(count)
        return found

    def samples(self, one_in: Mapping[str, int]) -> dict[str, list[str]]:
        """See SAMPLE_COLUMNS_SQL for the columns."""
        if not self._columns:
            for row in self._rows(SAMPLE_COLUMNS_SQL):
                table, *column = row.split("\t")
                self._columns.setdefault(table, []).append(column)
        some = {table: k for table, k in one_in.items() if table in self._columns}
        found = {table: self._one(sample_sql(table, self._columns[table], k)) for table, k in some.items()}
        return {table: row.split(" ") for table, row in found.items() if row is not None}

    def schema(self) -> list[list[str]]:
        """See SCHEMA."""
        return [line.split("\t", 1) for sql in SCHEMA for line in self._rows(sql)]

    def probe(self, sql: str) -> str | None:
        """As text, null when there is no row. The line break ends a comment in the probe."""
        return self._one(f"select ({bare(sql)}\n) from rdb$database")

    def images(self, sql: str) -> list[str]:
        """The one column."""
        return self._rows(bare(sql) + "\n")
