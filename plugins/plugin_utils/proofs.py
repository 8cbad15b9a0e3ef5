# SPDX-License-Identifier: Apache-2.0
"""Which restores are proven on which day: a rotation that depends on names alone, so that it is the same everywhere. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import WEEKDAYS

DAYS_OF_EVERY_MONTH = 28
EVERY_S = {"daily": 86400, "weekly": 7 * 86400, "monthly": 31 * 86400}
# From one run of a class of the retention to the next; finest first
CLASSES_S = {"hourly": 3600, "daily": 86400, "weekly": 7 * 86400, "monthly": 30 * 86400, "yearly": 365 * 86400}


def turn(often: str, *names: str) -> str:
    """Say on which days an item is proven: "daily", a weekday such as "tue", or a day of the month such as "17".

    often: daily, weekly or monthly. names: practice and item; they spread the turns over the days.
    """
    if often == "daily":
        return "daily"
    number = int.from_bytes(hashlib.blake2b("/".join(names).encode(), digest_size=8).digest(), "big")
    return WEEKDAYS[number % 7] if often == "weekly" else str(number % DAYS_OF_EVERY_MONTH + 1)


def portions(within_s: float, often: Iterable[str]) -> int:
    """Into how many portions a repository may be divided, so that proofs have read all of it within a time.

    often: how often each of its items is proven. There is time for two rounds, so that a proof or two may be missed.
    """
    return max(1, int(within_s // min(EVERY_S[each] for each in often) // 2))


def due(items: Sequence[Mapping[str, Any]], turns: Mapping[str, str], day: date) -> list[Mapping[str, Any]]:
    """Choose the items whose turn it is on a day of the practice's own calendar.

    items: mappings with "item", at least one. turns: what turn() says, by item. A day that is nobody's turn takes one item
    after the other, so that no day passes without a proof.
    """
    today = ("daily", WEEKDAYS[day.weekday()], str(day.day))
    chosen = [item for item in items if turns[item["item"]] in today]
    return chosen or [items[day.toordinal() % len(items)]]


def rows(items: Sequence[Mapping[str, Any]], which: Sequence[str]) -> list[dict[str, Any]]:
    """Make the rows of a proof: each item once for each of the runs that are asked for. An id tells them apart."""
    return [
        {**item, "which": each, "id": f"{item['host']}.{item['item']}.{item.get('copy', 'onsite')}.{each}"}
        for item in items
        for each in which
    ]


def rows_due(items: Sequence[Mapping[str, Any]], older: Mapping[str, int]) -> list[dict[str, Any]]:
    """Make the rows of a day's proof: the newest run of each item, and as many older ones as its rotation needs."""
    found = []
    for item in items:
        turns = ["rotation", *(f"rotation-{number}" for number in range(2, older.get(item["item"], 1) + 1))]
        found += rows([item], ["newest", *turns])
    return found


def turns_needed(within: Mapping[str, float], proven_s: float, interval_s: float) -> int:
    """Say how many older runs each proof of an item has to take, so that everything is proven within a time.

    within: how far back each class reaches, in seconds. proven_s: that time. interval_s: from one proof of the item to the
    next. What is kept for a shorter time than proven_s need not be proven run by run; one run of its class has to be.
    """
    lasting = reached = 0.0
    for kind, length in CLASSES_S.items():
        reach = within.get(kind, 0)
        if reach > reached and reach >= proven_s:
            lasting += math.ceil((reach - reached) / length) + 1
        reached = max(reached, reach)
    return max(1, math.ceil((lasting + len(within)) * interval_s / proven_s))
