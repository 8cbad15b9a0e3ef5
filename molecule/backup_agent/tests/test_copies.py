"""A copy in another place, which here is a second server on the NAS's machine."""

from __future__ import annotations

import json
import shlex

import pytest
import testinfra

NAS = "ansible://nas1"
OFFSITE = (
    "c=/etc/holdfast/credentials; export RESTIC_REPOSITORY=rest:https://198.18.0.11:8100/server1/"
    " RESTIC_PASSWORD_FILE=$c/offsite.repository-password RESTIC_REST_USERNAME=server1"
    " RESTIC_REST_PASSWORD=$(cat $c/offsite.rest-password); restic --cacert /etc/holdfast/offsite.pem --no-cache "
)


@pytest.fixture(scope="module")
def nas(request):
    return testinfra.get_host(NAS, ansible_inventory=request.config.option.ansible_inventory)


def record(host, job):
    return json.loads(host.check_output(f"cat /var/lib/holdfast/status/{job}.json"))


def run_job(host, job):
    """Start the service as its timer does; (exit code of systemctl, status record)."""
    code = host.run(f"systemctl start holdfast-backup@{job}.service").rc
    return code, record(host, job)


def codes(found):
    return [reason["code"] for reason in found["reasons"]]


def there(host):
    return json.loads(host.check_output(OFFSITE + "snapshots --json --no-lock")) or []


def tags(snapshot):
    return dict(tag.split("=", 1) for tag in snapshot["tags"])


def runs(host, job):
    """Runs of a job that the copy has, with what parts."""
    found = {}
    for snapshot in there(host):
        if tags(snapshot)["job"] == job:
            found.setdefault(tags(snapshot)["run"], set()).add(tags(snapshot)["part"])
    return found


def test_a_run_is_copied_with_its_oracle_and_comes_back_from_the_copy(host):
    code, house = run_job(host, "documents")
    assert code == 0
    code, copy = run_job(host, "documents.offsite")
    assert (code, copy["state"], copy["reasons"], copy["copied"]) == (0, "OK", [], house["run"])
    assert copy["repository_id"] != house["repository_id"]
    originals = {snapshot["original"]: snapshot["id"] for snapshot in there(host)}
    for part in ("files", "oracle"):
        assert originals[house["snapshots"][part]] == copy["snapshots"][part]
    oracle = json.loads(
        host.check_output(OFFSITE + f"dump -q {copy['snapshots']['oracle']} /holdfast.documents.oracle.json")
    )
    assert oracle["run"] == house["run"]
    host.check_output(OFFSITE + f"restore -q {copy['snapshots']['files']} --target /root/back")
    script = """
import hashlib, json, os
manifest = json.load(open("/var/lib/holdfast/oracle/documents.json"))["files"]["manifest"]
for entry in manifest:
    data = open(os.fsencode("/root/back" + entry["path"]), "rb").read()
    assert hashlib.blake2b(data, digest_size=32).hexdigest() == entry["blake2b"]
print(len(manifest))
"""
    try:
        assert int(host.check_output(f"python3 -c {shlex.quote(script)}")) == house["files"] > 0
    finally:
        host.check_output("rm -r /root/back")
    # nothing of a copy's work is done twice
    before = len(there(host))
    assert run_job(host, "documents.offsite")[0] == 0
    assert len(there(host)) == before


def test_a_copy_whose_server_is_away_says_so_and_takes_up_what_was_left_behind(host, nas):
    assert run_job(host, "documents")[0] == 0
    assert run_job(host, "documents.offsite")[0] == 0
    before = runs(host, "documents")
    nas.check_output("systemctl stop offsite.service")
    try:
        assert nas.run("ss -ltn | grep -q :8100").rc != 0, "the fault did not land"
        missed = [run_job(host, "documents")[1]["run"] for _ in range(2)]
        code, copy = run_job(host, "documents.offsite")
        assert code != 0
        assert (copy["state"], codes(copy)) == ("FAILED", ["nas_unreachable"])
        assert "198.18.0.11:8100" in copy["reasons"][0]["message"]
        assert record(host, "documents")["state"] == "OK", "the copy in the house has a state of its own"
    finally:
        nas.check_output(
            "systemctl start offsite.service; for n in $(seq 50); do ss -ltn | grep -q :8100 && break; sleep 0.1; done"
        )
    code, copy = run_job(host, "documents.offsite")
    assert (code, copy["copied"]) == (0, missed[-1])
    found = runs(host, "documents")
    assert set(found) == set(before) | set(missed)
    assert all(parts == {"files", "oracle"} for parts in found.values())


def test_a_copy_that_is_killed_leaves_no_run_that_looks_whole_and_is_taken_up(host):
    assert run_job(host, "clinical_db")[0] == 0
    unit = "holdfast-backup@clinical_db.offsite.service"
    for wait in ("0.6", "1.2", "2"):
        run = run_job(host, "clinical_db")[1]["run"]
        host.check_output(
            f"systemctl start --no-block {unit}; sleep {wait}; systemctl kill --kill-whom=all -s KILL {unit}; true"
        )
        host.run(f"for n in $(seq 100); do systemctl is-active -q {unit} || break; sleep 0.1; done")
        for parts in runs(host, "clinical_db").values():
            assert "oracle" not in parts or parts == {"database", "files", "oracle"}
        code, copy = run_job(host, "clinical_db.offsite")
        assert (code, copy["state"], copy["copied"]) == (0, "OK", run)
    host.check_output(OFFSITE + "check -q --read-data --no-lock")


def test_another_repository_in_the_place_of_the_copy_is_refused(host, nas):
    nas.check_output("mv /srv/offsite/server1 /srv/offsite/kept")
    try:
        assert host.run(OFFSITE + "snapshots --no-lock").rc == 10, "the fault did not land"
        code, copy = run_job(host, "documents.offsite")
        assert code != 0
        assert codes(copy) == ["repository_missing"]
    finally:
        nas.check_output("mv /srv/offsite/kept /srv/offsite/server1")
    assert run_job(host, "documents.offsite")[0] == 0


def test_no_login_of_either_server_shows_in_arguments(host):
    watch = """
import glob, subprocess
secrets = [open("/etc/holdfast/credentials/" + n).read().strip() for n in (
    "rest-password", "repository-password", "offsite.rest-password", "offsite.repository-password")]
subprocess.run(["systemctl", "start", "holdfast-backup@documents.service"], check=True)
run = subprocess.Popen(["systemctl", "start", "holdfast-backup@documents.offsite.service"])
seen, bad = set(), []
while run.poll() is None:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = open(path, "rb").read().decode("utf-8", "replace")
        except OSError:
            continue
        seen.update(name for name in ("restic",) if "restic\\0" in words and "copy" in words)
        bad += [words for secret in secrets if secret in words]
assert run.returncode == 0 and seen, (run.returncode, seen)
assert not bad, bad
"""
    host.check_output(f"python3 -c {shlex.quote(watch)}")
    journal = host.check_output("journalctl -q -t holdfast-backup --no-pager")
    assert "documents.offsite" in journal
    for name in ("rest-password", "offsite.rest-password"):
        assert host.check_output(f"cat /etc/holdfast/credentials/{name}") not in journal
