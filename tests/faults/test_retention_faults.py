# SPDX-License-Identifier: Apache-2.0
"""What may never be rotated away, and what stops rotation, on real machines: restic, rest-server and a NAS's disk.

Needs the same lab as test_prove_faults.py. Old runs are made with the host's own password, and their arrival is set back on
the NAS. Each test ends with the repository as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from datetime import UTC, datetime

import pytest
from faults_lab import REPOSITORY, RESTIC, Practice, ssh

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")

SAVED = "/srv/holdfast/saved-by-a-test"
STATUS = "/usr/lib/holdfast/agent status --json || true"
ONLY = ("-e", "only=server1", "-e", "maintain_wait_s=0")


@pytest.fixture
def practice(tmp_path):
    copy = tmp_path / "harbour-street"
    shutil.copytree(os.environ["HOLDFAST_PRACTICE"], copy, ignore=shutil.ignore_patterns("evidence", "results"))
    return Practice(copy)


PUT_BACK = f"find {REPOSITORY} -mindepth 1 -delete; cp -a {SAVED}/. {REPOSITORY}/; rm -r {SAVED}"


@pytest.fixture(autouse=True)
def repository():
    """The repository of server1 as a whole is put back: what was pruned is gone for good."""
    ssh(
        "nas1",
        f"set -e; if test -e {SAVED}; then {PUT_BACK}; fi; rm -f {REPOSITORY}/locks/*; cp -a {REPOSITORY} {SAVED}",
    )
    yield
    ssh(
        "nas1",
        f"""set -e
systemctl is-active -q holdfast-rest-server.service
test ! -e /run/systemd/system/holdfast-maintenance.service
{PUT_BACK}""",
    )
    ssh("server1", "rm -rf /var/cache/holdfast/restic")


def old_run(days: float, job: str = "documents", hold: str = "", part: str = "files") -> str:
    """A run that arrived so many days ago, made as whoever has the host's password could; its name."""
    name = f"T{uuid.uuid4().hex[:12]}"
    at = time.time() - days * 86400
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
    tags = f"--tag practice=harbour-street --tag job={job} --tag run={name}"
    script = RESTIC
    for each, more in ((part, ""), ("oracle", f"--tag hold={hold}" if hold else "")):
        script += (
            f"restic backup --json --host server1 --time '{taken}' {tags} --tag part={each} {more} /etc/hostname\n"
        )
    said = [json.loads(line) for line in ssh("server1", script).splitlines()]
    made = [line["snapshot_id"] for line in said if line["message_type"] == "summary"]
    assert len(made) == 2, said
    ssh("nas1", f"cd {REPOSITORY}/snapshots && touch -d @{at + 30:.0f} {' '.join(made)}")
    return name


def snapshots(run: str = "") -> dict[str, str]:
    """{id: run} of what restic lists."""
    listed = json.loads(ssh("server1", RESTIC + "restic snapshots --json --no-lock"))
    found = {each["id"]: next((tag[4:] for tag in each["tags"] or [] if tag.startswith("run=")), "") for each in listed}
    return {name: of for name, of in found.items() if not run or of == run}


def unclean() -> set[str]:
    """The jobs of server1 whose database waits to be found sound."""
    return {row["job"] for row in json.loads(ssh("server1", STATUS)) if row["unclean"]}


def noon(days_ago: int) -> float:
    """How many days ago a day's noon in the practice's zone roughly was: two runs an hour apart are of one day."""
    now = datetime.now(UTC)
    return days_ago + (now.hour - 2) / 24


@pytest.mark.fault(
    id="B-last-clean",
    title="a suspect run is the last of its day, when old runs are removed",
    verdict="survived",
    levels=["retention"],
    codes=["suspect"],
)
def test_rules_are_kept_and_the_last_clean_run_of_a_day_is_not_pushed_out(practice):
    """Of two sound runs of a day the first goes; a suspect one, though it was the last, takes nobody's place."""
    first, second = old_run(noon(10) + 1 / 24), old_run(noon(10))
    clean, suspect = old_run(noon(11) + 1 / 24), old_run(noon(11), hold="suspect")
    ancient = old_run(8 * 366)
    before = snapshots()
    listed = json.loads(ssh("server1", RESTIC + "restic snapshots --json --no-lock --tag job=documents,part=oracle"))
    real = [each["id"] for each in listed if before[each["id"]].startswith("20")]
    last = before[ssh("nas1", f"cd {REPOSITORY}/snapshots && ls -t {' '.join(real)}").split()[0]]
    newest = {name for name, run in before.items() if run == last}
    assert len(newest) == 2

    shown_code, shown, records = practice.play("maintain", "--check", "--diff", *ONLY)
    assert (shown_code, records) == (0, []), shown[-4000:]
    assert first in shown
    assert snapshots() == before, "--check removed something"

    done = practice.maintain(*ONLY)
    assert done.code == 0, done.output[-4000:]
    assert done.removed("documents") == {first, ancient}
    left = snapshots()
    assert {second, clean, suspect} <= set(left.values())
    assert set(before) - set(left) == {name for name, run in before.items() if run in (first, ancient)}
    assert newest <= set(left)
    kept = done.body["hosts"]["server1"]["kept"]["documents"]
    assert sum(kept.values()) >= 4, kept
    assert done.body["hosts"]["server1"]["reasons"] == []

    again = practice.maintain(*ONLY)
    assert (again.code, again.body["removed"]) == (0, [])
    assert again.body["hosts"]["server1"]["key_ids"] == done.body["hosts"]["server1"]["key_ids"] != []

    proof = practice.prove(items="documents")
    # an oracle that was made up is none to compare with; what matters is that nothing is missed
    assert proof.codes("documents") == {"earlier_unreadable"}, proof.output[-3000:]
    said = ssh("server1", RESTIC + f"restic forget {next(iter(newest))} 2>&1 || true")
    assert "403" in said, f"clients may erase: {said}"
    assert next(iter(newest)) in snapshots()


@pytest.mark.fault(
    id="B09-retention",
    title="a snapshot that claims to be from the year 2035, when old runs are removed",
    levels=["retention"],
    codes=["future_snapshots"],
)
def test_b09_a_snapshot_from_the_future_stops_retention_until_somebody_has_looked(practice):
    due, _stays = old_run(noon(10) + 1 / 24), old_run(noon(10))
    tags = "--tag practice=harbour-street --tag job=documents --tag run=20350101T000000Z-00000000 --tag part=oracle"
    ssh("server1", RESTIC + f"restic backup -q --host server1 --time '2035-01-01 00:00:00' {tags} /etc/hostname")
    (future,) = snapshots(run="20350101T000000Z-00000000")
    before = snapshots()

    refused = practice.maintain(*ONLY)
    assert (refused.code, refused.doubts()) == (1, ["future_snapshots"]), refused.output[-4000:]
    assert refused.body["removed"] == []
    assert snapshots() == before
    assert f"-e discard={future[:8]}" in refused.output.replace("\n", " ")

    wrong = practice.play("maintain", *ONLY, "-e", f"discard={next(iter(snapshots(run=due)))[:8]}")
    assert "which is no snapshot that maintenance refused" in wrong[1].replace("\n        ", " ")
    assert snapshots() == before, "a good run could be thrown away by its id"

    cleared = practice.maintain(*ONLY, "-e", f"discard={future[:8]}")
    assert cleared.code == 0, cleared.output[-4000:]
    assert cleared.body["hosts"]["server1"]["discarded"] == [future]
    assert cleared.removed("documents") == {due}
    assert set(before) - set(snapshots()) == {future, *(name for name, run in before.items() if run == due)}


@pytest.mark.fault(
    id="B-key",
    title="a key of a stranger opens the repository, when old runs are removed",
    levels=["retention"],
    codes=["unknown_keys"],
)
def test_what_was_accepted_once_is_not_asked_again(practice):
    due, _stays = old_run(noon(10) + 1 / 24), old_run(noon(10))
    script = "export RESTIC_NEW=/root/new-key; head -c 20 /dev/urandom | base64 > $RESTIC_NEW\n"
    ssh("server1", RESTIC + script + "restic key add --new-password-file $RESTIC_NEW")
    try:
        refused = practice.maintain(*ONLY)
        assert (refused.code, refused.doubts()) == (1, ["unknown_keys"]), refused.output[-4000:]
        (key,) = refused.body["hosts"]["server1"]["doubts"][0]["ids"]
        accepted = practice.maintain(*ONLY, "-e", f"accept={key}")
        assert (accepted.code, accepted.removed("documents")) == (0, {due}), accepted.output[-4000:]
        again = practice.maintain(*ONLY)
        assert (again.code, again.body["removed"]) == (0, [])
    finally:
        ssh("server1", "rm -f /root/new-key")


@pytest.mark.fault(
    id="B-unclean",
    title="the host lost its power, when old runs are removed",
    verdict="survived",
    levels=["retention"],
    codes=["unclean-boot"],
)
def test_nothing_rotates_until_the_database_is_found_sound(practice):
    """The note is the one that the agent's boot unit writes after an unclean boot."""
    due, _stays = (old_run(noon(10) + hours / 24, job="clinical_db", part="database") for hours in (1, 0))
    files, _other = old_run(noon(12) + 1 / 24), old_run(noon(12))
    ssh("server1", "cp -a /var/lib/holdfast/boot.json /root/boot.json")
    ssh(
        "server1",
        """set -e
python3 - <<'END'
import json
path = "/var/lib/holdfast/boot.json"
note = json.load(open(path)) | {"boot_id": "another", "stopped": False}
json.dump(note, open(path, "w"))
END
/usr/lib/holdfast/agent booted""",
    )
    try:
        assert "clinical_db" in unclean(), "the fault did not land"
        assert "documents" not in unclean(), "it has no database"
        frozen = practice.maintain(*ONLY)
        assert frozen.code == 0, frozen.output[-4000:]
        assert (frozen.removed("clinical_db"), frozen.removed("documents")) == (set(), {files})
        assert "nobody has found its database sound" in frozen.body["hosts"]["server1"]["frozen"]["clinical_db"]
        ssh("server1", "systemctl start holdfast-backup@clinical_db.service")
        assert "clinical_db" not in unclean(), "the database is not sound"
        after = practice.maintain(*ONLY)
        assert (after.code, after.removed("clinical_db")) == (0, {due}), after.output[-4000:]
        assert set(after.body["hosts"]["server1"]["frozen"]) == unclean()
    finally:
        ssh("server1", "mv /root/boot.json /var/lib/holdfast/boot.json; rm -f /var/lib/holdfast/unclean/*")


def test_a_host_at_work_is_not_disturbed(practice):
    due, _stays = old_run(noon(10) + 1 / 24), old_run(noon(10))
    lock = f"{REPOSITORY}/locks/{'a' * 64}"
    ssh("nas1", f"install -o restic-rest-server -g restic-rest-server -m 0600 /dev/null {lock}")
    busy = practice.maintain(*ONLY)
    assert busy.code == 2, busy.output[-4000:]
    assert busy.body["removed"] == []
    assert "clients work in this repository" in json.dumps(busy.body)
    ssh("nas1", f"touch -d '20 minutes ago' {lock}")
    done = practice.maintain(*ONLY)
    assert (done.code, done.removed("documents")) == (0, {due}), done.output[-4000:]
    assert "a" * 64 not in ssh("nas1", f"ls {REPOSITORY}/locks"), "a lock that nobody holds was left"


@pytest.mark.fault(
    id="B-pack", title="a pack is gone, when old runs are removed", levels=["retention"], codes=["repository_damaged"]
)
def test_a_repository_that_lost_a_pack_is_left_alone(practice):
    due, _stays = old_run(noon(10) + 1 / 24), old_run(noon(10))
    # the largest, so that it holds files of the newest runs
    lost = ssh("nas1", f"find {REPOSITORY}/data -type f -printf '%s %p\\n' | sort -n | tail -n 1").split()[1]
    ssh("nas1", f"rm {lost}")
    found = practice.maintain(*ONLY)
    assert found.code == 1, found.output[-4000:]
    assert [reason["code"] for reason in found.body["hosts"]["server1"]["reasons"]] == ["repository_damaged"]
    assert (found.body["removed"], due in snapshots().values()) == ([], True)


DOOR = """
- hosts: nas
  gather_facts: false
  tasks:
    - holdfast.practice.nas_maintenance:
        practice: "{{ practice_id }}"
        host: "{{ inventory_hostname }}"
        listen: "{{ nas_repository_listen }}"
        account: server1
        password_hash: "{{ 'once-and-never-again-4711' | holdfast.practice.bcrypt_hash('test') }}"
        limit_s: 20
        state: open
"""


@pytest.mark.fault(
    id="B-killed",
    title="the control node dies while the NAS is open for maintenance",
    verdict="survived",
    levels=["retention"],
    codes=["nas_unreachable"],
)
def test_whoever_opens_it_and_dies_leaves_a_nas_that_comes_back(practice, tmp_path):
    """A control node that is killed: after its time the way in closes by itself. A backup begun meanwhile waits, and is made."""
    playbook = tmp_path / "door.yml"
    playbook.write_text(DOOR)
    code, said, _records = practice.play(str(playbook))
    assert code == 0, said[-3000:]
    assert ssh(
        "nas1", "systemctl is-active holdfast-maintenance.service holdfast-rest-server.service || true"
    ).split() == [*("active", "inactive")]
    usual = ssh("server1", RESTIC.replace("8000", "8001") + "restic snapshots --no-lock 2>&1 || true")
    assert "401" in usual, f"the host's own password opens it: {usual}"
    ssh("server1", "systemctl start --no-block holdfast-backup@documents.service")
    before = json.loads(ssh("server1", "cat /var/lib/holdfast/status/documents.json"))["run"]
    once = RESTIC.replace("8000", "8001").replace("$(cat $c/rest-password)", "once-and-never-again-4711")
    assert json.loads(ssh("server1", once + "restic snapshots --json --no-lock"))
    deadline = time.monotonic() + 90
    while "inactive" in ssh("nas1", "systemctl is-active holdfast-rest-server.service || true"):
        assert time.monotonic() < deadline, "the service did not come back"
        time.sleep(1)
    dead = ssh("server1", "bash -c '</dev/tcp/198.18.0.11/8001' 2>&1 || true")
    assert "refused" in dead, dead
    while json.loads(ssh("server1", "cat /var/lib/holdfast/status/documents.json"))["run"] == before:
        assert time.monotonic() < deadline, "the backup that waited was not made"
        time.sleep(1)
    assert json.loads(ssh("server1", "cat /var/lib/holdfast/status/documents.json"))["state"] == "OK"
    # what it left behind stops nobody
    done = practice.maintain(*ONLY)
    assert done.code == 0, done.output[-3000:]
    ssh(
        "nas1",
        "rm -f /run/systemd/system/holdfast-maintenance.service; rm -rf /run/holdfast-maintenance; systemctl daemon-reload",
    )
