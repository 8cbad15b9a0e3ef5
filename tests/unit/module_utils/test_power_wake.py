# SPDX-License-Identifier: Apache-2.0
"""Who is woken after an outage, who stays counted during one, and when."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nut, power_hold, power_wake

MAC = "52:54:00:12:34:56"
CONFIG = {"wake": [MAC], "peers": ["198.18.0.12", "198.18.0.13"], "ups": ["ups1"], "limit_s": 300}


def test_a_magic_packet():
    packet = power_wake.magic_packet(MAC)
    assert packet[:6] == b"\xff" * 6
    assert packet[6:] == bytes.fromhex("525400123456") * 16
    with pytest.raises(ValueError, match="expected a MAC"):
        power_wake.magic_packet("52:54")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def watched(look, config=CONFIG):
    clock, woken = Clock(), []
    absent = power_wake.watch(
        config, lambda: look(clock.now - 100), lambda _: woken.append(clock.now - 100), clock, clock.sleep
    )
    return absent, woken, clock.now - 100


def test_nobody_is_woken_before_the_mains_are_back():
    absent, woken, took = watched(lambda t: (t >= 40, CONFIG["peers"] if t >= 90 else []))
    assert (absent, woken, took) == ([], [40, 46, 60], 90)


def test_who_does_not_come_back_is_named():
    absent, woken, took = watched(lambda t: (True, ["198.18.0.12"]))
    assert (absent, took) == (["198.18.0.13"], 300)
    assert len(woken) == len(power_wake.ROUNDS_S)


def test_mains_that_stay_away_wake_nobody():
    absent, woken, took = watched(lambda t: (False, []))
    assert (absent, woken, took) == (CONFIG["peers"], [], 300)


def test_without_hosts_to_wait_for_it_wakes_all_the_same():
    absent, woken, took = watched(lambda t: (True, []), {**CONFIG, "peers": []})
    assert (absent, len(woken), took) == ([], len(power_wake.ROUNDS_S), 60)


def test_without_addresses_it_only_looks():
    assert watched(lambda t: (True, CONFIG["peers"]), {**CONFIG, "wake": []}) == ([], [], 0)


TEXT = """\
# comment
MONITOR ups1@198.18.0.11 1 server1 "Pa55-word" secondary
MONITOR ups2@127.0.0.1 1 server1 "Pa55-word" primary
MINSUPPLIES 1
"""
SUPPLY = power_hold.Supply("ups1", "198.18.0.11", "server1", "Pa55-word")


def test_a_host_is_held_only_where_it_is_a_secondary():
    assert power_hold.supplies_of(TEXT) == [SUPPLY]


class Server:
    def __init__(self, *statuses):
        self.statuses, self.did = list(statuses), []

    def state(self, ups):
        status = self.statuses.pop(0)
        if isinstance(status, Exception):
            raise status
        return nut.UpsState(tuple(status.split()), None, None, None, None)

    def login(self, user, password):
        self.did.append("login")

    def attach(self, ups):
        self.did.append(f"attach {ups}")

    def close(self):
        self.did.append("close")


STALE, GONE = nut.NutError("DATA-STALE", "stale"), nut.NutError(nut.UNREACHABLE, "gone")


@pytest.mark.parametrize(
    ("statuses", "did"),
    [
        (("OL", "OL"), []),
        (("OL", "OB DISCHRG", "OB LB", "FSD OB LB"), ["login", "attach ups1"]),
        (("OB", "OL"), ["login", "attach ups1", "close"]),
        (("OB", STALE, "OB"), ["login", "attach ups1"]),  # still counted
        (("OB", GONE), ["login", "attach ups1", "close"]),
    ],
)
def test_a_secondary_is_counted_while_its_ups_is_on_battery(statuses, did):
    server, wire = Server(*statuses), None
    for _ in statuses:
        wire = power_hold.tend(SUPPLY, wire, lambda address: server)
    assert server.did == did


def test_a_primary_that_is_off_is_asked_again():
    def refused(address):
        raise GONE

    assert power_hold.tend(SUPPLY, None, refused) is None
