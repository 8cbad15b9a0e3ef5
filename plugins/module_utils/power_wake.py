# SPDX-License-Identifier: Apache-2.0
"""After an outage the primary wakes the hosts that stayed off, and looks whether all came back: the program ``wake``.

It runs at each start of the primary and does nothing after a stop that somebody wanted. The hosts are woken when the UPS
is on mains again; who is not attached to it in time is named in the journal and in back.json, and the service fails.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import nut, power_stop

CONFIG = Path("/etc/holdfast/power-wake.json")
PORT = 9
# a machine's network card may need a while after the power came back before it listens
ROUNDS_S = (0.0, 5.0, 20.0, 60.0)
POLL_S = 2.0
SIOCGIFBRDADDR = 0x8919


def magic_packet(mac: str) -> bytes:
    """Build the packet that a sleeping network card knows: six times FF, then its address sixteen times. Pure."""
    address = bytes.fromhex(mac.replace(":", ""))
    if len(address) != 6:
        raise ValueError(f"{mac}: expected a MAC address such as 52:54:00:12:34:56")
    return b"\xff" * 6 + address * 16


def missing(expected: Sequence[str], attached: Sequence[str]) -> list[str]:
    """Name who should be attached and is not. Pure."""
    return sorted(set(expected) - set(attached))


def broadcasts() -> list[str]:
    """Broadcast addresses of the networks that this host is in."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _number, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, SIOCGIFBRDADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an address, such as one that is down
            address = socket.inet_ntoa(answer[20:24])
            if address != "0.0.0.0":  # noqa: S104 - compared, not listened on
                found.append(address)
    return sorted(set(found))


def send(macs: Sequence[str]) -> None:
    """Send each packet into every network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for address in broadcasts():
            for mac in macs:
                wire.sendto(magic_packet(mac), (address, PORT))


def seen(upses: Sequence[str]) -> tuple[bool, list[str]]:
    """Ask this host's own server: whether all UPSes are on mains, and who is attached to any of them."""
    online, attached = True, set()
    try:
        with nut.Nut("127.0.0.1") as server:
            for ups in upses:
                online = server.state(ups).online and online
                attached |= set(server.clients(ups))
    except nut.NutError as error:
        power_stop.say(str(error))
        return False, []
    return online, sorted(attached)


def watch(
    config: Mapping[str, Any],
    look: Callable[[], tuple[bool, list[str]]],
    wake: Callable[[Sequence[str]], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Wake the hosts, as soon as the mains are there, and wait until all are back; returns who is not after limit_s."""
    began = clock()
    end = began + config["limit_s"]
    due: list[float] | None = None
    while True:
        online, attached = look()
        absent = missing(config["peers"], attached)
        now = clock()
        if online and due is None:
            due = [now + wait for wait in ROUNDS_S] if config["wake"] else []
        while due and now >= due[0]:
            due.pop(0)
            wake(config["wake"])
        all_done = due is not None and not absent and (bool(config["peers"]) or not due)
        if all_done or now >= end:
            return absent
        sleep(POLL_S)


def main() -> int:
    """Entry of the program."""
    places = power_stop.Places()
    try:
        outage = bool(json.loads(places.came_back.read_text(encoding="ascii"))["outage"])
    except FileNotFoundError:
        outage = False  # the host was set up in this boot
    if not outage:
        return 0
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    absent = watch(config, lambda: seen(config["ups"]), send)
    boot_id = power_stop.BOOT_ID.read_text(encoding="ascii").strip()
    back = {"boot_id": boot_id, "looked": round(time.time()), "missing": absent}
    power_stop.put(places, places.state / "back.json", power_stop.text_of(back))
    if absent:
        power_stop.say(
            f"after the outage {', '.join(absent)} did not come back within {config['limit_s']} seconds: switch them on, "
            'and set "restore on AC power loss" in their BIOS'
        )
        return 1
    power_stop.say("after the outage all hosts are back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
