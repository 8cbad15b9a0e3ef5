# SPDX-License-Identifier: Apache-2.0
"""Which restores are proven on which day: a rotation that depends on names alone, so that it is the same everywhere. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import WEEKDAYS

DAYS_OF_EVERY_MONTH = 28


def turn(often: str, *names: str) -> str:
    """Say on which days an item is proven: "daily", a weekday such as "tue", or a day of the month such as "17".

    often: daily, weekly or monthly. names: practice and item; they spread the turns over the days.
    """
    if often == "daily":
        return "daily"
    number = int.from_bytes(hashlib.blake2b("/".join(names).encode(), digest_size=8).digest(), "big")
    return WEEKDAYS[number % 7] if often == "weekly" else str(number % DAYS_OF_EVERY_MONTH + 1)


def due(items: Sequence[Mapping[str, Any]], turns: Mapping[str, str], day: date) -> list[Mapping[str, Any]]:
    """Choose the items whose turn it is on a day of the practice's own calendar.

    items: mappings with "item", at least one. turns: what turn() says, by item. A day that is nobody's turn takes one item
    after the other, so that no day passes without a proof.
    """
    today = ("daily", WEEKDAYS[day.weekday()], str(day.day))
    chosen = [item for item in items if turns[item["item"]] in today]
    return chosen or [items[day.toordinal() % len(items)]]
