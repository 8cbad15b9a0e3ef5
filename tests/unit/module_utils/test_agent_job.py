"""A job file is taken whole or refused with every fault."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_job, tripwires

GOOD = {
    "schema": 1,
    "practice": "harbour-street",
    "host": "server1",
    "repository": {"url": "rest:https://198.18.0.11:8000/server1/", "username": "server1"},
    "name": "clinical_db",
    "item": "clinical_db",
    "class": "critical",
    "calendar": ["*-*-* 21:00:00 UTC"],
    "time_limit_s": 7200,
    "database": {
        "engine": "postgresql",
        "name": "clinic",
        "images": {"query": "select path from image", "root": "/srv/clinic/images"},
        "probes": {"newest": "select max(starts) from appointment"},
    },
    "paths": ["/srv/clinic/documents", "/srv/Ärzte und Briefe"],
    "exclude": ["*.tmp"],
    "must_have": ["/srv/clinic/documents/letters"],
    "min_files": 3,
}


def test_a_good_job_is_read_whole():
    job = agent_job.parse(json.dumps(GOOD))
    assert (job.name, job.min_files, job.time_limit_s) == ("clinical_db", 3, 7200)
    assert job.database is not None
    assert job.database.images == {"query": "select path from image", "root": "/srv/clinic/images"}
    assert job.paths == ("/srv/clinic/documents", "/srv/Ärzte und Briefe")
    assert job.tripwires == tripwires.Settings()
    given = {"canaries": ["/srv/clinic/documents/x.pdf"], "disable": ["magic"], "least": 3}
    job = agent_job.parse(json.dumps({**GOOD, "tripwires": given}))
    assert job.tripwires == tripwires.Settings(("/srv/clinic/documents/x.pdf",), ("magic",), 3)


@pytest.mark.parametrize(
    "database",
    [
        {"engine": "mariadb", "name": "x"},
        {"engine": "firebird", "path": "/srv/x.fdb"},
        {"engine": "sqlite", "path": "/srv/Praxis Ü/pms.db"},
    ],
)
def test_every_engine_has_its_own_way_to_name_a_database(database):
    found = agent_job.parse(json.dumps({**GOOD, "database": database})).database
    assert found.label == (database.get("name") or database["path"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema 2"),
        ({"tripwires": "x"}, "tripwires: expected an object"),
        ({"tripwires": {"magick": 2}}, "tripwires.magick: unknown key"),
        ({"tripwires": {"magic": 0}}, "tripwires.magic 0: expected a whole number from 1 to 100"),
        ({"tripwires": {"change": 101}}, "tripwires.change 101"),
        ({"tripwires": {"least": True}}, "tripwires.least True: expected a whole number from 1"),
        ({"tripwires": {"disable": ["x"]}}, "tripwires.disable ['x']"),
        ({"tripwires": {"canaries": ["a.pdf"]}}, "tripwires.canaries 'a.pdf': expected a plain absolute path"),
        ({"tripwires": {"canaries": ["/a/b.docx"]}}, "its name ends in .pdf"),
        ({"name": "../x"}, "name '../x'"),
        ({"name": ""}, "name ''"),
        ({"practice": None}, "practice: missing"),
        ({"repository": {}}, "repository"),
        ({"paths": ["relative"]}, "paths 'relative'"),
        ({"mounts": ["srv"]}, "mounts 'srv'"),
        ({"min_size": -1}, "min_size -1"),
        ({"paths": ["/a/../etc"]}, "/a/../etc"),
        ({"paths": "/srv"}, "paths: expected a list"),
        ({"paths": ["/srv/"]}, "'/srv/'"),
        ({"must_have": [3]}, "must_have"),
        ({"exclude": ["!keep"]}, "brings back"),
        ({"min_files": -1}, "min_files -1"),
        ({"min_files": True}, "min_files True"),
        ({"database": {"engine": "oracle", "name": "x"}}, "engine 'oracle'"),
        ({"database": {"engine": "postgresql", "name": "a/b"}}, "name 'a/b'"),
        ({"database": {"engine": "mariadb"}}, "name None"),
        ({"database": {"engine": "mariadb", "name": "x", "path": "/x"}}, "has a name and no path"),
        ({"database": {"engine": "sqlite", "name": "x"}}, "database.path: missing"),
        ({"database": {"engine": "sqlite", "path": "pms.db"}}, "database.path 'pms.db'"),
        ({"database": {"engine": "sqlite", "path": "/x", "name": "x"}}, "has a path and no name"),
        ({"database": {"engine": "postgresql", "name": "x", "probes": {"a": ""}}}, "probes"),
        ({"database": {"engine": "postgresql", "name": "x", "images": {"query": "q", "root": "x"}}}, "images.root 'x'"),
        ({"database": None, "paths": []}, "nothing to back up"),
        ({"surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_each_fault_is_named(change, says):
    with pytest.raises(agent_job.JobError) as caught:
        agent_job.parse(json.dumps({**GOOD, **change}))
    assert says in str(caught.value)


def test_all_faults_come_at_once():
    with pytest.raises(agent_job.JobError) as caught:
        agent_job.parse(json.dumps({**GOOD, "schema": 2, "min_files": "x", "paths": ["y"]}))
    assert all(part in str(caught.value) for part in ("schema 2", "paths 'y'", "min_files 'x'"))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_job_is_refused(text):
    with pytest.raises(agent_job.JobError):
        agent_job.parse(text)
