# SPDX-License-Identifier: Apache-2.0
"""Power that fails under a backup, on real machines. A fault is seen to have landed before what follows is judged.

Needs a furnished, converged lab, and root inside the lab's network namespace, as test_prove_faults.py does:
    HOLDFAST_PRACTICE=FOLDER HOLDFAST_LAB_FOLDER=/var/lib/holdfast-lab/NAME nsenter --net=/run/netns/NAME \
        .venv/bin/pytest tests/faults/test_gate_faults.py
"""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")

ADDRESSES = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
PASSWORD = """pw=$(sed -n '/^\\[drill\\]/,/password/s/.*password = "\\(.*\\)"/\\1/p' /etc/nut/upsd.users)"""
RESTIC = """
cd / && c=/etc/holdfast/credentials
export RESTIC_REPOSITORY=rest:https://198.18.0.11:8000/server1/ RESTIC_PASSWORD_FILE=$c/repository-password
export RESTIC_REST_USERNAME=$(cat $c/rest-username) RESTIC_REST_PASSWORD=$(cat $c/rest-password)
restic() { command restic --cacert /etc/holdfast/nas.pem --no-cache "$@"; }
set -eu
"""
LOCKS = "find /srv/holdfast/repositories/server1/locks -type f | wc -l"


def run(host: str, script: str) -> subprocess.CompletedProcess[str]:
    folder = os.environ["HOLDFAST_LAB_FOLDER"]
    options = ["-i", f"{folder}/ssh_key", "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "BatchMode=yes"]
    command = ["ssh", *options, "-o", "ConnectTimeout=5", f"root@{ADDRESSES[host]}", script]
    return subprocess.run(command, text=True, capture_output=True, check=False)


def ssh(host: str, script: str) -> str:
    done = run(host, script)
    assert done.returncode == 0, f"{host}: {done.stderr[-2000:]}"
    return done.stdout


def record(job: str) -> dict:
    return json.loads(ssh("server1", f"cat /var/lib/holdfast/status/{job}.json"))


def deferred(job: str) -> dict | None:
    found = ssh("server1", f"cat /var/lib/holdfast/deferred/{job}.json 2> /dev/null || true")
    return json.loads(found) if found else None


def until(what, seconds: float, every: float = 1.0):
    """Wait for a true value and give it back."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(every)
    return found


def set_ups(words: str) -> None:
    """Make the simulated UPS say this, and see that it does."""
    ssh("nas1", f"""{PASSWORD}; upsrw -s ups.status="{words}" -u drill -p "$pw" ups1@localhost""")
    until(lambda: ssh("nas1", "upsc ups1 ups.status 2> /dev/null").strip() == words, 10)


@pytest.fixture
def mains():
    set_ups("OL")
    yield
    set_ups("OL")
    for job in ("documents", "clinical_db"):
        ssh("server1", f"systemctl stop holdfast-backup@{job}.service; rm -f /var/lib/holdfast/deferred/{job}.json")


@pytest.fixture
def slow(mains):
    """300 MB that nothing can shrink, over a line of 4 MB/s: a run of more than a minute."""
    ssh("server1", "head -c 300M /dev/urandom > /srv/clinic/documents/letters/scan.bin")
    ssh("server1", "tc qdisc add dev host0 root tbf rate 32mbit burst 64kb latency 400ms")
    yield
    ssh("server1", "tc qdisc del dev host0 root 2> /dev/null; rm -f /srv/clinic/documents/letters/scan.bin")


def restics() -> str:
    """Command lines of every restic that runs on the server."""
    script = """for p in /proc/[0-9]*; do
      [ "$(cat $p/comm 2> /dev/null)" != restic ] || { tr '\\0' ' ' < $p/cmdline; echo; }
    done"""
    return ssh("server1", script)


def sending() -> bool:
    return " backup " in restics()


def stored_bytes() -> int:
    return int(ssh("nas1", "du -sb /srv/holdfast/repositories/server1/data").split()[0])


def begin(job: str) -> None:
    ssh("server1", f"systemctl start --no-block holdfast-backup@{job}.service")


def test_no_start_on_battery_and_one_by_itself_when_mains_are_back(mains):
    before = record("documents")["run"]
    set_ups("OB DISCHRG")
    begin("documents")
    note = until(lambda: deferred("documents"), 10)
    assert note["code"] == "on_battery"
    assert record("documents")["run"] == before
    settle = ssh(
        "server1", "systemctl show -p ExecMainStartTimestampMonotonic --value holdfast-settle@documents.service"
    )
    set_ups("OL")
    until(lambda: record("documents")["run"] != before, 90)
    assert record("documents")["state"] == "OK"
    assert deferred("documents") is None
    assert settle == ssh(
        "server1", "systemctl show -p ExecMainStartTimestampMonotonic --value holdfast-settle@documents.service"
    )


def test_a_running_backup_ends_cleanly_and_begins_again_by_itself(slow):
    before = record("documents")["run"]
    begin("documents")
    until(sending, 30, 0.3)
    time.sleep(8)
    assert sending()
    began = time.monotonic()
    set_ups("OB DISCHRG")
    note = until(lambda: deferred("documents"), 40)
    took = time.monotonic() - began
    ended = until(lambda: record("documents")["run"] != before and record("documents"), 10)
    assert ([reason["code"] for reason in ended["reasons"]], ended["state"]) == (["on_battery"], "FAILED")
    assert (note["code"], took < 30) == ("on_battery", True), took
    assert restics() == ""
    assert ssh("nas1", LOCKS).strip() == "0"
    assert stored_bytes() > 0
    ssh("server1", "tc qdisc del dev host0 root")
    set_ups("OL")
    again = until(lambda: record("documents")["run"] != ended["run"] and record("documents"), 120)
    assert again["state"] == "OK", again
    assert deferred("documents") is None
    ssh("server1", RESTIC + "restic check -q")


def test_a_blip_does_not_end_a_backup_and_a_low_battery_does_at_once(slow):
    before = record("documents")["run"]
    begin("documents")
    until(sending, 30, 0.3)
    set_ups("OB DISCHRG")
    time.sleep(8)
    set_ups("OL")
    time.sleep(12)
    assert sending()
    assert record("documents")["run"] == before
    # upsmon would stop the machines, which is what it is for
    monitors = ("nas1", "server1", "desk1")
    try:
        for host in monitors:
            ssh(host, "systemctl stop nut-monitor.service")
        began = time.monotonic()
        set_ups("OB LB")
        until(lambda: deferred("documents"), 20, 0.3)
        assert time.monotonic() - began < 12
    finally:
        set_ups("OL")
        for host in monitors:
            ssh(host, "systemctl start nut-monitor.service")


NOTES = "/var/lib/holdfast/unclean"
BROKEN = """
set -eu
file=$(su postgres -c "psql -XAt clinic -c \\"select setting || '/' || pg_relation_filepath('{index}') from pg_settings \
where name = 'data_directory'\\"")
su postgres -c "psql -Xq clinic -c checkpoint"
systemctl stop postgresql
before=$(sha256sum < "$file")
printf 'BROKENBROKENBROKENBROKEN' | dd of="$file" bs=1 seek=$((2 * 8192 - 400)) conv=notrunc status=none
[ "$before" != "$(sha256sum < "$file")" ]
systemctl start postgresql
"""


def marker() -> dict:
    return json.loads(ssh("server1", "cat /var/lib/holdfast/boot.json"))


def booted_again(how: str) -> None:
    """Restart the machine this way, and wait until it has written down its new boot."""
    before = marker()["boot_id"]
    run("server1", how)

    def back() -> bool:
        found = run("server1", "cat /var/lib/holdfast/boot.json; systemctl is-active postgresql.service >&2")
        return found.returncode == 0 and json.loads(found.stdout)["boot_id"] != before

    until(back, 60)


# of every database of the host; only the run of its own job takes a note away
NOTED = [f"{job}.json" for job in ("accounts", "clinical_db", "imaging", "laboratory", "recalls")]
OTHERS = [name for name in NOTED if name != "clinical_db.json"]


def notes() -> list[str]:
    return ssh("server1", f"ls {NOTES} 2> /dev/null || true").split()


@pytest.fixture
def sound():
    """No note of an earlier boot, and a sound database afterwards."""
    ssh("server1", f"rm -f {NOTES}/*")
    yield
    ssh(
        "server1",
        f"rm -f {NOTES}/*; su postgres -c 'reindexdb -q clinic'; systemctl start holdfast-backup@clinical_db.service",
    )


def test_a_machine_that_is_restarted_in_good_order_has_nothing_to_check(sound):
    booted_again("systemctl reboot")
    assert notes() == []


def test_after_a_hard_reset_the_database_is_checked_before_its_backup_counts(sound):
    booted_again("systemctl reboot --force --force")
    assert notes() == NOTED  # documents have no database
    ssh("server1", "systemctl start holdfast-backup@clinical_db.service")
    assert record("clinical_db")["state"] == "OK"
    assert notes() == OTHERS
    assert "found sound" in ssh("server1", "journalctl -b -t holdfast-backup --no-pager")
    assert ssh("server1", "su postgres -c \"psql -XAt clinic -c 'select extname from pg_extension'\"").split() == [
        "plpgsql"
    ]


def test_a_power_cut_during_a_run_damages_an_index(sound, slow):
    """The machine is killed; its run begins again by itself; the damage is found, and holds until it is mended."""
    before = record("documents")["run"]
    begin("documents")
    until(sending, 30, 0.3)
    module = "holdfast.practice.nspawn_machine"
    folder = os.environ["HOLDFAST_LAB_FOLDER"]
    lab = os.environ["HOLDFAST_LAB"]
    outside = {**os.environ, "ANSIBLE_INVENTORY_ENABLED": "host_list"}
    kill = ["ansible", "-i", "localhost,", "-c", "local", "localhost", "-m", module, "-e"]
    kill += ["ansible_python_interpreter={{ ansible_playbook_python }}", "-a"]
    options = f"name=server1 folder={folder}/machines/server1 state=killed"
    done = subprocess.run([*kill, options], env=outside, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run("server1", "true").returncode != 0
    up = ["ansible-playbook", "-i", "localhost,", "molecule/shared/create.yml", "-e", f"lab_name={lab}"]
    done = subprocess.run(up, env=outside, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: notes() == NOTED, 30)
    until(lambda: record("documents")["run"] != before and record("documents")["state"] == "OK", 60)

    sql = "select indexrelid::regclass from pg_index join pg_class on oid = indexrelid order by oid >= 16384 desc, relpages desc"
    index = ssh("server1", f"su postgres -c \"psql -XAt clinic -c '{sql} limit 1'\"").strip()
    ssh("server1", BROKEN.format(index=index))
    done = run("server1", "systemctl start holdfast-backup@clinical_db.service")
    assert done.returncode != 0
    found = record("clinical_db")
    assert ([reason["code"] for reason in found["reasons"]], found["state"]) == (["unclean_boot_damaged"], "INCOMPLETE")
    assert index in found["reasons"][0]["message"]
    assert (found["holds"], notes()) == (["unclean-boot"], NOTED)
    tagged = ssh("server1", RESTIC + f"restic snapshots --json --no-lock --tag run={found['run']},hold=unclean-boot")
    assert [each["tags"][3] for each in json.loads(tagged)] == ["part=oracle"]
    ssh("server1", "su postgres -c 'reindexdb -q clinic'")
    ssh("server1", "systemctl start holdfast-backup@clinical_db.service")
    assert (record("clinical_db")["state"], record("clinical_db")["holds"], notes()) == ("OK", [], OTHERS)
