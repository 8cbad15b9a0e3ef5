# SPDX-License-Identifier: Apache-2.0
"""What surrounds NUT on a host: order and bounds of a stop, the late hook, who may ask."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import power_host
from ansible_collections.holdfast.practice.plugins.module_utils.power_host import Surroundings

APP, DATABASE = "pms.service", "postgresql@17-main.service"
SERVER = Surroundings(stop_s=180, applications=(APP,), databases=(DATABASE,), unit_stop_s={DATABASE: 140})
PRIMARY = Surroundings(stop_s=60, peers=("198.18.0.12", "2001:db8::1"), return_peers=("198.18.0.12",), return_wait_s=45)


def files(around, primary, found=(), holding=False):
    want = power_host.wanted(around, primary, ["ups1"], power_host.FLAG, {"power_stop.py": "x"}, found, holding)
    return {f.path: None if f.content is None else f.content.decode() for f in want.files}


def drop_in(texts, unit):
    return texts[f"/etc/systemd/system/{unit}.d/holdfast-power.conf"]


def test_applications_stop_before_databases_and_both_are_bounded():
    texts = files(SERVER, primary=False, holding=True)
    assert f"After={power_host.HOLD} {DATABASE}\n[Service]\nTimeoutStopSec=45s\n" in drop_in(texts, APP)
    assert f"After={power_host.HOLD} local-fs.target remote-fs.target network.target\n" in drop_in(texts, DATABASE)
    assert "TimeoutStopSec=140s" in drop_in(texts, DATABASE)
    assert "JobTimeoutSec=170s\nJobTimeoutAction=poweroff-force" in drop_in(texts, "poweroff.target")
    assert not [path for path in texts if "reboot" in path]
    assert "DefaultTimeoutStopSec=45s" in texts["/etc/systemd/system.conf.d/holdfast-power.conf"]


def test_units_in_an_order_of_their_own():
    texts = files(
        Surroundings(stop_units=({"units": ["a.service"], "before": ["b.service", "a.service"]},)), primary=False
    )
    assert drop_in(texts, "a.service").endswith("After=b.service\n")
    assert "/etc/systemd/system/b.service.d/holdfast-power.conf" not in texts
    assert not [path for path in texts if "target.d" in path or "system.conf.d" in path]


def test_what_an_earlier_document_ordered_goes():
    old = "/etc/systemd/system/old.service.d/holdfast-power.conf"
    stale = f"{power_host.LIB}/{power_host.PACKAGE}/older.py"
    want = power_host.wanted(SERVER, False, [], power_host.FLAG, {}, [old, stale], holding=True)
    assert {f.path for f in want.files if f.content is None} >= {old, stale, power_host.HOOK}
    assert [d.path for d in want.dirs if d.absent] == ["/etc/systemd/system/old.service.d"]
    gone = power_host.absent(power_host.FLAG, ["power_stop.py"], [old])
    assert {f.path for f in gone.files} >= {
        old,
        power_host.HOOK,
        power_host.RULES,
        "/var/lib/holdfast-power/stops.json",
    }
    assert all((unit.enabled, unit.active) == (False, False) for unit in gone.units)


@pytest.mark.parametrize(
    ("offdelays", "seconds"), [([], 0), ([20], 45), ([20, "50"], 75), (["text"], 45)]
)  # fmt: skip
def test_the_wait_for_the_power_to_go(offdelays, seconds):
    assert power_host.return_wait_s(offdelays) == seconds


def test_only_a_primary_has_a_hook_a_firewall_and_a_wake():
    only = (power_host.HOOK, power_host.RULES, power_host.WAKE_CONFIG, f"/etc/systemd/system/{power_host.WAKE}")
    assert all(files(PRIMARY, primary=True)[path] for path in only)
    assert not any(files(PRIMARY, primary=False)[path] for path in only)
    alone = files(Surroundings(), primary=True)
    assert alone[power_host.HOOK]
    assert not any(alone[path] for path in only[1:])


def test_the_firewall_speaks_of_one_port_in_one_table():
    text = power_host.render_rules(PRIMARY.peers)
    assert "ip saddr { 198.18.0.12 } accept" in text
    assert "ip6 saddr { 2001:db8::1 } accept" in text
    assert "flush" not in text
    tables = [line for line in text.splitlines() if line.startswith(("table", "delete"))]
    assert len(tables) == 3
    assert all("table inet holdfast_power" in line for line in tables)


@pytest.mark.parametrize("wait_s", [0, 45])
def test_the_hook_is_a_shell_script(wait_s):
    text = power_host.render_hook(wait_s)
    assert text.startswith("#!/bin/sh\n")
    assert ("systemctl reboot --force --force" in text) is bool(wait_s)
    subprocess.run(["sh", "-n"], input=text.encode(), check=True)


@pytest.mark.parametrize(
    ("around", "message"),
    [
        (Surroundings(applications=("pms",)), '"pms" is not the name of a unit'),
        (Surroundings(unit_stop_s={"a b.service": 3}), "not the name of a unit"),
        (Surroundings(stop_units=({"units": [APP], "before": ["x\n.service"]},)), "not the name of a unit"),
        (Surroundings(applications=(APP,), databases=(APP,)), "both an application and a database"),
        (Surroundings(stop_s=5), "at least 8"),
        (Surroundings(unit_stop_s={APP: 0}), "at least 1"),
        (Surroundings(stop_s=60, unit_stop_s={APP: 55}), "after 50"),
        (Surroundings(peers=("nas1",)), "not an address"),
        (Surroundings(wake=("52:54:00",)), "not a MAC address"),
        (Surroundings(return_wait_s=90), "expected 0 to 75"),
    ],
)
def test_what_is_refused(around, message):
    assert message in "; ".join(power_host.faults_of(around))


def test_what_is_fine():
    assert power_host.faults_of(SERVER) == power_host.faults_of(PRIMARY) == []
    assert power_host.faults_of(Surroundings(databases=("postgresql@.service",))) == []
