"""A vendor's dump is taken only when it ended well, and a vendor's file only when it is whole, fresh and large enough."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_job, engine_pickup
from ansible_collections.holdfast.practice.plugins.module_utils.agent_host import Children
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import Database, DatabaseError, Tools
from ansible_collections.holdfast.practice.plugins.module_utils.engine_command import Command, account
from ansible_collections.holdfast.practice.plugins.module_utils.engine_pickup import Pickup, Seen, settled
from ansible_collections.holdfast.practice.plugins.module_utils.engine_stream import StreamCopy


def pickup(folder, children, before=None, **settings):
    database = Database("pickup", path=str(folder), settings={"pattern": "*.bak", "wait_s": 1, **settings})
    return database, Pickup().open(database, Tools(children.run, children.start, before=before))


@pytest.fixture
def children(monkeypatch):
    monkeypatch.setattr(engine_pickup, "SETTLE_S", 0.05)
    children = Children()
    yield children
    children.end()


def passed_on(view):
    return subprocess.run(view.dump_command(), capture_output=True, check=False)


def test_the_newest_file_is_taken_and_measured(tmp_path, children):
    for name, age in (("new.bak", 60), ("old.bak", 7200), ("newest.txt", 0)):
        (tmp_path / name).write_bytes(name.encode() * 100)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    (tmp_path / "link.bak").symlink_to(tmp_path / "newest.txt")
    database, view = pickup(tmp_path, children, min_size=100, check=["/usr/bin/test", "-s", "{dump}"])
    done = passed_on(view)
    section = view.describe(database, None)
    view.close()
    assert (done.returncode, done.stdout) == (0, b"new.bak" * 100)
    assert section["stream"]["blake2b"] == hashlib.blake2b(done.stdout, digest_size=32).hexdigest()
    assert section["stream"]["bytes"] == 700
    assert 55 < time.time() - view.taken() < 90
    assert section["check"] == ["/usr/bin/test", "-s", "{dump}"]


@pytest.mark.parametrize(("size", "age", "settings", "before", "code"), [
    (None, 0, {}, 0, "pickup_missing"),
    (100, 7200, {"max_age_s": 3600}, 0, "pickup_stale"),
    (100, -7200, {}, 0, "pickup_ahead"),
    (0, 0, {}, 0, "pickup_small"),
    (100, 0, {"min_size": 101}, 0, "pickup_small"),
    (100, 0, {}, 201, "pickup_shrunk"),
])  # fmt: skip
def test_a_file_that_is_no_backup_is_refused(tmp_path, children, size, age, settings, before, code):
    if size is not None:
        (tmp_path / "a.bak").write_bytes(b"x" * size)
        os.utime(tmp_path / "a.bak", (time.time() - age,) * 2)
    with pytest.raises(DatabaseError) as refused:
        pickup(tmp_path, children, {"stream": {"bytes": before}}, **settings)
    assert refused.value.code == code
    assert "a.bak" not in refused.value.message


def test_a_folder_that_is_not_there_is_named(tmp_path, children):
    with pytest.raises(DatabaseError, match="is a disk not mounted") as refused:
        pickup(tmp_path / "gone", children)
    assert refused.value.code == "pickup_missing"


def test_a_file_that_grows_is_waited_for_and_given_up():
    sizes = iter([1, 2, 3, 3])
    assert settled(lambda: Seen("a", next(sizes), 0), 60, "x", lambda _s: None).size == 3
    numbers = iter(range(1000))
    with pytest.raises(DatabaseError) as refused:
        settled(lambda: Seen("a", next(numbers), 0), 20, "x", lambda _s: None)
    assert refused.value.code == "pickup_growing"


def test_a_file_that_is_written_to_while_it_is_read_is_no_backup(tmp_path, children):
    (tmp_path / "a.bak").write_bytes(b"x" * 100)
    database, view = pickup(tmp_path, children)
    with (tmp_path / "a.bak").open("ab") as stream:
        stream.write(b"more")
    passed_on(view)
    with pytest.raises(DatabaseError) as refused:
        view.describe(database, None)
    view.close()
    assert refused.value.code == "pickup_growing"


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
@pytest.mark.parametrize(("script", "marker", "code", "said"), [
    ("echo all; echo THE END", "THE END", 0, b""),
    ("echo all", "", 0, b""),
    ("echo all", "THE END", 1, b"end marker"),
    ("echo half; exit 3", "", 1, b"ended with 3"),
    ("kill -9 $$", "", 1, b"ended with 137"),
    ("true", "", 1, b"empty"),
])  # fmt: skip
def test_a_program_is_believed_only_when_it_ends_well(children, monkeypatch, script, marker, code, said):
    monkeypatch.setenv("RESTIC_REST_PASSWORD", "of the NAS")
    settings = {"dump": ["/bin/sh", "-c", f"env; id -un; {script}"], "user": "nobody", "end_marker": marker}
    if script == "true":
        settings["dump"] = ["/bin/true"]
    database = Database("command", settings=settings)
    view = Command().open(database, Tools(children.run, children.start))
    try:
        done = passed_on(view)
        assert (done.returncode, said in done.stderr) == (code, True)
        assert b"of the NAS" not in done.stdout
        if code == 0:
            assert b"\nnobody\n" in done.stdout
            assert view.describe(database, None)["stream"]["bytes"] == len(done.stdout)
        else:
            with pytest.raises(DatabaseError):
                view.describe(database, None)
    finally:
        view.close()


def test_a_program_has_no_user_that_is_missing_or_root():
    for name, code in (("nobody-has-this-name", "user_missing"), ("root", "user_is_root")):
        with pytest.raises(DatabaseError) as refused:
            account(name)
        assert refused.value.code == code


ORACLE = {"engine": "command", "tables": {}, "check": ["/x", "{dump}"],
          "stream": {"bytes": 5, "blake2b": "ab", "end_marker": "END"}}  # fmt: skip


class Machine:
    def __init__(self, rc=0, size=5, digest="ab", tail=b"x\nEND\n", timed_out=False):
        self.answers = {"stat": str(size).encode(), "b2sum": digest.encode() + b"  /d", "tail": tail}
        self.rc, self.timed_out, self.ran = rc, timed_out, []

    def call(self, *argv, **_more):
        self.ran.append(argv)
        code = 0 if argv[0] in self.answers else self.rc
        timed_out = self.timed_out and argv[0] not in self.answers
        return SimpleNamespace(rc=code, out=self.answers.get(argv[0], b""), err="", seconds=1.0, timed_out=timed_out)


@pytest.mark.parametrize(("machine", "codes"), [
    (Machine(), []),
    (Machine(size=4), ["size_differs"]),
    (Machine(digest="cd"), ["dump_differs"]),
    (Machine(tail=b"x\n"), ["dump_truncated"]),
])  # fmt: skip
def test_a_dump_comes_back_byte_for_byte(machine, codes):
    copy = StreamCopy(machine, ORACLE)
    copy.load("/d")
    assert [each.code for each in Command().compare(ORACLE, copy.describe(ORACLE))] == codes
    assert Command().checked(ORACLE) == 1
    assert Command().checked({"stream": {"bytes": 0}}) == 0


@pytest.mark.parametrize(("machine", "oracle", "done", "found"), [
    (Machine(), ORACLE, "done", []),
    (Machine(rc=1), ORACLE, "failed", [("check_failed", "FAIL")]),
    (Machine(rc=127), ORACLE, "failed", [("check_not_started", "INCONCLUSIVE")]),
    (Machine(timed_out=True), ORACLE, "failed", [("timeout", "INCONCLUSIVE")]),
    (Machine(), {**ORACLE, "check": []}, "not available", [("check_missing", "INCONCLUSIVE")]),
])  # fmt: skip
def test_a_proof_without_a_check_is_no_pass(machine, oracle, done, found):
    copy = StreamCopy(machine, oracle)
    copy.load("/d")
    said, findings = copy.check()
    assert (said, [(each.code, each.verdict) for each in findings]) == (done, found)
    assert done == "not available" or machine.ran[-1] == ("/x", "/d")


@pytest.mark.parametrize(("database", "fault"), [
    ({"engine": "command", "dump": ["/opt/dump"], "user": "vendor", "end_marker": "END"}, ""),
    ({"engine": "command"}, "database.dump None"),
    ({"engine": "command", "dump": ["dump"]}, "absolute path"),
    ({"engine": "command", "dump": ["/d"], "user": "root"}, "without privileges"),
    ({"engine": "command", "dump": ["/d"], "name": "x"}, "no name"),
    ({"engine": "command", "dump": ["/d"], "probes": {"a": "select 1"}}, "cannot be asked"),
    ({"engine": "command", "dump": ["/d"], "end_marker": "a\nb"}, "one line"),
    ({"engine": "pickup", "path": "/srv/v", "pattern": "*.bak", "max_age_s": 60, "min_size": 1, "wait_s": 5}, ""),
    ({"engine": "pickup", "path": "/srv/v"}, "database.pattern None"),
    ({"engine": "pickup", "path": "v", "pattern": "*"}, "database.path 'v'"),
    ({"engine": "pickup", "path": "/v", "pattern": "*", "max_age_s": -1}, "max_age_s -1"),
    ({"engine": "pickup", "path": "/v", "pattern": "*", "check": "x"}, "database.check"),
])  # fmt: skip
def test_a_job_with_a_vendors_dump_is_checked(database, fault):
    job = {"schema": 1, "practice": "p", "host": "h", "name": "n", "item": "n", "repository": {"url": "u", "username": "n"},
           "database": database}  # fmt: skip
    faults = agent_job.faults_of(job)
    if fault:
        assert fault in "; ".join(faults)
    else:
        assert faults == []
        assert agent_job.parse(json.dumps(job)).database.settings
