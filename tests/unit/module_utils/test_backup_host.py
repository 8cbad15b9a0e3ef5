"""What a host with an agent is to look like."""

from __future__ import annotations

import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_job, backup_host

JOB = {
    "name": "documents", "item": "documents", "class": None, "calendar": ["*-*-* 21:00:00"], "spread_s": 300,
    "time_limit_s": 7200, "database": None, "paths": ["/srv/x"], "exclude": [], "must_have": [], "min_files": 1,
}  # fmt: skip
REPOSITORY = {"url": "rest:https://198.18.0.11:8000/server1/", "username": "server1", "certificate": "PEM"}


def wanted(jobs=(JOB,), found=(), stores=None, found_stores=()):
    secrets = {"repository-password": "s3cret-a", "rest-password": "s3cret-b"}
    return backup_host.wanted(
        "harbour-street",
        "server1",
        "Australia/Sydney",
        REPOSITORY,
        secrets,
        list(jobs),
        {"agent.py": "x"},
        "ab" * 32,
        found,
        stores or {},
        found_stores,
    )


def by_path(want):
    return {item.path: item for item in want.files}


def test_the_job_file_is_one_that_the_agent_takes():
    text = by_path(wanted())["/etc/holdfast/jobs/documents.json"].content.decode()
    job = agent_job.parse(text)
    assert (job.practice, job.host, job.time_limit_s) == ("harbour-street", "server1", 7200)
    assert "class" not in json.loads(text)


def test_secrets_are_only_in_secret_files_that_root_alone_reads():
    for item in wanted().files:
        if b"s3cret" in (item.content or b""):
            assert item.secret
            assert item.mode == 0o600
    assert sum(b"s3cret" in (item.content or b"") for item in wanted().files) == 2


def test_a_timer_is_spread_steady_and_catches_up():
    text = by_path(wanted())["/etc/systemd/system/holdfast-backup@documents.timer"].content.decode()
    for line in (
        "OnCalendar=*-*-* 21:00:00 Australia/Sydney",
        "Persistent=true",
        "RandomizedDelaySec=300",
        "FixedRandomDelay=true",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("*-*-* 21:00:00", "*-*-* 21:00:00 Australia/Sydney"),
        ("*-*-* 21:00:00 UTC", "*-*-* 21:00:00 UTC"),
        ("*-*-* 21:00:00 Europe/London", "*-*-* 21:00:00 Europe/London"),
        ("Mon..Fri 04/4:10", "Mon..Fri 04/4:10 Australia/Sydney"),
        ("daily", "daily Australia/Sydney"),
    ],
)
def test_the_time_zone_is_added_where_none_is_named(text, becomes):
    assert backup_host.calendars({"calendar": [text]}, "Australia/Sydney") == [becomes]


def test_no_limit_is_written_as_no_limit():
    assert "TimeoutStartSec=7200" in backup_host.limit_text(JOB)
    assert "TimeoutStartSec=infinity" in backup_host.limit_text({**JOB, "time_limit_s": 0})


def test_only_the_job_of_a_sqlite_file_may_write_in_its_folder():
    job = {**JOB, "database": {"engine": "sqlite", "name": None, "path": '/srv/50% "x"/pms.db'}}
    assert backup_host.limit_text(job).splitlines()[-1] == r'''ReadWritePaths="-/srv/50%% \"x\""'''
    for database in (None, {"engine": "mariadb", "name": "x"}, {"engine": "postgresql", "name": "x"}):
        assert "ReadWritePaths" not in backup_host.limit_text({**JOB, "database": database})


def test_a_job_gets_the_credentials_of_its_engine_and_no_other():
    job = {**JOB, "database": {"engine": "firebird", "name": None, "path": "/srv/x.fdb"}}
    loaded = "LoadCredential=firebird-password:/etc/holdfast/credentials/firebird-password"
    assert backup_host.limit_text(job).splitlines()[-1] == loaded
    assert "LoadCredential" not in backup_host.limit_text(
        {**JOB, "database": {"engine": "sqlite", "path": "/srv/x.db"}}
    )
    # a password that no job needs any more goes
    assert by_path(wanted())["/etc/holdfast/credentials/firebird-password"].content is None


def test_a_job_that_is_gone_leaves_nothing_and_the_others_stay():
    want = wanted(found=["documents", "old_job"])
    gone = {path for path, item in by_path(want).items() if item.content is None}
    assert {"/etc/holdfast/jobs/old_job.json", "/etc/systemd/system/holdfast-backup@old_job.timer"} <= gone
    assert not any("documents" in path for path in gone)
    states = {unit.name: (unit.enabled, unit.active) for unit in want.units}
    assert states["holdfast-backup@old_job.timer"] == (False, False)
    assert states["holdfast-backup@old_job.service"] == (None, False)
    assert states["holdfast-backup@documents.timer"] == (True, True)


def test_jobs_are_found_by_any_trace_of_them():
    units = ["holdfast-backup@a.timer", "holdfast-backup@b.service.d", "holdfast-backup@.service", "ssh.service"]
    assert backup_host.jobs_found(["c.json", ".c.json.x", "README"], units) == ["a", "b", "c"]


def test_what_a_boot_cut_off_is_looked_for_at_boot_only():
    states = {unit.name: (unit.enabled, unit.active) for unit in wanted().units}
    assert states["holdfast-resume.service"] == (True, None)
    assert b"WantedBy=multi-user.target" in by_path(wanted())["/etc/systemd/system/holdfast-resume.service"].content
    gone = {unit.name: (unit.enabled, unit.active) for unit in backup_host.unwanted([], [], []).units}
    assert gone["holdfast-resume.service"] == (False, False)


def test_removal_keeps_the_stamp():
    want = backup_host.unwanted(["documents", "documents.offsite"], ["agent.py"], ["offsite"])
    assert all(item.content is None for item in want.files)
    assert "/etc/holdfast/practice.json" not in by_path(want)
    assert "/etc/holdfast" not in {folder.path for folder in want.dirs}


def test_what_an_earlier_version_of_the_agent_left_goes():
    old = backup_host.stale(["agent.py", "engines.py"], ["agent.py", "agent_old.py", "notes.txt"])
    assert [(item.path, item.content) for item in old] == [("/usr/lib/holdfast/holdfast_agent/agent_old.py", None)]


@pytest.mark.parametrize(
    ("jobs", "says"),
    [
        ([JOB, JOB], "named twice"),
        ([{**JOB, "calendar": []}], "would never run"),
        ([{**JOB, "paths": ["x"]}], "absolute path"),
    ],
)
def test_wrong_jobs_are_refused_by_name(jobs, says):
    contents = [backup_host.job_content(job, "p", "h", REPOSITORY, {}, "UTC") for job in jobs]
    with pytest.raises(backup_host.BackupHostError, match=says):
        backup_host.check_jobs(contents)


COPY = {**JOB, "name": "documents.offsite", "paths": [], "copy": {"of": "documents", "to": "offsite"}}
STORE = {
    "url": "rest:https://192.0.2.9:8000/server1/", "username": "server1", "certificate": "PEM2", "id": "cd" * 32,
    "secrets": {"repository-password": "s3cret-c", "rest-password": "s3cret-d"},
}  # fmt: skip


def test_a_copy_is_a_job_with_a_repository_of_its_own():
    want = wanted([JOB, COPY], stores={"offsite": STORE})
    files = by_path(want)
    job = agent_job.parse(files["/etc/holdfast/jobs/documents.offsite.json"].content.decode())
    assert (job.copy_of, job.store, job.url, job.source_url) == (
        "documents",
        "offsite",
        STORE["url"],
        REPOSITORY["url"],
    )
    drop_in = files["/etc/systemd/system/holdfast-backup@documents.offsite.service.d/limit.conf"].content.decode()
    for name in ("repository-password", "rest-username", "rest-password"):
        assert f"LoadCredential=offsite.{name}:/etc/holdfast/credentials/offsite.{name}" in drop_in
    assert json.loads(files["/etc/holdfast/repository.offsite.json"].content) == {"id": "cd" * 32}
    assert files["/etc/holdfast/offsite.pem"].content == b"PEM2\n"
    for item in want.files:
        assert b"s3cret" not in (item.content or b"") or (item.secret and item.mode == 0o600)


def test_a_copy_whose_server_never_answered_has_no_pin_yet():
    assert "/etc/holdfast/repository.offsite.json" not in by_path(
        wanted([JOB, COPY], stores={"offsite": {**STORE, "id": None}})
    )


def test_a_copy_that_is_not_wanted_any_more_goes_with_its_secrets():
    files = by_path(wanted([JOB], found=["documents", "documents.offsite"], found_stores=["offsite"]))
    for path in (
        "/etc/holdfast/offsite.pem",
        "/etc/holdfast/repository.offsite.json",
        "/etc/holdfast/credentials/offsite.rest-password",
        "/etc/holdfast/credentials/offsite.repository-password",
        "/etc/holdfast/jobs/documents.offsite.json",
        "/etc/systemd/system/holdfast-backup@documents.offsite.timer",
    ):
        assert files[path].content is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"copy": {"of": "documents", "to": "elsewhere"}}, "copy.to 'elsewhere': expected one of the copies: offsite"),
        ({"name": "documents.other"}, "expected documents.offsite, as it copies documents to offsite"),
        ({"copy": None}, "only the name of a copy has a dot"),
        ({"database": {"engine": "postgresql", "name": "clinic"}}, "database: a copy has none"),
    ],
)
def test_a_copy_that_makes_no_sense_is_refused(change, said):
    def check():
        job = backup_host.job_content({**COPY, **change}, "p", "h", REPOSITORY, {"offsite": STORE}, "UTC")
        backup_host.check_jobs([job])

    with pytest.raises(backup_host.BackupHostError) as caught:
        check()
    assert said in str(caught.value)


def test_what_a_host_has_of_jobs_and_copies_is_found_by_its_files():
    units = [
        "holdfast-backup@a.timer",
        "holdfast-backup@b.offsite.timer",
        "holdfast-backup@c.x.service.d",
        "ssh.service",
    ]
    assert backup_host.jobs_found(["d.json", "d.offsite.json", ".d.json.new"], units) == [
        "a", "b.offsite", "c.x", "d", "d.offsite",
    ]  # fmt: skip
    assert backup_host.stores_found(["repository.json", "repository.offsite.json", "nas.pem"]) == ["offsite"]


# --- canaries

OURS, OTHER = b"ours", b"other"
HERE = backup_host.Place


@pytest.mark.parametrize(
    ("want", "old", "place", "steps", "says"),
    [
        (True, False, HERE(None, "reception", "staff"), [("lay", "reception", "staff")], ""),
        (True, True, HERE(OURS, "reception", "staff", True), [], ""),
        (True, True, HERE(None, None, None), [], "no such folder yet"),
        # evidence stays as it is
        (True, True, HERE(OTHER, "reception", "staff", True), [], "this canary is changed"),
        (True, True, HERE(None, "reception", "staff", True), [], "this canary is missing"),
        (False, True, HERE(OURS, "reception", "staff", True), [("take",)], ""),
        (False, True, HERE(OTHER, "reception", "staff", True), [], "left there because it was changed"),
        (False, True, HERE(None, "reception", "staff", True), [], ""),
    ],
)
def test_canaries_are_laid_left_and_taken_away(want, old, place, steps, says):
    path = "/srv/x/leave.pdf"
    files, told = backup_host.plan_canaries({path: OURS} if want else {}, {path: OURS} if old else {}, {path: place})
    assert [("take",) if file.content is None else ("lay", file.owner, file.group) for file in files] == steps
    assert says in " ".join(told)
    assert bool(told) == bool(says)


def test_what_is_not_ours_is_never_written_over():
    path = "/srv/x/leave.pdf"
    with pytest.raises(backup_host.BackupHostError, match="there is another file"):
        backup_host.plan_canaries({path: OURS}, {}, {path: HERE(OTHER, "root", "root")})


def test_a_canary_is_whose_it_is():
    jobs = [{**JOB, "practice": p, "host": "server1", "tripwires": {"canaries": ["/a.pdf"]}} for p in ("one", "two")]
    contents = [backup_host.canaries_of([job])["/a.pdf"] for job in jobs]
    assert contents[0] != contents[1]
    assert backup_host.canaries_of([JOB]) == {}
