"""What goes to MariaDB cannot be misread, and what comes back is taken as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import database_oracle, dump_pipe, mariadb_account
from ansible_collections.holdfast.practice.plugins.module_utils import mariadb_oracle as oracle
from ansible_collections.holdfast.practice.plugins.module_utils.engine_mariadb import Mariadb, error_text, load_findings

PATIENT = "patient\tCREATE TABLE `patient` (\\n  `a` {}\\n) ENGINE=InnoDB{} DEFAULT CHARSET=utf8mb4\n"
MODE = "STRICT_TRANS_TABLES"


class Database:
    """Answers like the client."""

    def __init__(self, **changes):
        self.asked = []
        self.answers = {
            "version()": "11.8.6-MariaDB-0+deb13u1 from Debian\n",
            "@@sql_mode": f"{MODE}\tutf8mb4_general_ci\n",
            "table_name, table_type, ifnull(engine":
                "hist\tSYSTEM VERSIONED\tInnoDB\npatient\tBASE TABLE\tInnoDB\ns\tSEQUENCE\tInnoDB\nv\tVIEW\t\n",
            "table_name, table_type, ifnull(create_time": "patient\tBASE TABLE\t2026-01-01\n",
            "count(*) from": "0\t4\n1\t17\n",
            "show create table `hist`": "hist\tCREATE TABLE `hist` (\\n  `a` int\\n) ENGINE=InnoDB\n",
            "show create table `patient`": PATIENT.format("int", " AUTO_INCREMENT=18"),
            "show create sequence": "s\tCREATE SEQUENCE `s` start with 1\n",
            "information_schema.views": "v\tview|select 1\n",
            "information_schema.triggers": "",
            "information_schema.routines": "book\troutine|PROCEDURE\n",
            "information_schema.events": "",
            "max(id)": "0\ta\\tb\\\\c\n",
            "nobody": "1\t\n",
            "path from": "ü 1.png\nline\\nend\n",
            **changes,
        }  # fmt: skip

    def __call__(self, sql):
        self.asked.append(sql)
        return next(answer for part, answer in self.answers.items() if part in sql)


PROBES = {"newest": "select max(id) from patient;", "none": "select nobody"}
IMAGES = {"query": "select path from image", "root": "/i"}


def read(**changes):
    return database_oracle.read_database(oracle.MariadbQuestions(Database(**changes)), "clinic", PROBES, IMAGES)


def test_a_database_is_described():
    found = read()
    assert found["version"] == "11.8.6-MariaDB"
    assert found["tables"] == {"hist": 4, "patient": 17}
    assert found["probes"] == {"newest": "a\tb\\c", "none": None}
    assert found["images"]["names"] == ["ü 1.png", "line\nend"]
    assert (found["sql_mode"], found["collation"]) == (MODE, "utf8mb4_general_ci")
    assert set(found["schema_objects"]) == {"(database)", "hist", "patient", "s", "v", "book"}


def test_the_next_number_of_a_table_is_no_difference_and_everything_else_is():
    later = read(**{"show create table `patient`": PATIENT.format("int", " AUTO_INCREMENT=99")})
    assert database_oracle.compare(read(), later, Mariadb().release) == []
    for part, answer in (
        ("show create table `patient`", PATIENT.format("bigint", "")),
        ("show create sequence", "s\tCREATE SEQUENCE `s` start with 2\n"),
        ("information_schema.views", "v\tview|select 2\n"),
        ("information_schema.triggers", "patient\ttrigger|t\n"),
        ("information_schema.routines", ""),
        ("information_schema.events", "tidy\tevent|x\n"),
    ):
        assert [d.code for d in database_oracle.compare(read(), read(**{part: answer}), Mariadb().release)] == [
            "schema_differs"
        ], part


def test_a_table_that_is_made_anew_changes_the_marks_and_a_row_does_not():
    def marks(**changes):
        return oracle.MariadbQuestions(Database(**changes)).marks()

    assert marks() == marks(**{"count(*) from": "0\t5\n1\t18\n"})
    assert marks() != marks(**{"table_name, table_type, ifnull(create_time": "patient\tBASE TABLE\t2026-01-02\n"})


def test_rows_that_are_history_are_counted():
    assert oracle.count_sql([("hist", "SYSTEM VERSIONED"), ("a`b", "BASE TABLE")]) == (
        "select 0, (select count(*) from `hist` for system_time all)\nunion all select 1, (select count(*) from `a``b`)"
    )


def test_the_client_reads_nothing_of_what_it_hands_on():
    text = oracle.sent("select '\\! touch /tmp/x'; delimiter //\n-- ü")
    assert re.fullmatch(r"execute immediate convert\(x'[0-9a-f]+' using utf8mb4\);", text)


@pytest.mark.parametrize(
    ("old", "new", "older"), [("10.11.4-MariaDB", "11.8.6-MariaDB", False), ("11.8.6-MariaDB", "11.4.2-MariaDB", True)]
)
def test_a_dump_is_not_taken_to_an_older_series(old, new, older):
    found = [
        d.code
        for d in database_oracle.compare({**read(), "version": old}, {**read(), "version": new}, Mariadb().release)
    ]
    assert found == (["version_older"] if older else [])


def test_an_error_is_told_without_its_place():
    said = (
        "--------------\nselect secret\n--------------\n\nERROR 1412 (HY000) at line 7: Table definition has changed\n"
    )
    assert error_text(said) == "ERROR 1412 (HY000): Table definition has changed"


@pytest.mark.parametrize(
    ("rc", "err", "timed_out", "codes"),
    [
        (0, "", False, []),
        (1, "ERROR 1064 (42000) at line 9: near 'Smith'", False, ["load_failed"]),
        (1, "ERROR 1114 (HY000) at line 9: The table 'x' is full", False, ["not_enough_space"]),
        (-15, "", True, ["timeout"]),
    ],
)
def test_what_the_end_of_a_load_means(rc, err, timed_out, codes):
    found = load_findings(SimpleNamespace(rc=rc, err=err, timed_out=timed_out, seconds=3.0))
    assert [finding.code for finding in found] == codes
    assert "Smith" not in str(found)


@pytest.mark.parametrize(("text", "whole"), [
    (b"...\n-- Dump completed\n", True), (b"-- Dump completed on 2026-11-22  0:00:00\n\n", True),
    (b"-- Dump completed\nINSERT", False), (b"INSERT INTO x VALUES\n", False), (b"", False),
])  # fmt: skip
def test_a_dump_without_its_end_is_seen(tmp_path, text, whole):
    dump = tmp_path / "dump"
    dump.write_bytes(b"x" * 10000 + b"\n" + text)
    assert [finding.code for finding in Mariadb().inspect(str(dump))] == ([] if whole else ["dump_truncated"])


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"a\n" * 200000 + b"-- Dump completed\n", b"0\n", 0),
        (b"a\n-- Dump completed\n", b"2\n", 1),
        (b"a\n-- Dump completed\n", b"", 1),
        (b"a\n-- Dump comp", b"0\n", 1),
        (b"", b"0\n", 1),
    ],
)
def test_a_dump_is_passed_on_and_vouched_for_only_when_it_is_whole(content, status, code):
    pipe, writes = os.pipe()
    report, reports = os.pipe()
    here = f"/proc/{os.getpid()}/fd"
    argv = [sys.executable, "-IB", dump_pipe.__file__, f"{here}/{pipe}", f"{here}/{report}", "-- Dump completed"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=writes)
        os.close(writes)
        os.write(reports, status)
        os.close(reports)
        got = []
        reader = threading.Thread(target=lambda: got.append(process.stdout.read()))
        reader.start()
        writer.communicate(content)
        reader.join()
        said = process.stderr.read()
        process.wait()
    os.close(pipe)
    os.close(report)
    assert (process.returncode, got[0]) == (code, content)
    assert bool(said) == bool(code)


# --- the account

NEW = (11, 8)
FULL = (
    "GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT, TRIGGER, SHOW CREATE ROUTINE ON `my\\_db`.* TO `holdfast`@`localhost`"
)
RELOAD = "GRANT RELOAD ON *.* TO `holdfast`@`localhost` IDENTIFIED VIA unix_socket"


def test_an_account_that_is_as_it_should_be_is_left_alone():
    have = mariadb_account.read_grants([RELOAD, FULL])
    assert mariadb_account.statements(have, mariadb_account.wanted(["my_db"], NEW)) == []


def test_an_account_is_made_mended_and_removed():
    want = mariadb_account.wanted(["my_db"], NEW)
    made = mariadb_account.statements(None, want)
    assert made[0] == "CREATE USER 'holdfast'@'localhost' IDENTIFIED VIA unix_socket"
    assert "GRANT RELOAD ON *.* TO 'holdfast'@'localhost'" in made
    assert any(step.startswith("GRANT EVENT, LOCK TABLES, SELECT, ") and "`my\\_db`.*" in step for step in made)
    other = "GRANT ALL PRIVILEGES ON `other`.* TO `holdfast`@`localhost` WITH GRANT OPTION"
    mended = mariadb_account.statements(mariadb_account.read_grants([RELOAD, FULL, other]), want)
    assert mended == ["REVOKE ALL PRIVILEGES, GRANT OPTION ON `other`.* FROM 'holdfast'@'localhost'"]
    assert mariadb_account.statements({}, {}) == ["DROP USER 'holdfast'@'localhost'"]
    assert mariadb_account.statements(None, {}) == []


def test_an_older_server_shows_routines_to_who_may_read_its_table_of_them():
    assert mariadb_account.wanted(["a"], (10, 11))["`mysql`.`proc`"] == {"SELECT"}
    assert "SHOW CREATE ROUTINE" not in mariadb_account.wanted(["a"], (10, 11))["`a`.*"]
    assert mariadb_account.wanted([], NEW) == {}
