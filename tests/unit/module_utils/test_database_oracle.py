"""The same questions on both sides, and a comparison that misses nothing and tells no value."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import database_oracle as oracle
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES

LIVE = {
    "engine": "postgresql",
    "name": "clinic",
    "version": "17.4",
    "search_path": "public",
    "tables": {"public.patient": 20000, "public.image": 2},
    "more": {"large objects": 0},
    "probes": {"newest": "2026-11-21 20:00:00.5+00", "note": None},
    "schema_fingerprint": "aa",
    "schema_objects": {"public.patient": "01", "public.image": "02"},
    "images": {"count": 2, "root": "/srv", "names": ["a b.png", "ü.png"]},
}


def changed(**parts):
    return {**copy.deepcopy(LIVE), **parts}


def compare(live, restored):
    return oracle.compare(live, restored, ENGINES["postgresql"].release)


def test_an_equal_copy_has_no_difference():
    assert compare(LIVE, changed()) == []


def test_a_newer_engine_is_no_difference():
    assert compare(LIVE, changed(version="18.1")) == []


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
        ({"more": {"large objects": 3}}, "large_objects_differ", "3 restored"),
        ({"version": "16.9"}, "version_older", "16.9"),
        ({"engine": "mariadb"}, "engine_differs", "mariadb"),
    ],
)  # fmt: skip
def test_each_difference_is_found_and_named(restored, code, says):
    found = compare(LIVE, changed(**restored))
    assert [difference.code for difference in found] == [code]
    assert says in found[0].message
    assert "John" not in found[0].message


def test_an_oracle_without_tables_compares_nothing_and_says_so():
    empty = changed(tables={})
    assert [difference.code for difference in compare(empty, empty)] == ["nothing_to_compare"]


def test_the_fingerprint_does_not_depend_on_order_but_on_every_line():
    lines = [["public.a", "column|1|x"], ["public.a", "index|y"], ["public.b", "z"]]
    assert oracle.fingerprint(lines) == oracle.fingerprint(lines[::-1])
    assert oracle.fingerprint(lines) != oracle.fingerprint(lines[:2])
    assert set(oracle.fingerprint_objects(lines)) == {"public.a", "public.b"}
