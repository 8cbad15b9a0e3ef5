"""A restic that is held reads no file before the agent has looked at all of them, and none at all where it may not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_host, agent_latch

# as restic does it: a list of excludes that is no list ends it
RESTIC = """#!/bin/sh
touch {folder}/opened
for last; do :; done
read -r pattern < "${{last#--exclude-file=}}" && [ "$pattern" = "/dev/null/[x]" ] || {{ touch {folder}/refused; exit 1; }}
cat > {folder}/stored
echo stored
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "restic").write_text(RESTIC.format(folder=tmp_path))
    (tmp_path / "restic").chmod(0o755)
    return tmp_path


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def held(folder, children):
    return agent_latch.held(children.begin, [str(folder / "restic"), "backup"], dict(os.environ), b"/srv\0")


def watched(latch):
    return latch.restic.watch(lambda _line: False)


@pytest.mark.parametrize("slow", [True, False])
def test_it_reads_when_it_may(folder, slow):
    with held(folder, agent_host.Children()) as latch:
        if slow:
            wait_for((folder / "opened").exists)
            time.sleep(0.2)
            assert not (folder / "stored").exists()
        latch.lift()
        assert watched(latch) == (0, "stored\n", "")
    assert (folder / "stored").read_bytes() == b"/srv\0"


@pytest.mark.parametrize("early", [True, False])
def test_a_run_that_fails_leaves_nothing_to_be_waited_for(folder, early):
    seen = []

    def failing():
        with held(folder, agent_host.Children()) as latch:
            seen.append(latch)
            if not early:
                wait_for((folder / "opened").exists)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert watched(seen[0])[0] == 1
    assert not (folder / "stored").exists()


def test_a_restic_that_ended_meanwhile_says_why(folder):
    (folder / "restic").write_text("#!/bin/sh\necho no >&2\nexit 12\n")
    children = agent_host.Children()
    with held(folder, children) as latch:
        wait_for(lambda: children._alive[0].poll() is not None)
        latch.lift()
        assert watched(latch) == (12, "", "no\n")


def test_no_pipe_is_left_where_restic_cannot_be_started(folder, monkeypatch):
    made, pipe = [], os.pipe
    monkeypatch.setattr(agent_latch.os, "pipe", lambda: made.append(pipe()) or made[-1])
    (folder / "restic").unlink()
    with pytest.raises(FileNotFoundError), held(folder, agent_host.Children()):
        pytest.fail("it was started")
    for end in made[0]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)


@pytest.mark.parametrize("opened", [True, False])
def test_an_agent_that_is_killed_lets_nothing_be_read(folder, opened):
    said = f"""
import os, signal, sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from {agent_latch.__name__} import held
from {agent_host.__name__} import Children
folder = Path({str(folder)!r})
with held(Children().begin, [str(folder / "restic")], dict(os.environ), b""):
    while {opened} and not (folder / "opened").exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", said], check=False).returncode == -signal.SIGKILL
    wait_for((folder / "refused").exists)
    assert not (folder / "stored").exists()
