# SPDX-License-Identifier: Apache-2.0
"""Backups made bad on purpose, on real machines: prove.yml has to see each of them, and say which it is.

Needs a furnished, converged lab with one good backup of every job, and root inside the lab's network namespace:
    HOLDFAST_PRACTICE=FOLDER HOLDFAST_LAB_FOLDER=/var/lib/holdfast-lab/NAME nsenter --net=/run/netns/NAME \
        .venv/bin/pytest tests/faults/test_prove_faults.py
Every test works on a copy of the practice's folder, so that the practice's own evidence stays what it is, and takes back
what it did to the repository. A fault is seen to have landed before it is judged.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from pathlib import Path

import pytest
from faults_lab import LETTERS, REPOSITORY, RESTIC, Practice, ssh

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")


@pytest.fixture
def practice(tmp_path):
    copy = tmp_path / "harbour-street"
    shutil.copytree(os.environ["HOLDFAST_PRACTICE"], copy, ignore=shutil.ignore_patterns("evidence", "results"))
    return Practice(copy)


@pytest.fixture
def repository():
    """The repository of server1; snapshots that a test added are taken away again, times set back."""
    saved = f"/root/snapshots-{uuid.uuid4().hex}"
    ssh("nas1", f"cp -a {REPOSITORY}/snapshots {saved}")
    yield REPOSITORY
    ssh("nas1", f"rm -r {REPOSITORY}/snapshots && cp -a {saved} {REPOSITORY}/snapshots && rm -r {saved}")


def newest_oracle() -> dict:
    return json.loads(ssh("server1", "cat /var/lib/holdfast/oracle/clinical_db.json"))


def store(oracle: dict, host: str = "server1", extra: str = "") -> str:
    """Store a run's oracle as the agent does; return the snapshot's id."""
    tags = f"--tag practice=harbour-street --tag job=clinical_db --tag run={oracle['run']} --tag part=oracle"
    name = "holdfast.clinical_db.oracle.json"
    script = RESTIC + f"restic backup -q --host {host} {tags} {extra} --stdin --stdin-filename {name}"
    ssh("server1", script, json.dumps(oracle))
    found = ssh("server1", RESTIC + f"restic snapshots --json --no-lock --tag run={oracle['run']},part=oracle")
    (snapshot,) = json.loads(found)
    return snapshot["id"]


def store_part(run: str, part: str, backup: str) -> str:
    """Store another part of a run; ``backup`` is what follows restic backup."""
    tags = f"--tag practice=harbour-street --tag job=clinical_db --tag run={run} --tag part={part}"
    ssh("server1", RESTIC + f"restic backup -q --host server1 {tags} {backup}")
    (snapshot,) = json.loads(ssh("server1", RESTIC + f"restic snapshots --json --no-lock --tag run={run},part={part}"))
    return snapshot["id"]


@pytest.fixture
def forged(repository):
    """A new run, so far the copy of the newest one with tags of its own."""
    oracle = newest_oracle()
    oracle["run"] = f"20991231T000000Z-{uuid.uuid4().hex[:8]}"
    for part in ("database", "files"):
        script = f"restic dump --no-lock {oracle['snapshots'][part]} /holdfast.clinical_db.dump"
        if part == "database":
            stored = "--stdin-from-command --stdin-filename holdfast.clinical_db.dump -- cat /root/forged.dump"
            ssh("server1", RESTIC + script + " > /root/forged.dump")
            oracle["snapshots"][part] = store_part(oracle["run"], part, stored)
        else:
            oracle["snapshots"][part] = store_part(oracle["run"], part, " ".join(oracle["files"]["roots"]))
    yield oracle
    ssh("server1", "rm -f /root/forged.dump")


def test_the_forgery_itself_is_good(practice, forged):
    """Else the faults below would be seen for the wrong reason."""
    store(forged)
    proof = practice.prove()
    assert (proof.code, proof.codes()) == (0, set()), proof.output[-3000:]


def test_a_dump_that_lost_rows(practice, forged):
    lose = """
set -eu; cd /
runuser -u postgres -- createdb forged
runuser -u postgres -- pg_restore -d forged < /root/forged.dump
runuser -u postgres -- psql -qAt -d forged -c 'select count(*) from appointment'
runuser -u postgres -- psql -q -d forged -c 'set session_replication_role = replica;
  delete from appointment where ctid in (select ctid from appointment limit 100)'
runuser -u postgres -- psql -qAt -d forged -c 'select count(*) from appointment'
runuser -u postgres -- pg_dump -Fc -Z0 forged > /root/forged.dump
runuser -u postgres -- dropdb forged
"""
    before, after = map(int, ssh("server1", lose).split())
    assert before - after == 100, "the fault did not land"
    stored = "--stdin-from-command --stdin-filename holdfast.clinical_db.dump -- cat /root/forged.dump"
    forged["run"] += "x"
    forged["snapshots"]["files"] = store_part(forged["run"], "files", " ".join(forged["files"]["roots"]))
    forged["snapshots"]["database"] = store_part(forged["run"], "database", stored)
    store(forged)
    proof = practice.prove()
    assert proof.code == 1
    assert "rows_differ" in proof.codes()
    assert f"{before} rows at backup time, {after} restored" in proof.output.replace("\n        ", " ")


def test_a_dump_that_is_not_whole(practice, forged):
    """Cut short. (An empty one cannot be stored: restic refuses a standard input without data.)"""
    ssh("server1", "truncate -s -200000 /root/forged.dump")
    stored = "--stdin-from-command --stdin-filename holdfast.clinical_db.dump -- cat /root/forged.dump"
    forged["run"] += "x"
    forged["snapshots"]["files"] = store_part(forged["run"], "files", " ".join(forged["files"]["roots"]))
    forged["snapshots"]["database"] = store_part(forged["run"], "database", stored)
    store(forged)
    proof = practice.prove()
    assert proof.code == 1
    assert "dump_truncated" in proof.codes(), proof.codes()


def test_an_image_that_was_skipped(practice, forged):
    victim = forged["files"]["manifest"][7]["path"]
    forged["run"] += "x"
    stored = "--stdin-from-command --stdin-filename holdfast.clinical_db.dump -- cat /root/forged.dump"
    forged["snapshots"]["database"] = store_part(forged["run"], "database", stored)
    roots = " ".join(forged["files"]["roots"])
    forged["snapshots"]["files"] = store_part(forged["run"], "files", f"--exclude {victim} {roots}")
    store(forged)
    proof = practice.prove()
    assert proof.code == 1
    assert {"files_missing", "images_missing"} <= proof.codes()
    assert Path(victim).name not in json.dumps(proof.body), "a file name got into the evidence"
    assert Path(victim).name not in proof.output


def test_a_run_that_another_host_put_here(practice, forged):
    store(forged, host="desk1")
    proof = practice.prove()
    assert proof.code == 1
    assert {"wrong_host", "foreign_snapshots"} <= proof.codes()
    assert proof.level("database")["checked"] == 0, "what is not ours must not be restored"


def test_an_oracle_of_another_practice(practice, forged):
    forged["practice"] = "mill-lane"
    store(forged)
    assert "wrong_practice" in practice.prove().codes()


@pytest.mark.fault(
    id="future",
    title="a snapshot that claims to be from the year 2035",
    verdict="PASS",
    levels=["arrival"],
    codes=["future_snapshot"],
)
def test_a_snapshot_from_the_future_is_not_taken_for_the_newest(practice, repository):
    honest = newest_oracle()
    oracle = {**honest, "run": f"20991231T000000Z-{uuid.uuid4().hex[:8]}"}
    forged_id = store(oracle, extra="--time '2035-01-01 00:00:00'")
    ssh("nas1", f"touch -d '-2 days' {repository}/snapshots/{forged_id}")
    proof = practice.prove()
    (item,) = proof.body["items"]
    assert proof.code == 0, proof.output[-3000:]
    assert item["snapshots"]["files"] == honest["snapshots"]["files"]
    assert [note["code"] for note in item["notes"]] == ["future_snapshot"]


def test_a_stale_backup(practice, repository):
    ssh("nas1", f"find {repository}/snapshots -type f -exec touch -d '-72 hours' {{}} +")
    proof = practice.prove()
    assert proof.code == 1
    assert "rpo_exceeded" in proof.codes()
    assert proof.level("database")["verdict"] == "PASS", "the restore itself is fine, and the record should say so"
    assert "> 24h" in proof.output


def test_a_newest_snapshot_that_is_gone_or_cut(practice, repository):
    good = practice.prove()
    assert good.code == 0, good.output[-3000:]
    oracle = good.body["items"][0]["snapshots"]["oracle"]
    ssh("nas1", f"chmod u+w {repository}/snapshots/{oracle}; truncate -s -20 {repository}/snapshots/{oracle}")
    assert practice.prove().codes() & {"known_snapshot_missing", "no_run", "snapshot_unreadable"}
    ssh("nas1", f"rm {repository}/snapshots/{oracle}")
    for _again in range(2):  # the older run that a proof falls back on must not make the loss forgotten
        gone = practice.prove()
        assert gone.code == 1
        assert gone.codes() & {"known_snapshot_missing", "no_run"}


def test_one_byte_in_the_largest_pack(practice):
    largest = f"find {REPOSITORY}/data -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2"
    pack = ssh("nas1", largest).strip()
    flip = (
        f"chmod u+w {pack}; python3 -c \"import os; f=os.open('{pack}',os.O_RDWR); n=os.fstat(f).st_size//2; "
        'b=os.pread(f,1,n); os.pwrite(f,bytes([b[0]^255]),n)"'
    )
    before = ssh("nas1", f"sha256sum {pack}")
    ssh("nas1", flip)
    assert ssh("nas1", f"sha256sum {pack}") != before, "the fault did not land"
    try:
        proof = practice.prove()
    finally:
        ssh("nas1", flip)
    assert ssh("nas1", f"sha256sum {pack}") == before
    assert proof.code == 1
    assert proof.level("structure")["broken_packs"] == [Path(pack).name]
    assert Path(pack).name in proof.output


def test_a_pack_that_is_gone_ends_in_time(practice):
    pack = ssh("nas1", f"find {REPOSITORY}/data -type f -size +100k | head -n 1").strip()
    ssh("nas1", f"mv {pack} /root/pack-away")
    try:
        proof = practice.prove()
    finally:
        ssh("nas1", f"mv /root/pack-away {pack}")
    assert proof.code == 1
    assert Path(pack).name in json.dumps(proof.body)


def test_a_password_of_another_repository(practice):
    options = [
        "-e",
        json.dumps(
            {
                "restore_verify_credentials": {
                    "server1": {
                        "repository_password": "wrong-one",
                        "rest_password": "{{ vault_rest_passwords['server1'] }}",
                    }
                }
            }
        ),
    ]
    proof = practice.prove(*options)
    assert (proof.code, proof.body["verdict"]) == (2, "INCONCLUSIVE")
    assert proof.codes() == {"wrong_password"}
    assert "wrong-one" not in proof.output


@pytest.mark.fault(
    id="R-nas",
    title="a NAS that does not answer",
    verdict="INCONCLUSIVE",
    levels=["arrival"],
    codes=["nas_unreachable"],
)
def test_a_nas_that_is_out_of_reach(practice):
    ssh("nas1", "systemctl stop holdfast-rest-server.service")
    try:
        proof = practice.prove()
    finally:
        ssh("nas1", "systemctl start holdfast-rest-server.service")
    assert (proof.code, proof.body["verdict"]) == (2, "INCONCLUSIVE")
    assert proof.codes() == {"nas_unreachable"}


@pytest.mark.fault(
    id="R25",
    title="a restore machine with too small a disk",
    verdict="INCONCLUSIVE",
    levels=["files"],
    codes=["not_enough_space"],
)
def test_a_disk_too_small(practice):
    """More files than the machine's disk has room for: refused before the restore, with the bytes that are needed."""
    big = f"{LETTERS}/big"
    ssh("server1", f"truncate -s 1500M {big} && systemctl start holdfast-backup@documents.service")
    try:
        proof = practice.prove("-e", f"restore_host_size={1 << 30}", items="documents")
    finally:
        ssh("server1", f"rm {big} && systemctl start holdfast-backup@documents.service")
    assert (proof.code, proof.body["verdict"]) == (2, "INCONCLUSIVE")
    assert proof.codes("documents") == {"not_enough_space"}
    files = proof.level("files", "documents")
    (said,) = {reason["message"] for reason in files["reasons"]}
    need, free = map(
        int, re.findall(r"the restore needs (\d+) bytes, the restore machine's disk has (\d+) free", said)[0]
    )
    assert free < 1500 << 20 < need
    assert files["checked"] == 0
