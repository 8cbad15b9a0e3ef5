# SPDX-License-Identifier: Apache-2.0
"""How the power of a practice is: what is red, what could not be asked, and what people read."""

from __future__ import annotations

import datetime as dt
import itertools
import json

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import power_status as status
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_wiring import wiring_chart

NOW = dt.datetime(2026, 11, 26, 8, 0, tzinfo=dt.UTC)
WIRING = {"ups1": {"primary": "nas1", "feeds": ["nas1", "server1", "desk1"]}}
UPS = {
    "name": "ups1", "primary": "nas1", "deputy": False, "asked": True, "error": None, "status": "OL", "charge": 100.0,
    "runtime_s": 600.0, "load": 23.0, "at_low_s": 360.0, "need": {"total_s": 300.0}, "margin_s": 60.0, "not_attached": [],
    "self_test": {"every_s": None, "last": None, "running": False, "why_not": None}, "troubles": [], "battery": None,
}  # fmt: skip
DRILL = {"state": "ok", "value": "3 days ago", "verdict": "PASS", "margin_text": "9 min", "detail": ""}
NO_DRILL = {**DRILL, "state": "bad", "verdict": "", "value": "never"}
STALE = {"code": "DATA-STALE", "message": "x"}
SILENT = {"state": "SILENT", "happened": ["nobody answers"], "do": []}
RED = {"state": "TOO SHORT", "happened": ["180 s are missing"], "do": ["Get a larger battery."]}


def answer(*upses, watching=True, mail=None):
    return {"stdout": json.dumps({"host": "nas1", "watching": watching, "mail": mail, "upses": list(upses)})}


def stopped(*rows):
    return {"stdout": json.dumps(list(rows))}


def told(watches=None, stops=None, drills=None, wiring=WIRING):
    found = status.gather(wiring, watches if watches is not None else {"nas1": answer(UPS)}, stops or {}, NOW)
    return status.lines(wiring, found, {"ups1": DRILL} if drills is None else drills)


def test_all_is_well():
    stops = {
        "nas1": stopped(
            {"began": 1, "seconds": 60.0, "on_battery": True}, {"began": 2, "seconds": 22.4, "on_battery": False}
        ),
        "server1": stopped({"began": 1, "seconds": 48.0, "on_battery": True}),
    }
    lines, verdict = told(stops=stops)
    assert verdict == "PASS"
    assert lines == [
        "mains",
        " `-- ups1   OL, charge 100 %, battery for 10 min, load 23 %",
        "     |-- server1   stops first            last stop 48 s on battery",
        "     |-- desk1     stops first            its stop was never measured",
        "     `-- nas1      stops last (primary)   last stop 22 s (longest 60 s)",
        "     last drill      3 days ago, PASS, margin 9 min",
        "     budget          6 min left when the battery is low, 5 min needed: 60 s to spare",
        "     self-test       not promised",
        "PASS: all well",
    ]


@pytest.mark.parametrize(
    ("watches", "drills", "verdict", "says"),
    [
        ({"nas1": answer({**UPS, "troubles": [RED]})}, None, "FAIL", "RED  TOO SHORT: 180 s are missing"),
        ({"nas1": answer(UPS, watching=False)}, None, "FAIL", "RED  nobody looks on nas1: systemctl status holdfast-ups"),
        ({"nas1": answer(UPS, mail={"code": "mail_unreachable", "message": "x"})}, None, "FAIL", "mail_unreachable: x"),
        ({"nas1": answer(UPS)}, {"ups1": NO_DRILL}, "FAIL", "RED  last drill never"),
        ({"nas1": {"unreachable": True}}, None, "INCONCLUSIVE", "RED  nas1 could not be asked"),
        ({"nas1": {"stdout": "{}"}}, None, "INCONCLUSIVE", "not known: its watch could not be asked"),
        ({"nas1": {"stdout": "[1]"}}, None, "INCONCLUSIVE", "not known: its watch could not be asked"),
        ({}, None, "INCONCLUSIVE", "not known: its watch could not be asked"),
        ({"nas1": answer()}, None, "INCONCLUSIVE", "not known: its watch could not be asked"),
        ({"nas1": answer({**UPS, "asked": False, "error": STALE})}, None, "INCONCLUSIVE", "DATA-STALE"),
        # red outweighs what could not be asked
        ({"nas1": {}, "server1": answer({**UPS, "deputy": True, "troubles": [SILENT]})}, None, "FAIL", "SILENT"),
        ({"nas1": answer(UPS), "server1": {}}, None, "INCONCLUSIVE", "RED  server1 could not be asked"),
    ],
)  # fmt: skip
def test_what_is_not_well(watches, drills, verdict, says):
    lines, found = told(watches, drills=drills)
    assert found == verdict
    assert says in "\n".join(lines)


def test_a_drill_on_paper_is_said_and_not_red():
    lines, verdict = told(
        drills={"ups1": {**DRILL, "state": "warn", "detail": "Only calculated: no machine was switched off."}}
    )
    assert verdict == "PASS"
    assert "                     Only calculated: no machine was switched off." in lines


def test_nothing_to_ask_is_not_well():
    assert told({}, wiring={}, drills={})[1] == "FAIL"


def test_a_plain_inventory_has_no_evidence():
    lines, verdict = told(drills={})
    assert verdict == "PASS"
    assert not [line for line in lines if "drill" in line]


@pytest.mark.parametrize(
    ("result", "seconds"),
    [
        (None, None),
        ({"unreachable": True}, None),
        ({"stdout": ""}, None),
        ({"stdout": "{}"}, None),
        (stopped(), None),
        (stopped({"began": 1, "seconds": None}), None),
        (stopped({"began": 1, "seconds": 5.0}, {"began": 2, "seconds": None}), 5.0),
        (stopped({"began": 1, "seconds": 5.0}, {"began": 2, "seconds": 7.0}), 7.0),
    ],
)
def test_a_stop_that_was_not_whole_does_not_count(result, seconds):
    stop = status.last_stop(result)
    assert (stop and stop["seconds"]) == seconds


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "its stop was never measured"),
        ([{"seconds": None}], "the power went before its last stop was done"),
        ([{"seconds": 40.0}, {"seconds": None}], "the power went before its last stop was done; last whole stop 40 s"),
        ([{"seconds": None}, {"seconds": 40.0, "on_battery": True}], "last stop 40 s on battery"),
        ([{"seconds": 99.0}, *[{"seconds": 40.0}] * 9], "last stop 40 s (longest 99 s)"),
        ([{"seconds": 99.0}, *[{"seconds": 40.0}] * 10], "last stop 40 s"),
    ],
)
def test_words_of_a_stop(rows, said):
    assert status.stop_words(status.last_stop(stopped(*rows))) == said


def test_one_that_is_not_attached_is_marked():
    lines, _verdict = told({"nas1": answer({**UPS, "not_attached": ["desk1"]})})
    assert next(line for line in lines if "desk1" in line).endswith("NOT ATTACHED")


def test_the_drawing_has_every_machine_once_and_every_wire():
    wiring = {**WIRING, "ups2": {"primary": "server2", "feeds": ["server1", "server2"]}}
    chart = wiring_chart(wiring, {"ups1": "OL"})
    assert [box["name"] for box in chart["hosts"]] == ["server1", "desk1", "nas1", "server2"]
    assert [box["text"] for box in chart["hosts"]] == [
        "stops first, two feeds",
        "stops first",
        "stops last",
        "stops last",
    ]
    assert len(chart["wires"]) == 2 + 3 + 2
    assert sum(wire["data"] for wire in chart["wires"]) == 2
    ys = [box["y"] for box in chart["hosts"]]
    assert all(later - first >= 40 for first, later in itertools.pairwise(ys))
    assert max(box["y"] + box["h"] for box in [*chart["hosts"], *chart["upses"]]) <= chart["height"]
    assert min(box["y"] for box in [*chart["hosts"], *chart["upses"]]) >= 0
    assert wiring_chart({}, {}) is None
