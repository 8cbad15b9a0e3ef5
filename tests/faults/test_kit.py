# SPDX-License-Identifier: Apache-2.0
"""Every fault of the kit is seen, by the level that should see it, and what is no fault is not.

Needs the machines of molecule/backup_agent, converged, and root inside the lab's network namespace:
    MOLECULE_EPHEMERAL_DIRECTORY=FOLDER HOLDFAST_LAB_FOLDER=/var/lib/holdfast-lab/NAME nsenter --net=/run/netns/NAME \
        .venv/bin/pytest tests/faults/test_kit.py
HOLDFAST_FAULTS=all tries them all; else it is the quick ones, which are a part of `make test`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

if "MOLECULE_EPHEMERAL_DIRECTORY" not in os.environ or "HOLDFAST_LAB_FOLDER" not in os.environ:
    pytest.skip("needs a lab, see the top of the file", allow_module_level=True)

from faults_table import tell
from kit import PASS, Kit
from kit_faults import FAULTS

ALL = os.environ.get("HOLDFAST_FAULTS") == "all"
CLEAN_RUNS = 50
# of each kind one, so that every change is tried with them
FEW = (
    "R02",
    "R07",
    "R09-sqlite",
    "R15-heads",
    "image-unsaved",
    "content-mariadb",
    "content-firebird",
    "clean-postgresql",
)
TRIED = [fault for fault in FAULTS if ALL or fault.quick]


@pytest.fixture(scope="module")
def kit():
    made = Kit(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "backup_agent")
    made.begin()
    yield made
    made.end()


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=() if fault.id in FEW else pytest.mark.long) for fault in TRIED],
    ids=lambda fault: fault.id,
)
def test_a_fault_is_seen(kit, fault):
    kit.forge(fault)
    proved = kit.prove(fault)
    said = json.dumps({name: found["reasons"] for name, found in proved.item["levels"].items()}, indent=1)
    assert proved.body["verdict"] == fault.verdict, said
    assert set(fault.codes) <= proved.codes, said
    if fault.verdict == PASS:
        assert proved.codes == set(), said
    levels = proved.levels(set(fault.codes))
    assert levels or fault.verdict == PASS
    for name in fault.passes:
        assert proved.item["levels"][name]["verdict"] == PASS, said
    tell(
        id=fault.id,
        title=fault.title,
        verdict=fault.verdict,
        levels=levels,
        codes=sorted(fault.codes),
        seconds=round(proved.seconds, 1),
    )


@pytest.mark.skipif(not ALL, reason="with all faults only: it takes minutes")
def test_clean_runs_pass_fifty_times_in_a_row(kit):
    """The practice works between the backups and during them; each backup is restored and judged."""
    began, seconds = time.monotonic(), 0.0
    jobs = ("clinical_db", "documents", "billing_db", "pms_db", "ward_db")
    for number in range(CLEAN_RUNS):
        job = jobs[number % len(jobs)]
        kit.work(job, number)
        proved = kit.prove(kit.back_up(job))
        assert proved.body["verdict"] == PASS, (number, job, proved.lines)
        seconds += proved.seconds
    print(f"{CLEAN_RUNS} clean runs in a row, {time.monotonic() - began:.0f} s")
    title = f"{CLEAN_RUNS} backups in a row while the practice works, each restored and judged"
    tell(id="clean-50", title=title, verdict=PASS, levels=[], codes=[], seconds=round(seconds / CLEAN_RUNS, 1))
