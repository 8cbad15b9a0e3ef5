"""The manifest lists exactly what restic will be asked for, whatever the names are."""

from __future__ import annotations

import hashlib
import json
import os
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
    _manifest, cache = files.build([str(tree)], [], {})
    assert cache == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "files": {}}', '{"schema": 1, "files": {"a": 1}}'])
def test_a_damaged_cache_is_an_empty_one(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    assert files.load_cache(str(tmp_path / "c.json")) == {}
    assert files.load_cache(str(tmp_path / "none.json")) == {}


def test_what_changed_meanwhile_is_volatile_and_what_went_is_dropped(tree):
    manifest, _cache = files.build([str(tree)], [], {})
    (tree / "sub" / "-dash").write_bytes(b"other")
    (tree / "sub" / "with space").unlink()
    assert files.settle(manifest) == 1
    volatile = {Path(e["path"]).name for e in manifest.entries if e["volatile"]}
    assert volatile == {"-dash"}
    assert not any("ctime_ns" in entry for entry in manifest.entries)


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
