# SPDX-License-Identifier: Apache-2.0
"""The filters of power drills give data to what decides, and make its refusals Ansible's."""

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.holdfast.practice.plugins.filter import opening_seconds, power_scope, power_stop_times

WIRES = {
    "nas1": {"min_supplies": 1, "types": {"ups1": "primary"}, "values": {"ups1": 1}},
    "server1": {"min_supplies": 2, "types": {"ups1": "secondary", "ups2": "primary"}, "values": {"ups1": 1, "ups2": 1}},
    "desk1": {"min_supplies": 1, "types": {"ups1": "secondary", "ups2": "secondary"}, "values": {"ups1": 1, "ups2": 1}},
}


def test_who_takes_part_is_found_from_what_each_host_watches():
    found = power_scope.power_scope({name: WIRES[name] for name in ("nas1", "server1")}, "ups1")
    assert found == {"primary": "nas1", "going": ["nas1", "server1"], "stays": []}


def test_a_host_stays_only_as_long_as_its_other_ups_does():
    # server1 goes, and is the primary of ups2: desk1 goes with it
    assert power_scope.power_scope(WIRES, "ups1")["going"] == ["nas1", "server1", "desk1"]
    one = {**WIRES, "server1": {**WIRES["server1"], "min_supplies": 1}}
    assert power_scope.power_scope(one, "ups1") == {"primary": "nas1", "going": ["nas1"], "stays": ["server1", "desk1"]}


def test_an_unknown_ups_is_ansibles_error():
    with pytest.raises(AnsibleFilterError, match=r"ups3 has 0 primaries.*ups1, ups2"):
        power_scope.power_scope(WIRES, "ups3")


RECORD = {"boot_id": "b", "began": 1795636800.0, "seconds": 2.2, "on_battery": True, "units": {}}


def test_stops_are_added_to_what_is_kept(tmp_path):
    seen = {"server1": {"seconds": 2.2, "by": "host"}, "desk1": {"seconds": 6.7, "by": "drill"}}
    found = power_stop_times.power_stop_times({"server1": [RECORD]}, "harbour-street", str(tmp_path), seen)
    assert [(host, kept[0]["seconds"], kept[0]["by"]) for host, kept in found["hosts"].items()] == [
        ("desk1", 6.7, "drill"),
        ("server1", 2.2, "host"),
    ]
    (tmp_path / "results").mkdir()
    (tmp_path / "results/stop_times.json").write_text(json.dumps(found))
    again = power_stop_times.power_stop_times({"server1": [RECORD]}, "harbour-street", str(tmp_path))
    assert again == found


def test_what_is_kept_and_cannot_be_read_is_ansibles_error(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/stop_times.json").write_text("[")
    with pytest.raises(AnsibleFilterError, match="cannot be read"):
        power_stop_times.power_stop_times({}, "harbour-street", str(tmp_path))


@pytest.mark.parametrize(
    ("moment", "within", "open_s"),
    [
        ("2026-11-26T22:00:00+00:00", 1800, 1800.0),  # Friday 9:00 in Sydney
        ("2026-11-26T20:50:00+00:00", 1800, 1200.0),  # opens in ten minutes
        ("2026-11-26T20:00:00+00:00", 1800, 0.0),
        ("2026-11-28T22:00:00+00:00", 1800, 0.0),  # a Sunday
    ],
)
def test_a_practice_is_open_by_its_own_clock(moment, within, open_s):
    clock = mock.Mock(wraps=opening_seconds.dt.datetime)
    clock.now.return_value = opening_seconds.dt.datetime.fromisoformat(moment)
    with mock.patch.object(opening_seconds.dt, "datetime", clock):
        found = opening_seconds.opening_seconds({"mon-fri": "08:00-18:30"}, "Australia/Sydney", within)
    assert found == open_s


def test_a_practice_without_hours_is_never_open():
    assert opening_seconds.opening_seconds({}, "Australia/Sydney", 1800) == 0
