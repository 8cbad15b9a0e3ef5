"""A new practice on bare machines, as a person begins it: the interview, then what it says to do, word for word."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
NEW = str(REPO / "bin/holdfast")
ANSWERS = """
name: Hill Road Surgery
country: "AU"
timezone: Australia/Sydney
manager: {{name: Robin Example, email: manager@hill-road.example}}
provider: {{name: Example IT, email: help@it.example}}
hours: {{mon-fri: "08:00-18:30", sat: "09:00-12:00"}}
nas: {{address: 198.18.0.11, disks: [/dev/disk/by-id/lab-nas1-a, /dev/disk/by-id/lab-nas1-b]}}
servers:
  - name: server1
    address: 198.18.0.12
    databases:
      - {{engine: postgresql, name: clinic, images: {{query: select path from image, root: /srv/clinic/images}}}}
    folders: [/srv/clinic/documents]
workstations:
  - {{name: desk1, address: 198.18.0.13, folders: [/home/reception/Documents]}}
ups:
  - {{driver: dummy-ups, runtime: 10m}}
access: {{key: {key}}}
"""
# question, as far as it is the same for everybody, and what is typed; a wrong answer is among them
TALK = [
    ("Name of the practice: ", "Hill Road Surgery"),
    ("Short name (id) [hill-road]: ", ""),
    ("Country, two letters: ", "AU"),
    ("Time zone [", "Australia/Sydney"),
    ("Practice manager's name: ", "Robin Example"),
    ("Practice manager's mail address: ", "manager@hill-road.example"),
    ("IT provider [none]: ", "Example IT"),
    ("IT provider's mail address: ", "help@it.example"),
    ("Opening hours [", "mon-fri 08:00-18:30, sat 09:00-12:00"),
    ("Name [nas1]: ", ""),
    ("Address: ", "198.18.0.256"),
    ("is not an IP address", None),
    ("Address: ", "198.18.0.11"),
    ("Disks for backups, with commas: ", "/dev/disk/by-id/lab-nas1-a, /dev/disk/by-id/lab-nas1-b"),
    ("Name [server1]: ", ""),
    ("Address: ", "198.18.0.12"),
    ("Database engine [postgresql]: ", ""),
    ("Name of the database: ", "clinic"),
    ("Folder of the images it names [none]: ", "/srv/clinic/images"),
    ("Query that lists their paths: ", "select path from image"),
    ("Another database engine [none]: ", ""),
    ("Folders to protect, with commas [none]: ", "/srv/clinic/documents"),
    ("Name [none]: ", ""),
    ("Name [desk1]: ", ""),
    ("Address: ", "198.18.0.13"),
    ("Folders to protect, with commas: ", "/home/reception/Documents"),
    ("Name [none]: ", ""),
    ("Is there a UPS [yes]: ", ""),
    ("Driver [usbhid-ups]: ", "dummy-ups"),
    ("Its data cable goes to [nas1]: ", ""),
    ("It feeds, with commas [nas1, server1, desk1]: ", ""),
    ("Minutes on battery with all of them [10]: ", ""),
    ("Is there another UPS [no]: ", ""),
    ("SSH user [root]: ", ""),
    ("SSH key [generate]: ", "{key}"),
    ("Write this [yes]: ", ""),
]
ASKED = "Do all of them match what the machines' own consoles print? (yes or no) "


@pytest.fixture(scope="session")
def lab():
    return Path(os.environ["HOLDFAST_LAB_FOLDER"])


@pytest.fixture(scope="session")
def folder(lab):
    """Where the practices of this scenario are made; there is nothing of an earlier run."""
    folder = lab / "onboarding"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="session")
def fingerprints(lab):
    """What the machines' own consoles would print: their makers pinned their keys before they were started."""
    by_address = {"198.18.0.11": "nas1", "198.18.0.12": "server1", "198.18.0.13": "desk1"}
    printed = subprocess.run(
        ["ssh-keygen", "-lf", lab / "known_hosts"], text=True, capture_output=True, check=True
    ).stdout.splitlines()
    found = {by_address[line.split()[2]]: line.split()[1] for line in printed}
    assert len(found) == 3
    return found


def environment():
    """A person's own: without Molecule's configuration, and without the checkout's programs on the way."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_", "VIRTUAL_ENV"))}
    own = str(REPO / ".venv/bin")
    kept["PATH"] = ":".join(part for part in kept["PATH"].split(":") if part != own)
    return kept


def run(*command, **extra):
    return subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env=environment(),
        text=True,
        capture_output=True,
        check=False,
        **extra,
    )


class Person:
    """Somebody at a terminal."""

    def __init__(self, *command):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir("/")
            os.execve(command[0], [str(part) for part in command], environment())
        self.unread = b""

    def reads_until(self, words):
        """Read the screen up to these words; returns what came before them."""
        end = time.monotonic() + 60
        while words.encode() not in self.unread:
            assert time.monotonic() < end, f"waited for {words!r}; the screen says {self.unread.decode()!r}"
            if select.select([self.terminal], [], [], 1)[0]:
                self.unread += os.read(self.terminal, 4096)
        before, self.unread = self.unread.split(words.encode(), 1)
        return before.decode()

    def types(self, line):
        os.write(self.terminal, f"{line}\n".encode())

    def leaves(self):
        """Read to the end; returns the rest and the exit code."""
        rest = self.unread
        while True:
            try:
                more = os.read(self.terminal, 4096)
            except OSError:  # how Linux says that the other end is closed
                more = b""
            if not more:
                break
            rest += more
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.terminal)
        return rest.decode().replace("\r\n", "\n"), code


def test_the_interview_at_a_terminal(lab, folder, fingerprints):
    (folder / "talk").mkdir()
    person = Person(NEW, "new", folder / "talk/hill-road")
    for question, answer in TALK:
        person.reads_until(question)
        if answer is not None:
            person.types(answer.format(key=lab / "ssh_key"))
    shown = person.reads_until(ASKED)
    # what a person does at each console
    assert dict(re.findall(r"^  (\S+) .* (SHA256:\S+) \(ED25519\)", shown, re.MULTILINE)) == fingerprints
    person.types("yes")
    rest, code = person.leaves()
    assert code == 0, rest
    assert "bin/holdfast pin" not in rest
    made = folder / "talk/hill-road"
    pinned = run("ssh-keygen", "-lf", made / "known_hosts").stdout.splitlines()
    assert {line.split()[1] for line in pinned} == set(fingerprints.values())


@pytest.fixture(scope="session")
def made(lab, folder, fingerprints):
    """A practice made from a file of answers and a list of fingerprints; gives what was said."""
    (folder / "answers.yml").write_text(ANSWERS.format(key=lab / "ssh_key"))
    (folder / "expected").write_text("".join(f"{name} {each}\n" for name, each in fingerprints.items()))
    done = run(NEW, "new", folder / "hill-road", "--answers", folder / "answers.yml", "--expect", folder / "expected")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_answers_from_a_file_make_the_same_document(folder, made):
    assert (folder / "hill-road/practice.yml").read_bytes() == (folder / "talk/hill-road/practice.yml").read_bytes()


def commands(said):
    block = said[said.index("\nNext, ") :]
    return [line.strip() for line in block.splitlines() if line.startswith("  ") and not line.startswith("  #")]


def test_what_was_printed_leads_to_the_first_pass(folder, made):
    told = commands(made)
    assert [re.findall(r"playbooks/(\w+)\.yml", line) for line in told if "playbooks/" in line] == [
        ["survey"], ["site"], ["site"], ["backup"], ["prove"], ["report"]
    ]  # fmt: skip
    # in one shell, each line as it stands, until one fails
    script = "".join(f"echo {shlex.quote(f'=== {line}')}\n{line}\n" for line in told)
    done = run("bash", "-e", "-c", script)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
    assert re.findall(r"^=== (.*)$", done.stdout, re.MULTILINE) == told
    practice = folder / "hill-road"
    records = [json.loads(line)["record"] for line in (practice / "evidence/ledger.jsonl").read_text().splitlines()]
    proofs = [record["body"] for record in records if record["kind"] == "proof"]
    assert [proof["verdict"] for proof in proofs] == ["PASS"]
    assert {item["item"] for item in proofs[0]["items"]} == {"clinic_db", "server1_files", "desk1_files"}
    assert all(level["checked"] > 0 for item in proofs[0]["items"] for level in item["levels"].values())
    assert (practice / "reports/latest.html").is_file()


def test_the_survey_before_anything_was_there_saw_the_data(folder, made):
    survey = json.loads((folder / "hill-road/results/survey.json").read_text())
    assert survey["practice"] == "hill-road"
    assert {name for name, host in survey["hosts"].items() if host["reached"]} >= {"nas1", "server1", "desk1"}
    found = {each["name"] or each["path"] for each in survey["hosts"]["server1"]["databases"]}
    assert {"clinic", "orthanc", "/srv/recalls/recalls.db", "/srv/lab/results.fdb"} <= found


def test_the_record_is_verified_by_the_key_that_was_made(folder, made):
    practice = folder / "hill-road"
    done = run(NEW, "verify-evidence", practice / "evidence", "--signers", practice / "evidence_signers")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_machine_with_another_key_is_an_alarm_until_a_person_says_otherwise(lab, folder, made, fingerprints):
    practice = folder / "hill-road"
    assert run(NEW, "pin", practice, "--check").returncode == 0
    before = (practice / "known_hosts").read_bytes()
    ssh = [
        "ssh",
        "-i",
        lab / "ssh_key",
        "-o",
        f"UserKnownHostsFile={lab}/known_hosts",
        "-o",
        "StrictHostKeyChecking=yes",
    ]
    anew = "rm /etc/ssh/ssh_host_*_key* && ssh-keygen -q -A && systemctl restart ssh"
    anew += " && ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
    done = run(*ssh, "-o", "ControlMaster=no", "root@198.18.0.13", anew)
    assert done.returncode == 0, done.stderr
    fresh = re.findall(r"SHA256:\S+", done.stdout)[-1]
    assert fresh != fingerprints["desk1"]
    for options in (["--check"], ["--yes"]):
        alarm = run(NEW, "pin", practice, *options)
        assert alarm.returncode == 1, alarm.stdout
        assert f"pinned  {fingerprints['desk1']}" in alarm.stdout
        assert f"shown   {fresh}" in alarm.stdout
        assert (practice / "known_hosts").read_bytes() == before
    expected = folder / "seen_on_the_console"
    expected.write_text(f"desk1 {fresh}\n")
    replaced = run(NEW, "pin", practice, "--replace", "desk1", "--expect", expected)
    assert replaced.returncode == 0, replaced.stdout + replaced.stderr
    assert run(NEW, "pin", practice, "--check").returncode == 0
