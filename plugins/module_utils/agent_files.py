# SPDX-License-Identifier: Apache-2.0
"""The manifest: every regular file below the roots, with size, mode, times and hash, as restic is about to see it.

Names are bytes on Linux: they travel as Python text with surrogateescape and as JSON in plain ASCII, so that any name
comes back exact. Unchanged files are not read again: a cache keeps path, size, times and inode with the hash.

A practice works while it is backed up. After restic the manifest is brought in line with the snapshot, and only where
a second look at the disk shows why they differ; so whoever compares the two later may demand that they are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from .tripwires import HEAD_BYTES

HASH_BYTES = 32
CHUNK = 1 << 20
# A file changed this lately could change again without a change of its times: hash it again next time.
SETTLED_NS = 2_000_000_000
# path, what the cache knew of it, hash, head -> how it looks
See = Callable[[str, "Sequence[Any] | None", str, bytes], str]


@dataclass
class Manifest:
    """What was found. ``unreadable`` counts entries that could not be listed or read; ``looks``: paths that look spoilt."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    unreadable: int = 0
    hashed: int = 0
    empty_roots: list[str] = field(default_factory=list)
    looks: dict[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(int(entry["size"]) for entry in self.entries)


def compile_excludes(patterns: Sequence[str]) -> list[tuple[bool, list[re.Pattern[str] | None]]]:
    """Exclude patterns as restic reads them: (anchored, one expression a path part; None stands for **)."""
    return [
        (p.startswith("/"), [None if part == "**" else _expression(part) for part in p.strip("/").split("/")])
        for p in patterns
        if p.strip("/")
    ]


def excluded(path: str, patterns: Sequence[tuple[bool, list[re.Pattern[str] | None]]]) -> bool:
    """Does a pattern cover this absolute path? Folders above it are asked about on their own way down."""
    parts = path.strip("/").split("/")
    for anchored, wanted in patterns:
        starts = [0] if anchored else range(len(parts))
        if any(_matches(parts[start:], wanted) for start in starts):
            return True
    return False


def _matches(parts: Sequence[str], wanted: Sequence[re.Pattern[str] | None]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] is None:
        return any(_matches(parts[n:], wanted[1:]) for n in range(len(parts) + 1))
    return bool(parts) and wanted[0].fullmatch(parts[0]) is not None and _matches(parts[1:], wanted[1:])


def _expression(glob: str) -> re.Pattern[str]:
    """Go's filepath.Match: ``*``, ``?``, ``[a-z]``, ``[^a-z]`` and a backslash before a plain character."""
    out, i = "", 0
    while i < len(glob):
        char = glob[i]
        i += 1
        if char == "*":
            out += ".*"
        elif char == "?":
            out += "."
        elif char == "\\" and i < len(glob):
            out += re.escape(glob[i])
            i += 1
        elif char == "[" and "]" in glob[i + 1 :]:
            end = glob.index("]", i + 1)
            out += "[" + glob[i:end].replace("\\", "\\\\") + "]"
            i = end + 1
        else:
            out += re.escape(char)
    return re.compile(out, re.DOTALL)


def walk(root: str, patterns: Sequence[Any], on_error: Any) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below a root (or the root itself), sorted, links not followed."""
    try:
        facts = os.lstat(root)
    except OSError as error:
        on_error(error)
        return
    if stat.S_ISREG(facts.st_mode):
        if not excluded(root, patterns):
            yield root, facts
        return
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            found = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            on_error(error)
            continue
        below = []
        for entry in found:
            if excluded(entry.path, patterns):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path, entry.stat(follow_symlinks=False)
            except OSError as error:
                on_error(error)
        folders.extend(reversed(below))


def hidden(path: str, exclude: Sequence[str]) -> bool:
    """Does a pattern cover the path or a folder above it?"""
    patterns, parts = compile_excludes(exclude), path.strip("/").split("/")
    return any(excluded("/" + "/".join(parts[:n]), patterns) for n in range(1, len(parts) + 1))


def swallowed(path: str, exclude: Sequence[str], manifest: Manifest) -> bool:
    """Do the patterns leave nothing of a path that holds files?"""
    if hidden(path, exclude):
        return True
    if manifest.unreadable or any(below(str(entry["path"]), [path]) for entry in manifest.entries):
        return False
    return any(True for _file in walk(path, [], lambda _error: None))


def hash_file(path: str, tell: Callable[[int, int], None] = lambda _files, _size: None) -> tuple[str, bytes]:
    """blake2b with 32 bytes in hex, and the head; the access time is left alone where the kernel allows it.

    tell: as in ``build``.
    """
    head = b""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        handle = os.open(path, flags)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        while True:
            block = stream.read(CHUNK)
            if not block:
                return digest.hexdigest(), head
            head = head or block[:HEAD_BYTES]
            digest.update(block)
            tell(0, len(block))


def build(
    roots: Iterable[str],
    exclude: Sequence[str],
    cache: Mapping[str, Sequence[Any]],
    tell: Callable[[int, int], None] = lambda _files, _size: None,
    see: See = lambda _path, _known, _digest, _head: "",
) -> tuple[Manifest, dict[str, list[Any]]]:
    """Manifest of all roots, and the cache for next time. Files that cannot be read are counted, not listed.

    cache: {path: [size, mtime_ns, ctime_ns, inode, hash, look]}. tell(files, bytes) hears of what is done; see hears of
    every file that is read, and says how it looks.
    """
    manifest, kept = Manifest(), {}
    patterns = compile_excludes(exclude)

    def on_error(error: OSError) -> None:
        # gone between listing and looking is no gap in coverage: the file was deleted
        manifest.unreadable += not isinstance(error, FileNotFoundError)

    seen: set[str] = set()
    for root in roots:
        before = len(seen)
        for path, facts in walk(root, patterns, on_error):
            if path in seen:
                continue
            key = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
            known = cache.get(path)
            now = time.time_ns()
            try:
                if known and list(known[:4]) == key:
                    digest, found = str(known[4]), str(known[5]) if len(known) > 5 else ""
                    tell(1, facts.st_size)
                else:
                    digest, head = hash_file(path, tell)
                    found = see(path, known, digest, head)
                    manifest.hashed += 1
                    tell(1, 0)
            except OSError as error:
                on_error(error)
                continue
            seen.add(path)
            if found:
                manifest.looks[path] = found
            settled = now - max(facts.st_mtime_ns, facts.st_ctime_ns) > SETTLED_NS
            # times that no file has: it is read again, and its hash tells whether it changed
            kept[path] = [*(key if settled else (facts.st_size, -1, -1, -1)), digest, found]
            manifest.entries.append(
                {
                    "path": path,
                    "size": facts.st_size,
                    "mode": f"{stat.S_IMODE(facts.st_mode):04o}",
                    "mtime_ns": facts.st_mtime_ns,
                    "ctime_ns": facts.st_ctime_ns,
                    "blake2b": digest,
                    "volatile": False,
                }
            )
        if len(seen) == before:
            manifest.empty_roots.append(root)
    return manifest, kept


@dataclass
class Meanwhile:
    """What happened to files while restic read. ``dropped``: paths that were seen first, are gone (or were replaced)
    and are not in the snapshot. ``gap``: files that differ between disk and snapshot without such a reason.
    """

    dropped: list[str] = field(default_factory=list)
    changed: int = 0
    appeared: int = 0
    gap: int = 0


def look(roots: Iterable[str], exclude: Sequence[str]) -> dict[str, os.stat_result]:
    """Files below the roots as they are now, without reading them. What cannot be listed is not there."""
    patterns = compile_excludes(exclude)
    return {path: facts for root in roots for path, facts in walk(root, patterns, lambda _error: None)}


def stored_files(listing: str) -> dict[str, int]:
    """Sizes by ``printable`` path of the regular files that ``restic ls --json`` lists."""
    found = {}
    for line in listing.splitlines():
        node = json.loads(line)
        if node.get("struct_type") == "node" and node.get("type") == "file":
            found[str(node["path"])] = int(node.get("size") or 0)
    return found


class Told:
    """What ``restic backup --json --verbose=2`` tells of each regular file that it has stored."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.expected = dict.fromkeys(map(printable, paths), 0)
        self._waiting = set(self.expected)
        self._others = 0

    def take(self, line: bytes) -> bool:
        """Take a line of restic's output if it tells of a file or folder."""
        if not line.startswith(b'{"message_type":"verbose_status"'):
            return False
        item = str(json.loads(line).get("item") or "/")
        if not item.endswith("/"):  # a folder, or the end of a count
            self._others += item not in self._waiting
            self._waiting.discard(item)
        return True

    def as_expected(self, files: int) -> bool:
        """Has it told of every expected file once, and of no other? files: how many it says it has stored."""
        return not self._waiting and not self._others and files == len(self.expected)


def error_paths(said: str) -> list[str]:
    """Paths of the errors of single files and folders in what ``restic backup --json`` printed."""
    paths = []
    for line in said.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get("message_type") == "error":
                paths.append(str(record.get("item") or ""))
    return paths


def still_there(path: str) -> bool:
    """Is what restic could not read there now? A name that restic could not print is taken to be."""
    return not path or "\ufffd" in path or os.path.lexists(path)


def printable(path: str) -> str:
    """A path as restic prints it in JSON: each byte that is no UTF-8 becomes U+FFFD."""
    return re.sub("[\udc80-\udcff]", "\ufffd", path)


def settle(
    manifest: Manifest, now: Mapping[str, os.stat_result], stored: Mapping[str, int], began_ns: int
) -> Meanwhile:
    """Make the manifest that of the snapshot, as far as the second look explains how they differ.

    now: what ``look`` found after restic. stored: what ``stored_files`` found in the snapshot. began_ns: start of the
    first look. Afterwards every entry is to be expected in the snapshot, and nothing else:

    - changed or deleted, and in the snapshot: volatile, as restic may have read either state;
    - deleted or replaced, and not in the snapshot: taken out;
    - in the snapshot and new since the first look, there still or gone again: added as volatile;
    - anything else: left as it is. It counts as a gap, and a proof will find it.

    ``ctime_ns`` is only for this comparison and is removed from every entry.
    """
    found = Meanwhile()
    still: list[dict[str, Any]] = []
    known: set[str] = set()
    for entry in manifest.entries:
        path, name = str(entry["path"]), printable(str(entry["path"]))
        known.add(name)
        was = (entry["size"], entry["mtime_ns"], entry.pop("ctime_ns"))
        facts = now.get(path)
        changed = facts is None or (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns) != was
        if name not in stored and changed:
            found.dropped.append(path)
            continue
        found.gap += name not in stored
        found.changed += changed
        entry["volatile"] = changed
        still.append(entry)
    names = {printable(path): path for path in now}
    for name in sorted(set(stored) - known):
        if name not in names and not _came_and_went(name, began_ns):
            found.gap += 1
            continue
        found.appeared += 1
        still.append(
            {
                "path": names.get(name, name),
                "size": stored[name],
                "mode": "",
                "mtime_ns": 0,
                "blake2b": "",
                "volatile": True,
            }
        )
    manifest.entries = still
    return found


def _came_and_went(path: str, began_ns: int) -> bool:
    """Is the file gone again, or at least touched since then (made, deleted and made again)?"""
    try:
        return os.lstat(path).st_ctime_ns >= began_ns
    except (FileNotFoundError, NotADirectoryError):
        return True


def image_path(root: str, name: str) -> str:
    """Where an image is that the database names: absolute, or relative to the root."""
    return os.path.normpath(name if name.startswith("/") else f"{root}/{name}")


def below(path: str, roots: Iterable[str]) -> bool:
    """Is the path one of the roots or inside one?"""
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def load_cache(path: str) -> dict[str, list[Any]]:
    """Read the cache; one that is missing or damaged is an empty one (it only costs time)."""
    try:
        found = json.loads(Path(path).read_text(encoding="ascii"))
        return {str(name): list(facts) for name, facts in found["files"].items()} if found["schema"] == 1 else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def cache_text(files: Mapping[str, Sequence[Any]]) -> str:
    """Text of the cache file."""
    return json.dumps({"schema": 1, "files": files}, ensure_ascii=True, separators=(",", ":"))
