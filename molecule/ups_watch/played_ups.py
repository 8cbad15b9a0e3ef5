"""A UPS that is played: it speaks NUT's driver protocol on the driver's socket, beneath a real upsd.

dummy-ups of NUT 2.8 offers load.off and no battery test, so this stands in for the driver in the tests of the self-test alone.
upsd checks the user's right and hands the command down; what is answered is what usbhid-ups shows of a quick test.

    played_ups.py SOCKET RESULT [RUNTIME]     RESULT: what ups.test.result says at the end, such as "Done and passed"
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

WHERE, RESULT, RUNTIME = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "580"
VALUES = {
    "battery.charge": "100",
    "battery.runtime": "600",
    "ups.load": "23",
    "ups.status": "OL",
    "ups.test.result": "No test initiated",
    "driver.name": "played-ups",
}
COMMANDS = ("load.off", "test.battery.start.deep", "test.battery.start.quick", "test.battery.stop")
LISTENERS: list[socket.socket] = []


def set_value(name: str, value: str) -> None:
    VALUES[name] = value
    for listener in LISTENERS:
        listener.sendall(f'SETINFO {name} "{value}"\n'.encode())


def run_test() -> None:
    set_value("ups.test.result", "In progress")
    set_value("ups.status", "OL DISCHRG")
    time.sleep(2)
    set_value("battery.charge", "97")
    set_value("battery.runtime", RUNTIME)
    time.sleep(2)
    set_value("ups.status", "OL CHRG")
    set_value("ups.test.result", RESULT)


def serve(wire: socket.socket) -> None:
    for line in wire.makefile():
        words = line.split()
        if words[:1] == ["DUMPALL"]:
            dump = "".join(f'SETINFO {name} "{value}"\n' for name, value in VALUES.items())
            dump += "".join(f"ADDCMD {name}\n" for name in COMMANDS)
            wire.sendall((dump + "DATAOK\nDUMPDONE\n").encode())
            LISTENERS.append(wire)
        elif words[:1] == ["PING"]:
            wire.sendall(b"PONG\n")
        elif words[:1] == ["INSTCMD"]:
            sys.stdout.write(" ".join(words) + "\n")
            sys.stdout.flush()
            if words[1] == "test.battery.start.quick":
                threading.Thread(target=run_test, daemon=True).start()


if os.path.exists(WHERE):  # noqa: PTH110
    os.unlink(WHERE)  # noqa: PTH108
door = socket.socket(socket.AF_UNIX)
door.bind(WHERE)
door.listen()
sys.stdout.write("ready\n")
sys.stdout.flush()
while True:
    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()
