# SPDX-License-Identifier: Apache-2.0
"""The record of stops, and when a flag is believed."""

from __future__ import annotations

import errno
import json
import os
import time

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import power_stop
from ansible_collections.holdfast.practice.plugins.module_utils.power_stop import Places

POWEROFF, REBOOT = ["poweroff.target", "umount.target"], ["reboot.target"]


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path / "state", tmp_path / "run")
    found.state.mkdir()
    found.run.mkdir()
    return found


@pytest.mark.parametrize(
    ("age", "jobs", "ordered"),
    [
        (2.0, POWEROFF, True),
        (2.0, ["halt.target"], True),
        (-30.0, POWEROFF, True),  # the clock was set back in between
        (2.0, REBOOT, False),
        (2.0, [], False),
        (None, POWEROFF, False),
        (3600.0, POWEROFF, False),  # left by a shutdown that was called off
        (-3600.0, POWEROFF, False),
    ],
)
def test_a_flag_is_believed_once_and_for_switching_off(age, jobs, ordered):
    assert power_stop.is_ordered(age, jobs) is ordered


def test_jobs_are_read():
    listing = "12 poweroff.target start waiting\n13 nut-monitor.service stop running\n\n"
    assert power_stop.jobs_of(listing) == ["poweroff.target"]


def test_the_slowest_units():
    blocks = [f"Id=u{n}.service\nActiveExitTimestampMonotonic={n}000000\nInactiveEnterTimestampMonotonic={2 * n}500000"
              for n in range(1, 9)]  # fmt: skip
    blocks += ["Id=runs.service\nActiveExitTimestampMonotonic=9000000\nInactiveEnterTimestampMonotonic=0"]
    blocks += ["Id=never.service\nActiveExitTimestampMonotonic=0\nInactiveEnterTimestampMonotonic=0"]
    found = power_stop.slowest("\n\n".join(blocks), since_s=2.0)
    assert found == {"u8.service": 8.5, "u7.service": 7.5, "u6.service": 6.5, "u5.service": 5.5, "u4.service": 4.5}


def begun(boot, on_battery=False):
    return {"boot_id": boot, "began": 1000.0, "mono": 5.0, "on_battery": on_battery, "units": []}


def test_a_record_is_unfinished_until_it_is_finished():
    records = power_stop.with_begun([], begun("a"))
    assert records == [{"boot_id": "a", "began": 1000.0, "seconds": None, "on_battery": False, "units": {}}]
    records = power_stop.with_begun(records, begun("b", on_battery=True))
    records = power_stop.with_ended(records, "b", 12.345, {"x.service": 3.0})
    assert [(r["boot_id"], r["seconds"]) for r in records] == [("a", None), ("b", 12.35)]
    assert records[1]["units"] == {"x.service": 3.0}


def test_fifty_are_kept():
    records = []
    for number in range(60):
        records = power_stop.with_begun(records, begun(str(number)))
    assert [r["boot_id"] for r in records] == [str(n) for n in range(10, 60)]


@pytest.mark.parametrize(
    ("previous", "seconds", "on_battery", "outage"),
    [
        (None, None, False, False),  # the host was set up in this boot
        ("a", 10.0, False, False),
        ("a", 10.0, True, True),
        ("a", None, False, True),  # its power went while it stopped
        ("other", 10.0, False, True),  # its power went while it ran
    ],
)
def test_how_the_boot_before_ended(previous, seconds, on_battery, outage):
    records = power_stop.with_begun([], begun("a", on_battery))
    if seconds is not None:
        records = power_stop.with_ended(records, "a", seconds, {})
    assert power_stop.was_outage(previous, records) is outage


@pytest.fixture
def systemd(monkeypatch):
    said = {"is-system-running": "stopping\n", "list-jobs": "1 poweroff.target start waiting\n",
            "list-units": "a.service loaded active running A\n"}  # fmt: skip

    def ask(*command):
        if command[1] != "show":
            return said[command[1]]
        if "--value" in command:
            return f"{int((time.monotonic() - 3) * 1e6)}\n"
        stop = int((time.monotonic() - 2) * 1e6)
        return f"Id=a.service\nActiveExitTimestampMonotonic={stop}\nInactiveEnterTimestampMonotonic={stop + 1500000}\n"

    monkeypatch.setattr(power_stop, "ask", ask)
    return said


def test_a_stop_from_its_beginning_to_its_end(places, systemd, tmp_path):
    flag = tmp_path / "killpower"
    assert power_stop.start(places, flag) == 0
    flag.write_text("upsmon")
    assert power_stop.begin(places, flag) == 0
    assert places.ordered.exists()
    assert not flag.exists(), "Debian's own hook would act on it"
    assert [r["seconds"] for r in power_stop.read_stops(places.stops)] == [None]
    assert power_stop.end(places) == 0
    (record,) = power_stop.read_stops(places.stops)
    assert 3 <= record["seconds"] < 4
    assert (record["on_battery"], record["units"]) == (True, {"a.service": 1.5})


def test_a_clock_that_jumps_changes_no_figure(places, systemd, tmp_path, monkeypatch):
    power_stop.begin(places, tmp_path / "killpower")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    power_stop.end(places)
    assert 3 <= power_stop.read_stops(places.stops)[0]["seconds"] < 4


def test_a_restart_of_the_service_alone_is_no_stop(places, systemd, tmp_path):
    systemd["is-system-running"] = "running\n"
    flag = tmp_path / "killpower"
    flag.write_text("upsmon")
    power_stop.begin(places, flag)
    power_stop.end(places)
    assert flag.exists()
    assert not places.stops.exists()


def test_a_flag_and_a_mark_of_an_earlier_stop_are_gone_after_the_start(places, tmp_path):
    flag = tmp_path / "killpower"
    flag.write_text("upsmon")
    places.ordered.write_text("")
    places.boot.write_text("an-earlier-boot\n")
    power_stop.start(places, flag)
    assert not flag.exists()
    assert not places.ordered.exists()
    assert json.loads(places.came_back.read_text())["outage"] is True
    power_stop.start(places, flag)  # twice in one boot, as by an update
    assert json.loads(places.came_back.read_text())["outage"] is True


def test_records_that_cannot_be_read_are_put_aside(places, capsys):
    places.stops.write_text('[{"boot_id": ')
    assert power_stop.read_stops(places.stops) == []
    assert (places.state / "stops.json.unreadable").exists()
    assert "begin anew" in capsys.readouterr().err


def test_a_full_disk_takes_the_room_that_was_kept(places, monkeypatch, capsys):
    power_stop.keep_room(places)
    assert places.reserve.stat().st_size == power_stop.RESERVE
    real = os.fsync

    def full(handle):
        if places.reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    power_stop.put(places, places.stops, "[]\n")
    assert places.stops.read_text() == "[]\n"
    assert "no space left" in capsys.readouterr().err
    assert sorted(p.name for p in places.state.iterdir()) == ["stops.json"]


def test_a_write_that_fails_leaves_what_was_there(places, monkeypatch):
    power_stop.put(places, places.stops, "[1]\n")

    def broken(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        power_stop.put(places, places.stops, "[2]\n")
    assert places.stops.read_text() == "[1]\n"


@pytest.mark.parametrize("words", [[], ["start"], ["other", "x"], ["end", "x"]])
def test_other_words_are_refused(words):
    assert power_stop.main(words) == 2
