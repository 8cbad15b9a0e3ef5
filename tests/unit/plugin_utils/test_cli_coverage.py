# SPDX-License-Identifier: Apache-2.0
"""bin/holdfast coverage: the table of a folder, and the code it ends with."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import evidence
from ansible_collections.holdfast.practice.plugins.plugin_utils import cli

REPOSITORY = Path(cli.__file__).resolve().parents[2]
LEVEL = {"verdict": "PASS", "checked": 3, "reasons": []}
ITEMS = {
    "clinical_db": ("server1", ["arrival", "structure", "files", "database"]),
    "documents": ("server1", ["arrival", "structure", "files"]),
    "desk_files": ("desk1", ["arrival", "structure", "files"]),
}


@pytest.fixture
def folder(tmp_path):
    shutil.copy(REPOSITORY / "tests/unit/documents/small.txt", tmp_path / "practice.yml")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    public = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    signers = tmp_path / "evidence_signers"
    signers.write_text(f'harbour-street namespaces="holdfast-evidence" {public}\n', encoding="ascii")
    return tmp_path


def proven(folder, names=tuple(ITEMS)):
    rows = [
        {
            "item": name,
            "host": ITEMS[name][0],
            "copy": "onsite",
            "which": "newest",
            "class": "hourly",
            "kept": {"hourly": 1},
            "verdict": "PASS",
            "snapshots": {"oracle": "a" * 64},
            "levels": dict.fromkeys(ITEMS[name][1], LEVEL),
            "figures": {"types": {"pdf": 7}},
        }
        for name in names
    ]
    key = evidence.SigningKey((folder / "key").read_text())
    evidence.Ledger(str(folder / "evidence")).append("harbour-street", "proof", {"items": rows}, key)


def run(folder, *options):
    return cli.main(["coverage", str(folder), *options], REPOSITORY)


def test_what_is_proven_is_said_and_ends_with_0(folder, capsys):
    proven(folder)
    assert run(folder) == 0
    said = capsys.readouterr().out
    assert "proven within 180 days" in said
    assert "hourly: 1 kept" in said
    assert "RED" not in said


@pytest.mark.parametrize("names", [(), ("clinical_db", "documents")])
def test_what_was_never_proven_ends_with_1(folder, capsys, names):
    if names:
        proven(folder, names)
    assert run(folder) == 1
    assert "RED: never" in capsys.readouterr().out


def test_evidence_that_was_changed_counts_for_nothing(folder, capsys):
    proven(folder)
    ledger = folder / "evidence/ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"checked":3', b'"checked":4', 1))
    assert run(folder, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert "does not count" in found["evidence"]
    assert found["counts"]["ok"] == 0


def test_json_has_every_cell(folder, capsys):
    proven(folder)
    assert run(folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len([cell for cell in found["cells"] if cell["class"] == "hourly"]) == 4 + 3 + 3
    assert {cell["class"] for cell in found["cells"]} == {"hourly", "daily", "weekly", "monthly", "yearly"}
    assert found["types"][0]["type"] == "pdf"


def test_a_refused_document_is_said(tmp_path, capsys):
    (tmp_path / "practice.yml").write_text("practice: {id: x}\n")
    assert run(tmp_path) == 3
    assert "hosts" in capsys.readouterr().out
