# SPDX-License-Identifier: Apache-2.0
"""What a drill is worth: every way of going wrong has its own reason, and what was not seen is never a PASS."""

from __future__ import annotations

import copy

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.filter.power_verdict import FilterModule, power_verdict
from ansible_collections.holdfast.practice.plugins.plugin_utils.power_drill import judge, scope


def host(started=100.0, database=False, **changes):
    facts = {
        "ups": [{"ups": "ups1", "status": "OL", "runtime_s": 600.0, "low_runtime_s": None, "error": None}],
        "units": ["nut-monitor.service", *(["postgresql@17-main.service"] if database else [])],
        "clients": {},
        "hook": None,
        "power_down_flag": False,
        "clusters": [],
        "expect_engines": ["postgresql"] if database else [],
        "differences": [],
        "signal_left": False,
        "stops": [],
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


def need(**changes):
    """220 s by the document, on a battery for 600."""
    slowest = {"host": "server1", "seconds": 100, "measured": False}
    parts = {"slowest": slowest, "hostsync_s": 15, "primary_s": 70, "finaldelay_s": 5, "late_hook_s": 30}
    return {**parts, "total_s": 220, **changes}


def record(seconds, began=50_004.0, **more):
    return {"boot_id": "b", "began": began, "seconds": seconds, "on_battery": True, "units": {}, **more}


def track(last, gone):
    return {"gone": True, "last_answer_s": last, "gone_s": gone, "back_s": 1000.0}


@pytest.fixture
def seen():
    return {
        "level": "real",
        "ups": "ups1",
        "primary": "nas1",
        "hosts": {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"},
        "need": need(),
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
    assert body["figures"] == {
        "shutdown_s": 17.5,
        "battery_runtime_s": 600.0,
        "low_battery_s": None,
        "margin_s": 582.5,
        "need_s": 220,
        "missing_s": 0.0,
    }
    assert body["stops"] == {
        "nas1": {"seconds": 15.5, "by": "drill"},
        "server1": {"seconds": 6.5, "by": "drill"},
        "desk1": {"seconds": 6.0, "by": "drill"},
    }
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
        (put("before", "nas1", "ups", 0, "low_runtime_s", value=219.0), "FAIL", "low_battery_too_late"),
        (put("before", "nas1", "ups", 0, "runtime_s", value=219.0), "FAIL", "runtime_too_short"),
        (put("before", "desk1", "differences", value=["HOSTSYNC is 30, expected 15"]), "FAIL", "configuration_differs"),
        (put("before", "desk1", "signal_left", value=True), "FAIL", "signal_left"),
        (put("after", "server1", "clusters", 0, "engine", value="mariadb"), "FAIL", "database_missing"),
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


def test_a_database_that_was_slow_to_stop_fails_the_drill_with_the_missing_seconds(seen):
    seen["before"]["nas1"]["ups"][0]["low_runtime_s"] = 280.0
    seen["after"]["server1"]["stops"] = [record(170.5)]
    body = judge(seen)
    assert (body["verdict"], codes(body)) == ("FAIL", ["low_battery_too_late"])
    assert body["reasons"][0]["message"] == (
        "ups1 calls for the shutdown 280 s before its battery is empty, and a shutdown needs slowest secondary 171 (server1, "
        "measured) + HOSTSYNC 15 + primary 70 (nas1) + FINALDELAY 5 + late hook 30 = 291 s: 11 s are missing."
    )
    assert (body["figures"]["missing_s"], body["figures"]["need_s"]) == (11.0, 291)
    assert body["need"]["slowest"] == {"host": "server1", "seconds": 171, "measured": True}


def test_a_stop_that_was_slow_on_another_day_counts_on_paper(seen):
    seen["level"] = "paper"
    seen["before"]["server1"]["stops"] = [record(530.0), record(2.0, 50_100.0)]
    body = judge(seen)
    assert (codes(body), body["figures"]["missing_s"]) == (["runtime_too_short"], 50.0)
    seen["before"]["server1"]["stops"] = [record(530.0), *(record(2.0, 50_100.0 + n) for n in range(20))]
    assert judge(seen)["verdict"] == "PASS"


def test_what_a_unit_may_take_beyond_its_time_counts_on_paper(seen):
    seen["level"], seen["stop_s"] = "paper", {"server1": 100}
    seen["before"]["server1"]["over_s"] = 430.0
    body = judge(seen)
    assert (body["need"]["slowest"]["seconds"], body["figures"]["missing_s"]) == (530, 50.0)


def test_a_slow_primary_counts_too(seen):
    seen["after"]["nas1"]["stops"] = [record(500.0)]
    body = judge(seen)
    assert body["need"]["primary_s"] == 500
    assert body["figures"]["missing_s"] == 50.0


def test_what_a_host_wrote_down_beats_what_was_seen_and_is_in_the_timeline(seen):
    seen["began_s"] = 50_000.0
    old = record(90.0, 40_000.0)
    seen["before"]["server1"]["stops"] = [old]
    seen["after"]["server1"]["stops"] = [old, record(4.2, 50_013.5)]
    body = judge(seen)
    assert body["stops"]["server1"] == {"seconds": 4.2, "by": "host"}
    assert [e["t_s"] for e in body["timeline"] if (e["event"], e["host"]) == ("stopping", "server1")] == [13.5]


@pytest.mark.parametrize("cut", [record(None), record(2.0, unfinished=True)])
def test_a_stop_that_was_cut_short_is_not_how_long_it_takes(seen, cut):
    seen["after"]["server1"]["stops"] = [cut]
    assert judge(seen)["stops"]["server1"] == {"seconds": 6.5, "by": "drill"}


def test_mariadb_is_judged_beside_postgresql(seen):
    mariadb = {
        "engine": "mariadb",
        "version": "",
        "cluster": "",
        "online": True,
        "state": None,
        "clean": True,
        "started": 110,
    }
    seen["before"]["server1"]["clusters"].append(mariadb)
    seen["after"]["server1"]["clusters"].append({**mariadb, "started": 5010})
    assert judge(seen)["verdict"] == "PASS"
    seen["after"]["server1"]["clusters"][1]["clean"] = False
    body = judge(seen)
    assert body["reasons"] == [
        {
            "code": "database_unclean",
            "message": "MariaDB on server1 was not shut down cleanly: it had to recover at its start.",
        }
    ]
    assert body["databases"] == [{"host": "server1", "clean": False}]


# --- a signal ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def signal(seen):
    for key in ("watch", "back", "on_battery_s", "low_battery_s"):
        del seen[key]
    seen["after"] = practice()
    return {
        **seen,
        "level": "signal",
        "ordered_s": 5000.0,
        "marks": {"nas1": 5017.5, "server1": 5010.0, "desk1": 5011.25},
    }


def test_a_signal_that_reached_everybody_in_order(signal):
    body = judge(signal)
    assert (body["verdict"], body["reasons"], body["order_ok"], body["level"]) == ("PASS", [], True, "signal")
    assert [(e["event"], e["host"], e["t_s"]) for e in body["timeline"]] == [
        ("ordered", "nas1", 0.0),
        ("told", "server1", 10.0),
        ("told", "desk1", 11.25),
        ("told", "nas1", 17.5),
    ]
    assert (body["figures"]["shutdown_s"], body["figures"]["margin_s"]) == (None, 380.0)


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [
        (put("marks", "desk1", value=None), "FAIL", "not_told"),
        (drop("marks", "nas1"), "FAIL", "not_told"),
        (put("marks", "desk1", value=5020.0), "FAIL", "order_wrong"),
        (put("marks", "desk1", value=5017.0), "INCONCLUSIVE", "order_uncertain"),
        (put("after", "desk1", "started", value=5001.0), "FAIL", "host_restarted"),
        (put("after", "desk1", "signal_left", value=True), "FAIL", "signal_left"),
        (put("after", "desk1", "units", value=[]), "FAIL", "monitor_not_running"),
        (put("after", "desk1", value={"unreachable": True}), "FAIL", "host_not_back"),
        (put("after", "nas1", "ups", 0, "status", value="FSD OL"), "FAIL", "ups_not_online"),
        (put("stays", value=["desk1"]), "FAIL", "told_needlessly"),
        (drop("marks"), "INCONCLUSIVE", "not_started"),
        (put("before", "nas1", "ups", 0, "runtime_s", value=200.0), "FAIL", "runtime_too_short"),
    ],
)
def test_what_spoils_a_signal(signal, change, verdict, code):
    change(signal)
    body = judge(signal)
    assert body["verdict"] == verdict
    assert code in codes(body)


# --- other wiring -----------------------------------------------------------------------------------------------------------


def test_a_ups_that_feeds_nobody_else_is_tried_alone(seen):
    seen["hosts"], seen["standalone"] = {"nas1": "198.18.0.11"}, True
    seen["need"] = need(slowest={"host": "nas1", "seconds": 0, "measured": False}, hostsync_s=0, total_s=105)
    seen["watch"]["hosts"] = {"nas1": track(1016.0, 1016.5)}
    body = judge(seen)
    assert (body["verdict"], body["reasons"], body["order_ok"]) == ("PASS", [], True)
    assert body["figures"]["shutdown_s"] == 6.5


def test_a_host_with_another_supply_stays_and_is_no_part_of_the_order(seen):
    seen["stays"] = ["desk1"]
    del seen["watch"]["hosts"]["desk1"]
    seen["after"]["desk1"] = host(100.0)
    assert judge(seen)["verdict"] == "PASS"
    seen["after"]["desk1"] = host(5000.0)
    assert codes(judge(seen)) == ["host_gone_needlessly"]


def test_a_ups_whose_every_host_has_another_one_tries_nothing(seen):
    seen["stays"] = ["nas1", "server1", "desk1"]
    del seen["watch"]
    body = judge(seen)
    assert (body["verdict"], set(codes(body))) == ("INCONCLUSIVE", {"nobody_stops", "not_started"})


def test_a_ups_that_holdfast_calls_low_has_to_tell_its_runtime(seen):
    seen["before"]["nas1"]["ups"][0].update(runtime_s=None, low_runtime_s=470.0)
    assert codes(judge(seen)) == ["low_battery_never"]


def wired(minimum=1, **monitors):
    kinds = [{"ups": ups, "type": kind, "power_value": 1} for ups, kind in monitors.items()]
    return {"min_supplies": minimum, "monitors": kinds}


@pytest.mark.parametrize(
    ("hosts", "going", "stays"),
    [
        ({"nas1": wired(ups1="primary"), "server1": wired(ups1="secondary")}, ["nas1", "server1"], []),
        ({"nas1": wired(ups1="primary")}, ["nas1"], []),
        ({"nas1": wired(ups1="primary"), "server1": wired(ups1="secondary", ups2="primary")}, ["nas1"], ["server1"]),
        (
            {"nas1": wired(ups1="primary"), "server1": wired(2, ups1="secondary", ups2="primary")},
            ["nas1", "server1"],
            [],
        ),
        # a primary takes those on its other UPS with it
        (
            {"nas1": wired(2, ups1="primary", ups2="primary"), "server1": wired(ups2="secondary")},
            ["nas1", "server1"],
            [],
        ),
        ({"nas1": wired(ups1="primary"), "server1": wired(ups2="primary")}, ["nas1"], []),
        ({"nas1": wired(ups1="primary", ups2="secondary"), "server1": wired(ups1="secondary")}, ["server1"], ["nas1"]),
    ],
)
def test_who_takes_part(hosts, going, stays):
    assert scope("ups1", hosts) == {"primary": "nas1", "going": going, "stays": stays}


def test_a_ups_that_nobody_has_is_said_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"ups9 has 0 primaries, expected one; the UPSs are: ups1"):
        scope("ups9", {"nas1": wired(ups1="primary")})


def test_judging_changes_nothing(seen):
    before = copy.deepcopy(seen)
    assert judge(seen) == judge(seen)
    assert seen == before


def test_the_filter_names_what_is_missing(seen):
    del seen["primary"]
    with pytest.raises(AnsibleFilterError, match="primary"):
        power_verdict(seen)
    assert FilterModule().filters() == {"power_verdict": power_verdict}
