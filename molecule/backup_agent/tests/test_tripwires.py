"""Files encrypted for real are seen, stored and held; a practice's big day is not."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

JOB = "watched"
FOLDER = "/srv/watched"
AGENT = "/usr/local/sbin/holdfast-agent"
CANARY = "/srv/clinic/documents/Please leave this file alone.pdf"
HERE = Path(__file__).resolve().parents[1]
RESTIC = (
    "export RESTIC_REPOSITORY=rest:https://198.18.0.11:8000/server1/"
    " RESTIC_PASSWORD_FILE=/etc/holdfast/credentials/repository-password"
    " RESTIC_REST_USERNAME=server1 RESTIC_REST_PASSWORD=$(cat /etc/holdfast/credentials/rest-password);"
    " restic --cacert /etc/holdfast/nas.pem --no-cache "
)
FURNISH = f"""
import os, pathlib, random, zlib
kinds = {{"pdf": b"%PDF-1.4 ", "docx": b"PK\\x03\\x04", "jpg": b"\\xff\\xd8\\xff\\xe0", "txt": b"", "xml": b"<?xml "}}
words = b"Thank you for seeing this patient who attended our rooms and is well. "
for n in range(200):
    kind = list(kinds)[n % 5]
    path = pathlib.Path(f"{FOLDER}/{{n % 4}}/letter {{n}}.{{kind}}")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = b"%d " % n + words * 30
    path.write_bytes(kinds[kind] + (text if kind in ("txt", "xml") else zlib.compress(os.urandom(3000))))
"""
# listed first: find would meet what was just made
ENCRYPT = """
find {where} -type f -print0 > /root/list
xargs -0 -n 1 sh -c 'openssl enc -aes-256-cbc -pbkdf2 -iter 1 -k x -in "$1" -out "$1{end}" && {after}' _ < /root/list
rm /root/list
"""


def python(host, script):
    return host.check_output(f"python3 -c {shlex.quote(script)}")


def run(host, job=JOB):
    host.run(f"systemctl start holdfast-backup@{job}.service")
    found = json.loads(host.check_output(f"cat /var/lib/holdfast/status/{job}.json"))
    return found, {reason["code"] for reason in found["reasons"]}


def tags_of(host, snapshot):
    shown = json.loads(host.check_output(RESTIC + f"snapshots --json --no-lock {snapshot}"))
    return set(shown[0]["tags"])


def clear(host, job, reason="it was a test"):
    return host.check_output(f"{AGENT} clear {job} --reason {shlex.quote(reason)}")


@pytest.fixture
def watched(host):
    """A job of its own over two hundred files, with a clean run behind it."""
    job = json.loads(host.check_output("cat /etc/holdfast/jobs/documents.json"))
    job.update(name=JOB, item=JOB, paths=[FOLDER], must_have=[], exclude=[], tripwires={})
    python(host, FURNISH)
    host.check_output(f"cat > /etc/holdfast/jobs/{JOB}.json <<'EOF'\n{json.dumps(job)}\nEOF")
    try:
        found, codes = run(host)
        assert (found["state"], codes) == ("OK", set())
        yield found
    finally:
        host.check_output(f"rm -rf {FOLDER} /etc/holdfast/jobs/{JOB}.json /var/lib/holdfast/*/{JOB}.json")
        host.run(f"systemctl reset-failed holdfast-backup@{JOB}.service")


def test_a_big_ordinary_day_is_ok_and_an_encryptors_day_is_not(host, watched):
    python(host, FURNISH.replace("range(200)", "range(200, 600)").replace("letter", "scan"))
    edit = f"""
import glob
texts = sorted(glob.glob("{FOLDER}/*/letter *.txt") + glob.glob("{FOLDER}/*/letter *.xml"))
for path in texts[:60]:
    open(path, "ab").write(b" and was seen again today")
"""
    python(host, edit)
    host.check_output(f"mv {FOLDER}/3 {FOLDER}/three")
    found, codes = run(host)
    assert (found["state"], codes, found["files"]) == ("OK", set(), 600)
    history = json.loads(host.check_output(f"cat /var/lib/holdfast/tripwires/{JOB}.json"))["history"][-1]
    # the day was as big as it was meant to be, and nobody took a move for a loss
    assert (history["new"], history["gone"]) == (450, 0)
    assert history["changed"] >= 30
    # a quarter deleted is no reason either; other content under the same names is
    host.check_output(f"rm -r {FOLDER}/0")
    assert run(host)[0]["state"] == "OK"
    assert encrypt(host, ".new", 'mv "$1.new" "$1"') == 450, "the fault did not land"
    found, codes = run(host)
    assert (found["state"], codes) == ("INCOMPLETE", {"suspect_magic", "suspect_entropy", "suspect_change"})
    assert (found["holds"], found["last_ok"]["run"]) == (["suspect"], found["last_clean"]["run"])


def encrypt(host, end, after):
    host.check_output(ENCRYPT.format(where=FOLDER, end=end, after=after))
    return int(host.check_output(f"grep -rl '^Salted__' {FOLDER} | wc -l"))


def test_encrypted_files_are_stored_and_held_until_a_person_looks(host, watched):
    codes = {"suspect_rename", "suspect_change"}
    clean = {key: watched[key] for key in ("run", "finished")}
    assert encrypt(host, ".locked", 'rm "$1"') == 200, "the fault did not land"
    found, seen = run(host)
    assert (found["state"], seen) == ("INCOMPLETE", codes)
    assert (found["holds"], found["last_ok"]["run"], found["last_clean"]) == (["suspect"], watched["run"], clean)
    assert found["files"] == 200
    assert "hold=suspect" in tags_of(host, found["snapshots"]["oracle"])
    assert "hold=suspect" not in tags_of(host, watched["snapshots"]["oracle"])
    stored = host.check_output(
        RESTIC + f'ls --json --no-lock {found["snapshots"]["files"]} | grep -c \'"type":"file"\''
    )
    assert int(stored) == 200
    oracle = json.loads(
        host.check_output(RESTIC + f"dump -q {found['snapshots']['oracle']} /holdfast.{JOB}.oracle.json")
    )
    assert (oracle["holds"], oracle["last_clean"]) == (["suspect"], clean)
    assert FOLDER not in json.dumps(found["reasons"])

    # nothing happened since, and nobody looked
    again, seen = run(host)
    assert (again["state"], seen, again["holds"], again["last_clean"]) == ("INCOMPLETE", codes, ["suspect"], clean)

    shown = host.run(f"{AGENT} clear {JOB}")
    assert (shown.rc, "for example" in shown.stdout) == (2, True)
    assert host.run(f"runuser -u nobody -- {AGENT} clear {JOB} --reason x").rc != 0
    clear(host, JOB)
    journal = host.check_output("journalctl -q -t holdfast-backup -n 5 -o cat")
    assert f"{JOB}: {', '.join(r['code'] for r in again['reasons'])} since" in journal
    assert "it was a test" in journal
    last, seen = run(host)
    assert (last["state"], seen, last["holds"], last["last_clean"]["run"]) == ("OK", set(), [], last["run"])
    assert "hold=suspect" not in tags_of(host, last["snapshots"]["oracle"])


def converge(*more):
    inventories = [str(HERE.parent / "shared/inventory.yml"), os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/inventory"]
    command = ["ansible-playbook", *(word for path in inventories for word in ("-i", path)), "--limit", "server1"]
    done = subprocess.run(
        [*command, str(HERE / "converge.yml"), *more], cwd=HERE.parents[1], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def test_a_canary_that_was_changed_is_evidence_until_somebody_looked(host):
    found, codes = run(host, "documents")
    assert (found["state"], codes) == ("OK", set())
    kept = host.check_output(f"sha256sum < '{CANARY}'")
    assert host.check_output(f"head -c 8 '{CANARY}'") == "%PDF-1.4"
    host.check_output(
        f"openssl enc -aes-256-cbc -pbkdf2 -iter 1 -k x -in '{CANARY}' -out /root/x && cat /root/x > '{CANARY}'"
    )
    changed = host.check_output(f"sha256sum < '{CANARY}'")
    assert changed != kept, "the fault did not land"
    found, codes = run(host, "documents")
    assert (found["state"], codes, found["holds"]) == ("INCOMPLETE", {"suspect_canary"}, ["suspect"])
    # site.yml leaves it, and says so
    assert "this canary is changed" in " ".join(converge().split())
    assert host.check_output(f"sha256sum < '{CANARY}'") == changed
    host.check_output(f"rm /root/x '{CANARY}'")
    assert run(host, "documents")[1] == {"suspect_canary"}
    clear(host, "documents")
    converge()
    assert host.check_output(f"sha256sum < '{CANARY}'") == kept
    assert run(host, "documents")[0]["state"] == "OK"
