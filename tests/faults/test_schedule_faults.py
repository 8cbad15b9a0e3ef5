# SPDX-License-Identifier: Apache-2.0
"""What a schedule has to stand: a machine that is off for days, and a window that ends before the backup does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults_lab import REPO, ssh

JOB = "desk_files"
UNIT = f"holdfast-backup@{JOB}.service"
STAMP = f"var/lib/systemd/timers/stamp-holdfast-backup@{JOB}.timer"
RECORD = f"var/lib/holdfast/status/{JOB}.json"
JOB_FILE = f"/etc/holdfast/jobs/{JOB}.json"
BIG = "/home/reception/Documents/scan"
DAYS_S = 3 * 86400
# the timer's own delay comes on top of the start
PATIENCE_S = 300 + 180


def until(what, happened, seconds):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(1)


def on_nas():
    """Snapshots of the desk as the NAS has them: nobody asks the desk itself."""
    return set(ssh("nas1", "ls /srv/holdfast/repositories/desk1/snapshots").split())


def machine():
    return Path(os.environ["HOLDFAST_LAB_FOLDER"]) / "machines" / "desk1"


def is_off():
    events = [json.loads(line) for line in (machine() / "events.jsonl").read_text().splitlines()]
    return events[-1]["event"] not in ("started", "starting")


def disk():
    """The machine's disk, seen from outside."""
    root = machine() / "root"
    return root if os.path.ismount(root) else machine() / "up"


def switch_on():
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "ANSIBLE_INVENTORY_ENABLED": "host_list"}
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "localhost,",
        "molecule/shared/create.yml",
    ]
    command += ["-e", f"lab_name={os.environ['HOLDFAST_LAB']}"]
    done = subprocess.run(command, cwd=REPO, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_workstation_switched_off_for_three_days_catches_up_without_anyone():
    ssh("desk1", f"systemctl start holdfast-backup@{JOB}.timer {UNIT}")
    good = json.loads(ssh("desk1", f"cat /{RECORD}"))
    assert good["state"] == "OK"
    boot = ssh("desk1", "cat /proc/sys/kernel/random/boot_id; sync")
    known = on_nas()
    ssh("desk1", "systemd-run --quiet --on-active=1 systemctl poweroff")
    until("end of the machine", is_off, 60)

    # three days pass
    then = time.time() - DAYS_S
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))
    os.utime(disk() / STAMP, (then, then))
    old = {**good, "started": text, "finished": text, "last_ok": {**good["last_ok"], "finished": text}}
    (disk() / RECORD).write_text(json.dumps(old))
    assert time.time() - (disk() / STAMP).stat().st_mtime >= DAYS_S - 1, "the fault did not land"
    assert json.loads((disk() / RECORD).read_text())["finished"] == text, "the fault did not land"
    assert on_nas() == known

    on_at = time.time()
    switch_on()
    until("backup on the NAS", lambda: len(on_nas() - known) >= 2, PATIENCE_S)
    time.sleep(10)  # a second run would begin now
    new = on_nas() - known
    found = json.loads(ssh("desk1", f"cat /{RECORD}"))
    assert ssh("desk1", "cat /proc/sys/kernel/random/boot_id") != boot
    assert (found["state"], found["reasons"]) == ("OK", [])
    assert {part for part in found["snapshots"].values() if part} == new, "not exactly one run"
    began, ended = (
        time.mktime(time.strptime(found[key], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone for key in ("started", "finished")
    )
    assert began > on_at - 1
    said = ssh(
        "desk1", f"journalctl -b -q --no-pager -o cat -t holdfast-backup | grep '^{JOB}: .* after '"
    ).splitlines()
    assert len(said) == 1, said
    logins = ssh("desk1", "journalctl -b -q --no-pager -o short-unix | grep 'Accepted ' | cut -d. -f1").split()
    assert logins, "the journal would not show a login: this proves nothing"
    assert min(float(at) for at in logins) > ended, "somebody logged in before the run had ended"


@pytest.fixture
def big_file():
    """Too much for the time that is left, and the job as it was afterwards."""
    ssh("desk1", f"cp -a {JOB_FILE} /root/job.kept; head -c 3000000 /dev/urandom > {BIG}")
    yield
    ssh(
        "desk1",
        f"systemctl stop {UNIT}; mv /root/job.kept {JOB_FILE}; rm -f {BIG}; systemctl reset-failed {UNIT} || true",
    )


def window_that_ends_soon(keys):
    """Give the job a window whose last minute this is or the next one; returns it as written."""
    zone = json.loads(ssh("desk1", f"cat {JOB_FILE}"))["timezone"]
    until("time that is left in this minute", lambda: int(time.strftime("%S")) < 35, 60)
    start, end = (ssh("desk1", f"TZ={zone} date -d '{shift}' +%H:%M").strip() for shift in ("-2 hours", "+1 min"))
    text = json.dumps({"window": f"{start}-{end}", **keys})
    script = "import json, sys; f, new = sys.argv[1:]; j = {**json.load(open(f)), **json.loads(new)}; json.dump(j, open(f, 'w'))"
    ssh("desk1", f"python3 -c \"{script}\" {JOB_FILE} '{text}'")
    return f"{start}-{end}"


def test_the_end_of_a_window_stops_the_run_and_is_named(big_file):
    """B03. 3 MB at 100 kbit/s take four minutes; the window lasts one."""
    known = on_nas()
    window = window_that_ends_soon({"limits": {"00:00-12:00": 100000, "12:00-00:00": 100000}})
    ssh("desk1", f"systemctl start --wait {UNIT} || true")
    found = json.loads(ssh("desk1", f"cat /{RECORD}"))
    assert (found["state"], [each["code"] for each in found["reasons"]]) == ("FAILED", ["window_ended"])
    assert window in found["reasons"][0]["message"]
    assert on_nas() == known
    assert ssh("desk1", "pgrep -x restic || true") == ""


def test_a_run_goes_on_after_its_window_at_its_own_rate(big_file):
    """B03. The window lasts a minute, the backup two to three."""
    limits = {"00:00-12:00": 200000, "12:00-00:00": 200000}
    window = window_that_ends_soon({"limits": limits, "at_window_end": "throttle", "throttle": 150000})
    ssh("desk1", f"systemctl start {UNIT}")
    found = json.loads(ssh("desk1", f"cat /{RECORD}"))
    assert (found["state"], found["reasons"]) == ("OK", [])
    # 3 MB are 24 Mbit: 120 s at the first rate, 160 s at the second
    assert 115 < found["seconds"] < 240
    said = ssh("desk1", f"journalctl -b -q --no-pager -o cat -t holdfast-backup | grep 'the window {window} ended'")
    assert "goes on at 150 kbit/s" in said
