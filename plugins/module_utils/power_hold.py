# SPDX-License-Identifier: Apache-2.0
"""A secondary stays counted at its primary until its databases have stopped: the program ``hold``.

upsmon leaves when the shutdown of its host begins, and the primary, which waits for all to leave, would have the power cut
while a database still stops. So this program attaches as well while the UPS is on battery, and systemd stops it after the
databases. The primary waits for no longer than its HOSTSYNC.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import nut, power_stop

CONFIG = Path("/etc/nut/upsmon.conf")
# upsmon leaves FINALDELAY, 5 seconds, after it has seen the order
POLL_S = 1.0


@dataclass(frozen=True)
class Wire:
    """A connection to a primary, ``attached`` while this host is counted there."""

    server: Any
    attached: bool


@dataclass(frozen=True)
class Supply:
    """A UPS of which this host is a secondary."""

    ups: str
    address: str
    user: str
    password: str


def supplies_of(text: str) -> list[Supply]:
    """Read upsmon.conf: the UPSes of which this host is a secondary. Pure."""
    found = []
    for line in text.splitlines():
        parts = nut.words(line) if line.startswith("MONITOR ") else []
        if len(parts) == 6 and parts[5] == "secondary":
            ups, address = parts[1].split("@", 1)
            found.append(Supply(ups, address, parts[3], parts[4]))
    return found


def tend(supply: Supply, wire: Wire | None, connect: Callable[[str], Any] = nut.Nut) -> Wire | None:
    """Look once at a UPS: attach when it is on battery, leave when it is not. None: there is no connection."""
    try:
        wire = wire or Wire(connect(supply.address), False)
        on_battery = wire.server.state(supply.ups).on_battery
        if on_battery and not wire.attached:
            wire.server.login(supply.user, supply.password)
            wire.server.attach(supply.ups)
            power_stop.say(f"{supply.ups} is on battery: counted there until the databases of this host have stopped")
            return Wire(wire.server, True)
        if wire.attached and not on_battery:
            wire.server.close()
            return None
        return wire
    except nut.NutError as error:
        if error.code not in (nut.UNREACHABLE, nut.PROTOCOL) and wire is not None:
            return wire  # such as a driver that is silent for a while
        if wire is not None:
            power_stop.say(str(error))
            wire.server.close()
        return None


def main() -> int:
    """Entry of the program; systemd ends it."""
    wires: dict[Supply, Wire | None] = dict.fromkeys(supplies_of(CONFIG.read_text(encoding="ascii")))
    while True:
        for supply, wire in wires.items():
            wires[supply] = tend(supply, wire)
        time.sleep(POLL_S)
