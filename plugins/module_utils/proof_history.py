# SPDX-License-Identifier: Apache-2.0
"""What the evidence tells of earlier proofs, item by item and copy by copy. Pure; the ledger itself is in evidence.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

JUDGED = ("PASS", "FAIL")


def rows_of(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The results of a proof's record, one for each run that it took; nothing of any other record."""
    rows = record["body"].get("items") if record["kind"] == "proof" else None
    yield from (row for row in (rows if isinstance(rows, list) else ()) if isinstance(row, Mapping))


def last_judged(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, str]]]:
    """When each run and each class was judged last: {"HOST/ITEM/COPY": {"runs": {oracle: at}, "classes": {class: at}}}.

    A run that failed was judged too: the rotation goes on, and the failure stays in the evidence. What was INCONCLUSIVE was
    not judged.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    for record in (entry["record"] for entry in entries):
        for row in rows_of(record):
            oracle = (row.get("snapshots") or {}).get("oracle")
            if row.get("verdict") not in JUDGED or not oracle:
                continue
            name = f"{row.get('host')}/{row.get('item')}/{row.get('copy') or 'onsite'}"
            mine = found.setdefault(name, {"runs": {}, "classes": {}})
            mine["runs"][str(oracle)] = record["at"]
            if row.get("class"):
                mine["classes"][str(row["class"])] = record["at"]
    return found
