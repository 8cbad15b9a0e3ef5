# SPDX-License-Identifier: Apache-2.0
"""A fetch and a judgement with restic and the machine played by a function: what is asked, kept and concluded."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent_files,
    database_engine,
    verify_host,
    verify_portion,
)
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import DatabaseError
from ansible_collections.holdfast.practice.plugins.module_utils.engine_postgresql import PostgresqlCopy, load_findings
from ansible_collections.holdfast.practice.plugins.module_utils.verify import FAIL, INCONCLUSIVE, PASS, Wanted
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import (
    Done,
    Fetch,
    MachineRestic,
    judge,
    run,
    structure,
)

NOW = 1_800_000_000.0
REPO = "9" * 64
IDS = {part: letter * 64 for part, letter in (("oracle", "a"), ("files", "b"), ("database", "c"))}
LEVELS = ("arrival", "structure", "files", "database")
WANTED = Wanted("harbour", "clinical_db", "clinical_db", "server1", "server1", 86400, 14400, LEVELS)
CONTENT = {"/srv/img/1.jpg": b"\xff\xd8\xff", "/srv/img/2.jpg": b"\xff\xd8\xff"}


def utc(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


class World:
    """restic with one run in it; ``change`` what it says before use."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.calls: list[tuple[list[str], dict]] = []
        self.restored = dict(CONTENT)
        self.dump: bytes | None = b"PGDMP"
        self.dump_link: str | None = None
        self.fail: dict[str, Done] = {}
        self.total = 10
        self.said: list[bytes] = []
        self.earlier: str | None = ""
        self.heard: list[bool] = []
        self.packs = ["0" * 64, "1" * 64]
        (folder / "root/etc").mkdir(parents=True)
        (folder / "root/etc/passwd").write_text(f"postgres:x:{os.getuid()}:{os.getgid()}::/:/bin/sh\n")
        manifest = [
            {"path": path, "size": len(data), "mode": "0644", "mtime_ns": 5, "volatile": False,
             "blake2b": agent_files.hashlib.blake2b(data, digest_size=32).hexdigest()}
            for path, data in CONTENT.items()
        ]  # fmt: skip
        self.oracle = {
            "schema": 1, "practice": "harbour", "host": "server1", "job": "clinical_db", "item": "clinical_db",
            "run": "R1", "taken": utc(NOW - 700), "identity": {"repository_id": REPO},
            "snapshots": {"files": IDS["files"], "database": IDS["database"]},
            "files": {"manifest": manifest, "count": 2, "must_have": []},
            "database": {"engine": "postgresql", "name": "clinic", "dump_path": "/holdfast.clinical_db.dump",
                         "tables": {"public.patient": 2}, "probes": {}, "images": None,
                         "questions": {"probes": {}, "images": None}},
        }  # fmt: skip

    def snapshots(self):
        tags = ["practice=harbour", "job=clinical_db", "run=R1"]
        before = [("oracle", EARLIER)] if self.earlier != "" else []
        return [
            {
                "id": each,
                "time": utc(NOW - (650 if each != EARLIER else 50 * 86400)),
                "hostname": "server1",
                "tags": [*tags, f"part={part}"],
            }
            for part, each in [*IDS.items(), *before]
        ]

    def __call__(self, argv, env, timeout, stdin, into=None, hear=None):
        done = self.answer(argv, env)
        if into:
            into.write_bytes(done.out)
        if hear:
            self.heard += map(hear, self.said)
        return done

    def answer(self, argv, env):
        self.calls.append((list(argv), dict(env)))
        words = [
            word for word in argv[argv.index("restic") + 1 :] if not word.startswith("--no-") and ".pem" not in word
        ]
        verb = next(word for word in words if not word.startswith("-"))
        if verb in self.fail:
            return self.fail[verb]
        out = ""
        if verb == "cat":
            out = json.dumps({"id": REPO})
        elif verb == "snapshots":
            out = json.dumps(self.snapshots())
        elif verb == "dump" and EARLIER in words:
            if self.earlier is None:
                return Done(1, b"", "connection refused", 1.0)
            out = self.earlier
        elif verb == "dump":
            out = json.dumps(self.oracle)
        elif verb == "stats":
            out = json.dumps({"total_size": self.total})
        elif verb == "restore":
            self.restore(
                words[words.index("restore") + 1], Path(str(self.folder / "root") + argv[argv.index("--target") + 1])
            )
        elif verb == "list":
            out = "".join(f"{pack}\n" for pack in self.packs)
        elif verb == "check":
            out = json.dumps({"message_type": "summary", "num_errors": 0, "broken_packs": None})
        return Done(0, out.encode(), "", 0.1)

    def restore(self, snapshot, target):
        target.mkdir(parents=True)
        if snapshot == IDS["files"]:
            for path, data in self.restored.items():
                file = Path(str(target) + path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                file.chmod(0o644)
                os.utime(file, ns=(5, 5))
        elif self.dump_link:
            (target / "holdfast.clinical_db.dump").symlink_to(self.dump_link)
        elif self.dump is not None:
            (target / "holdfast.clinical_db.dump").write_bytes(self.dump)

    def restic(self):
        repository = {"url": "rest:https://198.18.0.11:8000/server1/", "username": "server1", "certificate": "PEM"}
        return MachineRestic(str(self.folder / "root"), repository, "repo-secret", "rest-secret", 60, self)

    def fetch(self, arrivals=None, known=(), wanted=WANTED):
        at = dict.fromkeys(IDS.values(), NOW - 600) if arrivals is None else arrivals
        return Fetch(wanted, str(self.folder), self.restic(), at, known, NOW).do()


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(verify_host, "SPACE_TO_SPARE", 0)
    return World(tmp_path / "machine")


def verdicts(part):
    return {name: level["verdict"] for name, level in part["levels"].items()}


def codes(part):
    return {reason["code"] for level in part["levels"].values() for reason in level["reasons"]}


def test_a_good_run_is_fetched(world):
    part = world.fetch()
    assert verdicts(part) == {"arrival": PASS, "files": PASS}
    assert (part["figures"]["files"], part["figures"]["bytes"], part["figures"]["age_s"]) == (2, 6, 600)
    assert part["snapshots"] == IDS
    assert (world.folder / "root/srv/holdfast-restore/clinical_db.dump").read_bytes() == b"PGDMP"
    kept = world.folder / "proof/clinical_db.json"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_secrets_are_in_the_environment_of_restic_and_nowhere_else(world):
    part = world.fetch()
    assert world.calls
    for argv, env in world.calls:
        assert argv[:2] == ["chroot", str(world.folder / "root")]
        assert {"--no-cache", "--no-lock"} <= set(argv)
        assert not [word for word in argv if "o-secret" in word or "t-secret" in word]
        assert (env["RESTIC_PASSWORD"], env["RESTIC_REST_PASSWORD"]) == ("repo-secret", "rest-secret")
    for file in world.folder.rglob("*"):
        assert not file.is_file() or not [
            word for word in (b"repo-secret", b"rest-secret") if word in file.read_bytes()
        ]
    assert "-secret" not in json.dumps(part)


def test_no_name_of_a_file_is_in_the_result(world):
    world.restored.pop("/srv/img/2.jpg")
    text = json.dumps(world.fetch())
    assert "files_missing" in text
    assert "jpg" not in text
    assert "/srv" not in text


DAMAGED = Done(1, b"", "<data/e13e055bb5> does not exist", 1.0)


@pytest.mark.parametrize(
    ("verb", "done", "verdict", "code"),
    [
        ("cat", Done(12, b"", "", 1.0), INCONCLUSIVE, "wrong_password"),
        ("cat", Done(-15, b"", "connection refused", 30.0, True), INCONCLUSIVE, "nas_unreachable"),
        ("snapshots", Done(1, b"", "invalid data returned", 1.0), FAIL, "repository_damaged"),
        ("dump", DAMAGED, FAIL, "repository_damaged"),
        ("dump", Done(0, b"{}", "", 1.0), FAIL, "oracle_unreadable"),
        ("dump", Done(0, b"not JSON", "", 1.0), FAIL, "oracle_unreadable"),
        ("dump", Done(0, b'{"schema": 2}', "", 1.0), FAIL, "oracle_unreadable"),
        ("restore", DAMAGED, FAIL, "repository_damaged"),
        ("restore", Done(1, b"", "no space left on device", 1.0), INCONCLUSIVE, "not_enough_space"),
    ],
)
def test_what_restic_says_is_what_the_proof_says(world, verb, done, verdict, code):
    world.fail[verb] = done
    part = world.fetch()
    assert part["verdict"] == verdict
    assert code in codes(part)


def test_a_disk_too_small_is_found_before_the_restore(world):
    world.total = 1 << 60
    part = world.fetch()
    assert (part["verdict"], codes(part)) == (INCONCLUSIVE, {"not_enough_space"})
    assert not [argv for argv, _env in world.calls if "restore" in argv]


def test_a_run_of_another_host_is_not_restored(world):
    world.oracle["host"] = "desk1"
    part = world.fetch()
    assert verdicts(part) == {"arrival": FAIL, "files": FAIL, "database": FAIL}
    assert not [argv for argv, _env in world.calls if "restore" in argv]


@pytest.mark.parametrize(("dump", "code"), [(b"", "dump_empty"), (None, "dump_missing")])
def test_a_dump_that_is_none(world, dump, code):
    world.dump = dump
    part = world.fetch()
    assert code in codes(part)
    assert part["levels"]["files"]["verdict"] == PASS


def test_a_dump_that_is_a_link_out_of_the_restore_is_refused(world, tmp_path):
    (tmp_path / "shadow").write_text("of the carrier")
    world.dump_link = str(tmp_path / "shadow")
    assert "dump_missing" in codes(world.fetch())
    assert (tmp_path / "shadow").exists()


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/..", "/"])
def test_a_dump_path_that_climbs_is_refused(world, path):
    world.oracle["database"]["dump_path"] = path
    assert world.fetch()["verdict"] == FAIL


@pytest.mark.parametrize(
    ("levels", "restored", "judged"),
    [
        (("arrival",), [], {"arrival"}),
        (("structure",), [], {"arrival"}),
        (("files",), ["files"], {"arrival", "files"}),
        (("database",), ["files", "database"], {"arrival", "files"}),  # the images that it names are files
        (("arrival", "files", "database"), ["files", "database"], {"arrival", "files"}),
    ],
)
def test_only_what_is_asked_for_is_restored(world, levels, restored, judged):
    part = world.fetch(wanted=replace(WANTED, levels=levels))
    asked = [argv[argv.index("restore") + 1] for argv, _env in world.calls if "restore" in argv]
    assert asked == [IDS[name] for name in restored]
    assert (part["verdict"], set(part["levels"])) == (PASS, judged)
    assert (world.folder / "root/srv/holdfast-restore/clinical_db.dump").exists() == ("database" in restored)


EARLIER = "e" * 64


def with_earlier(world, oracle):
    """A run of fifty days ago, with an oracle of its own."""
    world.earlier = oracle
    return {**dict.fromkeys(IDS.values(), NOW - 600), EARLIER: NOW - 50 * 86400 + 50}


def test_files_are_compared_with_those_of_a_month_ago_as_well(world):
    then = json.loads(json.dumps(world.oracle))
    then["files"]["manifest"][0]["blake2b"] = "other"
    part = world.fetch(with_earlier(world, json.dumps(then)))
    assert part["figures"]["since"] == {
        "oracle": EARLIER, "arrived": utc(NOW - 50 * 86400 + 50), "before": 2, "same": 1, "changed": 1, "gone": 0, "silent": 1,
        "silent_spoilt": 0,
    }  # fmt: skip
    assert (part["verdict"], [note["code"] for note in part["notes"]]) == (PASS, ["changed_silently"])


def test_an_image_that_is_no_image_any_more_with_the_time_of_then(world):
    """Encrypted in place before the backup: the oracle knows no better, the month before does."""
    then = json.loads(json.dumps(world.oracle))
    spoilt = bytes(range(7, 250))
    world.restored["/srv/img/1.jpg"] = spoilt
    for oracle, data in ((world.oracle, spoilt), (then, spoilt[::-1])):
        digest = agent_files.hashlib.blake2b(data, digest_size=32).hexdigest()
        oracle["files"]["manifest"][0].update(size=len(data), blake2b=digest)
    part = world.fetch(with_earlier(world, json.dumps(then)))
    assert (verdicts(part)["files"], codes(part)) == (FAIL, {"changed_silently"})


@pytest.mark.parametrize(
    ("oracle", "verdict", "reasons", "notes"),
    [
        (
            '{"schema": 0}',
            PASS,
            set(),
            ["earlier_unreadable"],
        ),  # of another version: nobody can hold it against this one
        (None, INCONCLUSIVE, {"earlier_unreadable"}, []),  # out of reach
    ],
)
def test_an_earlier_oracle_that_cannot_be_read(world, oracle, verdict, reasons, notes):
    part = world.fetch(with_earlier(world, oracle))
    assert (verdicts(part)["files"], codes(part)) == (verdict, reasons)
    assert [note["code"] for note in part["notes"]] == notes
    assert not list((world.folder / "proof").glob("*.earlier"))


def test_how_far_a_restore_is_can_be_seen(world):
    world.said = [b'{"message_type":"status","bytes_restored":5,"files_restored":1}\n', b"something else\n"]
    world.fetch()
    now = json.loads((world.folder / verify_host.PROGRESS_FILE).read_text())
    assert (now["job"], now["phase"], now["total_files"]) == ("clinical_db", "verify", 2)
    assert world.heard == [True, False] * 2
    restores = [env for argv, env in world.calls if "restore" in argv]
    assert {env["RESTIC_PROGRESS_FPS"] for env in restores} == {"1"}


def test_what_another_item_drew_is_not_how_far_this_one_is(world):
    (world.folder / "proof").mkdir()
    (world.folder / verify_host.PROGRESS_FILE).write_text('{"phase": "verify"}')
    world.fail["cat"] = Done(12, b"", "", 1.0)
    world.fetch()
    assert not (world.folder / verify_host.PROGRESS_FILE).exists()


def test_known_snapshots_have_to_be_there(world):
    assert "known_snapshot_missing" in codes(world.fetch(known=["d" * 64]))


def test_without_arrivals_nothing_is_proved(world):
    part = world.fetch(arrivals={})
    assert (part["verdict"], codes(part)) == (INCONCLUSIVE, {"arrivals_unknown"})


def test_files_wanted_and_none_in_the_oracle_is_a_failure(world):
    world.oracle["files"] = None
    world.oracle["snapshots"]["files"] = None
    assert "no_files" in codes(world.fetch())


def test_a_manifest_with_another_count_is_not_believed(world):
    world.oracle["files"]["count"] = 3
    assert "manifest_damaged" in codes(world.fetch())


def test_a_restored_file_that_the_disk_does_not_give_back_is_inconclusive(world, monkeypatch):
    def broken(*_arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", broken)
    part = world.fetch()
    assert (verdicts(part)["files"], codes(part)) == (INCONCLUSIVE, {"restored_unreadable"})


def test_what_fetch_keeps_is_short_and_for_root_only(world):
    world.fetch()
    kept = sorted(path.name for path in (world.folder / "proof").iterdir())
    assert kept == ["clinical_db.index", "clinical_db.json", "progress.json"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (world.folder / "proof").iterdir())
    oracle = json.loads((world.folder / "proof/clinical_db.json").read_text())["oracle"]
    assert (oracle["files"]["manifest"], oracle["files"]["count"]) == (2, 2)


def read_structure(world, reading=verify_host.Reading()):  # noqa: B008
    return structure(world.restic(), reading)["levels"]["structure"]


def test_a_small_repository_is_read_whole(world):
    level = read_structure(world, verify_host.Reading(portions=14, within_s=86400, now=NOW))
    assert (level["verdict"], level["checked"]) == (PASS, 2)
    assert level["portion"] == {"number": 1, "of": 1, "packs": 2, "all_packs": 2}
    assert level["all_read_since"] == utc(NOW)
    (check,) = [argv for argv, _env in world.calls if "check" in argv]
    assert "--read-data" in check


def test_a_repository_without_packs_proves_nothing(world):
    world.packs = []
    assert read_structure(world)["verdict"] == FAIL


def test_of_a_large_repository_the_portion_that_waited_longest_is_read(world, monkeypatch):
    monkeypatch.setattr(verify_portion, "PACKS_AT_ONCE", 1)
    world.packs = [f"{byte:02x}" + "0" * 62 for byte in (0, 1, 2, 3)]
    readings = {"first": utc(NOW - 90000), "portions": {"1/2": utc(NOW - 80000)}}
    reading = verify_host.Reading(2, 86400, readings, NOW)
    level = read_structure(world, reading)
    assert (level["verdict"], level["checked"]) == (PASS, 2)
    assert level["portion"] == {"number": 2, "of": 2, "packs": 2, "all_packs": 4}
    assert level["all_read_since"] == utc(NOW - 80000)
    (check,) = [argv for argv, _env in world.calls if "check" in argv]
    assert "--read-data-subset=2/2" in check
    late = read_structure(world, reading._replace(now=NOW + 9e5))
    assert (late["verdict"], [reason["code"] for reason in late["reasons"]]) == (INCONCLUSIVE, ["read_overdue"])


def test_a_check_that_failed_has_read_nothing(world):
    world.fail["check"] = Done(1, b"", "connection refused", 1.0)
    level = read_structure(world, verify_host.Reading(2, 86400, {}, NOW))
    assert (level["verdict"], level["all_read_since"]) == (INCONCLUSIVE, None)
    assert [reason["code"] for reason in level["reasons"]] == ["nas_unreachable"]


# --- judge


class Machine:
    """A started machine: answers by the first word that fits."""

    def __init__(self, **answers):
        self.answers = answers
        self.calls: list[list[str]] = []

    def __call__(self, argv, env, timeout, stdin):
        self.calls.append(list(argv))
        program = argv[argv.index("--") + 5]
        return self.answers.get(Path(program).name, Done(0, b"", "", 0.1))


def judged(world, monkeypatch, restored, machine=None, database=None):
    world.oracle["database"].update(database or {})
    world.fetch()
    machine = machine or Machine(sh=Done(0, b"/usr/bin/pg_amcheck\n", "", 0.1))
    monkeypatch.setattr(database_engine, "read_database", lambda *_a, **_k: restored)
    return judge(WANTED, str(world.folder), verify_host.Machine(4711, 60, machine), 2.0), machine


def same(world, **changes):
    database = world.oracle["database"]
    base = {"version": "17.4", "schema_fingerprint": "f", "schema_objects": {}, "images": None, **database}
    world.oracle["database"] = base
    return {**base, **changes}


def test_an_equal_database_passes(world, monkeypatch):
    part, machine = judged(world, monkeypatch, same(world))
    assert verdicts(part) == {"database": PASS}
    assert (part["figures"]["tables"], part["figures"]["rows"]) == (1, 2)
    assert part["figures"]["phases"]["engine_start_s"] >= 2.0
    assert part["levels"]["database"]["engine_check"] == "done"
    assert all(argv[:4] == ["nsenter", "--target", "4711", "--all"] for argv in machine.calls)


def test_a_database_that_lost_a_row_fails(world, monkeypatch):
    part, _ = judged(world, monkeypatch, same(world, tables={"public.patient": 1}))
    assert (verdicts(part), codes(part)) == ({"database": FAIL}, {"rows_differ"})


@pytest.mark.parametrize(
    ("program", "done", "code", "verdict"),
    [
        ("pg_restore", Done(1, b"", "pg_restore: error: could not read: end of file", 1.0), "dump_truncated", FAIL),
        ("pg_amcheck", Done(2, b"heap table x, block 0:\n", "", 1.0), "engine_damage", FAIL),
        ("createdb", Done(1, b"", "", 1.0), "engine_failed", INCONCLUSIVE),
    ],
)  # fmt: skip
def test_an_engine_that_complains_fails(world, monkeypatch, program, done, code, verdict):
    machine = Machine(**{"sh": Done(0, b"/usr/bin/pg_amcheck\n", "", 0.1), program: done})
    part, _ = judged(world, monkeypatch, same(world, tables={"public.patient": 1}), machine)
    assert code in codes(part)
    assert verdicts(part)["database"] == verdict


def test_an_engine_that_does_not_start_is_inconclusive(world, monkeypatch):
    monkeypatch.setattr(verify_host, "ENGINE_START_S", 0.3)
    part, _ = judged(world, monkeypatch, same(world), Machine(psql=Done(2, b"", "", 0.1)))
    assert (verdicts(part), codes(part)) == ({"database": INCONCLUSIVE}, {"engine_not_started"})


def test_a_copy_that_cannot_be_dropped_is_no_crash(world, monkeypatch):
    def refuse(_self):
        raise DatabaseError("engine_failed", "no")

    monkeypatch.setattr(PostgresqlCopy, "drop", refuse)
    part, _ = judged(world, monkeypatch, same(world))
    assert (verdicts(part), codes(part)) == ({"database": INCONCLUSIVE}, {"engine_failed"})


def test_an_oracle_of_an_engine_that_nobody_knows_is_not_guessed_at(world):
    world.oracle["database"]["engine"] = "paradox"
    part = world.fetch()
    assert "engine_unknown" in codes(part)
    assert verdicts(part)["database"] == INCONCLUSIVE
    assert not [argv for argv, _env in world.calls if "restore" in argv]


def test_an_image_that_did_not_come_back_is_missed_in_the_database_too(world, monkeypatch):
    world.restored.pop("/srv/img/2.jpg")
    images = {"count": 2, "root": "/srv/img", "names": ["1.jpg", "2.jpg"]}
    part, _ = judged(world, monkeypatch, same(world, images=images), database={"images": images})
    assert codes(part) == {"images_missing"}


def test_the_restored_copy_is_asked_what_the_oracle_says_was_asked(world, monkeypatch):
    """The practice document may have other probes by now; the live answers are to the old ones."""
    questions = {"probes": {"newest": "select 1"}, "images": {"query": "select path", "root": "/srv/img"}}
    base = same(world)
    world.oracle["database"]["questions"] = questions
    world.fetch()
    asked = []
    monkeypatch.setattr(database_engine, "read_database", lambda _query, *rest, **_named: asked.append(rest) or base)
    judge(WANTED, str(world.folder), verify_host.Machine(1, 60, Machine()), 0.0)
    assert [rest[1:3] for rest in asked] == [(questions["probes"], questions["images"])]


def test_an_oracle_without_its_questions_is_not_guessed_at(world):
    del world.oracle["database"]["questions"]
    assert codes(world.fetch()) == {"oracle_unreadable"}


def test_an_image_that_the_practice_deleted_meanwhile_is_not_missed(world, monkeypatch):
    images = {"count": 3, "root": "/srv/img", "names": ["1.jpg", "2.jpg", "3.jpg"]}
    world.oracle["files"]["dropped"] = ["/srv/img/3.jpg"]
    part, _ = judged(world, monkeypatch, same(world, images=images), database={"images": images})
    assert verdicts(part) == {"database": PASS}


SOFTWARE = {
    "needs": ["settings"],
    "owner": None,
    "units": [],
    "limit_s": 5.0,
    "ask": {"it": {"command": ["/bin/true"]}},
}
FILES = Wanted(
    *("harbour", "documents", "documents", "server1", "server1", 86400, 14400),
    levels=("arrival", "files", "application"),
    application=SOFTWARE,
)


def with_settings(world, practice="harbour"):
    """Two jobs without a database that save the same files."""
    world.oracle.update(database=None, snapshots={"files": IDS["files"]}, practice=practice)
    world.oracle["files"]["roots"] = ["/srv/img"]
    answer = World.snapshots

    def snapshots():
        tagged = [("documents", part, each) for part, each in IDS.items()]
        tagged += [("settings", "oracle", "e" * 64), ("settings", "files", "f" * 64)]
        return [
            {**answer(world)[0], "id": each, "tags": ["practice=harbour", f"job={job}", "run=R1", f"part={part}"]}
            for job, part, each in tagged
        ]

    def said(argv, env):
        if "dump" in argv:
            name = "settings" if "e" * 64 in argv else "documents"
            files = {"settings": "f" * 64, "documents": IDS["files"]}[name]
            oracle = {**world.oracle, "job": name, "item": name, "snapshots": {"files": files}}
            return Done(0, json.dumps(oracle).encode(), "", 0.1)
        argv = [IDS["files"] if word == "f" * 64 else word for word in argv]
        return World.answer(world, argv, env)

    world.snapshots = snapshots
    world.answer = said
    return dict.fromkeys([*IDS.values(), "e" * 64, "f" * 64], NOW - 600)


def test_software_gets_the_files_of_the_items_that_it_needs(world):
    at = with_settings(world)
    part = world.fetch(arrivals=at, wanted=FILES)
    assert "application" not in part["levels"], part["levels"]
    assert (world.folder / "root/srv/holdfast-restore/documents.settings/files/srv/img/1.jpg").read_bytes() == CONTENT[
        "/srv/img/1.jpg"
    ]
    machine = Machine()
    found = judge(FILES, str(world.folder), verify_host.Machine(1, 60, machine), 0.0)
    assert verdicts(found) == {"application": PASS}
    assert found["figures"]["phases"]["application_s"] > 0
    laid = [argv[-3:] for argv in machine.calls if "sh" in argv]
    assert laid == [["/srv/holdfast-restore/documents.settings/files/srv/img", "/srv/img", ""]]


def test_software_is_not_tried_without_what_it_needs(world):
    at = with_settings(world)
    del at["e" * 64]
    part = world.fetch(arrivals=at, wanted=FILES)
    assert verdicts(part)["application"] == INCONCLUSIVE
    assert "settings, which it needs" in part["levels"]["application"]["reasons"][0]["message"]
    assert judge(FILES, str(world.folder), verify_host.Machine(1, 60, Machine()), 0.0)["levels"] == {}


def test_software_whose_needs_came_back_damaged_fails(world):
    at = with_settings(world)
    world.restored["/srv/img/2.jpg"] = b"two, and more"
    part = world.fetch(arrivals=at, wanted=FILES)
    assert verdicts(part)["application"] == FAIL
    assert "files_changed" in codes(part)


def test_without_a_fetched_dump_judge_has_nothing_to_add(world):
    world.fail["cat"] = Done(12, b"", "", 1.0)
    world.fetch()
    assert judge(WANTED, str(world.folder), verify_host.Machine(1, 60, Machine()), 0.0)["levels"] == {}


@pytest.mark.parametrize(
    ("done", "code"),
    [
        (Done(0, b"", "", 1.0), None),
        (Done(1, b"", "pg_restore: error: input file does not appear to be a valid archive", 1.0), "dump_truncated"),
        (Done(1, b"", 'from TOC entry 33; 0 16 TABLE DATA patient postgres\npg_restore: error: "Smith"', 1.0), "load_failed"),
        (Done(-9, b"", "", 9.0, True), "timeout"),
        (Done(1, b"", "ERROR: No space left on device", 1.0), "not_enough_space"),
    ],
)  # fmt: skip
def test_what_the_end_of_a_load_means(done, code):
    reasons = load_findings(done)
    assert [reason.code for reason in reasons] == ([code] if code else [])
    assert "Smith" not in str(reasons)


# --- running commands


def test_a_command_is_ended_at_its_timeout_with_all_its_children():
    began = time.monotonic()
    done = run(["sh", "-c", "echo early; sleep 60 & sleep 60"], {"PATH": os.environ["PATH"]}, 0.5)
    assert done.timed_out
    assert done.out == b"early\n"
    assert time.monotonic() - began < 8


def test_a_command_gets_only_the_environment_it_is_given():
    done = run([sys.executable, "-c", "import os; print(os.environ.get('LEAK'), end='')"], {"A": "b"}, 30)
    assert (done.rc, done.out) == (0, b"None")


def test_what_a_command_prints_is_heard_line_by_line_and_only_the_end_of_the_rest_is_kept(monkeypatch):
    monkeypatch.setattr(verify_host, "KEPT_BYTES", 20)
    heard = []

    def hear(line):
        heard.append(line)
        return line.startswith(b"status")

    script = "for n in 1 2 3 4 5 6; do echo status $n; echo other $n; echo said $n >&2; done; exit 3"
    done = run(["sh", "-c", script], {"PATH": os.environ["PATH"]}, 30, hear=hear)
    assert (done.rc, done.out) == (3, b"r 4\nother 5\nother 6\n")
    said = "".join(f"said {n}\n" for n in range(1, 7))
    assert done.err == said[:20] + said[-20:]
    assert len(heard) == 12


def test_a_command_that_is_heard_is_ended_at_its_timeout_as_well():
    done = run(
        ["sh", "-c", "echo early; sleep 60 & sleep 60"], {"PATH": os.environ["PATH"]}, 0.5, hear=lambda _line: False
    )
    assert (done.timed_out, done.out) == (True, b"early\n")


def test_a_file_gets_what_a_command_prints(tmp_path):
    (tmp_path / "into").symlink_to(tmp_path / "elsewhere")
    done = run(["sh", "-c", "printf text"], {"PATH": os.environ["PATH"]}, 30, into=tmp_path / "into")
    assert (done.rc, done.out, (tmp_path / "into").read_text()) == (0, b"", "text")
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "into").stat().st_mode & 0o777 == 0o600


def test_a_missing_program_is_an_answer():
    assert run(["/nowhere/restic"], {}, 5).rc == 127


def test_a_machine_without_a_leader_is_the_one_this_runs_on():
    ran = []
    machine = verify_host.Machine(0, 60, lambda argv, env, timeout, stdin: ran.append(argv))
    machine.call("psql", user="postgres")
    assert ran == [["runuser", "-u", "postgres", "--", "psql"]]


# --- which run, and what it measures


def two_runs(world):
    """Beside the run of the world an older one, whose oracle is "o"."""
    tags = ["practice=harbour", "job=clinical_db", "run=R1", "part=oracle"]
    older = {"id": "d" * 64, "time": utc(NOW - 40 * 86400), "hostname": "server1", "tags": tags}
    listed = [*world.snapshots(), older]
    world.snapshots = lambda: listed
    return {**dict.fromkeys(IDS.values(), NOW - 600), older["id"]: NOW - 40 * 86400 + 60}


def test_an_older_run_is_restored_into_a_folder_of_its_own(world):
    older = replace(WANTED, id="server1.clinical_db.onsite.oldest", which="oldest")
    arrivals = two_runs(world)
    part = world.fetch(arrivals, wanted=older)
    dumped = next(argv for argv, _env in world.calls if "dump" in argv)
    assert "d" * 64 in dumped, "the oracle that was read is not that of the older run"
    assert part["snapshots"]["oracle"] == "d" * 64
    assert part["arrived"] == utc(NOW - 40 * 86400 + 60)
    assert (part["class"], part["kept"]) == ("other", {"other": 2})  # no rules were given
    targets = [argv[argv.index("--target") + 1] for argv, _env in world.calls if "--target" in argv]
    assert targets == [f"/srv/holdfast-restore/{older.key}/{part}" for part in ("files", "database")]


def test_there_being_no_older_run_is_no_fault(world):
    older = replace(WANTED, id="x", which="rotation")
    part = world.fetch(wanted=older)
    assert part == {"passed_over": "no run but the newest is kept", "levels": {}, "figures": {}}
    assert not [argv for argv, _env in world.calls if "restore" in argv]


def test_a_fetch_measures_what_a_line_has_to_carry_and_counts_types(world):
    world.oracle["files"]["tripwires"] = {
        "types": {"jpg": {"files": 2, "wrong": 0}, "anna-smith": {"files": 1, "wrong": 0}}
    }
    world.total = 4711
    part = world.fetch()
    assert part["figures"]["transfer_bytes"] == 4711
    raw = next(argv for argv, _env in world.calls if "raw-data" in argv)
    assert {IDS["files"], IDS["database"]} < set(raw)
    assert part["figures"]["types"] == {"jpg": 2}, "an ending that nobody knows may be a name"


def test_the_loss_is_counted_from_records_that_came_back(world, monkeypatch):
    probes = {"newest_entry": utc(NOW - 900), "newest_letter": utc(NOW - 60), "patients": "7"}
    restored = same(world, probes=probes)
    part, _machine = judged(world, monkeypatch, restored, database={"probes": {**probes, "newest_letter": utc(NOW)}})
    assert part["figures"]["records"] == {"newest_entry": 900.0}, "a record that differs is nothing to count from"
    assert {"load_s", "first_query_s"} <= set(part["figures"]["phases"])


def test_an_older_run_tells_of_no_loss(world, monkeypatch):
    restored = same(world, probes={"newest_entry": utc(NOW - 900)})
    monkeypatch.setattr(database_engine, "read_database", lambda *_a, **_k: restored)
    older = replace(WANTED, id="x", which="oldest")
    world.fetch(two_runs(world), wanted=older)
    machine = verify_host.Machine(4711, 60, Machine(sh=Done(0, b"/usr/bin/pg_amcheck\n", "", 0.1)))
    part = judge(older, str(world.folder), machine, 2.0)
    assert part["figures"]["tables"] == 1
    assert "records" not in part["figures"]
