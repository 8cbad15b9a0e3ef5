# SPDX-License-Identifier: Apache-2.0
"""Show what was proven when, and what never was: each item, copy, class of runs and level, from the evidence alone.

Needs no vault and touches no host. Ends with 1 when anything is overdue, failed or was never proven, or when the evidence is
not genuine and whole.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
from pathlib import Path

from ansible_collections.holdfast.practice.plugins.plugin_utils import coverage
from ansible_collections.holdfast.practice.plugins.plugin_utils.cli import INVALID
from ansible_collections.holdfast.practice.plugins.plugin_utils.folder import (
    DOCUMENT,
    InvalidPracticeError,
    load_inventory,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.report_sources import read_ledger

NOT_COVERED = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("folder", metavar="PRACTICE_FOLDER", help="the folder that holds practice.yml and evidence/")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object")


def run(options: argparse.Namespace) -> int:
    """Show the table; returns the exit code."""
    given = Path(options.folder)
    path = given / DOCUMENT if given.is_dir() else given
    try:
        known = load_inventory(path).all_vars
    except InvalidPracticeError as error:
        print(*error.problems, sep="\n")
        return INVALID
    folder = Path(os.path.realpath(path)).parent
    records, ledger = read_ledger(folder / "evidence", folder / "evidence_signers", known["practice_id"])
    found = coverage.coverage(known["practice_summary"], records, dt.datetime.now(dt.UTC))
    trouble = _trouble(ledger, folder)
    if options.json:
        print(json.dumps({"practice": known["practice_id"], "evidence": trouble or "ok", **found}, indent=2))
    else:
        print(f"{known['practice_name']} ({known['practice_id']})", *coverage.words(found), sep="\n")
        if trouble:
            print(f"evidence: {trouble}")
    return NOT_COVERED if trouble or found["state"] == "bad" else 0


def _trouble(ledger: dict[str, object], folder: Path) -> str:
    """Say what is wrong with the evidence; nothing when it is whole, or when there is none yet (the table says that)."""
    if ledger["error"]:
        return str(ledger["error"])
    if ledger["broken"]:
        check = f"bin/holdfast verify-evidence {folder}/evidence --signers {folder}/evidence_signers"
        return f"record {ledger['count']} is the last that holds; what comes after it does not count: {check}"
    return ""
