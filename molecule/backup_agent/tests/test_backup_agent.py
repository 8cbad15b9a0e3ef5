"""What must hold on a host with a backup agent. Every fault is made for real, shown to have landed, and mended."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

TRIAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "backup_agent"
SECRETS = [(TRIAL / name).read_text().strip() for name in ("rest-server1", "repository-server1")]
URL = "https://198.18.0.11:8000"
RESTIC = (
    f"export RESTIC_REPOSITORY=rest:{URL}/server1/ RESTIC_PASSWORD_FILE=/etc/holdfast/credentials/repository-password"
    " RESTIC_REST_USERNAME=server1 RESTIC_REST_PASSWORD=$(cat /etc/holdfast/credentials/rest-password);"
    " restic --cacert /etc/holdfast/nas.pem --no-cache "
)
IMAGE = "/srv/clinic/images/p1/scan 1.png"
PMS = "/srv/pms/pms.db"
HERE = Path(__file__).resolve().parents[1]


def run_job(host, job):
    """Start the service as its timer does; (exit code of systemctl, status record)."""
    code = host.run(f"systemctl start holdfast-backup@{job}.service").rc
    return code, record(host, job)


def record(host, job):
    return json.loads(host.check_output(f"cat /var/lib/holdfast/status/{job}.json"))


def codes(found):
    return [reason["code"] for reason in found["reasons"]]


def snapshots(host):
    return json.loads(host.check_output(RESTIC + "snapshots --json --no-lock"))


def psql(host, sql, database="clinic"):
    return host.check_output(
        f"cd / && runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 {database} -c {shlex.quote(sql)}"
    )


@contextlib.contextmanager
def changed(host, path, command):
    """Change a file with a shell command (F is the file), and put it back."""
    quoted = shlex.quote(path)
    host.check_output(f"cp -a {quoted} /root/kept")
    try:
        host.check_output(f"F={quoted}; {command}")
        assert host.run(f"cmp {quoted} /root/kept").rc != 0, "the fault did not land"
        yield
    finally:
        host.check_output(f"rm -f {quoted}; mv /root/kept {quoted}")


@pytest.fixture(scope="module", autouse=True)
def pms(host):
    """The file that a practice's software keeps its data in, with a write-ahead log that holds some of them."""
    host.check_output("runuser -u pms -- /usr/local/sbin/busy sqlite 3000")


@contextlib.contextmanager
def busy(host, engine):
    """A practice that goes on working."""
    user = "pms" if engine == "sqlite" else "root"
    host.check_output(f"systemd-run -q --collect --unit=busy --uid={user} /usr/local/sbin/busy {engine}")
    try:
        yield
        assert host.check_output("systemctl is-active busy.service") == "active", "the practice stopped working"
    finally:
        host.run("systemctl stop busy.service")


def maria(host, sql, database="billing"):
    return host.check_output(f"mariadb -NB {database} -e {shlex.quote(sql)}")


def sqlite(host, sql, file=PMS):
    """What a reader of a file gets; a copy without its log is opened as what it is."""
    script = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
    return host.check_output(f"python3 -c {shlex.quote(script)} {file} {shlex.quote(sql)}")


def oracle_of(host, job):
    return json.loads(host.check_output(f"cat /var/lib/holdfast/oracle/{job}.json"))


@pytest.mark.parametrize("job", ["clinical_db", "billing_db", "pms_db", "ward_db", "documents"])
def test_a_run_is_ok_and_its_oracle_names_its_snapshots(host, job):
    code, found = run_job(host, job)
    assert (code, found["state"], found["reasons"]) == (0, "OK", [])
    oracle = json.loads(
        host.check_output(RESTIC + f"dump -q {found['snapshots']['oracle']} /holdfast.{job}.oracle.json")
    )
    assert oracle["run"] == found["run"]
    assert oracle["snapshots"] == {part: found["snapshots"][part] for part in ("database", "files")}
    tags = {
        tag
        for snapshot in snapshots(host)
        if snapshot["id"] == found["snapshots"]["oracle"]
        for tag in snapshot["tags"]
    }
    assert tags == {"practice=agent-test", f"job={job}", f"run={found['run']}", "part=oracle"}
    assert host.run(f"systemctl is-failed holdfast-backup@{job}.service").rc != 0


def test_the_oracle_counts_what_the_dump_holds(host):
    code, found = run_job(host, "clinical_db")
    assert code == 0
    oracle = json.loads(host.check_output("cat /var/lib/holdfast/oracle/clinical_db.json"))["database"]
    assert oracle["tables"] == {
        "public.appointment": 5000, "public.image": 41, "public.note": 50, "public.patient": 2000}  # fmt: skip
    host.check_output("cd / && runuser -u postgres -- createdb back")
    try:
        dump = f"dump -q {found['snapshots']['database']} {oracle['dump_path']} > /root/back.dump"
        host.check_output(RESTIC + dump)
        host.check_output("cd / && runuser -u postgres -- pg_restore -d back --exit-on-error < /root/back.dump")
        assert psql(host, "select count(*) from appointment", "back") == "5000"
        assert psql(host, oracle_probe(host), "back") == oracle["probes"]["newest_entry"]
    finally:
        host.check_output("rm -f /root/back.dump; cd / && runuser -u postgres -- dropdb back")


def oracle_probe(host):
    job = json.loads(host.check_output("cat /etc/holdfast/jobs/clinical_db.json"))
    return "set timezone = 'UTC'; " + job["database"]["probes"]["newest_entry"]


def test_files_with_any_name_come_back_byte_for_byte(host):
    _code, found = run_job(host, "documents")
    script = """
import hashlib, json, os, sys
manifest = json.load(open("/var/lib/holdfast/oracle/documents.json"))["files"]["manifest"]
for entry in manifest:
    data = open(os.fsencode("/root/back" + entry["path"]), "rb").read()
    assert data == open(os.fsencode(entry["path"]), "rb").read(), ascii(entry["path"])
    assert hashlib.blake2b(data, digest_size=32).hexdigest() == entry["blake2b"]
names = [entry["path"] for entry in manifest]
assert any("\\n" in name for name in names) and any("\\udcfc" in name for name in names), "odd names are missing"
assert not any(name.endswith(".tmp") for name in names) and not os.path.exists("/root/back/srv/clinic/documents/left out.tmp")
assert os.path.isdir("/root/back/srv/clinic/documents/empty")
print(len(manifest))
"""
    host.check_output(RESTIC + f"restore -q {found['snapshots']['files']} --target /root/back")
    try:
        assert host.check_output(f"python3 -c {shlex.quote(script)}") == "21"  # and a canary
    finally:
        host.check_output("rm -r /root/back")


def test_a_failing_dump_leaves_no_snapshot_a_record_and_a_red_unit(host):
    before = {snapshot["id"] for snapshot in snapshots(host)}
    psql(host, "create table letter (body text); alter table letter alter body set storage external")
    psql(host, "insert into letter select repeat('x', 100000)")
    # counting does not read the long text, so only pg_dump meets the damage
    path = psql(host, "select pg_relation_filepath(reltoastrelid) from pg_class where relname = 'letter'")
    try:
        host.check_output(f"systemctl stop postgresql@17-main && truncate -s 0 /var/lib/postgresql/17/main/{path}")
        host.check_output("systemctl start postgresql@17-main")
        assert psql(host, "select count(*) from letter") == "1"
        assert host.check_output(f"stat -c %s /var/lib/postgresql/17/main/{path}") == "0", "the fault did not land"
        code, found = run_job(host, "clinical_db")
        assert code != 0
        assert (found["state"], codes(found)) == ("FAILED", ["dump_failed"])
        assert found["snapshots"] == {"database": None, "files": None, "oracle": None}
        assert host.check_output("systemctl is-failed holdfast-backup@clinical_db.service") == "failed"
        assert {snapshot["id"] for snapshot in snapshots(host)} == before
    finally:
        psql(host, "drop table letter")
    assert run_job(host, "clinical_db")[1]["state"] == "OK"


def test_a_database_that_is_down_is_named(host):
    host.check_output("systemctl stop postgresql@17-main")
    try:
        code, found = run_job(host, "clinical_db")
        assert code != 0
        assert (found["state"], codes(found)) == ("FAILED", ["database_unreachable"])
    finally:
        host.check_output("systemctl start postgresql@17-main")


def test_a_listed_image_that_is_missing_makes_the_run_incomplete(host):
    host.check_output(f"mv {shlex.quote(IMAGE)} /root/kept.png")
    try:
        code, found = run_job(host, "clinical_db")
        assert code != 0
        assert (found["state"], codes(found)) == ("INCOMPLETE", ["images_missing"])
        assert found["reasons"][0]["message"].startswith("1 of 41 ")
        assert found["snapshots"]["oracle"]
    finally:
        host.check_output(f"mv /root/kept.png {shlex.quote(IMAGE)}")


def test_an_empty_source_is_not_a_backup(host):
    before = len(snapshots(host))
    host.check_output("mv /srv/clinic/documents /srv/clinic/kept && mkdir /srv/clinic/documents")
    try:
        code, found = run_job(host, "documents")
        assert code != 0
        assert (found["state"], codes(found)) == ("FAILED", ["must_have_missing"])
        assert len(snapshots(host)) == before
    finally:
        host.check_output("rmdir /srv/clinic/documents && mv /srv/clinic/kept /srv/clinic/documents")


def test_a_restic_that_the_agent_does_not_let_read_ends_and_stores_nothing(host):
    """It has opened the repository and waits for the rest of a pattern, which does not come."""
    script = """
import os, sys, time
sys.path.insert(0, "/usr/lib/holdfast")
from holdfast_agent.agent_host import Children
from holdfast_agent.agent_latch import held
command = [*sys.argv[1:], "backup", "--json", "--files-from-raw", "-"]
with held(Children().begin, command, dict(os.environ), b"/srv/clinic\\0") as latch:
    time.sleep(5)
code, out, err = latch.restic.watch(lambda line: False)
print(code, "--exclude-file: invalid pattern" in err)
"""
    before = len(snapshots(host))
    # Python in the place of restic has its environment and its arguments
    held = RESTIC.replace(" restic ", f" python3 -B -c {shlex.quote(script)} restic ")
    assert host.check_output(held).split() == ["1", "True"]
    assert len(snapshots(host)) == before
    assert host.check_output(RESTIC + "list locks --no-lock") == ""


def test_a_volume_that_is_not_mounted_any_more_is_noticed_though_nobody_declared_it(host):
    folder = "/srv/clinic/documents"
    host.check_output(
        f"cp -a {folder} /root/documents && mount -t tmpfs none {folder} && cp -a /root/documents/. {folder}/"
    )
    try:
        assert run_job(host, "documents")[1]["last_ok"]["mounts"] == [folder]
        host.check_output(f"umount {folder}")
        assert host.run(f"mountpoint -q {folder}").rc != 0, "the fault did not land"
        before = len(snapshots(host))
        code, found = run_job(host, "documents")  # what lies below the mount point looks like a practice's documents
        assert code != 0
        assert (found["state"], codes(found)) == ("FAILED", ["mount_missing"])
        assert len(snapshots(host)) == before
        with changed(host, "/etc/holdfast/jobs/documents.json", """sed -i '1a "mounts": [],' $F"""):
            assert run_job(host, "documents")[1]["state"] == "OK"
        with changed(host, "/etc/holdfast/jobs/documents.json", f"""sed -i '1a "mounts": ["{folder}"],' $F"""):
            assert codes(run_job(host, "documents")[1]) == ["mount_missing"]
    finally:
        host.run(f"umount {folder}; rm -rf /root/documents")
    assert run_job(host, "documents")[1]["state"] == "OK"


def with_keys(host, job, keys):
    """A job with other keys than it has."""
    script = "import json, sys; f, new = sys.argv[1:]; j = {**json.load(open(f)), **json.loads(new)}; json.dump(j, open(f, 'w'))"
    command = f"python3 -c {shlex.quote(script)} $F {shlex.quote(json.dumps(keys))}"
    return changed(host, f"/etc/holdfast/jobs/{job}.json", command)


def local_time(host, job_zone="Australia/Sydney", minutes=0):
    return host.check_output(f"TZ={job_zone} date -d '+{minutes} min' +%H:%M")


def test_a_job_waits_for_its_window_and_leaves_no_record(host):
    window = f"{local_time(host, minutes=120)}-{local_time(host, minutes=180)}"
    unit = "holdfast-backup@documents.service"
    before = record(host, "documents")
    with with_keys(host, "documents", {"window": window}):
        host.check_output(f"systemctl start --no-block {unit}")
        host.check_output(
            "for n in $(seq 50); do [ -e /var/lib/holdfast/deferred/documents.json ] && break; sleep 0.2; done"
        )
        note = json.loads(host.check_output("cat /var/lib/holdfast/deferred/documents.json"))
        assert (note["code"], window in note["message"]) == ("outside_window", True)
        assert record(host, "documents") == before
        host.check_output(f"systemctl stop {unit}")
    assert run_job(host, "documents")[1]["state"] == "OK"
    assert not host.file("/var/lib/holdfast/deferred/documents.json").exists


def test_a_rate_is_kept_and_what_it_goes_through_knows_the_nas_only(host):
    host.check_output("head -c 1500000 /dev/urandom > /srv/clinic/documents/scan")
    limits = {"00:00-12:00": 2_000_000, "12:00-00:00": 2_000_000}
    try:
        with with_keys(host, "documents", {"limits": limits}):
            slow = run_job(host, "documents")[1]
        host.check_output("head -c 1500000 /dev/urandom > /srv/clinic/documents/scan")
        fast = run_job(host, "documents")[1]
    finally:
        host.check_output("rm /srv/clinic/documents/scan")
    assert (slow["state"], fast["state"]) == ("OK", "OK")
    least = 1_500_000 * 8 / 2_000_000
    assert least <= slow["seconds"] < 3 * least
    assert fast["seconds"] < slow["seconds"] - 3, (fast["seconds"], slow["seconds"])
    script = """
import subprocess, sys
sys.path.insert(0, "/usr/lib/holdfast")
from holdfast_agent.agent_throttle import throttled
subprocess.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout /dev/null "
               "-out /root/other.pem", shell=True, check=True, capture_output=True)
secret = open("/etc/holdfast/credentials/rest-password").read().strip()
env = {"RESTIC_PASSWORD_FILE": "/etc/holdfast/credentials/repository-password", "RESTIC_REST_USERNAME": "server1",
       "RESTIC_REST_PASSWORD": secret, "PATH": "/usr/bin:/bin", "HOME": "/root"}
def cat(target, pem):
    command = ["restic", "--no-cache", "--stuck-request-timeout", "3s", "--cacert", pem, "-r", target, "cat", "config"]
    try:
        done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=8)
    except subprocess.TimeoutExpired as over:
        return None, (over.stderr or b"").decode()
    return done.returncode, done.stderr
with throttled(env, "198.18.0.11", 8000, lambda: None):
    url, other = "rest:https://198.18.0.11:8000/server1/", "rest:https://198.18.0.11:22/server1/"
    print(cat(url, "/etc/holdfast/nas.pem")[0])
    said = [cat(url, "/root/other.pem"), cat(other, "/etc/holdfast/nas.pem")]
assert all(code != 0 for code, _words in said), said
assert "x509" in said[0][1] and "not the NAS" in said[1][1], said
print("HTTPS_PROXY" in env)
"""
    # -B, as the agent itself is started: nothing is to lie beside its files
    assert host.check_output(f"python3 -B -c {shlex.quote(script)}").split() == ["0", "False"]


def test_jobs_of_a_host_run_one_after_the_other_and_a_hung_dump_ends_by_itself(host):
    lock = "begin; lock table patient in access exclusive mode; select pg_sleep(60)"
    before = len(snapshots(host))
    host.check_output(f"cd / && systemd-run -q --collect --unit=hold --uid=postgres psql -Xq clinic -c '{lock}'")
    try:
        with with_keys(host, "clinical_db", {"dump_limit_s": 5}):
            host.check_output("systemctl start --no-block holdfast-backup@clinical_db.service; sleep 3")
            assert (
                host.check_output("systemctl show -P ActiveState holdfast-backup@clinical_db.service") == "activating"
            )
            host.check_output("systemctl start --no-block holdfast-backup@documents.service; sleep 2")
            note = json.loads(host.check_output("cat /var/lib/holdfast/deferred/documents.json"))
            assert (note["code"], "clinical_db" in note["message"]) == ("host_busy", True)
            assert not host.file("/var/lib/holdfast/running/documents.json").exists
            host.check_output("systemctl start holdfast-backup@documents.service")
        first, second = record(host, "clinical_db"), record(host, "documents")
        assert (first["state"], codes(first), second["state"]) == ("FAILED", ["dump_timeout"], "OK")
        assert second["started"] >= first["finished"]
        assert len(snapshots(host)) == before + 2
        left = psql(
            host,
            "select application_name from pg_stat_activity where application_name in ('pg_dump', 'psql') "
            "and pid <> pg_backend_pid() and wait_event is distinct from 'PgSleep'",
        )
        assert left == "", "a transaction outlived the dump"
    finally:
        psql(host, "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
    assert run_job(host, "clinical_db")[1]["state"] == "OK"


def test_a_killed_run_is_recorded_and_the_next_one_works(host):
    # a lock on a table holds the run up, so that it is surely under way when it is killed
    lock = "begin; lock table patient in access exclusive mode; select pg_sleep(60)"
    unit = "holdfast-backup@clinical_db.service"
    for signal, expected in (("KILL", "killed"), ("TERM", "stopped")):
        before = {snapshot["id"] for snapshot in snapshots(host)}
        host.check_output(f"cd / && systemd-run -q --collect --unit=hold --uid=postgres psql -Xq clinic -c '{lock}'")
        host.check_output(f"systemctl start --no-block {unit}; sleep 4")
        assert host.check_output(f"systemctl show -P ActiveState {unit}") == "activating"
        second = host.run("/usr/lib/holdfast/agent run clinical_db")
        assert (second.rc, "another run" in second.stdout) == (4, True)
        whom = "all" if signal == "KILL" else "main"
        host.check_output(f"systemctl kill --kill-whom={whom} -s {signal} {unit}")
        host.run(
            f"for n in $(seq 100); do [ $(systemctl show -P ActiveState {unit}) = failed ] && break; sleep 0.2; done"
        )
        host.run("for n in $(seq 100); do [ -e /var/lib/holdfast/running/clinical_db.json ] || break; sleep 0.2; done")
        # the sleeping backend would not notice that its client is gone
        psql(host, "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
        host.run("for n in $(seq 100); do systemctl is-active -q hold.service || break; sleep 0.1; done")
        found = record(host, "clinical_db")
        assert (found["state"], codes(found)) == ("FAILED", [expected])
        outlived = host.run("pgrep -ax 'pg_dump|restic|psql'")
        assert outlived.rc == 1, f"a process outlived the run: {outlived.stdout}"
        assert {snapshot["id"] for snapshot in snapshots(host)} == before
        assert run_job(host, "clinical_db")[1]["state"] == "OK"


@pytest.mark.parametrize(
    ("path", "command", "code"),
    [
        ("/etc/holdfast/credentials/rest-password", "echo wrong > $F", "rest_login_refused"),
        ("/etc/holdfast/credentials/repository-password", "echo wrong > $F", "wrong_repository_password"),
        ("/etc/holdfast/nas.pem",
         "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout /dev/null -out $F",
         "certificate_mismatch"),
        ("/etc/holdfast/repository.json", """echo '{"id": "00"}' > $F""", "identity_mismatch"),
        ("/etc/holdfast/practice.json", """echo '{"practice": "other", "host": "server1"}' > $F""", "identity_mismatch"),
    ],
)  # fmt: skip
def test_each_wrong_key_has_its_own_name(host, path, command, code):
    if "openssl" in command and not host.exists("openssl"):
        pytest.fail("openssl is needed to make another certificate")
    before = {snapshot["id"] for snapshot in snapshots(host)}
    with changed(host, path, command):
        exit_code, found = run_job(host, "documents")
        assert exit_code != 0
        assert (found["state"], codes(found)) == ("FAILED", [code])
    assert {snapshot["id"] for snapshot in snapshots(host)} == before


def test_a_nas_that_is_off_is_named_soon(host):
    port = "198.18.0.11:8000"
    with changed(host, "/etc/holdfast/jobs/documents.json", f"sed -i s/{port}/198.18.0.11:8001/ $F"):
        _code, found = run_job(host, "documents")
        assert codes(found) == ["nas_unreachable"]
        assert found["seconds"] < 30


def test_a_host_can_add_to_its_repository_and_nothing_else(host):
    newest = snapshots(host)[-1]["id"]
    # a run that was killed leaves its lock, which the host may remove (and which no backup minds)
    host.check_output(RESTIC + "unlock")
    # restic 0.18 ends with 0 here in spite of the refusal, so its words and the repository decide
    forget = host.run(RESTIC + f"forget {newest}")
    assert "403" in forget.stdout + forget.stderr
    assert newest in {snapshot["id"] for snapshot in snapshots(host)}
    login = "server1:$(cat /etc/holdfast/credentials/rest-password)"
    curl = f'curl -s -o /dev/null -w "%{{http_code}}" --cacert /etc/holdfast/nas.pem -u "{login}" '
    assert host.check_output(curl + f"{URL}/server1/config") == "200", "the login itself must work"
    for method, path in (("DELETE", f"snapshots/{newest}"), ("DELETE", "config"), ("POST", "config")):
        assert host.check_output(curl + f"-X {method} -d x {URL}/server1/{path}") in ("403", "405"), (method, path)
    index = host.check_output(RESTIC + "list index --no-lock").split()[0]
    assert host.check_output(curl + f"-X DELETE {URL}/server1/index/{index}") in ("403", "405")
    assert host.check_output(curl + f"{URL}/desk1/config") in ("401", "403")
    assert host.check_output(curl + f"-X POST {URL}/desk1/?create=true") in ("401", "403")


def test_no_secret_is_readable_by_others(host):
    assert (
        host.check_output("stat -c %a /etc/holdfast /etc/holdfast/credentials /var/lib/holdfast").split() == ["700"] * 3
    )
    open_files = host.check_output(
        "find /etc/holdfast/credentials /etc/holdfast/jobs /var/lib/holdfast -type f -perm /077"
    )
    assert open_files == ""
    assert host.run("runuser -u nobody -- cat /etc/holdfast/credentials/rest-password").rc != 0
    for secret in SECRETS:
        # grep reads the text from standard input: it must not be in our own arguments either
        found = host.run(
            f"grep -rlF -f - /etc /usr/lib/holdfast /var/lib/holdfast /run/systemd /tmp <<'EOF'\n{secret}\nEOF"
        )
        assert all(path.startswith("/etc/holdfast/credentials/") for path in found.stdout.split()), found.stdout
        assert len(found.stdout.split()) == 1


def test_no_secret_shows_in_arguments_units_or_the_journal(host):
    watch = """
import glob, os, subprocess
secrets = [open("/etc/holdfast/credentials/" + n).read().strip() for n in ("rest-password", "repository-password")]
run = subprocess.Popen(["systemctl", "start", "holdfast-backup@clinical_db.service"])
seen, bad = set(), []
while run.poll() is None:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = open(path, "rb").read().decode("utf-8", "replace")
            owner = os.stat(path).st_uid
            env = open(path.replace("cmdline", "environ"), "rb").read().decode("utf-8", "replace")
        except OSError:
            continue
        seen.update(name for name in ("restic", "pg_dump", "psql") if name in words)
        bad += [words for secret in secrets if secret in words]
        bad += ["environment of " + words for secret in secrets if secret in env and owner != 0]
assert run.returncode == 0 and seen == {"restic", "pg_dump", "psql"}, (run.returncode, seen)
assert not bad, bad
"""
    host.check_output(f"python3 -c {shlex.quote(watch)}")
    shown = host.check_output("systemctl show 'holdfast-backup@*'; journalctl -q --no-pager")
    assert "holdfast" in shown
    assert not any(secret in shown for secret in SECRETS)


def test_timers_wait_for_their_time_and_keep_their_delay(host):
    shown = host.check_output("systemctl cat holdfast-backup@documents.timer")
    assert "OnCalendar=*-*-* 21:00:00 Australia/Sydney" in shown
    for setting in ("Persistent=true", "RandomizedDelaySec=300", "FixedRandomDelay=true"):
        assert setting in shown
    assert host.check_output(
        "systemctl is-active holdfast-backup@documents.timer holdfast-backup@clinical_db.timer"
    ).split() == [
        "active",
        "active",
    ]
    assert host.check_output("systemctl show -P TimeoutStartUSec holdfast-backup@documents.service") == "10min"


def test_status_shows_every_job(host):
    trial = yaml.safe_load((HERE / "vars/trial.yml").read_text())
    jobs = sorted(job["name"] for job in trial["trial_jobs"]["server1"])  # each after the one it is a copy of
    host.check_output("/usr/local/sbin/vendor file early.bak 1")
    for job in jobs:
        assert run_job(host, job)[1]["state"] == "OK", job
    shown = host.run("/usr/lib/holdfast/agent status")
    assert shown.rc == 0, shown.stdout
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["JOB", *jobs]
    assert all(line.split()[1] == "OK" for line in shown.stdout.splitlines()[1:])
    assert {row["state"] for row in json.loads(host.check_output("/usr/lib/holdfast/agent status --json"))} == {"OK"}


# --- engines


def test_a_dump_of_postgresql_holds_the_very_rows_that_the_oracle_counts_while_the_practice_works(host):
    seen = []
    rows = "select count(*) from {}"
    with busy(host, "postgresql"):
        for _again in range(3):
            code, found = run_job(host, "clinical_db")
            assert (code, found["reasons"]) == (0, [])
            section = oracle_of(host, "clinical_db")["database"]
            live = int(psql(host, rows.format("patient")))
            dump = f"dump -q {found['snapshots']['database']} {section['dump_path']}"
            restore = "pg_restore -d back --exit-on-error -t patient -t appointment"
            host.check_output(
                f"{RESTIC}{dump} > /root/back.dump; cd /; runuser -u postgres -- createdb back; "
                f"runuser -u postgres -- {restore} < /root/back.dump"
            )
            back = [int(psql(host, rows.format(table), "back")) for table in ("patient", "appointment")]
            newest = psql(host, oracle_probe(host), "back")
            host.check_output("cd / && runuser -u postgres -- dropdb back && rm /root/back.dump")
            tables, probes = section["tables"], section["probes"]
            assert [*back, newest] == [
                tables["public.patient"],
                tables["public.appointment"],
                probes["newest_entry"],
            ]
            assert tables["public.patient"] - 2000 == tables["public.appointment"] - 5000, "half a transaction was seen"
            assert live > tables["public.patient"], "nothing was written meanwhile: this proves nothing"
            seen.append(tables["public.patient"])
    assert len(set(seen)) == 3
    psql(host, "delete from appointment where patient > 2000; delete from patient where id > 2000")


def test_a_dump_of_mariadb_holds_the_very_rows_that_the_oracle_counts_while_the_practice_works(host):
    seen = []
    with busy(host, "mariadb"):
        for _again in range(3):
            code, found = run_job(host, "billing_db")
            assert (code, found["reasons"]) == (0, [])
            section = oracle_of(host, "billing_db")["database"]
            live = maria(host, "select count(*) from entry")
            dump = f"dump -q {found['snapshots']['database']} {section['dump_path']}"
            host.check_output(
                RESTIC
                + f"{dump} > /root/back.sql; mariadb -e 'set foreign_key_checks = 0; create or replace database back'"
            )
            host.check_output("mariadb back < /root/back.sql")
            back = maria(
                host, "select (select count(*) from account), (select count(*) from entry), max(at) from entry", "back"
            )
            tables, probes = section["tables"], section["probes"]
            assert back.split("\t") == [str(tables["account"]), str(tables["entry"]), probes["newest_entry"]]
            assert tables["account"] == tables["entry"], "half a transaction was seen"
            seen.append(tables["entry"])
            assert int(live) > tables["entry"], "nothing was written meanwhile: this proves nothing"
    host.check_output("rm /root/back.sql; mariadb -e 'drop database back'")
    assert len(set(seen)) == 3
    maria(host, "delete from entry where id > 4000; delete from account where id > 4000")


def test_a_copy_of_sqlite_holds_whole_transactions_while_the_practice_works(host):
    seen = []
    with busy(host, "sqlite"):
        for _again in range(3):
            code, found = run_job(host, "pms_db")
            assert (code, found["reasons"]) == (0, [])
            section = oracle_of(host, "pms_db")["database"]
            live = sqlite(host, "select count(*) from finding")
            host.check_output(
                RESTIC + f"dump -q {found['snapshots']['database']} {section['dump_path']} > /root/back.db"
            )
            back = sqlite(
                host, "select (select count(*) from picture), (select count(*) from finding)", "/root/back.db"
            )
            tables = section["tables"]
            assert back == f"{tables['picture']} {tables['finding']}"
            assert tables["picture"] == tables["finding"], "half a transaction was seen"
            assert int(live) > tables["finding"], "nothing was written meanwhile: this proves nothing"
            seen.append(tables["finding"])
    host.check_output("rm -f /root/back.db*")
    assert len(set(seen)) == 3


def test_the_live_files_of_sqlite_are_left_as_they_were(host):
    """Software that was killed leaves its log beside its database; folding it in is the software's business."""
    with busy(host, "sqlite"):
        host.run("sleep 1; systemctl kill -s KILL busy.service")
        host.run("sleep 1; systemctl stop busy.service")
        host.check_output("systemd-run -q --collect --unit=busy sleep 60")
    before = host.check_output(f"sha256sum {PMS} {PMS}-wal")
    assert int(host.check_output(f"stat -c %s {PMS}-wal")) > 0
    assert run_job(host, "pms_db")[1]["state"] == "OK"
    assert host.check_output(f"sha256sum {PMS} {PMS}-wal") == before
    assert set(host.check_output("stat -c %U /srv/pms/*").split()) == {"pms"}
    host.check_output(f"mkdir /root/bare && cp {PMS} /root/bare/")
    bare = int(sqlite(host, "select count(*) from finding", "/root/bare/pms.db"))
    host.check_output("rm -r /root/bare")
    assert bare < oracle_of(host, "pms_db")["database"]["tables"]["finding"], (
        "the log held nothing: this proves nothing"
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (": > $F", "database_empty"),
        ("head -c 8192 /dev/urandom > $F", "not_a_database"),
        ("rm $F", "database_missing"),
        ("rm $F; ln -s /root/kept $F", "path_is_link"),
    ],
)
def test_what_is_no_database_of_sqlite_is_named(host, command, code):
    before = len(snapshots(host))
    host.check_output(f"mkdir /root/log; mv {PMS}-wal {PMS}-shm /root/log/")
    try:
        host.check_output(f"mv {PMS} /root/kept && cp -a /root/kept {PMS} && F={PMS}; {command}")
        exit_code, found = run_job(host, "pms_db")
    finally:
        host.check_output(f"rm -f {PMS} {PMS}-*; mv /root/kept {PMS}; mv /root/log/* /srv/pms/; rmdir /root/log")
    assert exit_code != 0
    assert (found["state"], codes(found)) == ("FAILED", [code])
    assert len(snapshots(host)) == before


def test_a_copy_of_sqlite_does_not_outlive_a_run_that_is_killed(host):
    unit = "holdfast-backup@pms_db.service"
    copies = "find /var/tmp -name copy.db"
    # the NAS is held up, so that the copy is there when the run is killed
    host.check_output(
        f"systemctl start --no-block {unit}; for n in $(seq 300); do {copies} | grep -q . && break; sleep 0.02; done"
    )
    assert host.check_output(copies) != ""
    host.check_output(f"systemctl kill --kill-whom=all -s KILL {unit}")
    host.run(f"for n in $(seq 100); do [ $(systemctl show -P ActiveState {unit}) = failed ] && break; sleep 0.1; done")
    host.run("for n in $(seq 100); do [ -e /var/lib/holdfast/running/pms_db.json ] || break; sleep 0.1; done")
    assert codes(record(host, "pms_db")) == ["killed"]
    assert host.check_output(copies) == ""
    assert run_job(host, "pms_db")[1]["state"] == "OK"
    assert host.check_output(copies) == ""


def test_a_dump_of_mariadb_that_is_killed_leaves_no_snapshot(host):
    before = {snapshot["id"] for snapshot in snapshots(host)}
    unit = "holdfast-backup@billing_db.service"
    host.check_output(
        f"systemctl start --no-block {unit}; for n in $(seq 500); do pkill -9 -x mariadb-dump && break; sleep 0.01; done"
    )
    host.run(f"for n in $(seq 300); do [ $(systemctl show -P ActiveState {unit}) = failed ] && break; sleep 0.1; done")
    found = record(host, "billing_db")
    assert (found["state"], codes(found)) == ("FAILED", ["dump_failed"]), found["reasons"]
    assert "ended with 137" in found["reasons"][0]["message"]
    assert {snapshot["id"] for snapshot in snapshots(host)} == before
    assert maria(host, "show processlist").count("holdfast") == 0, "a session outlived the run"
    assert run_job(host, "billing_db")[1]["state"] == "OK"


def test_mariadb_that_is_down_and_tables_that_are_not_safe_are_named(host):
    host.check_output("systemctl stop mariadb")
    try:
        _code, found = run_job(host, "billing_db")
        assert (found["state"], codes(found)) == ("FAILED", ["database_unreachable"])
    finally:
        host.check_output("systemctl start mariadb")
    maria(host, "create table old (n int) engine = MyISAM")
    try:
        _code, found = run_job(host, "billing_db")
        assert (found["state"], codes(found)) == ("INCOMPLETE", ["tables_not_transactional"])
    finally:
        maria(host, "drop table old")


def test_the_account_in_mariadb_can_read_its_database_and_nothing_else(host):
    grants = host.check_output("mariadb -NB -e 'show grants for holdfast@localhost'").splitlines()
    assert len(grants) == 2
    assert grants[0].startswith("GRANT RELOAD ON *.* TO ")
    assert grants[1].startswith(
        "GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT, TRIGGER, SHOW CREATE ROUTINE ON `billing`.* TO "
    )
    as_holdfast = "runuser -u holdfast -- mariadb --no-defaults"
    assert host.check_output(f"{as_holdfast} -NB billing -e 'select count(*) from letter'") == "1"
    for sql in ("delete from billing.letter", "select * from mysql.global_priv", "create table billing.x (n int)"):
        assert "denied" in host.run(f"{as_holdfast} -e {shlex.quote(sql)}").stderr, sql
    assert host.run("runuser -u pms -- mariadb --no-defaults --user=holdfast -e 'select 1'").rc != 0


def test_the_role_in_postgresql_reads_every_row_and_keeps_no_password(host):
    def as_holdfast(sql):
        return host.run(f"cd / && runuser -u holdfast -- psql -XqAt clinic -c {shlex.quote(sql)}")

    assert psql(host, "select rolsuper, rolbypassrls from pg_roles where rolname = 'holdfast'") == "f|t"
    assert as_holdfast("select count(*) from note").stdout.strip() == "50", "policies hide rows"
    for sql in ("delete from patient", "create table x (n int)", "create role x"):
        assert "denied" in as_holdfast(sql).stderr, sql
    assert host.run("cd / && runuser -u pms -- psql -U holdfast clinic -c 'select 1'").rc != 0
    run_job(host, "clinical_db")
    found = host.check_output("cat /var/lib/holdfast/oracle/clinical_db.json")
    assert "CREATE ROLE app;" in json.loads(found)["database"]["globals"]
    assert psql(host, "select rolpassword is not null from pg_authid where rolname = 'app'") == "t"
    assert "SCRAM-SHA-256" not in found
    assert "never in a backup" not in found


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        ("revoke pg_read_all_data from holdfast", "grant pg_read_all_data to holdfast"),
        ("alter role holdfast nobypassrls", "alter role holdfast bypassrls"),
    ],
)
def test_rows_that_the_role_may_not_read_are_never_silently_left_out(host, spoil, mend):
    before = len(snapshots(host))
    psql(host, spoil)
    try:
        code, found = run_job(host, "clinical_db")
        assert code != 0
        assert (found["state"], codes(found)) == ("FAILED", ["dump_failed"])
        assert "note" in found["reasons"][0]["message"] or "patient" in found["reasons"][0]["message"], found
        assert len(snapshots(host)) == before
    finally:
        psql(host, mend)


# --- vendors' own


def test_a_vendors_dump_is_kept_only_when_it_ends_well(host):
    assert run_job(host, "vendor_dump")[1]["state"] == "OK"
    assert oracle_of(host, "vendor_dump")["database"]["stream"]["bytes"] > 400000
    for fault, said in (("half", "ended with 3"), ("marker", "without its end marker")):
        before = len(snapshots(host))
        host.check_output(f"echo {fault} > /srv/vendor/fault")
        try:
            code, found = run_job(host, "vendor_dump")
        finally:
            host.check_output("rm /srv/vendor/fault")
        assert code != 0
        assert (found["state"], codes(found)) == ("FAILED", ["dump_failed"])
        assert said in found["reasons"][0]["message"]
        assert "Smith" not in json.dumps(found), "what the vendor's program said may quote patients"
        assert len(snapshots(host)) == before


def test_a_vendors_file_is_taken_when_it_is_whole_and_fresh(host):
    host.check_output("rm -f /srv/vendor/*.bak")
    assert codes(run_job(host, "vendor_file")[1]) == ["pickup_missing"]
    for change, code in (
        ("systemd-run -q --collect --unit=vendor /usr/local/sbin/vendor file a.bak 60", "pickup_growing"),
        ("touch -d '2 hours ago' /srv/vendor/a.bak", "pickup_stale"),
        (": > /srv/vendor/b.bak", "pickup_small"),
    ):
        host.check_output(f"{change}; sleep 0.5")
        assert codes(run_job(host, "vendor_file")[1]) == [code]
        host.run("systemctl stop vendor.service")
    # it is still being written when the agent starts
    host.check_output(
        "rm /srv/vendor/b.bak; systemd-run -q --collect --unit=vendor /usr/local/sbin/vendor file c.bak 3; sleep 1"
    )
    assert host.check_output("systemctl is-active vendor.service") == "active", "nothing was under way"
    assert run_job(host, "vendor_file")[1]["state"] == "OK"
    assert oracle_of(host, "vendor_file")["database"]["stream"]["bytes"] == 150000


# --- proofs


def prove():
    """Restore on a disposable machine and compare; {item: {reason codes}}. (What is wrong with backups: ../../tests/faults.)"""
    inventories = [str(HERE.parent / "shared/inventory.yml"), os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/inventory"]
    command = ["ansible-playbook", *(word for path in inventories for word in ("-i", path)), str(HERE / "prove.yml")]
    done = subprocess.run(command, cwd=HERE.parents[1], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    body = json.loads((TRIAL / "proof.json").read_text())
    assert not (TRIAL / "restore/agent-test").exists(), "the machine with restored data was left behind"
    return {item["item"]: {reason["code"] for reason in item["reasons"]} for item in body["items"]}, body


def test_every_engine_is_proved_on_a_disposable_machine(host):
    with busy(host, "mariadb"):
        assert run_job(host, "billing_db")[1]["state"] == "OK"
    with busy(host, "firebird"):
        assert run_job(host, "ward_db")[1]["state"] == "OK"
    for job in ("clinical_db", "pms_db", "vendor_dump"):
        assert run_job(host, job)[1]["state"] == "OK"
    reasons, body = prove()
    # nobody gave a check for the vendor's file: that it came back as it was is no pass
    good: dict[str, set[str]] = {
        job: set() for job in ("clinical_db", "billing_db", "pms_db", "ward_db", "vendor_dump")
    }
    assert reasons == {**good, "vendor_file": {"check_missing"}}
    assert {item["item"]: item["verdict"] for item in body["items"]}["vendor_file"] == "INCONCLUSIVE"
    for item in body["items"][:4]:
        level = item["levels"]["database"]
        assert (level["verdict"], level["engine_check"]) == ("PASS", "done"), item
        assert level["checked"] >= 2
