# SPDX-License-Identifier: Apache-2.0
"""Oracles of any length, read entry by entry: what comes back, what is refused, and that little of one is held at a time."""

from __future__ import annotations

import io
import json

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import verify_oracle
from ansible_collections.holdfast.practice.plugins.module_utils.verify_oracle import UNREADABLE, read_oracle


def entry(path, **changes):
    return {"path": path, "size": 3, "mode": "0644", "mtime_ns": 5, "blake2b": "aa", "volatile": False, **changes}


def oracle(**changes):
    files = {"roots": ["/d"], "manifest": [entry("/d/a"), entry("/d/b")], "count": 2, "dropped": ["/d/c"], "bytes": 6}
    made = {
        "schema": 1,
        "taken": "2026-11-21T20:30:12Z",
        "snapshots": {"files": "f" * 64},
        "identity": {"repository_id": "r"},
        "database": None,
        "files": files,
    }
    return {**made, **changes}


def read(text):
    taken = []
    return read_oracle(io.StringIO(text), lambda name, each: taken.append((name, each))), taken


@pytest.mark.parametrize("block", [3, 64, 1 << 20])
@pytest.mark.parametrize("dump", [{}, {"indent": 2}, {"separators": (",", ":"), "sort_keys": True}])
def test_what_is_read_is_what_was_written_wherever_a_block_ends(monkeypatch, block, dump):
    monkeypatch.setattr(verify_oracle, "_BLOCK", block)
    names = ['/d/é \udcff\n"\\', "/d/" + "x" * 300]
    made = oracle()
    made["files"]["manifest"] = [entry(name, size=10**12 + 7) for name in names]
    found, taken = read(json.dumps(made, **dump) + "\n")
    for name in ("manifest", "dropped"):
        assert [each for told, each in taken if told == name] == made["files"][name]
    assert found["files"] == {**made["files"], "manifest": 2, "dropped": 1}
    assert {key: found[key] for key in found if key != "files"} == {key: made[key] for key in made if key != "files"}


def test_the_order_of_keys_does_not_matter():
    made = oracle()
    found, taken = read(json.dumps(dict(reversed(list(made.items())))))
    assert (found["files"]["manifest"], len(taken)) == (2, 3)


def test_without_files_there_are_none():
    found, taken = read(json.dumps(oracle(files=None)))
    assert (found["files"], taken) == (None, [])


def test_empty_lists():
    found, taken = read(json.dumps(oracle(files={"manifest": [], "dropped": [], "count": 0})))
    assert (found["files"]["manifest"], taken) == (0, [])


BAD = {
    "nothing": "",
    "cut": json.dumps(oracle())[:-1],
    "cut in an entry": json.dumps(oracle())[:230],
    "no JSON": "not JSON",
    "a list": "[]",
    "more after it": json.dumps(oracle()) + "{}",
    "another schema": json.dumps(oracle(schema=2)),
    "a key twice": json.dumps(oracle())[:-1] + ', "files": null}',
    "no files": json.dumps({k: v for k, v in oracle().items() if k != "files"}),
    "no manifest": json.dumps(oracle(files={"count": 0})),
    "a manifest that is none": json.dumps(oracle(files={"count": 0, "manifest": 3})),
    "no count": json.dumps(oracle(files={"manifest": []})),
    "an entry without a hash": json.dumps(oracle(files={"count": 1, "manifest": [{"path": "/a"}]})),
    "an entry that is a text": json.dumps(oracle(files={"count": 1, "manifest": ["/a"]})),
    "a size that is a text": json.dumps(oracle(files={"count": 1, "manifest": [entry("/a", size="3")]})),
    "a path that is a number": json.dumps(oracle(files={"count": 1, "manifest": [entry(7)]})),
    "a dropped path that is none": json.dumps(oracle(files={"count": 0, "manifest": [], "dropped": [None]})),
    "depth without end": json.dumps(oracle())[:-1] + ', "x": ' + "[" * 200_000,
    "a path without end": json.dumps(oracle(files={"count": 1, "manifest": [entry("/" + "a" * (1 << 22))]})),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_oracle_is_refused(case):
    with pytest.raises(UNREADABLE):
        read(BAD[case])


def test_no_more_than_a_block_is_held():
    class Endless(io.StringIO):
        most = 0

        def read(self, size=-1):
            Endless.most = max(Endless.most, size)
            return super().read(size)

    made = oracle()
    made["files"]["manifest"] = [entry(f"/d/{n:06}") for n in range(30_000)]
    seen = []
    read_oracle(Endless(json.dumps(made)), lambda _name, each: seen.append(each))
    assert len(seen) == 30_001
    assert Endless.most <= verify_oracle._BLOCK
