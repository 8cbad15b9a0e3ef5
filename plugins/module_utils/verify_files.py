# SPDX-License-Identifier: Apache-2.0
"""Compare a restored tree with a manifest, however many files there are and whatever they are called.

What is expected lies in an index on disk, under hashes of the paths. The tree is walked once and each file looked up in it,
so nothing that an oracle says is ever opened, and nothing that a snapshot holds is followed, waited for or run: folders
are entered from the one above by their own name, only plain files are read, and the machine is not started yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import stat
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, NamedTuple

from . import tripwires
from .agent_files import CHUNK, HASH_BYTES
from .verify import NAMED, FilesCompared, Way, path_digest, raw

# what has become of an expected file; in the index, and the codes of reasons
SAME, VOLATILE, MISSING, CHANGED, MODE, MTIME, KIND = "same", "volatile", "missing", "changed", "mode", "mtime", "kind"
EXTRA, DROPPED = "extra", "dropped"
WAYS = (MISSING, CHANGED, KIND, MODE, MTIME, EXTRA)

JUDGED = (tripwires.MAGIC, tripwires.ENTROPY)
_ROWS = 1000
_BATCH_FILES, _BATCH_BYTES = 64, 16 << 20
_CACHE_KIB = 16 << 10
# a path that the kernel takes at once has less than 4096 bytes; a restored one may be longer
_PIECE = 4000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# of what is no plain file after all nothing is waited for
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Expected(NamedTuple):
    """What the index knows of a path. Numbers are text: a time may be larger than a database's own."""

    size: str
    mode: str
    mtime_ns: str
    blake2b: str
    volatile: int
    state: str
    look: str


class Index:
    """What a manifest expects, and what was found of it. ``take`` fits ``verify_oracle.read_oracle``."""

    def __init__(self, path: Path, fresh: bool = True) -> None:
        if fresh:
            path.unlink(missing_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._base = sqlite3.connect(str(path), isolation_level=None)
        # made anew for each proof and thrown away with it: nothing has to outlive a crash
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            self._base.execute(f"PRAGMA {setting}")
        if fresh:
            self._base.execute(
                "CREATE TABLE file (name BLOB PRIMARY KEY, size TEXT, mode TEXT, mtime_ns TEXT, blake2b TEXT, "
                "volatile INTEGER, state TEXT, look TEXT) WITHOUT ROWID"
            )
        self._base.execute("BEGIN")
        self._waiting: list[tuple[Any, ...]] = []

    def close(self) -> None:
        """Write what is still waiting."""
        self._write()
        self._base.execute("COMMIT")
        self._base.close()

    def take(self, kind: str, entry: Any) -> None:
        """Expect an entry of the manifest, or know of a path that the practice itself deleted meanwhile."""
        if kind == "dropped":
            self._waiting.append((path_digest(raw(entry)), "", "", "", "", 0, DROPPED, ""))
        else:
            facts = (str(entry["size"]), entry["mode"], str(entry["mtime_ns"]), entry["blake2b"])
            self._waiting.append((path_digest(raw(entry["path"])), *facts, bool(entry.get("volatile")), MISSING, ""))
        if len(self._waiting) >= _ROWS:
            self._write()

    def _write(self) -> None:
        # a file that was deleted and came again is expected, whichever is told first
        self._base.executemany(
            "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET size = excluded.size, "
            "mode = excluded.mode, mtime_ns = excluded.mtime_ns, blake2b = excluded.blake2b, "
            "volatile = excluded.volatile, state = excluded.state WHERE file.state = 'dropped'",
            self._waiting,
        )
        self._waiting = []

    def expected(self, names: Sequence[bytes]) -> dict[bytes, Expected]:
        """What is known of some paths, by their digests."""
        asked = "SELECT name, size, mode, mtime_ns, blake2b, volatile, state, look FROM file WHERE name IN ("
        rows = self._base.execute(asked + ",".join("?" * len(names)) + ")", names).fetchall()
        return {row[0]: Expected(*row[1:]) for row in rows}

    def state(self, path: str) -> str | None:
        """What became of the file at a path; None when nobody knows of it."""
        found = self.known(path)
        return found.state if found else None

    def known(self, path: str) -> Expected | None:
        """What is known of the file at a path."""
        name = path_digest(raw(path))
        return self.expected([name]).get(name)

    def mark(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        """Note what became of expected files: (state, look, name)."""
        self._base.executemany("UPDATE file SET state = ?, look = ? WHERE name = ?", rows)

    def add(self, names: Iterable[bytes]) -> None:
        """Note files that nobody expected."""
        row = "INSERT OR REPLACE INTO file VALUES (?, '', '', '', '', 0, ?, '')"
        self._base.executemany(row, ((name, EXTRA) for name in names))

    def listed(self) -> int:
        """How many different paths are expected."""
        self._write()
        return int(self._base.execute("SELECT count(*) FROM file WHERE state != ?", (DROPPED,)).fetchone()[0])

    def ways(self) -> dict[str, Way]:
        """For each way in which files differ how many do, and a few of them."""
        found = {}
        for way, count in self._base.execute("SELECT state, count(*) FROM file GROUP BY state").fetchall():
            if way in WAYS:
                some = "SELECT name FROM file WHERE state = ? ORDER BY name LIMIT ?"
                found[way] = Way(int(count), [row[0].hex() for row in self._base.execute(some, (way, NAMED))])
        return found


class Seen(NamedTuple):
    """A restored file: its path as bytes, what the disk says, its hash, and its first bytes where its type is judged."""

    path: bytes
    facts: os.stat_result
    digest: str
    head: bytes


def compare(
    tree: str,
    index: Index,
    entries: int,
    must_have: Sequence[str] = (),
    canaries: Iterable[str] = (),
    tell: Callable[[int, int], None] = lambda _files, _size: None,
) -> FilesCompared:
    """Compare all files below a restored tree with the index: all of them have to be there, and nothing else.

    A volatile file (it changed, came or went while it was being read) only has to be there. What else happened during the
    backup the agent has settled already, with the disk at hand: here a difference is a fault. entries: how many the manifest
    has, repeats included. tell(files, bytes) hears of what is done.
    """
    listed = index.listed()
    roots = {root: raw(root.rstrip("/") + "/") for root in must_have}
    wanted = {raw(path): path for path in canaries}
    digests: dict[str, str] = {}
    looks: Counter[tuple[str, str]] = Counter()
    restored = volatile = size = 0
    states: list[tuple[str, str, bytes]] = []
    extra: list[bytes] = []
    for batch in read_tree(tree, lambda path: _note_kind(index, path)):
        restored += len(batch)
        tell(len(batch), sum(seen.facts.st_size for seen in batch))
        names = [path_digest(seen.path) for seen in batch]
        expected = index.expected(names)
        for seen, name in zip(batch, names, strict=True):
            kind, look = tripwires.ending(os.fsdecode(seen.path)), ""
            if tripwires.is_judged(kind, JUDGED):
                look = tripwires.looks(kind, seen.head)
                looks[kind, look] += 1
            have = expected.get(name)
            if have is None or have.state == DROPPED:
                extra.append(name)
            else:
                state = _state(seen, have)
                volatile += state == VOLATILE
                size += seen.facts.st_size if state == SAME else 0
                states.append((state, look, name))
            if seen.path in wanted:
                digests[wanted[seen.path]] = seen.digest
            for root in [each for each, below in roots.items() if (seen.path + b"/").startswith(below)]:
                del roots[root]
        if len(states) + len(extra) >= _ROWS:
            index.mark(states)
            index.add(extra)
            states, extra = [], []
    index.mark(states)
    index.add(extra)
    return FilesCompared(entries, listed, restored, size, volatile, index.ways(), list(roots), digests, looks)


def _note_kind(index: Index, path: bytes) -> None:
    """Something at this path is no plain file: remember that where one is expected."""
    name = path_digest(path)
    have = index.expected([name]).get(name)
    if have and have.state == MISSING:
        index.mark([(KIND, "", name)])


def _state(seen: Seen, have: Expected) -> str:
    if have.volatile:
        return VOLATILE
    if (str(seen.facts.st_size), seen.digest) != (have.size, have.blake2b):
        return CHANGED
    if f"{stat.S_IMODE(seen.facts.st_mode):04o}" != have.mode:
        return MODE
    return SAME if str(seen.facts.st_mtime_ns) == have.mtime_ns else MTIME


# --- the tree --------------------------------------------------------------------------------------------------------

_Batch = tuple[int, bytes, list[tuple[str, os.stat_result]]]


def read_tree(tree: str, other: Callable[[bytes], None], threads: int | None = None) -> Iterator[list[Seen]]:
    """Every plain file below a folder, read and hashed, some at a time; paths begin with /. other hears of what else there is.

    Files are read by several threads, as many at a time as keep them busy: what waits does not grow with the tree.
    """
    try:
        root = os.open(tree, _FOLDER)
    except FileNotFoundError:
        return
    threads = threads or max(2, os.cpu_count() or 1)
    hands = threading.local()
    pending: deque[Future[list[Seen]]] = deque()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, root)
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=threads))
        for batch in _batches(root, other):
            pending.append(pool.submit(_read_batch, hands, batch))
            if len(pending) > 4 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _batches(root: int, other: Callable[[bytes], None]) -> Iterator[_Batch]:
    """Files by folder, some at a time, each batch with a handle of their folder that its reader closes."""
    folders = [b""]
    while folders:
        folder = folders.pop()
        handle = open_folder(root, folder)
        try:
            files: list[tuple[str, os.stat_result]] = []
            size = 0
            with os.scandir(handle) as entries:
                for entry in entries:
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode):
                        files.append((entry.name, facts))
                        size += facts.st_size
                    else:
                        path = folder + b"/" + os.fsencode(entry.name)
                        other(path)
                        if stat.S_ISDIR(facts.st_mode):
                            folders.append(path)
                    if len(files) >= _BATCH_FILES or size >= _BATCH_BYTES:
                        yield os.dup(handle), folder, files
                        files, size = [], 0
            if files:
                yield os.dup(handle), folder, files
        finally:
            os.close(handle)


def open_folder(root: int, path: bytes) -> int:
    """A folder below another one by a path that the walk itself found, however long it is."""
    handle = os.dup(root)
    rest = path.strip(b"/")
    while rest:
        cut = len(rest) if len(rest) <= _PIECE else rest.rindex(b"/", 0, _PIECE)
        try:
            below = os.open(rest[:cut], _FOLDER, dir_fd=handle)
        finally:
            os.close(handle)
        handle, rest = below, rest[cut:].lstrip(b"/")
    return handle


def _read_batch(hands: threading.local, batch: _Batch) -> list[Seen]:
    handle, folder, files = batch
    if not hasattr(hands, "buffer"):
        hands.buffer = bytearray(CHUNK)
    try:
        return [_read_file(hands.buffer, handle, folder, name, facts) for name, facts in files]
    finally:
        os.close(handle)


def _read_file(buffer: bytearray, handle: int, folder: bytes, name: str, facts: os.stat_result) -> Seen:
    path = folder + b"/" + os.fsencode(name)
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    head = b""
    view = memoryview(buffer)
    stream = os.open(name, _FILE, dir_fd=handle)
    try:
        while True:
            count = os.readv(stream, [buffer])
            if not count:
                break
            digest.update(view[:count])
            head = head or bytes(view[: min(count, tripwires.HEAD_BYTES)])
            if count < len(buffer) and count >= facts.st_size:
                break
    finally:
        os.close(stream)
    return Seen(path, facts, digest.hexdigest(), head)
