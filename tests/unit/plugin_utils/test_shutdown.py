# SPDX-License-Identifier: Apache-2.0
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Ups
from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import budget

UPS = Ups(attached_to="nas1", driver="usbhid-ups", feeds=["nas1", "desk1", "server1"], runtime="5m", hostsync="120s")


def test_the_primary_stops_last_and_the_others_in_the_document_s_order():
    assert budget(UPS, {"nas1": 60, "desk1": 10, "server1": 180}).order == ("desk1", "server1", "nas1")


def test_the_sum_is_written_out_and_the_margin_is_what_the_battery_has_left():
    plan = budget(UPS, {"nas1": 60, "desk1": 10, "server1": 200})
    assert plan.words == "HOSTSYNC 120 + slowest stop 200 (server1) + FINALDELAY 5 = 325 s"
    assert plan.figures() == {
        "order": ["desk1", "server1", "nas1"],
        "slowest": "server1",
        "hostsync_s": 120,
        "slowest_stop_s": 200,
        "finaldelay_s": 5,
        "need_s": 325,
        "margin_s": -25,
    }
