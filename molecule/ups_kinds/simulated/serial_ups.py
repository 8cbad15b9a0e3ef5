"""A simulated UPS on a serial line: the Megatec protocol (Q1, F, I) on a pseudo-terminal.

What the UPS says lies in a file that the tests write: the eight bits of Q1, of which the first is "mains failed" and the second
"battery low". It answers nothing else, and cuts no power.
"""

from __future__ import annotations

import os
import pty
import tty
from pathlib import Path

FOLDER = Path("/var/lib/simulated-ups")
DEVICE, STATE = Path("/dev/ttySimulated"), FOLDER / "serial"
RATINGS = "#230.0 004 12.00 50.0"
VENDOR = f"#{'Holdfast':15} {'simulated':10} {'1':10}"


def answer(command: str) -> str:
    if command == "Q1":
        bits = STATE.read_text().strip()
        mains = "000.0" if bits[0] == "1" else "230.0"
        return f"({mains} {mains} 230.0 023 50.0 13.6 25.0 {bits}"
    if command in ("F", "I"):
        return RATINGS if command == "F" else VENDOR
    return ""


wire, far = pty.openpty()  # the far end stays open, so that the wire outlasts each driver
tty.setraw(far)
DEVICE.unlink(missing_ok=True)
DEVICE.symlink_to(os.ttyname(far))
heard = b""
while True:
    heard += os.read(wire, 64)
    while b"\r" in heard:
        said, heard = heard.split(b"\r", 1)
        if reply := answer(said.decode("ascii", "replace").strip()):
            os.write(wire, reply.encode("ascii") + b"\r")
