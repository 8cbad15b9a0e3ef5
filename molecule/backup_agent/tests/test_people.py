"""What a person does on a host: look, start, watch, get things back. On a real terminal where a person would have one."""

from __future__ import annotations

import json
import shlex
import uuid

import pytest

AGENT = "/usr/local/sbin/holdfast-agent"
# Runs a command on a terminal: for each (text, answer) waits for the text, then types. Prints what was seen and the exit code.
TERMINAL = """
import json, os, pty, select, sys, time
command, steps = json.loads(sys.argv[1])
pid, fd = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
seen, looked, deadline = b"", 0, time.monotonic() + 100
while time.monotonic() < deadline:
    if select.select([fd], [], [], 0.2)[0]:
        try:
            block = os.read(fd, 65536)
        except OSError:
            break
        if not block:
            break
        seen += block
    if steps and steps[0][0].encode() in seen[looked:]:
        looked = seen.index(steps[0][0].encode(), looked) + len(steps[0][0].encode())
        os.write(fd, steps.pop(0)[1].encode())
else:
    os.kill(pid, 9)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps([code, seen.decode("utf-8", "replace"), steps]))
"""
LETTERS = "/srv/clinic/documents/letters"
RESTIC = (
    "export RESTIC_REPOSITORY=rest:https://198.18.0.11:8000/server1/"
    " RESTIC_PASSWORD_FILE=/etc/holdfast/credentials/repository-password"
    " RESTIC_REST_USERNAME=server1 RESTIC_REST_PASSWORD=$(cat /etc/holdfast/credentials/rest-password);"
    " restic --cacert /etc/holdfast/nas.pem --no-cache "
)


def terminal(host, *command, steps=()):
    """(exit code, what was on the screen); every step has to come."""
    asked = json.dumps([[AGENT, *command], [list(step) for step in steps]])
    code, seen, left = json.loads(host.check_output(f"python3 -c {shlex.quote(TERMINAL)} {shlex.quote(asked)}"))
    assert not left, f"never seen: {left[0][0]!r} in {seen}"
    return code, seen


def last(text):
    """The result at the end of JSON lines."""
    return json.loads(text.splitlines()[-1])


def record(host):
    """Of the last run of the documents."""
    return json.loads(host.check_output("cat /var/lib/holdfast/status/documents.json"))


def agent(host, *words):
    return host.run(AGENT + " " + " ".join(shlex.quote(word) for word in words))


@pytest.fixture(scope="module", autouse=True)
def stored(host):
    """A good run of each job that is looked at here."""
    for job in ("documents", "clinical_db"):
        done = agent(host, "run", job)
        assert (done.rc, f"{job}: OK after" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.fixture
def folder(host):
    name = f"/root/back-{uuid.uuid4().hex[:8]}"
    yield name
    host.check_output(f"rm -rf {name}")


def test_a_run_is_drawn_on_a_terminal_and_told_to_machines(host):
    code, seen = terminal(host, "run", "documents")
    assert code == 0
    for words in ("started; ^C leaves it running", "\r[", "] storing files", "documents: OK after"):
        assert words in seen, (words, seen)
    done = agent(host, "run", "documents", "--json")
    result = last(done.stdout)
    assert (done.rc, result["type"], result["record"]["state"]) == (0, "result", "OK")
    assert {json.loads(line)["type"] for line in done.stdout.splitlines()} == {"progress", "result"}
    assert host.run("ls /run/holdfast/documents.progress.json").rc != 0
    assert agent(host, "run", "nothing").rc == 3


def test_who_stops_watching_stops_nothing_and_may_come_back(host):
    # a lock on a table holds the run up, so that it is surely under way
    lock = "begin; lock table patient in access exclusive mode; select pg_sleep(60)"
    host.check_output(f"cd / && systemd-run -q --collect --unit=hold --uid=postgres psql -Xq clinic -c '{lock}'")
    unit = "holdfast-backup@clinical_db.service"
    try:
        code, seen = terminal(host, "run", "clinical_db", steps=[("dumping the database", "\x03")])
        assert code == 130
        assert f"systemctl stop {unit}" in seen
        assert host.check_output(f"systemctl show -P ActiveState {unit}") == "activating"
        (row,) = [row for row in json.loads(agent(host, "status", "--json").stdout) if row["job"] == "clinical_db"]
        assert (row["running"], row["progress"]["phase"]) == (True, "database")
        assert "running now: dumping the database" in agent(host, "status").stdout
        before = row["progress"]["run"]
        host.check_output(
            "systemd-run -q --collect --on-active=2 --uid=postgres --working-directory=/ psql -Xq postgres -c "
            "\"select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'\""
        )
        done = agent(host, "run", "clinical_db", "--json")
        assert done.rc == 0, done.stdout + done.stderr
        assert last(done.stdout)["record"]["run"] == before, "another run was started"
    finally:
        host.run("systemctl stop hold.service")


def test_status_and_snapshots_agree_and_know_the_next_run(host):
    rows = {row["job"]: row for row in json.loads(agent(host, "status", "--json").stdout)}
    assert rows["documents"]["state"] == "OK"
    assert all(row["next_run"] for row in rows.values())
    shown = agent(host, "snapshots", "documents", "--json")
    newest, said = json.loads(shown.stdout)[0], record(host)
    assert (shown.rc, newest["complete"], newest["files"]) == (0, True, said["files"])
    assert (newest["run"], newest["parts"]["oracle"]) == (said["run"], said["snapshots"]["oracle"])
    assert said["run"] in agent(host, "snapshots").stdout


def test_everything_comes_back_and_is_compared(host, folder):
    done = agent(host, "restore", "documents", "--all", "--to", folder, "--json")
    result = last(done.stdout)
    count = record(host)["files"]
    assert count > 10
    assert (done.rc, result["files"], result["equal"], result["state"]) == (0, count, count, "OK")
    assert host.check_output(f"diff -r --exclude=*.tmp /srv/clinic/documents {folder}/srv/clinic/documents") == ""
    assert host.check_output(f"stat -c %a {folder}") == "700"
    again = agent(host, "restore", "documents", "--all", "--to", folder)
    assert (again.rc, "not an empty folder" in again.stderr) == (3, True)


def test_a_person_looks_around_and_gets_one_file(host, folder):
    steps = [
        ("documents /srv/clinic/documents> ", "ls\n"),
        ("letters/", "cd letters\n"),
        ("letters> ", "find star\n"),
        ("1 files", "get 'star*[x].txt' 'new\\nline.txt'\n"),
        ("OK after", "quit\n"),
    ]
    code, seen = terminal(host, "restore", "documents", "--to", folder, steps=steps)
    assert code == 0
    assert "2 files compared with the oracle's hashes: equal" in seen
    assert host.check_output(f"find {folder} -type f | grep -c .") == "3", "the name with a line break counts as two"
    host.check_output(f"cmp '{folder}{LETTERS}/star*[x].txt' '{LETTERS}/star*[x].txt'")


def test_a_dump_comes_back_with_the_words_that_load_it(host, folder):
    done = agent(host, "restore", "clinical_db", "--database", "--to", folder)
    assert done.rc == 0, done.stderr
    assert "runuser -u postgres -- createdb" in done.stdout
    listed = host.check_output(f"cd / && runuser -u postgres -- pg_restore --list < {folder}/holdfast.clinical_db.dump")
    assert "TABLE DATA public patient" in listed


def test_what_does_not_match_the_oracle_is_a_failure(host, folder):
    oracle = json.loads(host.check_output("cat /var/lib/holdfast/oracle/documents.json"))
    run = f"20991231T000000Z-{uuid.uuid4().hex[:8]}"
    tags = f"--host server1 --tag practice=agent-test --tag job=documents --tag run={run}"
    host.check_output(f"cp -a {LETTERS}/plain.txt /root/kept && echo other > {LETTERS}/plain.txt")
    try:
        assert host.run(f"cmp {LETTERS}/plain.txt /root/kept").rc == 1, "the fault did not land"
        out = host.check_output(RESTIC + f"backup --json {tags} --tag part=files /srv/clinic/documents | tail -n 1")
    finally:
        host.check_output(f"mv /root/kept {LETTERS}/plain.txt")
    oracle.update(run=run, snapshots={"database": None, "files": last(out)["snapshot_id"]})
    store = f"backup -q {tags} --tag part=oracle --stdin --stdin-filename holdfast.documents.oracle.json"
    host.check_output(f"cat > /root/oracle <<'EOF'\n{json.dumps(oracle)}\nEOF")
    host.check_output(f"cat /root/oracle | ( {RESTIC} {store} ); rm /root/oracle")
    done = agent(host, "restore", "documents", "--run", run, "--all", "--to", folder)
    differ = f"files_differ: 1 of {len(oracle['files']['manifest'])} files differ: {LETTERS}/plain.txt"
    assert (done.rc, differ in done.stdout) == (1, True), done.stdout


def test_live_data_is_written_over_only_by_somebody_who_types_its_name(host):
    file = f"{LETTERS}/plain.txt"
    restore = (
        "restore",
        "documents",
        "--run",
        json.loads(agent(host, "snapshots", "documents", "--json").stdout)[-1]["run"],
    )
    refused = agent(host, *restore, "--all", "--to", "/srv/clinic/documents/back")
    assert (refused.rc, "live data" in refused.stderr) == (3, True)
    assert agent(host, *restore, "--path", file, "--in-place", "--force").rc == 3, "nobody was asked"
    host.check_output(f"cp -a {file} /root/kept && echo spoilt > {file}")
    try:
        assert host.run(f"cmp {file} /root/kept").rc == 1, "the fault did not land"
        place = ("--path", file, "--in-place", "--force")
        code, seen = terminal(host, *restore, *place, steps=[("to go on: ", "yes\n")])
        assert (code, "nothing was changed" in seen) == (3, True)
        assert host.check_output(f"cat {file}") == "spoilt"
        code, seen = terminal(host, *restore, *place, steps=[("to go on: ", "documents\n")])
        assert (code, "1 files compared with the oracle's hashes: equal" in seen) == (0, True), seen
        host.check_output(f"cmp {file} /root/kept")
    finally:
        host.check_output(f"mv /root/kept {file}")
