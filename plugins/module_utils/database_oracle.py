# SPDX-License-Identifier: Apache-2.0
"""What a database looks like from outside, whatever its engine: asked at a backup, asked again after a restore, compared.

The agent asks inside the very view that the dump is made of; the restore verification asks the restored copy. Both run
the text of these files, so a difference is a difference of the data and never of the question. How to ask is what an
engine's ``Questions`` know (postgresql_oracle.py and its like); what to make of the answers is here, once for all engines.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

# Samples: how rows are told apart (raised when an engine's SQL of them changes: other answers are not compared), how many
# rows of one table and of all of them are read whole, how many are gone through to choose those.
SAMPLE_HOW = 1
SAMPLE_ROWS_TABLE = 20_000
SAMPLE_ROWS = 1_000_000
SAMPLE_SCAN = 10_000_000
# Of a long value as many characters (or bytes) count, and its length.
SAMPLE_WIDTH = 4000

# Runs SQL text in one session and returns what the engine's client printed; raises its own error when SQL fails.
Query = Callable[[str], str]


class Difference(NamedTuple):
    """One thing in which the restored database is not the one that was backed up. Holds no value of any row."""

    code: str
    message: str


class OracleError(Exception):
    """A query was answered with something that is not what it asked for."""


class Questions(ABC):
    """How to ask one engine. Names of tables and objects are as the engine writes them, quoted where it quotes."""

    engine = ""

    @abstractmethod
    def version(self) -> str:
        """Version of the engine."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What of the session the answers to probes depend on; recorded, and given back when the copy is asked."""

    @abstractmethod
    def tables(self) -> list[str]:
        """Tables whose rows a dump carries."""

    @abstractmethod
    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Rows of each table."""

    @abstractmethod
    def schema(self) -> list[list[str]]:
        """[object, line] pairs: everything but rows that a dump has to bring back, in any order."""

    def access(self) -> list[list[str]]:
        """[object, line] pairs: roles, and who may do what with which object; none where a dump does not carry them."""
        return []

    @abstractmethod
    def probe(self, sql: str) -> str | None:
        """The single value of a SELECT, as text."""

    @abstractmethod
    def images(self, sql: str) -> list[str]:
        """The first column of a SELECT, as text; rows with null are left out."""

    def samples(self, one_in: Mapping[str, int]) -> dict[str, list[str]]:
        """[rows, sum of their hashes] of tables, whatever the order of rows: those of which a hash of the key is divisible.

        The same for equal rows in any version, encoding and collation of the engine. one_in: {table: divisor}.
        """
        return {}

    def more(self) -> dict[str, int]:
        """Counts of what only this engine has, by its plural name."""
        return {}


def read_database(
    ask: Questions,
    name: str,
    probes: Mapping[str, str] | None = None,
    images: Mapping[str, str] | None = None,
    on_error: Callable[[str, Exception], None] | None = None,
    samples: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a database: the oracle's ``database`` section without ``dump_path``.

    name: the database's name or path (for the record; ``ask`` is connected already).
    probes: {probe name: SELECT of one value}. images: {"query": SELECT of one column, "root": folder} or None.
    on_error: called with ("probe NAME" or "images", error) when such a query fails, which is then left out;
        without it the error is raised.
    samples: the oracle's ``questions.samples``, to be asked again; None chooses them.

    Returns {"engine", "name", "version", settings of the session, "tables": {table: rows}, "more": {what only
    this engine has: count}, "probes": {name: text or None}, "questions": {"probes": {name: SELECT}, "images": {"query",
    "root"} or None, "samples": {"how", "one_in"}}, "samples": {table: [rows, sum of hashes]},
    "schema_fingerprint": 64 hex, "schema_objects": {object: 16 hex}, "access_objects": {object: 16 hex},
    "images": {"count", "root", "names"} or None}. ``questions`` are those that were answered, to be asked again of a
    restored copy. Raises what a query raises, and OracleError.
    """
    tables = ask.tables()
    counts = ask.counts(tables)
    lines = ask.schema()
    found_probes: dict[str, str | None] = {}
    for probe, sql in sorted((probes or {}).items()):
        try:
            found_probes[probe] = ask.probe(sql)
        except Exception as error:
            if on_error is None:
                raise
            on_error(f"probe {probe}", error)
    found_images = None
    if images:
        try:
            names = ask.images(images["query"])
            found_images = {"count": len(names), "root": images["root"], "names": names}
        except Exception as error:
            if on_error is None:
                raise
            on_error("images", error)
    one_in = sampled(counts) if samples is None else _asked_again(samples, counts)
    found_samples = read_samples(ask, one_in)
    questions = {
        "samples": {"how": SAMPLE_HOW, "one_in": {table: one_in[table] for table in sorted(found_samples)}},
        "probes": {probe: sql for probe, sql in sorted((probes or {}).items()) if probe in found_probes},
        "images": {"query": images["query"], "root": images["root"]} if images and found_images else None,
    }
    return {
        "engine": ask.engine,
        "name": name,
        "version": ask.version(),
        **ask.settings(),
        "tables": {table: int(counts[table]) for table in tables},
        "more": ask.more(),
        "samples": found_samples,
        "probes": found_probes,
        "questions": questions,
        "schema_fingerprint": fingerprint(lines),
        "schema_objects": fingerprint_objects(lines),
        "access_objects": fingerprint_objects(ask.access()),
        "images": found_images,
    }


def sampled(counts: Mapping[str, int]) -> dict[str, int]:
    """Choose what to sample: {table: one row in how many}. Small tables whole; the largest not at all past what may be read."""
    share = min(SAMPLE_ROWS_TABLE, max(500, SAMPLE_ROWS // max(1, len(counts))))
    one_in, left = {}, SAMPLE_SCAN
    for rows, table in sorted((int(rows), table) for table, rows in counts.items() if rows):
        left -= rows
        if left < 0:
            break
        one_in[table] = -(-rows // share)
    return one_in


def _asked_again(samples: Mapping[str, Any], tables: Mapping[str, int]) -> dict[str, int]:
    """Only what is still there, and only when the answers would mean the same."""
    if samples.get("how") != SAMPLE_HOW:
        return {}
    return {table: int(k) for table, k in samples["one_in"].items() if table in tables}


def read_samples(ask: Questions, one_in: Mapping[str, int], chunk: int = 5) -> dict[str, list[str]]:
    """Sample tables, several in one question. A table that cannot be sampled is left out: how many were is told in a proof."""
    found: dict[str, list[str]] = {}
    names = sorted(one_in)
    for start in range(0, len(names), chunk):
        some = {table: one_in[table] for table in names[start : start + chunk]}
        try:
            found.update(ask.samples(some))
        except Exception:
            # each engine raises its own. One table must not cost its neighbours their sums, and a sum that is missing must not
            # cost the backup: rows, schema and probes are compared all the same, and a proof tells how many tables were sampled
            if chunk > 1:
                found.update(read_samples(ask, some, 1))
    return found


def decode(answer: str) -> Any:
    """One JSON value, as an engine's client printed it."""
    try:
        return json.loads(answer)
    except ValueError as error:
        raise OracleError(
            f"expected one JSON value from the database, got {len(answer)} characters of other text"
        ) from error


def decode_lines(answer: str) -> list[Any]:
    """One JSON value a line. (Not splitlines: JSON may hold other characters that end a line.)"""
    return [decode(line) for line in answer.split("\n") if line]


def bare(sql: str) -> str:
    """A SELECT without the semicolon at its end, fit for parentheses."""
    return sql.strip().rstrip(";").rstrip()


def fingerprint(lines: list[list[str]]) -> str:
    """blake2b (32 bytes, hex) of the sorted [object, line] pairs."""
    return _digest(lines, 32)


def fingerprint_objects(lines: list[list[str]]) -> dict[str, str]:
    """A short digest for each object, so that a difference can be named without keeping the schema itself."""
    grouped: dict[str, list[list[str]]] = {}
    for line in lines:
        grouped.setdefault(line[0], []).append(line)
    return {name: _digest(grouped[name], 8) for name in sorted(grouped)}


def compare(
    oracle_database: Mapping[str, Any],
    restored_database: Mapping[str, Any],
    release: Callable[[str], Sequence[int]],
) -> list[Difference]:
    """Say in what a restored database differs from the oracle's ``database`` section. Empty means: the same.

    Both are what read_database returned (the oracle's may have more keys). release: what of a version a dump must not be
    older than, as numbers. Codes: nothing_to_compare, engine_differs,
    version_older, table_missing, table_extra, rows_differ, content_differs, (key of more)_differ, schema_differs, roles_missing,
    access_differs, probe_missing, probe_differs, images_missing, images_differ. Messages hold names of tables, probes and
    roles, and counts; never a value.
    """
    found: list[Difference] = []
    want_tables, have_tables = oracle_database["tables"], restored_database["tables"]
    if not want_tables:
        found.append(Difference("nothing_to_compare", "The oracle lists no table: there is nothing to compare."))
    if oracle_database["engine"] != restored_database["engine"]:
        engines = f"{oracle_database['engine']} was backed up, {restored_database['engine']} was restored"
        found.append(Difference("engine_differs", f"{engines}."))
    if tuple(release(restored_database["version"])) < tuple(release(oracle_database["version"])):
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
    found += _compare_samples(oracle_database, restored_database)
    found += _compare_more(oracle_database.get("more") or {}, restored_database.get("more") or {})
    found += _compare_schema(oracle_database, restored_database)
    found += _compare_access(oracle_database.get("access_objects") or {}, restored_database.get("access_objects") or {})
    found += _compare_probes(oracle_database["probes"], restored_database["probes"])
    found += _compare_images(oracle_database.get("images"), restored_database.get("images"))
    return found


def _compare_samples(want: Mapping[str, Any], have: Mapping[str, Any]) -> list[Difference]:
    """Tables with as many rows as they should have, and others. (Where rows are missing, that is said already.)"""
    how = ((want.get("questions") or {}).get("samples") or {}).get("how")
    wanted, found = (want.get("samples") or {} if how == SAMPLE_HOW else {}), have.get("samples") or {}
    same = [table for table in sorted(wanted) if want["tables"].get(table) == have["tables"].get(table)]
    return [
        Difference(
            "content_differs",
            f"Table {table}: as many rows as at backup time, but other content ({wanted[table][0]} rows compared).",
        )
        for table in same
        if list(wanted[table]) != found.get(table)
    ]


def _compare_more(want: Mapping[str, int], have: Mapping[str, int]) -> list[Difference]:
    return [
        Difference(
            f"{what.replace(' ', '_')}_differ", f"{want[what]} {what} at backup time, {have.get(what)} restored."
        )
        for what in sorted(want)
        if want[what] != have.get(what)
    ]


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


def _compare_access(want: Mapping[str, str], have: Mapping[str, str]) -> list[Difference]:
    """What the restored copy has beyond that is the machine's own."""
    lost = sorted(name for name in want if name.startswith("role ") and name not in have)
    other = sorted(name for name in want if name not in lost and want[name] != have.get(name))
    found = []
    if lost:
        found.append(Difference("roles_missing", f"The restored copy lacks {len(lost)} roles: {_first(lost)}."))
    if other:
        text = f"Owner, grants or rights differ from those at backup time in: {_first(other)}."
        found.append(Difference("access_differs", text))
    return found


def _first(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
    """Engines write +00 and any number of fraction digits, Python 3.9 reads +00:00 and three or six."""
    zone = "+00:00" if text.endswith("+00") else ""
    text = text[: -len("+00")] if zone else text
    whole, dot, fraction = text.partition(".")
    return datetime.datetime.fromisoformat(whole + (dot + fraction.ljust(6, "0") if dot else "") + zone)


def _digest(lines: list[list[str]], size: int) -> str:
    text = json.dumps(sorted([str(part) for part in line] for line in lines), ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=size).hexdigest()
