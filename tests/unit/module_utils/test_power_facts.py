# SPDX-License-Identifier: Apache-2.0
"""How a database came up, read from what PostgreSQL 17 on Debian writes."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import power_facts

STARTED = "2026-11-21 21:00:00 UTC [90] LOG:  starting PostgreSQL 17.6 (Debian 17.6-0+deb13u1) on x86_64\n"
CLEAN = "2026-11-21 21:00:00 UTC [91] LOG:  database system was shut down at 2026-11-21 20:59:58 UTC\n"
STANDBY = "2026-11-21 21:00:00 UTC [91] LOG:  database system was shut down in recovery at 2026-11-21 20:59:58 UTC\n"
READY = "2026-11-21 21:00:00 UTC [90] LOG:  database system is ready to accept connections\n"
CUT = (
    "2026-11-21 21:00:00 UTC [91] LOG:  database system was interrupted; last known up at 2026-11-21 20:59:58 UTC\n"
    "2026-11-21 21:00:00 UTC [91] LOG:  database system was not properly shut down; automatic recovery in progress\n"
    "2026-11-21 21:00:00 UTC [91] LOG:  redo starts at 0/1574C10\n"
)
GERMAN = "2026-11-21 21:00:00 UTC [91] LOG:  Datenbanksystem wurde am 2026-11-21 20:59:58 UTC heruntergefahren\n"


@pytest.mark.parametrize(
    ("log", "clean"),
    [
        (STARTED + CLEAN + READY, True),
        (STARTED + STANDBY + READY, True),
        (STARTED + CUT + READY, False),
        (STARTED + CUT + READY + STARTED + CLEAN + READY, True),  # only the newest start counts
        (STARTED + CLEAN + READY + STARTED + CUT + READY, False),
        (STARTED + CLEAN + "LOG:  all server processes terminated; reinitializing\n" + CUT, False),
        (STARTED + GERMAN + READY, None),  # another language: not known, never clean
        (CLEAN + READY, None),  # the start itself is not in the log
        ("", None),
    ],
)
def test_how_the_newest_start_went(log, clean):
    assert power_facts.judge_start(log) is clean


def test_clusters_are_read():
    listing = (
        "17  main  5432 online          postgres /var/lib/postgresql/17/main  /var/log/postgresql/postgresql-17-main.log\n"
        "17  old   5433 down            postgres /var/lib/postgresql/17/old   /var/log/postgresql/postgresql-17-old.log\n"
        "17  copy  5434 online,recovery postgres /var/lib/postgresql/17/copy  syslog\n"
    )
    found = power_facts.read_clusters(listing)
    assert [(c["cluster"], c["online"]) for c in found] == [("main", True), ("old", False), ("copy", True)]
    assert found[0]["data"] == "/var/lib/postgresql/17/main"
    assert power_facts.read_clusters("") == []


def test_control_state():
    text = "pg_control version number:            1700\nDatabase cluster state:               in production\n"
    assert power_facts.read_control_state(text) == "in production"
    assert power_facts.read_control_state("") is None


@pytest.mark.parametrize(("text", "start"), [("90\n/data\n1795292300\n5432\n", 1795292300), ("90\n", None), ("", None)])
def test_postmaster_start(text, start):
    assert power_facts.read_postmaster_start(text) == start


def test_units():
    listing = (
        "nut-monitor.service loaded active running Network UPS Tools\n\npostgresql@17-main.service loaded active\n"
    )
    assert power_facts.read_units(listing) == ["nut-monitor.service", "postgresql@17-main.service"]
    assert power_facts.missing_units(["a", "b"], ["b", "c"]) == ["a"]
