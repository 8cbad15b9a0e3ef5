# SPDX-License-Identifier: Apache-2.0
"""What a host tells for the recovery kit."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import recovery_facts as facts


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("restic 0.18.0 compiled with go1.24.4 on linux/amd64\n", "0.18.0"),
        ("restic-rest-server 0.13.0 (dev) compiled with go1.24", "0.13.0"),
        ("postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)\n", "17.12"),
        ("btrfs-progs v6.14\n", "6.14"),
        ("Python 3.13.5\n", "3.13.5"),
        ("no number", ""),
    ],
)
def test_versions_are_found_in_what_programs_say(said, version):
    assert facts.version_in(said) == version


@pytest.mark.parametrize(
    ("status", "engine"),
    [
        ({"tools": {"engine": "postgresql 17.12"}}, "postgresql 17.12"),
        ({"tools": {"engine": None}}, ""),
        ({"tools": None}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_the_engine_is_what_the_last_backup_met(status, engine):
    assert facts.engine_in(status) == engine


def host(root):
    for folder in (
        "etc/holdfast",
        "usr/bin",
        "usr/lib/postgresql/17/bin",
        "usr/lib/postgresql/16/bin",
        "var/lib/holdfast/status",
    ):
        (root / folder).mkdir(parents=True)
    (root / "etc/os-release").write_text('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n')
    (root / "etc/holdfast/repository.json").write_text(json.dumps({"id": "ab" * 32}))
    (root / "usr/bin/restic").write_bytes(b"the program")
    for version in ("16", "17"):
        (root / f"usr/lib/postgresql/{version}/bin/postgres").write_bytes(version.encode())
    (root / "var/lib/holdfast/status/clinical_db.json").write_text(
        json.dumps({"tools": {"engine": "postgresql 17.12"}})
    )
    (root / "var/lib/holdfast/status/documents.json").write_text("{ damaged")
    return root


def run(argv):
    if argv[0] == "dpkg-query" and argv[1] == "--search":
        return (0, f"restic: {argv[2]}\n") if argv[2].endswith("restic") else (1, "no path found")
    if argv[0] == "dpkg-query":
        return 0, "restic 0.18.0-1+b2"
    return 0, "restic 0.18.0" if argv[0].endswith("restic") else f"postgres (PostgreSQL) {argv[0].split('/')[-3]}.1"


def test_a_host_tells_its_tools_with_versions_packages_and_checksums(tmp_path):
    found = facts.gather(run, str(host(tmp_path)))
    assert found["os"] == "Debian GNU/Linux 13 (trixie)"
    assert found["engines"] == {"clinical_db": "postgresql 17.12"}
    assert found["repository_id"] == "ab" * 32
    assert found["programs"][0] == {
        "name": "restic",
        "path": "/usr/bin/restic",
        "version": "0.18.0",
        "package": "restic 0.18.0-1+b2",
        "sha256": hashlib.sha256(b"the program").hexdigest(),
    }
    assert [(row["version"], row["package"]) for row in found["programs"][1:]] == [("16.1", ""), ("17.1", "")]


def test_a_bare_host_tells_what_it_has(tmp_path):
    found = facts.gather(lambda _argv: (127, ""), str(tmp_path))
    assert (found["os"], found["programs"], found["engines"], found["repository_id"]) == ("", [], {}, None)


def test_what_is_no_id_is_not_taken_for_one(tmp_path):
    (tmp_path / "etc/holdfast").mkdir(parents=True)
    (tmp_path / "etc/holdfast/repository.json").write_text(json.dumps({"id": "../../etc"}))
    assert facts.gather(run, str(tmp_path))["repository_id"] is None
