# SPDX-License-Identifier: Apache-2.0
"""The NAS's disk pool: what its devices allow (pure), the units that mount and scrub it, and how devices are looked at.

The rule behind every refusal: formatting is the only step here that cannot be taken back, so a device is formatted only
when it is blank, or when somebody said ``allow_format`` and nothing on this host uses it. A device of an existing pool
is never formatted, whatever is said.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ansible_collections.holdfast.practice.plugins.module_utils.btrfs import (
    PROFILES,
    SUPERBLOCK_OFFSET,
    SUPERBLOCK_SIZE,
    Superblock,
    parse_superblock,
)
from ansible_collections.holdfast.practice.plugins.module_utils.host_state import File, Unit

SMALLEST = 512 * 1024 * 1024  # below that btrfs spends the disk on itself
FORMAT_SETTING = "nas_storage_allow_format: true"
SCRUB = "holdfast-scrub"
STAMP_NAME = "holdfast.json"
SYSTEMD = "/etc/systemd/system"

RunCommand = Callable[..., tuple[int, str, str]]


class StorageError(Exception):
    """The pool cannot be had as asked; nothing was written."""


@dataclass(frozen=True)
class Device:
    """A wanted device as found. ``number`` is (major, minor); ``disk`` that of the whole disk when this is a partition.

    ``problem``: why it is no usable block device. ``signatures``: what is on it, in words. ``used_by``: who holds it.
    """

    path: str
    problem: str | None = None
    number: tuple[int, int] = (0, 0)
    disk: tuple[int, int] = (0, 0)
    size: int = 0
    signatures: tuple[str, ...] = ()
    used_by: str | None = None
    superblock: Superblock | None = None


@dataclass(frozen=True)
class Pool:
    """The wanted pool of one practice."""

    practice: str
    label: str
    profile: str
    devices: tuple[str, ...]
    mountpoint: str

    @property
    def full_label(self) -> str:
        """Give the label on the disks: it names the practice, so that a pool is known before it is mounted."""
        return f"{self.label}:{self.practice}"


@dataclass(frozen=True)
class Mounted:
    """What is mounted at the pool's mountpoint: ``kind`` is the file system's type, ``uuid`` is set for btrfs."""

    kind: str
    uuid: str = ""
    source: str = ""


@dataclass(frozen=True)
class Verdict:
    """What may be done: ``make`` a pool, or ``keep`` the one there is. ``degraded``: it lacks members."""

    action: str
    problems: tuple[str, ...] = ()
    uuid: str = ""
    degraded: bool = False
    force: bool = False


def check_names(want: Pool) -> None:
    """Raise StorageError for names that a label, a unit file or a mount option cannot carry."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", want.practice):
        raise StorageError(
            f'practice "{want.practice}": expected letters, digits, dots, dashes or underscores, at most 64'
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", want.label):
        raise StorageError(f'label "{want.label}": expected letters, digits, dots, dashes or underscores, at most 64')
    for path in (*want.devices, want.mountpoint):
        # a comma would end a mount option, a percent sign or a space would mean something to systemd
        if not re.fullmatch(r"(/[A-Za-z0-9_.:+@-]+)+", path) or "/../" in f"{path}/" or "/./" in f"{path}/":
            raise StorageError(f'"{path}": expected a plain absolute path (letters, digits and _.:+@- between slashes)')
    if not want.devices:
        raise StorageError("devices: expected one device or more")


def metadata_profile(profile: str, devices: int) -> str:
    """Say how metadata is kept: never once only, as two copies cost little and heal."""
    return profile if profile != "single" else "dup" if devices == 1 else "raid1"


def owner_of(label: str, ours: str) -> str | None:
    """Give the practice that a pool's label names, None when it is no Holdfast pool. ``ours``: the wanted label."""
    name, colon, practice = label.partition(":")
    return practice if colon and practice and name in (ours, "holdfast") else None


def _usable(devices: Sequence[Device], want: Pool) -> list[str]:
    """Find what is wrong with the list itself."""
    problems = [f"{d.path}: {d.problem}" for d in devices if d.problem]
    sound = [d for d in devices if not d.problem]
    for index, device in enumerate(sound):
        for other in sound[:index]:
            if device.number == other.number:
                problems.append(f"{device.path} and {other.path} are the same device; name every disk once")
            elif device.disk == other.disk:
                problems.append(
                    f"{device.path} and {other.path} are on the same disk, which would fail as one; name "
                    "different disks"
                )
    problems += [f"{d.path}: {d.size} bytes is too small for a pool" for d in sound if d.size < SMALLEST]
    need = PROFILES[want.profile]
    if len(want.devices) < need:
        problems.append(
            f"profile {want.profile} needs {need} devices or more, got {len(want.devices)}; add devices or "
            "choose another profile"
        )
    return problems


def _blank(devices: Sequence[Device], want: Pool, allow_format: bool) -> Verdict:
    """Judge devices of which none is in a pool of ours."""
    problems, force = [], False
    for device in devices:
        block = device.superblock
        practice = owner_of(block.label, want.label) if block else None
        unfinished = block is not None and not block.finished and practice == want.practice
        if practice is not None and practice != want.practice:
            problems.append(
                f'{device.path}: holds the backups of practice "{practice}"; it is never formatted for '
                f'"{want.practice}". '
                f"Connect the right disk, or wipe it by hand (wipefs --all) once nobody needs them"
            )
        elif device.used_by:
            problems.append(
                f"{device.path}: in use ({device.used_by}); a device in use is never formatted. Free it first"
            )
        elif device.signatures and not unfinished:
            force = True
            if not allow_format:
                problems.append(
                    f"{device.path}: carries {', '.join(device.signatures)}; it would be lost. If it may be "
                    "erased, set "
                    f"{FORMAT_SETTING} for this one run"
                )
        elif unfinished:
            force = True
    return Verdict("make", tuple(problems), force=force and not problems)


def _existing(devices: Sequence[Device], want: Pool, mounted: Mounted | None, ours: Sequence[Device]) -> Verdict:
    """Judge devices of which some are in a pool of ours: it is kept, or the run is refused; never formatted."""
    blocks = [d.superblock for d in ours if d.superblock]
    pools = sorted({b.uuid for b in blocks})
    if len(pools) > 1:
        return Verdict(
            "keep", (f"the devices belong to {len(pools)} different pools ({', '.join(pools)}); name one's only",)
        )
    block, uuid = blocks[0], pools[0]
    others = [d for d in devices if d not in ours]
    problems, lacking = [], block.num_devices - len(ours)
    if lacking > 0:
        have = ", ".join(f"{d.path} (member {d.superblock.devid})" for d in ours if d.superblock)
        where = "; ".join(f"{d.path}: {d.problem or ', '.join(d.signatures) or 'blank'}" for d in others)
        problems.append(
            f"pool {uuid} is degraded: {lacking} of its {block.num_devices} members not found. Found {have}"
            + (f"; the rest: {where}" if where else "; fewer devices are listed than the pool has")
            + f". Nothing was formatted. Reconnect the disk, or replace it: mount -o degraded {ours[0].path} "
            f"{want.mountpoint} and "
            f"btrfs replace start MEMBER NEW_DEVICE {want.mountpoint}"
        )
    elif others:
        names = ", ".join(d.path for d in others)
        problems.append(
            f"pool {uuid} is complete without {names}; growing it is not automatic: btrfs device add {names} "
            f"{want.mountpoint}"
        )
    expected = metadata_profile(want.profile, len(want.devices))
    if not problems and block.system_profile not in (None, expected) and mounted is None:
        problems.append(_convert(uuid, want, f"its system data is {block.system_profile}, not {expected}"))
    return Verdict("keep", tuple(problems), uuid, degraded=lacking > 0)


def _convert(uuid: str, want: Pool, found: str) -> str:
    metadata = metadata_profile(want.profile, len(want.devices))
    return (
        f"pool {uuid} does not have profile {want.profile}: {found}. Converting is not automatic: btrfs balance start "
        f"-dconvert={want.profile},soft -mconvert={metadata},soft {want.mountpoint}, or correct the profile"
    )


def judge(devices: Sequence[Device], want: Pool, mounted: Mounted | None, allow_format: bool) -> Verdict:
    """Say what to do with the devices found for ``want``; problems mean that nothing may be written. Pure."""
    ours = [
        d
        for d in devices
        if d.superblock and d.superblock.finished and owner_of(d.superblock.label, want.label) == want.practice
    ]
    problems = _usable(devices, want)
    verdict = Verdict("keep")
    if ours and len({d.number for d in ours}) == len(ours):
        verdict = _existing(devices, want, mounted, ours)
        # a missing member is told once, with its cure
        problems = [p for p in problems if not (verdict.degraded and any(p.startswith(f"{d.path}: ") for d in devices))]
    elif not problems:
        verdict = _blank(devices, want, allow_format)
    foreign = mounted is not None and (not verdict.uuid or mounted.uuid != verdict.uuid)
    if mounted and foreign and not (problems or verdict.problems):
        problems.append(
            f"{want.mountpoint}: {mounted.kind} {mounted.uuid or mounted.source} is mounted there, which is not "
            "this pool; "
            f"unmount it or choose another mountpoint"
        )
    return Verdict(
        verdict.action,
        tuple(problems) + verdict.problems,
        verdict.uuid,
        verdict.degraded,
        verdict.force and not problems,
    )


def profile_problem(profiles: Mapping[str, Sequence[str]], want: Pool, uuid: str) -> str | None:
    """Compare the profiles of a mounted pool with the wanted one. Pure."""
    metadata = metadata_profile(want.profile, len(want.devices))
    expected = {"data": want.profile, "metadata": metadata, "system": metadata}
    wrong = [
        f"{k} is {'+'.join(profiles.get(k, ['unknown']))}"
        for k, v in expected.items()
        if list(profiles.get(k, [])) != [v]
    ]
    return _convert(uuid, want, ", ".join(wrong)) if wrong else None


def escape_path(path: str) -> str:
    """Name a path as systemd does (``systemd-escape --path``)."""
    parts = [p for p in path.split("/") if p]
    text = "-".join(
        re.sub(r"[^A-Za-z0-9:_.]", lambda m: "".join(f"\\x{b:02x}" for b in m.group().encode()), p) for p in parts
    )
    return "\\x2e" + text[1:] if text.startswith(".") else text or "-"


def mount_unit_name(mountpoint: str) -> str:
    """Give the name that systemd demands for a mount unit."""
    return escape_path(mountpoint) + ".mount"


def render_mount(want: Pool, pool_uuid: str, udev: bool) -> str:
    """Write the mount unit. Members are named one by one, as nothing else gathers them where udev does not run."""
    options = ["noatime", "nodev", "noexec", "nosuid", *(f"device={path}" for path in want.devices)]
    what = f"/dev/disk/by-uuid/{pool_uuid}" if udev else want.devices[0]
    return f"""# Holdfast: the backup pool of {want.practice}. Written by nas_storage.
# Pool {pool_uuid}
[Unit]
Description=Holdfast backup pool
# the host starts without its pool; the repository service then does not
[Mount]
What={what}
Where={want.mountpoint}
Type=btrfs
Options={",".join(options)}
TimeoutSec=300

[Install]
WantedBy=multi-user.target
"""


def render_scrub(want: Pool) -> tuple[str, str]:
    """Write (service, timer). Exit 3 of scrub means damage that no copy could mend: the unit fails and shows it."""
    service = f"""# Holdfast: reads every copy of every block and mends what differs. Written by nas_storage.
[Unit]
Description=Holdfast scrub of {want.mountpoint}
RequiresMountsFor={want.mountpoint}
[Service]
Type=oneshot
ExecStart=/usr/bin/btrfs scrub start -B {want.mountpoint}
Nice=19
IOSchedulingClass=idle
"""
    # the first Sunday of the month, clear of the hours in which clocks change
    timer = f"""# Holdfast: monthly scrub. Written by nas_storage.
[Unit]
Description=Holdfast monthly scrub of {want.mountpoint}
[Timer]
OnCalendar=Sun *-*-01..07 04:30:00
RandomizedDelaySec=30min
FixedRandomDelay=true
Persistent=true
[Install]
WantedBy=timers.target
"""
    return service, timer


def unit_files(want: Pool, pool_uuid: str, udev: bool) -> list[File]:
    """Give the unit files of the pool."""
    service, timer = render_scrub(want)
    return [
        File(f"{SYSTEMD}/{mount_unit_name(want.mountpoint)}", render_mount(want, pool_uuid, udev).encode()),
        File(f"{SYSTEMD}/{SCRUB}.service", service.encode()),
        File(f"{SYSTEMD}/{SCRUB}.timer", timer.encode()),
    ]


def absent_files(mountpoint: str) -> list[File]:
    """Give the same files as unwanted."""
    names = (mount_unit_name(mountpoint), f"{SCRUB}.service", f"{SCRUB}.timer")
    return [File(f"{SYSTEMD}/{name}", None) for name in names]


def units(mountpoint: str, present: bool) -> list[Unit]:
    """Give the units; a changed mount unit is not remounted under the people who use it."""
    return [
        Unit(mount_unit_name(mountpoint), enabled=present, active=present),
        Unit(
            f"{SCRUB}.timer",
            enabled=present,
            active=present,
            restart_when=(f"{SYSTEMD}/{SCRUB}.timer",) if present else (),
        ),
    ]


def pool_stamp(practice: str, mountpoint: str) -> File:
    """Give the stamp in the pool's root."""
    return File(f"{mountpoint}/{STAMP_NAME}", (json.dumps({"practice": practice}) + "\n").encode())


def judge_pool_stamp(text: str | None, practice: str, path: str) -> None:
    """Raise StorageError when the stamp in a pool's root names another practice. Pure; no stamp is no objection."""
    if text is None:
        return
    try:
        found = str(json.loads(text)["practice"])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f'{path}: not a stamp ({error}); expected {{"practice": ...}}') from error
    if found != practice:
        raise StorageError(
            f'{path}: this pool holds the backups of practice "{found}", but the play is for practice '
            f'"{practice}"; nothing was '
            f"written. Correct the address or the disks in the practice document"
        )


def parse_mountinfo(text: str) -> list[dict[str, str]]:
    """Read /proc/self/mountinfo: [{"number", "mountpoint", "kind", "source"}], later ones cover earlier ones."""
    found = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if dash and len(before) > 4 and len(after) > 1:
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), before[4])
            found.append({"number": before[2], "mountpoint": point, "kind": after[0], "source": after[1]})
    return found


def mount_at(mountpoint: str, text: str) -> dict[str, str] | None:
    """Give what is mounted exactly at a path, or None."""
    hits = [m for m in parse_mountinfo(text) if m["mountpoint"] == mountpoint]
    return hits[-1] if hits else None


def signatures_in(wipefs: str) -> tuple[str, ...]:
    """Read ``wipefs --json --no-act``: each signature in words, such as ``ext4 "DATA"``."""
    if not wipefs.strip():
        return ()
    try:
        rows = json.loads(wipefs)["signatures"]
        return tuple(f'{row["type"]} "{row["label"]}"' if row.get("label") else str(row["type"]) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"wipefs: unexpected answer ({error}); expected its JSON form") from error


def probed_type(blkid: str) -> str:
    """Read ``blkid --probe --output export``: the type that it found, or an empty text."""
    facts = dict(line.split("=", 1) for line in blkid.splitlines() if "=" in line)
    return facts.get("TYPE") or (f"partition table {facts['PTTYPE']}" if "PTTYPE" in facts else "")


class Devices:
    """The door to block devices: looks, never writes."""

    def __init__(self, run_command: RunCommand) -> None:
        self._run = run_command

    def look(self, path: str) -> Device:
        """Describe one device; links are followed, so that two names of one disk are seen as one."""
        try:
            facts = Path(path).stat()
        except OSError as error:
            return Device(
                path, problem=f"not there ({error.strerror}); check the cable and the name under /dev/disk/by-id"
            )
        if not stat.S_ISBLK(facts.st_mode):
            return Device(path, problem="not a block device")
        number = (os.major(facts.st_rdev), os.minor(facts.st_rdev))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return Device(
                path, problem=f"cannot be read ({error.strerror}); the disk may have failed", number=number, disk=number
            )
        try:
            size = os.lseek(handle, 0, os.SEEK_END)
            start = os.pread(handle, 1024 * 1024, 0)
        except OSError as error:
            return Device(
                path, problem=f"cannot be read ({error.strerror}); the disk may have failed", number=number, disk=number
            )
        finally:
            os.close(handle)
        block = parse_superblock(start[SUPERBLOCK_OFFSET : SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE])
        marks = self._signatures(path)
        if not marks and block is None and any(start):
            marks = ("data of an unknown kind",)  # plain encryption, for one, has no signature
        return Device(path, None, number, self._disk_of(number), size, marks, self._user_of(path, number), block)

    def _signatures(self, path: str) -> tuple[str, ...]:
        code, out, err = self._run(["wipefs", "--json", "--no-act", "--", path])
        if code != 0:
            raise StorageError(f"{path}: wipefs failed ({code}): {err.strip()}; the device cannot be judged")
        marks = signatures_in(out)
        # blkid sees a few kinds that wipefs does not list; 2 means none, 8 several that contradict each other
        code, out, err = self._run(["blkid", "--probe", "--output", "export", path])
        if code == 8:
            marks += ("contradicting signatures",)
        elif code not in (0, 2):
            raise StorageError(f"{path}: blkid failed ({code}): {err.strip()}; the device cannot be judged")
        elif not marks and probed_type(out):
            marks = (probed_type(out),)
        return marks

    @staticmethod
    def _disk_of(number: tuple[int, int]) -> tuple[int, int]:
        """Give the whole disk's number for a partition, else the same number."""
        place = Path(f"/sys/dev/block/{number[0]}:{number[1]}")
        if (place / "partition").exists():
            major, minor = (place.resolve().parent / "dev").read_text().strip().split(":")
            return int(major), int(minor)
        return number

    @staticmethod
    def _user_of(path: str, number: tuple[int, int]) -> str | None:
        """Say who uses a device. The kernel itself is asked last: a second exclusive opener is turned away."""
        for mount in parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8")):
            source = mount["source"]
            if mount["number"] == f"{number[0]}:{number[1]}" or (
                source.startswith("/dev/") and _number_of(source) == number
            ):
                return f"mounted at {mount['mountpoint']}"
        for line in Path("/proc/swaps").read_text(encoding="utf-8").splitlines()[1:]:
            if _number_of(line.split()[0]) == number:
                return "swap"
        holders = Path(f"/sys/dev/block/{number[0]}:{number[1]}/holders")
        if holders.is_dir() and any(holders.iterdir()):
            return f"held by {', '.join(sorted(p.name for p in holders.iterdir()))}"
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return "the kernel holds it: mounted, or part of an array"
            raise StorageError(f"{path}: cannot be opened ({error.strerror})") from error
        return None


def _number_of(path: str) -> tuple[int, int] | None:
    try:
        facts = Path(path).stat()
    except OSError:
        return None  # a name of another namespace, or a deleted file: not one of our devices
    return (os.major(facts.st_rdev), os.minor(facts.st_rdev)) if stat.S_ISBLK(facts.st_mode) else None
