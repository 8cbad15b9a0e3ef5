# SPDX-License-Identifier: Apache-2.0
import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Item, Server, Ups
from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import (
    FINAL_JOB_S,
    Stop,
    budget,
    deputy,
    patience_s,
    stops,
    units,
)

UPS = Ups(attached_to="nas1", driver="usbhid-ups", feeds=["nas1", "desk1", "server1"], runtime="5m", hostsync="120s")
STOPS = {"nas1": Stop(60), "desk1": Stop(10), "server1": Stop(200)}


def ups(feeds, primary="nas1", **more):
    return Ups(**{"attached_to": primary, "driver": "usbhid-ups", "feeds": feeds, "runtime": "10m", **more})


def server(**more):
    return Server(kind="server", address="198.18.0.12", **more)


def test_the_primary_stops_last_and_the_others_in_the_document_s_order():
    assert budget("ups1", {"ups1": UPS}, STOPS).order == ("desk1", "server1", "nas1")


def test_the_sum_is_written_out_and_the_margin_is_what_the_battery_has_left():
    plan = budget("ups1", {"ups1": UPS}, STOPS)
    words = "slowest secondary 200 (server1) + HOSTSYNC 120 + primary 60 (nas1) + FINALDELAY 5 + late hook 30 = 415 s"
    assert plan.words == words
    assert plan.figures() == {
        "order": ["desk1", "server1", "nas1"],
        "slowest": "server1",
        "slowest_s": 200,
        "hostsync_s": 120,
        "primary_s": 60,
        "finaldelay_s": 5,
        "late_hook_s": 30,
        "need_s": 415,
        "low_battery_s": 300,
        "margin_s": -115,
        "words": words,
    }
    assert (plan.missing_s, plan.offender) == (115, "server1")


def test_a_ups_without_secondaries_waits_for_nobody():
    plan = budget("ups1", {"ups1": ups(["nas1"])}, STOPS)
    assert plan.words == "primary 60 (nas1) + FINALDELAY 5 + late hook 30 = 95 s"
    assert plan.need()["slowest"] == {"host": "nas1", "seconds": 0, "measured": False}
    assert (plan.order, plan.offender, plan.need()["total_s"]) == (("nas1",), "nas1", 95)


def test_hostsync_is_that_of_the_primary_s_one_upsmon():
    power = {"ups1": ups(["nas1", "server1"], hostsync="15s"), "ups2": ups(["nas1", "desk1"], hostsync="90s")}
    assert [budget(name, power, STOPS).hostsync_s for name in power] == [90, 90]


def test_a_primary_waits_for_the_stop_of_its_slowest_secondary_and_hostsync():
    power = {"ups1": ups(["nas1", "server1", "desk1"]), "ups2": ups(["server1", "desk1"], "server1", hostsync="40s")}
    assert [patience_s(host, power, STOPS) for host in ("nas1", "desk1")] == [15 + 40 + 200, 40]
    assert patience_s("server1", power, STOPS) == 40 + STOPS["desk1"].seconds


def test_a_primary_with_two_supplies_waits_also_when_only_the_other_ups_has_secondaries():
    power = {"ups1": ups(["nas1", "server1"]), "ups2": ups(["nas1"])}
    assert [budget(name, power, STOPS).hostsync_s for name in power] == [15, 15]


def test_a_secondary_that_is_another_ups_s_primary_waits_for_those_there_first():
    power = {"ups1": ups(["nas1", "server1"]), "ups2": ups(["server1", "desk1"], "server1", hostsync="40s")}
    plan = budget("ups1", power, STOPS)
    assert plan.slowest_s == 240
    assert plan.words.startswith(
        "slowest secondary 200 (server1) + HOSTSYNC of server1 40 + HOSTSYNC 15 + primary 60 (nas1)"
    )
    assert (budget("ups2", power, STOPS).primary, budget("ups2", power, STOPS).need_s) == (
        "server1",
        10 + 40 + 200 + 5 + 30,
    )


def test_the_one_who_waits_longest_is_the_slowest():
    power = {"ups1": ups(["nas1", "server1", "desk1"]), "ups2": ups(["desk1", "desk2"], "desk1", hostsync="5m")}
    assert budget("ups1", power, STOPS).slowest == "desk1"


def test_a_measurement_counts_when_it_is_longer_and_is_named():
    measured = {
        "server1": Stop(250, "measured by a drill on 2026-11-26"),
        "nas1": Stop(5, "measured by a drill on 2026-11-26"),
    }
    known = stops({"server1": server(), "nas1": server(stop_time="60s")}, measured)
    assert known == {"server1": measured["server1"], "nas1": Stop(60)}
    plan = budget("ups1", {"ups1": ups(["nas1", "server1"])}, known)
    assert plan.words.startswith(
        "slowest secondary 250 (server1, measured by a drill on 2026-11-26) + HOSTSYNC 15 + primary 60 (nas1)"
    )
    assert plan.need()["slowest"] == {"host": "server1", "seconds": 250, "measured": True}


@pytest.mark.parametrize(
    ("more", "low", "missing"),
    [
        ({}, 310 + 60, 0),
        ({"runtime": "6m"}, 360, 0),
        ({"low_battery": "5m"}, 300, 10),
        ({"driver": "nutdrv_qx"}, None, 0),
        ({"driver": "nutdrv_qx", "runtime": "5m"}, None, 10),
    ],
)
def test_when_a_battery_counts_as_low(more, low, missing):
    plan = budget("ups1", {"ups1": ups(["nas1", "server1"], **more)}, STOPS)
    assert (plan.need_s, plan.low_s, plan.missing_s) == (310, low, missing)


def test_a_deputy_is_a_server_or_a_nas_and_never_the_primary():
    kinds = {"nas1": "nas", "desk1": "workstation", "server1": "server"}
    assert deputy(UPS, kinds) == "server1"
    assert deputy(ups(["server1", "nas1"], "server1"), kinds) == "nas1"
    assert deputy(ups(["nas1", "desk1"]), kinds) is None


def database(engine):
    return Item.model_validate({"database": {"engine": engine, "name": "clinic"}})


def test_what_the_applications_leave_of_a_host_s_time_is_for_its_databases():
    plan = units(server(applications=["pms.service", "web.service"]), [database("postgresql"), database("mariadb")])
    assert plan.databases == ("postgresql.service", "mariadb.service")
    assert plan.limits == {"pms.service": 30, "web.service": 30, "postgresql@.service": 140, "mariadb.service": 140}
    assert plan.need_s == 180


def test_a_limit_of_one_cluster_counts_instead_of_that_of_all():
    plan = units(server(stop_limits={"postgresql@17-main.service": "20s"}), [database("postgresql")])
    assert plan.need_s == 20 + FINAL_JOB_S
    assert plan.words == "databases 20 (postgresql@17-main.service) + the rest 10 = 30 s"


def test_a_file_that_is_a_database_has_no_unit():
    assert units(server(), [Item.model_validate({"database": {"engine": "sqlite", "path": "/srv/a.db"}})]).limits == {}


@pytest.mark.parametrize("stop_time", ["8s", "9s", "11s", "30s", "2h"])
def test_the_usual_limits_fit_into_any_time_that_leaves_room(stop_time):
    plan = units(server(stop_time=stop_time, applications=["pms.service"]), [database("mariadb")])
    assert min(plan.limits.values()) >= 1
    assert plan.need_s <= max(int(stop_time.rstrip("sh")) * (3600 if "h" in stop_time else 1), FINAL_JOB_S + 2)
