# SPDX-License-Identifier: Apache-2.0
"""What every start of Ansible pays for: reading a practice loads what that needs, and no more. Figures are in benchmarks/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES
from ansible_collections.holdfast.practice.plugins.plugin_utils import compiler

REPOSITORY = Path(__file__).resolve().parents[3]
LOAD = """
import sys
from pathlib import Path
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import load_inventory
load_inventory(Path(sys.argv[1]))
print(*sys.modules, sep="\\n")
"""
OURS = "ansible_collections.holdfast.practice.plugins"


@pytest.fixture(scope="module")
def loaded():
    result = subprocess.run(
        [sys.executable, "-c", LOAD, REPOSITORY / "inventories" / "harbour-street" / "practice.yml"],
        env={"PYTHONPATH": str(REPOSITORY / ".collections")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


def test_what_is_needed_is_loaded(loaded):
    assert {"pydantic", "yaml", f"{OURS}.plugin_utils.compiler", f"{OURS}.plugin_utils.rules"} <= loaded


@pytest.mark.parametrize(
    "name",
    [
        *(
            "difflib",
            "sqlite3",
            "cryptography",
            "bcrypt",
            "paramiko",
            "pyrage",
            "ansible.constants",
            "subprocess",
            "asyncio",
        ),
        *(
            f"{OURS}.plugin_utils.{name}"
            for name in ("secrets", "report", "across", "explain", "survey", "recovery_kit", "feasibility")
        ),
        *(f"{OURS}.module_utils.{name}" for name in ("engines", "agent", "agent_files", "evidence")),
    ],
)
def test_what_is_not_needed_is_not(loaded, name):
    assert name not in loaded


def test_the_restore_machine_gets_what_each_engine_asks_for():
    assert {name: tuple(engine.packages) for name, engine in ENGINES.items()} == {
        name: tuple([packages] if isinstance(packages, str) else packages)
        for name, packages in compiler.RESTORE_PACKAGES.items()
    }
