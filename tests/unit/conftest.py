"""What unit tests share: a practice with real secrets, to make recovery kits of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, get_file_vault_secret
from ansible_collections.holdfast.practice.plugins.plugin_utils import recovery_kit, secrets
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import load, load_inventory

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = (REPOSITORY / "tests" / "unit" / "documents" / "small.txt").read_text()
OWNER = "email: manager@harbour-street.example}"
FACTS = {
    "server1": {
        "os": "Debian GNU/Linux 13 (trixie)",
        "machine": "x86_64",
        "programs": [
            {
                "name": "restic",
                "path": "/usr/bin/restic",
                "version": "0.18.0",
                "package": "restic 0.18.0-1",
                "sha256": "ab" * 32,
            }
        ],
        "engines": {"clinical_db": "postgresql 17.12"},
        "repository_id": "6e7f60a8" + "0" * 56,
    }
}


@dataclass
class Trial:
    """A practice's folder, and the key of its owner."""

    folder: Path
    owner: Any

    @property
    def vault(self) -> dict[str, Any]:
        secret = get_file_vault_secret(
            filename=str(self.folder / secrets.PASSWORD_FILE), vault_id="harbour-street", loader=DataLoader()
        )
        secret.load()
        raw = (self.folder / secrets.VAULT_FILE).read_bytes()
        return yaml.safe_load(VaultLib([("harbour-street", secret)]).decrypt(raw))

    def telling(self) -> dict[str, str]:
        """Every secret by its place: the part of it that is like no other."""
        found = {"password of the vault": (self.folder / secrets.PASSWORD_FILE).read_text().strip()}
        for variable, value in self.vault.items():
            if variable != "vault_practice_id":
                for name, secret in value.items() if isinstance(value, dict) else [("", value)]:
                    found[f"{variable}.{name}"] = secret.splitlines()[-2] if "\n" in secret else secret
        return found

    def sources(self, **more: Any) -> recovery_kit.Sources:
        vault = self.vault
        given = {
            "inventory": load_inventory(self.folder / "practice.yml"),
            "document": (self.folder / "practice.yml").read_text(),
            "signers": (self.folder / "evidence_signers").read_text(),
            "secrets": {name: vault[name] for name in recovery_kit.SECRETS},
            "facts": FACTS,
            "version": "0.2.0",
            "commit": "c0ffee",
            "made": "2026-11-22T08:00:00Z",
        }
        return recovery_kit.Sources(**{**given, **more})


def with_reader(text: str, reader: Any) -> str:
    assert OWNER in text
    return text.replace(OWNER, f"{OWNER[:-1]}, recipient: {reader}}}", 1)


def make(folder: Path, *edits: tuple[str, str]) -> Trial:
    owner = pyrage.x25519.Identity.generate()
    text = with_reader(EXAMPLE, owner.to_public())
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    folder.mkdir(exist_ok=True)
    (folder / "practice.yml").write_text(text)
    practice, _ = load(folder / "practice.yml")
    secrets.apply(folder, practice, None, create_password=True)
    return Trial(folder, owner)


@pytest.fixture(scope="session")
def make_practice():
    """make(folder, *edits): the example practice with secrets and a reader for its kit; edits are (old, new) of its text."""
    return make


@pytest.fixture(scope="session")
def trial(tmp_path_factory):
    """One such practice that no test changes."""
    return make(tmp_path_factory.mktemp("practices") / "harbour-street")
