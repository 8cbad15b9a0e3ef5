"""An oracle is stored by a run that says so, and by no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent_files,
    agent_host,
    agent_job,
    agent_oracle,
    agent_progress,
    agent_repository,
    agent_run,
    restic,
)

Backup = agent_run.Backup
ID = "a" * 64
# stores what the program after -- says, unless it fails: as restic does with --stdin-from-command
RESTIC = f"""#!/bin/sh
echo "$@" > {{folder}}/arguments
while [ "$1" != -- ]; do shift; done
shift
touch {{folder}}/opened
"$@" > {{folder}}/unfinished || exit 1
mv {{folder}}/unfinished {{folder}}/stored
echo '{{{{"message_type":"summary","snapshot_id":"{ID}"}}}}'
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "restic").write_text(RESTIC.format(folder=tmp_path))
    (tmp_path / "restic").chmod(0o755)
    (tmp_path / "oracle").write_text('{"a": 1}')
    return tmp_path


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def door_of(folder, children):
    return agent_oracle.Door(
        children.start, [str(folder / "restic"), "backup"], dict(os.environ), "x.json", folder / "oracle"
    )


def test_the_word_lets_the_oracle_through(folder):
    door = door_of(folder, agent_host.Children())
    wait_for((folder / "opened").exists)
    assert not (folder / "stored").exists()
    code, out, _err = door.store()
    assert (code, json.loads(out)["snapshot_id"]) == (0, ID)
    assert (folder / "stored").read_text() == '{"a": 1}'


def test_a_restic_that_opens_slowly_hears_the_word_too(folder):
    assert door_of(folder, agent_host.Children()).store()[0] == 0
    assert (folder / "stored").exists()


def test_an_oracle_that_is_not_there_is_not_stored(folder):
    (folder / "oracle").unlink()
    assert door_of(folder, agent_host.Children()).store()[0] == 1
    assert not (folder / "stored").exists()


def test_a_restic_that_ended_meanwhile_says_so_with_its_exit_code(folder):
    (folder / "restic").write_text("#!/bin/sh\necho no >&2\nexit 12\n")
    children = agent_host.Children()
    door = door_of(folder, children)
    wait_for(lambda: children._alive[0].poll() is not None)
    assert door.store() == (12, "", "no\n")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_is_killed_leaves_no_oracle(folder, sign):
    """What is left of it waits for a word that no one can give any more."""
    said = f"""
import os, signal, sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from {agent_oracle.__name__} import Door
from {agent_host.__name__} import Children
folder = Path({str(folder)!r})
door = Door(Children().start, [str(folder / "restic")], dict(os.environ), "x.json", folder / "oracle")
while not (folder / "opened").exists():
    time.sleep(0.02)
os.kill(os.getpid(), {int(sign)})
time.sleep(20)
"""
    (folder / "restic").write_text(
        RESTIC.format(folder=folder).replace("|| exit 1", f"|| {{ touch {folder}/refused; exit 1; }}")
    )
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == -sign
    wait_for((folder / "refused").exists)
    assert not (folder / "stored").exists()


@pytest.mark.parametrize("word", [b"", b"who", b"whole", b"wholesome\n"])
def test_no_other_word_lets_it_through(folder, monkeypatch, word):
    monkeypatch.setattr(agent_oracle, "WORD", word)
    assert door_of(folder, agent_host.Children()).store()[0] == 1
    assert not (folder / "stored").exists()


JOB = {
    "schema": 1, "practice": "harbour", "host": "server1", "name": "documents", "item": "documents",
    "repository": {"url": "rest:x", "username": "x"}, "paths": ["/srv/x"],
}  # fmt: skip


def backup_in(folder, children, outcome):
    backup = Backup.__new__(Backup)
    backup.job, backup.run_id, backup.outcome, backup.children = (
        agent_job.parse(json.dumps(JOB)), "R", outcome, children,
    )  # fmt: skip
    backup.places = agent_host.Places(
        folder / "etc", folder / "state", folder / "cache", folder / "run", boot_id=folder / "boot"
    )
    backup.progress = agent_progress.Progress(lambda _now: None, "documents", "R")
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    backup.restic, backup.door = SimpleNamespace(repository=restic.Repository("rest:x", "/p"), env=env), None
    return backup


@pytest.mark.parametrize("early", [True, False])
def test_what_is_stored_is_what_is_kept_on_the_host(folder, early):
    (folder / "letters").mkdir()
    (folder / "letters" / "a").write_text("a")
    manifest = agent_files.survey([str(folder / "letters")], [], {})
    agent_files.hash_new(manifest)
    outcome = agent_run.Outcome(holds=["suspect"])
    backup = backup_in(folder, agent_host.Children(), outcome)
    if early:
        backup._open_door()
    backup._store_oracle({"schema": 1, "files": {"count": 1, "manifest": manifest}, "database": None})
    kept = backup.places.oracle("documents").read_text()
    assert (folder / "stored").read_text() == kept
    files = {"count": 1, "manifest": list(manifest.entries())}
    assert json.loads(kept) == {"schema": 1, "files": files, "database": None}
    assert outcome.snapshots["oracle"] == ID
    words = (folder / "arguments").read_text().split()
    assert {"part=oracle", "hold=suspect", "run=R"} <= set(words[: words.index("--")])


def test_an_oracle_without_files_is_whole_too():
    oracle = {"schema": 1, "files": None, "database": {"tables": {}}}
    assert json.loads("".join(agent_oracle.pieces(oracle))) == oracle


@pytest.mark.parametrize("stopped", [True, False])
def test_a_run_that_fails_while_restic_waits_ends_it_before_its_pipe_closes(folder, monkeypatch, stopped):
    seen = []
    kept = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]

    def failing(_job, _places, _run_id, children, outcome):
        backup = backup_in(folder, children, outcome)

        def run():
            backup._open_door()
            seen.append(children._alive[-1])
            wait_for((folder / "opened").exists)
            if stopped:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(20)
            raise agent_repository.RunError("path_vanished", "x")

        backup.run = run
        return backup

    monkeypatch.setattr(agent_run, "Backup", failing)
    outcome = agent_run.Outcome()
    try:
        places = agent_host.Places(folder / "etc", folder / "state", folder / "cache", folder / "run")
        agent_run.attempt(agent_job.parse(json.dumps(JOB)), places, "R", outcome, time.time())
    finally:
        for number, handler in kept:
            signal.signal(number, handler)
    assert [reason["code"] for reason in outcome.reasons] == ["stopped" if stopped else "path_vanished"], (
        outcome.reasons
    )
    # it was ended; a pipe that closed first would have made it end by itself, with 1
    assert seen[0].returncode == -signal.SIGTERM
    assert not (folder / "stored").exists()
    assert outcome.snapshots["oracle"] is None
