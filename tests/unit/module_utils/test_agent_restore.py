"""What people see of a repository, and what comes back of it: never over live data, never unchecked, never nothing."""

from __future__ import annotations

import hashlib
import io
import json
import os
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent,
    agent_browse,
    agent_host,
    agent_people,
    agent_restore,
    agent_runs,
    agent_snapshots,
    agent_start,
)
from ansible_collections.holdfast.practice.plugins.module_utils.agent_runs import Run
from ansible_collections.holdfast.practice.plugins.module_utils.agent_snapshots import AskedError

JOB = {
    "schema": 1, "practice": "harbour-street", "host": "server1", "name": "documents", "item": "documents",
    "repository": {"url": "rest:https://198.18.0.11:8000/server1/", "username": "server1"},
}  # fmt: skip


def snapshot(run, part, time="2026-11-24T10:00:00.123456789+11:00", job="documents", hold=None, **summary):
    tags = ["practice=p", f"job={job}", f"run={run}", f"part={part}", *([f"hold={hold}"] if hold else [])]
    return {"id": f"{run}-{part}", "time": time, "tags": tags, "summary": summary}


def test_snapshots_become_runs_newest_first():
    runs, strangers = agent_runs.runs_of(
        [
            snapshot("A", "files", total_files_processed=3, total_bytes_processed=30),
            snapshot("A", "oracle", hold="suspect", total_files_processed=1, total_bytes_processed=99),
            snapshot("B", "files", time="2026-11-24T00:00:01Z", total_files_processed=4, total_bytes_processed=40),
            {"id": "x", "time": "2026-11-24T00:00:01Z", "tags": None},
            {**snapshot("A", "files", time="2026-12-24T00:00:01Z"), "id": "forged later"},
        ]
    )
    assert [(run.run, run.complete, run.files, run.bytes, run.holds) for run in runs] == [
        ("B", False, 4, 40, []),
        ("A", True, 3, 30, ["suspect"]),
    ]
    assert (strangers, runs[1].taken, runs[1].parts["files"]) == (2, "2026-11-23T23:00:00Z", "A-files")
    assert "no: it never came to its end" in agent_snapshots.table(runs)


def run(name, *parts, job="documents", holds=()):
    return Run(job, name, parts=dict.fromkeys(parts, "x"), holds=list(holds))


RUNS = [
    run("20261103-c", "files"),
    run("20261102-b", "files", "oracle", holds=["suspect"]),
    run("20261101-a", "files", "oracle"),
    run("20261101-z", "files", "oracle", job="other"),
]


@pytest.mark.parametrize(
    ("runs", "wanted", "chosen"),
    [
        (RUNS, None, "20261101-a"),
        (RUNS[:2], None, "20261102-b"),
        (RUNS, "20261103", "20261103-c"),
        (RUNS, "20261102-b", "20261102-b"),
    ],
)
def test_the_newest_whole_run_that_nothing_holds_is_taken_unless_one_is_named(runs, wanted, chosen):
    assert agent_restore.choose(runs, "documents", wanted).run == chosen


@pytest.mark.parametrize(
    ("runs", "wanted", "words"),
    [(RUNS[:1], None, "no complete run"), (RUNS, "2025", "no such run"), (RUNS, "202611", "3 runs begin so")],
)
def test_what_cannot_be_chosen_is_said(runs, wanted, words):
    with pytest.raises(AskedError, match=words):
        agent_restore.choose(runs, "documents", wanted)


@pytest.mark.parametrize(("path", "wanted"), [("/a b/c", "/a b/c"), ("/x[1]*?\\", "/x\\[1\\]\\*\\?\\\\")])
def test_restic_takes_a_path_for_what_it_is(path, wanted):
    assert agent_restore.pattern(path) == wanted


def test_every_place_that_a_job_backs_up_is_live():
    sqlite = {"engine": "sqlite", "path": "/srv/pms/pms.db", "images": {"query": "select 1", "root": "/srv/scans"}}
    texts = [json.dumps({**JOB, "paths": ["/srv/a"]}), "{", json.dumps({**JOB, "database": sqlite})]
    assert agent_restore.live_paths(texts) == ["/srv/a", "/srv/scans", "/srv/pms"]


def test_a_folder_for_a_restore_is_new_or_empty_and_never_live(tmp_path):
    live = tmp_path / "live"
    (live / "letters").mkdir(parents=True)
    (tmp_path / "link").symlink_to(live)
    (tmp_path / "empty").mkdir()
    assert agent_restore.check_folder(str(tmp_path / "new"), [str(live)]) == str(tmp_path / "new")
    assert agent_restore.check_folder(str(tmp_path / "empty"), [str(live)]) == str(tmp_path / "empty")
    for folder, words in (
        (live, "live data"), (live / "new", "live data"), (tmp_path, "or holds it"), (tmp_path / "link" / "new", "live data"),
        (tmp_path / "no" / "new", "does not exist"), (live.parent / "live2", None),
    ):  # fmt: skip
        if words:
            with pytest.raises(AskedError, match=words):
                agent_restore.check_folder(str(folder), [str(live)])
    (tmp_path / "empty" / "x").touch()
    with pytest.raises(AskedError, match="not an empty folder"):
        agent_restore.check_folder(str(tmp_path / "empty"), [])


def test_room_is_looked_for_before_anything_is_written(tmp_path):
    agent_restore.check_room(str(tmp_path / "new"), 1)
    with pytest.raises(AskedError, match="are needed"):
        agent_restore.check_room(str(tmp_path / "new"), 1 << 60)


def entry(path, content=b"x", **more):
    digest = hashlib.blake2b(content, digest_size=32).hexdigest()
    return {"path": path, "size": len(content), "blake2b": digest, "volatile": False, **more}


def test_what_came_back_is_compared_with_what_the_agent_saw(tmp_path):
    for name, content in (("good", b"x"), ("bad", b"y"), ("long", b"xx"), ("moved", b"?")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link").symlink_to("good")
    entries = [entry(f"/{name}") for name in ("good", "bad", "long", "gone", "link")]
    entries.append(entry("/moved", volatile=True))
    result = agent_restore.Result("documents", "R", str(tmp_path))
    progress = SimpleNamespace(add=lambda _files, _size: None)
    agent_restore.compare(str(tmp_path), entries, result, progress)
    assert (result.files, result.equal, result.not_comparable, result.state) == (4, 1, 1, "FAILED")
    assert [(reason["code"], reason["message"]) for reason in result.reasons] == [
        ("files_missing", "1 of 6 files did not come back: /gone"),
        ("files_differ", "3 of 6 files differ: /bad, /long, /link"),
    ]


def test_a_failure_is_never_softened_by_a_gap():
    result = agent_restore.Result("documents", "R", "/x")
    result.add("a", "b")
    result.add("c", "d", "INCOMPLETE")
    assert result.state == "FAILED"


# --- a restore with restic played


class Played(agent_restore.Restore):
    """A run whose files are in a folder; ``restic`` copies what is asked for."""

    def __init__(self, tmp_path, names, lose=(), oracle=True):
        self.job = SimpleNamespace(name="documents", stored_as="documents", database=None)
        self.run = run("R", "files", *(["oracle"] if oracle else []))
        self.screen = agent_start.Screen(io.StringIO(), as_json=False)
        self.oracle = {} if oracle else None
        self.entries = {f"/srv/{name}": entry(f"/srv/{name}", name.encode()) for name in names} if oracle else {}
        self.tree = agent_browse.Tree((f"/srv/{name}", len(name)) for name in names)
        self.lose, self.asked = lose, []

    def _fetch(self, part, paths, folder, result, progress):
        self.asked.append((part, paths))
        for path in (path for each in paths or ["/"] for path in self.tree.below(each)):
            name = os.path.basename(path)  # noqa: PTH119
            if name not in self.lose:
                os.makedirs(folder + os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
                with open(folder + path, "wb") as stream:  # noqa: PTH123
                    stream.write(name.encode())


def test_a_restore_counts_and_compares_what_was_asked_for(tmp_path):
    played = Played(tmp_path, ["a", "b"])
    result = played.do(played.paths(["/srv/a"]), str(tmp_path))
    assert (result.state, result.files, result.equal, played.asked) == ("OK", 1, 1, [("files", ["/srv/a"])])
    assert played.do(["/"], str(tmp_path / "all")).equal == 2
    assert played.asked[-1] == ("files", [])


def test_a_restore_of_nothing_is_a_failure(tmp_path):
    played = Played(tmp_path, ["a"], lose=["a"])
    result = played.do(["/srv/a"], str(tmp_path))
    assert result.state == "FAILED"
    assert [reason["code"] for reason in result.reasons] == ["files_missing", "nothing_restored"]


def test_a_restore_that_nothing_vouches_for_says_so(tmp_path):
    played = Played(tmp_path, ["a"], oracle=False)
    result = played.do(["/srv/a"], str(tmp_path))
    assert (result.state, [reason["code"] for reason in result.reasons]) == ("INCOMPLETE", ["no_oracle"])


def test_a_path_that_is_not_in_the_run_is_named_with_what_may_be_meant(tmp_path):
    with pytest.raises(AskedError, match="/srv/letter is not in run R; perhaps: /srv/letter 1"):
        Played(tmp_path, ["letter 1"]).paths(["/srv/letter"])
    with pytest.raises(AskedError):
        Played(tmp_path, ["a"]).paths(["srv/a"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--all", "--in-place"], "takes both"),
        (["--all", "--force"], "takes both"),
        (["--in-place", "--force"], "--path or --all"),
        (["--all", "--to", "/x", "--in-place", "--force"], "no --to"),
        ([], "without a terminal"),
        (["--json"], "without a terminal"),
        (["--all"], "no such job on this host; there are: other"),
        (["--all", "--to", "LIVE/new"], "live data"),
    ],
)
def test_wrong_questions_end_with_3_and_touch_nothing(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    places = agent_host.Places(etc=tmp_path / "etc", state=tmp_path / "state", run=tmp_path / "run")
    (tmp_path / "etc/jobs").mkdir(parents=True)
    live = tmp_path / "live"
    live.mkdir()
    places.job("other").write_text(json.dumps({**JOB, "name": "other", "paths": [str(live)]}))
    argv = ["restore", "documents", *(each.replace("LIVE", str(live)) for each in arguments)]
    assert agent.main(argv, places, agent_people.PARTS, "holdfast-agent") == 3
    assert words in capsys.readouterr().err


# --- browsing

TREE = [("/srv/docs/a letter.txt", 10), ("/srv/docs/new\nline\udcfc.txt", 20), ("/srv/docs/sub/Brief.PDF", 30)]


def walk(*lines):
    got, out = [], io.StringIO()
    browser = agent_browse.Browser(
        "documents", agent_browse.Tree(TREE), lambda paths: got.append(list(paths)) or 2,
        stdin=io.StringIO("\n".join([*lines, ""])), stdout=out,
    )  # fmt: skip
    browser.use_rawinput = False
    return agent_browse.browse(browser), got, out.getvalue()


def test_a_walk_begins_where_there_is_a_choice_and_shows_what_is_there():
    code, got, said = walk("ls", "cd sub", "pwd", "ls", "cd ..", "pwd", "", "quit")
    assert (code, got) == (0, [])
    for words in (
        "30 B  sub/  (1 files)",
        "10 B  a letter.txt",
        "new\\nline\\udcfc.txt",
        "30 B  Brief.PDF",
        "/srv/docs/sub\n",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("line", "got"),
    [
        ("get 'a letter.txt'", ["/srv/docs/a letter.txt"]),
        ("get a\\ letter.txt sub", ["/srv/docs/a letter.txt", "/srv/docs/sub"]),
        ("get 'new\\nline\\udcfc.txt'", ["/srv/docs/new\nline\udcfc.txt"]),
        ("get .", ["/srv/docs"]),
        ("get /srv/docs/sub/Brief.PDF", ["/srv/docs/sub/Brief.PDF"]),
    ],
)
def test_what_is_shown_can_be_got(line, got):
    assert walk(line, "quit")[:2] == (2, [got])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("find brief", "/srv/docs/sub/Brief.PDF\n1 files"),
        ("find *.txt", "2 files"),
        ("find", "find what?"),
        ("get", "get what?"),
        ("get nothing", "nothing: not in this run"),
        ("get 'open", "No closing quotation"),
        ("cd 'a letter.txt'", "is a file; get it with"),
        ("rm -rf /", "rm: there is no such command"),
        ("help", "find"),
        ("EOF", "\n"),
    ],
)
def test_every_line_has_an_answer(line, words):
    code, got, said = walk(line, "quit")
    assert (code, got) == (0, [])
    assert words in said


def test_names_are_completed():
    browser = agent_browse.Browser("documents", agent_browse.Tree(TREE), lambda _paths: 0)
    assert browser.completedefault("su") == ["sub/"]
    assert browser.completedefault("sub/") == ["sub/Brief.PDF"]
    assert browser.completedefault("none/x") == []
