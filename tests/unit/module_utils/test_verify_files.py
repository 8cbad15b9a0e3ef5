# SPDX-License-Identifier: Apache-2.0
"""A restored tree against a manifest, on real disks: every way to differ, hostile names and kinds, and memory that stays."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import verify_files
from ansible_collections.holdfast.practice.plugins.module_utils.verify import name_hash
from ansible_collections.holdfast.practice.plugins.module_utils.verify_files import Index, compare, read_tree


def digest(data):
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def entry(path, data=b"abc", **changes):
    facts = {"size": len(data), "mode": "0644", "mtime_ns": 5, "blake2b": digest(data), "volatile": False}
    return {"path": path, **facts, **changes}


def put(tree, path, data=b"abc", mode=0o644, mtime_ns=5):
    file = Path(f"{tree}{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(mode)
    os.utime(file, ns=(mtime_ns, mtime_ns))


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture(autouse=True)
def nothing_hangs():
    """A fifo that is waited for would wait for ever."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def compared(tree, manifest, dropped=(), **options):
    """Compare; returns the outcome and a function that says what became of a path."""
    path = tree.parent / "index"
    with contextlib.closing(Index(path)) as index:
        for each in manifest:
            index.take("manifest", each)
        for each in dropped:
            index.take("dropped", each)
    with contextlib.closing(Index(path, fresh=False)) as index:
        found = compare(str(tree), index, len(manifest), **options)
    with contextlib.closing(Index(path, fresh=False)) as index:
        states = {each["path"]: index.state(each["path"]) for each in manifest}
    return found, states


def handles():
    return len(list(Path("/proc/self/fd").iterdir()))


def ways(found):
    return {way: each.number for way, each in found.ways.items()}


@pytest.mark.parametrize(
    ("manifest", "there", "want"),
    [
        ([entry("/a")], {"/a": {}}, {}),
        ([entry("/a")], {}, {"missing": 1}),
        ([entry("/a")], {"/a": {"data": b"abd"}}, {"changed": 1}),
        ([entry("/a")], {"/a": {"data": b"abcd"}}, {"changed": 1}),
        ([entry("/a")], {"/a": {"mode": 0o600}}, {"mode": 1}),
        ([entry("/a")], {"/a": {"mode": 0o4644}}, {"mode": 1}),  # setuid is a difference
        ([entry("/a")], {"/a": {"mtime_ns": 6}}, {"mtime": 1}),
        ([entry("/a", mtime_ns=2**70)], {"/a": {}}, {"mtime": 1}),
        ([entry("/a", mtime_ns=-1)], {"/a": {"mtime_ns": -1}}, {}),  # before 1970
        ([entry("/a", volatile=True)], {"/a": {"data": b"other"}}, {}),
        ([entry("/a", volatile=True)], {}, {"missing": 1}),
        ([entry("/a")], {"/a": {}, "/d/b": {}}, {"extra": 1}),
        ([entry("/a"), entry("/b", volatile=True, mode="", blake2b="")], {"/a": {}, "/b": {}}, {}),  # it came meanwhile
        ([entry("/d/a"), entry("/d/b"), entry("/c")], {"/d/b": {}, "/e": {}}, {"missing": 2, "extra": 1}),
        ([entry("/../../etc/passwd"), entry("/a/../b")], {"/b": {}}, {"missing": 2, "extra": 1}),  # never opened
        ([entry("/a/"), entry("//b"), entry("c")], {"/a": {}, "/b": {}, "/c": {}}, {"missing": 3, "extra": 3}),
    ],
)
def test_every_way_to_differ(tree, manifest, there, want):
    for path, how in there.items():
        put(tree, path, **how)
    found, _states = compared(tree, manifest)
    assert ways(found) == want
    assert (found.entries, found.listed, found.restored) == (len(manifest), len(manifest), len(there))


def test_a_file_named_twice_is_counted_once(tree):
    put(tree, "/a")
    found, _states = compared(tree, [entry("/a"), entry("/a")])
    assert (found.entries, found.listed, ways(found)) == (2, 1, {})


def test_a_tree_that_is_not_there_has_nothing(tree):
    found, states = compared(tree / "nowhere", [entry("/a")])
    assert (found.restored, ways(found), states) == (0, {"missing": 1}, {"/a": "missing"})


def test_what_is_kept_of_each_file(tree):
    for path in ("/a", "/b", "/x"):
        put(tree, path)
    manifest = [entry("/a"), entry("/b", b"other"), entry("/c"), entry("/v", volatile=True)]
    _found, states = compared(tree, manifest, dropped=["/gone"])
    assert states == {"/a": "same", "/b": "changed", "/c": "missing", "/v": "missing"}
    with contextlib.closing(Index(tree.parent / "index", fresh=False)) as index:
        assert [index.state(path) for path in ("/gone", "/x", "/nobody", "/\ud800")] == ["dropped", "extra", None, None]
    assert (tree.parent / "index").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_that_went_and_came_again_is_expected(tree, order):
    put(tree, "/a")
    with contextlib.closing(Index(tree.parent / "index")) as index:
        for kind, each in [("dropped", "/a"), ("manifest", entry("/a"))][::order]:
            index.take(kind, each)
        found = compare(str(tree), index, 1)
    assert (ways(found), found.listed) == ({}, 1)


def test_names_of_any_kind(tree):
    names = [
        "-rf",
        "a\nb",
        "tab\t",
        "*",
        "\\",
        '"',
        "é",
        "e\u0301",
        "\udcff\udcfe",
        "\x01",
        "x" * 255,
        " ",
        "$(touch x)",
    ]
    paths = [f"/{folder}/{name}" for folder in ("plain", *names[:9]) for name in names]
    for path in paths:
        put(tree, path)
    found, states = compared(tree, [entry(path) for path in paths])
    assert (ways(found), found.restored, set(states.values())) == ({}, len(paths), {"same"})


@pytest.mark.parametrize("parts", [["n" * 250] * 40, ["d"] * 1500])
def test_paths_longer_than_the_kernel_takes_at_once_and_very_deep_ones(tree, parts):
    handle = os.open(tree, os.O_RDONLY)
    for name in parts:
        os.mkdir(name, dir_fd=handle)
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=handle)
    os.write(file, b"abc")
    os.fchmod(file, 0o644)
    os.utime(file, ns=(5, 5))
    os.close(file)
    os.close(handle)
    try:
        found, states = compared(tree, [entry("/" + "/".join([*parts, "file"]))])
    finally:
        subprocess.run(["rm", "-r", str(tree)], check=True)  # Python's own way is too deep for it
    assert (ways(found), list(states.values())) == ({}, ["same"])


def test_nothing_that_a_snapshot_holds_is_followed_or_waited_for(tree, tmp_path, monkeypatch):
    """A link, a fifo, a socket, a folder where files should be: differences. Where none should be, nobody minds them."""
    outside = tmp_path / "outside"
    put(outside, "/secret/file")
    monkeypatch.chdir(tree)  # a socket's address has room for a short path only
    (tree / "linked").symlink_to(outside / "secret")
    for name, make in (
        ("link", lambda path: path.symlink_to(outside / "secret/file")),
        ("fifo", os.mkfifo),
        ("folder", lambda path: path.mkdir()),
        ("socket", lambda path: socket.socket(socket.AF_UNIX).bind(path.name)),
    ):  # fmt: skip
        make(tree / name)
        make(tree / f"other-{name}")
    manifest = [entry(f"/{name}") for name in ("link", "fifo", "folder", "socket")] + [entry("/linked/file")]
    found, states = compared(tree, manifest)
    assert ways(found) == {"kind": 4, "missing": 1}
    assert (states["/linked/file"], found.restored) == ("missing", 0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make devices")
def test_a_device_is_not_opened(tree):
    os.mknod(tree / "disk", 0o600 | 0o060000, os.makedev(7, 200))
    os.mknod(tree / "random", 0o644 | 0o020000, os.makedev(1, 9))
    found, _states = compared(tree, [entry("/disk"), entry("/random")])
    assert ways(found) == {"kind": 2}


def test_links_between_files_and_files_with_holes(tree):
    put(tree, "/one", b"x" * 5000)
    os.link(tree / "one", tree / "two")
    put(tree, "/holes", b"")
    os.truncate(tree / "holes", 9 << 20)
    with (tree / "holes").open("r+b") as stream:
        stream.seek(5 << 20)
        stream.write(b"here")
    os.utime(tree / "holes", ns=(5, 5))
    data = bytes(5 << 20) + b"here" + bytes((4 << 20) - 4)
    manifest = [entry("/one", b"x" * 5000), entry("/two", b"x" * 5000), entry("/holes", data)]
    found, _states = compared(tree, manifest)
    assert (ways(found), found.bytes) == ({}, 10_000 + (9 << 20))
    manifest[2] = entry("/holes", bytes(9 << 20))
    assert ways(compared(tree, manifest)[0]) == {"changed": 1}


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_of_any_size_is_hashed_whole(tree, size):
    data = os.urandom(size)
    put(tree, "/a", data)
    assert ways(compared(tree, [entry("/a", data)])[0]) == {}
    if size:
        put(tree, "/a", data[:-1] + bytes([data[-1] ^ 1]))
        assert ways(compared(tree, [entry("/a", data)])[0]) == {"changed": 1}


def test_a_folder_that_must_not_be_empty(tree):
    put(tree, "/dd/x")
    (tree / "d").mkdir()
    manifest = [entry("/dd/x")]
    assert compared(tree, manifest, must_have=["/d", "/dd", "/dd/x", "/dd/"])[0].unmet == ["/d"]


def test_hashes_of_canaries_and_looks_by_ending(tree):
    put(tree, "/d/leave.pdf", b"%PDF-1.4")
    put(tree, "/d/a.PDF", os.urandom(3000))
    put(tree, "/d/b.txt", b"text " * 400)
    put(tree, "/d/c.xyz", os.urandom(3000))
    found, _states = compared(tree, [], canaries=["/d/leave.pdf", "/d/gone.pdf"])
    assert found.canaries == {"/d/leave.pdf": digest(b"%PDF-1.4")}
    assert found.looks == {("pdf", ""): 1, ("pdf", "magic"): 1, ("txt", ""): 1}


def test_a_few_of_many_are_named_by_their_hashes(tree):
    manifest = [entry(f"/patients/{n}") for n in range(20)]
    found, _states = compared(tree, manifest)
    assert found.ways["missing"].number == 20
    known = {name_hash(each["path"]) for each in manifest}
    assert len(found.ways["missing"].some) == 5
    assert {each[:12] for each in found.ways["missing"].some} <= known


def test_more_files_than_a_batch_and_than_handles(tree, monkeypatch):
    monkeypatch.setattr(verify_files, "_BATCH_FILES", 3)
    paths = [f"/d{n % 300}/f{n}" for n in range(1500)]
    for path in paths:
        put(tree, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = handles()
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 60, hard))
    try:
        found, _states = compared(tree, [entry(path) for path in paths])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (ways(found), found.restored) == ({}, 1500)
    assert handles() == open_now


def test_a_file_that_cannot_be_read_is_an_error_and_no_difference(tree, monkeypatch):
    put(tree, "/a")

    def broken(*_arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", broken)
    with pytest.raises(OSError, match="Input/output"):
        list(read_tree(str(tree), lambda _path: None))


MEMORY = """
import contextlib, json, sys
from pathlib import Path
from ansible_collections.holdfast.practice.plugins.module_utils.verify_files import Index, compare
from ansible_collections.holdfast.practice.plugins.module_utils.verify_oracle import read_oracle

def peak():
    # ru_maxrss begins with what the process had that started this one
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024

folder, count = Path(sys.argv[1]), int(sys.argv[2])
before = peak()
with contextlib.closing(Index(folder / "index")) as index, (folder / "oracle.json").open(encoding="utf-8") as stream:
    oracle = read_oracle(stream, index.take)
with contextlib.closing(Index(folder / "index", fresh=False)) as index:
    found = compare(str(folder / "tree"), index, oracle["files"]["manifest"])
print(json.dumps([found.listed, found.restored, {way: each.number for way, each in found.ways.items()}, before, peak()]))
"""


def test_memory_does_not_grow_with_the_number_of_files(tree, tmp_path):
    """120,000 entries; held as Python objects they would be some 80 MiB."""
    entries, files = 120_000, 2_000
    for number in range(files):
        put(tree, f"/d{number % 10}/f{number}")
    with (tmp_path / "oracle.json").open("w", encoding="ascii") as stream:
        head = {"schema": 1, "taken": "2026-11-21T20:30:12Z", "snapshots": {}, "identity": {}, "database": None}
        stream.write(json.dumps(head)[:-1] + f', "files": {{"count": {entries}, "manifest": [')
        for number in range(entries):
            stream.write(("," if number else "") + json.dumps(entry(f"/d{number % 10}/f{number}")))
        stream.write("]}}")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / ".collections")}
    command = [sys.executable, "-c", MEMORY, str(tmp_path), str(entries)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    listed, restored, differ, before, after = json.loads(done.stdout)
    assert (listed, restored, differ) == (entries, files, {"missing": entries - files})
    assert after - before < 40, f"{before} MiB before, {after} MiB at most"
