# SPDX-License-Identifier: Apache-2.0
"""The report: what is good says so, what failed or is missing is red, and nothing in it can be code."""

from __future__ import annotations

import copy
import datetime as dt
import html.parser
import json
import re
import subprocess
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import evidence
from ansible_collections.holdfast.practice.plugins.plugin_utils import report as report_code
from ansible_collections.holdfast.practice.plugins.plugin_utils.report import build_report
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_chart import power_chart
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_sources import read_ledger, read_statuses
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_words import amount, clock_time, duration, size

NOW = dt.datetime(2026, 11, 21, 20, 47, tzinfo=dt.UTC)
TEMPLATE = Path(report_code.__file__).resolve().parents[2] / "playbooks/templates/report.html.j2"
HEAD = "3f84c882e12d3ab8d3c8436a6f994c51d61c44d0a567894c2e349fad2d272758"

SUMMARY: dict[str, Any] = {
    "practice": {
        "id": "harbour-street",
        "name": "Harbour Street Medical Centre",
        "country": "AU",
        "timezone": "Australia/Sydney",
    },
    "contacts": {
        "backup_owner": {
            "name": "Robin Example",
            "role": "practice manager",
            "email": "manager@harbour-street.example",
        },
        "it_provider": {"name": "Example IT", "email": "help@it.example"},
    },
    "hours": {"mon-fri": "08:00-18:30"},
    "objectives": {"rpo_s": 86400, "rto_s": 14400, "proven_s": 180 * 86400},
    "line": {"down_bits_per_s": 100_000_000},
    "hosts": {"nas1": {"kind": "nas", "address": "198.18.0.11"}},
    "items": {
        "clinical_db": {
            "hosts": ["server1"],
            "class": "critical",
            "engine": "postgresql",
            "schedule": "every 4h",
            "interval_s": 14400,
            "prove": "daily",
        },
        "documents": {
            "hosts": ["server1"],
            "class": "sensitive",
            "engine": None,
            "schedule": "at 21:00",
            "interval_s": 86400,
            "prove": "weekly",
        },
        "desk_files": {
            "hosts": ["desk1"],
            "class": "ordinary",
            "engine": None,
            "schedule": "at 12:30",
            "interval_s": 86400,
            "prove": "weekly",
        },
    },
    "copies": {"onsite": {"on": "nas1"}},
    "retention": {"within": {"daily": "35d"}},
    "power": {"ups1": {"primary": "nas1", "feeds": ["nas1", "server1", "desk1"], "runtime_s": 600}},
}


def iso(minutes_ago: float) -> str:
    return (NOW - dt.timedelta(minutes=minutes_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(item: str, host: str, minutes_ago: float, state: str = "OK", **more: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "practice": "harbour-street",
        "host": host,
        "job": item,
        "item": item,
        "state": state,
        "reasons": [],
        "started": iso(minutes_ago),
        "finished": iso(minutes_ago - 0.2),
        "files": 2000,
        "bytes": 20_100_000,
        **more,
    }


def level(checked: int, verdict: str = "PASS") -> dict[str, Any]:
    return {"verdict": verdict, "checked": checked, "reasons": []}


def proof(item: str, host: str, **more: Any) -> dict[str, Any]:
    return {
        "item": item,
        "job": item,
        "host": host,
        "verdict": "PASS",
        "reasons": [],
        "taken": iso(8),
        "arrived": iso(7.8),
        "levels": {"arrival": level(1), "structure": level(41), "files": level(2000)},
        "figures": {
            "age_s": 130,
            "data_loss_s": 142,
            "restore_s": 3.4,
            "files": 2000,
            "bytes": 20_100_000,
            "phases": {"fetch_s": 1.2, "restore_s": 2.2},
        },
        **more,
    }


def record(kind: str, minutes_ago: float, body: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "seq": 1, "kind": kind, "practice": "harbour-street", "at": iso(minutes_ago), "body": body}


def drill(**more: Any) -> dict[str, Any]:
    return {
        "drill": "power",
        "level": "real",
        "ups": "ups1",
        "verdict": "PASS",
        "reasons": [],
        "order_ok": True,
        "timeline": [
            {"host": "nas1", "role": "primary", "event": "on_battery", "t_s": 0.0},
            {"host": "nas1", "role": "primary", "event": "low_battery", "t_s": 4.1},
            {"host": "nas1", "role": "primary", "event": "fsd", "t_s": 5.0},
            {"host": "desk1", "role": "secondary", "event": "gone", "t_s": 8.4},
            {"host": "server1", "role": "secondary", "event": "gone", "t_s": 10.9},
            {"host": "nas1", "role": "primary", "event": "gone", "t_s": 21.7},
            {"host": "nas1", "role": "primary", "event": "back", "t_s": 31.0},
            {"host": "server1", "role": "secondary", "event": "back", "t_s": 36.0},
            {"host": "desk1", "role": "secondary", "event": "back", "t_s": 34.0},
        ],
        "figures": {"shutdown_s": 17.6, "battery_runtime_s": 600, "margin_s": 582.4},
        "databases": [{"host": "server1", "clean": True}],
        **more,
    }


def database_proof(**more: Any) -> dict[str, Any]:
    return proof(
        "clinical_db",
        "server1",
        levels={"arrival": level(1), "structure": level(41), "files": level(500), "database": level(8)},
        figures={
            "age_s": 130,
            "data_loss_s": 171,
            "restore_s": 41.8,
            "files": 500,
            "bytes": 73_000_000,
            "tables": 7,
            "rows": 226_088,
            "images": 500,
            "phases": {"fetch_s": 1.9, "restore_s": 6.2, "engine_start_s": 3.1, "first_query_s": 30.6},
        },
        **more,
    )


def power_said() -> dict[str, Any]:
    """What power_status.yml left."""
    ups = {
        "asked": True, "error": None, "status": "OL", "charge": 100.0, "runtime_s": 600.0, "load": 23.0, "at_low_s": 360.0,
        "need": {"total_s": 300.0}, "margin_s": 60.0, "self_test": {"every_s": 2592000, "last": None, "why_not": "it is open"},
        "battery": {"installed": "2026-03-01", "replace_by": "2030-03-01"},
        "troubles": [{"state": "ALARM", "happened": ["the UPS raises an alarm: fan"], "do": []}],
    }  # fmt: skip
    stops = {"server1": {"seconds": 48.0, "longest_s": 61.0, "on_battery": True}}
    return {"at": (NOW - dt.timedelta(hours=2)).isoformat(), "upses": {"ups1": ups}, "stops": stops}


class Case:
    """Inputs of a practice where all is well; tests spoil one thing at a time."""

    def __init__(self) -> None:
        self.summary = copy.deepcopy(SUMMARY)
        self.statuses = [
            status("clinical_db", "server1", 9),
            status("documents", "server1", 8),
            status("desk_files", "desk1", 8),
        ]
        self.proofs = [database_proof(), proof("documents", "server1"), proof("desk_files", "desk1")]
        self.drill: dict[str, Any] | None = drill()
        self.ledger: dict[str, Any] = {"ok": True, "count": 3, "head": HEAD, "broken": None, "notes": [], "error": None}
        self.proof_age, self.drill_age = 5.0, 3.0
        self.power_said: dict[str, Any] | None = power_said()
        self.more: list[dict[str, Any]] = []
        self.proof_body: dict[str, Any] = {}

    def records(self) -> list[dict[str, Any]]:
        found = [record("proof", self.proof_age, {"items": self.proofs, **self.proof_body})] if self.proofs else []
        if self.drill:
            found.append(record("drill", self.drill_age, self.drill))
        return sorted([*found, *self.more], key=lambda entry: entry["at"])

    def build(self) -> dict[str, Any]:
        return build_report(self.summary, self.statuses, self.records(), self.ledger, NOW, self.power_said)


@pytest.fixture
def case() -> Case:
    return Case()


def render(model: dict[str, Any]) -> str:
    """As ansible.builtin.template does it: blocks trimmed, no escaping of its own."""
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(report=model)


def figures(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {figure["key"]: figure for figure in model["figures"]}


def item(model: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in model["items"] if entry["name"] == name)


def test_a_practice_where_all_is_well(case: Case) -> None:
    model = case.build()
    assert model["verdict"]["state"] == "PASS"
    assert model["findings"] == []
    assert [figure["state"] for figure in model["figures"]] == ["ok"] * 5
    got = figures(model)
    assert got["backup"]["value"] == "8 min old"
    assert got["loss"]["value"] == "2 min 51 s"
    assert got["restore"]["value"] == "49 s"  # all three, one after another
    assert got["restore"]["target"] == "at most 4 h"
    assert got["power"]["value"] == "18 s"
    assert got["power"]["target"] == "battery lasts 10 min"
    assert got["power"]["note"] == "margin 9 min 42 s"
    assert (
        item(model, "clinical_db")["compared"].replace("\u202f", " ")
        == "226 088 rows in 7 tables, 500 files (73 MB), 500 images"
    )
    assert model["date"] == "2026-11-22"  # the practice's day, not Greenwich's
    assert model["made"] == "Sun 22 Nov 2026, 07:47"
    assert [entry["state"] for entry in model["unchecked"]] == ["none"] * len(model["unchecked"])
    assert len({line.index("  ") for line in model["text"]} | {len(model["text"])}) > 1


def spoil_no_backup(c: Case) -> None:
    c.statuses = c.statuses[:2]
    c.proofs = c.proofs[:2]


def spoil_unread_item(c: Case) -> None:
    c.summary["items"]["new"] = {
        "hosts": ["server1"],
        "class": "ordinary",
        "engine": None,
        "interval_s": 86400,
        "prove": "weekly",
    }


def spoil_zero(c: Case) -> None:
    c.proofs[0]["levels"]["files"]["checked"] = 0


def spoil_level(c: Case) -> None:
    del c.proofs[0]["levels"]["database"]


def spoil_lost_status(c: Case) -> None:
    c.statuses = []


@pytest.mark.parametrize(
    ("spoil", "state", "where", "says"),
    [
        (
            lambda c: c.statuses.append(
                status("documents", "server1", 1, "FAILED", reasons=[{"code": "x", "message": "disk full."}])
            ),
            "FAIL",
            "documents on server1",
            "FAILED: disk full",
        ),
        (
            lambda c: c.statuses.append(
                status("documents", "server1", 1, "INCOMPLETE", reasons=[{"code": "coverage_gap"}])
            ),
            "INCONCLUSIVE",
            "documents on server1",
            "INCOMPLETE: coverage_gap",
        ),
        (
            lambda c: c.statuses.append(status("documents", "server1", -90)),
            "FAIL",
            "documents on server1",
            "dated in the future",
        ),
        (spoil_no_backup, "FAIL", "desk_files on desk1", "last good backup: never."),
        (spoil_unread_item, "FAIL", "new on server1", "last good backup: never."),
        (lambda c: setattr(c, "proofs", c.proofs[1:]), "FAIL", "clinical_db on server1", "last proof: never."),
        (
            lambda c: c.proofs[0].update(
                verdict="FAIL", reasons=[{"code": "rows", "message": "public.patient: 19 rows missing"}]
            ),
            "FAIL",
            "clinical_db on server1",
            "19 rows missing",
        ),
        (
            lambda c: c.proofs[0].update(verdict="INCONCLUSIVE"),
            "INCONCLUSIVE",
            "clinical_db on server1",
            "No reason was recorded.",
        ),
        (lambda c: c.proofs[0].update(verdict="SKIPPED"), "FAIL", "clinical_db on server1", "No reason was recorded."),
        (
            lambda c: setattr(c, "proof_age", 60 * 31),
            "FAIL",
            "clinical_db on server1",
            "Overdue: a daily restore is promised.",
        ),
        (spoil_zero, "FAIL", "clinical_db on server1", "Not shown: files compared."),
        (spoil_level, "FAIL", "clinical_db on server1", "Not shown: database compared."),
        (
            lambda c: c.proof_body.update(
                reasons=[{"code": "machine_not_wiped", "message": "it could not be removed"}]
            ),
            "FAIL",
            "Restore machine",
            "it could not be removed",
        ),
        (lambda c: setattr(c, "drill", None), "FAIL", "ups1", "power drill: never."),
        (
            lambda c: setattr(
                c,
                "drill",
                drill(level="paper", figures={"shutdown_s": None, "battery_runtime_s": 600, "margin_s": None}),
            ),
            "INCONCLUSIVE",
            "ups1",
            "Only calculated",
        ),
        (
            lambda c: setattr(
                c, "drill", drill(verdict="FAIL", reasons=[{"code": "order_wrong", "message": "nas1 went first"}])
            ),
            "FAIL",
            "ups1",
            "nas1 went first",
        ),
        (lambda c: setattr(c, "drill_age", 60 * 24 * 120), "FAIL", "ups1", "Overdue"),
        (
            lambda c: c.more.append(
                record("drill", 1, drill(level="paper", verdict="FAIL", reasons=[{"message": "not attached"}]))
            ),
            "FAIL",
            "ups1",
            "a later check says; not attached",
        ),
        (
            lambda c: c.ledger.update(
                ok=False, broken={"line": 3, "seq": 3, "check": "hash", "message": "the record was changed"}
            ),
            "FAIL",
            "Evidence ledger",
            "Broken at record 3 (hash): the record was changed",
        ),
        (lambda c: c.ledger.update(ok=False, error="no key is pinned"), "FAIL", "Evidence ledger", "no key is pinned"),
        (lambda c: c.ledger.update(ok=False, count=0), "FAIL", "Evidence ledger", "nothing was ever proven"),
        (lambda c: c.ledger.update(ok=False), "FAIL", "Evidence ledger", "did not succeed"),
        (lambda c: c.summary.update(items={}), "FAIL", "Practice", "Nothing is protected."),
    ],
)
def test_what_is_wrong_is_said(case: Case, spoil: Any, state: str, where: str, says: str) -> None:
    spoil(case)
    model = case.build()
    assert model["verdict"]["state"] == state
    assert any(finding["where"] == where and says in finding["text"] for finding in model["findings"]), model[
        "findings"
    ]
    assert figures(model)["verdict"]["state"] == {"FAIL": "bad", "INCONCLUSIVE": "warn"}[state]
    page = render(model)
    assert model["verdict"]["word"] in page


def test_nothing_at_all_is_red_everywhere() -> None:
    ledger: dict[str, Any] = {"ok": False, "count": 0, "head": None, "broken": None, "notes": [], "error": None}
    model = build_report(SUMMARY, [], [], ledger, NOW)
    assert model["verdict"]["state"] == "FAIL"
    assert [figure["state"] for figure in model["figures"]] == ["bad"] * 5
    assert [figure["value"] for figure in model["figures"]] == ["never"] * 4 + ["FAIL"]
    assert {level["text"] for entry in model["items"] for level in entry["levels"]} == {"never", "not promised"}
    assert sum(entry["state"] == "bad" for entry in model["unchecked"]) == 4
    assert "never" in render(model)


def test_the_worst_states_come_first(case: Case) -> None:
    case.proofs[0].update(verdict="INCONCLUSIVE")
    case.drill = None
    assert [finding["state"] for finding in case.build()["findings"]] == ["bad", "warn"]


def test_a_proof_is_evidence_of_a_backup_when_the_status_is_lost(case: Case) -> None:
    spoil_lost_status(case)
    model = case.build()
    assert item(model, "documents")["backup"]["value"] == "8 min ago"
    assert model["verdict"]["state"] == "PASS"


def test_signed_status_records_of_the_ledger_count(case: Case) -> None:
    case.more.append(record("backup", 0.5, {"jobs": [status("documents", "server1", 3)]}))
    assert item(case.build(), "documents")["backup"]["value"] == "3 min ago"


def test_an_old_backup_is_red_and_missed_runs_are_unsure(case: Case) -> None:
    case.statuses[0] = status("clinical_db", "server1", 60 * 10)
    case.proofs[0]["taken"] = iso(60 * 10)
    model = case.build()
    assert item(model, "clinical_db")["backup"]["state"] == "warn"
    assert "Runs were missed" in model["findings"][0]["text"]
    case.statuses[0] = status("clinical_db", "server1", 60 * 30)
    case.proofs[0]["taken"] = iso(60 * 30)
    model = case.build()
    assert figures(model)["backup"] | {"note": ""} == {
        "key": "backup",
        "label": "Newest backup",
        "value": "30 h old",
        "target": "at most 24 h",
        "state": "bad",
        "note": "",
        "share": 1.0,
    }


@pytest.mark.parametrize(
    ("figure", "value", "key"), [("data_loss_s", 90_000, "loss"), ("restore_s", 14_500, "restore")]
)
def test_a_broken_objective_is_red(case: Case, figure: str, value: float, key: str) -> None:
    case.proofs[0]["figures"][figure] = value
    assert figures(case.build())[key]["state"] == "bad"


def test_a_measure_without_a_passed_proof_is_not_to_be_trusted(case: Case) -> None:
    case.proofs[2].update(verdict="FAIL")
    got = figures(case.build())["restore"]
    assert got["state"] == "bad"
    assert "desk_files on desk1 did not pass" in got["note"]


def test_a_real_drill_outranks_a_later_one_on_paper(case: Case) -> None:
    paper = drill(level="paper", timeline=[], figures={"shutdown_s": None, "battery_runtime_s": 600, "margin_s": None})
    case.more.append(record("drill", 1, paper))
    model = case.build()
    assert model["power"][0]["shutdown_s"] == 17.6
    assert model["verdict"]["state"] == "PASS"


def test_a_practice_without_ups_is_not_blamed_but_told(case: Case) -> None:
    case.summary["power"], case.drill = {}, None
    model = case.build()
    assert figures(model)["power"]["state"] == "none"
    assert model["verdict"]["state"] == "PASS"
    assert any("names no UPS" in entry["text"] for entry in model["unchecked"])


# --- the drawing -----------------------------------------------------------------------------------------------------


def test_secondaries_are_drawn_above_the_primary_and_the_limit_to_the_right() -> None:
    chart = power_chart(drill()["timeline"], drill()["figures"])
    assert chart is not None
    assert [lane["host"] for lane in chart["lanes"]] == ["desk1", "server1", "nas1"]
    ends = [lane["x2"] for lane in chart["lanes"]]
    assert ends == sorted(ends)
    assert ends[-1] < chart["cut_x"] < chart["limit"]["x"]  # 10 min do not fit beside 22 s: the axis is cut
    assert [mark["label"] for mark in chart["marks"]] == ["mains fail", "battery low", "shutdown ordered"]


@pytest.mark.parametrize(("runtime", "before"), [(30, True), (10, False)])
def test_a_limit_near_the_shutdown_is_drawn_to_scale(runtime: float, before: bool) -> None:
    chart = power_chart(drill()["timeline"], {"battery_runtime_s": runtime})
    assert chart is not None
    assert chart["cut_x"] is None
    assert (chart["lanes"][-1]["x2"] < chart["limit"]["x"]) is before


def test_where_a_stop_began_is_drawn_in_its_lane() -> None:
    began = {"host": "server1", "role": "secondary", "event": "stopping", "t_s": 9.0}
    chart = power_chart([*drill()["timeline"], began], drill()["figures"])
    assert chart is not None
    lanes = {lane["host"]: lane for lane in chart["lanes"]}
    assert lanes["server1"]["x1"] < lanes["server1"]["stop_x"] < lanes["server1"]["x2"]
    assert lanes["desk1"]["stop_x"] is None


def test_the_battery_is_empty_as_long_after_it_was_low_as_the_ups_says() -> None:
    chart = power_chart(drill()["timeline"], {"battery_runtime_s": 600, "low_battery_s": 30})
    assert chart is not None
    assert chart["limit"]["label"] == f"battery empty {duration(34.1)}"


SIGNAL = {
    "level": "signal",
    "order_ok": True,
    "databases": [],
    "timeline": [
        {"host": "nas1", "role": "primary", "event": "ordered", "t_s": 0.0},
        {"host": "server1", "role": "secondary", "event": "told", "t_s": 10.0},
        {"host": "nas1", "role": "primary", "event": "told", "t_s": 17.0},
    ],
    "figures": {"shutdown_s": None, "battery_runtime_s": 600, "low_battery_s": 470, "margin_s": 60, "need_s": 410},
}


def test_a_signal_is_drawn_with_when_each_machine_was_told() -> None:
    chart = power_chart(SIGNAL["timeline"], SIGNAL["figures"])
    assert chart is not None
    assert [(lane["host"], lane["label"]) for lane in chart["lanes"]] == [
        ("server1", "told after 10 s"),
        ("nas1", "told after 17 s"),
    ]
    assert [mark["label"] for mark in chart["marks"]] == ["shutdown ordered"]


def test_a_signal_outranks_paper_and_is_no_outage(case: Case) -> None:
    case.drill = drill(**SIGNAL)
    case.more.append(record("drill", 1, drill(level="paper", timeline=[], figures=SIGNAL["figures"])))
    model = case.build()
    power = model["power"][0]
    assert (power["state"], power["since"]) == ("warn", "the shutdown was ordered")
    assert power["detail"] == "Every machine was told to stop: no machine was really switched off."
    assert power["need_text"] == f"{duration(410)} at most"


def test_what_a_shutdown_needs_and_what_is_missing_is_said(case: Case) -> None:
    figures = {**drill()["figures"], "need_s": 700, "missing_s": 100.0}
    case.drill = drill(verdict="FAIL", figures=figures, stops={"server1": {"seconds": 7.0, "by": "host"}})
    power = case.build()["power"][0]
    assert power["need_text"] == f"{duration(700)} at most; {duration(100)} are missing"
    assert power["stops_text"] == "server1 7 s"


def test_nothing_gone_is_nothing_drawn() -> None:
    assert power_chart([], {}) is None
    assert power_chart(drill()["timeline"][:3], {"battery_runtime_s": 600}) is None


def test_without_a_runtime_there_is_no_limit() -> None:
    chart = power_chart(drill()["timeline"], {"battery_runtime_s": None})
    assert chart is not None
    assert chart["limit"] is None


# --- the page --------------------------------------------------------------------------------------------------------


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.values: list[tuple[str, str | None]] = []
        self.errors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.values += attrs
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.values += attrs

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.errors.append(tag)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def poisoned(value: Any) -> Any:
    """The same data with markup in every text that a host, a person or a tool may have written."""
    if isinstance(value, dict):
        return {key: poisoned(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [poisoned(entry) for entry in value]
    if isinstance(value, str) and not re.fullmatch(r"[A-Z]{2,}|[0-9TZ:-]+|[a-z_]+(\d|/.*)?|Australia/Sydney", value):
        return value + "\"'><script>alert(1)</script>{{ 7 * 7 }}"
    return value


def test_the_page_is_well_formed_and_loads_nothing(case: Case) -> None:
    case.proofs[0].update(verdict="FAIL", reasons=[{"code": "x", "message": "y"}])
    reader = read(render(case.build()))
    assert reader.errors == []
    assert reader.open == []
    assert not reader.tags & {"script", "link", "img", "iframe", "object", "a", "form"}
    assert [pair for pair in reader.values if pair[0] in {"src", "href", "action"} or pair[0].startswith("on")] == []
    assert "http" not in re.sub(r'http-equiv="|Content-Security-Policy', "", render(case.build()))
    assert "url(" not in render(case.build())


def test_no_value_becomes_markup(case: Case) -> None:
    case.proofs[0].update(verdict="FAIL", reasons=[{"code": "x", "message": "some reason"}])
    case.statuses.append(status("documents", "server1", 1, "FAILED", reasons=[{"message": "another reason"}]))
    case.ledger.update(
        notes=["a note"], broken={"line": 1, "seq": None, "check": "unparsable", "message": "it is broken"}
    )
    assert case.drill is not None
    case.drill.update(verdict="FAIL", reasons=[{"message": "third reason"}])
    clean = read(render(case.build()))
    for part in ("summary", "statuses", "proofs", "drill", "ledger", "power_said"):
        setattr(case, part, poisoned(getattr(case, part)))
    page = render(case.build())
    reader = read(page)
    assert page.count("&lt;script&gt;") > 12
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page  # text stays text
    assert reader.tags == clean.tags
    assert reader.errors == []


def test_every_value_in_the_template_is_escaped_or_geometry() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    plain = {match for match in re.findall(r"{{(.*?)}}", text) if not match.rstrip().endswith("| e")}
    geometry = re.compile(
        r" (c|tick|lane|event|size)(\.[a-z_0-9.]+)?( [-+] \d+)?( - lane\.x1)? | \(?c\.| mark\(| \[lane\.x2| \[figure\.share|"
        r" box\.[xywh] | wire\.[xy][12] | w\.(width|height|mains\.[xyh]) |"
        r" c\.limit| \{'ok'|' c-| 'c-| '( \(the| NAS)| lane\.(where|anchor) "
    )
    assert [match for match in plain if not geometry.match(match) and not re.match(r" '", match)] == []


def test_what_feeds_what_is_drawn_with_what_was_heard_last(case: Case) -> None:
    page = render(case.build())
    assert "watches asked: 2 h ago" in page
    for text in (
        "OL, charge 100 %, battery for 10 min, load 23 %",
        "ALARM: the UPS raises an alarm: fan",
        "6 min left when the battery is low, 5 min needed: 60 s to spare",
        "none yet: it is open",
        "to be replaced by 2030-03-01, in use since 2026-03-01",
        "last stop 48 s on battery (longest 61 s)",
    ):
        assert text in page, text
    case.power_said = None
    page = render(case.build())
    assert "watches asked: never" in page
    assert page.count("its stop was never measured") == 3
    case.summary["power"] = {}
    assert "What feeds what" not in render(case.build())


def test_states_have_a_shape_and_a_word_besides_the_colour(case: Case) -> None:
    case.drill = None
    page = render(case.build())
    for words in ('aria-label="good"', 'aria-label="act"', 'aria-label="not promised"', "Action needed"):
        assert words in page


# --- sources ---------------------------------------------------------------------------------------------------------


def write_status(folder: Path, host: str, job: str, content: str) -> None:
    path = folder / "status" / host / f"{job}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_status_records_are_read_and_strange_ones_are_failures(tmp_path: Path) -> None:
    good = status("documents", "server1", 5)
    write_status(tmp_path, "server1", "documents", json.dumps(good))
    write_status(tmp_path, "server1", "torn", json.dumps(good)[:40])
    write_status(tmp_path, "desk1", "documents", json.dumps(good))
    write_status(tmp_path, "server1", "list", "[]")
    found = {(entry["host"], entry["job"]): entry for entry in read_statuses(tmp_path, "harbour-street")}
    assert found["server1", "documents"] == good
    assert found["server1", "torn"]["state"] == found["server1", "list"]["state"] == "FAILED"
    assert "speaks for another" in found["desk1", "documents"]["reasons"][0]["message"]
    assert read_statuses(tmp_path / "none", "harbour-street") == []


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Path, Path]:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    public = (tmp_path / "key.pub").read_text().split()
    signers = tmp_path / "evidence_signers"
    signers.write_text(f'harbour-street namespaces="{evidence.NAMESPACE}" {public[0]} {public[1]}\n')
    key = evidence.SigningKey((tmp_path / "key").read_text())
    ledger = evidence.Ledger(str(tmp_path / "evidence"))
    ledger.append("harbour-street", "proof", {"items": [database_proof()]}, key)
    ledger.append("harbour-street", "drill", drill(), key)
    return tmp_path / "evidence", signers


def test_a_sound_ledger_gives_its_records(chain: tuple[Path, Path]) -> None:
    records, state = read_ledger(*chain, "harbour-street")
    assert [entry["kind"] for entry in records] == ["proof", "drill"]
    assert (state["ok"], state["count"], state["broken"], state["error"]) == (True, 2, None, None)
    assert len(state["head"]) == 64


def test_records_from_the_broken_one_on_are_not_used(chain: tuple[Path, Path]) -> None:
    path = chain[0] / evidence.LEDGER
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"margin_s":582.4', '"margin_s":999.4')]) + "\n")
    records, state = read_ledger(*chain, "harbour-street")
    assert [entry["kind"] for entry in records] == ["proof"]
    assert state["broken"]["check"] == "hash"
    model = build_report(SUMMARY, [], records, state, NOW)
    assert model["power"][0]["value"] == "never"
    assert model["ledger"]["state"] == "bad"


def test_a_ledger_without_pinned_key_or_folder(chain: tuple[Path, Path], tmp_path: Path) -> None:
    records, state = read_ledger(chain[0], tmp_path / "nobody", "harbour-street")
    assert records == []
    assert "cannot be read" in state["error"]
    assert read_ledger(tmp_path / "absent", chain[1], "harbour-street")[1]["count"] == 0
    assert read_ledger(*chain, "other-practice")[1]["broken"]["check"] == "practice"


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "never"),
        (0, "0 s"),
        (0.42, "0.4 s"),
        (8.0, "8 s"),
        (9.97, "10 s"),
        (17.6, "18 s"),
        (99.4, "99 s"),
        (100, "1 min 40 s"),
        (171, "2 min 51 s"),
        (600, "10 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "24 h"),
        (129_600, "2 days"),
        (8_640_000, "100 days"),
        (-20, "-20 s"),
    ],
)
def test_duration(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_other_words() -> None:
    assert [size(n) for n in (0, 999, 1500, 20_100_000, 3_240_000_000)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "20 MB",
        "3.2 GB",
    ]
    assert amount(226088) == "226\u202f088"
    assert clock_time(NOW, ZoneInfo("Europe/Berlin")) == "Sat 21 Nov 2026, 21:47"


OLDER = {
    "which": "rotation",
    "class": "monthly",
    "kept": {"hourly": 9, "monthly": 2},
    "snapshots": {"oracle": "b" * 64},
}


def test_an_older_run_is_no_newer_proof(case: Case) -> None:
    """Its age and its times say nothing of the newest backup, whose proof stays the one that counts."""
    case.summary["items"]["documents"]["levels"] = ["arrival", "structure", "files"]
    case.summary["retention"]["within"]["monthly"] = "3y"
    before = case.build()
    late = proof(
        "documents", "server1", **OLDER, figures={"age_s": 9e7, "phases": {"restore_s": 500.0}, "restore_s": 500.0}
    )
    case.more = [record("proof", 1, {"items": [late]})]
    model = case.build()
    assert item(model, "documents") == item(before, "documents")
    assert model["figures"] == before["figures"]
    cells = [cell for row in model["coverage"]["rows"] if row["class"] == "monthly" for cell in row["cells"]]
    assert {cell["text"] for cell in cells if cell["state"] == "ok"} == {NOW.date().isoformat()}
    page = render(model)
    assert "<td>documents on server1, onsite</td><td>monthly (2)</td>" in page
    assert "bound method" not in page


def test_an_older_run_that_failed_is_red_though_the_newest_is_well(case: Case) -> None:
    bad = {**level(2000, "FAIL"), "reasons": [{"code": "files_changed", "message": "m"}]}
    row = proof("documents", "server1", **OLDER, verdict="FAIL", levels={"arrival": level(1), "files": bad})
    case.more = [record("proof", 1, {"items": [row]})]
    model = case.build()
    assert model["verdict"]["state"] == "FAIL"
    assert "the monthly run bbbbbbbbbbbb failed on 2026-11-21" in model["findings"][0]["text"]
    assert "documents on server1" in render(model)


def test_what_the_rotation_owes_is_red(case: Case) -> None:
    case.summary["items"]["documents"]["levels"] = ["arrival", "files"]
    case.summary["retention"]["within"]["monthly"] = "3y"
    row = proof("documents", "server1", **OLDER)
    case.more = [
        record("proof", 200 * 1440, {"items": [row]}),
        record("proof", 1, {"items": [{**row, "class": "hourly", "which": "newest"}]}),
    ]
    model = case.build()
    (finding,) = model["findings"]
    assert finding["text"].startswith(
        "older runs: monthly arrival: 2026-05-05, overdue since 2026-11-01; monthly files:"
    )
    assert 'class="c-bad">2026-05-05, overdue since 2026-11-01' in render(model)


def test_when_everything_would_be_back(case: Case) -> None:
    for each in case.proofs:
        each["figures"]["transfer_bytes"] = 250_000_000
    model = case.build()
    # 250 MB over 94 % of 100 Mbit/s take 21 s, where the copying took 6.2, 2.2 and 2.2 s
    assert model["forecast"]["lan"] == "49 s"
    assert model["forecast"]["line"] == "1 min 42 s"
    assert "750 MB over the line" in model["forecast"]["amount"]
    case.proofs = case.proofs[:2]
    assert case.build()["forecast"]["missing"] == "desk_files of desk1"
    assert case.build()["forecast"]["lan"].startswith("at least ")
    case.proofs, case.drill = [], None
    assert "never measured" in render(case.build())


def test_a_loss_is_told_by_record_and_in_opening_hours(case: Case) -> None:
    case.proofs[0]["figures"] |= {
        "data_loss_open_s": 0.0,
        "records": {"newest_entry": 7200.0, "newest_appointment": None},
        "records_open_s": {"newest_entry": 600.0, "newest_appointment": None},
    }
    page = render(case.build())
    assert "2 min 51 s, of it 0 s in opening hours" in page
    assert "<dt>Since newest_entry</dt><dd>2 h, of it 10 min in opening hours</dd>" in page
    assert "<dt>Since newest_appointment</dt><dd>lies ahead</dd>" in page
