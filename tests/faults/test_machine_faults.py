# SPDX-License-Identifier: Apache-2.0
"""The machines that proofs run on: alone in the world, one proof at a time in a place, and nothing to read afterwards.

Needs what test_prove_faults.py needs. The other machines that carry a restore are made for the test, in the lab's network: a
carrier with machines of its own in it, and a spare machine.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import Bind, Machine
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn_host import MachineHost, reach
from faults_lab import ADDRESSES, LETTERS, REPO, RESTORES, Practice, ssh

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")

PLACE = RESTORES / "harbour-street"
CONTROL = "198.18.0.1"
CARRIER, SPARE = "198.18.0.28", "198.18.0.29"
PORTS = (25, 8025)


@pytest.fixture
def practice(tmp_path):
    return copied(tmp_path / "harbour-street")


def copied(folder):
    shutil.copytree(os.environ["HOLDFAST_PRACTICE"], folder, ignore=shutil.ignore_patterns("evidence", "results"))
    return Practice(folder)


def run(argv, **_more):
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


def until(condition, what, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return found


def begin(practice, *options, items="clinical_db"):
    """Start a proof and leave it running, in a process group of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    command = [str(REPO / ".venv/bin/ansible-playbook"), "-i", str(practice.folder), "playbooks/prove.yml"]
    command += ["--vault-id", f"harbour-street@{practice.folder}/.vault-password", "-e", f"items={items}"]
    command += ["-e", f"restore_host_root={RESTORES}", *options]
    output = (practice.folder / "output").open("w")
    return subprocess.Popen(command, cwd=REPO, env=environment, stdout=output, stderr=output, start_new_session=True)


def body(practice):
    return json.loads((practice.folder / "evidence/ledger.jsonl").read_text().splitlines()[-1])["record"]["body"]


def document(practice, old, new):
    path = practice.folder / "practice.yml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def canary():
    """A letter of the practice with words that are nowhere else, backed up with the others."""
    words = f"canary {uuid.uuid4().hex} of a patient"
    ssh("server1", f"cat > {LETTERS}/canary.txt && systemctl start holdfast-backup@documents.service", words)
    yield words
    ssh("server1", f"rm {LETTERS}/canary.txt && systemctl start holdfast-backup@documents.service")


def grep(words, path, mounted):
    """How often words are on a disk; its holes are passed over."""
    subprocess.run(["sync", "--file-system", str(mounted)], check=True)
    found, end, needle = 0, 0, words.encode()
    with path.open("rb") as stream:
        while True:
            try:
                begin = os.lseek(stream.fileno(), end, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return found
            end = os.lseek(stream.fileno(), begin, os.SEEK_HOLE)
            tail, at = b"", begin
            while at < end:
                piece = os.pread(stream.fileno(), min(1 << 24, end - at), at)
                found += (tail + piece).count(needle)
                tail, at = piece[1 - len(needle) :], at + len(piece)


def test_restored_data_can_be_read_nowhere_on_the_disk_afterwards(practice, canary, tmp_path):
    disk, mounted = tmp_path / "carrier.img", tmp_path / "carrier"
    mounted.mkdir()
    with disk.open("wb") as stream:
        stream.truncate(5 << 30)
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(mounted)], check=True)
    try:
        plain = mounted / "deleted"
        plain.write_text(f"not {canary}")
        subprocess.run(["sync", "--file-system", str(mounted)], check=True)
        plain.unlink()
        assert grep(f"not {canary}", disk, mounted) == 1, (
            "what is only deleted is still on the disk: so the search finds something"
        )
        proof = practice.prove("-e", f"restore_host_root={mounted}/restore", items="documents")
        assert proof.code == 0, proof.output[-3000:]
        assert proof.level("files", "documents")["checked"] > 0
        assert grep(canary, disk, mounted) == 1, "restored data is left on the carrier's disk"
        machine = proof.body["machine"]
        assert machine["disposal"] == {"store": "encrypted", "key_destroyed": True, "deleted": True}
        assert not any((mounted / "restore").iterdir())
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


# what calls home when it runs: restored, it must not
CALL = f"#!/bin/bash\nfor port in 8025 25; do timeout 2 bash -c 'echo HELO >/dev/tcp/{CONTROL}/'$port; done\n"
PLANT = f"""
set -eu
d={LETTERS}/jobs; mkdir -p $d/etc/cron.d $d/etc/systemd/system/timers.target.wants
mkdir -p $d/var/spool/cron/crontabs $d/var/spool/cron/atjobs
cat > $d/call && chmod 755 $d/call
echo "* * * * * root $d/call cron" > $d/etc/cron.d/call
echo "* * * * * $d/call crontab" > $d/var/spool/cron/crontabs/root
printf '#!/bin/sh\\n%s at\\n' $d/call > $d/var/spool/cron/atjobs/a0000101a2b3c4; chmod 700 $d/var/spool/cron/atjobs/*
printf '[Service]\\nExecStart=%s unit\\n[Install]\\nWantedBy=multi-user.target\\n' $d/call > $d/etc/systemd/system/call.service
printf '[Timer]\\nOnActiveSec=1s\\nOnUnitActiveSec=1s\\n[Install]\\nWantedBy=timers.target\\n' > $d/etc/systemd/system/call.timer
ln -sf ../call.timer $d/etc/systemd/system/timers.target.wants/call.timer
systemctl start holdfast-backup@documents.service
"""


@pytest.fixture
def jobs():
    ssh("server1", PLANT, CALL)
    yield
    ssh("server1", f"rm -r {LETTERS}/jobs && systemctl start holdfast-backup@documents.service")


class Watch(threading.Thread):
    """A mail relay and a web server that note who came, and every frame on the practice's network that is for their ports."""

    def __init__(self):
        super().__init__(daemon=True)
        self.came, self.frames, self.senders, self.over = [], 0, set(), threading.Event()
        self.selector = selectors.DefaultSelector()
        for port in PORTS:
            self.selector.register(socket.create_server((CONTROL, port)), selectors.EVENT_READ)
        every = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        every.bind(("br0", 0))
        self.selector.register(every, selectors.EVENT_READ, data="frames")

    def run(self):
        while not self.over.is_set():
            for key, _mask in self.selector.select(0.2):
                if key.data == "frames":
                    frame = key.fileobj.recv(65535)
                    self.senders.add(frame[6:12].hex(":"))
                    tcp = frame[14 + (frame[14] & 15) * 4 :] if frame[12:14] == b"\x08\x00" and frame[23] == 6 else b""
                    self.frames += len(tcp) > 4 and int.from_bytes(tcp[2:4], "big") in PORTS
                else:
                    connection, where = key.fileobj.accept()
                    self.came.append(where[0])
                    connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_why):
        self.over.set()
        self.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()


def leader_of(place):
    """First process of the machine in a place, if it runs."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0") if entry.name.isdigit() else []
            if argv and argv[0].endswith("systemd-nspawn") and f"--directory={place}/store/data/machine/root" in argv:
                children = (entry / f"task/{entry.name}/children").read_text().split()
                return int(children[0]) if children else None
    return None


def test_a_restored_practice_runs_nothing_and_calls_nobody(practice, jobs):
    links, looked, sent, loaded = set(), 0, 0, set()
    with Watch() as watch:
        ssh("server1", f"{LETTERS}/jobs/call itself")
        until(
            lambda: watch.frames and watch.came.count(ADDRESSES["server1"]) == 2,
            "the jobs to call when they do run",
            20,
        )
        known = {run(["ip", "-j", "neigh", "show", address])[1] for address in ADDRESSES.values()}
        machines = {json.loads(each)[0]["lladdr"] for each in known}
        own = json.loads(run(["ip", "-j", "link", "show", "br0"])[1])[0]["address"]
        before, watch.came[:] = watch.frames, []
        watch.senders.clear()
        proof = begin(practice, items="clinical_db,documents")
        while proof.poll() is None:
            leader = leader_of(PLACE)
            inside = ["nsenter", "--target", str(leader), "--all", "--"]
            code, table, _ = run([*inside, "cat", "/proc/net/dev"]) if leader else (1, "", "")
            if code == 0:
                looked += 1
                rows = [line.split(":") for line in table.splitlines()[2:]]
                links |= {name.strip() for name, _rest in rows}
                sent += sum(int(rest.split()[8]) for name, rest in rows if name.strip() != "lo")
                loaded |= set(
                    run([*inside, "systemctl", "list-units", "--all", "--plain", "--no-legend", "call*"])[1].split()
                )
            time.sleep(0.2)
        assert watch.came == []
        assert watch.frames == before
        assert watch.senders <= machines | {own}, "somebody else spoke in the practice's network"
    assert proof.returncode == 0, (practice.folder / "output").read_text()[-3000:]
    assert looked > 0, "the machine was never seen running"
    assert (links, sent, loaded) == ({"lo"}, 0, set())


def test_a_second_proof_is_told_who_is_at_work_and_since_when(practice, tmp_path):
    first = begin(practice)
    until((PLACE / "store.json").exists, "the first proof to make its store")
    other = copied(tmp_path / "second")
    second = begin(other)
    assert second.wait(300) != 0
    said = (other.folder / "output").read_text()
    assert "is taken: root on" in said
    assert f"(process {first.pid})" in said
    assert "Wait for it" in said
    assert not (other.folder / "evidence/ledger.jsonl").exists()
    assert first.wait(600) == 0, (practice.folder / "output").read_text()[-3000:]
    assert not PLACE.exists()


def test_what_a_killed_proof_left_is_wiped_by_the_next(practice):
    killed = begin(practice)
    until(lambda: leader_of(PLACE), "the machine to start")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert (PLACE / "store.json").exists()
    proof = practice.prove()
    assert proof.code == 0, proof.output[-3000:]
    assert proof.body["machine"]["left_over"] == {"store": "encrypted", "key_destroyed": True, "deleted": True}
    assert not PLACE.exists()


def test_two_proofs_run_side_by_side_on_one_carrier(practice, tmp_path):
    other = copied(tmp_path / "second")
    both = [begin(practice), begin(other, "-e", f"restore_host_place={RESTORES}/other")]
    until(lambda: leader_of(PLACE) and leader_of(RESTORES / "other"), "both machines to run at once")
    for each, its in zip(both, (practice, other), strict=True):
        assert each.wait(900) == 0, (its.folder / "output").read_text()[-3000:]
        assert body(its)["machine"]["disposed"] is True
    assert list(RESTORES.iterdir()) == []


def test_a_carrier_without_room_is_inconclusive_before_anything_is_restored(practice, tmp_path):
    disk, mounted = tmp_path / "small.img", tmp_path / "small"
    mounted.mkdir()
    with disk.open("wb") as stream:
        stream.truncate(1500 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(mounted)], check=True)
    try:
        proof = practice.prove("-e", f"restore_host_root={mounted}/restore")
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert proof.code == 2
    assert "not_enough_space" in {reason["code"] for reason in proof.body["reasons"]}


# --- other machines --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def made(practice, name, address, **more):
    """Make another machine of the lab, pinned; yields what runs a script on it."""
    lab = Path(os.environ["HOLDFAST_LAB_FOLDER"])
    model = json.loads((lab / "machines/server1/machine.json").read_text())
    want = Machine(
        name=name,
        folder=str(lab / "machines" / name),
        layers=tuple(model["layers"]),
        namespace=f"/run/netns/{os.environ['HOLDFAST_LAB']}",
        bridge="br0",
        address=f"{address}/24",
        shelf=model["shelf"],
        authorized_key=model["authorized_key"],
        **more,
    )
    machine = MachineHost(run, want)
    reach(machine, "absent", False, 60)
    reach(machine, "started", False, 180)
    known = lab / "known_hosts"
    before = known.read_text()
    try:
        ADDRESSES[name] = address
        known.write_text(before + machine.known_hosts() + "\n")
        own = practice.folder / "known_hosts"
        own.unlink()
        own.write_text(known.read_text())
        # the lab's machines have no loop devices of their own
        ssh(
            name,
            "mknod /dev/loop-control c 10 237; for i in $(seq 0 63); do mknod /dev/loop$i b 7 $i; done; apt-get -q update",
        )
        yield functools.partial(ssh, name)
    finally:
        known.write_text(before)
        reach(machine, "absent", False, 60)
        ADDRESSES.pop(name, None)


@pytest.fixture
def carrier(practice):
    """A machine that has the images, as one that built them would, and makes restore machines inside itself."""
    cache = "/var/cache/holdfast"
    with made(practice, "carrier1", CARRIER, binds=(Bind(cache, cache),)) as inside:
        document(practice, "on: localhost", f"on: {CARRIER}")
        yield inside


@pytest.fixture
def spare(practice):
    with made(practice, "spare1", SPARE) as inside:
        document(practice, "driver: nspawn, on: localhost", f"driver: spare, on: {SPARE}")
        yield inside


def test_a_carrier_over_ssh_proves_like_this_machine_and_shows_no_secret(practice, carrier):
    secret = ssh("server1", "cat /etc/holdfast/credentials/repository-password").strip()
    assert len(secret) > 10
    shown, seen = set(), 0
    proof = begin(practice)
    while proof.poll() is None:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                # what runs in the lab's machines is seen from here as well
                argv = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                seen += b"restic\0--no-cache" in argv
                if secret.encode() in argv:
                    shown.add(argv)
        time.sleep(0.05)
    assert proof.returncode == 0, (practice.folder / "output").read_text()[-3000:]
    assert seen > 0, "restic was never seen running"
    assert shown == set()
    found = body(practice)
    assert found["verdict"] == "PASS"
    assert found["machine"]["disposal"] == {"store": "encrypted", "key_destroyed": True, "deleted": True}
    assert carrier(f"ls {RESTORES}; find / -xdev -newer /etc/hostname -name '*AnsiballZ*'") == ""


def test_a_carrier_that_does_not_answer_is_inconclusive_and_recorded(practice):
    document(practice, "on: localhost", "on: 198.18.0.99")
    proof = practice.prove()
    assert proof.code == 2, proof.output[-3000:]
    assert "carrier_unreachable" in {reason["code"] for reason in proof.body["reasons"]}


def test_a_spare_machine_proves_once_it_is_given_up_for_it_and_is_as_before(practice, spare):
    refused = practice.prove()
    assert refused.code == 2
    assert "nobody has given this machine up for proofs" in refused.output
    spare("echo harbour-street/proof1 > /etc/holdfast-spare")
    spare("mkdir -p /srv/holdfast-restore && touch /srv/holdfast-restore/mine")
    assert "/srv/holdfast-restore is not empty" in practice.prove().output
    spare("rm /srv/holdfast-restore/mine")
    proof = practice.prove(items="clinical_db,documents")
    assert proof.code == 0, proof.output[-4000:]
    assert proof.level("database")["verdict"] == "PASS"
    assert proof.body["machine"]["driver"] == "spare"
    assert proof.body["machine"]["disposal"] == {"store": "encrypted", "key_destroyed": True, "deleted": True}
    left = spare(
        "findmnt -rno TARGET | grep -E 'holdfast|postgresql' || true; ls /srv/holdfast-restore; nft list tables"
    )
    assert left.split() == []
    ask = "systemctl start postgresql && cd / && runuser -u postgres -- psql -Atc 'select datname from pg_database'"
    assert "clinic" not in spare(ask)


def test_a_spare_machine_that_nobody_comes_back_to_wipes_itself(practice, spare):
    spare("echo harbour-street/proof1 > /etc/holdfast-spare")
    killed = begin(practice)
    until(lambda: "holdfast-restore" in spare("findmnt -rno TARGET"), "the spare machine to be covered")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    filtered = spare("timeout 3 bash -c '</dev/tcp/198.18.0.12/22' 2>&1 || echo refused")
    assert "refused" in filtered, "the spare machine reaches the practice"
    assert "holdfast-restore-wipe.timer" in spare("systemctl list-timers --all --no-legend")
    spare("systemctl start holdfast-restore-wipe.service")
    left = "findmnt -rno TARGET | grep holdfast; nft list tables"
    until(lambda: not spare(left).strip(), "the machine to wipe itself", 60)
    assert spare(f"ls -d {PLACE} 2>&1 || true").startswith("ls: cannot access")
    assert spare(f"losetup --list --noheadings --output BACK-FILE | grep {PLACE} || true") == ""
