# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a backup under way, made on real machines: the row "Backup path" of every fault we promise to hold.

Needs what test_prove_faults.py needs. The job `documents` of server1 is the one that suffers. Every test sees its fault
land before it judges, and leaves the machines as it found them: what a test stored on the NAS is taken away again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from faults_lab import ADDRESSES, REPOSITORY, RESTIC, Practice, ssh

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")

FOLDER = "/srv/clinic/documents"
BIG = f"{FOLDER}/fault.bin"
UNIT = "holdfast-backup@documents.service"
TIMERS = "'holdfast-backup@*.timer'"
STATUS = "/var/lib/holdfast/status/documents.json"
MIB = 1 << 20
KINDS = ("keys", "data", "index", "snapshots")


def record(job: str = "documents") -> dict:
    return json.loads(ssh("server1", f"cat /var/lib/holdfast/status/{job}.json"))


def codes(found: dict) -> list[str]:
    return [reason["code"] for reason in found["reasons"]]


def start(unit: str = UNIT) -> None:
    ssh("server1", f"systemctl start --no-block {unit}")


def is_active(unit: str = UNIT) -> bool:
    return ssh("server1", f"systemctl show --value -p ActiveState {unit}").strip() in (
        "active",
        "activating",
        "deactivating",
    )


def until(what: str, true, seconds: float, step: float = 0.5) -> None:
    """Wait for a condition; fail by name when it does not come in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(step)


def ended(seconds: float, unit: str = UNIT) -> None:
    until("the end of the run", lambda: not is_active(unit), seconds)


def run(seconds: float = 180) -> dict:
    """Run the job as its timer does; its record."""
    before = record()["run"]
    start()
    ended(seconds)
    found = record()
    assert found["run"] != before, "no run was recorded"
    return found


def by_timer(seconds: float = 180) -> dict:
    """The next run, started by the timer and by nobody else."""
    before = record()["run"]
    soon = "/run/systemd/system/holdfast-backup@documents.timer.d"
    text = "[Timer]\\nOnActiveSec=1s\\nAccuracySec=100ms\\nRandomizedDelaySec=0\\n"
    ssh("server1", f"mkdir -p {soon}; printf '{text}' > {soon}/soon.conf; systemctl daemon-reload")
    try:
        ssh("server1", "systemctl restart holdfast-backup@documents.timer")
        until("a run by the timer", lambda: record()["run"] != before and not is_active(), seconds)
    finally:
        ssh("server1", f"rm -r {soon}; systemctl daemon-reload; systemctl stop holdfast-backup@documents.timer")
    return record()


def unit_state() -> str:
    return ssh("server1", f"systemctl show --value -p ActiveState {UNIT}").strip()


def journal(since: float, unit: str = "holdfast-backup", host: str = "server1") -> str:
    return ssh(host, f"journalctl --no-pager -o cat -t {unit} --since @{since:.0f}")


def snapshots(host: str = "server1") -> set[str]:
    return set(ssh("nas1", f"ls /srv/holdfast/repositories/{host}/snapshots").split())


def stored() -> int:
    """Bytes of server1's data on the NAS, half uploads included."""
    return int(ssh("nas1", f"find {REPOSITORY}/data -type f -printf '%s\\n' | awk '{{n += $1}} END {{print n + 0}}'"))


def restores(oracle: dict) -> None:
    """The files of a run come back as they are on the disk; only what a test added may be missing."""
    snapshot = oracle["snapshots"]["files"]
    ssh(
        "server1",
        RESTIC
        + f"""
rm -rf /root/back; restic restore -q --no-lock {snapshot} --target /root/back
diff -r --exclude=fault.bin {FOLDER} /root/back{FOLDER}; test -d /root/back{FOLDER}/letters; rm -rf /root/back
""",
    )


def oracle_of() -> dict:
    return json.loads(ssh("server1", "cat /var/lib/holdfast/oracle/documents.json"))


def make_big(mib: int) -> None:
    """Data that cannot be compressed or known to the repository already."""
    ssh("server1", f"head -c {mib}M /dev/urandom > {BIG}")


def slow_down(rate: str) -> None:
    ssh("server1", f"tc qdisc replace dev host0 root tbf rate {rate} burst 64kb latency 200ms")


def full_speed() -> None:
    ssh("server1", 'tc qdisc del dev host0 root 2>/dev/null || test -z "$(tc qdisc show dev host0 | grep tbf)"')


def link(state: str, host: str = "server1") -> None:
    subprocess.run(["ip", "link", "set", f"vb-{host}", state], check=True)
    if state == "up":
        until("the way to the machine", lambda: answers(host), 30)


def answers(host: str = "server1") -> bool:
    """Does its ssh server?"""
    with contextlib.suppress(OSError), socket.create_connection((ADDRESSES[host], 22), 1):
        return True
    return False


def uploading(least: int = 8 * MIB, seconds: float = 120) -> int:
    """Wait until this run's data arrives at the NAS; how much was there before."""
    before = stored()
    start()
    until("the upload", lambda: stored() > before + least, seconds)
    return before


def limit(seconds: int) -> None:
    """Give the job a time limit, in its file and in its unit."""
    edit_job(f"job['time_limit_s'] = {seconds}")
    ssh(
        "server1",
        f"""
d=/run/systemd/system/{UNIT}.d; mkdir -p $d; printf '[Service]\\nTimeoutStartSec={seconds}\\n' > $d/zz-fault.conf
systemctl daemon-reload""",
    )


def edit_job(python: str) -> None:
    text = f"""
import json
path = '/etc/holdfast/jobs/documents.json'
job = json.load(open(path)); {python}; json.dump(job, open(path, 'w'))
"""
    ssh("server1", "python3 -", text)


@pytest.fixture(autouse=True)
def machines():
    """Timers held still during a test. Afterwards: link, speed, data, job, records and repository as before."""
    saved = f"/root/saved-{uuid.uuid4().hex}.tar"
    ssh("server1", f"systemctl stop {TIMERS}; tar -C / -cf {saved} etc/holdfast var/lib/holdfast")
    files = f"cd {REPOSITORY} && find . -type f | sort"
    before = set(ssh("nas1", files).split())
    assert not is_active()
    began = time.time()
    yield began
    link("up")
    full_speed()
    ssh(
        "server1",
        f"""set -e
systemctl stop {UNIT}
rm -rf {BIG} /root/back /run/systemd/system/holdfast-backup@documents.*
systemctl daemon-reload; systemctl reset-failed
rm -rf /etc/holdfast /var/lib/holdfast; tar -C / -xpf {saved}; rm {saved}
cd /etc/systemd/system; systemctl start holdfast-backup@*.timer""",
    )
    now = set(ssh("nas1", files).split())
    # locks come and go; what else is gone is a loss
    lost = {name for name in before - now if not name.startswith("./locks/")}
    ssh("nas1", f"cd {REPOSITORY} && xargs -r rm -f --", "\n".join(sorted(now - before)))
    assert not lost, f"lost on the NAS: {sorted(lost)[:5]}"


@pytest.fixture
def practice(tmp_path):
    copy = tmp_path / "harbour-street"
    shutil.copytree(os.environ["HOLDFAST_PRACTICE"], copy, ignore=shutil.ignore_patterns("evidence", "results"))
    return Practice(copy)


# --- B01: killed -------------------------------------------------------------------------------------------------------


def test_a_run_killed_at_half_its_way(machines):
    """B01. 300 MB at 12 MB/s stand for the row's 2 GB: what counts is that half of it is on the NAS."""
    good, known = oracle_of(), snapshots()
    make_big(300)
    slow_down("100mbit")
    before = uploading()
    until("half of the upload", lambda: stored() - before > 150 * MIB, 120)
    ssh("server1", f"systemctl kill -s KILL {UNIT}")
    ended(30)
    sent = (stored() - before) / MIB
    # packs that were half there go with the connection
    assert 80 < sent < 250, f"the fault did not land: {sent:.0f} MiB were on the NAS"
    assert unit_state() == "failed"
    until("the record", lambda: record()["started"] > good["taken"], 10)
    found = record()
    assert (found["state"], codes(found)) == ("FAILED", ["killed"])
    assert found["last_ok"]["run"] == good["run"], "the last good run must stay known"
    assert snapshots() == known, "half a run became a snapshot"
    assert ssh("nas1", f"ls {REPOSITORY}/locks").split(), "restic left no lock: it was not killed at work"
    assert "FAILED" in journal(machines)
    full_speed()
    restores(good)
    again = by_timer()
    assert (again["state"], again["reasons"]) == ("OK", [])
    assert len(snapshots() - known) == 2, "one of files and one of the oracle"


# --- B02: the link is cut ----------------------------------------------------------------------------------------------


def test_a_link_that_is_away_for_a_minute(machines):
    """B02, short: restic tries again and the run ends well."""
    make_big(160)
    slow_down("50mbit")
    before = uploading()
    link("down")
    try:
        time.sleep(10)
        first = stored()
        assert not answers(), "the fault did not land"
        time.sleep(45)
        assert stored() == first, "the fault did not land: data arrived while the link was down"
        time.sleep(5)
    finally:
        link("up")
    assert first - before < 140 * MIB, "the upload was over before the link went"
    full_speed()
    ended(240)
    found = record()
    assert (found["state"], found["reasons"]) == ("OK", [])
    assert found["seconds"] > 60
    restores(oracle_of())


@pytest.mark.parametrize(
    ("seconds", "away", "expected"),
    [(60, 130, ["time_limit", "nas_unreachable"]), (0, 400, ["nas_unreachable"])],
    ids=["longer than the time limit", "longer than the agent's patience"],
)
def test_a_link_that_stays_away(seconds, away, expected):
    """B02, long: the run ends, by its time limit (here 60 s) or after five minutes of silence, and says that the NAS is away.

    restic alone was still silent 50 minutes after such a cut, and 12 minutes after the link was back.
    """
    known = snapshots()
    make_big(160)
    slow_down("50mbit")
    if seconds:
        limit(seconds)
    before = record()["run"]
    uploading()
    link("down")
    try:
        assert not answers(), "the fault did not land"
        time.sleep(away)
        up_again = time.time()
    finally:
        link("up")
    assert not is_active(), "the run went on although the link was gone"
    found = record()
    assert found["run"] != before
    assert (found["state"], codes(found)) == ("FAILED", expected), found["reasons"]
    assert time.strptime(found["finished"], "%Y-%m-%dT%H:%M:%SZ") < time.gmtime(up_again), "it ended only with the link"
    assert snapshots() == known
    assert unit_state() == "failed"
    full_speed()
    if seconds:
        limit(600)
    assert run()["state"] == "OK"
    ssh("server1", RESTIC + "restic check -q --no-lock --read-data")


# --- B03: slow and lossy -----------------------------------------------------------------------------------------------


def test_a_link_too_slow_for_the_time_limit(machines):
    """B03. 2 Mbit/s, and a queue so short that packets are lost all the time: this kernel has no netem to delay them."""
    known = snapshots()
    make_big(60)
    limit(60)
    shape = [
        "tc",
        "qdisc",
        "replace",
        "dev",
        "vb-nas1",
        "root",
        "tbf",
        "rate",
        "2mbit",
        "burst",
        "5kb",
        "limit",
        "15000",
    ]
    subprocess.run(shape, check=True)
    try:
        start()
        until("the run", is_active, 10)
        time.sleep(20)
        show = subprocess.run(
            ["tc", "-s", "qdisc", "show", "dev", "vb-nas1"], capture_output=True, text=True, check=True
        )
        dropped = int(show.stdout.split("dropped ")[1].split(",")[0])
        assert dropped > 20, f"the fault did not land: {dropped} packets were lost"
        start()  # the timer, while it runs
        by_hand = ssh("server1", "/usr/lib/holdfast/agent run documents; echo $?")
        assert by_hand.split()[-1] == "4"
        assert "another run of this job is under way" in by_hand
        # (of one run two restics may be at work: the one that is to store the oracle waits)
        assert ssh("server1", "pgrep -fc '[h]oldfast/agent run documents'").strip() == "1", "two runs at once"
        ended(150)
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "vb-nas1", "root"], check=True)
    found = record()
    assert (found["state"], codes(found)[0]) == ("FAILED", "time_limit")
    assert "60 s" in found["reasons"][0]["message"], "the message names the limit"
    assert 55 < found["seconds"] < 120
    assert journal(machines).count("new or changed, ") == 1, "a second run began"
    assert snapshots() == known
    limit(600)
    assert run()["state"] == "OK"


# --- B05: a volume that is not mounted ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ("job['must_have'] = []", "mount_missing"),
        ("job['mounts'] = []", "must_have_missing"),
        ("job.update(mounts=[], must_have=[])", "too_few_files"),
    ],
    ids=["seen as a mount before", "must_have", "nothing said"],
)
def test_a_volume_that_is_not_mounted(job, code):
    """B05. The data lie on a volume of their own; at the time of the run its empty mount point is all there is."""
    good, known = oracle_of(), snapshots()
    edit_job(job)
    mount = f"mv {FOLDER} /srv/volume && mkdir {FOLDER} && mount --bind /srv/volume {FOLDER}"
    ssh("server1", mount)
    try:
        assert run()["state"] == "OK", "mounted, all is well"
        known = snapshots()
        ssh("server1", f"umount {FOLDER}")
        assert ssh("server1", f"ls {FOLDER}") == "", "the fault did not land"
        found = run()
        ssh("server1", f"mount --bind /srv/volume {FOLDER}")
        assert (found["state"], codes(found)) == ("FAILED", [code])
        assert "is a disk not mounted?" in found["reasons"][0]["message"]
        assert snapshots() == known, "an empty folder became the newest backup"
        assert found["last_ok"]["run"] == oracle_of()["run"] != good["run"]
        assert run()["state"] == "OK"
    finally:
        ssh("server1", f"umount -q {FOLDER} || true; rmdir {FOLDER} && mv /srv/volume {FOLDER}")


# --- B07: no room ------------------------------------------------------------------------------------------------------

COPIED = "holdfast-backup@fault_copy.service"
COPY_JOB = """
import json, sqlite3, os
job = json.load(open('/etc/holdfast/jobs/documents.json'))
job.update(name='fault_copy', item='fault_copy', paths=[], must_have=[],
           database={'engine': 'sqlite', 'path': '/srv/fault/pms.db'})
json.dump(job, open('/etc/holdfast/jobs/fault_copy.json', 'w'))
os.makedirs('/srv/fault')
base = sqlite3.connect('/srv/fault/pms.db')
base.execute('create table patient (data blob)')
base.executemany('insert into patient values (?)', ((os.urandom(1 << 20),) for _ in range(150)))
base.commit()
"""
# takes what the copy still needs, as soon as the copy begins
FILLER = """
import glob, os, time
handle = os.open('/var/tmp/filler', os.O_CREAT | os.O_WRONLY)
while not glob.glob('/var/tmp/systemd-private-*/tmp/holdfast-*/copy.db'):
    time.sleep(0.001)
size, step = 0, 4 << 20
try:
    while True:
        os.posix_fallocate(handle, size, step)
        size += step
except OSError:
    pass
"""


@pytest.mark.parametrize(("size", "meanwhile"), [("100m", False), ("330m", True)])
def test_no_room_for_the_copy_of_a_database(size, meanwhile):
    """B07, where a database has to be copied: too little room from the start, and room that goes while it is copied.

    (The dumps of the servers are streamed into restic and lie nowhere.)
    """
    ssh("server1", "python3 -", COPY_JOB)
    try:
        start(COPIED)
        ended(90, COPIED)
        good, known = record("fault_copy"), snapshots()
        assert good["state"] == "OK"
        ssh("server1", f"mount -t tmpfs -o size={size} tmpfs /var/tmp")
        if meanwhile:
            ssh("server1", "cat > /root/filler.py", FILLER)
            ssh("server1", "systemd-run --quiet --unit=fault-filler python3 /root/filler.py")
        start(COPIED)
        ended(90, COPIED)
        room = int(ssh("server1", "df -B1 --output=avail /var/tmp | tail -1"))
        assert room < 150 * MIB, "the fault did not land: there is room for the copy"
        if meanwhile:
            taken = int(ssh("server1", "stat -c %s /var/tmp/filler"))
            assert taken > 64 * MIB, "the fault did not land: there was room for the whole copy"
        assert ssh("server1", "ls -A /var/tmp").split() in ([], ["filler"]), "a part of the copy was left"
        found = record("fault_copy")
        assert found["state"] == "FAILED"
        assert codes(found) == ["not_enough_space"], found["reasons"]
        assert found["snapshots"]["database"] is None
        assert snapshots() == known, "restic was given a part of the copy"
        assert found["last_ok"]["run"] == good["run"]
        ssh("server1", "umount /var/tmp")
        start(COPIED)
        ended(90, COPIED)
        assert record("fault_copy")["state"] == "OK"
    finally:
        ssh(
            "server1",
            "systemctl stop fault-filler.service 2>/dev/null; ! mountpoint -q /var/tmp || umount /var/tmp\n"
            "rm -rf /srv/fault /root/filler.py /etc/holdfast/jobs/fault_copy.json",
        )


def test_no_room_for_the_agents_own_records(machines):
    """B07, for what the agent writes itself: it says so, ends red, and backs nothing up that it could not vouch for."""
    known = snapshots()
    good = ssh("server1", f"cat {STATUS}")
    ssh(
        "server1",
        """set -e
cp -a /var/lib/holdfast /root/fault-state; mount -t tmpfs -o size=4m,mode=0700 tmpfs /var/lib/holdfast
cp -a /root/fault-state/. /var/lib/holdfast/; head -c 8M /dev/zero > /var/lib/holdfast/filler || true""",
    )
    try:
        assert int(ssh("server1", "df --output=avail /var/lib/holdfast | tail -1")) == 0, "the fault did not land"
        start()
        ended(60)
        assert unit_state() == "failed"
        assert "FAILED: cannot write on this host" in journal(machines)
        assert "No space left on device" in journal(machines)
        assert ssh("server1", f"cat {STATUS}") == good, "the record of the last good run was spoilt"
        shown = json.loads(ssh("server1", "/usr/lib/holdfast/agent status --json || true"))
        (row,) = [row for row in shown if row["job"] == "documents"]
        assert (row["state"], row["reasons"][0]["code"]) == ("FAILED", "host_full")
        assert snapshots() == known
    finally:
        ssh("server1", "umount /var/lib/holdfast; rm -rf /root/fault-state")
    assert run()["state"] == "OK"
    shown = json.loads(ssh("server1", "/usr/lib/holdfast/agent status --json || true"))
    assert [row["state"] for row in shown if row["job"] == "documents"] == ["OK"]


# --- B09: from the future ----------------------------------------------------------------------------------------------


def test_a_snapshot_from_the_future(practice):
    """B09. What a client says of the time counts for nothing; a proof names the lie. (Retention: test_retention_faults.py.)"""
    first = run()
    assert first["state"] == "OK"
    tags = "--tag practice=harbour-street --tag job=documents --tag run=20350101T000000Z-00000000"
    for part in ("files", "oracle"):
        ssh(
            "server1",
            RESTIC
            + f"restic backup -q --host server1 --time '2035-01-01 00:00:00' {tags},part={part} {FOLDER}/letters",
        )
    listed = json.loads(ssh("server1", RESTIC + "restic snapshots --json --no-lock"))
    future = [each["id"] for each in listed if each["time"].startswith("2035")]
    assert len(future) == 2, "the fault did not land"
    newest = run()
    proof = practice.prove(items="documents")
    (item,) = proof.body["items"]
    assert item["snapshots"]["files"] == newest["snapshots"]["files"], "the newest is what arrived last"
    assert "future_snapshot" in {note["code"] for note in item["notes"]} | proof.codes("documents")
    assert "claim a time after their arrival" in proof.output


# --- B10: two at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["service", "by hand"])
def test_two_runs_at_once(first, machines):
    """B10. Whichever comes second declines in a clear line, does no harm and leaves the record to the first."""
    known = snapshots()
    make_big(80)
    slow_down("50mbit")
    before = record()["run"]
    if first == "service":
        uploading()
        said = ssh("server1", "/usr/lib/holdfast/agent run documents; echo $?")
        assert said.split()[-1] == "4"
    else:
        ssh("server1", "systemd-run --quiet --unit=fault-by-hand /usr/lib/holdfast/agent run documents")
        until("the upload", lambda: ssh("server1", "pgrep -cx restic || true").strip() == "1", 60)
        start()
        ended(60)
        said = journal(machines)
        assert ssh("server1", f"systemctl show --value -p ExecMainStatus {UNIT}").strip() == "4"
    assert "another run of this job is under way; this one does nothing" in said
    assert record()["run"] == before, "the second one wrote a record"
    assert ssh("server1", "pgrep -cx restic").strip() == "1", "the fault did not land: the first run was over"
    full_speed()
    until("the first run's record", lambda: record()["run"] != before, 120)
    found = record()
    assert (found["state"], found["reasons"]) == ("OK", [])
    assert len(snapshots() - known) == 2
    ssh("server1", RESTIC + "restic check -q --no-lock")


# --- B11: another certificate ------------------------------------------------------------------------------------------

LISTENER = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('/root/fault.pem', '/root/fault.key')
server = socket.create_server(('198.18.0.11', 8000))
print('listening', flush=True)
while True:
    peer, _address = server.accept()
    peer.settimeout(10)
    try:
        with context.wrap_socket(peer, server_side=True) as talk:
            print('heard', len(talk.recv(65536)), flush=True)
    except OSError as error:
        print('refused', type(error).__name__, flush=True)
"""
KNOCK = """
import socket, ssl
context = ssl._create_unverified_context()
with context.wrap_socket(socket.create_connection(('198.18.0.11', 8000))) as talk:
    talk.sendall(b'HEAD / HTTP/1.1')
"""
NEW_CERTIFICATE = """
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=nas1 -addext subjectAltName=IP:198.18.0.11,DNS:nas1 \
  -keyout /root/fault.key -out /root/fault.pem 2>/dev/null
"""


def test_a_new_certificate_on_the_nas(machines):
    """B11. The client leaves before it has sent a byte, and says what is wrong; so with our listener, so with the server."""
    ssh("nas1", NEW_CERTIFICATE + "systemctl stop holdfast-rest-server.service")
    service = "/etc/holdfast-nas"
    try:
        ssh("nas1", "cat > /root/listener.py", LISTENER)
        ssh("nas1", "systemd-run --quiet --unit=fault-listener python3 -u /root/listener.py")
        heard = lambda: ssh("nas1", "journalctl --no-pager -o cat _SYSTEMD_UNIT=fault-listener.service")  # noqa: E731
        until("the listener", lambda: "listening" in heard(), 15)
        ssh("server1", "python3 -", KNOCK)
        until("a client that does not care being heard", lambda: "heard 15" in heard(), 15)
        found = run(90)
        assert (found["state"], codes(found)) == ("FAILED", ["certificate_mismatch"])
        assert "No credentials were sent" in found["reasons"][0]["message"]
        assert found["seconds"] < 30
        until("the agent's own visit", lambda: len(heard().splitlines()) > 2, 15)
        lines = heard().splitlines()
        assert [line for line in lines if line.startswith("heard") and line not in ("heard 15", "heard 0")] == []
        ssh("nas1", "systemctl stop fault-listener.service")

        ssh(
            "nas1",
            f"cp -a {service} /root/fault-nas; cat /root/fault.pem > {service}/tls.pem; cat /root/fault.key > {service}/tls.key",
        )
        ssh("nas1", "systemctl start holdfast-rest-server.service")
        found = run(90)
        assert (found["state"], codes(found)) == ("FAILED", ["certificate_mismatch"])
    finally:
        ssh(
            "nas1",
            f"""systemctl stop fault-listener.service 2>/dev/null
for part in pem key; do test ! -e /root/fault-nas || cat /root/fault-nas/tls.$part > {service}/tls.$part; done
rm -rf /root/fault-nas /root/fault.* /root/listener.py; systemctl restart holdfast-rest-server.service""",
        )
    assert run()["state"] == "OK"


# --- B13: a password changed on one side -------------------------------------------------------------------------------

HTPASSWD = "/etc/holdfast-nas/htpasswd"
ROTATE = f"""set -e
cp -a {HTPASSWD} /root/fault-htpasswd
other=$(sed -n s/^desk1://p {HTPASSWD}); test -n "$other"
sed "s|^server1:.*|server1:$other|" /root/fault-htpasswd > {HTPASSWD}
cmp -s {HTPASSWD} /root/fault-htpasswd && exit 1
systemctl reload holdfast-rest-server.service
"""
ROTATE_BACK = (
    f"cat /root/fault-htpasswd > {HTPASSWD}; systemctl reload holdfast-rest-server.service; rm /root/fault-htpasswd"
)


def test_a_password_that_was_changed_on_the_nas_only():
    """B13, before a run."""
    ssh("nas1", ROTATE)
    try:
        found = run(90)
    finally:
        ssh("nas1", ROTATE_BACK)
    assert (found["state"], codes(found)) == ("FAILED", ["rest_login_refused"])
    assert "(401)" in found["reasons"][0]["message"]
    assert found["seconds"] < 30, "it was tried again and again"
    assert run()["state"] == "OK"


def test_a_password_that_is_changed_during_a_run():
    """B13, in the middle: restic's own tries must not turn it into a fault of the network, nor take for ever."""
    known = snapshots()
    make_big(160)
    slow_down("50mbit")
    before = record()["run"]
    uploading()
    ssh("nas1", ROTATE)
    try:
        full_speed()
        ended(1200)
    finally:
        ssh("nas1", ROTATE_BACK)
    found = record()
    assert found["run"] != before
    assert (found["state"], codes(found)) == ("FAILED", ["rest_login_refused"])
    assert snapshots() == known
    assert run()["state"] == "OK"


# --- B14: a reboot -----------------------------------------------------------------------------------------------------

BOOT = "cat /proc/sys/kernel/random/boot_id"


def test_a_reboot_in_the_middle(machines):
    """B14. The timer thinks that its run was made: it began. The run is made up for after the boot, once."""
    good, known = oracle_of(), snapshots()
    make_big(160)
    slow_down("50mbit")
    uploading()
    boot = ssh("server1", BOOT)
    locks = set(ssh("nas1", f"ls {REPOSITORY}/locks").split())
    assert locks, "restic holds no lock: it is not at work"
    events = Path(os.environ["HOLDFAST_LAB_FOLDER"], "machines/server1/events.jsonl")
    starts = events.read_text().count('"started"')
    with contextlib.suppress(AssertionError):  # the answer is cut off with the rest
        ssh("server1", "systemctl reboot --force --force")
    until("a new start of the machine", lambda: events.read_text().count('"started"') > starts, 60)
    until("the machine", answers, 60)
    until("its ssh", lambda: ssh("server1", "systemctl is-system-running --wait || true").strip() != "", 120)
    assert ssh("server1", BOOT) != boot, "the fault did not land"
    until("the run that makes up for it", lambda: record()["run"] != good["run"] and not is_active(), 180)
    until("a good record", lambda: record()["state"] == "OK", 120)
    said = journal(machines)
    assert "documents: FAILED after" in said, "the run that was cut off was recorded as such"
    assert "killed: " in said
    assert "it is started again" in said
    found = record()
    assert found["reasons"] == []
    new = ssh("server1", RESTIC + "restic snapshots --json --no-lock --tag job=documents,part=oracle")
    runs = [each["id"] for each in json.loads(new) if each["id"] not in known]
    assert len(runs) == 1, "not exactly one good run"
    time.sleep(5)
    assert not is_active()
    restores(oracle_of())
    restores(good)


# --- B16: a client in wrong hands --------------------------------------------------------------------------------------

# a backup that waits for its data holds a lock
LOCK = """bash -c 'c=/etc/holdfast/credentials; export RESTIC_REPOSITORY=rest:https://198.18.0.11:8000/server1/
export RESTIC_PASSWORD_FILE=$c/repository-password RESTIC_REST_USERNAME=$(cat $c/rest-username)
export RESTIC_REST_PASSWORD=$(cat $c/rest-password)
sleep 60 | restic --cacert /etc/holdfast/nas.pem --no-cache backup --stdin --stdin-filename fault'"""
ATTACK = """
import base64, http.client, json, ssl, sys
read = lambda name: open('/etc/holdfast/' + name).read().strip()
context = ssl.create_default_context(cafile='/etc/holdfast/nas.pem')
context.verify_flags &= ~0x20
login = read('credentials/rest-username') + ':' + read('credentials/rest-password')
head = {'Authorization': 'Basic ' + base64.b64encode(login.encode()).decode()}
for verb, path in json.load(sys.stdin):
    talk = http.client.HTTPSConnection('198.18.0.11', 8000, context=context, timeout=20)
    talk.request(verb, path, body=b'mine' if verb == 'POST' else None, headers=head)
    answer = talk.getresponse()
    answer.read()
    print(answer.status, verb, path)
"""


def test_a_client_that_deletes_and_overwrites(machines):
    """B16. With the host's own login: nothing that is stored can be taken away or replaced, and the NAS notes each try."""
    listing = "cd /srv/holdfast/repositories && find . -type f ! -path './*/locks/*' -exec sha256sum {} + | sort"
    before = ssh("nas1", listing)
    names = {kind: ssh("nas1", f"find {REPOSITORY}/{kind} -type f -printf '%f\n' | head -1").strip() for kind in KINDS}
    assert all(names.values())
    other = ssh("nas1", "ls /srv/holdfast/repositories/desk1/snapshots | head -1").strip()
    own = ["/server1/config", *(f"/server1/{kind}/{name}" for kind, name in names.items())]
    foreign = ["/desk1/config", f"/desk1/snapshots/{other}"]
    tries = [(verb, path) for path in own for verb in ("DELETE", "POST")]
    tries += [(verb, path) for path in foreign for verb in ("GET", "DELETE", "POST")]
    ssh("server1", "cat > /root/attack.py", ATTACK)
    try:
        said = ssh("server1", "python3 /root/attack.py", json.dumps(tries)).splitlines()
        refused = {line.split(" ", 1)[1]: int(line.split()[0]) for line in said}
        assert len(refused) == len(tries)
        assert {refused[f"{verb} {path}"] for verb, path in tries if path in own} == {403}
        assert {refused[f"{verb} {path}"] for verb, path in tries if path in foreign} <= {401, 403}
        assert ssh("nas1", listing) == before, "the NAS's files were changed"
        # its own lock it may remove: restic has to
        ssh("server1", "systemd-run --quiet --unit=fault-lock " + LOCK)
        until("a lock", lambda: ssh("nas1", f"ls {REPOSITORY}/locks").strip() != "", 30)
        lock = ssh("nas1", f"ls {REPOSITORY}/locks").split()[0]
        (freed,) = ssh(
            "server1", "python3 /root/attack.py", json.dumps([("DELETE", f"/server1/locks/{lock}")])
        ).splitlines()
        assert freed.startswith("200 ")
    finally:
        ssh("server1", "systemctl stop fault-lock.service 2>/dev/null; rm -f /root/attack.py")
    noted = journal(machines, "restic-rest-server", "nas1")
    for verb, path in tries:
        assert any(f"{ADDRESSES['server1']} " in line and f'"{verb} {path} ' in line for line in noted.splitlines()), (
            verb,
            path,
        )
    assert "/server1/snapshots/" not in "".join(line for line in noted.splitlines() if " 200 " in line)
