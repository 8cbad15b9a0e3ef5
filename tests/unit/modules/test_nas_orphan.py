# SPDX-License-Identifier: Apache-2.0
"""Nothing is deleted that somebody still uses, or that is not what it should be."""

from __future__ import annotations

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nas_repository as repository
from ansible_collections.holdfast.practice.plugins.module_utils.btrfs import Btrfs
from ansible_collections.holdfast.practice.plugins.module_utils.nas_repository import FoundFolder
from ansible_collections.holdfast.practice.plugins.modules import nas_orphan as module

PATH = "/srv/holdfast/repositories/desk1"
WHOLE = FoundFolder("subvolume")


@pytest.mark.parametrize(
    ("name", "found", "accounts", "said"),
    [
        ("desk1", WHOLE, ["server1"], None),
        ("desk1", None, [], None),  # gone already
        ("desk1", WHOLE, ["server1", "desk1"], "desk1 still has an account here"),
        ("desk1", None, ["desk1"], "still has an account"),
        ("desk1", FoundFolder("other"), [], "expected a subvolume"),
        ("../../etc", WHOLE, [], "expected the name of a host"),
        ("", WHOLE, [], "expected the name of a host"),
        (".", WHOLE, [], "expected the name of a host"),
    ],
)
def test_what_may_be_deleted(name, found, accounts, said):
    problem = repository.deletion_problem(name, found, accounts, PATH)
    assert problem is None if said is None else said in problem


def test_accounts_are_read_from_the_password_file():
    assert repository.account_names("desk1:$2b$12$x\nserver1:$2b$12$y:z\n\n") == ["desk1", "server1"]


def test_a_folder_is_known_by_its_inode(tmp_path):
    assert module.folder_at(str(tmp_path / "none"), {}) is None
    assert module.folder_at(str(tmp_path), {}).kind == "other"
    (tmp_path / "link").symlink_to(tmp_path)
    assert module.folder_at(str(tmp_path / "link"), {}).kind == "other"


def test_a_deletion_is_on_the_disk_when_it_is_said_to_be_done():
    asked = []

    def run(command):
        asked.append(command)
        return 0, "", ""

    Btrfs(run).delete_subvolume(PATH)
    assert asked == [["btrfs", "subvolume", "delete", "--commit-after", PATH]]
