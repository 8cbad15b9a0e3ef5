# SPDX-License-Identifier: Apache-2.0
"""Reading what a host was doing before a power drill and does after it. Pure: texts in, facts out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.nut import words

# services that have to come back; oneshot services show as active only while they run, so they are not listed
UNIT_PATTERNS = (
    "nut-*.service", "postgresql@*.service", "mariadb.service", "firebird*.service", "holdfast-*.timer",
    "holdfast-rest-server.service", "restic-rest-server.service", "srv-holdfast.mount",
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


MARIADB_START = re.compile(r"Starting MariaDB .*source revision")
MARIADB_UP = re.compile(r"ready for connections")
MARIADB_UNCLEAN = re.compile(
    r"Starting crash recovery|was not shutdown normally|Recovering after a crash|Starting (?:a )?(?:final )?batch to recover"
)


def judge_mariadb_start(log: str) -> bool | None:
    """Say the same of the newest start that a MariaDB log tells of; None when it does not tell of one that is done."""
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if MARIADB_START.search(line)]
    if not starts:
        return None
    text = "\n".join(lines[starts[-1] :])
    if MARIADB_UNCLEAN.search(text):
        return False
    return True if MARIADB_UP.search(text) else None


def read_properties(text: str) -> list[dict[str, str]]:
    """Read ``systemctl show``: one mapping a unit."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]


SPANS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "month": 2629800, "y": 31557600}


def read_span(text: str) -> float | None:
    """Read a time as systemd writes it (2min 50s); None for one without an end."""
    if text == "infinity":
        return None
    found = re.findall(r"([0-9.]+)([a-z]+)", text)
    if not found or re.sub(r"[0-9.]+[a-z]+\s*", "", text).strip():
        raise ValueError(f"systemd says {text}, expected a time such as 2min 50s")
    return float(sum(float(number) * SPANS[unit] for number, unit in found))


def differences(expected: Mapping[str, Any], upsmon: str, limits: Mapping[str, float | None]) -> list[str]:
    """Say in which ways a host's own upsmon.conf, and what its units may take to stop, are not as they should be.

    limits: of the units that are there; None is no limit at all.
    """
    found: dict[str, str] = {}
    monitors = set()
    for line in upsmon.splitlines():
        parts = [] if line.lstrip().startswith("#") else words(line)
        if parts[:1] == ["MONITOR"] and len(parts) == 6:
            monitors.add((parts[1], int(parts[2]), parts[5]))
        elif len(parts) > 1:
            found[parts[0]] = parts[1]
    said = []
    for key, name in KEYS.items():
        if name in expected and found.get(key) != str(expected[name]):
            said.append(f"{key} is {found.get(key, 'missing')}, expected {expected[name]}")
    wanted = {(f"{ups}@{at}", int(value), kind) for ups, (at, value, kind) in (expected.get("monitors") or {}).items()}
    for what, some in (("is not watched", wanted - monitors), ("is watched, and should not be", monitors - wanted)):
        said += [f"{ups} ({kind}, {value}) {what}" for ups, value, kind in sorted(some)]
    for unit, limit in sorted(limits.items()):
        allowed = expected.get("unit_stop_s", {}).get(template_of(unit, expected.get("unit_stop_s", {})))
        if allowed is not None and (limit is None or limit > allowed):
            said.append(
                f"{unit} may take {'for ever' if limit is None else f'{limit:.0f} s'} to stop, expected {allowed} s"
            )
    return said


def over_s(expected: Mapping[str, Any], limits: Mapping[str, float | None]) -> float:
    """Say by how much a unit may outlast what it has; one without a limit may do so for ever, which has no figure."""
    known = expected.get("unit_stop_s") or {}
    over = [0.0]
    for unit, limit in limits.items():
        wanted = known.get(template_of(unit, known))
        if limit is not None and wanted is not None:
            over.append(float(limit - wanted))
    return max(over)


KEYS = {
    "MINSUPPLIES": "min_supplies",
    "HOSTSYNC": "hostsync_s",
    "FINALDELAY": "finaldelay_s",
}


def template_of(unit: str, known: Iterable[str]) -> str:
    """Give the name under which a unit's limit is known: its own, or that of its template."""
    template = re.sub(r"@[^.]+\.", "@.", unit)
    return unit if unit in known or template not in known else template


def missing_units(wanted: Iterable[str], active: Iterable[str]) -> list[str]:
    """Name the units that were active and are not."""
    return sorted(set(wanted) - set(active))


def read_units(listing: str) -> list[str]:
    """Names from ``systemctl list-units --plain --no-legend``."""
    return sorted(line.split()[0] for line in listing.splitlines() if line.strip())
