# SPDX-License-Identifier: Apache-2.0
"""When snapshots arrived at the NAS, read from its disk.

A client chooses the time that a snapshot claims; it cannot choose the time at which the NAS wrote the file. So "newest"
and "how old" are judged by these times.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_OBJECT = re.compile(r"[0-9a-f]{64}")


class ArrivalsError(Exception):
    """The repositories cannot be read; the text says what was expected."""


def snapshots_in(repository: Path) -> dict[str, float]:
    """Give {snapshot id: arrival in seconds since the epoch} of one repository."""
    return objects_in(repository, "snapshots")


def objects_in(repository: Path, kind: str) -> dict[str, float]:
    """Give {id: arrival} of what a repository has of a kind (snapshots, keys, locks); links and half uploads do not count."""
    folder = repository / kind
    if folder.is_symlink() or not folder.is_dir():
        return {}
    found = {}
    for entry in os.scandir(folder):
        facts = entry.stat(follow_symlinks=False)
        if _OBJECT.fullmatch(entry.name) and stat.S_ISREG(facts.st_mode):
            found[entry.name] = facts.st_mtime
    return found


def size_of(folder: Path) -> tuple[int, int]:
    """Count (files, bytes) below a folder without following links."""
    files = total = 0
    for here, _folders, names in os.walk(folder, followlinks=False):
        for name in names:
            facts = os.lstat(Path(here) / name)
            if stat.S_ISREG(facts.st_mode):
                files, total = files + 1, total + facts.st_size
    return files, total


def accounts_in(folder: Path, asked: Sequence[str] | None) -> list[str]:
    """Name the accounts to read: those asked for, else all; raises ArrivalsError for one that has no folder."""
    if folder.is_symlink() or not folder.is_dir():
        raise ArrivalsError(f"{folder}: no such folder; is the pool mounted, and did the role nas_repository run?")
    there = sorted(e.name for e in os.scandir(folder) if e.is_dir(follow_symlinks=False))
    lacking = sorted(set(asked or []) - set(there))
    if lacking:
        raise ArrivalsError(
            f"{folder}: no repository folder for {', '.join(lacking)}; there is {', '.join(there) or 'none'}"
        )
    return sorted(set(asked)) if asked else there


def survey(
    folder: Path, asked: Sequence[str] | None, sizes: bool
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
    """Give ({account: {snapshot id: arrival}}, {account: {initialised, snapshots, newest, key_ids, files, bytes}})."""
    arrivals: dict[str, dict[str, float]] = {}
    repositories: dict[str, dict[str, Any]] = {}
    for account in accounts_in(folder, asked):
        place = folder / account
        arrivals[account] = snapshots_in(place)
        facts: dict[str, Any] = {
            "initialised": (place / "config").is_file(),
            "snapshots": len(arrivals[account]),
            "newest": max(arrivals[account].values(), default=None),
            "key_ids": objects_in(place, "keys"),
        }
        if sizes:
            facts["files"], facts["bytes"] = size_of(place)
        repositories[account] = facts
    return arrivals, repositories
