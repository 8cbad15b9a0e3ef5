# SPDX-License-Identifier: Apache-2.0
"""Which part of a repository a proof reads, so that after a number of days every byte of it has been read. Pure.

A small repository is read whole each time. Of a large one each proof reads the portion that has waited longest, as the
evidence tells; index, snapshots and trees are checked whole whatever the portion. restic divides packs by the first byte
of their id: in portion N of T are those whose byte leaves N - 1 when divided by T. So what has been read is kept by that
byte, and nothing is forgotten when a repository grows and T changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .verify import INCONCLUSIVE, Reason, parse_time, spell, utc

# restic's packs have some 17 MB each: so many are read from a NAS in a few minutes
PACKS_AT_ONCE = 1000
MOST_PORTIONS = 256  # restic takes no more, and there are no more first bytes
OVERDUE = "read_overdue"
_PACK = re.compile(r"[0-9a-f]{64}")


class Portion(NamedTuple):
    """Number ``number`` of ``of`` portions; ``packs`` of ``all_packs`` are in it."""

    number: int
    of: int
    packs: int
    all_packs: int

    def arguments(self) -> list[str]:
        """As ``restic check`` wants it."""
        return ["--read-data"] if self.of == 1 else [f"--read-data-subset={self.number}/{self.of}"]

    def words(self) -> str:
        """What is read, for people."""
        return "the whole repository" if self.of == 1 else f"portion {self.number} of {self.of} of the repository"


def packs_of(listing: str) -> list[int]:
    """First bytes of the packs that ``restic list packs`` prints."""
    return [int(line[:2], 16) for line in listing.split() if _PACK.fullmatch(line)]


def choose(packs: Sequence[int], most: int, readings: Mapping[str, Any]) -> Portion:
    """The portion whose turn it is, never an empty one of a repository with packs.

    most: portions at most, so that all of them come in time. readings: ``history`` of the host, {} for none.
    """
    of = max(1, min(most, -(-len(packs) // PACKS_AT_ONCE), MOST_PORTIONS))
    read = _read(readings)
    turns = {}
    for number in range(1, of + 1):
        there = [byte for byte in packs if byte % of == number - 1]
        if there:
            turns[number] = (min(read.get(byte, 0.0) for byte in set(there)), number, len(there))
    if not turns:
        return Portion(1, of, 0, len(packs))
    _at, number, count = min(turns.values())
    return Portion(number, of, count, len(packs))


def read_since(packs: Sequence[int], portion: Portion, readings: Mapping[str, Any], now: float) -> float | None:
    """Since when every pack has been read at least once, with a portion that is read now; None when some never were."""
    read = {**_read(readings), **{byte: now for byte in range(256) if byte % portion.of == portion.number - 1}}
    since = [read.get(byte) for byte in set(packs)]
    known = [at for at in since if at is not None]
    return min(known) if known and len(known) == len(since) else None


def overdue(since: float | None, readings: Mapping[str, Any], within_s: float, now: float) -> list[Reason]:
    """Is something unread for longer than was promised? A young repository has its time to come to all of it."""
    first = readings.get("first")
    oldest = since if since is not None else parse_time(first) if first else now
    if now - oldest <= within_s:
        return []
    text = (
        f"parts of the repository have not been read for {spell(now - oldest)}, promised are {spell(within_s)}: proofs were "
        "missed. To read all of it now: -e prove_read_all=true"
    )
    return [Reason(OVERDUE, text, INCONCLUSIVE)]


def _read(readings: Mapping[str, Any]) -> dict[int, float]:
    """When packs with a first byte were last read, in epoch seconds."""
    found: dict[int, float] = {}
    for name, at in (readings.get("portions") or {}).items():
        number, of = map(int, name.split("/"))
        for byte in range(256):
            if byte % of == number - 1:
                found[byte] = max(found.get(byte, 0.0), parse_time(at))
    return found


def history(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the evidence says was read well: {host: {"first": time, "portions": {"2/7": time of the last one}}}."""
    found: dict[str, dict[str, Any]] = {}
    for record in (entry["record"] for entry in entries):
        rows = record["body"].get("items") if record["kind"] == "proof" else None
        for row in rows if isinstance(rows, list) else []:
            levels = row.get("levels") if isinstance(row, dict) else None
            read = levels.get("structure") if isinstance(levels, dict) else None
            if not isinstance(read, dict) or not read.get("checked") or not _ended_well(read):
                continue
            # before there were portions, the whole was read
            portion = read.get("portion") or {"number": 1, "of": 1}
            host = found.setdefault(str(row.get("host")), {"first": record["at"], "portions": {}})
            host["portions"][f"{portion['number']}/{portion['of']}"] = record["at"]
    return found


def _ended_well(read: Mapping[str, Any]) -> bool:
    return all(isinstance(each, dict) and each.get("code") == OVERDUE for each in read.get("reasons") or ())


def public(portion: Portion, since: float | None) -> dict[str, Any]:
    """As it stands in results and in evidence."""
    return {"portion": portion._asdict(), "all_read_since": None if since is None else utc(since)}
