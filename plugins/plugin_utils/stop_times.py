# SPDX-License-Identifier: Apache-2.0
"""How long machines really took to stop, kept in the practice's folder. Pure but for reading the file.

A drill writes it (power_stop_times), from what the hosts wrote down at their stops or, without that, from what it saw.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import Stop

FILE = "results/stop_times.json"
FORMAT = "holdfast-stop-times/1"
MOST = 20  # of a host, the newest
BY = {"host": "measured by the host", "drill": "measured by a drill"}


class InvalidStopTimesError(Exception):
    """The file is not what a drill wrote; the text says what to do."""


def stored(folder: Path, practice: str) -> dict[str, list[dict[str, Any]]]:
    """Read what was measured: {host: [{"seconds", "at", "by"}]}, the newest last; nothing when nothing was."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidStopTimesError(f"{path}: cannot be read ({error}); delete it, and run a power drill") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("practice") != practice:
        raise InvalidStopTimesError(f"{path}: no stop times of {practice}; delete it, and run a power drill")
    hosts: dict[str, list[dict[str, Any]]] = found.get("hosts") or {}
    return hosts


def longest(hosts: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, Stop]:
    """Give the longest of each host's kept stops."""
    found = {}
    for host, measured in hosts.items():
        if kept := max(measured, key=lambda each: float(each["seconds"]), default=None):
            since = f"{BY.get(str(kept['by']), BY['drill'])} on {str(kept['at'])[:10]}"
            found[host] = Stop(math.ceil(float(kept["seconds"])), since)
    return found


def merged(
    practice: str,
    before: Mapping[str, Iterable[Mapping[str, Any]]],
    recorded: Mapping[str, Iterable[Mapping[str, Any]]],
    seen: Mapping[str, float],
    now: dt.datetime,
) -> dict[str, Any]:
    """Give the file's new content. recorded: each host's own records of its stops. seen: seconds that a drill saw.

    What a host wrote down counts, and what the drill saw only of hosts that wrote nothing down since the file was made.
    A record of a stop that was not finished says nothing.
    """
    hosts = {host: [dict(each) for each in kept] for host, kept in before.items()}
    for host, records in recorded.items():
        kept = hosts.setdefault(host, [])
        known = {each["at"] for each in kept}
        for record in records:
            if record.get("seconds") is None or record.get("unfinished"):
                continue
            at = _utc(dt.datetime.fromtimestamp(float(record["began"]), dt.UTC))
            if at not in known:
                kept.append({"seconds": round(float(record["seconds"]), 1), "at": at, "by": "host"})
    for host, length in seen.items():
        hosts.setdefault(host, []).append({"seconds": round(length, 1), "at": _utc(now), "by": "drill"})
    kept_hosts = {
        host: sorted(kept, key=lambda each: str(each["at"]))[-MOST:] for host, kept in sorted(hosts.items()) if kept
    }
    return {"format": FORMAT, "practice": practice, "hosts": kept_hosts}


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
