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


SAMPLED = changed(
    samples={"public.patient": ["20000", "77"], "public.image": ["2", "5"]},
    questions={"samples": {"how": oracle.SAMPLE_HOW, "one_in": {"public.patient": 1, "public.image": 1}}},
)


@pytest.mark.parametrize(
    ("restored", "codes"),
    [
        ({"samples": SAMPLED["samples"]}, []),
        ({"samples": {**SAMPLED["samples"], "public.patient": ["20000", "78"]}}, ["content_differs"]),
        ({"samples": {**SAMPLED["samples"], "public.patient": ["19999", "77"]}}, ["content_differs"]),
        ({"samples": {"public.image": ["2", "5"]}}, ["content_differs"]),  # no answer is no proof
        # that rows are missing says it all
        (
            {"samples": {"public.image": ["2", "5"]}, "tables": {"public.patient": 1, "public.image": 2}},
            ["rows_differ"],
        ),
    ],
)
def test_other_content_in_as_many_rows_is_found(restored, codes):
    found = compare(SAMPLED, {**copy.deepcopy(SAMPLED), **restored})
    assert [difference.code for difference in found] == codes
    assert not any("78" in difference.message for difference in found)


def test_samples_of_another_kind_are_not_compared():
    other = {**copy.deepcopy(SAMPLED), "questions": {"samples": {"how": oracle.SAMPLE_HOW + 1, "one_in": {}}}}
    assert compare(other, changed(samples={})) == []


def test_small_tables_are_sampled_whole_large_ones_in_part_and_the_largest_not_past_what_may_be_read():
    counts = {"none": 0, "small": 20_000, "large": 1_000_001, "huge": 9_000_000}
    assert oracle.sampled(counts) == {"small": 1, "large": 51}
    many = oracle.sampled({f"t{n:04d}": 100_000 for n in range(2000)})
    assert sum(100_000 // divisor for divisor in many.values()) <= oracle.SAMPLE_ROWS
    assert len(many) * 100_000 <= oracle.SAMPLE_SCAN


def test_a_table_that_cannot_be_sampled_does_not_take_others_with_it():
    class Ask:
        def samples(self, one_in):
            if "bad" in one_in:
                raise RuntimeError("no")
            return {table: [str(divisor), "1"] for table, divisor in one_in.items()}

    assert oracle.read_samples(Ask(), {"a": 1, "bad": 1, "c": 3}) == {"a": ["1", "1"], "c": ["3", "1"]}


def test_the_fingerprint_does_not_depend_on_order_but_on_every_line():
    lines = [["public.a", "column|1|x"], ["public.a", "index|y"], ["public.b", "z"]]
    assert oracle.fingerprint(lines) == oracle.fingerprint(lines[::-1])
    assert oracle.fingerprint(lines) != oracle.fingerprint(lines[:2])
    assert set(oracle.fingerprint_objects(lines)) == {"public.a", "public.b"}
