"""What the practice's tests share: running playbooks as an operator would, and reading what they left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes the practice apart comes after everything that needs it whole."""
    items.sort(key=lambda item: item.path.stem == "test_retiring")


@dataclass(frozen=True)
class Practice:
    """The example practice on the lab's machines."""

    folder: Path
    lab: str
    lab_folder: Path

    @property
    def restores(self) -> Path:
        """Where this lab's proofs make their machines."""
        return Path(f"/var/lib/holdfast/restore-{self.lab}")

    def play(self, playbook: str, *options: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a playbook of ours; output and errors come back as text."""
        inventory = folder or self.folder
        command = ["ansible-playbook", "-i", str(inventory), "--vault-id"]
        command += [f"harbour-street@{self.folder}/.vault-password", f"playbooks/{playbook}", *options]
        # Molecule exports its own configuration to its children; an operator has the project's
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
        return subprocess.run(command, cwd=REPO, env=environment, text=True, capture_output=True, check=False)

    def secrets(self) -> dict[str, str]:
        """Every secret value of the practice's vault, named by its place."""
        vault_id = f"harbour-street@{self.folder}/.vault-password"
        view = ["ansible-vault", "view", "--vault-id", vault_id, str(self.folder / "group_vars/all/vault.yml")]
        viewed = subprocess.run(view, text=True, capture_output=True, check=True)
        import yaml

        found: dict[str, str] = {}
        for key, value in yaml.safe_load(viewed.stdout).items():
            if key == "vault_practice_id":
                continue
            entries = value if isinstance(value, dict) else {"": value}
            found.update({f"{key}.{name}": str(secret) for name, secret in entries.items()})
        assert len(found) >= 6
        return found

    def records(self) -> list[dict]:
        """The evidence ledger's records, oldest first."""
        lines = (self.folder / "evidence/ledger.jsonl").read_text().splitlines()
        return [json.loads(line)["record"] for line in lines]

    def verify_evidence(self, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the offline verifier with a Python that sees nothing but its own library."""
        command = [sys.executable, "-I", "-S", str(REPO / "bin/holdfast"), "verify-evidence"]
        command += [str(folder or self.folder / "evidence"), "--signers", str(self.folder / "evidence_signers")]
        return subprocess.run(command, text=True, capture_output=True, check=False)


@pytest.fixture(scope="session")
def practice() -> Practice:
    return Practice(
        Path(os.environ["HOLDFAST_PRACTICE"]), os.environ["HOLDFAST_LAB"], Path(os.environ["HOLDFAST_LAB_FOLDER"])
    )


@pytest.fixture(scope="session")
def hosts() -> dict:
    """The three machines, over ssh with pinned host keys."""
    import testinfra

    folder = os.environ["HOLDFAST_LAB_FOLDER"]
    options = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes -o ControlMaster=no"
    addresses = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
    return {
        name: testinfra.get_host(f"ssh://root@{address}", ssh_identity_file=f"{folder}/ssh_key", ssh_extra_args=options)
        for name, address in addresses.items()
    }
