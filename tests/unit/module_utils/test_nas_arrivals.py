# SPDX-License-Identifier: Apache-2.0
"""Arrivals come from files that the NAS wrote, and from nothing else."""

from __future__ import annotations

import os

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.nas_arrivals import ArrivalsError, size_of, survey

ONE, TWO = "a" * 64, "b" * 64


@pytest.fixture
def folder(tmp_path):
    for account in ("server1", "desk1"):
        (tmp_path / account).mkdir()
    snapshots = tmp_path / "server1" / "snapshots"
    snapshots.mkdir()
    (tmp_path / "server1" / "config").write_text("c")
    for name, moment in ((ONE, 1000.5), (TWO, 2000.0), (TWO + ".rest-server-temp1", 3000.0), ("note", 4000.0)):
        (snapshots / name).write_text("snapshot")
        os.utime(snapshots / name, (moment, moment))
    (snapshots / ("c" * 64)).symlink_to(snapshots / ONE)
    (snapshots / ("d" * 64)).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "server1")
    (tmp_path / "file").write_text("x")
    return tmp_path


def test_only_whole_snapshot_files_count(folder):
    arrivals, repositories = survey(folder, None, sizes=False)
    assert arrivals == {"server1": {ONE: 1000.5, TWO: 2000.0}, "desk1": {}}
    assert repositories["server1"] == {"initialised": True, "snapshots": 2, "newest": 2000.0, "key_ids": {}}
    assert repositories["desk1"] == {"initialised": False, "snapshots": 0, "newest": None, "key_ids": {}}


def test_keys_are_told_with_their_arrival(folder):
    key = folder / "server1" / "keys" / ("d" * 64)
    key.parent.mkdir(exist_ok=True)
    key.write_text("{}")
    os.utime(key, (500.25, 500.25))
    (key.parent / "half").write_text("{}")
    assert survey(folder, ["server1"], sizes=False)[1]["server1"]["key_ids"] == {"d" * 64: 500.25}


def test_sizes_do_not_follow_links(folder):
    _arrivals, repositories = survey(folder, ["server1"], sizes=True)
    assert (repositories["server1"]["files"], repositories["server1"]["bytes"]) == (5, 4 * 8 + 1)
    assert size_of(folder / "desk1") == (0, 0)


def test_an_account_asked_for_must_be_there(folder):
    assert set(survey(folder, ["desk1"], sizes=False)[0]) == {"desk1"}
    for name in ("nobody", "link", "file"):
        with pytest.raises(ArrivalsError, match=name):
            survey(folder, [name], sizes=False)


def test_a_missing_pool_is_an_error_and_not_an_empty_answer(tmp_path):
    with pytest.raises(ArrivalsError, match="is the pool mounted"):
        survey(tmp_path / "repositories", None, sizes=False)


def test_a_linked_snapshots_folder_does_not_count(folder):
    (folder / "desk1" / "snapshots").symlink_to(folder / "server1" / "snapshots")
    assert survey(folder, ["desk1"], sizes=False)[0] == {"desk1": {}}
