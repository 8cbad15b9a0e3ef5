"""Evidence on real machines: signed by people, published on the NAS, two clocks, and verified by a stranger's machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

REPO = Path(__file__).resolve().parents[3]
HEADS = "/srv/holdfast/evidence"
LATE = "/root/late"


def heads_file(practice):
    """Where the NAS keeps the heads of this ledger, which is named after its first record."""
    first = json.loads((practice.folder / "evidence/ledger.jsonl").read_text().splitlines()[0])
    return f"{HEADS}/heads-harbour-street-{first['hash'][:12]}.txt"


def sign_off(practice, *options, result="PASS"):
    said = ["-e", "item=documents", "-e", 'by="Robin Example"', "-e", 'what="one folder, back from a deletion"']
    return practice.play("sign_off.yml", *said, "-e", f"result={result}", *options)


@pytest.fixture
def late_nas(practice, hosts):
    """A NAS whose clock is two hours ahead for what Ansible runs there; the machines share one clock that cannot be set."""
    nas = hosts["nas1"]
    shift = "import time; real = time.time; time.time = lambda: real() + 7200"
    nas.check_output(f"mkdir -p {LATE} && echo '{shift}' > {LATE}/sitecustomize.py")
    nas.check_output(
        f"printf '#!/bin/sh\\nPYTHONPATH={LATE} exec /usr/bin/python3 \"$@\"\\n' > {LATE}/python && chmod 755 {LATE}/python"
    )
    variables = practice.folder / "host_vars/nas1.yml"
    variables.write_text(f"ansible_python_interpreter: {LATE}/python\n")
    yield
    variables.unlink()
    nas.check_output(f"rm -r {LATE}")


def test_a_sign_off_is_a_record_with_two_clocks_and_is_published_when_the_nas_takes_it(practice, hosts, late_nas):
    nas = hosts["nas1"]
    known = len(practice.records())
    # a file where the folder belongs: what cannot be published is red, and the record is kept
    nas.check_output(f"mv {HEADS} {HEADS}-kept && touch {HEADS}")
    try:
        done = sign_off(practice)
    finally:
        nas.check_output(f"rm {HEADS} && mv {HEADS}-kept {HEADS}")
    assert done.returncode == 2, done.stdout[-3000:]
    assert "its head was not published in nas1" in " ".join(done.stdout.split())
    record = practice.records()[-1]
    assert len(practice.records()) == known + 1
    assert (record["kind"], record["body"]["by"], record["body"]["verdict"]) == ("sign_off", "Robin Example", "PASS")
    assert record["clocks"]["skewed"] == ["nas1"]
    assert 7100 < record["clocks"]["seen"]["nas1"]["skew_s"] < 7300
    assert "the clock of nas1 was 7" in practice.verify_evidence().stdout
    # the next record brings the head that is missing
    done = sign_off(practice, result="FAIL")
    assert done.returncode == 0, done.stdout[-3000:]
    kept = nas.check_output(f"cat {heads_file(practice)}").splitlines()
    assert [int(line.split()[2]) for line in kept] == list(range(1, known + 3))
    said = " ".join(practice.play("report.yml").stdout.split())
    assert "latest.html" in said
    page = (practice.folder / "reports/latest.html").read_text()
    assert "one folder, back from a deletion" in page
    assert f"The head of all {known + 2} records is published: nas1." in page.replace("\u202f", " ")


def test_a_strangers_machine_verifies_and_finds_what_the_key_alone_could_hide(practice, hosts, tmp_path):
    """desk1, a Debian machine, as nobody: its own Python without any package of ours, ssh-keygen, and one copied file."""
    stranger, place = hosts["desk1"], "/var/tmp/stranger"
    files = {
        "verify.py": REPO / "plugins/module_utils/evidence.py",
        "evidence/ledger.jsonl": practice.folder / "evidence/ledger.jsonl",
        "signers": practice.folder / "evidence_signers",
    }
    published = hosts["nas1"].check_output(f"cat {heads_file(practice)}")
    assert stranger.run("python3 -c 'import ansible'").rc != 0
    assert stranger.run("python3 -c 'import pydantic'").rc != 0
    stranger.check_output(f"rm -rf {place} && mkdir -p {place}/evidence")
    for name, path in files.items():
        put(stranger, f"{place}/{name}", path.read_text())
    put(stranger, f"{place}/heads", published + "\n")
    command = f"cd / && runuser -u nobody -- python3 -I {place}/verify.py {place}/evidence --signers {place}/signers"
    try:
        good = stranger.run(f"{command} --published {place}/heads")
        assert good.rc == 0, good.stdout + good.stderr
        assert f"{len(practice.records())} published heads are in the chain" in good.stdout
        # cut at its end: whole in itself, and found against what the NAS kept
        stranger.check_output(f"sed -i '$d' {place}/evidence/ledger.jsonl")
        assert stranger.run(command).rc == 0
        cut = stranger.run(f"{command} --published {place}/heads")
        assert (cut.rc, f"record {len(practice.records())} was published" in cut.stdout) == (1, True), cut.stdout
    finally:
        stranger.check_output(f"rm -rf {place}")


def put(host, path, content, mode="0644"):
    done = host.run(f"install -m {mode} /dev/stdin {path} <<'HOLDFAST_END'\n{content.rstrip()}\nHOLDFAST_END")
    assert done.rc == 0, done.stderr
