# SPDX-License-Identifier: Apache-2.0
"""Reading what a host was doing before a power drill and does after it. Pure: texts in, facts out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# services that have to come back; oneshot services show as active only while they run, so they are not listed
UNIT_PATTERNS = (
    "nut-*.service", "postgresql@*.service", "holdfast-*.timer", "holdfast-rest-server.service",
    "restic-rest-server.service", "srv-holdfast.mount",
)  # fmt: skip
START = re.compile(r"starting PostgreSQL \d")
CLEAN = re.compile(r"database system was shut down (in recovery )?at ")
UNCLEAN = re.compile(
    r"database system was interrupted|was not properly shut down|automatic recovery in progress|redo starts at"
)


def read_clusters(listing: str) -> list[dict[str, Any]]:
    """Read ``pg_lsclusters --no-header``: [{version, cluster, online, data, log}]."""
    found = []
    for line in listing.splitlines():
        parts = line.split()
        if len(parts) < 6:
            continue
        found.append(
            {
                "version": parts[0],
                "cluster": parts[1],
                "online": parts[3].split(",")[0] == "online",
                "data": parts[5],
                "log": parts[6] if len(parts) > 6 else "",
            }
        )
    return found


def read_control_state(text: str) -> str | None:
    """Find the cluster state in what ``pg_controldata`` printed in the C locale, such as "in production"."""
    match = re.search(r"^Database cluster state:\s+(.+?)\s*$", text, re.MULTILINE)
    return match.group(1) if match else None


def read_postmaster_start(text: str) -> int | None:
    """Third line of postmaster.pid: when the running server started, in seconds since the epoch."""
    lines = text.splitlines()
    return int(lines[2]) if len(lines) > 2 and lines[2].strip().isdigit() else None


def judge_start(log: str) -> bool | None:
    """Say whether the newest start that a PostgreSQL log tells of followed a clean stop.

    None when the log does not say: no start in it, or messages in another language than English.
    """
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if START.search(line)]
    if not starts:
        return None
    text = "\n".join(lines[starts[-1] :])
    if UNCLEAN.search(text):
        return False
    return True if CLEAN.search(text) else None


def missing_units(wanted: Iterable[str], active: Iterable[str]) -> list[str]:
    """Name the units that were active and are not."""
    return sorted(set(wanted) - set(active))


def read_units(listing: str) -> list[str]:
    """Names from ``systemctl list-units --plain --no-legend``."""
    return sorted(line.split()[0] for line in listing.splitlines() if line.strip())
