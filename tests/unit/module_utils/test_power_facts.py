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


CLEAN_MARIADB = """\
2026-11-26 17:00:01 0 [Note] Starting MariaDB 11.8.3-MariaDB-0+deb13u1 from Debian source revision abc server_uid x as process 80
2026-11-26 17:00:01 0 [Note] InnoDB: log sequence number 47629; transaction id 14
2026-11-26 17:00:02 0 [Note] /usr/sbin/mariadbd: ready for connections.
"""
UNCLEAN_MARIADB = CLEAN_MARIADB.replace(
    "InnoDB: log sequence", "InnoDB: Starting crash recovery from checkpoint LSN=47629\nInnoDB: log sequence"
)


@pytest.mark.parametrize(
    ("log", "clean"),
    [
        (CLEAN_MARIADB, True),
        (UNCLEAN_MARIADB, False),
        (UNCLEAN_MARIADB + CLEAN_MARIADB, True),
        (CLEAN_MARIADB + UNCLEAN_MARIADB, False),
        (CLEAN_MARIADB.replace("ready for connections", "still loading"), None),
        ("", None),
    ],
)
def test_how_the_newest_start_of_mariadb_went(log, clean):
    assert power_facts.judge_mariadb_start(log) is clean


@pytest.mark.parametrize(
    ("text", "length"),
    [("2min 50s", 170), ("15s", 15), ("1h", 3600), ("1min 30.5s", 90.5), ("500ms", 0.5), ("infinity", None)],
)
def test_a_time_as_systemd_writes_it(text, length):
    assert power_facts.read_span(text) == length


@pytest.mark.parametrize("text", ["", "soon", "15"])
def test_another_text_is_no_time(text):
    with pytest.raises(ValueError, match="expected a time"):
        power_facts.read_span(text)


EXPECTED = {
    "min_supplies": 1,
    "hostsync_s": 15,
    "finaldelay_s": 5,
    "monitors": {"ups1": ["198.18.0.11", 1, "secondary"]},
    "unit_stop_s": {"postgresql@.service": 140, "pms.service": 30},
}
UPSMON = """\
# written by hand: MONITOR other@198.18.0.9 1 me "secret" secondary
MONITOR ups1@198.18.0.11 1 server1 "secret" secondary
MINSUPPLIES 1
SHUTDOWNCMD "/usr/sbin/shutdown -h now"
POWERDOWNFLAG "/etc/killpower"
HOSTSYNC 15
FINALDELAY 5
"""


@pytest.mark.parametrize(
    ("change", "limits", "said"),
    [
        (("", ""), {"postgresql@17-main.service": 140.0, "pms.service": 5.0, "ssh.service": 900.0}, []),
        (("HOSTSYNC 15", "HOSTSYNC 30"), {}, ["HOSTSYNC is 30, expected 15"]),
        (("FINALDELAY 5\n", ""), {}, ["FINALDELAY is missing, expected 5"]),
        (
            ("ups1@198.18.0.11 1", "ups1@198.18.0.12 1"),
            {},
            [
                "ups1@198.18.0.11 (secondary, 1) is not watched",
                "ups1@198.18.0.12 (secondary, 1) is watched, and should not be",
            ],
        ),
        (
            ("", ""),
            {"postgresql@17-main.service": 3600.0, "pms.service": None},
            [
                "pms.service may take for ever to stop, expected 30 s",
                "postgresql@17-main.service may take 3600 s to stop, expected 140 s",
            ],
        ),
    ],
)
def test_in_which_ways_a_host_is_not_as_it_should_be(change, limits, said):
    assert power_facts.differences(EXPECTED, UPSMON.replace(*change) if change[0] else UPSMON, limits) == said


def test_differences_tell_no_password():
    said = power_facts.differences({**EXPECTED, "hostsync_s": 99, "monitors": {}}, UPSMON, {})
    assert said
    assert not [text for text in said if "secret" in text]


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
