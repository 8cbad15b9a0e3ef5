# SPDX-License-Identifier: Apache-2.0
"""Evidence that somebody changed, and evidence whose writing was cut off, as the command of a stranger sees it. Needs no lab."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults_lab import REPO

PRACTICE = "harbour-street"
WRITER = """
import sys
from ansible_collections.holdfast.practice.plugins.module_utils.evidence import Ledger, SigningKey
ledger, key = Ledger(sys.argv[1]), SigningKey(open(sys.argv[2]).read())
print("ready", flush=True)
while True:
    entry = ledger.append("harbour-street", "proof", {"verdict": "PASS", "padding": "x" * 20000}, key)
    print(entry["record"]["seq"], flush=True)
"""


@pytest.fixture
def signed(tmp_path):
    """A folder for a ledger, its key, and who may sign."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = tmp_path / "evidence_signers"
    signers.write_text(f'{PRACTICE} namespaces="holdfast-evidence" {(tmp_path / "key.pub").read_text()}')
    return tmp_path / "evidence", key, signers


def writer(folder: Path, key: Path) -> subprocess.Popen[str]:
    """A process that adds records until it is killed."""
    path = {"PYTHONPATH": str(REPO / ".collections"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    started = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(key)], stdout=subprocess.PIPE, text=True, env=path
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def written(folder: Path, key: Path, records: int) -> list[bytes]:
    """That many records, at least; the lines."""
    child = writer(folder, key)
    for _ in range(records):
        child.stdout.readline()
    child.kill()
    child.communicate()
    ledger = folder / "ledger.jsonl"
    lines = ledger.read_bytes().split(b"\n")[:records]
    ledger.write_bytes(b"".join(line + b"\n" for line in lines))
    return lines


def verify(folder: Path, signers: Path) -> tuple[int, str]:
    """What bin/holdfast verify-evidence says, and how it ends."""
    command = [str(REPO / "bin/holdfast"), "verify-evidence", str(folder), "--signers", str(signers)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.fault(id="E01", title="one byte of an evidence record edited", levels=["evidence"], codes=["hash"])
def test_a_byte_that_was_edited_is_named(signed):
    folder, key, signers = signed
    lines = written(folder, key, 4)
    assert verify(folder, signers)[0] == 0
    edited = lines[2].replace(b'"verdict":"PASS"', b'"verdict":"FAIL"')
    assert edited != lines[2], "the fault did not land"
    (folder / "ledger.jsonl").write_bytes(b"\n".join([*lines[:2], edited, lines[3]]) + b"\n")
    code, said = verify(folder, signers)
    assert (code, "3" in said, "hash" in said) == (1, True, True), said


@pytest.mark.fault(id="E02", title="an evidence record removed from the middle", levels=["evidence"], codes=["chain"])
def test_a_record_that_was_removed_is_named(signed):
    folder, key, signers = signed
    lines = written(folder, key, 4)
    (folder / "ledger.jsonl").write_bytes(b"\n".join([*lines[:1], *lines[2:]]) + b"\n")
    code, said = verify(folder, signers)
    assert (code, "2" in said, "chain" in said) == (1, True, True), said


@pytest.mark.fault(id="E02-swap", title="two evidence records exchanged", levels=["evidence"], codes=["chain"])
def test_records_that_were_exchanged_are_named(signed):
    folder, key, signers = signed
    lines = written(folder, key, 4)
    (folder / "ledger.jsonl").write_bytes(b"\n".join([lines[0], lines[2], lines[1], lines[3]]) + b"\n")
    code, said = verify(folder, signers)
    assert (code, "chain" in said) == (1, True), said


@pytest.mark.fault(
    id="E06",
    title="killed while a record was written and signed, twenty times",
    verdict="PASS",
    levels=["evidence"],
    codes=[],
)
def test_a_kill_at_any_moment_leaves_whole_records_only(signed):
    folder, key, signers = signed
    rolls = random.Random(5)
    said = 0
    for _ in range(20):
        child = writer(folder, key)
        time.sleep(rolls.uniform(0.001, 0.15))
        child.kill()
        said = max([said, *map(int, child.communicate()[0].split())])
    # a kill rarely meets the few microseconds of a write: half a line is what it would leave
    ledger = folder / "ledger.jsonl"
    before = ledger.read_bytes()
    ledger.write_bytes(before + before.split(b"\n")[0][:700])
    last = json.loads(written_more(folder, key)[-1])["record"]
    assert last["seq"] > said > 0, "a record that was told of is not there"
    code, text = verify(folder, signers)
    assert code == 0, text
    gaps = [json.loads(line)["record"].get("gap") for line in ledger.read_bytes().splitlines()]
    assert any(gaps), "the gap is not noted"


def written_more(folder: Path, key: Path) -> list[bytes]:
    """One record at least; all lines."""
    child = writer(folder, key)
    child.stdout.readline()
    child.kill()
    child.communicate()
    return (folder / "ledger.jsonl").read_bytes().splitlines()
