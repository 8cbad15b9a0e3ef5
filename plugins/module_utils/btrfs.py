# SPDX-License-Identifier: Apache-2.0
"""btrfs as Holdfast needs it: what a device carries (pure), and one door to the ``btrfs`` command.

Superblocks are read straight from the devices, because on a host without udev, or with a member missing, no tool can be
asked by name: the 4 KiB at 64 KiB say whose pool a device belongs to before anything is mounted.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

SUPERBLOCK_OFFSET = 64 * 1024
SUPERBLOCK_SIZE = 4096
MAGIC = b"_BHRfS_M"
MAGIC_UNFINISHED = b"!BHRfS_M"  # mkfs writes this first and the real one last
SIMPLE_QUOTA = 1 << 16  # incompat flag of squota, Linux 6.7

# profile -> fewest devices; the names are those that "btrfs balance -dconvert=" takes
PROFILES = {"single": 1, "raid1": 2, "raid1c3": 3, "raid1c4": 4, "raid10": 2}
_TYPE_BITS = ((0x8, "raid0"), (0x10, "raid1"), (0x20, "dup"), (0x40, "raid10"), (0x80, "raid5"), (0x100, "raid6"))
_TYPE_BITS_LATER = ((0x200, "raid1c3"), (0x400, "raid1c4"))
COUNTERS = ("write_io_errs", "read_io_errs", "flush_io_errs", "corruption_errs", "generation_errs")

RunCommand = Callable[..., tuple[int, str, str]]


class BtrfsError(Exception):
    """A btrfs command failed; the text holds the command and what it said."""


@dataclass(frozen=True)
class Superblock:
    """What one device says about the pool that it belongs to. ``finished`` is False when mkfs was interrupted."""

    uuid: str
    label: str
    devid: int
    num_devices: int
    system_profile: str | None = None
    simple_quota: bool = False
    finished: bool = True


def _profile_of(flags: int) -> str:
    return next((name for bit, name in _TYPE_BITS + _TYPE_BITS_LATER if flags & bit), "single")


def parse_superblock(block: bytes) -> Superblock | None:
    """Read the primary superblock (4096 bytes from 64 KiB on); None when there is no btrfs."""
    if len(block) < SUPERBLOCK_SIZE or block[0x40:0x48] not in (MAGIC, MAGIC_UNFINISHED):
        return None
    (array_size,) = struct.unpack_from("<I", block, 0xA0)
    # the array holds the chunks of the system block group: a 17 byte key, then the chunk, whose flags are at 24
    profile = None
    if 17 + 48 <= array_size <= 2048:
        (flags,) = struct.unpack_from("<Q", block, 0x32B + 17 + 24)
        profile = _profile_of(flags)
    (incompat,) = struct.unpack_from("<Q", block, 0xBC)
    return Superblock(
        uuid=str(uuid.UUID(bytes=block[0x20:0x30])),
        label=block[0x12B : 0x12B + 256].split(b"\0", 1)[0].decode("utf-8", "replace"),
        devid=struct.unpack_from("<Q", block, 0xC9)[0],
        num_devices=struct.unpack_from("<Q", block, 0x88)[0],
        system_profile=profile,
        simple_quota=bool(incompat & SIMPLE_QUOTA),
        finished=block[0x40:0x48] == MAGIC,
    )


def _rows(text: str, table: str) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(text)[table]
    except (ValueError, KeyError, TypeError) as error:
        raise BtrfsError(f"btrfs: no {table} in its answer ({error}); btrfs-progs 6.7 or later is expected") from error
    return list(rows)


def parse_profiles(text: str) -> dict[str, list[str]]:
    """Read ``btrfs --format json filesystem df``: {"data": ["raid1"], "metadata": [...], "system": [...]}.

    More than one profile under a name: a conversion is unfinished, or the pool was written to while degraded.
    """
    found: dict[str, list[str]] = {}
    for row in _rows(text, "filesystem-df"):
        kind, profile = str(row["bg-type"]).lower(), str(row["bg-profile"]).lower()
        if kind != "globalreserve" and profile not in found.setdefault(kind, []):
            found[kind].append(profile)
    return found


def parse_stats(text: str) -> list[dict[str, Any]]:
    """Read ``btrfs --format json device stats``: one {"device", "devid", five counters, "missing"} a member."""
    members = []
    for row in _rows(text, "device-stats"):
        member: dict[str, Any] = {"device": str(row["device"]), "devid": int(row["devid"])}
        member["missing"] = "missing" in member["device"]
        member.update({name: int(row[name]) for name in COUNTERS})
        members.append(member)
    return sorted(members, key=lambda m: int(m["devid"]))


def parse_show(text: str) -> tuple[str, int, list[int]]:
    """Read ``btrfs filesystem show --raw MOUNTPOINT``: (uuid, number of members, missing device ids)."""
    found, total, missing = "", 0, []
    for line in text.splitlines():
        words = line.split()
        if "uuid:" in words:
            found = words[words.index("uuid:") + 1]
        elif words[:2] == ["Total", "devices"]:
            total = int(words[2])
        elif words[:1] == ["devid"] and "MISSING" in words:
            missing.append(int(words[1]))
    if not found or not total:
        raise BtrfsError("btrfs filesystem show: no pool in its answer")
    return found, total, missing


def parse_qgroups(text: str) -> dict[str, dict[str, int | None]]:
    """Read ``btrfs --format json qgroup show -re``: {path in the pool: {"used": bytes, "limit": bytes or None}}."""
    groups = {}
    for row in _rows(text, "qgroup-show"):
        limit = row.get("max_referenced")
        # groups of deleted subvolumes stay behind, without a path; so does the pool's root
        if row.get("path") and not str(row["path"]).startswith("<"):
            used = int(row["referenced"])
            groups[str(row["path"])] = {"used": used, "limit": None if limit in (None, "none") else int(limit)}
    return groups


class Btrfs:
    """The door to ``btrfs`` and ``mkfs.btrfs``."""

    def __init__(self, run_command: RunCommand) -> None:
        self._run_command = run_command

    def _run(self, command: Sequence[str], ok: Sequence[int] = (0,)) -> tuple[int, str, str]:
        code, out, err = self._run_command(list(command))
        if code not in ok:
            raise BtrfsError(f"{' '.join(command)} failed ({code}): {(err or out).strip()}")
        return code, out, err

    def make(self, devices: Sequence[str], profile: str, label: str, pool_uuid: str, force: bool) -> None:
        """Format devices as one pool. Without ``force`` mkfs itself still refuses a device that carries something."""
        command = ["mkfs.btrfs", "--quiet", "--label", label, "--uuid", pool_uuid]
        # metadata of a pool on one disk is kept twice there, which is what mkfs would choose
        metadata = "dup" if profile == "single" and len(devices) == 1 else "raid1" if profile == "single" else profile
        command += ["--data", profile, "--metadata", metadata] + (["--force"] if force else [])
        self._run([*command, "--", *devices])

    def pool(self, mountpoint: str) -> tuple[str, int, list[int]]:
        """Say which pool is mounted: (uuid, members, missing device ids)."""
        return parse_show(self._run(["btrfs", "filesystem", "show", "--raw", mountpoint])[1])

    def profiles(self, mountpoint: str) -> dict[str, list[str]]:
        """Say how data, metadata and system are kept."""
        return parse_profiles(self._run(["btrfs", "--format", "json", "filesystem", "df", mountpoint])[1])

    def stats(self, mountpoint: str) -> list[dict[str, Any]]:
        """Give the error counters of every member."""
        return parse_stats(self._run(["btrfs", "--format", "json", "device", "stats", mountpoint])[1])

    def qgroups(self, mountpoint: str) -> dict[str, dict[str, int | None]] | None:
        """Give use and limit of every subvolume, or None while quotas are off."""
        code, out, err = self._run_command(["btrfs", "--format", "json", "qgroup", "show", "-re", mountpoint])
        if code != 0 and "not enabled" in err:
            return None
        if code != 0:
            raise BtrfsError(f"btrfs qgroup show {mountpoint} failed ({code}): {err.strip()}")
        return parse_qgroups(out)

    def enable_quota(self, mountpoint: str) -> None:
        """Turn quotas on: simple ones (Linux 6.7), which cost nothing on writes, else full ones."""
        code, _out, _err = self._run_command(["btrfs", "quota", "enable", "--simple", mountpoint])
        if code != 0:
            self._run(["btrfs", "quota", "enable", mountpoint])

    def create_subvolume(self, path: str) -> None:
        """Make a subvolume; its parent exists."""
        self._run(["btrfs", "subvolume", "create", path])

    def delete_subvolume(self, path: str) -> None:
        """Delete a subvolume with all that is in it; it is gone for good when this returns."""
        self._run(["btrfs", "subvolume", "delete", "--commit-after", path])

    def limit(self, path: str, limit_bytes: int | None) -> None:
        """Limit what a subvolume may hold; None lifts the limit."""
        self._run(["btrfs", "qgroup", "limit", "none" if limit_bytes is None else str(limit_bytes), path])
