"""A suspicion stands until a person ends it, and what the agent remembers is never learnt from it."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent,
    agent_files,
    agent_host,
    agent_job,
    agent_people,
    agent_tripwires,
    canary,
)

PDF = b"%PDF-1.4 "
NOISE = random.Random(1)


class Host:
    """A folder of forty letters, a job that watches it, and runs of its hashing pass."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "letters"
        self.canary = self.folder / "leave.pdf"
        self.places = agent_host.Places(etc=tmp_path / "etc", state=tmp_path / "state", run=tmp_path / "run")
        self.text = json.dumps({
            "schema": 1, "practice": "harbour", "host": "server1", "name": "documents", "item": "documents",
            "repository": {"url": "rest:x", "username": "x"}, "paths": [str(self.folder)],
            "tripwires": {"canaries": [str(self.canary)]},
        })  # fmt: skip
        self.job = agent_job.parse(self.text)
        self.places.job("documents").parent.mkdir(parents=True)
        self.places.job("documents").write_text(self.text)
        self.folder.mkdir()
        for n in range(40):
            self.letter(n).write_bytes(PDF + b"%d" % n)
        self.lay()
        self.cache: dict[str, bytes] = {}
        self.runs = 0

    def letter(self, n: int) -> Path:
        return self.folder / f"letter {n}.pdf"

    def lay(self) -> None:
        self.canary.write_bytes(canary.content("harbour", "server1", str(self.canary)))

    def encrypt(self, n: int) -> None:
        for each in range(n):
            self.letter(each).write_bytes(NOISE.randbytes(3000))

    def run(self, keep: bool = True) -> set[str]:
        self.runs += 1
        wires = agent_tripwires.Wires(self.job, self.places, f"R{self.runs}", len(self.cache))
        manifest = agent_files.survey([str(self.folder)], [], self.cache)
        agent_files.hash_new(manifest, wires.see)
        found = wires.judge(manifest, [str(self.folder)])
        self.manifest, self.section, self.messages = manifest, wires.section(), [each.message for each in found]
        if keep:
            # what the cache would be, were the files older than two seconds
            self.cache = manifest.files
            wires.keep()
        return {each.code for each in found}

    @property
    def state(self) -> dict:
        return json.loads(self.places.tripwires("documents").read_text())

    def clear(self, *reason: str) -> int:
        return agent.main(
            ["clear", "documents", *(["--reason", *reason] if reason else [])], self.places, agent_people.PARTS
        )


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "robin")
    monkeypatch.setattr(agent_tripwires.syslog, "syslog", lambda _level, text: said.append(text))
    said: list[str] = []
    host = Host(tmp_path)
    host.said = said
    assert host.run() == set()
    assert host.run() == set()
    return host


def test_a_suspicion_stands_until_a_person_ends_it(host, capfdbinary):
    learnt = host.state["history"]
    host.encrypt(20)
    assert host.run() == {"suspect_magic", "suspect_change"}
    assert host.run() == {"suspect_magic", "suspect_change"}
    assert all("nobody has cleared it" in message for message in host.messages)
    assert host.state["history"] == learnt
    assert host.state["suspect"]["run"] == "R3"
    assert host.clear() == 2
    assert b"letter 0.pdf" in capfdbinary.readouterr().out
    assert host.run() == {"suspect_magic", "suspect_change"}
    assert host.clear("the vendor seals letters now") == 0
    cleared = host.state["cleared"][-1]
    assert (cleared["by"], cleared["reason"], cleared["run"]) == ("robin", "the vendor seals letters now", "R3")
    assert "cleared by robin: the vendor seals letters now" in host.said[0]
    assert host.run() == set()
    assert host.section["cleared"] == cleared
    assert (host.section["types"], host.section["accepted"]) == ({"pdf": {"files": 41, "wrong": 20}}, 20)
    # as many on another day are ordinary now
    for n in range(20):
        host.letter(n).write_bytes(NOISE.randbytes(3000))
    assert host.run() == set()


def test_files_that_are_back_do_not_end_it(host):
    host.canary.unlink()
    assert host.run() == {"suspect_canary"}
    host.lay()
    assert host.run() == {"suspect_canary"}
    host.clear("a cleaning program, now told to leave it")
    assert host.run() == set()


def test_what_was_not_stored_is_seen_again(host):
    host.encrypt(20)
    assert host.run(keep=False) == {"suspect_magic", "suspect_change"}
    assert "suspect" not in host.state
    assert host.run() == {"suspect_magic", "suspect_change"}


@pytest.mark.parametrize(
    ("harm", "codes"),
    [
        (lambda host: host.canary.write_bytes(PDF), {"suspect_canary"}),
        (lambda host: host.canary.rename(host.canary.with_suffix(".locked")), {"suspect_canary"}),
        (lambda host: os.utime(host.canary), set()),
        # a disk that is not mounted has a reason of its own
        (lambda host: [path.unlink() for path in host.folder.iterdir()], set()),
        (lambda host: shutil.rmtree(host.folder), set()),
    ],
)
def test_canaries(host, harm, codes):
    harm(host)
    assert host.run() == codes


def test_a_canary_that_was_never_laid_is_not_missed_and_one_that_went_after_a_clearing_neither(host):
    host.canary.unlink()
    host.places.tripwires("documents").unlink()
    assert host.run() == set()
    host.lay()
    assert host.run() == set()
    host.canary.unlink()
    assert host.run() == {"suspect_canary"}
    host.clear("gone for good")
    assert host.run() == set()


def test_our_own_file_makes_no_folder_full(host):
    for n in range(40):
        host.letter(n).unlink()
    host.run()
    assert host.manifest.empty_roots == [str(host.folder)]


def test_what_the_document_leaves_out_now_is_not_gone(host):
    text = json.loads(host.text)
    host.job = agent_job.parse(json.dumps({**text, "paths": [str(host.folder / "letter 1.pdf")], "tripwires": {}}))
    wires = agent_tripwires.Wires(host.job, host.places, "R", len(host.cache))
    roots = [str(host.folder / "letter 1.pdf")]
    manifest = agent_files.survey(roots, [], host.cache)
    assert wires.judge(manifest, roots) == []
    manifest = agent_files.survey([str(host.folder)], ["letter 3*"], host.cache)
    assert wires.judge(manifest, [str(host.folder)]) == []
    assert host.state["history"][-1]["gone"] == 0


def test_clearing_declines_while_a_run_is_under_way_and_says_when_there_is_nothing_to_clear(host):
    assert host.clear("x") == 0
    assert host.clear() == 0
    with (host.places.run / "documents.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert host.clear("x") == 4
    host.places.job("documents").write_text("{")
    assert host.clear("x") == 3
    assert host.said == []


def test_damaged_memory_is_no_reason_to_fail(host):
    host.places.tripwires("documents").write_text("{nonsense")
    host.encrypt(30)
    assert "suspect_magic" in host.run()
