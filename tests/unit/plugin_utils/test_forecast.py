# SPDX-License-Identifier: Apache-2.0
"""How long until everything is back: from measured figures, over the practice's network and over its line."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils.forecast import (
    CARRIED,
    forecast,
    newest_rows,
    over_line,
)


def row(item="documents", which="newest", restore_s=10.0, **figures):
    phases = {"fetch_s": 2.0, "restore_s": restore_s, "engine_start_s": 3.0, "load_s": 4.0, "first_query_s": 1.0}
    known = {"bytes": 80_000_000, "dump_bytes": 20_000_000, "transfer_bytes": 47_000_000}
    return {
        "item": item,
        "host": "server1",
        "which": which,
        "figures": {**known, "phases": phases, "restore_s": restore_s + 10, **figures},
    }


PROMISED = [("documents", "server1"), ("clinical_db", "server1")]


@pytest.mark.parametrize(
    ("rate", "want"),
    [
        (8e6 / CARRIED, 10 + 47),  # a megabyte of ours a second: the line is what holds it up
        (4e6 / CARRIED, 10 + 94),
        (1e9, 20),  # faster than the machine writes: as measured
    ],
)
def test_the_slower_of_line_and_machine_counts(rate, want):
    assert over_line(row(), rate) == pytest.approx(want)


def test_where_no_transfer_was_measured_it_is_what_was_restored():
    assert over_line(row(transfer_bytes=None), 8e6 / CARRIED) == pytest.approx(110)
    assert over_line(row(transfer_bytes=0), 8e6 / CARRIED) == pytest.approx(20)


def test_items_come_back_one_after_another():
    rows = newest_rows([{"items": [row(), row("clinical_db", restore_s=30.0)]}])
    found = forecast(rows, PROMISED, 8e6 / CARRIED)
    assert (found["items"], found["missing"], found["bytes"], found["transfer_bytes"]) == (
        2,
        [],
        200_000_000,
        94_000_000,
    )
    assert found["lan_s"] == 60
    assert found["line_s"] == pytest.approx(10 + 47 + 10 + 47)
    assert found["bytes_per_s"] == 5_000_000


def test_what_was_never_measured_is_named_and_not_in_the_sums():
    found = forecast(newest_rows([{"items": [row()]}]), PROMISED, 8e6)
    assert (found["items"], found["missing"]) == (1, ["clinical_db of server1"])
    assert found["lan_s"] == 20


def test_of_nothing_there_is_no_forecast_and_without_a_line_none_over_it():
    nothing = forecast({}, PROMISED, 8e6)
    assert (nothing["lan_s"], nothing["line_s"], nothing["bytes_per_s"]) == (None, None, None)
    assert forecast(newest_rows([{"items": [row()]}]), PROMISED, None)["line_s"] is None


def test_the_latest_newest_run_that_was_restored_counts():
    not_restored = row(phases={"fetch_s": 1.0})
    bodies = [{"items": [row(restore_s=1.0)]}, {"items": [row(restore_s=2.0), row(which="oldest", restore_s=9.0)]}]
    found = newest_rows([*bodies, {"items": [not_restored]}])
    assert found[("documents", "server1")]["figures"]["phases"]["restore_s"] == 2.0


@pytest.mark.parametrize(
    ("levels", "known"),
    [
        ({"files": "PASS", "database": "PASS"}, True),
        ({"files": "PASS", "arrival": "FAIL"}, True),  # too old, and as fast as ever
        ({"files": "PASS", "database": "INCONCLUSIVE"}, False),
        ({"files": "FAIL"}, False),
    ],
)
def test_what_did_not_come_back_whole_measures_nothing(levels, known):
    each = {**row(), "levels": {name: {"verdict": verdict} for name, verdict in levels.items()}}
    assert bool(newest_rows([{"items": [each]}])) == known
