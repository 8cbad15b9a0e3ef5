"""A simulated UPS on the network: the UPS-MIB (RFC 1628) behind Debian's own snmpd, as its pass_persist program.

snmpd does all of SNMP, also who may ask. What the UPS says lies in a file that the tests write: lines of NAME VALUE, with the
names of PLAYED. Each value that a driver sets goes to another file, and with a time: what would cut the power is seen there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

FOLDER = Path("/var/lib/simulated-ups")
STATE, ORDERS = FOLDER / "snmp", FOLDER / "snmp-orders"
ROOT = (1, 3, 6, 1, 2, 1, 33, 1)
# under ROOT: upsIdent, upsBattery, upsInput, upsOutput, upsBypass, upsAlarm, upsTest, upsControl, upsConfig
FIXED = {
    (1, 1, 0): ("string", "Holdfast"),
    (1, 2, 0): ("string", "simulated network UPS"),
    (1, 3, 0): ("string", "1"),
    (1, 4, 0): ("string", "1"),
    (2, 5, 0): ("integer", "540"),
    (3, 2, 0): ("integer", "1"),
    (3, 3, 1, 2, 1): ("integer", "500"),
    (3, 3, 1, 3, 1): ("integer", "230"),
    (4, 2, 0): ("integer", "500"),
    (4, 3, 0): ("integer", "1"),
    (4, 4, 1, 2, 1): ("integer", "230"),
    (4, 4, 1, 5, 1): ("integer", "23"),
    (5, 2, 0): ("integer", "0"),
    (6, 1, 0): ("gauge", "0"),
    (7, 3, 0): ("integer", "6"),
}
PLAYED = {
    "battery": ((2, 1, 0), "integer"),  # 2 normal, 3 low
    "minutes": ((2, 3, 0), "integer"),
    "charge": ((2, 4, 0), "integer"),
    "source": ((4, 1, 0), "integer"),  # 2 none, 3 normal, 4 bypass, 5 battery
}
SETTABLE = {(8, 1, 0): "1", (8, 2, 0): "-1", (8, 3, 0): "-1", (8, 4, 0): "-1", (8, 5, 0): "1"}
SET: dict[tuple[int, ...], str] = {}


def table() -> dict[tuple[int, ...], tuple[str, str]]:
    """Give everything there is to ask, now."""
    played = dict(line.split() for line in STATE.read_text().splitlines())
    found = {**FIXED, **{where: (kind, played[name]) for name, (where, kind) in PLAYED.items()}}
    return {**found, **{where: ("integer", SET.get(where, value)) for where, value in SETTABLE.items()}}


def under_root(oid: str) -> tuple[int, ...] | None:
    """Give what follows ROOT; () for ROOT and what stands above it, None for what is elsewhere."""
    parts = tuple(int(part) for part in oid.strip(".").split("."))
    if parts == ROOT[: len(parts)]:
        return ()
    return parts[len(ROOT) :] if parts[: len(ROOT)] == ROOT else None


def tell(*lines: str) -> None:
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


def answer(where: tuple[int, ...] | None) -> None:
    found = table()
    if where not in found:
        tell("NONE")
        return
    tell("." + ".".join(str(part) for part in ROOT + where), *found[where])


while line := sys.stdin.readline():
    command = line.strip()
    if command == "PING":
        tell("PONG")
    elif command == "get":
        answer(under_root(sys.stdin.readline().strip()))
    elif command == "getnext":
        asked = under_root(sys.stdin.readline().strip())
        later = [where for where in sorted(table()) if asked is not None and where > asked]
        answer(later[0] if later else None)
    elif command == "set":
        where, value = under_root(sys.stdin.readline().strip()), sys.stdin.readline().split()[-1]
        if where in SETTABLE:
            SET[where] = value
            with ORDERS.open("a") as orders:
                orders.write(f"{time.time():.2f} {'.'.join(str(part) for part in where)} {value}\n")
            tell("DONE")
        else:
            tell("not-writable")
