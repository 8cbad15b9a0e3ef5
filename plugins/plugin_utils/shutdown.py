# SPDX-License-Identifier: Apache-2.0
"""In which order a UPS's machines stop, and how long that takes against its battery. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import seconds
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import FINALDELAY_S, Ups


@dataclass(frozen=True)
class Budget:
    """Seconds that a shutdown needs at most, part by part, and what the battery carries."""

    order: tuple[str, ...]
    slowest: str
    hostsync_s: int
    slowest_stop_s: int
    finaldelay_s: int
    runtime_s: int

    @property
    def need_s(self) -> int:
        """Seconds from the order to stop until the last machine is off."""
        return self.hostsync_s + self.slowest_stop_s + self.finaldelay_s

    @property
    def words(self) -> str:
        """Write the sum out."""
        stop = f"slowest stop {self.slowest_stop_s} ({self.slowest})"
        return f"HOSTSYNC {self.hostsync_s} + {stop} + FINALDELAY {self.finaldelay_s} = {self.need_s} s"

    def figures(self) -> dict[str, Any]:
        """Give the budget as plain data."""
        return {
            "order": list(self.order),
            "slowest": self.slowest,
            "hostsync_s": self.hostsync_s,
            "slowest_stop_s": self.slowest_stop_s,
            "finaldelay_s": self.finaldelay_s,
            "need_s": self.need_s,
            "margin_s": self.runtime_s - self.need_s,
        }


def budget(ups: Ups, stops: Mapping[str, int]) -> Budget:
    """Work out the budget of a UPS. stops: seconds that each machine it feeds takes to stop at most.

    The secondaries stop at once and side by side, in the document's order; the primary goes last and cuts the power.
    """
    slowest = max(ups.feeds, key=lambda host: stops[host])
    order = (*(host for host in ups.feeds if host != ups.attached_to), ups.attached_to)
    return Budget(order, slowest, seconds(ups.hostsync), stops[slowest], FINALDELAY_S, seconds(ups.runtime))
