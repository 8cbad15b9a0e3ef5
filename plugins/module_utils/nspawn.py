# SPDX-License-Identifier: Apache-2.0
"""Decide about nspawn machines, their images and disks; no file, command or clock in here.

A machine is an overlay (``root`` over ``up`` and read-only image layers) in a folder of its own:

    FOLDER/{root,up,work}   the mounted disk, what the machine wrote, overlay's scratch space
    FOLDER/disks/NAME.img   further disks, bound into the machine through loop devices
    FOLDER/machine.json     what was laid out; written last, so a folder without it is half made
    FOLDER/events.jsonl     {"event": "started|exited|stopped", "at": epoch s, "mono_ns": int, "rc": int|null}
    FOLDER/console.log      what the machine said
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Raise it when the fixed part of an image changes (nspawn_host.finish_base): old images must not be taken for new ones.
RECIPE = 1

BASE_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "python3",
    "python3-apt",
    "iproute2",
    "ca-certificates",
    "tzdata",
)

SHELF_MOUNT = "/srv/shelf"
SHELF_SOURCE = f"deb [trusted=yes] file:{SHELF_MOUNT} ./\n"

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class NspawnError(Exception):
    """Something a person has to know about; the text says what was expected and what to do next."""


# ---------------------------------------------------------------------------------------------------------- images


def image_key(
    kind: str, suite: str, packages: Sequence[str], base: str | None = None, architecture: str = "amd64"
) -> str:
    """Return 12 hex digits that stand for everything that goes into an image, whatever the order of its packages.

    The mirror is no part of it: the same suite holds the same packages everywhere.
    """
    inputs = {
        "architecture": architecture,
        "base": base,
        "kind": kind,
        "packages": sorted(set(packages)),
        "recipe": RECIPE,
        "suite": suite,
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def mirror_lines(index_targets: str, host_release: str, suite: str) -> list[str]:
    """Turn this machine's own Debian sources into sources.list lines for another suite of the same mirror.

    index_targets: output of ``apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY)'``.
    host_release: code name of this machine's Debian release, or "" when it is not Debian.
    Returns [] when no source matches: the builder then uses its own default mirror.
    """
    if not host_release:
        return []
    lines = []
    for row in index_targets.splitlines():
        fields = row.split()
        if len(fields) < 4 or fields[2] != "main" or fields[3] != "Packages":
            continue
        release, _dash, pocket = fields[1].partition("-")
        if release != host_release or pocket not in ("", "updates", "security"):
            continue
        line = "deb {} {} main".format(fields[0].rstrip("/"), "-".join(filter(None, (suite, pocket))))
        if line not in lines:
            lines.append(line)
    # Without the suite itself (only a third-party pocket matched) nothing could be built.
    return lines if any(line.split()[2] == suite for line in lines) else []


def apt_settings(dump: str) -> tuple[list[str], dict[str, str]]:
    """Pick what apt needs to reach its mirror from ``apt-config dump``: (apt options, environment with the proxies)."""
    options = []
    environment = {}
    for line in dump.splitlines():
        match = re.fullmatch(r'Acquire::(\S+) "([^"]+)";', line.strip())
        if not match:
            continue
        name, value = match.group(1).lower(), match.group(2)
        if name in ("check-valid-until", "check-date"):
            options.append(f'Acquire::{match.group(1)} "{value}";')
        elif name in ("http::proxy", "https::proxy"):
            environment[name.replace("::", "_")] = value
    return options, environment


# -------------------------------------------------------------------------------------------------------- machines


@dataclass(frozen=True)
class Disk:
    """A disk of a machine: name as in /dev/disk/by-id/NAME (or an absolute path), size in bytes."""

    name: str
    size: int

    @property
    def target(self) -> str:
        """Return the path at which the machine sees the disk."""
        return self.name if self.name.startswith("/") else "/dev/disk/by-id/" + self.name

    @property
    def file(self) -> str:
        """Return the name of the file that holds the disk."""
        return self.name.strip("/").replace("/", "_") + ".img"


@dataclass(frozen=True)
class Bind:
    """A path of the carrier to be seen in the machine."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Machine:
    """What a machine is wanted to be. address is "IP/PREFIX"; namespace None means: no network at all."""

    name: str
    folder: str
    layers: tuple[str, ...] = ()
    namespace: str | None = None
    bridge: str | None = None
    address: str | None = None
    disks: tuple[Disk, ...] = ()
    binds: tuple[Bind, ...] = ()
    shelf: str | None = None
    hosts: tuple[tuple[str, str], ...] = ()
    authorized_key: str = ""

    @property
    def root(self) -> str:
        """Return where the machine's disk is mounted."""
        return self.folder + "/root"

    def laid_out(self) -> dict[str, Any]:
        """What is fixed once the disk has been laid out; a machine that differs has to be made anew."""
        return {
            "name": self.name,
            "layers": list(self.layers),
            "address": self.address,
            "networked": self.namespace is not None,
            "shelf": self.shelf,
            "hosts": [list(pair) for pair in self.hosts],
            "authorized_key": self.authorized_key,
        }


@dataclass(frozen=True)
class Mount:
    """A mount: target, file system type, options of the file system."""

    target: str
    kind: str
    options: str = ""


@dataclass(frozen=True)
class Process:
    """A process: its id, its parent's id, what it was started with."""

    pid: int
    parent: int
    argv: tuple[str, ...]


@dataclass
class Have:
    """What was found of a machine: see nspawn_host.MachineHost.gather."""

    folder: bool = False
    laid_out: dict[str, Any] | None = None
    mounts: tuple[Mount, ...] = ()
    loops: dict[str, str] = field(default_factory=dict)  # disk file -> /dev/loopN
    stale_loops: tuple[str, ...] = ()
    supervisor: int | None = None
    nspawn: int | None = None
    leader: int | None = None
    remains: tuple[int, ...] = ()  # processes in the machine's control groups

    @property
    def running(self) -> bool:
        """Say whether any process of the machine is alive."""
        return self.nspawn is not None or self.leader is not None or bool(self.remains)

    @property
    def healthy(self) -> bool:
        """Say whether it runs as it should: without its supervisor a machine would not come back from a reboot."""
        return self.nspawn is not None and self.leader is not None and self.supervisor is not None

    @property
    def state(self) -> str:
        """Return absent, partial (a run was cut short), created (there, but off) or started."""
        if self.running:
            return "started"
        if self.laid_out is not None:
            return "created"
        return "partial" if self.folder or self.mounts or self.loops or self.stale_loops else "absent"


def check(want: Machine) -> None:
    """Refuse a machine that cannot work.

    Raises NspawnError.
    """
    if not _NAME.fullmatch(want.name):
        raise NspawnError(f"name: {want.name!r} is no host name; use lower-case letters, digits and '-'")
    # The bridge's end of the cable is called vb-NAME, and the kernel takes 15 characters.
    if want.namespace and len(want.name) > 12:
        raise NspawnError(f"name: {want.name!r} is too long for a machine with a network; use at most 12 characters")
    if not want.folder.startswith("/") or want.folder.count("/") < 2:
        raise NspawnError(f"folder: {want.folder!r} must be an absolute path of a folder of its own")
    if want.address is not None and not re.fullmatch(r"\d+(\.\d+){3}/\d+", want.address):
        raise NspawnError(f"network.address: {want.address!r} must look like 198.18.0.11/24")


def plan(have: Have, want: Machine, state: str) -> list[str]:
    """Say which steps lead from what is there to the wanted state, in order; [] when nothing is to be done.

    A step is a verb, for some with an argument after a colon: kill, poweroff, unmount, wipe, lay_out, mount, furnish,
    attach:FILE, detach:LOOP, start.
    Raises NspawnError when a finished machine differs from the wanted one in what cannot be changed afterwards.
    """
    alive = have.running or have.supervisor is not None
    detach = ["detach:" + loop for loop in sorted({*have.loops.values(), *have.stale_loops})]
    if state == "absent":
        return [
            *(["kill"] if alive else []),
            *(["unmount"] if have.mounts else []),
            *detach,
            *(["wipe"] if have.folder else []),
        ]
    if state == "stopped" and have.running:
        return ["poweroff"]
    if state in ("stopped", "killed"):
        return ["kill"] if alive else []
    if have.laid_out is not None:
        _same_machine(have.laid_out, want)
    missing = [disk for disk in want.disks if disk.file not in have.loops]
    if have.laid_out is not None and have.healthy and state in ("created", "started"):
        if missing:
            raise NspawnError(f"machine {want.name} is running without its disk {missing[0].name}; stop it first")
        return []
    steps = ["kill"] if alive else []
    if have.laid_out is None:
        steps += [*(["unmount"] if have.mounts else []), *detach, *(["wipe"] if have.folder else [])]
        steps += ["lay_out", "mount", "furnish", *("attach:" + disk.file for disk in want.disks)]
    else:
        if len(have.mounts) != 1:
            steps += [*(["unmount"] if have.mounts else []), "mount"]
        steps += ["detach:" + loop for loop in have.stale_loops]
        steps += ["attach:" + disk.file for disk in missing]
    return [*steps, "start"] if state == "started" else steps


def _same_machine(laid_out: Mapping[str, Any], want: Machine) -> None:
    different = sorted(key for key, value in want.laid_out().items() if laid_out.get(key) != value)
    if different:
        raise NspawnError(
            f"machine {want.name} in {want.folder} was made with another {', '.join(different)}; "
            "remove it first (state=absent), then create it again"
        )


def nspawn_argv(want: Machine, loops: Mapping[str, str]) -> list[str]:
    """Build the command that boots the machine; loops maps each disk's file name to its loop device."""
    argv = ["nsenter", "--net=" + want.namespace] if want.namespace else []
    argv += [
        "systemd-nspawn",
        "--quiet",
        "--register=no",
        "--keep-unit",
        "--directory=" + want.root,
        "--machine=" + want.name,
        "--hostname=" + want.name,
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--boot",
    ]
    argv.append("--network-bridge=" + str(want.bridge) if want.namespace else "--private-network")
    if want.shelf:
        argv.append(f"--bind-ro={want.shelf}:{SHELF_MOUNT}")
    for bind in want.binds:
        argv.append("--bind{}={}:{}".format("" if bind.writable else "-ro", bind.source, bind.target))
    if want.disks:
        argv.append("--bind=/dev/btrfs-control")
    for disk in want.disks:
        loop = loops[disk.file]
        # Under its own name too: tools that look a file system up by UUID go from /proc/partitions to /dev/NAME.
        argv += ["--bind=" + loop, f"--bind={loop}:{disk.target}"]
    return argv


def cgroups_of(mounts: Sequence[Mount], want: Machine) -> list[str]:
    """Name the machine's own control group in each hierarchy in which systemd keeps its units."""
    name = "holdfast-" + hashlib.blake2b(want.folder.encode(), digest_size=6).hexdigest()
    return sorted(
        {
            f"{mount.target}/{name}"
            for mount in mounts
            if mount.target.startswith("/sys/fs/cgroup")
            and (mount.kind == "cgroup2" or (mount.kind == "cgroup" and "name=systemd" in mount.options.split(",")))
        }
    )


def overlay_options(want: Machine) -> str:
    """Return the mount options of the machine's disk."""
    return "lowerdir={0},upperdir={1}/up,workdir={1}/work".format(":".join(want.layers), want.folder)


# --------------------------------------------------------------------------------------------------------- network


def plan_network(found: Iterable[str], inside: bool, state: str) -> list[str]:
    """Say what must be done for a namespace with a bridge to be there, or not.

    found: those of namespace, loopback, bridge, address, up that are in order; or stale for a name without a namespace.
    inside: whether the caller sits in the namespace, which is then kept.
    """
    there = set(found)
    if state == "present":
        steps = [part for part in ("namespace", "loopback", "bridge", "address", "up") if part not in there]
        return (["remove stale"] if "stale" in there else []) + steps
    if "stale" in there:
        return ["remove stale"]
    steps = ["remove bridge"] if "bridge" in there else []
    return [*steps, "remove namespace"] if "namespace" in there and not inside else steps


# ---------------------------------------------------------------------------------------------------------- parsing


def parse_size(text: str) -> int:
    """Turn "2GiB", "2G" or "1048576" into bytes (powers of 1024).

    Raises NspawnError for anything else and for zero.
    """
    match = _SIZE.fullmatch(str(text).strip())
    size = int(match.group(1)) * _UNITS[match.group(2).upper()] if match else 0
    if size <= 0:
        raise NspawnError(f"size: {text!r} must be a number of bytes or look like 2GiB")
    return size


def _unescape(text: str) -> str:
    """Undo the octal escapes of /proc/*/mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def parse_mountinfo(text: str) -> list[Mount]:
    """Read /proc/self/mountinfo into mounts, in the order in which they were made."""
    mounts = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if not dash or len(fields) < 5 or len(tail) < 3:
            continue
        mounts.append(Mount(_unescape(fields[4]), tail[0], _unescape(tail[2])))
    return mounts


def mounts_below(mounts: Sequence[Mount], folder: str) -> list[Mount]:
    """Keep the mounts at or below a folder, deepest and newest first: the order in which to undo them."""
    found = [mount for mount in mounts if mount.target == folder or mount.target.startswith(folder + "/")]
    return sorted(found, key=lambda mount: (mount.target.count("/"), mounts.index(mount)), reverse=True)


def parse_losetup(text: str) -> dict[str, str]:
    """Read ``losetup --list --json --output NAME,BACK-FILE`` into {/dev/loopN: backing file}; "" when none is used."""
    if not text.strip():
        return {}
    return {str(row["name"]): str(row.get("back-file") or "") for row in json.loads(text).get("loopdevices", [])}


def split_loops(loops: Mapping[str, str], folder: str, files: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Sort the loop devices of one machine: ({file: device} of wanted disks, [devices nobody wants any more]).

    The kernel shows a file that was removed under its device as "FILE (deleted)": such a device is not wanted either.
    """
    wanted: dict[str, str] = {}
    stale = []
    prefix = folder + "/disks/"
    for device, backing in sorted(loops.items()):
        if not backing.startswith(prefix):
            continue
        name = backing[len(prefix) :]
        if name in files and name not in wanted:
            wanted[name] = device
        else:
            stale.append(device)
    return wanted, stale


def find_processes(processes: Sequence[Process], want: Machine) -> tuple[int | None, int | None, int | None]:
    """Find (supervisor, nspawn, leader) of one machine by what they were started with, never by name alone."""
    nspawn = supervisor = None
    for process in processes:
        if "--directory=" + want.root in process.argv and process.argv[0].endswith("systemd-nspawn"):
            nspawn = process.pid
        elif want.folder + "/supervise" in process.argv[1:3]:
            supervisor = process.pid
    leader = None
    if nspawn is not None:
        children = sorted(process.pid for process in processes if process.parent == nspawn)
        leader = children[0] if children else None
    return supervisor, nspawn, leader
