"""A live SQLite file is copied whole or not at all, and what is none is named."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    database_oracle,
    engine_sqlite,
    sqlite_door,
    sqlite_oracle,
)
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import Database, DatabaseError
from ansible_collections.holdfast.practice.plugins.module_utils.engine_sqlite import SqliteCopy, look, whole

SCHEMA = """
create table patient (id integer primary key, name text);
create table "odd ""name" (id integer references patient);
create virtual table words using fts5 (body);
create index by_name on patient (name);
create view names as select name from patient;
create trigger t after insert on patient begin select 1; end;
pragma user_version = 7;
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "live" / "pms ü.db"
    file.parent.mkdir()
    database = sqlite3.connect(file, isolation_level=None)
    database.executescript(SCHEMA)
    database.execute("begin")
    database.executemany("insert into patient (name) values (?)", [(f"p{n}",) for n in range(500)])
    database.execute('insert into "odd ""name" values (1), (999999)')
    database.execute("commit")
    database.close()
    return str(file)


def questions(path):
    return sqlite_oracle.SqliteQuestions(lambda sql: "".join(row + "\n" for row in sqlite_door.ask(path, sql)))


def test_a_copy_is_described_like_its_original(path, tmp_path):
    target = str(tmp_path / "copy" / "copy.db")
    sqlite_door.copy(path, target, 1.0)
    probes = {"newest": "select max(id) from patient; ", "none": "select name from patient where id = -1 -- x"}
    images = {"query": "select name from patient where id < 3 union all select null", "root": "/i"}
    live = database_oracle.read_database(questions(path), path, probes, images)
    copy = database_oracle.read_database(questions(target), path, probes, images)
    assert live["tables"]['odd "name'] == 2
    assert live["tables"]["patient"] == 500
    assert "words" not in live["tables"]
    assert live["more"] == {"foreign key violations": 1}
    assert live["probes"] == {"newest": "500", "none": None}
    assert live["images"] == {"count": 2, "root": "/i", "names": ["p0", "p1"]}
    assert database_oracle.compare(live, copy, engine_sqlite.Sqlite().release) == []
    assert Path(target).parent.stat().st_mode & 0o777 == 0o700
    assert not engine_sqlite.Sqlite().inspect(target)


def test_samples_do_not_depend_on_where_rows_lie_but_on_every_value(tmp_path):
    def made(name, rows, sql=""):
        database = sqlite3.connect(tmp_path / name, isolation_level=None)
        database.execute("create table t (id integer primary key, name, weight, scan blob)")
        database.execute("create table without (name, number)")
        database.executemany("insert into t values (?, ?, ?, ?)", rows)
        database.executemany("insert into without values (?, ?)", [(row[1], row[0]) for row in rows])
        database.execute("insert into t values (-1, cast(x'ff' as text), 0.5, null)")
        database.executescript(sql)
        database.close()
        ask = questions(str(tmp_path / name))
        return [ask.samples({"t": divisor, "without": divisor}) for divisor in (1, 7)]

    rows = [(n, f"p{n}", n / 3, bytes([n % 256]) * 5000) for n in range(1000)]
    first = made("first", rows)
    assert first == made("second", rows[::-1], "vacuum")
    assert (first[0]["t"][0], first[0]["without"][0]) == ("1001", "1000")
    for table in ("t", "without"):
        assert 100 < int(first[1][table][0]) < 190, "a seventh of the rows, more or less"
    for number, sql in enumerate((
        "update t set name = 'P7' where id = 7", "update t set weight = weight + 1e-12 where id = 7",
        "update t set name = cast(x'fe' as text) where id = -1", "update t set scan = '' where id = -1",
        "update t set scan = scan || x'00' where id = 7", "update t set id = 1007 where id = 7",
    )):  # fmt: skip
        other = made(f"other{number}", rows, sql)
        assert other[0]["t"] != first[0]["t"], sql
        assert other[0]["without"] == first[0]["without"]


def test_tables_of_many_columns_are_sampled(tmp_path):
    columns = ", ".join(f"c{n}" for n in range(500))
    database = sqlite3.connect(tmp_path / "wide", isolation_level=None)
    database.execute(f"create table t ({columns})")
    database.execute(f"insert into t values ({', '.join(['1'] * 500)})")
    before = questions(str(tmp_path / "wide")).samples({"t": 1})
    database.execute("update t set c499 = 2")
    database.close()
    assert before["t"][0] == "1"
    assert questions(str(tmp_path / "wide")).samples({"t": 1}) != before


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("delete from patient where id = 3", "rows_differ"),
        ('delete from "odd ""name" where id > 1', "rows_differ"),
        ("drop index by_name", "schema_differs"),
        ("drop view names", "schema_differs"),
        ("drop trigger t", "schema_differs"),
        ("pragma user_version = 8", "schema_differs"),
        ('update "odd ""name" set id = 77777 where id = 1', "foreign_key_violations_differ"),
    ],
)  # fmt: skip
def test_what_a_copy_lacks_is_seen(path, tmp_path, sql, code):
    target = str(tmp_path / "copy" / "copy.db")
    sqlite_door.copy(path, target, 1.0)
    live = database_oracle.read_database(questions(path), path)
    changed = sqlite3.connect(target)
    changed.executescript(sql)
    changed.close()
    copy = database_oracle.read_database(questions(target), path)
    assert code in {d.code for d in database_oracle.compare(live, copy, engine_sqlite.Sqlite().release)}


@pytest.mark.parametrize(("mode", "pages"), [("wal", 2000), ("delete", 2000), ("delete", 2)])
def test_copies_hold_whole_transactions_while_others_write(path, tmp_path, monkeypatch, mode, pages):
    monkeypatch.setattr(sqlite_door, "PAGES", pages)  # so few that writers come between every two steps
    first = sqlite3.connect(path, isolation_level=None)
    first.execute(f"pragma journal_mode = {mode}")
    first.executescript("create table a (n text); create table b (n text)")
    end = threading.Event()
    written = []

    def work():
        writer = sqlite3.connect(path, isolation_level=None, timeout=10)
        while not end.is_set():
            writer.execute("begin immediate")
            writer.execute("insert into a values (?)", ("x" * 3000,))
            writer.execute("insert into b values (?)", ("x" * 3000,))
            writer.execute("commit")
            written.append(1)
            time.sleep(0.002)
        writer.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        found = []
        for number in range(5):
            target = str(tmp_path / f"copy{number}" / "copy.db")
            sqlite_door.copy(path, target, 10.0)
            counts = questions(target).counts(["a", "b"])
            assert counts["a"] == counts["b"]
            found.append(counts["a"])
            before = len(written)
            while len(written) < before + 5:
                time.sleep(0.01)
    finally:
        end.set()
        worker.join()
        first.close()
    assert len(set(found)) == 5, "nothing was written meanwhile"


def test_the_log_of_software_that_was_killed_is_read_and_left_alone(path, tmp_path):
    script = (
        "import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "d.execute('pragma journal_mode = wal'); d.execute('delete from patient where id > 100'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)
    live = {name: Path(path + name).read_bytes() for name in ("", "-wal")}
    assert live["-wal"]
    target = str(tmp_path / "copy" / "copy.db")
    sqlite_door.copy(path, target, 1.0)
    assert questions(target).counts(["patient"]) == {"patient": 100}
    assert {name: Path(path + name).read_bytes() for name in live} == live
    bare = tmp_path / "bare.db"
    bare.write_bytes(live[""])
    assert questions(str(bare)).counts(["patient"]) == {"patient": 500}, "the file alone is another state"
    assert questions(str(bare)).integrity() == [], "and looks sound"


def test_a_database_that_somebody_holds_is_not_waited_for_for_ever(path, tmp_path):
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin exclusive")
    began = time.monotonic()
    try:
        with pytest.raises(sqlite3.OperationalError, match="is locked"):
            sqlite_door.copy(path, str(tmp_path / "copy" / "copy.db"), 0.5)
    finally:
        holder.close()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"x" * 5000, "not_a_database"), (b"SQLite format 3\0" + b"\xff" * 5000, "not_a_database")],
)
def test_a_file_that_is_no_database_is_named(tmp_path, content, code, capsys):
    file = tmp_path / "x.db"
    file.write_bytes(content)
    assert sqlite_door.main(["copy", str(file), str(tmp_path / "copy" / "copy.db"), "1"]) == 1
    said = json.loads(capsys.readouterr().err)
    assert said["code"] == code
    assert engine_sqlite.reason_of(json.dumps(said), str(file)).code == code


def test_what_is_not_there_is_named_before_anything_is_run(tmp_path):
    real = Path(os.path.realpath(tmp_path))
    (real / "empty.db").touch()
    (real / "link.db").symlink_to(real / "empty.db")
    (real / "folder").mkdir()
    for name, code in (
        ("missing.db", "database_missing"),
        ("empty.db", "database_empty"),
        ("link.db", "path_is_link"),
        ("folder", "not_a_database"),
    ):
        with pytest.raises(DatabaseError) as caught:
            look(str(real / name))
        assert caught.value.code == code


def test_a_disk_without_room_for_the_copy_is_named_with_bytes(path, monkeypatch):
    monkeypatch.setattr(engine_sqlite, "SPARE", 1 << 60)
    ran = []
    tools = SimpleNamespace(run=lambda *a: ran.append(a) or (0, "", ""), start=None)
    with pytest.raises(DatabaseError) as caught:
        engine_sqlite.Sqlite().open(Database("sqlite", path=os.path.realpath(path)), tools)
    assert caught.value.code == "not_enough_space"
    assert str(1 << 60)[:6] in caught.value.message
    assert ran == []


def test_a_copy_that_fails_leaves_nothing_behind(path):
    ran = []

    def run(argv, _env, _stdin=b""):
        ran.append(argv)
        return (1, "", '{"code": "database_locked", "message": "x"}\n') if "copy" in argv else (0, "", "")

    with pytest.raises(DatabaseError) as caught:
        engine_sqlite.Sqlite().open(
            Database("sqlite", path=os.path.realpath(path)), SimpleNamespace(run=run, start=None)
        )
    assert caught.value.code == "database_locked"
    assert [argv[-4:-1] for argv in ran[1:]] == [["rm", "-rf", "--"]]
    assert all(f"--reuid={Path(path).stat().st_uid}" in argv for argv in ran)
    assert all(argv[:2] == ["env", "-i"] for argv in ran)


@pytest.mark.parametrize("cut", [1, 4096, 20000])
def test_a_file_that_was_cut_or_is_none_is_seen_by_its_head(path, cut):
    content = Path(path).read_bytes()
    assert whole(content[:100], len(content)) is None
    assert whole(content[:100], len(content) - cut).code == "dump_truncated"
    assert whole(b"\0" * 100, len(content)).code == "dump_truncated"
    assert whole(content[:50], 50).code == "dump_truncated"


class Machine:
    """A machine that is this one."""

    def call(self, *argv, user=None, stdin=b"", timeout=None):
        assert user == "nobody"
        done = subprocess.run([sys.executable, *argv[1:]], input=stdin, capture_output=True, check=False)
        return SimpleNamespace(
            rc=done.returncode, out=done.stdout, err=done.stderr.decode(), timed_out=False, seconds=1.0
        )


def test_the_restored_file_is_asked_and_checked_by_the_same_program(path):
    copy = SqliteCopy(Machine(), "pms", {})
    assert copy.wait(5)
    assert copy.load(path) == []
    assert copy.questions.counts(["patient"]) == {"patient": 500}
    assert copy.check() == ("done", [])
    size = Path(path).stat().st_size
    with Path(path).open("r+b") as stream:
        stream.seek(size - 4096)
        stream.write(b"\xff" * 4096)
    state, found = copy.check()
    assert (state, [f.code for f in found]) == ("failed", ["engine_damage"])
