"""How far a run is: what is written, how often, and what people see of it."""

from __future__ import annotations

import json
import os
import tracemalloc

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_host, agent_progress

STATUS = {"message_type": "status", "files_done": 3, "total_files": 9, "bytes_done": 400, "current_files": ["/x"]}
HALF = {
    "phase": "files", "files": 5, "bytes": 2048, "total_files": 10, "total_bytes": 4096, "percent": 50, "rate": 1024,
}  # fmt: skip


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def progress(tmp_path, clock):
    return agent_progress.Progress(
        agent_progress.to_file(tmp_path / "documents.progress.json"), "documents", "R", clock
    )


def read(tmp_path):
    return json.loads((tmp_path / "documents.progress.json").read_text())


def test_restics_own_words_become_progress_against_what_was_counted_before(progress, clock, tmp_path):
    progress.begin("files", 10, 1000)
    clock.now += 2
    assert progress.restic(json.dumps(STATUS).encode())
    found = read(tmp_path)
    assert (found["phase"], found["files"], found["bytes"], found["percent"], found["rate"]) == (
        "files",
        3,
        400,
        40,
        200,
    )
    assert "/x" not in json.dumps(found)


def test_nothing_is_written_twice_within_a_second(progress, clock, tmp_path):
    progress.begin("hash", 10, 1000)
    clock.now += 0.5
    progress.add(1, 10)
    assert read(tmp_path)["files"] == 0
    clock.now += 0.5
    progress.add(1, 10)
    assert read(tmp_path)["files"] == 2


@pytest.mark.parametrize(
    "line", [b"", b"status", b'{"message_type":"summary"}', b'{"message_type":"error","error":"status"}', b'["status"]']
)
def test_every_other_line_is_left_for_whoever_reads_the_output(progress, line):
    progress.begin("files")
    assert not progress.restic(line)


def test_a_picture_that_cannot_be_drawn_ends_no_backup(tmp_path, clock):
    (tmp_path / "file").write_text("")
    progress = agent_progress.Progress(agent_progress.to_file(tmp_path / "file" / "x.json"), "documents", "R", clock)
    progress.begin("files")


@pytest.mark.parametrize(
    ("now", "percent"),
    [
        ({"bytes": 1, "total_bytes": 3, "files": 0, "total_files": 0}, 33),
        ({"bytes": 9, "total_bytes": 3, "files": 0, "total_files": 0}, 99),
        ({"bytes": 9, "total_bytes": None, "files": 1, "total_files": 2}, 50),
        ({"bytes": 9, "total_bytes": None, "files": 1, "total_files": None}, None),
    ],
)
def test_a_share_is_told_only_where_a_total_is_known_and_never_before_the_end(now, percent):
    assert agent_progress.percent(now) == percent


def test_the_bar_fits_its_terminal():
    line = agent_progress.bar(HALF, 200)
    assert line == "[##########..........] storing files 50 %, 5 of 10 files, 2.0 KiB of 4.0 KiB, 1.0 KiB/s"
    assert len(agent_progress.bar(HALF, 40)) == 39
    assert agent_progress.bar({"phase": "settle"}, 80).startswith("[????????????????????] comparing")


def test_lines_that_are_taken_cost_no_memory_and_the_rest_comes_through():
    count = 200_000
    script = (
        f"yes '{json.dumps(STATUS)}' | head -n {count}; echo the end; cat; echo wrong >&2; exit 3"  # 17 MB of status
    )
    seen = [0]

    def take(line):
        seen[0] += b"status" in line
        return b"status" in line

    tracemalloc.start()
    try:
        code, out, err = agent_host.Children().run(["sh", "-c", script], dict(os.environ), b"from stdin", take)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (code, out, err, seen[0]) == (3, "the end\nfrom stdin", "wrong\n", count)
    assert peak < 1_000_000


def test_a_program_that_does_not_read_its_input_is_no_crash():
    big = b"x" * 1_000_000
    assert agent_host.Children().run(["sh", "-c", "exit 5"], dict(os.environ), big, lambda _line: False)[0] == 5
