"""What goes to Firebird cannot be misread, and gbak's snapshot is found or nothing is dumped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    database_oracle,
    engine_firebird,
    firebird_account,
)
from ansible_collections.holdfast.practice.plugins.module_utils import firebird_oracle as oracle
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import DatabaseError, Tools
from ansible_collections.holdfast.practice.plugins.module_utils.engine_firebird import (
    Firebird,
    FirebirdView,
    Session,
    check_head,
    error_of,
    error_text,
    load_findings,
    whole,
)
from ansible_collections.holdfast.practice.plugins.module_utils.piped_dump import PipedDump


def printed(*values):
    """Rows as isql prints them."""
    return "".join(
        f"\nV                               {'-' if v is None else 'x' + v.encode().hex().upper()}\n\n" for v in values
    )


def sql_of(text):
    """The SELECTs in what isql was given."""
    return [bytes.fromhex(found).decode() for found in re.findall(r"q = x'([0-9a-f]*)'", text)]


class Database:
    """Answers like isql."""

    def __init__(self, **changes):
        self.answers = {
            "ENGINE_VERSION": printed("4.0.5"),
            "rdb$relation_type, 0) = 0": printed("BED", 'odd "name'),
            "count(*)": printed("0 17", "1 4"),
            "mon$sql_dialect": printed("(database)\tdialect|3"),
            "'relation|'": printed("BED\trelation|0"),
            "max(id)": printed("line\nbreak ü"),
            "nobody": printed(None),
            "path from": printed("a.png", None, "ü.png"),
            **changes,
        }

    def __call__(self, sql):
        return next((answer for part, answer in self.answers.items() if part in sql), "\n")


def read(**changes):
    probes = {"newest": "select max(id) from bed; ", "none": "select nobody -- x"}
    images = {"query": "select path from letter", "root": "/i"}
    return database_oracle.read_database(oracle.FirebirdQuestions(Database(**changes)), "/x.fdb", probes, images)


def test_as_many_columns_are_sampled_as_a_statement_has_room_for():
    columns = [[f"COLUMN_{n:03d}", "text", "0"] for n in range(600)]
    for one_in in (1, 9):
        sql = oracle.sample_sql("BED", [["ID", "plain", "1"], *columns], one_in)
        assert len(sql.encode()) < 32000
        assert '"COLUMN_020"' in sql
        assert ("where mod" in sql) is (one_in > 1)
    assert "octets" in sql, "no character set can refuse octets"


def test_a_database_is_described():
    found = read()
    assert found["tables"] == {"BED": 17, 'odd "name': 4}
    assert found["probes"] == {"newest": "line\nbreak ü", "none": None}
    assert found["images"]["names"] == ["a.png", "ü.png"]
    assert found["version"] == "4.0.5"
    assert set(found["schema_objects"]) == {"(database)", "BED"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"count(*)": printed("0 16", "1 4")}, "rows_differ"),
        ({"'relation|'": printed("BED\trelation|4")}, "schema_differs"),
        ({"max(id)": printed("16")}, "probe_differs"),
        ({"ENGINE_VERSION": printed("3.0.11")}, "version_older"),
        ({"path from": printed("a.png")}, "images_differ"),
    ],
)
def test_what_a_copy_lost_is_named(changes, code):
    assert code in {each.code for each in database_oracle.compare(read(), read(**changes), Firebird().release)}


@pytest.mark.parametrize(
    "sql", ["select 1; drop table bed", "select 'open", "select '^' from \"ü\"\n", "-- x", "^exit^"]
)
def test_no_question_can_break_out(sql):
    text = oracle.asked(sql)
    assert text.isascii()
    assert sql_of(text) == [sql]
    assert text.count("^") == 1


def test_answers_hold_whatever_a_text_holds():
    values = ["", None, "V  x41", "line\nbreak", "ü^;'\""]
    assert oracle.answers("Noise\n" + printed(*values) + "E   e\n") == values


def test_many_tables_are_counted_in_parts():
    names = [f"T{n}" for n in range(120)]
    asked = []

    def query(sql):
        asked.append(sql)
        return printed(*(f"{n} {n}" for n in range(sql.count("count(*)"))))

    found = oracle.FirebirdQuestions(query).counts(names)
    assert (len(asked), len(found), found["T119"]) == (3, 120, 19)
    assert all(sql.count("count(*)") <= oracle.COUNT_CHUNK for sql in asked)


def test_every_question_of_the_schema_is_a_pair():
    assert all("ascii_char(9)" in sql and sql.startswith("select") for sql in oracle.SCHEMA)


# --- what the programs say


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("Statement failed, SQLSTATE = 08006\nUnable to complete network request to host \"localhost\".", "database_unreachable"),
        ("Statement failed, SQLSTATE = 08006\nError writing data to the connection.\n-send_packet/send", "database_unreachable"),
        ("Your user name and password are not defined. Ask your database administrator", "login_refused"),
        ("file /x.fdb is not a valid database", "not_a_database"),
        ("database /x.fdb shutdown", "database_unreachable"),
        ("setpriv: failed to execute isql-fb: No such file or directory", "database_unreachable"),
        ("Table unknown\n-NOTHING", "query_failed"),
    ],
)  # fmt: skip
def test_each_trouble_has_its_own_name(said, code):
    assert error_of(said, "/x.fdb").code == code


def test_errors_quote_no_row():
    said = (
        'Statement failed, SQLSTATE = 22018\nconversion error from string "Anna Patient"\n-At block line: 6, col: 3\n'
    )
    assert error_text(said) == "conversion error from a text; At block line: 6, col: 3"
    said = "violation of PRIMARY or UNIQUE KEY constraint\n-Problematic key value is (\"NAME\" = 'Anna')"
    assert "Anna" not in error_text(said)


def done(rc=1, err="", timed_out=False):
    return SimpleNamespace(rc=rc, err=err, out=b"", timed_out=timed_out, seconds=9.0)


@pytest.mark.parametrize(
    ("result", "code", "verdict"),
    [
        (done(err="gbak: ERROR:unexpected end of file on backup file"), "dump_truncated", "FAIL"),
        (done(err="gbak: ERROR:expected backup description record"), "load_failed", "FAIL"),
        (done(err="gbak: ERROR:Problematic key value is (Anna)"), "load_failed", "FAIL"),
        (done(rc=0, timed_out=True), "timeout", "INCONCLUSIVE"),
        (done(err="No space left on device"), "not_enough_space", "INCONCLUSIVE"),
    ],
)
def test_the_end_of_a_load_is_judged(result, code, verdict):
    (found,) = load_findings(result)
    assert (found.code, found.verdict) == (code, verdict)
    assert "Anna" not in found.message


def test_a_load_that_went_well_says_nothing():
    assert load_findings(done(rc=0, err="gbak: WARNING: something")) == []


def test_shadows_are_not_made_where_their_folder_is_not():
    asked = []
    machine = SimpleNamespace(call=lambda *argv, **_options: asked.extend(argv) or done(rc=0))
    assert Firebird().copy(machine, "x", {}).load("/x.dump") == []
    assert asked[:3] == ["gbak", "-c", "-k"]


@pytest.mark.parametrize(
    ("head", "size", "code"),
    [
        (b"\0\2\4\x0b\0\0\0\4", 512 * 9, None),
        (b"\0\2\4\x0b\0\0\0\4", 512 * 9 - 1, "dump_truncated"),
        (b"\1\0\x39\x30", 8192 * 9, "not_a_dump"),
        (b"", 0, "not_a_dump"),
    ],
)
def test_a_dump_is_looked_at_before_it_is_loaded(head, size, code):
    found = whole(head, size)
    assert (found.code if found else None) == code


def head(kind=1, size=8192, version=0x8000 | 13):
    return bytes([kind]) + bytes(15) + size.to_bytes(2, "little") + version.to_bytes(2, "little") + bytes(100)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (head(), None),
        (head(version=0x8000 | 12), "engine_too_old"),
        (head(kind=7), "not_a_database"),
        (head(size=5000), "not_a_database"),
        (b"SQLite format 3\0" + bytes(100), "not_a_database"),
        (b"\1", "not_a_database"),
        (b"", "database_empty"),
    ],
)
def test_what_is_no_database_is_named(tmp_path, content, code):
    path = tmp_path / "x.fdb"
    path.write_bytes(content)
    if code is None:
        check_head(str(path))
        return
    with pytest.raises(DatabaseError) as refused:
        check_head(str(path))
    assert refused.value.code == code


def gfix(rc=0, out=b"", err="", timed_out=False):
    result = SimpleNamespace(rc=rc, out=out, err=err, timed_out=timed_out, seconds=9.0)
    return Firebird().copy(SimpleNamespace(call=lambda *_argv, **_options: result), "x", {}).check()


def test_the_engine_checks_itself():
    assert gfix() == ("done", [])
    summary = b"Summary of validation errors\n\n\tNumber of data page errors\t: 1\n"
    state, (found,) = gfix(out=summary)
    assert (state, found.verdict) == ("failed", "FAIL")
    assert "Number of data page errors : 1" in found.message
    assert gfix(rc=1, err="bad")[1][0].verdict == "FAIL"
    assert gfix(timed_out=True)[1][0].verdict == "INCONCLUSIVE"


# --- sessions, pipes and snapshots

# As isql behaves: SELECTs are answered, an error goes to the other side, `shell` is done by isql itself.
FAKE = r"""
import re, sys
for line in sys.stdin:
    echo = re.match(r"shell echo (\w+)\^", line)
    if echo:
        print(echo.group(1), flush=True)
    elif "2f2f6661696c" in line:
        print("Statement failed, SQLSTATE = 42S02\nTable unknown\n-NOTHING", file=sys.stderr, flush=True)
    elif "2f2f646965" in line:
        sys.exit("Error reading data from the connection.")
    elif line.startswith("  q = "):
        print("\nV                               x3432\n", flush=True)
"""


def start(argv, env, **pipes):
    return subprocess.Popen(argv, env=dict(env), start_new_session=True, **pipes)


TOOLS = Tools(lambda *_argv: (0, "", ""), start, lambda _name: "secret")


def test_a_session_outlives_an_error_and_tells_of_its_end():
    session = Session([sys.executable, "-c", FAKE], os.environ, "/x.fdb", TOOLS)
    try:
        assert oracle.answers(session.query("select 42")) == ["42"]
        with pytest.raises(DatabaseError, match="Table unknown; NOTHING") as refused:
            session.query("//fail")
        assert refused.value.code == "query_failed"
        assert oracle.answers(session.query("select 42")) == ["42"]
        with pytest.raises(DatabaseError) as gone:
            session.query("//die")
        assert gone.value.code == "database_unreachable"
    finally:
        session.close()


@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_a_dump_waits_in_a_full_pipe_and_then_comes_whole(size):
    script = f"import os, sys; sys.stdout.buffer.write(b'ab' * {size}); sys.stdout.flush(); os.write(2, b'said')"
    dump = PipedDump(TOOLS, (), [sys.executable, "-c", script], os.environ, plugged=True)
    try:
        if size:
            with pytest.raises(subprocess.TimeoutExpired):
                dump.process.wait(1)
        dump.unplug()
        passed = subprocess.run(dump.command(), capture_output=True, check=False)
        assert (passed.returncode, passed.stdout) == (0, b"ab" * size)
        assert dump.complaint() == "said"
    finally:
        dump.close()


def test_a_dump_that_is_killed_is_not_vouched_for():
    script = "import os, sys; sys.stdout.buffer.write(b'ab' * 9); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    dump = PipedDump(TOOLS, (), [sys.executable, "-c", script], os.environ)
    passed = subprocess.run(dump.command(), capture_output=True, check=False)
    dump.close()
    assert passed.returncode == 1
    assert b"ended with 137" in passed.stderr


class Snapshots:
    """A session to whom these numbers are of open snapshots, one set after the other."""

    def __init__(self, *rounds):
        self.rounds = list(rounds)
        self.began = []

    def open_snapshots(self, first, end):
        found = self.rounds[0] if len(self.rounds) == 1 else self.rounds.pop(0)
        return {n for n in found if first <= n < end}

    def begin(self, number=""):
        self.began.append(number)
        return number


def view():
    found = object.__new__(FirebirdView)
    found.path = "/x.fdb"
    return found


@pytest.mark.parametrize(
    ("rounds", "chosen"),
    [
        ([{15}], "15"),
        ([{20}], "20"),  # nothing was committed after gbak began
        ([{12, 15}, {12, 15}, {15}], "15"),  # somebody else's transaction ended meanwhile
        ([{12, 20}, {20}], "20"),  # the only one before the last may be somebody else's
    ],
)
def test_the_one_open_snapshot_is_gbaks(monkeypatch, rounds, chosen):
    monkeypatch.setattr(engine_firebird, "PAUSE_S", 0)
    session = Snapshots(*rounds)
    view()._join(session, 10, 20)
    assert session.began == [chosen]


@pytest.mark.parametrize("session", [Snapshots({12, 15}), Snapshots(set())])
def test_anything_but_one_open_snapshot_is_no_answer(monkeypatch, session):
    monkeypatch.setattr(engine_firebird, "PAUSE_S", 0)
    monkeypatch.setattr(engine_firebird, "ALONE_S", 0.05)
    with pytest.raises(DatabaseError) as refused:
        view()._join(session, 10, 20)
    assert refused.value.code == "database_busy"
    assert session.began == []


class Open(Snapshots):
    """A session that knows what is open before the guard, look by look; and what of it is open at the end."""

    def __init__(self, *looks, still=()):
        super().__init__()
        self.looks = list(looks)
        self.still = still

    def older(self, before):
        assert before == 50
        return self.looks[0] if len(self.looks) == 1 else self.looks.pop(0)

    def is_open(self, number):
        return number in self.still

    def query(self, _sql):
        return ""


def test_gbak_waits_for_what_was_open_before_the_guard(monkeypatch):
    monkeypatch.setattr(engine_firebird, "PAUSE_S", 0)
    session = Open(31, 40, None)
    assert view()._settle(session, 50) is None
    assert len(session.began) == 3, "each look needs a transaction of its own"


@pytest.mark.parametrize(
    ("older", "still", "codes"),
    [
        (None, (), []),  # nothing was open before the guard: the limit cannot have moved
        (31, (31,), []),  # it was there from the first to the last
        (31, (), ["view_moved"]),
    ],
)
def test_who_was_open_too_long_has_to_be_there_to_the_end(monkeypatch, older, still, codes):
    """Seen under load: what was open when gbak began, and ended before the oracle asked, was the oracle's and not the dump's."""
    monkeypatch.setattr(engine_firebird, "PAUSE_S", 0)
    monkeypatch.setattr(engine_firebird, "SETTLE_S", 0.01)
    found = view()
    found._session = Open(older, still=still)
    found._older = found._settle(found._session, 50)
    assert [each.code for each in found.meanwhile()] == codes


# --- the account


@pytest.mark.parametrize(
    ("role", "member", "unreadable", "begins"),
    [
        (None, False, ["S"], ["CREATE ROLE", "GRANT DEFAULT", "GRANT USAGE ON SEQUENCE \"S\""]),
        (firebird_account.PRIVILEGE_BITS, True, [], []),
        (firebird_account.PRIVILEGE_BITS, True, ['a"b'], ['GRANT USAGE ON SEQUENCE "a""b" TO ROLE HOLDFAST_READER']),
        ("FFFF010000000000", True, [], ["ALTER ROLE"]),
    ],
)  # fmt: skip
def test_only_what_is_missing_is_granted(role, member, unreadable, begins):
    found = firebird_account.statements(role, member, unreadable)
    assert len(found) == len(begins)
    assert all(sql.startswith(begin) for sql, begin in zip(found, begins, strict=True))


def test_sysdba_is_read_where_debian_keeps_it():
    text = '# Password\nISC_USER=sysdba\nISC_PASSWORD="a8e9\'1 $af6"\n'
    assert firebird_account.login(text) == {"ISC_USER": "sysdba", "ISC_PASSWORD": "a8e9'1 $af6"}
    with pytest.raises(firebird_account.AccountError, match="dpkg-reconfigure"):
        firebird_account.login("# empty\n")


class Server:
    """isql for the account: a server with some state."""

    def __init__(self, password=None, role=None):
        self.password, self.role, self.said, self.argv = password, role, [], []

    def __call__(self, argv, data="", environ_update=None):
        self.argv += argv
        if environ_update["ISC_USER"] == "HOLDFAST":
            known = environ_update["ISC_PASSWORD"] == self.password
            return (0, "", "") if known else (1, "", "Your user name and password are not defined")
        self.said.append(data)
        (sql,) = sql_of(data) or [""]
        if "rdb$roles" in sql:
            return 0, printed(self.role) if self.role else "\n", ""
        if "privilege = 'M'" in sql or "sec$users" in sql:
            return 0, printed("HOLDFAST") if self.password else "\n", ""
        return 0, "\n", ""


@pytest.fixture
def account(tmp_path, monkeypatch):
    sysdba = tmp_path / "SYSDBA.password"
    sysdba.write_text("ISC_USER=sysdba\nISC_PASSWORD=master\n")
    monkeypatch.setattr(firebird_account, "SYSDBA", str(sysdba))
    monkeypatch.setattr(firebird_account.shutil, "which", lambda _name: "/usr/bin/isql-fb")
    path = tmp_path / "x.fdb"
    path.touch()
    return lambda server: (firebird_account.FirebirdAccount(server, str(tmp_path)), str(path))


def test_an_account_is_made_once_and_goes_with_its_last_database(account):
    server = Server()
    made, path = account(server)
    secret = made.secret([path])
    steps = [change.target for change in made.plan([path], [], secret)]
    assert [step.split(" ROLE")[0].removeprefix(f"{path}: ") for step in steps] == [
        "CREATE OR ALTER USER HOLDFAST", "CREATE", "GRANT DEFAULT HOLDFAST_READER TO USER HOLDFAST",
    ]  # fmt: skip
    password = secret["firebird-password"]
    assert not any(password in step for step in steps), "a password would be shown"
    made.apply()
    assert any(f"PASSWORD '{password}'" in text for text in server.said)
    assert not any(word in (password, "master") for word in server.argv), "a password among the arguments"

    there = Server(password, firebird_account.PRIVILEGE_BITS)
    again, path = account(there)
    assert again.plan([path], [path], secret) == []
    gone = [change.target for change in again.plan([], [path], {})]
    assert gone == [f"{path}: DROP ROLE HOLDFAST_READER", "DROP USER HOLDFAST"]
    assert again.plan([], [], {}) == []


def test_the_password_of_the_host_is_kept(account, tmp_path):
    (tmp_path / "firebird-password").write_text("kept\n")
    made, path = account(Server())
    assert made.secret([path]) == {"firebird-password": "kept"}
    assert made.secret([]) == {}


def test_an_account_that_cannot_be_made_says_why(account, monkeypatch):
    made, path = account(Server())
    with pytest.raises(firebird_account.AccountError, match="does not exist"):
        made.plan([path + ".not"], [], {"firebird-password": "x"})
    monkeypatch.setattr(firebird_account.shutil, "which", lambda _name: None)
    with pytest.raises(firebird_account.AccountError, match="not installed"):
        made.plan([path], [], {"firebird-password": "x"})
