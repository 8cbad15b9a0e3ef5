"""Whatever happens to a run, its record says so and its exit code agrees."""

from __future__ import annotations

import array
import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import termios
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent,
    agent_files,
    agent_host,
    agent_job,
    agent_latch,
    agent_progress,
    agent_repository,
    agent_run,
    agent_status,
    agent_watch,
    backup_nas,
    database_engine,
    restic,
)

JOB = {
    "schema": 1, "practice": "harbour-street", "host": "server1", "name": "documents", "item": "documents",
    "repository": {"url": "rest:https://198.18.0.11:8000/server1/", "username": "server1"},
    "paths": ["/srv/x"], "time_limit_s": 100,
}  # fmt: skip


@pytest.fixture
def places(tmp_path):
    places = agent_host.Places(
        etc=tmp_path / "etc",
        state=tmp_path / "state",
        cache=tmp_path / "cache",
        run=tmp_path / "run",
        machine_id=tmp_path / "machine-id",
        boot_id=tmp_path / "boot-id",
    )
    (tmp_path / "etc" / "jobs").mkdir(parents=True)
    places.job("documents").write_text(json.dumps(JOB))
    places.boot_id.write_text("boot-1\n")
    (places.etc / "practice.json").write_text('{"practice": "harbour-street", "host": "server1"}')
    return places


@pytest.fixture(autouse=True)
def own_signals():
    kept = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in kept:
        signal.signal(number, handler)


def backup_that(action):
    class Backup:
        def __init__(self, _job, _places, _run_id, _children, outcome):
            self.outcome = outcome

        def run(self):
            action(self.outcome)

    return Backup


def fails_with(error):
    def action(_outcome):
        raise error

    return action


def complete(outcome):
    outcome.snapshots["oracle"] = "aa"


def incomplete(outcome):
    outcome.snapshots["oracle"] = "aa"
    outcome.add("images_missing", "1 of 2")


def ask_to_stop(_outcome):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def record_of(places):
    return json.loads(places.status("documents").read_text())


@pytest.mark.parametrize(
    ("action", "code", "state", "reasons"),
    [
        (complete, 0, "OK", []),
        (incomplete, 2, "INCOMPLETE", ["images_missing"]),
        (lambda _outcome: None, 1, "FAILED", []),
        (fails_with(agent_repository.RunError("too_few_files", "0 files")), 1, "FAILED", ["too_few_files"]),
        (fails_with(restic.ResticError("repository_locked", "x", 11)), 1, "FAILED", ["repository_locked"]),
        (fails_with(backup_nas.NasError("nas_unreachable", "x")), 1, "FAILED", ["nas_unreachable"]),
        (
            fails_with(database_engine.DatabaseError("database_unreachable", "x")),
            1,
            "FAILED",
            ["database_unreachable"],
        ),
        (fails_with(ZeroDivisionError("odd")), 1, "FAILED", ["internal_error"]),
        (ask_to_stop, 1, "FAILED", ["stopped"]),
    ],
)
def test_every_ending_leaves_a_record_that_agrees_with_the_exit_code(
    places, monkeypatch, capfdbinary, action, code, state, reasons
):
    monkeypatch.setattr(agent_run, "Backup", backup_that(action))
    assert agent_run.run_job("documents", places) == code
    record = record_of(places)
    assert (record["state"], [reason["code"] for reason in record["reasons"]]) == (state, reasons)
    assert (record["practice"], record["host"], record["boot_id"]) == ("harbour-street", "server1", "boot-1")
    assert not places.running("documents").exists()
    assert stat.S_IMODE(places.status("documents").stat().st_mode) == 0o600
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"documents: {state} after")


ANSWER = agent_watch.Answer("on_battery", "ups1 is on battery")


def gates(begin=None, go_on=None):
    return lambda _job, _places: [agent_watch.Gate(lambda: begin, lambda: go_on)]


def test_a_deferred_start_leaves_a_note_and_no_record_and_says_so_once(places, monkeypatch, capfdbinary):
    monkeypatch.setattr(agent_run, "Backup", backup_that(complete))
    monkeypatch.setattr(agent_run, "gates_of", gates(begin=ANSWER))
    assert agent_run.run_job("documents", places) == 75
    note = json.loads(places.deferred("documents").read_text())
    assert (note["code"], note["message"]) == (ANSWER.code, ANSWER.message)
    assert not places.status("documents").exists()
    assert agent_run.run_job("documents", places) == 75
    assert json.loads(places.deferred("documents").read_text()) == note
    assert agent_status.overview(places, time.time())[0]["deferred"] == note
    monkeypatch.setattr(agent_run, "gates_of", gates())
    assert agent_run.run_job("documents", places) == 0
    assert not places.deferred("documents").exists()
    said = capfdbinary.readouterr().out.decode().splitlines()
    assert [line.split(":")[1].strip().split(";")[0] for line in said] == ["deferred", "goes ahead", "OK after 0 s"]


@pytest.mark.parametrize(("retry", "code"), [(True, 75), (False, 1)])
def test_an_answer_during_a_run_ends_it_under_its_own_reason(places, monkeypatch, retry, code):
    began = time.monotonic()
    monkeypatch.setattr(agent_watch.Watch.__init__, "__defaults__", (0.05,))
    monkeypatch.setattr(agent_run, "Backup", backup_that(lambda _outcome: time.sleep(10)))
    monkeypatch.setattr(agent_run, "gates_of", gates(go_on=ANSWER._replace(retry=retry)))
    assert agent_run.run_job("documents", places) == code
    assert time.monotonic() - began < 5
    record = record_of(places)
    assert (record["state"], [reason["code"] for reason in record["reasons"]]) == ("FAILED", ["on_battery"])
    assert places.deferred("documents").exists() is retry


def test_a_check_that_breaks_ends_nothing_and_says_so_once(places, monkeypatch, capfdbinary):
    def broken():
        raise ZeroDivisionError("odd")

    def lasting(outcome):
        time.sleep(0.3)
        complete(outcome)

    monkeypatch.setattr(agent_watch.Watch.__init__, "__defaults__", (0.05,))
    monkeypatch.setattr(agent_run, "Backup", backup_that(lasting))
    monkeypatch.setattr(agent_run, "gates_of", lambda _job, _places: [agent_watch.Gate(lambda: None, broken)])
    assert agent_run.run_job("documents", places) == 0
    assert capfdbinary.readouterr().out.decode().count("a check during the run does not work") == 1


@pytest.mark.parametrize(("silent", "codes"), [(False, ["time_limit"]), (True, ["time_limit", "nas_unreachable"])])
def test_a_run_that_is_out_of_time_says_whether_the_nas_answers(places, monkeypatch, silent, codes):
    def knock(_opened, timeout_s):
        assert timeout_s < 15
        if silent:
            raise backup_nas.NasError("nas_unreachable", "x")
        return True

    class Slow(backup_that(ask_to_stop)):
        restic = None

    places.job("documents").write_text(json.dumps({**JOB, "time_limit_s": 1}))
    monkeypatch.setattr(agent_run, "Backup", Slow)
    monkeypatch.setattr(agent_run, "knock", knock)
    assert agent_run.run_job("documents", places) == 1
    assert [reason["code"] for reason in record_of(places)["reasons"]] == codes


def test_a_run_whose_record_cannot_be_written_is_seen_in_the_status(places, monkeypatch):
    monkeypatch.setattr(agent_run, "Backup", backup_that(complete))
    assert agent.main(["run", "documents"], places) == 0
    good = places.status("documents").read_text()
    shutil.rmtree(places.state / "running")
    (places.state / "running").write_text("in the way")
    assert agent.main(["run", "documents"], places) == 1
    assert places.status("documents").read_text() == good
    (row,) = agent_status.overview(places, time.time())
    assert (row["state"], row["reasons"][0]["code"]) == ("FAILED", "host_full")
    (places.state / "running").unlink()
    assert agent.main(["run", "documents"], places) == 0
    (row,) = agent_status.overview(places, time.time())
    assert (row["state"], row["reasons"]) == ("OK", [])


def test_a_hold_is_in_the_record(places, monkeypatch):
    def suspect(outcome):
        incomplete(outcome)
        outcome.holds.append("suspect")

    monkeypatch.setattr(agent_run, "Backup", backup_that(suspect))
    agent_run.run_job("documents", places)
    assert record_of(places)["holds"] == ["suspect"]


def test_a_failure_keeps_the_time_of_the_last_good_run(places, monkeypatch):
    monkeypatch.setattr(agent_run, "Backup", backup_that(complete))
    agent_run.run_job("documents", places)
    good = record_of(places)
    monkeypatch.setattr(agent_run, "Backup", backup_that(fails_with(agent_repository.RunError("x", "y"))))
    agent_run.run_job("documents", places)
    assert record_of(places)["last_ok"] == {"run": good["run"], "finished": good["finished"]}


def test_the_mounts_of_the_last_good_run_are_kept_through_failures(places, monkeypatch):
    def on_a_disk(outcome):
        outcome.mounts = ["/srv/pms"]
        complete(outcome)

    def without(outcome):
        outcome.mounts = []
        incomplete(outcome)

    for action in (on_a_disk, without):
        monkeypatch.setattr(agent_run, "Backup", backup_that(action))
        agent_run.run_job("documents", places)
    record = record_of(places)
    assert (record["state"], record["last_ok"]["mounts"]) == ("INCOMPLETE", ["/srv/pms"])


def test_a_second_run_at_the_same_time_declines_and_changes_nothing(places, monkeypatch):
    monkeypatch.setattr(agent_run, "Backup", backup_that(complete))
    places.run.mkdir()
    with (places.run / "documents.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert agent_run.run_job("documents", places) == 4
    assert not places.status("documents").exists()


@pytest.mark.parametrize("text", ["{", json.dumps({**JOB, "name": "other"}), json.dumps({**JOB, "paths": []})])
def test_an_unusable_job_file_is_recorded_and_ends_with_3(places, text):
    places.job("documents").write_text(text)
    assert agent_run.run_job("documents", places) == 3
    assert [reason["code"] for reason in record_of(places)["reasons"]] == ["job_invalid"]


@pytest.mark.parametrize(
    ("result", "code"), [("oom-kill", "out_of_memory"), ("timeout", "time_limit"), ("signal", "killed"), ("", "killed")]
)
def test_a_killed_run_gets_its_record_afterwards(places, result, code):
    facts = agent_run.facts_of(places, "documents", None, "run-1")
    agent_host.write_json(places.running("documents"), {"facts": facts, "started": time.time() - 5})
    assert agent_run.settle_job("documents", places, {"MONITOR_SERVICE_RESULT": result}) == 0
    record = record_of(places)
    assert (record["run"], record["state"], record["reasons"][0]["code"]) == ("run-1", "FAILED", code)
    assert not places.running("documents").exists()


def test_settling_a_run_that_ended_by_itself_changes_nothing(places, monkeypatch):
    monkeypatch.setattr(agent_run, "Backup", backup_that(complete))
    agent_run.run_job("documents", places)
    before = places.status("documents").read_text()
    agent_run.settle_job("documents", places, {})
    assert places.status("documents").read_text() == before


@pytest.mark.parametrize(("boot", "state", "running"), [("boot-1", "OK", True), ("boot-0", "FAILED", False)])
def test_status_tells_a_run_under_way_from_one_that_a_power_cut_ended(places, monkeypatch, boot, state, running):
    monkeypatch.setattr(agent_run, "Backup", backup_that(complete))
    agent_run.run_job("documents", places)
    agent_host.write_json(places.running("documents"), {"facts": {"boot_id": boot}, "started": time.time()})
    row = agent_status.overview(places, time.time())[0]
    assert (row["state"], row["running"]) == (state, running)


def test_status_ends_like_the_worst_job_and_no_job_is_a_failure(places, monkeypatch, capsys):
    assert agent.main(["status"], places) == 1
    assert "never_ran" in capsys.readouterr().out
    monkeypatch.setattr(agent_run, "Backup", backup_that(incomplete))
    agent_run.run_job("documents", places)
    assert agent.main(["status", "--json"], places) == 2
    places.job("documents").unlink()
    assert agent.main(["status"], places) == 1


def test_wrong_usage_is_not_mistaken_for_an_incomplete_backup(places):
    with pytest.raises(SystemExit) as caught:
        agent.main(["run"], places)
    assert caught.value.code == 3
    assert agent.main(["run", "../etc"], places) == 3


def test_children_that_ignore_a_request_to_end_are_ended(monkeypatch):
    monkeypatch.setattr(agent_host, "STOP_S", 0.3)
    children = agent_host.Children()
    process = children.start(["sh", "-c", "trap '' TERM; sleep 60 & wait; wait"], dict(os.environ))
    time.sleep(0.2)
    children.end()
    assert process.returncode == -signal.SIGKILL


def test_a_missing_program_is_an_exit_code_not_a_crash():
    assert agent_host.Children().run(["no-such-program-here"], {})[0] == 127


def test_journal_lines_stay_one_line_whatever_is_in_them(capfdbinary):
    agent_host.say("a\nb\udcfc")
    assert capfdbinary.readouterr().out == b"a b\\udcfc\n"


# --- what happens while restic reads


class Busy:
    """A backup of a folder of three letters with restic played: it stores what is there, then ``afterwards`` happens."""

    def __init__(self, places, folder, **job):
        self.folder, self.code, self.said, self.commands = folder, 0, "", []
        self.opening = self.before = self.afterwards = self.pass_over = lambda *_path: None
        folder.mkdir()
        for name in ("a", "b", "c"):
            (folder / name).write_text(name)
        self.backup = agent_run.Backup.__new__(agent_run.Backup)
        self.backup.job = agent_job.parse(json.dumps({**JOB, "paths": [str(folder)], **job}))
        self.backup.places, self.backup.run_id, self.backup.outcome = places, "R", agent_run.Outcome()
        self.backup.children, self.backup.troubles = self, []
        self.doors = []
        self.backup._open_door = lambda: self.doors.append(list(self.backup.outcome.holds))
        self.backup.progress = agent_progress.Progress(lambda _now: None, "documents", "R")
        self.backup.restic = SimpleNamespace(repository=restic.Repository("rest:x", "/p"), env={})

    def run(self, argv, _env, _stdin=b"", _take=None):
        self.commands.append(argv)
        assert "ls" in argv
        return 0, self.listing, ""

    def begin(self, argv, _env, _stdin, pass_fds):
        """A restic that opens the repository; it reads when it is watched, and only if it may."""
        self.commands.append(argv)
        assert f"--exclude-file=/dev/fd/{pass_fds[0]}" in argv
        self.pipe = os.dup(pass_fds[0])
        self.opening()
        return SimpleNamespace(watch=self.watch)

    def may_read(self):
        """Has the agent let restic read?"""
        waiting = array.array("i", [0])
        fcntl.ioctl(self.pipe, termios.FIONREAD, waiting)
        return waiting[0] > len(agent_latch.HALF)

    def watch(self, _take):
        with os.fdopen(self.pipe, "rb") as pipe:
            assert pipe.read() == agent_latch.HALF + agent_latch.REST, "restic may not read yet"
        self.before()
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and not self.pass_over(path)]
        nodes = [{"struct_type": "node", "type": "file", "path": str(path), "size": 1} for path in files]
        self.listing = "\n".join(json.dumps(node) for node in nodes)
        size = sum(path.stat().st_size for path in files)
        self.stored = {path.name: path.read_bytes() for path in files}
        self.afterwards()
        summary = {"message_type": "summary", "snapshot_id": "a" * 64, "total_files_processed": len(files)}
        return self.code, json.dumps({**summary, "total_bytes_processed": size}), self.said

    def go(self):
        """Return the oracle's files by name, and the reasons."""
        time.sleep(0.02)
        oracle = {"database": None}
        self.backup._back_up_files(oracle)
        reasons = [reason["code"] for reason in self.backup.outcome.reasons]
        return {Path(e["path"]).name: e["volatile"] for e in oracle["files"]["manifest"].entries()}, reasons


@pytest.fixture(params=["little", "much"])
def busy(places, tmp_path, monkeypatch, request):
    if request.param == "much":
        monkeypatch.setattr(agent_files, "LITTLE_FILES", -1)
    return Busy(places, tmp_path / "letters")


def test_a_busy_day_is_a_good_backup(busy):
    def before():
        (busy.folder / "a").unlink()
        (busy.folder / "new").write_text("n")
        (busy.folder / "passing").write_text("p")

    def afterwards():
        (busy.folder / "b").unlink()
        (busy.folder / "passing").unlink()
        (busy.folder / "too late").write_text("t")

    busy.before, busy.afterwards = before, afterwards
    assert busy.go() == ({"b": True, "c": False, "new": True, "passing": True}, [])


@pytest.mark.parametrize("judging", ["survey", "_judge_survey"])
def test_restic_may_not_read_before_all_files_are_looked_at_and_judged(busy, monkeypatch, judging):
    asked, place = [], agent_files if judging == "survey" else busy.backup
    judge = getattr(place, judging)

    def judging_slowly(*arguments):
        asked.append(busy.may_read())
        found = judge(*arguments)
        asked.append(busy.may_read())
        return found

    monkeypatch.setattr(place, judging, judging_slowly)
    busy.go()
    assert asked == [False, False]


@pytest.mark.parametrize("when", ["opening", "looking", "looked", "before", "afterwards", "never"])
def test_no_file_is_described_by_a_hash_of_what_restic_did_not_read(busy, monkeypatch, when):
    """Whenever it changes: the hash is that of what was stored, or the file is known to have changed."""
    file, times = busy.folder / "b", (busy.folder / "b").stat()

    def change():
        file.write_text("B")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    def then(call, before):
        def changing(*arguments):
            change() if before else None
            found = call(*arguments)
            change() if not before else None
            return found

        return changing

    if when in ("looking", "looked"):
        monkeypatch.setattr(agent_files, "survey", then(agent_files.survey, when == "looking"))
    elif when != "never":
        setattr(busy, when, change)
    time.sleep(0.02)
    oracle = {"database": None}
    busy.backup._back_up_files(oracle)
    entries = {Path(each["path"]).name: each for each in oracle["files"]["manifest"].entries()}
    sure = [name for name, each in entries.items() if not each["volatile"]]
    right = {name: hashlib.blake2b(busy.stored[name], digest_size=32).hexdigest() for name in sure}
    assert {name: entries[name]["blake2b"] for name in sure} == right
    # what changed before the first look was read as it is now
    assert ("b" in sure) == (when in ("opening", "looking", "never"))
    assert busy.backup.outcome.reasons == []


@pytest.mark.parametrize("little", [True, False])
def test_the_oracles_restic_starts_with_the_holds_of_the_run_and_waits_where_there_is_much_to_read(
    busy, monkeypatch, little
):
    stands = {"run": "R0", "since": "2026-11-24T00:00:00Z", "reasons": [["suspect_magic", "x"]], "figures": []}
    agent_host.write_json(busy.backup.places.tripwires("documents"), {"suspect": {**stands, "examples": []}})
    monkeypatch.setattr(agent_files, "LITTLE_FILES", 3)
    monkeypatch.setattr(agent_files, "LITTLE_BYTES", 3 if little else 2)
    busy.afterwards = lambda: busy.doors.append("restic has read")
    oracle, reasons = busy.go()
    assert (oracle, reasons) == ({"a": False, "b": False, "c": False}, ["suspect_magic"])
    assert busy.doors == ([["suspect"], "restic has read"] if little else ["restic has read", ["suspect"]])


def test_nothing_is_stored_or_hashed_before_the_files_are_judged(busy, monkeypatch):
    monkeypatch.setattr(agent_files, "hash_file", lambda *_arguments: pytest.fail("it was read"))
    busy.backup.job = agent_job.parse(json.dumps({**JOB, "paths": [str(busy.folder)], "min_files": 4}))
    busy.before = lambda: pytest.fail("restic ran")
    with pytest.raises(agent_repository.RunError, match="3 files found"):
        busy.go()
    assert busy.doors == []


@pytest.mark.parametrize("little", [True, False])
def test_hashing_that_breaks_ends_the_run(busy, monkeypatch, little):
    monkeypatch.setattr(agent_files, "LITTLE_FILES", 3 if little else 2)

    def broken(*_arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(agent_files, "hash_file", broken)
    with pytest.raises(ZeroDivisionError):
        busy.go()
    assert busy.doors == []


@pytest.mark.parametrize(
    ("harm", "listed"),
    [
        (lambda _busy: None, False),
        (lambda busy: (busy.folder / "a").write_text("A"), False),
        (lambda busy: (busy.folder / "a").unlink(), True),
        (lambda busy: (busy.folder / "d").write_text("d"), True),
        (lambda busy: setattr(busy, "code", 3), True),
        (lambda busy: setattr(busy, "pass_over", lambda path: path.name == "a"), True),
    ],
)
def test_the_snapshot_is_listed_where_numbers_do_not_tell_what_is_in_it(busy, harm, listed):
    busy.before = lambda: harm(busy)
    busy.go()
    assert any("ls" in command for command in busy.commands) is listed
    assert not any("--verbose=2" in command for command in busy.commands)


def test_a_file_that_restic_took_for_another_is_noticed_by_the_size(busy):
    """As many files, and none came or went: what is not what was looked at has other bytes."""
    (busy.folder.parent / "other").write_text("other")
    busy.pass_over = lambda path: path.name == "a"
    rglob = type(busy.folder).rglob
    busy.folder = SimpleNamespace(rglob=lambda _all: [*rglob(folder, "*"), folder.parent / "other"])
    folder = Path(busy.backup.job.paths[0])
    assert busy.go()[1] == ["coverage_gap"]


def test_with_excludes_only_names_tell_what_is_in_a_snapshot(places, tmp_path):
    busy = Busy(places, tmp_path / "letters", exclude=["*.tmp"])
    busy.go()
    assert "--verbose=2" in busy.commands[0]
    assert "ls" in busy.commands[1], "restic did not tell of every file, and was believed"


def test_a_file_that_restic_passed_over_makes_the_run_incomplete(busy):
    busy.pass_over = lambda path: path.name == "a"
    assert busy.go() == ({"a": False, "b": False, "c": False}, ["coverage_gap"])


@pytest.mark.parametrize(("name", "reasons"), [("a", ["files_unreadable"]), ("gone", []), ("", ["files_unreadable"])])
def test_what_restic_could_not_read_is_a_gap_unless_it_is_gone(busy, name, reasons):
    item = str(busy.folder / name) if name else ""
    busy.code, busy.said = 3, json.dumps({"message_type": "error", "error": {"message": "no"}, "item": item})
    assert busy.go()[1] == reasons


def test_an_incomplete_backup_that_does_not_say_what_it_lacks_is_incomplete(busy):
    busy.code = 3
    assert busy.go()[1] == ["files_unreadable"]


@pytest.mark.parametrize(
    ("job", "left", "code"),
    [
        ({"min_files": 0}, [], "path_vanished"),
        ({"min_files": 3}, ["a", "b"], "too_few_files"),
        ({"min_files": 0, "must_have": ["FOLDER"]}, [], "must_have_missing"),
    ],
)
def test_a_disk_that_goes_while_restic_reads_is_no_busy_day(places, tmp_path, job, left, code):
    folder = tmp_path / "letters"
    busy = Busy(places, folder, **{key: [str(folder)] if value == ["FOLDER"] else value for key, value in job.items()})
    busy.before = lambda: [path.unlink() for path in folder.iterdir() if path.name not in left]
    with pytest.raises(agent_repository.RunError) as caught:
        busy.go()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"min_size": 4}, "too_small"),
        ({"exclude": ["letters"]}, "must_have_excluded"),
        ({"exclude": ["[abc]"], "min_files": 0}, "must_have_excluded"),
        ({"exclude": ["b"], "must_have": ["FOLDER/b"]}, "must_have_excluded"),
        ({"exclude": ["f*"], "must_have": ["FOLDER/full"]}, "must_have_excluded"),
        ({"exclude": ["d"], "must_have": ["FOLDER/full"]}, "must_have_excluded"),
        ({"exclude": ["c"], "must_have": ["FOLDER/full"], "min_size": 3}, None),
    ],
)
def test_too_little_and_what_an_exclude_swallows_are_no_backup(places, tmp_path, job, code):
    folder = tmp_path / "letters"
    job = {**job, "must_have": [path.replace("FOLDER", str(folder)) for path in job.get("must_have", ())]}
    busy = Busy(places, folder, **job)
    if job["must_have"]:
        (folder / "full").mkdir()
        (folder / "full" / "d").write_text("d")
    started = []
    busy.before = lambda: started.append(1)
    if code is None:
        busy.pass_over = lambda path: path.name == "c"
        assert busy.go()[1] == []
        return
    with pytest.raises(agent_run.RunError) as caught:
        busy.go()
    assert (caught.value.code, started) == (code, []), "restic ran"


def test_an_exclude_that_hides_every_image_is_no_backup(places, tmp_path):
    busy = Busy(places, tmp_path / "letters", exclude=["*.png"])
    (busy.folder / "x.png").write_text("x")
    oracle = {"database": {"images": {"root": str(busy.folder), "names": ["x.png"]}}}
    with pytest.raises(agent_run.RunError) as caught:
        busy.backup._back_up_files(oracle)
    assert caught.value.code == "must_have_excluded"


def test_a_repository_is_opened_only_where_its_config_is_not_the_one_of_last_time(places, monkeypatch):
    opened = []
    configs = iter([b"sealed", b"sealed", b"other", None])
    pin = places.etc / "repository.json"
    pin.write_text('{"id": "abc"}')
    door = SimpleNamespace(id=lambda: opened.append(1) or "abc")
    monkeypatch.setattr(agent_repository, "knock", lambda _opened, _timeout_s: next(configs))
    assert [agent_repository.identify(door, places) for _ in range(3)] == ["abc"] * 3
    assert len(opened) == 2
    with pytest.raises(agent_repository.RunError, match="has no repository"):
        agent_repository.identify(door, places)


def test_a_pin_that_was_changed_is_asked_about_again(places, monkeypatch):
    pin = places.etc / "repository.json"
    monkeypatch.setattr(agent_repository, "knock", lambda _opened, _timeout_s: b"sealed")
    door = SimpleNamespace(id=lambda: "abc")
    pin.write_text('{"id": "abc"}')
    agent_repository.identify(door, places)
    pin.write_text('{"id": "def"}')
    with pytest.raises(agent_repository.RunError, match="the one pinned on this host is def"):
        agent_repository.identify(door, places)


def test_a_repository_that_was_opened_at_the_installation_is_not_opened_by_the_first_run(places, monkeypatch):
    (places.etc / "repository.json").write_text('{"id": "abc"}')
    monkeypatch.setattr(agent_repository, "knock", lambda _opened, _timeout_s: b"sealed")
    door = SimpleNamespace(id=lambda: pytest.fail("restic was asked"))
    agent_repository.remember(places, {"": agent_repository.sight("abc", b"sealed")})
    written = places.seen.stat().st_mtime_ns, places.seen.stat().st_ino
    agent_repository.remember(places, {"": agent_repository.sight("abc", b"sealed")})
    assert (places.seen.stat().st_mtime_ns, places.seen.stat().st_ino) == written, "written anew without a change"
    assert agent_repository.identify(door, places) == "abc"
