"""Firebird: what gbak dumps is what the oracle counts, and a run leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import json
import shlex

import pytest

WARD = "/srv/ward/ward.fdb"
SYSDBA = ". /etc/firebird/4.0/SYSDBA.password; export ISC_USER ISC_PASSWORD; "
RESTIC = (
    "export RESTIC_REPOSITORY=rest:https://198.18.0.11:8000/server1/"
    " RESTIC_PASSWORD_FILE=/etc/holdfast/credentials/repository-password"
    " RESTIC_REST_USERNAME=server1 RESTIC_REST_PASSWORD=$(cat /etc/holdfast/credentials/rest-password);"
    " restic --cacert /etc/holdfast/nas.pem --no-cache "
)


def run_job(host, job):
    code = host.run(f"systemctl start holdfast-backup@{job}.service").rc
    return code, record(host, job)


def record(host, job):
    return json.loads(host.check_output(f"cat /var/lib/holdfast/status/{job}.json"))


def codes(found):
    return [reason["code"] for reason in found["reasons"]]


def snapshots(host):
    return json.loads(host.check_output(RESTIC + "snapshots --json --no-lock"))


def oracle_of(host, job):
    return json.loads(host.check_output(f"cat /var/lib/holdfast/oracle/{job}.json"))


@contextlib.contextmanager
def busy(host):
    """A practice that goes on working."""
    host.check_output("systemd-run -q --collect --unit=busy /usr/local/sbin/busy firebird")
    try:
        yield
        assert host.check_output("systemctl is-active busy.service") == "active", "the practice stopped working"
    finally:
        host.run("systemctl stop busy.service")


def isql(host, sql, path=f"localhost:{WARD}", login=SYSDBA):
    text = shlex.quote(f"set list on; {sql}")
    return host.run(f"cd /; {login} echo {text} | isql-fb -q -nodbtriggers -ch utf8 {path}")


def count(host, table, path=f"localhost:{WARD}"):
    return int(isql(host, f"select count(*) from {table};", path).stdout.split()[1])


def state(host):
    """(backup state, sessions of the agent)."""
    said = isql(
        host,
        "select mon$backup_state, (select count(*) from mon$attachments where mon$user = 'HOLDFAST') from mon$database;",
    )
    return [int(line.split()[1]) for line in said.stdout.splitlines() if line.strip()]


def test_a_dump_of_firebird_holds_the_very_rows_that_the_oracle_counts_while_the_practice_works(host):
    seen = []
    with busy(host):
        for _again in range(4):
            # from now on no transaction is too old to be asked when it was committed, which is when a snapshot is easiest to miss
            host.check_output(f"{SYSDBA} gfix -sweep localhost:{WARD}")
            code, found = run_job(host, "ward_db")
            assert (code, found["reasons"]) == (0, [])
            live = count(host, "stay")
            section = oracle_of(host, "ward_db")["database"]
            dump = f"dump -q {found['snapshots']['database']} {section['dump_path']}"
            host.check_output(
                RESTIC
                + f"{dump} > /var/tmp/back.fbk; chmod 644 /var/tmp/back.fbk; cd /var/tmp; rm -f /srv/ward/back.fdb; "
                "runuser -u firebird -- gbak -c -user SYSDBA /var/tmp/back.fbk /srv/ward/back.fdb"
            )
            tables = section["tables"]
            back = [count(host, table, "localhost:/srv/ward/back.fdb") for table in ("bed", "stay")]
            assert back == [tables["BED"], tables["STAY"]]
            assert tables["BED"] == tables["STAY"], "half a transaction was seen"
            assert live > tables["STAY"], "nothing was written meanwhile: this proves nothing"
            seen.append(tables["STAY"])
    host.check_output("rm /var/tmp/back.fbk /srv/ward/back.fdb")
    assert len(set(seen)) == 4
    isql(host, "delete from stay where id > 4000; delete from bed where id > 4000; commit;")
    assert state(host) == [0, 0]


def test_a_dump_of_firebird_that_is_killed_leaves_no_snapshot_and_nothing_to_mend(host):
    before = {snapshot["id"] for snapshot in snapshots(host)}
    unit = "holdfast-backup@ward_db.service"
    host.check_output(
        f"systemctl start --no-block {unit}; for n in $(seq 500); do pkill -9 -x gbak && break; sleep 0.01; done"
    )
    host.run(f"for n in $(seq 300); do [ $(systemctl show -P ActiveState {unit}) = failed ] && break; sleep 0.1; done")
    found = record(host, "ward_db")
    assert (found["state"], codes(found)) == ("FAILED", ["dump_failed"]), found["reasons"]
    assert {snapshot["id"] for snapshot in snapshots(host)} == before
    # and a run that is killed altogether, while gbak is at work
    host.check_output(
        f"systemctl start --no-block {unit}; for n in $(seq 500); do pgrep -x gbak && break; sleep 0.01; done"
    )
    host.check_output(f"systemctl kill --kill-whom=all -s KILL {unit}")
    host.run("for n in $(seq 100); do [ -e /var/lib/holdfast/running/ward_db.json ] || break; sleep 0.1; done")
    assert codes(record(host, "ward_db")) == ["killed"]
    assert {snapshot["id"] for snapshot in snapshots(host)} == before
    assert state(host) == [0, 0]
    assert run_job(host, "ward_db")[1]["state"] == "OK"


@pytest.mark.parametrize(
    ("command", "back", "code"),
    [
        ("systemctl stop firebird4.0", "systemctl start firebird4.0", "database_unreachable"),
        (f"mv {WARD} {WARD}.kept", f"mv {WARD}.kept {WARD}", "database_missing"),
        (f"mv {WARD} {WARD}.kept; head -c 8192 /dev/urandom > {WARD}; chown firebird {WARD}",
         f"mv {WARD}.kept {WARD}", "not_a_database"),
    ],
)  # fmt: skip
def test_a_database_of_firebird_that_cannot_be_dumped_is_named(host, command, back, code):
    before = len(snapshots(host))
    host.check_output(command)
    try:
        _code, found = run_job(host, "ward_db")
        assert (found["state"], codes(found)) == ("FAILED", [code]), found["reasons"]
    finally:
        host.check_output(back)
    assert len(snapshots(host)) == before


def test_a_sequence_that_came_later_is_named_and_site_yml_would_mend_it(host):
    isql(host, "create sequence later; commit;")
    try:
        _code, found = run_job(host, "ward_db")
        assert (found["state"], codes(found)) == ("FAILED", ["account_lacks_rights"])
        assert "LATER" in found["reasons"][0]["message"]
    finally:
        isql(host, "drop sequence later; commit;")


def test_the_account_in_firebird_can_read_and_nothing_else(host):
    login = "export ISC_USER=HOLDFAST ISC_PASSWORD=$(cat /etc/holdfast/credentials/firebird-password); "
    assert "4000" in isql(host, "select count(*) from stay;", login=login).stdout
    for sql in (
        "delete from stay;", "update bed set note = 'x';", "create table x (n int);", "alter database begin backup;",
        "alter user SYSDBA password 'x';",
    ):  # fmt: skip
        said = isql(host, sql + " commit;", login=login).stderr
        assert "permission" in said or "not found" in said or "unsuccessful" in said, (sql, said)
    assert (
        "Your user name and password" in isql(host, "commit;", login="export ISC_USER=HOLDFAST ISC_PASSWORD=x; ").stderr
    )
    assert state(host) == [0, 0]


def test_the_password_of_firebird_shows_nowhere(host):
    host.check_output(
        "systemctl start --no-block holdfast-backup@ward_db; "
        "for n in $(seq 150); do cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; sleep 0.01; done > /root/argv"
    )
    password = host.check_output("cat /etc/holdfast/credentials/firebird-password")
    assert host.run("grep -q gbak /root/argv").rc == 0, "gbak was not seen: this proves nothing"
    assert host.run(f"grep -q {password} /root/argv").rc == 1
    assert host.run(f"journalctl --no-pager | grep -q {password}").rc == 1
    host.check_output("rm /root/argv; while systemctl is-active -q holdfast-backup@ward_db; do sleep 0.1; done")
