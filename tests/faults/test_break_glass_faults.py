# SPDX-License-Identifier: Apache-2.0
"""A break-glass rehearsal names what would stop a person: a key, a secret, a tool. Each fault is seen to have landed first.

Needs a furnished, converged lab with a backup, and root inside the lab's network namespace, as test_prove_faults.py does.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults_lab import REPO, RESTORES, ssh

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")

IMAGES = Path("/var/cache/holdfast/images")


@dataclass
class Rehearsal:
    """How a rehearsal ended, and its record."""

    code: int
    body: dict
    output: str

    def codes(self) -> set[str]:
        rows = [*self.body["reasons"], *(reason for item in self.body["items"] for reason in item["reasons"])]
        return {row["code"] for row in rows}

    def said(self) -> str:
        return json.dumps(self.body)


@dataclass
class Kit:
    """A copy of the practice with a sealed kit, and the key of its owner."""

    folder: Path
    place: Path
    owner: object

    def play(self, playbook: str, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
        command = [str(REPO / ".venv/bin/ansible-playbook"), "-i", str(self.folder), f"playbooks/{playbook}"]
        command += ["--vault-id", f"harbour-street@{self.folder}/.vault-password", *options]
        return subprocess.run(command, cwd=REPO, env=environment, text=True, capture_output=True, check=False)

    def key(self, owner: object, name: str) -> Path:
        path = self.place / name
        path.touch(mode=0o600)
        path.write_text(f"{owner}\n")
        return path

    def rehearse(self, *options: str, kit: Path | None = None, owner: object = None) -> Rehearsal:
        ledger = self.folder / "evidence/ledger.jsonl"
        before = len(ledger.read_text().splitlines()) if ledger.exists() else 0
        chosen = ["-e", f"identity={self.key(owner or self.owner, 'key')}", "-e", f"restore_host_root={RESTORES}"]
        chosen += ["-e", f"kit={kit}"] if kit else []
        done = self.play("break_glass.yml", *chosen, *options)
        records = ledger.read_text().splitlines() if ledger.exists() else []
        assert len(records) == before + 1, done.stdout[-4000:] + done.stderr[-2000:]
        record = json.loads(records[-1])["record"]
        assert record["kind"] == "break_glass"
        assert not (RESTORES / "harbour-street-break-glass").exists(), "the machine with the opened kit was left behind"
        return Rehearsal(done.returncode, record["body"], done.stdout + done.stderr)

    def changed(self, name: str, change: Callable[[dict[str, bytes]], None]) -> Path:
        """Another kit, sealed to the same owner: its files after a change."""
        import pyrage

        sealed = (self.folder / "recovery/latest.age").read_bytes()
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(sealed, [self.owner]))) as old,
            tarfile.open(fileobj=out, mode="w") as new,
        ):
            files = {each.name: old.extractfile(each).read() for each in old if each.isfile()}
            before = dict(files)
            change(files)
            assert files != before, "the fault did not land"
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(content), 0o600
                new.addfile(entry, io.BytesIO(content))
        path = self.place / name
        path.write_bytes(pyrage.encrypt(out.getvalue(), [self.owner.to_public()]))
        return path


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    import pyrage

    place = tmp_path_factory.mktemp("glass")
    folder = place / "harbour-street"
    # a ledger of its own: the practice's evidence stays what it is
    ignored = shutil.ignore_patterns("evidence", "results", "recovery")
    shutil.copytree(os.environ["HOLDFAST_PRACTICE"], folder, symlinks=True, ignore=ignored)
    owner = pyrage.x25519.Identity.generate()
    document = folder / "practice.yml"
    mail = "email: manager@harbour-street.example"
    assert mail in document.read_text()
    document.write_text(document.read_text().replace(mail, f"{mail}, recipient: {owner.to_public()}"))
    made = Kit(folder, place, owner)
    done = made.play("recovery_kit.yml")
    assert done.returncode == 0, done.stdout[-3000:]
    return made


ENV = "recovery-harbour-street/repositories/server1.env"


def without_password(files: dict[str, bytes]) -> None:
    lines = files[ENV].splitlines(keepends=True)
    files[ENV] = b"".join(line for line in lines if b"RESTIC_PASSWORD=" not in line)


def outdated_password(files: dict[str, bytes]) -> None:
    lines = files[ENV].splitlines(keepends=True)
    files[ENV] = b"".join(
        b"export RESTIC_PASSWORD=of-last-year\n" if b"RESTIC_PASSWORD=" in line else line for line in lines
    )


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        (without_password, "secret_missing", "the kit lacks RESTIC_PASSWORD of the repository of server1"),
        (
            outdated_password,
            "wrong_password",
            "repository of server1: the repository password in the kit does not open it",
        ),
    ],
)
def test_a_kit_whose_password_is_not_there_or_old_is_named(kit, fault, code, word):
    done = kit.rehearse(kit=kit.changed(f"{code}.age", fault))
    assert (done.code, done.body["verdict"], done.codes()) == (1, "FAIL", {code}), done.output[-3000:]
    assert word in done.said()


def test_the_key_of_somebody_else_is_named(kit):
    import pyrage

    done = kit.rehearse(owner=pyrage.x25519.Identity.generate())
    assert (done.code, done.body["verdict"], done.codes()) == (1, "FAIL", {"wrong_identity_key"}), done.output[-3000:]
    assert done.body["items"] == []


def test_a_damaged_kit_is_named(kit):
    sealed = bytearray((kit.folder / "recovery/latest.age").read_bytes())
    sealed[-100] ^= 1
    damaged = kit.place / "damaged.age"
    damaged.write_bytes(sealed)
    done = kit.rehearse(kit=damaged)
    assert (done.code, done.codes()) == (1, {"kit_damaged"}), done.output[-3000:]


def test_a_machine_without_restic_is_named(kit, tmp_path):
    image = max(IMAGES.glob("restore-*/image.json"), key=lambda path: path.stat().st_mtime)
    layers = json.loads(image.read_text())["layers"]
    assert any(Path(layer, "usr/bin/restic").exists() for layer in layers)
    # how an overlay hides a file of the layers below
    (tmp_path / "top/usr/bin").mkdir(parents=True)
    for folder in (tmp_path / "top", tmp_path / "top/usr", tmp_path / "top/usr/bin"):
        folder.chmod(0o755)
    os.mknod(tmp_path / "top/usr/bin/restic", 0o20000, os.makedev(0, 0))
    done = kit.rehearse("-e", json.dumps({"glass_layers": [str(tmp_path / "top"), *layers]}))
    assert (done.code, done.codes()) == (1, {"tool_missing"}), done.output[-3000:]
    assert "the program restic is not on the machine" in done.said()


def test_a_nas_that_is_off_is_not_judged(kit):
    ssh("nas1", "systemctl stop holdfast-rest-server")
    try:
        done = kit.rehearse()
    finally:
        ssh("nas1", "systemctl start holdfast-rest-server")
    assert (done.code, done.body["verdict"], done.codes()) == (2, "INCONCLUSIVE", {"nas_unreachable"}), done.output[
        -3000:
    ]
