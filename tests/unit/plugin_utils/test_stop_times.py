# SPDX-License-Identifier: Apache-2.0
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import stop_times
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import load_inventory
from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import Stop

REPOSITORY = Path(__file__).resolve().parents[3]
NOW = dt.datetime(2026, 11, 26, 20, 0, 0, tzinfo=dt.UTC)
BEGAN = 1795636800.25  # 2026-11-25T20:00:00Z


def record(seconds, began=BEGAN, **more):
    return {"boot_id": "b", "began": began, "seconds": seconds, "on_battery": True, "units": {}, **more}


def kept(tmp_path, content):
    (tmp_path / "results").mkdir()
    (tmp_path / stop_times.FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    return stop_times.stored(tmp_path, "harbour-street")


def test_the_longest_of_what_was_kept_counts_with_its_day(tmp_path):
    content = stop_times.merged(
        "harbour-street", {}, {"server1": [record(12.34), record(95.2, BEGAN + 100)]}, {"nas1": 30.5}, NOW
    )
    assert stop_times.longest(kept(tmp_path, content)) == {
        "nas1": Stop(31, "measured by a drill on 2026-11-26"),
        "server1": Stop(96, "measured by the host on 2026-11-25"),
    }


def test_one_stop_is_kept_once(tmp_path):
    first = stop_times.merged("harbour-street", {}, {"server1": [record(12)]}, {}, NOW)
    again = stop_times.merged(
        "harbour-street", first["hosts"], {"server1": [record(12), record(14, BEGAN + 60)]}, {}, NOW
    )
    assert [each["seconds"] for each in again["hosts"]["server1"]] == [12, 14]


@pytest.mark.parametrize("bad", [record(None), record(3, unfinished=True)])
def test_a_stop_that_was_cut_short_says_nothing(bad):
    assert stop_times.merged("harbour-street", {}, {"server1": [bad]}, {}, NOW)["hosts"] == {}


def test_only_the_newest_are_kept():
    records = [record(number, BEGAN + number) for number in range(30)]
    found = stop_times.merged("harbour-street", {}, {"server1": records}, {}, NOW)["hosts"]["server1"]
    assert [each["seconds"] for each in found] == [float(number) for number in range(10, 30)]


def test_nothing_measured_is_nothing(tmp_path):
    assert stop_times.stored(tmp_path, "harbour-street") == {}


@pytest.mark.parametrize(
    "content", ["{", "[]", {"format": "other"}, {"format": stop_times.FORMAT, "practice": "other"}]
)
def test_a_file_that_is_no_such_is_said(tmp_path, content):
    with pytest.raises(stop_times.InvalidStopTimesError, match=r"delete it, and run a power drill"):
        kept(tmp_path, content)


@pytest.fixture
def practice_folder(tmp_path):
    text = (REPOSITORY / "tests/bad_input/documents/good.txt").read_text()
    (tmp_path / "practice.yml").write_text(text)
    (tmp_path / "results").mkdir()
    return tmp_path


def measure(folder, seconds):
    content = stop_times.merged("harbour-street", {}, {"server1": [record(seconds)]}, {}, NOW)
    (folder / stop_times.FILE).write_text(json.dumps(content))


def validate(folder):
    command = [sys.executable, REPOSITORY / "bin/holdfast", "validate", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_validate_refuses_a_machine_that_was_seen_to_outlast_the_battery(practice_folder):
    measure(practice_folder, 170)  # written: 180
    assert validate(practice_folder).returncode == 0
    measure(practice_folder, 400)
    done = validate(practice_folder)
    assert done.returncode == 3
    assert (
        'power.ups1.runtime: got "10m": 600 s, 30 s too few; expected at least slowest secondary 400 (server1, measured by '
        "the host on 2026-11-25) + HOSTSYNC 15 + primary 180 (nas1) + FINALDELAY 5 + late hook 30 = 630 s; write a "
        "shorter stop_time of server1 where it stops sooner, feed fewer machines or get a larger UPS"
    ) in done.stdout


def test_what_was_measured_stops_no_backup(practice_folder):
    measure(practice_folder, 400)
    inventory = load_inventory(practice_folder / "practice.yml")
    assert inventory.host_vars["nas1"]["ups_watch_upses"][0]["need"]["total_s"] == 630


def test_a_spoilt_file_is_said_and_the_document_is_still_checked(practice_folder):
    (practice_folder / stop_times.FILE).write_text("{")
    done = validate(practice_folder)
    assert (done.returncode, "stop_times.json: cannot be read" in done.stdout) == (0, True)
