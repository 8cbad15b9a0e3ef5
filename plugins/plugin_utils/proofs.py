# SPDX-License-Identifier: Apache-2.0
"""Which restores are proven on which day: a rotation that depends on names alone, so that it is the same everywhere. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import WEEKDAYS

DAYS_OF_EVERY_MONTH = 28
EVERY_S = {"daily": 86400, "weekly": 7 * 86400, "monthly": 31 * 86400}


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
