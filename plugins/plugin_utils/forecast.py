# SPDX-License-Identifier: Apache-2.0
"""When everything would be back after the loss of the whole site, reckoned from what proofs measured. Pure.

Items come back one after another, as a proof restores them. Over the practice's own network each takes as long as it was
measured. Over a slower line only what has to be fetched takes longer, and restic writes while it fetches: the slower of the
two counts. What a line needs for itself (TCP, TLS, HTTP) is in CARRIED.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.coverage import CONTENT

# Of the bytes on a line so many are ours: 1448 of 1514 in each full frame, and a little for TLS and HTTP.
CARRIED = 0.94


def newest_rows(bodies: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Pick of each (item, host) the latest result of its newest run that came back whole. bodies: proofs, oldest first.

    What broke off, or came back damaged, says nothing of how long the way to the end is. That a backup is too old does not
    matter here.
    """
    found = {}
    for body in bodies:
        for row in body.get("items") or []:
            phases = (row.get("figures") or {}).get("phases") or {}
            whole = all(
                level.get("verdict") == "PASS" for name, level in (row.get("levels") or {}).items() if name in CONTENT
            )
            if whole and row.get("which", "newest") == "newest" and "restore_s" in phases:
                found[(str(row["item"]), str(row["host"]))] = row
    return found


def forecast(
    rows: Mapping[tuple[str, str], Mapping[str, Any]],
    promised: Sequence[tuple[str, str]],
    down_bits_per_s: float | None,
) -> dict[str, Any]:
    """Reckon for the whole site: {"items", "missing", "bytes", "transfer_bytes", "lan_s", "line_s", "bytes_per_s"}.

    rows: as newest_rows() gives them. promised: every (item, host) that there is; missing names those that no proof measured,
    whose time is not in the sums. line_s is None without a line; bytes_per_s is what the restore host wrote.
    """
    known = [rows[each] for each in promised if each in rows]
    copied = sum(_phase(row, "restore_s") for row in known)
    restored = sum(_restored(row) for row in known)
    line = None
    if known and down_bits_per_s:
        line = sum(over_line(row, down_bits_per_s) for row in known)
    return {
        "items": len(known),
        "missing": [f"{item} of {host}" for item, host in promised if (item, host) not in rows],
        "bytes": restored,
        "transfer_bytes": sum(_transfer(row) for row in known),
        "lan_s": round(sum(float(row["figures"].get("restore_s") or 0) for row in known), 3) if known else None,
        "line_s": None if line is None else round(line, 3),
        "bytes_per_s": round(restored / copied) if copied else None,
    }


def over_line(row: Mapping[str, Any], bits_per_s: float) -> float:
    """Give the seconds that the restore of one result takes when the repository is behind a line of so many bit/s."""
    copied = _phase(row, "restore_s")
    others = float(row["figures"].get("restore_s") or 0) - copied
    return others + max(copied, _transfer(row) * 8 / (bits_per_s * CARRIED))


def _phase(row: Mapping[str, Any], name: str) -> float:
    return float((row["figures"].get("phases") or {}).get(name) or 0)


def _restored(row: Mapping[str, Any]) -> int:
    return int(row["figures"].get("bytes") or 0) + int(row["figures"].get("dump_bytes") or 0)


def _transfer(row: Mapping[str, Any]) -> int:
    """What has to be fetched; where a proof did not measure it, as much as it restored, which is never less."""
    measured = row["figures"].get("transfer_bytes")
    return _restored(row) if measured is None else int(measured)
