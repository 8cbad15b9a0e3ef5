# SPDX-License-Identifier: Apache-2.0
"""What a recovery has to know of a host's tools: which versions, from which packages, with which checksums.

Reads only. The recovery kit names them, so that somebody with nothing left can get the same tools again.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

# Name in the kit: where to look (a pattern may match several versions), and how the program is asked for its version.
PROGRAMS: Mapping[str, tuple[Sequence[str], str]] = {
    "restic": (("/usr/local/bin/restic", "/usr/bin/restic"), "version"),
    "rest-server": (("/usr/bin/restic-rest-server", "/usr/local/bin/rest-server"), "--version"),
    "postgresql": (("/usr/lib/postgresql/*/bin/postgres",), "--version"),
    "mariadb": (("/usr/sbin/mariadbd",), "--version"),
    "sqlite": (("/usr/bin/sqlite3",), "--version"),
    "firebird": (("/usr/bin/gbak",), "-z"),
    "btrfs": (("/usr/bin/btrfs", "/usr/sbin/btrfs"), "--version"),
    "python": (("/usr/bin/python3",), "--version"),
}
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_ID = re.compile(r"[0-9a-f]{64}")

Run = Callable[[Sequence[str]], "tuple[int, str]"]


def version_in(text: str) -> str:
    """Find the version number in what a program says of itself; an empty text when there is none."""
    found = _VERSION.search(text)
    return found.group(0) if found else ""


def pretty_name(os_release: str) -> str:
    """Find the system's name in the text of /etc/os-release."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)"?', os_release, re.MULTILINE)
    return found.group(1) if found else ""


def engine_in(status: Any) -> str:
    """Find the engine, such as "postgresql 17.12", in the status record of a job; empty when it used none."""
    tools = status.get("tools") if isinstance(status, dict) else None
    return str(tools.get("engine") or "") if isinstance(tools, dict) else ""


def read_json(path: Path) -> Any:
    """Read a JSON file; None when it is missing or damaged: whoever wrote it reports that, not the kit."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def checksum(path: str) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:  # noqa: PTH123
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def package_of(path: str, run: Run) -> str:
    """Name and version of the Debian package that a file is of; empty for a file of no package."""
    code, said = run(["dpkg-query", "--search", path])
    name = said.split(":", 1)[0].strip() if code == 0 else ""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name):
        return ""
    code, said = run(["dpkg-query", "--show", "--showformat=${Package} ${Version}", name])
    return said.strip() if code == 0 else ""


def programs(run: Run, root: str = "") -> list[dict[str, str]]:
    """Describe every program of PROGRAMS that is there: name, path, version, package, sha256."""
    found = []
    for name, (patterns, ask) in PROGRAMS.items():
        paths = [path for pattern in patterns for path in sorted(glob.glob(root + pattern))]  # noqa: PTH207
        for path in paths if name == "postgresql" else paths[:1]:
            real = os.path.realpath(path)
            _code, said = run([path, ask])
            found.append(
                {
                    "name": name,
                    "path": path[len(root) :],
                    "version": version_in(said),
                    "package": package_of(real, run),
                    "sha256": checksum(real),
                }
            )
    return found


def gather(run: Run, root: str = "") -> dict[str, Any]:
    """Read everything. A host that Holdfast has not reached yet gives what it has."""
    release = Path(root + "/etc/os-release")
    pinned = read_json(Path(root + "/etc/holdfast/repository.json"))
    found = pinned.get("id") if isinstance(pinned, dict) else None
    statuses = sorted(Path(root + "/var/lib/holdfast/status").glob("*.json"))
    engines = {path.stem: engine_in(read_json(path)) for path in statuses}
    return {
        "os": pretty_name(release.read_text(encoding="utf-8")) if release.exists() else "",
        "machine": platform.machine(),
        "programs": programs(run, root),
        "engines": {job: engine for job, engine in engines.items() if engine},
        "repository_id": found if isinstance(found, str) and _ID.fullmatch(found) else None,
    }
