# SPDX-License-Identifier: Apache-2.0
"""A restic of the practice's own choice on a host, instead of the distribution's: looked at before it is put in place.

Where it comes from (a file, an address) is the role's business: it lies beside the agent as it was shipped, and what of
that is to run here is decided in this file.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.host_state import File

LIB = "/usr/lib/holdfast"
PROGRAM, SHIPPED, NOTE = f"{LIB}/restic", f"{LIB}/restic.source", f"{LIB}/restic.json"
# e_machine of ELF, and what `uname -m` calls it
_MACHINES = {
    3: ("i386", "i486", "i586", "i686"),
    40: ("armv6l", "armv7l", "armv8l"),
    62: ("x86_64",),
    183: ("aarch64",),
    243: ("riscv64",),
}


class ProgramError(Exception):
    """This must not be put in place. ``code`` is our reason code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def sha256(content: bytes) -> str:
    """Hex."""
    return hashlib.sha256(content).hexdigest()


def program_of(shipped: bytes, wanted: str, machine: str) -> bytes:
    """The program in a file as it was shipped, for this machine (as ``uname -m``). Raises ProgramError."""
    found = sha256(shipped)
    if found != wanted:
        raise ProgramError(
            "checksum_mismatch",
            f"restic: the file that came has the sha256 {found}, {wanted} is expected. It is not put in place; what ran before "
            "goes on. Find out whether the file or the checksum is wrong (restic publishes SHA256SUMS with each release)",
        )
    content = shipped
    if shipped.startswith(b"BZh"):
        try:
            content = bz2.decompress(shipped)
        except (OSError, ValueError) as error:
            raise ProgramError("not_a_program", f"restic: the bz2 file cannot be unpacked: {error}") from error
    if shipped.startswith(b"PK"):
        raise ProgramError(
            "not_a_program", "restic: this is a zip, as restic is shipped for Windows; take linux_ARCH.bz2"
        )
    check_machine(content[:20], machine)
    return content


def check_machine(head: bytes, machine: str) -> None:
    """Refuse what is no Linux program, or one for another machine. head: its first 20 bytes."""
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        raise ProgramError(
            "not_a_program",
            "restic: this is no Linux program; expected restic itself, or restic_VERSION_linux_ARCH.bz2",
        )
    (number,) = struct.unpack("<H" if head[5] == 1 else ">H", head[18:20])
    names = _MACHINES.get(number, (f"machine {number}",))
    if machine not in names:
        raise ProgramError(
            "wrong_architecture",
            f"restic: the program is for {names[0]}, this host is {machine}; take the file of the release that ends in "
            "linux_ARCH for it (x86_64 is amd64, aarch64 is arm64)",
        )


def in_place(note: str | None, program: bytes | None, wanted: str) -> bool:
    """Is the program that was made of the wanted file there already? note: text of NOTE."""
    try:
        known: Any = json.loads(note or "null")
        return program is not None and known == {"source": wanted, "program": sha256(program)}
    except ValueError:
        return False


def files(program: bytes, wanted: str) -> list[File]:
    """The program, and what it was made of."""
    note = json.dumps({"source": wanted, "program": sha256(program)}) + "\n"
    return [File(PROGRAM, program, 0o755), File(NOTE, note.encode())]


def gone() -> list[File]:
    """Nothing of it."""
    return [File(path, None) for path in (PROGRAM, SHIPPED, NOTE)]


def path_of(env: Mapping[str, str], folder: str | None) -> str:
    """PATH with restic of this folder first; None: only what the distribution has."""
    rest = [each for each in env["PATH"].split(":") if each != LIB]
    return ":".join([*([folder] if folder else []), *rest])
