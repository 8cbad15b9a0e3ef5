"""After a power cut no backup of a database counts before its engine has looked at it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_boot, agent_host, engine_postgresql
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import Database, DatabaseError, Finding

DATABASE = Database("postgresql", "clinic")


@pytest.fixture
def places(tmp_path):
    places = agent_host.Places(etc=tmp_path / "etc", state=tmp_path / "state", boot_id=tmp_path / "boot-id")
    (tmp_path / "etc" / "jobs").mkdir(parents=True)
    places.job("clinical_db").write_text('{"database": {"engine": "postgresql", "name": "clinic"}}')
    places.job("documents").write_text('{"paths": ["/srv"]}')
    places.boot_id.write_text("two\n")
    return places


@pytest.mark.parametrize(
    ("before", "there", "unclean"),
    [
        (None, False, False),  # never seen a boot
        (None, True, True),  # the note itself was torn
        ({"boot_id": "one", "stopped": True}, True, False),
        ({"boot_id": "one", "stopped": False}, True, True),
        ({"boot_id": "two", "stopped": False}, True, False),  # the unit was started again
    ],
)
def test_was_unclean(before, there, unclean):
    assert agent_boot.was_unclean(before, there, "two") is unclean


@pytest.mark.parametrize(("stopped", "notes"), [(True, []), (False, ["clinical_db.json"])])
def test_a_boot(places, stopped, notes):
    agent_host.write_json(places.boot, {"boot_id": "one", "stopped": stopped})
    agent_boot.booted(places)
    assert [path.name for path in (places.state / "unclean").glob("*")] == notes
    assert json.loads(places.boot.read_text()) == {"boot_id": "two", "stopped": False}


@pytest.mark.parametrize(("state", "stopped"), [("stopping", True), ("running", False), ("degraded", False)])
def test_only_a_machine_that_stops_is_stopped(places, state, stopped):
    agent_host.write_json(places.boot, {"boot_id": "two", "stopped": False})
    agent_boot.stopping(places, state)
    assert json.loads(places.boot.read_text())["stopped"] is stopped


def engine(answer):
    def sound(_database, _tools):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(sound=sound, title="PostgreSQL")


@pytest.mark.parametrize(
    ("answer", "codes", "stays"),
    [
        (("done", []), [], False),
        (("done", [Finding("engine_damage", "1 table")]), ["unclean_boot_damaged"], True),
        (("not available", []), ["unclean_boot_unchecked"], False),  # said once, not for ever
        (DatabaseError("database_unreachable", "no"), ["unclean_boot_unchecked"], True),
    ],
)
def test_a_reason_comes_with_a_hold_and_the_note_goes_when_the_database_is_sound(places, answer, codes, stays):
    agent_host.write_json(places.unclean("clinical_db"), {"boot_id": "two", "since": "2026-11-24T10:00:00Z"})
    found = []
    holds = agent_boot.examine(
        places, "clinical_db", DATABASE, engine(answer), None, lambda code, _text: found.append(code)
    )
    assert (found, holds) == (codes, ["unclean-boot"] if codes else [])
    assert places.unclean("clinical_db").exists() is stays


def test_without_a_note_nothing_is_asked(places):
    assert agent_boot.examine(places, "clinical_db", DATABASE, None, None, None) == []


@pytest.mark.parametrize(
    ("code", "out", "err", "found"),
    [
        (0, "[]\n", "", ("done", 0)),
        (0, '["public.appointment_pkey"]\n', "", ("done", 1)),
        (3, "", 'psql: ERROR:  extension "amcheck" is not available', ("not available", 0)),
        (3, "", "psql: ERROR:  cannot execute CREATE SCHEMA in a read-only transaction", ("not available", 0)),
    ],
)
def test_amcheck(code, out, err, found):
    tools = SimpleNamespace(run=lambda *_arguments: (code, out, err))
    done, findings = engine_postgresql.Postgresql().sound(DATABASE, tools)
    assert (done, len(findings)) == found


@pytest.mark.parametrize(
    ("code", "out", "err"), [(0, "", ""), (2, "", "psql: FATAL:  no"), (3, "", "ERROR:  out of memory")]
)
def test_a_check_that_came_to_no_end_is_no_verdict(code, out, err):
    tools = SimpleNamespace(run=lambda *_arguments: (code, out, err))
    with pytest.raises(DatabaseError):
        engine_postgresql.Postgresql().sound(DATABASE, tools)
