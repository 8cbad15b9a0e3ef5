"""A survey of real machines: it finds what was forgotten, names no patient, changes nothing, and offers lines that work."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

REPO = Path(__file__).resolve().parents[3]
PATIENT = "Mustermann"
PLANT = {
    "server1": f"""
import os, sqlite3, subprocess
os.makedirs("/opt/pms")
with sqlite3.connect("/opt/pms/pms.db") as database:
    database.execute("create table t (a)")
    database.executemany("insert into t values (?)", [("x" * 90,)] * 500)
os.makedirs("/srv/xray/{PATIENT}")
for number in range(5):
    with open("/srv/xray/{PATIENT}/IM%04d" % number, "wb") as image:
        image.write(bytes(128) + b"DICM" + bytes(5000))
def psql(base, text):
    subprocess.run(["runuser", "-u", "postgres", "--", "psql", "-XqAt", "-d", base, "-c", text], check=True, cwd="/")
psql("postgres", "create database billing")
psql("billing", "create table invoice as select generate_series(1, 1000) as number")
""",
    "desk1": f"""
import os
for folder in ("Tables/{PATIENT}", "Maildir/cur", "Maildir/new", "Maildir/tmp"):
    os.makedirs("/home/reception/" + folder)
open("/home/reception/Tables/{PATIENT}/appointments.xlsx", "wb").write(b"PK" + bytes(3000))
for number in range(3):
    open("/home/reception/Maildir/cur/%d.M1.desk1:2,S" % number, "w").write("From: {PATIENT}")
""",
}
CLEAR = {
    "server1": "rm -rf /opt/pms /srv/xray && cd / && runuser -u postgres -- dropdb --if-exists billing",
    "desk1": "rm -rf /home/reception/Tables /home/reception/Maildir",
}
FORGOTTEN = {
    ("server1", "billing"),
    ("server1", "/opt/pms/pms.db"),
    ("server1", "/srv/xray"),
    ("desk1", "/home/reception/Tables"),
    ("desk1", "/home/reception/Maildir"),
}


def clear(hosts):
    for name, command in CLEAR.items():
        hosts[name].check_output(command)


@pytest.fixture(scope="module")
def forgotten(hosts):
    """Data that nobody has put into the document."""
    clear(hosts)
    for name, text in PLANT.items():
        hosts[name].check_output("python3 -c %s", text)
    yield
    clear(hosts)


@pytest.fixture(scope="module")
def folder(practice, tmp_path_factory):
    """The practice's folder without the vault's password."""
    copy = tmp_path_factory.mktemp("survey") / "harbour-street"
    shutil.copytree(practice.folder, copy, ignore=shutil.ignore_patterns("results", ".vault-password"))
    (copy / "ssh_key").chmod(0o600)
    assert (copy / "group_vars/all/vault.yml").read_text().startswith("$ANSIBLE_VAULT")
    return copy


def survey(folder, *options):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    command = ["ansible-playbook", "-i", str(folder), "playbooks/survey.yml", *options]
    return subprocess.run(command, cwd=REPO, env=environment, text=True, capture_output=True, check=False)


def result(folder):
    return json.loads((folder / "results/survey.json").read_text())


def unprotected(found):
    listed = set()
    for name, facts in found["hosts"].items():
        for each in facts.get("databases", []):
            listed |= {(name, each["path"] or each["name"])} if not each["protected_by"] else set()
        listed |= {(name, each["path"]) for each in facts.get("stores", []) if not each["protected_by"]}
    return listed


def changes(done):
    return set(re.findall(r"changed=(\d+)", done.stdout))


@pytest.fixture(scope="module")
def surveyed(forgotten, folder):
    done = survey(folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done


def test_a_dry_run_says_it_all_and_writes_nothing(forgotten, folder):
    done = survey(folder, "--check")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "/srv/xray" in done.stdout
    assert not (folder / "results").exists()


def test_it_finds_all_that_was_forgotten_and_nothing_that_is_protected(surveyed, folder):
    found = result(folder)
    assert unprotected(found) == FORGOTTEN
    assert changes(surveyed) == {"0"}
    assert stat.S_IMODE((folder / "results/survey.json").stat().st_mode) == 0o600
    assert {(each["host"], each["item"]) for each in found["unprotected"]} == {
        ("server1", "billing"),
        ("server1", "pms"),
        ("server1", "xray"),
        ("desk1", "tables"),
        ("desk1", "maildir"),
    }


def test_protected_items_are_measured(surveyed, folder):
    found = result(folder)
    assert {"clinical_db", "documents", "desk_files", "accounts", "imaging"} <= set(found["items"])
    assert all(each["bytes"] > 1000 for each in found["items"].values())
    assert (
        found["items"]["documents"]["changed_bytes_per_day"] > 0
    )  # the demo's documents have the times of their writing
    assert found["items"]["clinical_db"]["changed_bytes_per_day"] is None  # loaded today: no day like another
    kinds = {each["kind"] for each in found["hosts"]["server1"]["stores"] if each["protected_by"]}
    assert {"documents", "images"} <= kinds
    assert found["hosts"]["nas1"]["pool"]["bytes"] > 2**30
    assert {each["used_for"] for each in found["hosts"]["nas1"]["disks"]} == {"pool"}
    assert abs(found["hosts"]["server1"]["clock_offset_s"]) < 30


def test_no_patient_is_named(surveyed, folder):
    assert PATIENT not in surveyed.stdout + surveyed.stderr
    assert PATIENT not in (folder / "results/survey.json").read_text()


def test_the_offered_lines_make_a_document_that_is_right_and_whole(surveyed, folder, tmp_path):
    offers = result(folder)["unprotected"]
    possible = [each for each in offers if not each["reason"]]
    assert {each["item"] for each in offers if each["reason"]} <= {"pms"}
    copy = tmp_path / "harbour-street"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("results"))
    lines = (copy / "practice.yml").read_text().splitlines()
    for offer in possible:
        lines.insert(lines.index("protect:") + 1, f"  {offer['line']}")
        host = next(number for number, line in enumerate(lines) if line.startswith(f"  {offer['host']}:"))
        at = next(number for number in range(host, len(lines)) if "protect: [" in lines[number])
        lines[at] = re.sub(r"protect: \[[^]]*\]", offer["protect"], lines[at])
    (copy / "practice.yml").write_text("\n".join(lines) + "\n")
    checked = subprocess.run(
        ["bin/holdfast", "validate", str(copy)], cwd=REPO, text=True, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = survey(copy)
    assert done.returncode == 0, done.stdout[-5000:]
    assert unprotected(result(copy)) <= {("server1", "/opt/pms/pms.db")}


def test_a_host_that_does_not_answer_is_named(surveyed, folder, tmp_path):
    copy = tmp_path / "harbour-street"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("results"))
    document = copy / "practice.yml"
    document.write_text(document.read_text().replace("198.18.0.13", "198.18.0.99"))
    done = survey(copy)
    assert done.returncode == 2, done.stdout[-3000:]
    assert "NOT LOOKED AT: desk1" in done.stdout
    assert "Could not be looked at: desk1;" in re.sub(r"\s+", " ", done.stdout)
    found = result(copy)
    assert found["hosts"]["desk1"]["reached"] is False
    assert found["hosts"]["server1"]["reached"] is True
    assert found["items"]["desk_files"]["bytes"] is None
