# SPDX-License-Identifier: Apache-2.0
"""Decide about the place on a carrier that holds restored data while a proof runs; no file, command or clock in here.

FOLDER/claim.json    whose proof it is, since when; written first, so a folder of ours never is without it
FOLDER/store.img     the store's file system, encrypted; none for a store in memory
FOLDER/store         where that is mounted
FOLDER/store/data    what the key is for: everything of the proof goes in here
FOLDER/store.json    how the store was made; written last, so a store without it is half made
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ENCRYPTED, MEMORY = "encrypted", "memory"
KINDS = (ENCRYPTED, MEMORY)
OWN = frozenset({"claim.json", ".claim", "store.img", "store", "store.json", ".store"})

LEAST = 1 << 30
# What the carrier keeps for itself, and the machine for its programs beside the restored data
DISK_TO_SPARE = 1 << 30
MACHINE_MEMORY = 512 << 20

# linux/fscrypt.h
KEY_BYTES = 64
_POLICY_V2, _AES_256_XTS, _AES_256_CTS, _PAD_32 = 2, 1, 4, 3
_SPEC_BY_IDENTIFIER = 2
REMOVED_ALL = 0


class StoreError(Exception):
    """Something a person has to know about: what was expected, what came, what to do. ``code`` is its reason code."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def ioctl_number(direction: int, number: int, size: int) -> int:
    """Number of one of fscrypt's ioctls, as <asm-generic/ioctl.h> makes it; direction: 2 reads, 3 both ways."""
    return (direction << 30) | (size << 16) | (ord("f") << 8) | number


SET_POLICY = ioctl_number(2, 19, 12)
ADD_KEY = ioctl_number(3, 23, 80)
REMOVE_KEY = ioctl_number(3, 24, 64)


def add_key_request(key: bytes) -> bytearray:
    """What ADD_KEY takes. The kernel writes the key's identifier into it; see ``identifier``."""
    return bytearray(struct.pack("=II32sII32s", _SPEC_BY_IDENTIFIER, 0, b"", len(key), 0, b"") + key)


def identifier(request: bytearray) -> bytes:
    """The name that the kernel gave the key of a request. It says nothing about the key."""
    return bytes(request[8:24])


def policy(name: bytes) -> bytearray:
    """What SET_POLICY takes: contents with AES-256-XTS, names with AES-256-CTS, by the key of that name."""
    return bytearray(struct.pack("=BBBBB3s16s", _POLICY_V2, _AES_256_XTS, _AES_256_CTS, _PAD_32, 0, b"", name))


def remove_key_request(name: bytes) -> bytearray:
    """What REMOVE_KEY takes. The kernel writes into it whether files were still open; see ``removal``."""
    return bytearray(struct.pack("=II32sI20s", _SPEC_BY_IDENTIFIER, 0, name.ljust(32, b"\0"), 0, b""))


def removal(request: bytearray) -> int:
    """Flags of a removal; REMOVED_ALL when no file of that key was still open."""
    flags: int = struct.unpack_from("=I", request, 40)[0]
    return flags


def no_encryption(number: int) -> StoreError:
    """Say why a carrier cannot encrypt a store."""
    known = {
        errno.EOPNOTSUPP: "its kernel was built without file system encryption (CONFIG_FS_ENCRYPTION)",
        errno.ENOTTY: "its kernel knows no file system encryption of this kind (Linux 5.4 or newer has it)",
        errno.ENOPKG: "its kernel has no AES-256-XTS",
    }
    return StoreError(
        f"the carrier cannot encrypt a store for restored data: {known.get(number, f'error {number}')}. "
        "Take another carrier, or write store: memory for this restore host when a restore fits into memory"
    )


@dataclass
class Have:
    """What was found of a place."""

    folder: bool = False
    claim: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)  # store.json
    mounted: bool = False
    image: bool = False
    loops: tuple[str, ...] = ()
    foreign: int = 0  # how many things lie in the folder that are not ours

    @property
    def empty(self) -> bool:
        """Say whether nothing is there that a new proof would meet."""
        return not (self.made or self.mounted or self.image or self.loops or self.foreign)


def plan(have: Have, state: str, kind: str) -> list[str]:
    """Say which steps lead to the wanted state (fresh or absent), in order; a fresh store is never one that was there.

    Raises StoreError for a folder that holds what is not ours: restored data goes to an empty place or nowhere.
    """
    wipe = [
        *(["destroy_key"] if have.mounted and have.made.get("key") else []),
        *(["unmount"] if have.mounted else []),
        *("detach:" + loop for loop in have.loops),
    ]
    if state == "absent":
        return [*wipe, *(["remove"] if have.folder else [])]
    if have.foreign:
        raise not_empty(have)
    clear = [] if have.empty else [*wipe, "clear"]
    return [*clear, *(["file", "format", "mount", "seal"] if kind == ENCRYPTED else ["mount_memory"]), "note"]


def not_empty(have: Have) -> StoreError:
    """Refuse a folder that holds what is not ours."""
    return StoreError(
        f"the place for restored data is not empty: {have.foreign} things in it are not of a proof. Expected a folder that is "
        "not there. Look at it and move them away; or give another restore_host_root"
    )


def room(kind: str, asked: int, free: int, promised: int, memory: int) -> int:
    """Size of a new store in bytes: what is asked for as far as it is there, otherwise half of what is free.

    free: of the carrier's disk; promised: what other stores on it may still grow by; memory: what is available of it, less
    what other proofs claimed. Raises StoreError where it is not worth beginning.
    """
    left = (free - promised - DISK_TO_SPARE) if kind == ENCRYPTED else memory - MACHINE_MEMORY
    size = min(asked, left) if asked else left // 2
    if size < LEAST:
        where = "disk" if kind == ENCRYPTED else "memory"
        also = f", {promised} of it promised to other proofs" if promised and kind == ENCRYPTED else ""
        found = free if kind == ENCRYPTED else memory
        raise StoreError(
            f"the carrier's {where} has {found} bytes free{also}; a store for restored data needs at least {LEAST}, and room "
            "beside it. Make room, or wait for the other proofs",
            code="not_enough_space" if kind == ENCRYPTED else "not_enough_memory",
        )
    return size // 4096 * 4096


def check_memory(available: int, promised: int) -> None:
    """Refuse to start another machine where memory does not allow it. Raises StoreError."""
    if available - promised < MACHINE_MEMORY:
        raise StoreError(
            f"the carrier has {available} bytes of memory available, {promised} of it promised to other proofs; a restore "
            f"machine needs {MACHINE_MEMORY}. Wait for the other proofs, or give the carrier more memory",
            code="not_enough_memory",
        )


def may_claim(have: Have, over: str, discard: bool) -> None:
    """Refuse to take a place that somebody has, unless they are known to be gone. Raises StoreError.

    over: token of the claim whose holder the control node found to be gone; discard: an operator says that it may go.
    """
    if have.foreign:
        raise not_empty(have)
    if have.claim and have.claim.get("token") != over and not discard:
        raise StoreError(held(have.claim))


def held(claim: Mapping[str, Any]) -> str:
    """Say who has a place, since when, and what to do."""
    who, node, pid = claim.get("who", "somebody"), claim.get("node", "an unknown host"), claim.get("pid", "?")
    since = claim.get("since", "an unknown time")
    return (
        f"another proof of this practice is at work there: {who} on {node} (process {pid}), since {since}. Wait for it"
    )


def disposal(kind: str, have_key: bool, steps: Sequence[str], key_flags: int | None, loop_gone: bool) -> dict[str, Any]:
    """What can honestly be said of what became of the restored data.

    ``key_destroyed``: the kernel has let go of the only copy of the key, so what is left on the disk cannot be read by
    anybody. ``deleted``: the files are gone by name, which on flash and copy-on-write disks does not mean their bytes.
    """
    record: dict[str, Any] = {"store": kind, "deleted": "remove" in steps or "clear" in steps}
    if kind == ENCRYPTED:
        # the file system lets go of its keys at the latest when its last user has gone, and with it the loop device
        record["key_destroyed"] = bool(have_key and "unmount" in steps and (key_flags == REMOVED_ALL or loop_gone))
    return record
