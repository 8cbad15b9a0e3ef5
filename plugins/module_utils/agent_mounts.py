# SPDX-License-Identifier: Apache-2.0
"""Is what is to be backed up really there? A volume that is not mounted leaves an empty folder, which is no backup.

Mounts are told by the kernel's own list, so that a path on a server that does not answer is not touched. The agent runs
in a mount namespace of its own, in which systemd lays folders over themselves to make them read-only: what shows the same
as would be there without it counts for nothing here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOUNTINFO = Path("/proc/self/mountinfo")
LOOK_S = 20
# file systems that another machine, or a program, stands behind: looking at one may wait for ever
REMOTE = re.compile(r"nfs4?|cifs|smb3?|smbfs|9p|afs|ceph|glusterfs|lustre|autofs|fuse(?:blk)?(?:\..+)?|davfs|sshfs")
_LOOK = "import os, sys\nfor path in sys.argv[1:]:\n    os.stat(path)\n    os.path.isdir(path) and os.listdir(path)\n"


@dataclass(frozen=True)
class Mount:
    """One file system at its place. what: device number and the part of it that is shown."""

    at: str
    kind: str
    what: str


def below(path: str, folder: str) -> bool:
    """Is the path the folder or inside it?"""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def mounts_in(mountinfo: str) -> dict[str, Mount]:
    """Mounts by their place, the topmost of each, from the text of /proc/self/mountinfo (bytes read as latin-1)."""
    found: dict[str, tuple[str, str, str]] = {}
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        words = front.split(" ")
        if len(words) < 5 or not back:
            continue
        root, at = (_plain(word).encode("latin-1").decode("utf-8", "surrogateescape") for word in words[3:5])
        found[at] = (words[2], root, back.split(" ")[0])
    mounts = {}
    for at, (device, root, kind) in found.items():
        over = max((other for other in found if other != at and below(at, other)), key=len, default=None)
        if over is not None:
            rest = at[len(over.rstrip("/")) :]
            if (device, root) == (found[over][0], (found[over][1].rstrip("/") + rest) or "/"):
                continue  # laid over itself
        mounts[at] = Mount(at, kind, f"{device} {root}")
    return mounts


def read_mounts() -> dict[str, Mount]:
    """Mounts as the agent sees them now."""
    return mounts_in(MOUNTINFO.read_text(encoding="latin-1"))


def mount_of(path: str, mounts: Mapping[str, Mount]) -> Mount | None:
    """The mount that a path lies on; None for the root of all."""
    at = max((each for each in mounts if below(path, each)), key=len, default="/")
    return mounts[at] if at != "/" else None


def own_mounts(roots: Iterable[str], mounts: Mapping[str, Mount]) -> list[str]:
    """Mounts that the roots lie on, or that lie in them; not the host's own root."""
    found = set()
    for root in roots:
        over = mount_of(root, mounts)
        found |= {over.at} if over else set()
        found |= {at for at in mounts if at != "/" and below(at, root)}
    return sorted(found)


def remote_roots(roots: Iterable[str], mounts: Mapping[str, Mount]) -> list[str]:
    """Roots, and mounts in them, that another machine or a program answers for."""
    found = set()
    for root in roots:
        over = mount_of(root, mounts)
        found |= {root} if over and REMOTE.fullmatch(over.kind) else set()
        found |= {m.at for m in mounts.values() if below(m.at, root) and REMOTE.fullmatch(m.kind)}
    return sorted(found)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a source. Without ``failed`` the rest of the job is still worth keeping."""

    code: str
    message: str
    failed: bool = True


def missing(
    declared: Sequence[str] | None, roots: Sequence[str], before: Mapping[str, Any], mounts: Mapping[str, Mount]
) -> Fault | None:
    """What is not mounted: the first of the job's own list, or without a list of what the last good run had.

    before: {finished, mounts} of the last good run. A mount that a root lies on is as good as the root; one inside a root
    leaves the rest worth keeping.
    """
    for path in declared or ():
        if path not in mounts:
            return Fault(
                "mount_missing", f"{path} must be a mount point and is none: is a disk not mounted? Nothing was read"
            )
    if declared is not None:
        return None
    lost = [path for path in before.get("mounts") or () if path not in mounts]
    lost.sort(key=lambda path: not any(below(root, path) for root in roots))
    if not lost:
        return None
    return Fault(
        "mount_missing",
        f"{lost[0]} was a mount of its own at the last good run ({before.get('finished')}) and is none now: is a disk not "
        f"mounted? If it was moved for good, write mounts: [] (or those that must be there) for this item",
        any(below(root, lost[0]) for root in roots),
    )


def changed(paths: Iterable[str], before: Mapping[str, Mount], after: Mapping[str, Mount]) -> Fault | None:
    """A mount that went, or that another one replaced, while it was backed up."""
    for path in paths:
        if before.get(path) != after.get(path):
            return Fault(
                "mount_missing", f"{path} was unmounted or replaced while it was backed up; this run does not count"
            )
    return None


def look_command(python: str, paths: Sequence[str]) -> list[str]:
    """A program that looks at each path, to be ended from outside when one never answers."""
    return [python, "-I", "-S", "-c", _LOOK, *paths]


class Sources:
    """What a job reads, looked at before its run and after."""

    def __init__(self, job: Any, last_ok: Mapping[str, Any], children: Any) -> None:
        self._job, self._last_ok, self._children = job, last_ok, children
        database = job.database
        own = [database.path, (database.images or {}).get("root")] if database else []
        self.roots = list(dict.fromkeys([*job.paths, *(path for path in own if path)]))
        self._first = read_mounts()
        self.mounts = own_mounts(self.roots, self._first)

    def before(self) -> Fault | None:
        """Is everything mounted, and does what another machine serves answer in time?"""
        fault = missing(self._job.mounts, self.roots, self._last_ok, self._first)
        far = remote_roots(self.roots, self._first)
        if (fault and fault.failed) or not far:
            return fault
        return self._look(far) or fault

    def after(self) -> Fault | None:
        """Is all of it still the same?"""
        return changed([*self.mounts, *(self._job.mounts or ())], self._first, read_mounts())

    def _look(self, paths: Sequence[str]) -> Fault | None:
        """Look from a process of its own: what waits for a server that is gone cannot be interrupted from within."""
        process = self._children.start(look_command(sys.executable, paths), {}, stderr=subprocess.PIPE)
        try:
            said = process.communicate(timeout=LOOK_S)[1].decode("utf-8", "replace").strip()
        except subprocess.TimeoutExpired:
            process.kill()
            return Fault(
                "mount_gone", f"{', '.join(paths)}: no answer within {LOOK_S} s: is the machine that serves it off?"
            )
        if process.returncode == 0 or "FileNotFoundError" in said:
            return None
        why = said.splitlines()[-1] if said else f"ended with {process.returncode}"
        return Fault("mount_gone", f"{', '.join(paths)} cannot be read: {why}")
