"""PostgreSQL is asked in fixed settings, and its answers are taken as they are."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import database_oracle
from ansible_collections.holdfast.practice.plugins.module_utils import postgresql_oracle as oracle
from ansible_collections.holdfast.practice.plugins.module_utils.engine_postgresql import Postgresql


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
            "as columns": json.dumps({"public.a": [["id", "plain", 1], ["w", "float8", 0], ["name", "text", 0]]}),
            "sha256": json.dumps({"public.a": ["3", "5"]}),
            "json_object_agg": json.dumps({"public.a": 3}),
            "pg_largeobject_metadata": "0",
            "pg_auth_members": json.dumps([["role app", "role|t"]]),
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
    ask = oracle.PostgresqlQuestions(database)
    found = database_oracle.read_database(
        ask, "clinic", {"newest": "select max(x)"}, {"query": "select path", "root": "/i"}
    )
    assert found["version"] == "17.4"
    assert found["tables"] == {"public.a": 3}
    assert found["probes"] == {"newest": None}
    assert found["images"] == {"count": 2, "root": "/i", "names": ["b", "a"]}
    assert found["samples"] == {"public.a": ["3", "5"]}
    assert found["questions"] == {
        "samples": {"how": database_oracle.SAMPLE_HOW, "one_in": {"public.a": 1}},
        "probes": {"newest": "select max(x)"},
        "images": {"query": "select path", "root": "/i"},
    }
    assert found["search_path"] == "clinic, public"
    assert all(sql.startswith(oracle.SESSION_SQL) for sql in database.asked)
    assert "set search_path = clinic, public;" in next(sql for sql in database.asked if "max(x)" in sql)


def test_rows_are_told_apart_by_what_no_version_and_no_setting_writes_otherwise():
    columns = {"public.a": [["id", "plain", 1], ["w", "float8", 0], ["name", "text", 0]]}
    whole = oracle.sample_sql(columns, {"public.a": 1})
    assert "float8send(w::float8)" in whole, "the text of a float has other digits before PostgreSQL 12"
    assert "convert_to(name::text, 'UTF8')" in whole
    assert "where" not in whole
    assert " where mod(('x' || left(encode(sha256(convert_to(coalesce('=' || id::text" in oracle.sample_sql(
        columns, {"public.a": 7}
    )
    without_key = {"public.a": [["name", "text", 0]]}
    assert "name::text" in oracle.sample_sql(without_key, {"public.a": 7}).split(" where ")[1]


def test_a_failing_probe_is_reported_and_left_out_or_raised():
    failures = []
    database = Database(fail="max(x)")
    probes = {"newest": "select max(x)"}
    ask = oracle.PostgresqlQuestions(database)
    found = database_oracle.read_database(
        ask, "clinic", probes, on_error=lambda what, error: failures.append((what, str(error)))
    )
    assert (found["probes"], found["questions"]["probes"], found["questions"]["images"]) == ({}, {}, None)
    assert failures == [("probe newest", "no")]
    with pytest.raises(RuntimeError):
        database_oracle.read_database(ask, "clinic", probes)


def test_an_answer_that_is_no_json_is_an_error():
    with pytest.raises(database_oracle.OracleError, match="one JSON value"):
        oracle.PostgresqlQuestions(lambda _sql: "psql: odd\n", "public").system_id()


def test_a_role_that_is_lost_and_rights_that_differ_are_named_and_the_machines_own_are_not():
    def with_access(**more):
        access = {"role app": "1", "role readers": "2", "public.a": "3", **more}
        return {**found, "access_objects": {name: value for name, value in access.items() if value}}

    found = database_oracle.read_database(oracle.PostgresqlQuestions(Database()), "clinic")
    assert set(found["access_objects"]) == {"role app"}
    codes = {}
    for name, changes in {
        "lost": {"role app": ""}, "other rights": {"role app": "9"}, "other owner": {"public.a": "9"},
        "no object": {"public.a": ""}, "the machine's own": {"role postgres": "7"},
    }.items():  # fmt: skip
        differences = database_oracle.compare(with_access(), with_access(**changes), Postgresql().release)
        codes[name] = [difference.code for difference in differences]
    assert codes == {
        "lost": ["roles_missing"], "other rights": ["access_differs"], "other owner": ["access_differs"],
        "no object": ["access_differs"], "the machine's own": [],
    }  # fmt: skip
    before = {key: value for key, value in found.items() if key != "access_objects"}
    assert database_oracle.compare(before, found, Postgresql().release) == []
