"""The same questions on both sides, and a comparison that misses nothing and tells no value."""

from __future__ import annotations

import copy
import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import postgresql_oracle as oracle

LIVE = {
    "engine": "postgresql",
    "name": "clinic",
    "version": "17.4",
    "search_path": "public",
    "tables": {"public.patient": 20000, "public.image": 2},
    "large_objects": 0,
    "probes": {"newest": "2026-11-21 20:00:00.5+00", "note": None},
    "schema_fingerprint": "aa",
    "schema_objects": {"public.patient": "01", "public.image": "02"},
    "images": {"count": 2, "root": "/srv", "names": ["a b.png", "ü.png"]},
}


def changed(**parts):
    return {**copy.deepcopy(LIVE), **parts}


def test_an_equal_copy_has_no_difference():
    assert oracle.compare(LIVE, changed()) == []


def test_a_newer_engine_is_no_difference():
    assert oracle.compare(LIVE, changed(version="18.1")) == []


@pytest.mark.parametrize(
    ("restored", "code", "says"),
    [
        ({"tables": {"public.patient": 20000}}, "table_missing", "public.image (2 rows)"),
        ({"tables": {**LIVE["tables"], "public.x": 0}}, "table_extra", "public.x"),
        ({"tables": {"public.patient": 18000, "public.image": 2}}, "rows_differ", "20000 rows at backup time, 18000"),
        ({"tables": {"public.patient": 20001, "public.image": 2}}, "rows_differ", "+1"),
        ({"schema_fingerprint": "bb", "schema_objects": {"public.patient": "99", "public.image": "02"}},
         "schema_differs", "public.patient"),
        ({"schema_fingerprint": "bb", "schema_objects": {}}, "schema_differs", "public.image, public.patient"),
        ({"probes": {"newest": "2026-11-21 19:00:00.5+00", "note": None}}, "probe_differs", "by 3600 s (the restored one is old"),
        ({"probes": {"newest": "2026-11-21 20:00:00.5+00", "note": "John"}}, "probe_differs", "Probe note"),
        ({"probes": {"newest": "2026-11-21 20:00:00.5+00"}}, "probe_missing", "Probe note"),
        ({"images": None}, "images_missing", "2 were listed"),
        ({"images": {"count": 1, "root": "/srv", "names": ["ü.png"]}}, "images_differ", "1 are missing"),
        ({"images": {"count": 2, "root": "/srv", "names": ["ü.png", "z"]}}, "images_differ", "1 are missing and 1 are new"),
        ({"large_objects": 3}, "large_objects_differ", "3 restored"),
        ({"version": "16.9"}, "version_older", "16.9"),
        ({"engine": "mariadb"}, "engine_differs", "mariadb"),
    ],
)  # fmt: skip
def test_each_difference_is_found_and_named(restored, code, says):
    found = oracle.compare(LIVE, changed(**restored))
    assert [difference.code for difference in found] == [code]
    assert says in found[0].message
    assert "John" not in found[0].message


def test_an_oracle_without_tables_compares_nothing_and_says_so():
    empty = changed(tables={})
    assert [difference.code for difference in oracle.compare(empty, empty)] == ["nothing_to_compare"]


def test_the_fingerprint_does_not_depend_on_order_but_on_every_line():
    lines = [["public.a", "column|1|x"], ["public.a", "index|y"], ["public.b", "z"]]
    assert oracle.fingerprint(lines) == oracle.fingerprint(lines[::-1])
    assert oracle.fingerprint(lines) != oracle.fingerprint(lines[:2])
    assert set(oracle.fingerprint_objects(lines)) == {"public.a", "public.b"}


def test_names_with_quotes_and_backslashes_stay_names():
    sql = oracle.count_sql(["""public."it's \\ odd\""""])
    assert """E'public."it''s \\\\ odd"'""" in sql
    assert """from only public."it's \\ odd\"""" in sql


def test_a_comment_or_semicolon_at_the_end_of_a_probe_does_no_harm():
    assert "(select 1\n)" in oracle.probe_sql(" select 1 ; ")
    assert "-- newest\n)" in oracle.probe_sql("select 1 -- newest")


class Database:
    """Answers like psql."""

    def __init__(self, fail=""):
        self.fail, self.asked = fail, []

    def __call__(self, sql):
        self.asked.append(sql)
        answers = {
            "'search_path'": '"clinic, public"',
            "'server_version'": '"17.4 (Debian 17.4-1)"',
            "json_object_agg": json.dumps({"public.a": 3}),
            "pg_largeobject_metadata": "0",
            "json_build_array": json.dumps([["public.a", "column|1|x"]]),
            "order by t.name": '["public.a"]',
            "select max(x)": "null",
            "select path": '["b", "a"]',
        }
        if self.fail and self.fail in sql:
            raise RuntimeError("no")
        return next(answer for part, answer in answers.items() if part in sql)


def test_reading_asks_in_fixed_settings_and_in_the_oracles_search_path():
    database = Database()
    found = oracle.read_database(
        database, "clinic", {"newest": "select max(x)"}, {"query": "select path", "root": "/i"}
    )
    assert found["version"] == "17.4"
    assert found["tables"] == {"public.a": 3}
    assert found["probes"] == {"newest": None}
    assert found["images"] == {"count": 2, "root": "/i", "names": ["b", "a"]}
    assert found["questions"] == {
        "probes": {"newest": "select max(x)"},
        "images": {"query": "select path", "root": "/i"},
    }
    assert found["search_path"] == "clinic, public"
    assert all(sql.startswith(oracle.SESSION_SQL) for sql in database.asked)
    assert "set search_path = clinic, public;" in next(sql for sql in database.asked if "max(x)" in sql)


def test_a_failing_probe_is_reported_and_left_out_or_raised():
    failures = []
    database = Database(fail="max(x)")
    probes = {"newest": "select max(x)"}
    found = oracle.read_database(
        database, "clinic", probes, on_error=lambda what, error: failures.append((what, str(error)))
    )
    assert (found["probes"], found["questions"]) == ({}, {"probes": {}, "images": None})
    assert failures == [("probe newest", "no")]
    with pytest.raises(RuntimeError):
        oracle.read_database(database, "clinic", probes)


def test_an_answer_that_is_no_json_is_an_error():
    with pytest.raises(oracle.OracleError, match="one JSON value"):
        oracle.read_system_identifier(lambda _sql: "psql: odd\n")
