# SPDX-License-Identifier: Apache-2.0
"""Backups that were good once, and lines that are slow: what the rotation finds, and what the forecast said.

Needs the same lab as test_prove_faults.py, and leaves it as it was.
"""

from __future__ import annotations

import json
import os
import time

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils.forecast import over_line
from faults_lab import REPOSITORY, ssh
from test_prove_faults import forged, practice, repository, store, store_part  # noqa: F401  (fixtures)

pytestmark = pytest.mark.skipif("HOLDFAST_LAB_FOLDER" not in os.environ, reason="needs a lab, see the top of the file")

DAYS_AGO = 40
RATE, RATE_BITS = "8mbit", 8_000_000
TOLERANCE = 0.25
BIG = "/home/reception/Documents/big.bin"


def test_a_run_that_was_fine_last_month_is_found_bad_by_the_rotation(practice, forged):  # noqa: F811
    """The newest is well and whole, and so is the repository: only the restore of that very run shows it."""
    then = time.time() - DAYS_AGO * 86400
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(then))
    forged["run"] += "x"
    forged["taken"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))
    # what once was a whole tree lacks a file today, and the oracle of that day says so
    victim, roots = forged["files"]["manifest"][7]["path"], " ".join(forged["files"]["roots"])
    at = f"--time '{taken}'"
    stored = f"{at} --stdin-from-command --stdin-filename holdfast.clinical_db.dump -- cat /root/forged.dump"
    forged["snapshots"]["database"] = store_part(forged["run"], "database", stored)
    forged["snapshots"]["files"] = store_part(forged["run"], "files", f"{at} --exclude {victim} {roots}")
    oracle = store(forged, extra=at)
    for each in (*filter(None, forged["snapshots"].values()), oracle):
        ssh("nas1", f"touch -d @{then + 60:.0f} {REPOSITORY}/snapshots/{each}")
    assert oracle in ssh("nas1", f"ls -t {REPOSITORY}/snapshots | tail -n 6"), "the fault did not land"

    newest = practice.prove()
    assert (newest.code, newest.codes()) == (0, set()), newest.output[-3000:]
    found = practice.prove("-e", "which=rotation")
    assert found.code == 1, found.output[-3000:]
    (row,) = found.body["items"]
    assert (row["which"], row["class"], row["snapshots"]["oracle"]) == ("rotation", "weekly", oracle)
    assert {"files_missing", "images_missing"} <= found.codes()
    assert row["levels"]["structure"]["verdict"] == "PASS"
    assert row["levels"]["arrival"]["verdict"] == "PASS", "an older run is meant to be old"


@pytest.fixture
def slow_link():
    """The NAS sends no faster than RATE until the test is done. desk1 has something to send that cannot be compressed."""
    ssh("desk1", f"head -c 24M /dev/urandom > {BIG} && systemctl start holdfast-backup@desk_files.service")
    yield lambda: ssh("nas1", f"tc qdisc replace dev host0 root tbf rate {RATE} burst 64kb latency 200ms")
    ssh("nas1", 'tc qdisc del dev host0 root 2>/dev/null || test -z "$(tc qdisc show dev host0 | grep tbf)"')
    ssh("desk1", f"rm {BIG} && systemctl start holdfast-backup@desk_files.service")


def test_a_restore_over_a_slow_line_takes_what_the_forecast_said(practice, slow_link):  # noqa: F811
    fast = practice.prove(items="desk_files")
    assert fast.code == 0, fast.output[-3000:]
    (row,) = fast.body["items"]
    assert row["figures"]["transfer_bytes"] > 20 << 20, "nothing is there to be slow with: this proves nothing"
    foretold = over_line(row, RATE_BITS)
    slow_link()
    assert f"rate {RATE[:-4]}Mbit" in ssh("nas1", "tc qdisc show dev host0"), "the link is not slow"
    slow = practice.prove(items="desk_files")
    assert slow.code == 0, slow.output[-3000:]
    took = slow.body["items"][0]["figures"]["restore_s"]
    print(json.dumps({"fast_s": row["figures"]["restore_s"], "foretold_s": foretold, "took_s": took}))
    assert took > 3 * row["figures"]["restore_s"], "the link was not slow"
    assert abs(took - foretold) <= TOLERANCE * foretold, (took, foretold)
