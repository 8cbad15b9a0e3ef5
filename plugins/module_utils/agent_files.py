# SPDX-License-Identifier: Apache-2.0
"""The manifest: every regular file below the roots, with size, mode, times and hash, as restic is about to see it.

Names are bytes on Linux: they travel as Python text with surrogateescape and as JSON in plain ASCII, so that any name
comes back exact. Unchanged files are not read again: a cache keeps size, times and inode with the hash.

A practice works while it is backed up. After restic the manifest is brought in line with the snapshot, and only where
a second look at the disk shows why they differ; so whoever compares the two later may demand that they are the same.
The times of change that the first look found, before restic read a file, are what proves that a file was the same throughout:
so its hash may be taken at any moment between the two looks, also while restic reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from .tripwires import HEAD_BYTES, LOOKS

HASH_BYTES = 32
CHUNK = 1 << 18
# A file changed this lately could change again without a change of its times: hash it again next time.
SETTLED_NS = 2_000_000_000
# the kernel stamps files with the clock of its last tick
CLOCK_STEP_NS = 1_000_000_000
CACHE_SCHEMA = 2
TOGETHER = 1000  # files in one piece of JSON
LITTLE_FILES, LITTLE_BYTES = 1000, 64 << 20
_SECOND_NS = 1_000_000_000
# What is known of a file, packed: there may be a million of them. Whatever differs in the first part when a file is looked
# at again, it was written: size, mtime in s and ns, ctime in ns, inode. Then mode, how it looks, hash.
_KEY = struct.Struct("<qqIqQ")
_REST = struct.Struct(f"<HB{HASH_BYTES}s")
_SIZE = struct.Struct("<q")
_UNREAD = bytes(HASH_BYTES)
# path, hash after the last run, hash now, head -> how it looks
See = Callable[[str, "bytes | None", bytes, bytes], str]
Tell = Callable[[int, int], None]


def _key(facts: os.stat_result) -> bytes:
    seconds, rest = divmod(facts.st_mtime_ns, _SECOND_NS)
    return _KEY.pack(facts.st_size, seconds, rest, facts.st_ctime_ns, facts.st_ino)


def _never(record: bytes) -> bytes:
    """The first part of a record with times that no file has."""
    return _KEY.pack(size_of(record), -1, 0, -1, 0)


def size_of(record: bytes) -> int:
    """Size in a packed record."""
    return int(_SIZE.unpack_from(record)[0])


def digest_of(record: bytes) -> bytes:
    """Hash in a packed record."""
    return record[-HASH_BYTES:]


def look_of(record: bytes) -> str:
    """How a file looks, in its packed record."""
    return LOOKS[record[-HASH_BYTES - 1]]


@dataclass
class Manifest:
    """What was found. ``files``: packed records by path, in the order in which restic reads them.

    unreadable: entries that could not be listed or read. before: how many files the cache knew; left: those of them that
    were not found. unhashed: paths that are new or changed since, known: hashes that those had which are not new.
    volatile: paths that changed while restic read; appeared: sizes of the files that came meanwhile.
    """

    began_ns: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    unreadable: int = 0
    empty_roots: list[str] = field(default_factory=list)
    before: int = 0
    left: dict[str, bytes] = field(default_factory=dict)
    unhashed: list[str] = field(default_factory=list)
    known: dict[str, bytes] = field(default_factory=dict)
    volatile: set[str] = field(default_factory=set)
    appeared: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of entries."""
        return len(self.files) + len(self.appeared)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(map(size_of, self.files.values())) + sum(self.appeared.values())

    @property
    def is_little(self) -> bool:
        """Is what has to be hashed done in a moment?"""
        few = len(self.unhashed) <= LITTLE_FILES
        return few and sum(size_of(self.files[path]) for path in self.unhashed) <= LITTLE_BYTES

    def paths(self) -> Iterator[str]:
        """Path of every entry."""
        yield from self.files
        yield from self.appeared

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Path and size of every entry."""
        yield from ((path, size_of(record)) for path, record in self.files.items())
        yield from self.appeared.items()

    def entries(self) -> Iterator[dict[str, Any]]:
        """As the oracle has them."""
        for path, record in self.files.items():
            size, seconds, rest, _ctime, _inode = _KEY.unpack_from(record)
            mode, _look, digest = _REST.unpack_from(record, _KEY.size)
            yield {
                "path": path,
                "size": size,
                "mode": f"{mode:04o}",
                "mtime_ns": seconds * _SECOND_NS + rest,
                "blake2b": "" if digest == _UNREAD else digest.hex(),
                "volatile": path in self.volatile,
            }
        for path, size in self.appeared.items():
            yield {"path": path, "size": size, "mode": "", "mtime_ns": 0, "blake2b": "", "volatile": True}


def in_pieces(entries: Iterable[Any]) -> Iterator[str]:
    """JSON of a list, without its brackets, in pieces: the whole of it would be the largest thing in memory."""
    several: list[Any] = []
    comma = ""
    for entry in entries:
        several.append(entry)
        if len(several) == TOGETHER:
            yield comma + _compact(several)[1:-1]
            comma = ","
            several.clear()
    if several:
        yield comma + _compact(several)[1:-1]


def _compact(content: Any) -> str:
    return json.dumps(content, ensure_ascii=True, separators=(",", ":"))


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
            if patterns and excluded(entry.path, patterns):
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
    if manifest.unreadable or any(below(each, [path]) for each in manifest.files):
        return False
    return any(True for _file in walk(path, [], lambda _error: None))


def hash_file(
    path: str, tell: Tell = lambda _files, _size: None, buffer: bytearray | None = None
) -> tuple[bytes, bytes]:
    """blake2b with 32 bytes, and the head; the access time is left alone where the kernel allows it.

    tell: hears of what is done, (files, bytes). buffer: to read into, where many files are read one after another.
    """
    room = memoryview(buffer or bytearray(CHUNK))
    head = b""
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        handle = os.open(path, flags)
    try:
        while True:
            size = os.readv(handle, [room])
            if not size:
                return digest.digest(), head
            block = room[:size]
            head = head or bytes(block[:HEAD_BYTES])
            digest.update(block)
            tell(0, size)
    finally:
        os.close(handle)


def survey(
    roots: Iterable[str], exclude: Sequence[str], cache: Mapping[str, bytes], tell: Tell = lambda _files, _size: None
) -> Manifest:
    """The first look: every file below the roots, without reading any. Folders that cannot be listed are counted.

    cache: what ``load_cache`` knows. Files that it does not know as they are now lack their hash yet.
    """
    manifest = Manifest(time.time_ns(), before=len(cache))
    patterns = compile_excludes(exclude)
    files = manifest.files

    def on_error(error: OSError) -> None:
        # gone between listing and looking is no gap in coverage: the file was deleted
        manifest.unreadable += not isinstance(error, FileNotFoundError)

    for root in roots:
        before = len(files)
        for path, facts in walk(root, patterns, on_error):
            if path in files:
                continue
            key, known = _key(facts), cache.get(path)
            if known and known.startswith(key):
                files[path] = known
            else:
                files[path] = key + _REST.pack(stat.S_IMODE(facts.st_mode), 0, b"")
                manifest.unhashed.append(path)
                if known:
                    manifest.known[path] = digest_of(known)
            if not len(files) % TOGETHER:
                tell(TOGETHER, 0)
        if len(files) == before:
            manifest.empty_roots.append(root)
    manifest.left = {path: record for path, record in cache.items() if path not in files}
    return manifest


def hash_new(
    manifest: Manifest,
    see: See = lambda _path, _known, _digest, _head: "",
    tell: Tell = lambda _files, _size: None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Hash what the survey left unhashed. A file that is there and cannot be read is counted and taken out.

    see hears of every file that is read, and says how it looks. go_on: asked before each file.
    """
    buffer = bytearray(CHUNK)
    for path in manifest.unhashed:
        if not go_on():
            return
        record = manifest.files[path]
        mode, _look, _none = _REST.unpack_from(record, _KEY.size)
        try:
            digest, head = hash_file(path, tell, buffer)
        except FileNotFoundError:
            # no gap in coverage, if restic came first; whatever is there on the second look is another file
            manifest.files[path] = _never(record) + record[_KEY.size :]
        except OSError:
            manifest.unreadable += 1
            del manifest.files[path]
        else:
            look = LOOKS.index(see(path, manifest.known.get(path), digest, head))
            manifest.files[path] = record[: _KEY.size] + _REST.pack(mode, look, digest)
        tell(1, 0)


@dataclass
class Meanwhile:
    """What happened to files while restic read. ``dropped``: paths that were seen first, are gone (or were replaced)
    and are not in the snapshot. ``gap``: files that differ between disk and snapshot without such a reason.
    """

    dropped: list[str] = field(default_factory=list)
    changed: int = 0
    appeared: int = 0
    gap: int = 0


@dataclass
class Second:
    """How the disk differs from the manifest on a second look: paths that are changed, gone or new."""

    changed: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    new: set[str] = field(default_factory=set)


def look_again(manifest: Manifest, roots: Iterable[str], exclude: Sequence[str]) -> Second:
    """Look at the files below the roots as they are now, without reading them. What cannot be listed is not there."""
    found, patterns = Second(gone=set(manifest.files)), compile_excludes(exclude)
    for root in roots:
        for path, facts in walk(root, patterns, lambda _error: None):
            record = manifest.files.get(path)
            if record is None:
                found.new.add(path)
                continue
            found.gone.discard(path)
            if not record.startswith(_key(facts)):
                found.changed.add(path)
    return found


def stored_files(listing: str) -> dict[str, int]:
    """Sizes by ``printable`` path of the regular files that ``restic ls --json`` lists."""
    found = {}
    for line in listing.splitlines():
        node = json.loads(line)
        if node.get("struct_type") == "node" and node.get("type") == "file":
            found[str(node["path"])] = int(node.get("size") or 0)
    return found


class Told:
    """What ``restic backup --json --verbose=2`` tells of each regular file that it has stored.

    Nothing is kept of the names: what counts is that each one told is expected, how many they are, and that a sum over
    all of them (of hashes with a key of this process) is the one that is expected.
    """

    def __init__(self, expected: Mapping[str, Any]) -> None:
        self._expected, self._count = expected, len(expected)
        # names that restic prints otherwise than they are
        odd = [path for path in expected if not _is_plain(path)]
        self._odd = {printable(path) for path in odd}
        self._clear = len(self._odd) == len(odd) and not any(name in expected for name in self._odd)
        self._sum = sum(map(hash, expected)) - sum(map(hash, odd)) + sum(map(hash, self._odd))
        self._files = self._others = 0

    def take(self, line: bytes) -> bool:
        """Take a line of restic's output if it tells of a file or folder."""
        if not line.startswith(b'{"message_type":"verbose_status"'):
            return False
        item = _item(line)
        if not item.endswith("/"):  # a folder, or the end of a count
            self._files += 1
            self._sum -= hash(item)
            self._others += item not in self._expected and item not in self._odd
        return True

    def as_expected(self, files: int) -> bool:
        """Has it told of every expected file once, and of no other? files: how many it says it has stored."""
        told = not self._others and self._sum == 0 and self._files == self._count == len(self._expected)
        return told and self._clear and files == self._count


_ITEM = b'"item":"'


def _item(line: bytes) -> str:
    """The path in a line of restic's. Most are plain, and are had without reading all of the line as JSON."""
    begins = line.find(_ITEM) + len(_ITEM)
    ends = line.find(b'"', begins)
    plain = line[begins:ends]
    if begins >= len(_ITEM) and plain and b"\\" not in plain:
        return plain.decode("utf-8", "surrogateescape")
    return str(json.loads(line).get("item") or "/")


def _is_plain(path: str) -> bool:
    return path.isascii() or not _NO_UTF8.search(path)


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


_NO_UTF8 = re.compile("[\udc80-\udcff]")


def printable(path: str) -> str:
    """A path as restic prints it in JSON: each byte that is no UTF-8 becomes U+FFFD."""
    return _NO_UTF8.sub("\ufffd", path)


def settle(manifest: Manifest, second: Second, stored: Mapping[str, int] | None) -> Meanwhile:
    """Make the manifest that of the snapshot, as far as the second look explains how they differ.

    stored: what ``stored_files`` found in the snapshot; None: the files of the manifest, each of them and no other.
    Afterwards every entry is to be expected in the snapshot, and nothing else:

    - changed or deleted, and in the snapshot: volatile, as restic may have read either state;
    - deleted or replaced, and not in the snapshot: taken out;
    - in the snapshot and new since the first look, there still or gone again: added as volatile;
    - anything else: left as it is. It counts as a gap, and a proof will find it.
    """
    found = Meanwhile()
    changed = second.changed | second.gone
    if stored is not None:
        lacking = [path for path in manifest.files if printable(path) not in stored]
        found.dropped = [path for path in lacking if path in changed]
        found.gap = len(lacking) - len(found.dropped)
        known = set(map(printable, manifest.files))
        for path in found.dropped:
            del manifest.files[path]
        names = {printable(path): path for path in second.new}
        for name in sorted(set(stored) - known):
            if name in names or _came_and_went(name, manifest.began_ns - CLOCK_STEP_NS):
                manifest.appeared[names.get(name, name)] = stored[name]
            else:
                found.gap += 1
    manifest.volatile = {path for path in changed if path in manifest.files}
    found.changed, found.appeared = len(manifest.volatile), len(manifest.appeared)
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


def load_cache(path: str) -> dict[str, bytes]:
    """Read the cache; one that is missing, damaged or of another schema is an empty one (it only costs time)."""
    files: dict[str, bytes] = {}
    try:
        with open(path, encoding="ascii") as stream:  # noqa: PTH123
            head = json.loads(next(stream))
            if head["schema"] != CACHE_SCHEMA:
                return {}
            for line in stream:
                files.update((name, bytes.fromhex(record)) for name, record in json.loads(line).items())
            whole = len(files) == head["files"] and all(map(_is_whole, files.values()))
            return files if whole else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return {}


def _is_whole(record: bytes) -> bool:
    return len(record) == _KEY.size + _REST.size and record[-HASH_BYTES - 1] < len(LOOKS)


def cache_pieces(manifest: Manifest) -> Iterator[str]:
    """Text of the cache file, in pieces: a line that says what follows, then lines with a thousand files each."""
    yield _compact({"schema": CACHE_SCHEMA, "files": len(manifest.files)}) + "\n"
    several: dict[str, str] = {}
    for path, record in manifest.files.items():
        several[path] = _for_next_time(record, manifest.began_ns).hex()
        if len(several) == TOGETHER:
            yield _compact(several) + "\n"
            several.clear()
    if several:
        yield _compact(several) + "\n"


def _for_next_time(record: bytes, began_ns: int) -> bytes:
    _size, seconds, rest, ctime_ns, _inode = _KEY.unpack_from(record)
    if began_ns - max(seconds * _SECOND_NS + rest, ctime_ns) > SETTLED_NS:
        return record
    # it is read again, and its hash tells whether it changed
    return _never(record) + record[_KEY.size :]
