# SPDX-License-Identifier: Apache-2.0
"""Files, folders and systemd units that a module wants on a host: gather, plan (pure), apply.

Every module that owns a domain of a host describes it as one ``Wanted`` and hands it to ``HostState``. Check mode and
diff follow from the plan, and a restart that an interrupted run never made is made by the next one: a unit is restarted
when a file that it depends on changed after the unit started, not when a task happened to report a change.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

HIDDEN = "(hidden)\n"
RUNNING = ("active", "activating", "reloading", "refreshing")
UNIT_FOLDERS = (
    "/etc/systemd/system/",
    "/etc/systemd/system.conf.d/",
    "/usr/lib/systemd/system/",
    "/run/systemd/system/",
)

# what run_command of AnsibleModule is to us: arguments -> (exit code, output, errors)
RunCommand = Callable[..., tuple[int, str, str]]


class HostStateError(Exception):
    """The host could not be read or changed; the text says what was expected and what to do."""


@dataclass(frozen=True)
class File:
    """A file with exactly this content; ``None`` means that it must not exist. ``secret`` keeps it out of diffs."""

    path: str
    content: bytes | None
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False


@dataclass(frozen=True)
class Dir:
    """A folder; with ``absent`` it is removed when nothing is left in it (what others put there is never removed)."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"
    absent: bool = False


@dataclass(frozen=True)
class Unit:
    """A systemd unit. ``None`` leaves that side alone. ``restart_when``: paths whose change asks for a restart."""

    name: str
    enabled: bool | None = True
    active: bool | None = True
    restart_when: tuple[str, ...] = ()
    reload: bool = False


@dataclass(frozen=True)
class Wanted:
    """The whole of a domain: folders (parents first), files, units (in the order in which they start)."""

    dirs: Sequence[Dir] = ()
    files: Sequence[File] = ()
    units: Sequence[Unit] = ()


@dataclass(frozen=True)
class Found:
    """A path as it is.

    ``kind`` is file, dir or other; ``changed_at`` its ctime in seconds since the epoch; ``entries`` the names in a folder.
    """

    kind: str
    mode: int
    owner: str
    group: str
    content: bytes | None = None
    changed_at: float = 0.0
    entries: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundUnit:
    """A unit as systemd shows it; ``started_at`` is in seconds since the epoch, 0 when it never started."""

    known: bool
    enabled: bool
    active: bool
    started_at: float = 0.0
    needs_reload: bool = False


@dataclass(frozen=True)
class Have:
    """What was found: paths (missing ones are absent from the mapping) and units."""

    paths: Mapping[str, Found] = field(default_factory=dict)
    units: Mapping[str, FoundUnit] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One step.

    ``verb`` is one of stop, disable, mkdir, write, chmod, remove, daemon-reload, enable, start, restart, reload, rmdir.
    """

    verb: str
    target: str
    why: str = ""
    want: Any = None
    have: Any = None


def _facts_differ(want: Any, have: Found) -> bool:
    return (want.mode, want.owner, want.group) != (have.mode, have.owner, have.group)


def _plan_files(have: Have, want: Wanted) -> list[Change]:
    changes: list[Change] = []
    for folder in want.dirs:
        found = have.paths.get(folder.path)
        if folder.absent:
            continue
        if found is None:
            changes.append(Change("mkdir", folder.path, "missing", folder))
        elif found.kind != "dir":
            raise HostStateError(f"{folder.path}: expected a folder, found a {found.kind}; move it away and run again")
        elif _facts_differ(folder, found):
            changes.append(Change("chmod", folder.path, "owner or mode", folder, found))
    for item in want.files:
        found = have.paths.get(item.path)
        if found is not None and found.kind == "dir":
            raise HostStateError(f"{item.path}: expected a file, found a folder; move it away and run again")
        if item.content is None:
            if found is not None:
                changes.append(Change("remove", item.path, "not wanted", item, found))
        elif found is None or found.content != item.content or found.kind != "file":
            changes.append(Change("write", item.path, "missing" if found is None else "content", item, found))
        elif _facts_differ(item, found):
            changes.append(Change("chmod", item.path, "owner or mode", item, found))
    return changes


def _unit_stops(have: Have, want: Wanted) -> list[Change]:
    changes: list[Change] = []
    for unit in reversed(want.units):
        found = have.units.get(unit.name, FoundUnit(False, False, False))
        if unit.active is False and found.active:
            changes.append(Change("stop", unit.name, "not wanted"))
        if unit.enabled is False and found.enabled:
            changes.append(Change("disable", unit.name, "not wanted"))
    return changes


def _unit_starts(have: Have, want: Wanted, touched: Sequence[str]) -> list[Change]:
    changes: list[Change] = []
    for unit in want.units:
        found = have.units.get(unit.name, FoundUnit(False, False, False))
        if unit.enabled and not found.enabled:
            changes.append(Change("enable", unit.name, "not enabled"))
        if not unit.active:
            continue
        if not found.active:
            changes.append(Change("start", unit.name, "not running"))
            continue
        cause = next((path for path in unit.restart_when if path in touched), None)
        if cause is None and not unit.reload:
            later = (p for p in unit.restart_when if p in have.paths and have.paths[p].changed_at > found.started_at)
            cause = next(later, None)
        if cause is not None:
            changes.append(Change("reload" if unit.reload else "restart", unit.name, f"{cause} changed"))
    return changes


def plan(have: Have, want: Wanted) -> list[Change]:
    """Say, in order, what must happen for the host to be as wanted.

    Pure; raises HostStateError when something else stands where a file or folder has to be.
    """
    files = _plan_files(have, want)
    touched = [c.target for c in files]
    changes = _unit_stops(have, want) + files
    stale = any(u.needs_reload for u in have.units.values())
    if stale or any(path.startswith(UNIT_FOLDERS) for path in touched):
        changes.append(Change("daemon-reload", "systemd", "unit files changed"))
    changes += _unit_starts(have, want, touched)
    # a folder goes when all that is in it goes with this plan; what somebody else put there keeps it
    gone = {c.target for c in files if c.verb == "remove"}
    for folder in reversed([d for d in want.dirs if d.absent and d.path in have.paths]):
        if all(f"{folder.path.rstrip('/')}/{name}" in gone for name in have.paths[folder.path].entries):
            changes.append(Change("rmdir", folder.path, "empty", folder))
            gone.add(folder.path)
    return changes


def _text(content: bytes | None) -> str:
    if content is None:
        return ""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(content)} bytes, not text)\n"


def _facts(item: Any) -> str:
    return f"{item.owner}:{item.group} {item.mode:04o}"


def diff_of(changes: Sequence[Change]) -> list[dict[str, str]]:
    """Turn a plan into what Ansible prints with --diff. Contents of secret files are never part of it."""
    shown: list[dict[str, str]] = []
    for change in changes:
        entry = {"before_header": change.target, "after_header": f"{change.target} ({change.verb}: {change.why})"}
        if change.verb in ("write", "remove"):
            secret = change.want.secret
            was, becomes = (change.have.content if change.have else None), change.want.content
            entry["before"] = (HIDDEN if was is not None else "") if secret else _text(was)
            entry["after"] = ("(hidden, new)\n" if becomes is not None else "") if secret else _text(becomes)
        elif change.verb == "chmod":
            entry["before"], entry["after"] = _facts(change.have) + "\n", _facts(change.want) + "\n"
        else:
            entry["before"], entry["after"] = "", f"{change.verb} {change.target}\n"
        shown.append(entry)
    return shown


def describe(changes: Sequence[Change]) -> list[str]:
    """One short line a change, for the module's result."""
    return [f"{c.verb} {c.target}" + (f" ({c.why})" if c.why else "") for c in changes]


def parse_units(names: Sequence[str], shown: str, boot: float) -> dict[str, FoundUnit]:
    """Read ``systemctl show``: one block a unit, in the order asked.

    ``boot`` is the time, in seconds since the epoch, at which the monotonic clock stood at 0.
    """
    blocks = [b for b in shown.strip().split("\n\n") if b.strip()]
    if len(blocks) != len(names):
        raise HostStateError(f"systemctl show: asked for {len(names)} units, got {len(blocks)} answers")
    units = {}
    for name, block in zip(names, blocks):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        started = int(facts.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        units[name] = FoundUnit(
            known=facts.get("LoadState") == "loaded",
            enabled=facts.get("UnitFileState") in ("enabled", "enabled-runtime", "linked", "alias"),
            active=facts.get("ActiveState") in RUNNING,
            started_at=boot + started if started else 0.0,
            needs_reload=facts.get("NeedDaemonReload") == "yes",
        )
    return units


def _name_of(number: int, table: Callable[[int], Any]) -> str:
    try:
        return str(table(number)[0])
    except KeyError:
        return str(number)


def look_at(path: str, read: bool = True) -> Found | None:
    """What is at a path (links are not followed); None when there is nothing."""
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise HostStateError(f"{path}: a folder above it is a file; move that away and run again") from error
    kind = "file" if stat.S_ISREG(facts.st_mode) else "dir" if stat.S_ISDIR(facts.st_mode) else "other"
    return Found(
        kind=kind,
        mode=stat.S_IMODE(facts.st_mode),
        owner=_name_of(facts.st_uid, pwd.getpwuid),
        group=_name_of(facts.st_gid, grp.getgrgid),
        content=Path(path).read_bytes() if kind == "file" and read else None,
        changed_at=facts.st_ctime,
        entries=tuple(sorted(os.listdir(path))) if kind == "dir" else (),  # noqa: PTH208 - plain names are wanted
    )


def _ids(want: Any) -> tuple[int, int]:
    try:
        return pwd.getpwnam(want.owner).pw_uid, grp.getgrnam(want.group).gr_gid
    except KeyError as error:
        raise HostStateError(
            f"{want.path}: no user or group {error} on this host; is its package installed?"
        ) from error


def write_atomically(want: File) -> None:
    """Put a file in place in one step: a reader sees the old one or the new, never half, never with a looser mode."""
    if want.content is None:
        raise HostStateError(f"{want.path}: nothing to write")
    uid, gid = _ids(want)
    folder = Path(want.path).parent
    if not folder.is_dir():
        raise HostStateError(f"{want.path}: its folder {folder} does not exist; is its package installed?")
    handle, temporary = tempfile.mkstemp(prefix=f".{Path(want.path).name}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(want.content)
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), want.mode)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(want.path)
    except BaseException:
        Path(temporary).unlink()
        raise
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


class HostState:
    """The door to the host: reads what a ``Wanted`` speaks of, and carries out a plan."""

    def __init__(self, run_command: RunCommand) -> None:
        self._run = run_command

    def gather(self, want: Wanted) -> Have:
        """Look at every path and unit of ``want``, and at paths that units watch."""
        paths: dict[str, Found] = {}
        named = [d.path for d in want.dirs] + [f.path for f in want.files]
        watched = [p for unit in want.units for p in unit.restart_when if p not in named]
        for path in named + watched:
            found = look_at(path, read=path in named)
            if found is not None:
                paths[path] = found
        return Have(paths, self._gather_units([u.name for u in want.units]))

    def _gather_units(self, names: Sequence[str]) -> dict[str, FoundUnit]:
        if not names:
            return {}
        asked = "LoadState,UnitFileState,ActiveState,ActiveEnterTimestampMonotonic,NeedDaemonReload"
        code, out, err = self._run(["systemctl", "show", "--property", asked, "--", *names])
        if code != 0:
            raise HostStateError(f"systemctl show failed ({code}): {err.strip()}; is systemd running on this host?")
        return parse_units(names, out, time.time() - time.clock_gettime(time.CLOCK_MONOTONIC))

    def apply(self, changes: Sequence[Change]) -> None:
        """Carry out a plan in its order; stops at the first step that fails and says which."""
        for change in changes:
            if change.verb == "mkdir":
                Path(change.target).mkdir(mode=0o700, parents=False)
                self._own(change.want)
            elif change.verb == "chmod":
                self._own(change.want)
            elif change.verb == "write":
                write_atomically(change.want)
            elif change.verb == "remove":
                Path(change.target).unlink()
            elif change.verb == "rmdir":
                Path(change.target).rmdir()
            else:
                self._systemctl(change)

    def _own(self, want: Any) -> None:
        uid, gid = _ids(want)
        os.chown(want.path, uid, gid, follow_symlinks=False)
        Path(want.path).chmod(want.mode)

    def _systemctl(self, change: Change) -> None:
        command = ["systemctl", change.verb] + ([] if change.verb == "daemon-reload" else ["--", change.target])
        code, out, err = self._run(command)
        if code != 0:
            _code, log, _err = self._run(
                ["journalctl", "--no-pager", "-q", "-n", "8", "-o", "cat", "-u", change.target]
            )
            raise HostStateError(f"{' '.join(command)} failed ({code}): {(err or out).strip()} {log.strip()}".strip())
