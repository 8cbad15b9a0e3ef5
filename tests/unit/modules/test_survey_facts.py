# SPDX-License-Identifier: Apache-2.0
"""The survey's module: what it puts together from its readers, and whom it refuses to look at."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.module_utils import stamp, survey_walk
from ansible_collections.holdfast.practice.plugins.modules import survey_facts as module

JOBS = [{"item": "db", "database": {"engine": "postgresql", "name": "clinic"}}, {"item": "docs", "paths": ["/srv/d"]}]


def run(capsys, **args):
    with patch_module_args({"practice": "p", "host": "server1", **args}), pytest.raises(SystemExit) as end:
        module.main()
    return end.value.code, json.loads(capsys.readouterr().out)


def test_the_control_node_is_asked_for_room_only(capsys, tmp_path):
    code, result = run(capsys, data=False, restore_root=str(tmp_path / "not/yet"), asked_at=1.0)
    assert (code, result["changed"]) == (0, False)
    assert result["survey"]["restore"]["free"] > 0
    assert result["survey"]["clock_offset_s"] > 1e9
    assert "stores" not in result["survey"]


def test_another_practices_host_is_not_looked_at(capsys, monkeypatch):
    def check(practice, host):
        raise stamp.StampError('this machine is "x" of practice "other"')

    monkeypatch.setattr(stamp, "check", check)
    code, result = run(capsys)
    assert code == 1
    assert result["msg"] == 'p/server1: this machine is "x" of practice "other"'


def test_an_item_holds_its_folders_and_its_database():
    found = survey_walk.Found(items={"db": {"bytes": 100, "changed_bytes_per_day": 7, "files": 2, "missing": []}})
    servers = [{"engine": "postgresql", "name": "clinic", "bytes": 1000, "changed_bytes_per_day": 3}]
    module.item_sizes(found, JOBS, servers)
    assert found.items["db"] == {"bytes": 1100, "changed_bytes_per_day": 10, "files": 2, "missing": []}


def test_a_database_that_is_not_there_leaves_the_item_unknown():
    found = survey_walk.Found(items={"db": {"bytes": 100, "changed_bytes_per_day": 7, "files": 2, "missing": []}})
    module.item_sizes(found, JOBS, [{"engine": "postgresql", "name": "other", "bytes": 1}])
    assert found.items["db"]["bytes"] is None
    assert found.items["db"]["missing"] == ["postgresql clinic"]


DISKS = [{"device": "a", "bytes": 400, "used_for": "pool"}, {"device": "b", "bytes": 300, "used_for": "pool"}]


@pytest.mark.parametrize(
    ("profile", "disks", "wanted"),
    [
        ("raid1", DISKS, 300),
        ("single", DISKS[:1], 400),
        ("raid1", DISKS[:1], None),  # a disk of the pool that is not there
        ("raid1", [], None),
    ],
)
def test_a_pool_that_is_not_made_yet_is_measured_by_its_disks(profile, disks, wanted):
    devices = ["a"] if profile == "single" else ["a", "b"]
    found = module.capacity({"mountpoint": "/nowhere/mounted", "profile": profile, "devices": devices}, disks)
    assert (found and found["bytes"]) == wanted
