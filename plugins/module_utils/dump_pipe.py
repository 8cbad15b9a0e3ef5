# SPDX-License-Identifier: Apache-2.0
"""The program that hands a dump which is already under way to restic, and vouches for its end.

Usage: dump_pipe PIPE STATUS MARKER [REPORT]

Copies PIPE to standard output. Ends with 0 only when the program that wrote into PIPE reported 0 through STATUS and the last
line it wrote begins with MARKER; restic then keeps the snapshot. Anything else, the death of either side included, ends
with 1, and nothing is kept. Writes size and hash into REPORT as JSON; an empty dump is none then.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

BLOCK = 1 << 18
TAIL = 1 << 12


def last_line(tail: bytes) -> bytes:
    """The last line that is not empty."""
    lines = [line for line in tail.split(b"\n") if line.strip()]
    return lines[-1] if lines else b""


def verdict(tail: bytes, status: bytes, marker: bytes) -> str:
    """What is wrong with a dump that ended like this; empty when nothing is."""
    if status.strip() != b"0":
        return f"the dump program ended with {status.decode('ascii', 'replace').strip() or 'no word'}"
    if not last_line(tail).startswith(marker):
        return "the dump ends without its end marker"
    return ""


def pass_on(source: int, target: int, digest: Any = None) -> tuple[int, bytes]:
    """Copy to the end: how many bytes, and the last ones. digest: is given all of them."""
    size, tail = 0, b""
    while True:
        block = os.read(source, BLOCK)
        if not block:
            return size, tail
        size += len(block)
        if digest:
            digest.update(block)
        tail = (tail + block)[-TAIL:]
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]


def main(argv: Sequence[str]) -> int:
    """Entry of the program."""
    pipe, status, marker = argv[:3]
    digest = hashlib.blake2b(digest_size=32) if argv[3:] else None
    source = os.open(pipe, os.O_RDONLY)
    report = os.open(status, os.O_RDONLY)
    size, tail = pass_on(source, sys.stdout.fileno(), digest)
    wrong = verdict(tail, os.read(report, 16), marker.encode("utf-8")) or (
        "the dump is empty" if digest and not size else ""
    )
    if wrong:
        sys.stderr.write(wrong + "\n")
    elif digest:
        with open(argv[3], "w", encoding="ascii") as stream:  # noqa: PTH123
            json.dump({"bytes": size, "blake2b": digest.hexdigest()}, stream)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
