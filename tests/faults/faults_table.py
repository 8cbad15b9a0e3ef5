# SPDX-License-Identifier: Apache-2.0
"""The table of faults in docs/faults.md, made of what the tests of faults tell while they run.

Each test that saw its fault adds a line to the file that HOLDFAST_FAULTS_TOLD names; `tools/molecule --faults` then runs
``faults_table.py FILE`` and keeps what it prints. A test that fails tells nothing, and then nothing is kept.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HEAD = """\
# Faults, and which level of a proof sees them

Made by `make test-faults`, which breaks backups in every way it knows, on real machines, proves each of them, and fails when one
is not seen. Do not edit: run it again. Seconds are those of fetching, loading and judging one item, on two cores that did other
work as well. *Quiet* rows are changes that are no fault, and nothing may be said of them. What is *survived* loses nothing
that was committed, and nobody has to do anything.
"""
COLUMNS = ("fault", "what was done", "seen by", "verdict", "reasons", "s")


def tell(**row: Any) -> None:
    """Add a row: id, title, verdict, levels, codes, seconds."""
    place = os.environ.get("HOLDFAST_FAULTS_TOLD")
    if place:
        with Path(place).open("a", encoding="utf-8") as told:
            told.write(json.dumps(row) + "\n")


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """The page. Raises when two rows are of one fault."""
    found = sorted(rows, key=lambda row: (row["verdict"] == "PASS", str(row["id"])))
    assert len({row["id"] for row in found}) == len(found), "a fault was told of twice"
    seen = sum(row["verdict"] != "PASS" for row in found)
    lines = [
        HEAD,
        f"{seen} faults, all of them seen; {len(found) - seen} changes that are none, all of them quiet.",
        "",
    ]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in found:
        level = ", ".join(row["levels"]) or "quiet"
        codes = ", ".join(f"`{code}`" for code in row["codes"])
        cells = [row["id"], row["title"].replace("|", "\\|"), level, row["verdict"], codes, f"{row['seconds']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))
