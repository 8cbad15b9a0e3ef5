"""The manifest lists exactly what restic will be asked for, whatever the names are."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import agent_files as files

ODD = [b"with space", "Überweisung".encode(), b"quo\"te's", b"new\nline", b"latin-\xfc", b"-dash", b"back\\slash"]


def build(roots, exclude, cache, see=lambda *_facts: ""):
    """A first look, and the hashing; what the cache file would be next time."""
    manifest = files.survey(roots, exclude, cache)
    files.hash_new(manifest, see)
    return manifest


def cached(manifest, tmp_path):
    """The cache that a manifest leaves, by way of its file."""
    (tmp_path / "cache.json").write_text("".join(files.cache_pieces(manifest)), "ascii")
    return files.load_cache(str(tmp_path / "cache.json"))


def entries(manifest):
    """The entries as a proof reads them in the oracle."""
    return json.loads(f"[{''.join(files.in_pieces(manifest.entries()))}]")


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
    back = entries(build([str(tree)], [], {}))
    assert {os.fsencode(Path(entry["path"]).name) for entry in back} == set(ODD)
    for entry in back:
        name = os.fsencode(Path(entry["path"]).name)
        assert entry["blake2b"] == hashlib.blake2b(name, digest_size=32).hexdigest()
        facts = Path(entry["path"]).stat()
        assert (entry["size"], entry["mtime_ns"]) == (len(name), facts.st_mtime_ns)
        assert (entry["mode"], entry["volatile"]) == (f"{facts.st_mode & 0o7777:04o}", False)
        assert set(entry) == {"path", "size", "mode", "mtime_ns", "blake2b", "volatile"}


@pytest.mark.parametrize("mtime_ns", [0, -1, -1_500_000_000, 999_999_999, 4_102_444_800_123_456_789])
def test_odd_times_and_modes_survive_too(tmp_path, mtime_ns):
    file = tmp_path / "a"
    file.write_text("x")
    file.chmod(0o4751)
    os.utime(file, ns=(0, mtime_ns))
    (entry,) = entries(build([str(file)], [], {}))
    assert (entry["mtime_ns"], entry["mode"]) == (mtime_ns, "4751")


@pytest.mark.parametrize("count", [0, 1, files.TOGETHER, files.TOGETHER + 1, 2 * files.TOGETHER])
def test_pieces_are_one_list(count):
    assert json.loads(f"[{''.join(files.in_pieces(range(count)))}]") == list(range(count))


def test_a_root_may_be_a_file_and_overlapping_roots_count_once(tree):
    one = str(tree / "sub" / "with space")
    assert len(entries(build([one, str(tree)], [], {}))) == len(ODD)


def test_unchanged_files_are_not_read_again_and_changed_ones_are(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SETTLED_NS", -(10**9))
    first = build([str(tree)], [], {})
    cache = cached(first, tmp_path)
    monkeypatch.setattr(files, "hash_file", lambda *_arguments: pytest.fail("it was read"))
    again = build([str(tree)], [], cache)
    assert (again.unhashed, entries(again)) == ([], entries(first))
    monkeypatch.undo()
    target = tree / "sub" / "with space"
    facts = target.stat()
    target.write_bytes(b"WITH SPACE")
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # same size, same mtime: the ctime tells
    changed = build([str(tree)], [], cache)
    assert changed.unhashed == [str(target)]
    assert hashlib.blake2b(b"WITH SPACE", digest_size=32).hexdigest() in {e["blake2b"] for e in entries(changed)}


def test_a_file_written_this_moment_is_not_trusted_next_time(tree, tmp_path):
    first = build([str(tree)], [], {})
    again = build([str(tree)], [], cached(first, tmp_path))
    assert (len(again.unhashed), entries(again)) == (len(ODD), entries(first))


def test_the_cache_knows_every_file_by_its_name(tree, tmp_path):
    manifest = build([str(tree)], [], {})
    cache = cached(manifest, tmp_path)
    assert list(cache) == list(manifest.files)
    assert [files.digest_of(each) for each in cache.values()] == [*map(files.digest_of, manifest.files.values())]


RECORD = "00" * 71


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema":1,"files":{}}',
        '{"schema":2,"files":1}\n',  # cut off
        f'{{"schema":2,"files":1}}\n{{"a":"{RECORD}"',
        f'{{"schema":2,"files":2}}\n{{"a":"{RECORD}"}}\n',
        f'{{"schema":2,"files":1}}\n{{"a":"{RECORD}00"}}\n',
        f'{{"schema":2,"files":1}}\n{{"a":"{"ff" * 71}"}}\n',
        '{"schema":2,"files":1}\n{"a":"xy"}\n',
        '{"schema":2,"files":1}\n{"a":1}\n',
        f'{{"schema":3,"files":1}}\n{{"a":"{RECORD}"}}\n',
    ],
)
def test_a_damaged_cache_is_an_empty_one(tmp_path, text):
    (tmp_path / "whole.json").write_text(f'{{"schema":2,"files":1}}\n{{"a":"{RECORD}"}}\n')
    assert files.load_cache(str(tmp_path / "whole.json")) == {"a": bytes(71)}
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
        self.manifest = build([str(root)], [], {})
        self.began = max(path.stat().st_ctime_ns for path in root.iterdir()) + 1
        time.sleep(0.02)  # the kernel's clock for files goes in steps

    def stored(self, without=(), more=()):
        """Settle with a snapshot of what was there at first, changed like this."""
        names = [path for path in self.manifest.files if Path(path).name not in without]
        names += [str(self.root / name) for name in more]
        stored = files.stored_files(listing(*names))
        second = files.look_again(self.manifest, [str(self.root)], [])
        self.manifest.began_ns = self.began + files.CLOCK_STEP_NS
        if not without and not more:
            # what restic tells of the expected files alone says the same as the listing
            told = copy.deepcopy(self.manifest)
            assert files.settle(told, second, None) == files.settle(copy.deepcopy(self.manifest), second, stored)
            found = files.settle(self.manifest, second, stored)
            assert entries(told) == entries(self.manifest)
        else:
            found = files.settle(self.manifest, second, stored)
        assert self.manifest.count == len(entries(self.manifest)) == len(list(self.manifest.paths()))
        assert self.manifest.bytes == sum(entry["size"] for entry in entries(self.manifest))
        return found, {Path(entry["path"]).name: entry["volatile"] for entry in entries(self.manifest)}


@pytest.fixture
def day(tmp_path):
    return Day(tmp_path / "day")


QUIET = {"kept": False, "other": False, os.fsdecode(b"\xfc"): False}


def test_on_a_quiet_day_nothing_is_excused(day):
    assert day.stored() == (files.Meanwhile(), QUIET)


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
    manifest = build([str(tmp_path / "gone")], [], {})
    assert (manifest.files, manifest.empty_roots) == ({}, [str(tmp_path / "gone")])
    assert files.look_again(manifest, [str(tmp_path / "gone")], []) == files.Second()


def surveyed(tmp_path):
    """Two letters, looked at and not hashed yet."""
    root = tmp_path / "letters"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_text(name)
    return root, files.survey([str(root)], [], {})


@pytest.mark.parametrize("stored", [True, False])
def test_a_file_that_goes_before_it_is_hashed_is_expected_only_where_restic_came_first(tmp_path, stored):
    root, manifest = surveyed(tmp_path)
    (root / "a").unlink()
    files.hash_new(manifest)
    (root / "a").write_text("a")  # also when it is there again on the second look
    second = files.look_again(manifest, [str(root)], [])
    names = [path for path in manifest.files if stored or not path.endswith("a")]
    found = files.settle(manifest, second, files.stored_files(listing(*names)))
    expected = [(entry["path"][-1], entry["volatile"], bool(entry["blake2b"])) for entry in entries(manifest)]
    assert expected == [("a", True, False), ("b", False, True)][not stored :]
    assert (manifest.unreadable, found.gap, len(found.dropped)) == (0, 0, not stored)


def test_a_file_that_cannot_be_read_is_counted_and_not_listed(tmp_path, monkeypatch):
    root, manifest = surveyed(tmp_path)
    real = files.hash_file

    def broken(path, *rest):
        if path.endswith("a"):
            raise OSError(errno.EIO, "no")
        return real(path, *rest)

    monkeypatch.setattr(files, "hash_file", broken)
    told = files.Told(manifest.files)
    files.hash_new(manifest)
    assert (list(manifest.files), manifest.unreadable) == ([str(root / "b")], 1)
    for name in ("a", "b"):
        assert told.take(b'{"message_type":"verbose_status","action":"new","item":"%s"}\n' % os.fsencode(root / name))
    assert not told.as_expected(2), "restic stored what could not be hashed: what it stored has to be listed"


def test_hashing_ends_when_nobody_wants_it_any_more(tmp_path):
    _root, manifest = surveyed(tmp_path)
    asked = iter([True, False])
    files.hash_new(manifest, go_on=lambda: next(asked))
    assert [bool(entry["blake2b"]) for entry in entries(manifest)] == [True, False]


def test_what_changes_between_the_first_look_and_the_hash_is_volatile_and_hashed_again_next_time(tmp_path, monkeypatch):
    root, manifest = surveyed(tmp_path)
    monkeypatch.setattr(files, "SETTLED_NS", -(10**9))
    time.sleep(0.02)  # the kernel's clock for files goes in steps
    (root / "a").write_text("A")
    files.hash_new(manifest)
    files.settle(manifest, files.look_again(manifest, [str(root)], []), None)
    assert [entry["volatile"] for entry in entries(manifest)] == [True, False]
    assert files.survey([str(root)], [], cached(manifest, tmp_path)).unhashed == [str(root / "a")]


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
    manifest = build([str(tree)], ["sub"], {})
    assert manifest.files == {}
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


def test_a_file_that_just_changed_is_read_again_and_known_by_its_hash(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_text("x")
    seen = []

    def see(path, known, digest, head):
        seen.append((path, known and known == digest, head))
        return "magic"

    file = str(file)
    aside = tmp_path.parent
    manifest = build([file], [], cached(build([file], [], {}, see), aside), see)
    assert seen == [(file, None, b"x"), (file, True, b"x")]
    assert (files.look_of(manifest.files[file]), manifest.unhashed) == ("magic", [file])
    monkeypatch.setattr(files, "SETTLED_NS", -(10**9))
    manifest = build([file], [], cached(manifest, aside), see)
    assert (files.look_of(manifest.files[file]), manifest.unhashed, len(seen)) == ("magic", [], 2)


def test_what_is_not_there_any_more_is_left(tree, tmp_path):
    known = cached(build([str(tree)], [], {}), tmp_path)
    (tree / "sub" / "with space").unlink()
    manifest = files.survey([str(tree)], [], known)
    assert (list(manifest.left), manifest.before) == ([str(tree / "sub" / "with space")], len(ODD))


def told(paths, items):
    found = files.Told(dict.fromkeys(paths, b""))
    for item in items:
        line = {"message_type": "verbose_status", "action": "new", "item": item, "duration": 0.1}
        # restic writes UTF-8 and escapes only what has to be
        assert found.take(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
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
        ([os.fsdecode(b"/x/\xff"), "/x/\ufffd"], ["/x/\ufffd", "/x/\ufffd"], 2, False),
        (["/x/\udcff", "/x/a"], ["/x/a", "/x/\ufffd"], 2, True),
        (["/x/a", "/x/b"], ["/x/a", "/x/a"], 2, False),  # one twice, and another never
        (["/x/ü", '/x/quo"te\\s', "/x/new\nline"], ['/x/quo"te\\s', "/x/ü", "/x/new\nline"], 3, True),
        ([], ["/x/"], 0, True),
    ],
)
def test_what_restic_tells_is_enough_only_where_it_is_what_was_expected(paths, items, count, expected):
    assert told(paths, items).as_expected(count) is expected


def test_other_lines_of_restic_are_left_to_others():
    found = files.Told({"/x/a": b""})
    assert not found.take(b'{"message_type":"status","percent_done":1}\n')
    assert not found.take(b'{"message_type":"error","error":{},"item":"/x/a"}\n')
    assert not found.as_expected(1)
