# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: the lab's machines, restic as a host uses it, and proofs of a copy of the practice."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
ADDRESSES = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
# labs side by side must not take each other's machines away
RESTORES = Path(f"/var/lib/holdfast/restore-faults-{Path(os.environ.get('HOLDFAST_LAB_FOLDER', 'none')).name}")
LETTERS = "/srv/clinic/documents/letters"
REPOSITORY = "/srv/holdfast/repositories/server1"
RESTIC = """
cd / && c=/etc/holdfast/credentials
export RESTIC_REPOSITORY=rest:https://198.18.0.11:8000/server1/ RESTIC_PASSWORD_FILE=$c/repository-password
export RESTIC_REST_USERNAME=$(cat $c/rest-username) RESTIC_REST_PASSWORD=$(cat $c/rest-password)
restic() { command restic --cacert /etc/holdfast/nas.pem --no-cache "$@"; }
set -eu
"""


def ssh(host: str, script: str, stdin: str | None = None) -> str:
    folder = os.environ["HOLDFAST_LAB_FOLDER"]
    options = ["-i", f"{folder}/ssh_key", "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "BatchMode=yes"]
    command = ["ssh", *options, f"root@{ADDRESSES[host]}", script]
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{host}: {done.stderr[-2000:]}"
    return done.stdout


@dataclass
class Proof:
    code: int
    body: dict
    output: str

    def codes(self, item: str = "clinical_db") -> set[str]:
        return {reason["code"] for each in self.body["items"] if each["item"] == item for reason in each["reasons"]}

    def level(self, name: str, item: str = "clinical_db") -> dict:
        return next(each["levels"][name] for each in self.body["items"] if each["item"] == item)


@dataclass
class Maintenance:
    code: int
    body: dict
    output: str

    def removed(self, job: str) -> set[str]:
        return {run["run"] for run in self.body["removed"] if run.get("job") == job}

    def doubts(self, host: str = "server1") -> list[str]:
        return [doubt["code"] for doubt in self.body["hosts"][host]["doubts"]]


@dataclass
class Practice:
    folder: Path

    def play(self, playbook: str, *options: str) -> tuple[int, str, list[dict]]:
        """Run a playbook, ours by its name or another by its path: how it ended, what it said, what it added to the evidence."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
        environment["ANSIBLE_CALLBACKS_ENABLED"] = "holdfast.practice.verdict"
        command = [str(REPO / ".venv/bin/ansible-playbook"), "-i", str(self.folder)]
        command.append(playbook if playbook.startswith("/") else f"playbooks/{playbook}.yml")
        command += ["--vault-id", f"harbour-street@{self.folder}/.vault-password"]
        command += ["-e", f"restore_host_root={RESTORES}", *options]
        ledger = self.folder / "evidence/ledger.jsonl"
        before = len(ledger.read_text().splitlines()) if ledger.exists() else 0
        done = subprocess.run(command, cwd=REPO, env=environment, text=True, capture_output=True, check=False)
        records = ledger.read_text().splitlines()[before:] if ledger.exists() else []
        assert not (RESTORES / "harbour-street").exists(), (
            "the machine was left behind: " + done.stdout[-6000:] + done.stderr[-2000:]
        )
        return done.returncode, done.stdout + done.stderr, [json.loads(line)["record"] for line in records]

    def prove(self, *options: str, items: str = "clinical_db") -> Proof:
        code, output, records = self.play("prove", "-e", f"items={items}", *options)
        assert len(records) == 1, output[-6000:]
        return Proof(code, records[0]["body"], output)

    def maintain(self, *options: str) -> Maintenance:
        code, output, records = self.play("maintain", *options)
        assert [record["kind"] for record in records] == ["retention"], output[-6000:]
        return Maintenance(code, records[0]["body"], output)
