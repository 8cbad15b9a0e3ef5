# SPDX-License-Identifier: Apache-2.0
"""What a drill is worth: every way of going wrong has its own reason, and what was not seen is never a PASS."""

from __future__ import annotations

import copy

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.filter.power_verdict import FilterModule, power_verdict
from ansible_collections.holdfast.practice.plugins.plugin_utils.power_drill import judge


def host(started=100.0, database=False, **changes):
    facts = {
        "ups": [{"ups": "ups1", "status": "OL", "runtime_s": 600.0, "low_runtime_s": None, "error": None}],
        "units": ["nut-monitor.service", *(["postgresql@17-main.service"] if database else [])],
        "clients": {},
        "hook": None,
        "power_down_flag": False,
        "clusters": [],
        "expect_database": database,
        "started": started,
    }
    if database:
        cluster = {"version": "17", "cluster": "main", "online": True, "state": "in production", "clean": True}
        facts["clusters"] = [{**cluster, "started": int(started) + 5}]
    return {**facts, **changes}


def practice(started=100.0):
    return {
        "nas1": host(started, clients={"ups1": ["127.0.0.1", "198.18.0.12", "198.18.0.13"]}, hook=True),
        "server1": host(started, database=True),
        "desk1": host(started),
    }


def track(last, gone):
    return {"gone": True, "last_answer_s": last, "gone_s": gone, "back_s": 1000.0}


@pytest.fixture
def seen():
    return {
        "level": "real",
        "ups": "ups1",
        "primary": "nas1",
        "hosts": {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"},
        "budget_s": 20,
        "before": practice(),
        "after": practice(5000.0),
        "on_battery_s": 1000.0,
        "low_battery_s": 1010.0,
        "watch": {
            "hosts": {"nas1": track(1027.0, 1027.5), "server1": track(1018.0, 1018.5), "desk1": track(1017.5, 1018.0)},
            "ups_events": [
                {"at_s": 1000.5, "status": "OB DISCHRG"},
                {"at_s": 1012.0, "status": "FSD OB DISCHRG LB"},
                {"at_s": 1027.5, "status": None},
            ],
        },
        "back": {"hosts": {"nas1": {"back_s": 1100.0}, "server1": {"back_s": 1101.0}, "desk1": {"back_s": None}}},
    }


def codes(body):
    return [reason["code"] for reason in body["reasons"]]


def test_a_drill_that_went_well(seen):
    body = judge(seen)
    assert (body["verdict"], body["reasons"], body["order_ok"]) == ("PASS", [], True)
    assert body["figures"] == {"shutdown_s": 17.5, "battery_runtime_s": 600.0, "margin_s": 582.5}
    assert body["databases"] == [{"host": "server1", "clean": True}]
    assert [(e["event"], e["host"], e["t_s"]) for e in body["timeline"]] == [
        ("on_battery", "nas1", 0.0),
        ("low_battery", "nas1", 10.0),
        ("fsd", "nas1", 12.0),
        ("gone", "desk1", 18.0),
        ("gone", "server1", 18.5),
        ("gone", "nas1", 27.5),
        ("back", "nas1", 100.0),
        ("back", "server1", 101.0),
    ]
    assert {e["role"] for e in body["timeline"] if e["host"] == "nas1"} == {"primary"}


def put(*path, value):
    def change(seen):
        at = seen
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


def drop(*path):
    def change(seen):
        at = seen
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return change


AFTER_DB = ("after", "server1", "clusters", 0)


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [
        (put("watch", "hosts", "server1", value=track(1030.0, 1030.5)), "FAIL", "order_wrong"),
        (put("watch", "hosts", "server1", value=track(1027.2, 1027.7)), "INCONCLUSIVE", "order_uncertain"),
        (put("watch", "hosts", "desk1", "gone", value=False), "FAIL", "host_not_gone"),
        (put("watch", "hosts", "nas1", "gone", value=False), "FAIL", "host_not_gone"),
        (put("watch", "hosts", value={}), "FAIL", "host_not_gone"),
        (put("before", "nas1", "ups", 0, "runtime_s", value=15.0), "FAIL", "margin_negative"),
        (put("before", "nas1", "ups", 0, "runtime_s", value=None), "INCONCLUSIVE", "runtime_unknown"),
        (put("before", "nas1", "ups", 0, "low_runtime_s", value=10.0), "FAIL", "low_battery_too_late"),
        (put(*AFTER_DB, "clean", value=False), "FAIL", "database_unclean"),
        (put(*AFTER_DB, "clean", value=None), "INCONCLUSIVE", "database_unknown"),
        (put(*AFTER_DB, "started", value=105), "INCONCLUSIVE", "database_not_restarted"),
        (put(*AFTER_DB, "online", value=False), "FAIL", "database_down"),
        (put(*AFTER_DB, "state", value="in crash recovery"), "FAIL", "database_down"),
        (put("after", "server1", "clusters", value=[]), "FAIL", "database_missing"),
        (put("before", "server1", "clusters", value=[]), "FAIL", "database_missing"),
        (put("after", "server1", "units", value=["nut-monitor.service"]), "FAIL", "service_not_back"),
        (put("after", "server1", "units", value=["postgresql@17-main.service"]), "FAIL", "monitor_not_running"),
        (put("after", "desk1", "started", value=100.0), "FAIL", "host_not_restarted"),
        (put("after", "desk1", value={"unreachable": True}), "FAIL", "host_not_back"),
        (drop("after", "desk1"), "FAIL", "host_not_back"),
        (put("after", "nas1", "power_down_flag", value=True), "FAIL", "power_down_flag_set"),
        (put("after", "desk1", "ups", 0, "status", value="FSD OL"), "FAIL", "ups_not_online"),
        (put("after", "desk1", "ups", value=[]), "FAIL", "ups_not_online"),
        (put("after", "nas1", "clients", "ups1", value=["198.18.0.12"]), "FAIL", "not_attached"),
        (put("before", "nas1", "hook", value=False), "FAIL", "hook_missing"),
        (put("hosts", value={"nas1": "198.18.0.11"}), "FAIL", "no_secondary"),
        (put("hosts", value={}), "FAIL", "no_secondary"),
    ],
)
def test_what_spoils_a_drill(seen, change, verdict, code):
    change(seen)
    body = judge(seen)
    assert body["verdict"] == verdict
    assert code in codes(body)


def test_a_lost_database_host_is_not_clean(seen):
    seen["after"]["server1"] = {"failed": True}
    assert judge(seen)["databases"] == [{"host": "server1", "clean": False}]


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [
        (put("before", "desk1", value={"unreachable": True}), "INCONCLUSIVE", "host_unreachable"),
        (put("before", "nas1", value={"unreachable": True}), "INCONCLUSIVE", "runtime_unknown"),
        (drop("before", "desk1"), "INCONCLUSIVE", "host_unreachable"),
        (put("before", "server1", "clusters", 0, "online", value=False), "FAIL", "database_down"),
        (put("before", "nas1", "clients", "ups1", value=["127.0.0.1", "198.18.0.12"]), "FAIL", "not_attached"),
        (put("before", "nas1", "ups", 0, "runtime_s", value=20.0), "FAIL", "runtime_too_short"),
        (put("before", "desk1", "ups", 0, "status", value="OB DISCHRG"), "FAIL", "ups_not_online"),
    ],
)
def test_a_practice_that_is_not_ready(seen, change, verdict, code):
    change(seen)
    seen["level"] = "paper"
    for key in ("watch", "back", "after"):
        del seen[key]
    body = judge(seen)
    assert body["verdict"] == verdict
    assert code in codes(body)
    assert (body["order_ok"], body["databases"], body["timeline"]) == (None, [], [])


def test_paper_that_is_in_order(seen):
    seen["level"] = "paper"
    body = judge(seen)
    assert (body["verdict"], body["level"], body["figures"]["shutdown_s"]) == ("PASS", "paper", None)


def test_a_real_drill_that_was_not_started_is_no_pass(seen):
    del seen["watch"]
    body = judge(seen)
    assert body["verdict"] == "INCONCLUSIVE"
    assert codes(body) == ["not_started"]


def test_judging_changes_nothing(seen):
    before = copy.deepcopy(seen)
    assert judge(seen) == judge(seen)
    assert seen == before


def test_the_filter_names_what_is_missing(seen):
    del seen["primary"]
    with pytest.raises(AnsibleFilterError, match="primary"):
        power_verdict(seen)
    assert FilterModule().filters() == {"power_verdict": power_verdict}
