"""What a copy takes along, and when it says that it has it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import (
    agent_copy,
    agent_host,
    agent_job,
    agent_repository,
    agent_runs,
)


def snapshot(run, part, host="server1", job="documents", **more):
    return {
        "id": f"{run}-{part}",
        "hostname": host,
        "time": "2026-11-24T10:00:00+11:00",
        "tags": ["practice=harbour-street", f"job={job}", f"run={run}", f"part={part}"],
        "summary": {"total_files_processed": 3, "total_bytes_processed": 100},
        **more,
    }


def runs(*names):
    found, _strangers = agent_runs.runs_of([snapshot(name, part) for name in names for part in ("files", "oracle")])
    return found


@pytest.mark.parametrize(
    ("here", "there", "copied"),
    [
        ("123", "", "3"),  # the first time: what was before stays where it is
        ("123", "3", ""),
        ("1234", "2", "43"),  # newest first, then what was left behind
        ("1234", "24", "3"),
        ("12", "5", "2"),  # forgotten in the house, still there: nothing to do with it
    ],
)
def test_the_newest_goes_first_and_what_was_left_behind_after_it(here, there, copied):
    assert "".join(each.run for each in agent_copy.to_copy(runs(*here), runs(*there))) == copied


class Repository:
    """A repository that keeps what it is given."""

    def __init__(self, rows, name):
        self.rows, self.name = rows, name
        self.env = {}
        self.repository = SimpleNamespace(cacert=f"{name}.pem", cache_dir="x")

    def version(self):
        return "0.18.0"

    def snapshots(self):
        return self.rows

    def as_source(self):
        return {"FROM": self.name}


def copying(tmp_path, monkeypatch, here, there, run):
    places = agent_host.Places(etc=tmp_path, state=tmp_path, cache=tmp_path, run=tmp_path)
    repositories = {"": Repository(here, "house"), "offsite": Repository(there, "offsite")}
    monkeypatch.setattr(agent_copy, "open_restic", lambda _url, _places, _run, store="": repositories[store])
    monkeypatch.setattr(agent_copy, "identify", lambda opened, _places, _store="": f"id of {opened.name}")
    monkeypatch.setattr(agent_copy, "check_stamp", lambda *_: None)
    job = agent_job.Job(
        "documents.offsite", "documents", "harbour-street", "server1", "rest:https://x/",
        copy_of="documents", source_url="rest:https://y/", store="offsite",
    )  # fmt: skip
    outcome = SimpleNamespace(tools={}, snapshots={"database": None, "files": None, "oracle": None}, copied=None)
    children = SimpleNamespace(run=lambda argv, env, *_: run(argv, env, repositories))
    return agent_copy.Copying(job, places, "run", children, outcome), outcome


def takes(argv, env, repositories):
    assert env == {"FROM": "house"}
    assert argv[argv.index("copy") :][:4] == ["copy", "--json", "--cacert", "house.pem"]
    for one in argv[argv.index("copy") + 4 :]:
        row = next(row for row in repositories[""].rows if row["id"] == one)
        repositories["offsite"].rows.append({**row, "id": f"copy of {one}", "original": one})
    return 0, "", ""


def test_a_run_is_copied_oracle_last_and_known_by_its_originals(tmp_path, monkeypatch):
    said = []

    def run(argv, env, repositories):
        said.append(argv[argv.index("copy") + 4 :])
        return takes(argv, env, repositories)

    here = [snapshot("1", part) for part in ("database", "files", "oracle")]
    copy, outcome = copying(tmp_path, monkeypatch, here, [], run)
    copy.run()
    assert said == [["1-database", "1-files"], ["1-oracle"]]
    assert outcome.copied == "1"
    assert outcome.snapshots == {part: f"copy of 1-{part}" for part in ("database", "files", "oracle")}
    copy.run()
    assert len(said) == 2, "what is there is not copied again"


def test_a_copy_that_lacks_a_part_is_no_copy(tmp_path, monkeypatch):
    def run(argv, env, repositories):
        takes(argv, env, repositories)
        repositories["offsite"].rows[:] = [row for row in repositories["offsite"].rows if "files" not in row["id"]]
        return 0, "", ""

    copy, _outcome = copying(tmp_path, monkeypatch, [snapshot("1", "files"), snapshot("1", "oracle")], [], run)
    with pytest.raises(agent_repository.RunError, match="run 1 lacks its files in the copy") as caught:
        copy.run()
    assert caught.value.code == "copy_incomplete"


@pytest.mark.parametrize("here", [[], [snapshot("1", "files")], [snapshot("1", "oracle", job="clinical_db")]])
def test_nothing_in_the_house_is_no_success(tmp_path, monkeypatch, here):
    copy, _outcome = copying(tmp_path, monkeypatch, here, [], takes)
    with pytest.raises(agent_repository.RunError) as caught:
        copy.run()
    assert caught.value.code == "nothing_to_copy"


def test_the_name_of_a_copy_is_that_of_its_job_and_its_store():
    job = {
        "schema": 1, "practice": "p", "host": "h", "item": "documents", "name": "documents.offsite",
        "repository": {"url": "rest:https://x/", "username": "h"},
        "copy": {"of": "documents", "to": "offsite", "from": "rest:https://y/"},
    }  # fmt: skip
    assert agent_job.parse(json.dumps(job)).copy_of == "documents"
    for name in ("documents", "documents.other", "documents.offsite.again"):
        text = json.dumps({**job, "name": name})
        with pytest.raises(agent_job.JobError):
            agent_job.parse(text)
