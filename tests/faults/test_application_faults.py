# SPDX-License-Identifier: Apache-2.0
"""A real imaging server (Orthanc, its index in PostgreSQL) backed up under load and broken on purpose: does its proof tell?

Needs what test_prove_faults.py needs. Each test works on a copy of the practice's folder, and mends the server afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from faults_lab import Practice, ssh

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")

STORAGE = "/var/lib/orthanc/db-v6"
# Sends images until it is told to stop, then says how many: one of the practice's own under a new instance number each time.
SENDER = """
import pathlib, re, sys, threading, urllib.request
image = sorted(pathlib.Path("/srv/clinic/images").rglob("*.dcm"))[0].read_bytes()
uid = re.search(rb"\\x02\\x00\\x03\\x00UI..([0-9.]+)", image)[1]
sent, stop = 0, threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
while not stop.is_set() and sent < 5000:
    sent += 1
    other = image.replace(uid, uid[:-9] + b"%09d" % (RUN * 100000 + sent))
    urllib.request.urlopen("http://127.0.0.1:8042/instances", data=other, timeout=30).read()
    if sent == 1:
        print("begun", flush=True)
print(sent)
"""


@pytest.fixture
def practice(tmp_path):
    copy = tmp_path / "harbour-street"
    shutil.copytree(os.environ["HOLDFAST_PRACTICE"], copy, ignore=shutil.ignore_patterns("evidence", "results"))
    return Practice(copy)


def edit(practice: Practice, *edits: tuple[str, str]) -> None:
    document = practice.folder / "practice.yml"
    text = document.read_text()
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    document.write_text(text)


def save(*jobs: str) -> None:
    for job in jobs:
        ssh("server1", f"systemctl start holdfast-backup@{job}.service")


def record(job: str) -> dict:
    return json.loads(ssh("server1", f"cat /var/lib/holdfast/status/{job}.json"))


def application(proof) -> dict:
    return proof.level("application", "imaging")


def said(proof) -> str:
    return json.dumps(application(proof)["reasons"])


def count(what: str) -> int:
    script = f"import json, urllib.request as u; print(len(json.load(u.urlopen('http://127.0.0.1:8042/{what}'))))"
    return int(ssh("server1", f'python3 -c "{script}"'))


@pytest.fixture
def settings():
    """The server's settings, put back afterwards."""
    ssh("server1", "rm -rf /root/orthanc && cp -a /etc/orthanc /root/orthanc")
    yield
    ssh("server1", "rm -rf /etc/orthanc && cp -a /root/orthanc /etc/orthanc && rm -rf /root/orthanc")
    save("imaging_settings")


def test_a_healthy_server_comes_back_and_hands_out_what_was_saved(practice):
    save("imaging", "imaging_settings")
    proof = practice.prove(items="imaging")
    assert proof.code == 0, proof.output[-3000:]
    assert application(proof)["checked"] >= 4
    assert count("patients") > 0, "the proof saw an empty server"


def test_images_that_arrive_during_the_backup_are_no_fault(practice):
    """The index is dumped before the files are read: each row has its file. What came later is a file without a row."""
    folder = os.environ["HOLDFAST_LAB_FOLDER"]
    before = count("instances")
    login = ["ssh", "-i", f"{folder}/ssh_key", "-o", f"UserKnownHostsFile={folder}/known_hosts", "root@198.18.0.12"]
    run = int(ssh("server1", "date +%s")) % 10000
    sender = SENDER.replace("RUN", str(run))
    ssh("server1", "cat > /root/sender.py", sender)
    with subprocess.Popen(
        [*login, "python3 /root/sender.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sending:
        assert sending.stdout is not None and sending.stdin is not None  # noqa: PT018
        assert sending.stdout.readline() == "begun\n"
        save("imaging")
        sending.stdin.write("stop\n")
        sending.stdin.flush()
        sent = int(sending.stdout.readline())
    assert sent > 10, "too few images arrived to say anything"
    assert count("instances") == before + sent
    assert record("imaging")["state"] == "OK", record("imaging")["reasons"]
    oracle = json.loads(ssh("server1", "cat /var/lib/holdfast/oracle/imaging.json"))
    named = oracle["database"]["images"]["count"]
    assert before < named < before + sent, "nothing arrived while the backup ran"
    save("imaging_settings")
    proof = practice.prove(items="imaging")
    assert proof.code == 0, proof.output[-3000:]
    assert application(proof)["verdict"] == "PASS"


def test_a_service_that_does_not_start_with_the_settings_of_the_backup(practice, settings):
    ssh("server1", "echo '{' > /etc/orthanc/orthanc.json")
    save("imaging_settings")
    proof = practice.prove(items="imaging")
    assert proof.code == 1
    assert "application_not_started" in proof.codes("imaging"), proof.output[-3000:]
    assert "orthanc.service did not start" in said(proof)


def test_settings_that_were_never_in_the_backup(practice, settings):
    """The server starts, with an index of its own that is empty: it looks well and knows nobody."""
    ssh("server1", "rm /etc/orthanc/postgresql.json")
    save("imaging_settings")
    edit(practice, ("      owner: orthanc\n", "      owner: orthanc\n      limit: 30s\n"))
    proof = practice.prove(items="imaging")
    assert proof.code == 1
    assert "wrong_answer" in proof.codes("imaging")
    assert "patients: the answer has 0 entries" in said(proof)
    assert "images: answered with status 404" in said(proof)


def test_questions_that_are_answered_wrongly_or_not_at_all(practice):
    asks = """        text: {http: "http://127.0.0.1:8042/system", contains: nobody says this}
        closed: {port: 4243}
        elsewhere: {http: "http://127.0.0.1:8043/"}
        ended: {command: [/bin/false]}
        nobody: {query: select publicid from resources where false}
        none: {http: "http://127.0.0.1:8042/{1}", rows: select publicid from resources where false}
"""
    edit(practice, ("      ask:\n", "      limit: 30s\n      ask:\n" + asks))
    proof = practice.prove(items="imaging")
    assert proof.code == 1
    assert {"wrong_answer", "port_closed", "no_answer", "nothing_asked"} <= proof.codes("imaging"), said(proof)
    for words in (
        "text: the answer does not contain",
        "closed: nothing listens on port 4243",
        "elsewhere: nothing answered",
        "ended: the command ended with 1, expected 0",
        "nobody: the database gives nothing",
        "none: the database gives no row",
    ):
        assert words in said(proof)
    assert "system:" not in said(proof), "what is right must not be blamed"


def test_a_unit_that_no_package_brings_is_inconclusive(practice):
    edit(practice, ("units: [orthanc.service]", "units: [pacs.service]"))
    proof = practice.prove(items="imaging")
    assert (proof.code, application(proof)["verdict"]) == (2, "INCONCLUSIVE")
    assert proof.codes("imaging") == {"unit_missing"}


def test_an_index_row_whose_file_is_lost(practice):
    """Told when the backup is made, and by the proof: in the database's level and by the server itself."""
    found = ssh("server1", f"find {STORAGE} -type f | sort | head -n 1").strip()
    assert found
    ssh("server1", f"mv {found} /root/lost.dcm")
    try:
        save_fails = ssh("server1", "systemctl start holdfast-backup@imaging.service; echo $?").strip()
        state = record("imaging")
    finally:
        ssh("server1", f"mv /root/lost.dcm {found}")
    assert (save_fails != "0", state["state"]) == (True, "INCOMPLETE"), state
    assert "images_missing" in {reason["code"] for reason in state["reasons"]}
    save("imaging_settings")
    edit(practice, ("      owner: orthanc\n", "      owner: orthanc\n      limit: 30s\n"))
    proof = practice.prove(items="imaging")
    assert proof.code == 1
    assert "images_missing" in proof.codes("imaging")
    assert Path(found).name not in json.dumps(proof.body)
    save("imaging")
