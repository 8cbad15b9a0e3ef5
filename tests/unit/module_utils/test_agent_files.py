"""The manifest lists exactly what restic will be asked for, whatever the names are."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_files as files

ODD = [b"with space", "Überweisung".encode(), b"quo\"te's", b"new\nline", b"latin-\xfc", b"-dash", b"back\\slash"]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "root"
    (root / "sub" / "empty").mkdir(parents=True)
    for name in ODD:
        (root / "sub" / os.fsdecode(name)).write_bytes(name)
    (root / "link").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    return root


def test_every_name_survives_the_way_through_json(tree):
    manifest, _cache = files.build([str(tree)], [], {})
    back = json.loads(json.dumps(manifest.entries, ensure_ascii=True))
    assert {os.fsencode(Path(entry["path"]).name) for entry in back} == set(ODD)
    for entry in back:
        name = os.fsencode(Path(entry["path"]).name)
        assert entry["blake2b"] == hashlib.blake2b(name, digest_size=32).hexdigest()
        assert entry["size"] == len(name)


def test_a_root_may_be_a_file_and_overlapping_roots_count_once(tree):
    one = str(tree / "sub" / "with space")
    manifest, _cache = files.build([one, str(tree)], [], {})
    assert len(manifest.entries) == len(ODD)


def test_unchanged_files_are_not_read_again_and_changed_ones_are(tree, monkeypatch):
    monkeypatch.setattr(files, "SETTLED_NS", -1)
    _manifest, cache = files.build([str(tree)], [], {})
    again, _cache = files.build([str(tree)], [], json.loads(files.cache_text(cache))["files"])
    assert again.hashed == 0
    target = tree / "sub" / "with space"
    facts = target.stat()
    target.write_bytes(b"WITH SPACE")
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # same size, same mtime: the ctime tells
    changed, _cache = files.build([str(tree)], [], cache)
    assert changed.hashed == 1
    assert hashlib.blake2b(b"WITH SPACE", digest_size=32).hexdigest() in {e["blake2b"] for e in changed.entries}


def test_a_file_written_this_moment_is_not_trusted_next_time(tree):
    first, cache = files.build([str(tree)], [], {})
    again, _cache = files.build([str(tree)], [], json.loads(files.cache_text(cache))["files"])
    assert (again.hashed, again.entries) == (len(ODD), first.entries)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "files": {}}', '{"schema": 1, "files": {"a": 1}}'])
def test_a_damaged_cache_is_an_empty_one(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    assert files.load_cache(str(tmp_path / "c.json")) == {}
    assert files.load_cache(str(tmp_path / "none.json")) == {}


def listing(*paths):
    """As restic lists a snapshot of these files."""
    nodes = [{"struct_type": "snapshot"}, {"struct_type": "node", "type": "dir", "path": "/srv"}]
    nodes += [{"struct_type": "node", "type": "file", "path": files.printable(str(p)), "size": 3} for p in paths]
    return "\n".join(json.dumps(node) for node in nodes)


class Day:
    """A folder with a few files that are an hour old, looked at once."""

    def __init__(self, root):
        self.root = root
        root.mkdir()
        for name in ("kept", "other", os.fsdecode(b"\xfc")):
            (root / name).write_bytes(b"abc")
        self.manifest, _cache = files.build([str(root)], [], {})
        self.began = max(entry["ctime_ns"] for entry in self.manifest.entries) + 1
        time.sleep(0.02)  # the kernel's clock for files goes in steps

    def stored(self, without=(), more=()):
        """Settle with a snapshot of what was there at first, changed like this."""
        names = [path for path in (entry["path"] for entry in self.manifest.entries) if Path(path).name not in without]
        names += [str(self.root / name) for name in more]
        stored = files.stored_files(listing(*names))
        found = files.settle(self.manifest, files.look([str(self.root)], []), stored, self.began)
        return found, {Path(entry["path"]).name: entry["volatile"] for entry in self.manifest.entries}


@pytest.fixture
def day(tmp_path):
    return Day(tmp_path / "day")


QUIET = {"kept": False, "other": False, os.fsdecode(b"\xfc"): False}


def test_on_a_quiet_day_nothing_is_excused(day):
    assert day.stored() == (files.Meanwhile(), QUIET)
    assert not any("ctime_ns" in entry for entry in day.manifest.entries)


def test_what_changed_meanwhile_is_volatile(day):
    (day.root / "kept").write_bytes(b"xyz")
    assert day.stored() == (files.Meanwhile(changed=1), {**QUIET, "kept": True})


def test_a_file_deleted_before_restic_came_is_dropped(day):
    (day.root / "kept").unlink()
    found, entries = day.stored(without=["kept"])
    assert found == files.Meanwhile(dropped=[str(day.root / "kept")])
    assert "kept" not in entries


def test_a_file_deleted_after_restic_came_is_still_expected(day):
    (day.root / "kept").unlink()
    assert day.stored() == (files.Meanwhile(changed=1), {**QUIET, "kept": True})


def test_a_file_that_restic_passed_over_although_it_never_moved_is_a_gap_and_stays_expected(day):
    assert day.stored(without=["kept"]) == (files.Meanwhile(gap=1), QUIET)


@pytest.mark.parametrize("name", ["new", os.fsdecode(b"n\xfcw")])
def test_a_file_that_came_is_expected_whatever_is_in_it(day, name):
    (day.root / name).write_bytes(b"abc")
    assert day.stored(more=[name]) == (files.Meanwhile(appeared=1), {**QUIET, name: True})


def test_a_file_with_old_times_that_was_moved_in_has_come_too(day):
    (day.root.parent / "old").write_bytes(b"abc")
    os.utime(day.root.parent / "old", ns=(5, 5))
    (day.root.parent / "old").rename(day.root / "new")
    assert day.stored(more=["new"])[0] == files.Meanwhile(appeared=1)


def test_a_file_that_came_after_restic_is_not_expected(day):
    (day.root / "new").write_bytes(b"abc")
    assert day.stored() == (files.Meanwhile(), QUIET)


def test_a_file_that_came_and_went_is_expected(day):
    assert day.stored(more=["passing"]) == (files.Meanwhile(appeared=1), {**QUIET, "passing": True})


def test_a_renamed_file_is_one_that_went_and_one_that_came(day):
    (day.root / "kept").rename(day.root / "renamed")
    found, entries = day.stored(without=["kept"], more=["renamed"])
    assert (found.dropped, found.appeared, found.gap) == ([str(day.root / "kept")], 1, 0)
    assert (entries["renamed"], "kept" in entries) == (True, False)


def test_a_file_in_the_snapshot_that_was_there_all_along_unseen_is_a_gap_and_not_added(day):
    outside = day.root.parent / "outside"  # below no root, and so like one that the excludes cover
    outside.write_bytes(b"abc")
    os.utime(outside)
    day.began = outside.stat().st_ctime_ns + 1
    assert day.stored(more=["../outside"]) == (files.Meanwhile(gap=1), QUIET)


def test_a_root_that_goes_is_no_crash(tmp_path):
    manifest, _cache = files.build([str(tmp_path / "gone")], [], {})
    assert (manifest.entries, manifest.empty_roots) == ([], [str(tmp_path / "gone")])
    assert files.look([str(tmp_path / "gone")], []) == {}


def test_what_restic_could_not_read_counts_only_while_it_is_there(tmp_path):
    said = (
        '{"message_type":"error","error":{"message":"no"},"during":"archival","item":"/x/y"}\nplain text\n[]\n{"a":1}'
    )
    assert files.error_paths(said) == ["/x/y"]
    cases = {"": True, str(tmp_path): True, str(tmp_path / "gone"): False, str(tmp_path / "\ufffd"): True}
    assert {path: files.still_there(path) for path in cases} == cases


@pytest.mark.parametrize(
    ("pattern", "path", "hit"),
    [
        ("*.tmp", "/srv/a/x.tmp", True),
        ("*.tmp", "/srv/a/x.tmp.txt", False),
        ("cache", "/srv/cache", True),
        ("cache", "/srv/cache2", False),
        ("/srv/a", "/srv/a", True),
        ("/srv/a", "/home/srv/a", False),
        ("a/b", "/srv/a/b", True),
        ("a/b", "/srv/a/c/b", False),
        ("a/**/b", "/srv/a/c/d/b", True),
        ("[abc].txt", "/b.txt", True),
        ("[^abc].txt", "/b.txt", False),
        ("?.txt", "/ü.txt", True),
        (r"\*.txt", "/x.txt", False),
        (r"\*.txt", "/*.txt", True),
        ("x[", "/x[", True),
    ],
)
def test_excludes_read_like_restics(pattern, path, hit):
    assert files.excluded(path, files.compile_excludes([pattern])) is hit


def test_excluded_folders_are_not_entered(tree):
    manifest, _cache = files.build([str(tree)], ["sub"], {})
    assert manifest.entries == []
    assert manifest.empty_roots == [str(tree)]


@pytest.mark.parametrize(
    ("root", "name", "path"),
    [("/i", "a b.png", "/i/a b.png"), ("/i", "/abs/x", "/abs/x"), ("/i", "../x", "/x"), ("/i/", "./a", "/i/a")],
)
def test_images_are_absolute_or_below_the_root(root, name, path):
    assert files.image_path(root, name) == path


@pytest.mark.parametrize(("path", "inside"), [("/a", True), ("/a/b", True), ("/ab", False), ("/", False)])
def test_below_is_by_path_parts(path, inside):
    assert files.below(path, ["/a"]) is inside


def test_a_file_that_just_changed_is_read_again_and_known_by_its_hash(tmp_path):
    file = tmp_path / "a"
    file.write_text("x")
    seen = []

    def see(path, known, digest, head):
        seen.append((path, known and known[4] == digest, head))
        return "magic"

    _manifest, cache = files.build([str(tmp_path)], [], {}, see=see)
    manifest, again = files.build([str(tmp_path)], [], cache, see=see)
    assert seen == [(str(file), None, b"x"), (str(file), True, b"x")]
    assert (manifest.looks, manifest.hashed) == ({str(file): "magic"}, 1)
    os.utime(file, ns=(1, 1))
    settled = {path: [1, 1, file.stat().st_ctime_ns, file.stat().st_ino, *facts[4:]] for path, facts in again.items()}
    manifest, _cache = files.build([str(tmp_path)], [], settled, see=see)
    assert (manifest.looks, manifest.hashed, len(seen)) == ({str(file): "magic"}, 0, 2)
    # a cache of an earlier version knows no looks
    manifest, _cache = files.build([str(tmp_path)], [], {p: f[:5] for p, f in settled.items()}, see=see)
    assert (manifest.looks, manifest.hashed) == ({}, 0)


def told(paths, items):
    found = files.Told(paths)
    for item in items:
        line = json.dumps({"message_type": "verbose_status", "action": "new", "item": item}, separators=(",", ":"))
        assert found.take(line.encode() + b"\n")
    return found


@pytest.mark.parametrize(
    ("paths", "items", "count", "expected"),
    [
        (["/x/a", "/x/b"], ["/x/b", "/x/a", "/x/", "/", ""], 2, True),
        (["/x/a", "/x/b"], ["/x/a", "/x/"], 1, False),
        (["/x/a"], ["/x/a", "/x/new"], 2, False),
        (["/x/a"], ["/x/a"], 2, False),  # restic stored one that it did not tell of
        (["/x/\udcff"], ["/x/\ufffd"], 1, True),
        (["/x/\udcff", "/x/\udcfe"], ["/x/\ufffd", "/x/\ufffd"], 2, False),  # names that restic cannot tell apart
        ([], ["/x/"], 0, True),
    ],
)
def test_what_restic_tells_is_enough_only_where_it_is_what_was_expected(paths, items, count, expected):
    assert told(paths, items).as_expected(count) is expected


def test_other_lines_of_restic_are_left_to_others():
    found = files.Told(["/x/a"])
    assert not found.take(b'{"message_type":"status","percent_done":1}\n')
    assert not found.take(b'{"message_type":"error","error":{},"item":"/x/a"}\n')
    assert not found.as_expected(1)
