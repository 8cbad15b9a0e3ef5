# SPDX-License-Identifier: Apache-2.0
"""The place for restored data, on this machine: claimed once, unreadable on the disk, and gone when it is gone."""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.holdfast.practice.plugins.filter.restore_holder import holder
from ansible_collections.holdfast.practice.plugins.module_utils import nspawn_host, restore_store_host
from ansible_collections.holdfast.practice.plugins.module_utils import restore_store as decisions
from ansible_collections.holdfast.practice.plugins.modules import restore_store

CANARY = b"Holdfast canary 5f1c2e, readable nowhere"
MINE = {"token": "a", "who": "anna", "node": "control1", "pid": 7, "since": "2026-11-21T20:31:40Z"}

real = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(nspawn_host, "LOCKS", tmp_path / "locks")


@pytest.fixture
def place(tmp_path, capsys):
    """Run the module on one place; whatever a test left is unmounted."""
    folder = tmp_path / "restore/harbour-street"

    def run(state, **args):
        with (
            patch_module_args({"folder": str(args.pop("folder", folder)), "state": state, **args}),
            pytest.raises(SystemExit),
        ):
            restore_store.main()
        return json.loads(capsys.readouterr().out)

    run.folder = folder
    yield run
    for mount in nspawn_host.own_mounts(str(tmp_path)):
        subprocess.run(["umount", mount.target], check=True)


def holds(path, needle):
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return whole.find(needle) >= 0


def test_a_claim_says_who_and_since_when_and_keeps_others_out(place):
    assert place("seen")["holder"] == {}
    place("claimed", holder=MINE)
    refused = place("claimed", holder={**MINE, "token": "b"})
    assert refused["failed"]
    assert "anna on control1 (process 7), since 2026-11-21T20:31:40Z" in refused["msg"]
    assert place("seen")["holder"]["token"] == "a"


def test_a_claim_whose_holder_is_gone_gives_way(place):
    place("claimed", holder=MINE)
    after = place("claimed", holder={**MINE, "token": "b"}, over="a")
    assert after["holder"]["token"] == "a"
    assert place("seen")["holder"]["token"] == "b"
    assert "failed" in place("claimed", holder={**MINE, "token": "c"}, over="a")
    assert not place("claimed", holder={**MINE, "token": "c"}, discard=True).get("failed")


def test_a_claim_of_before_a_restart_is_seen_as_such(place, monkeypatch):
    place("claimed", holder=MINE)
    assert not place("seen")["rebooted"]
    monkeypatch.setattr(restore_store_host, "boot_id", lambda: "another")
    monkeypatch.setattr(restore_store, "boot_id", lambda: "another")
    assert place("seen")["rebooted"]


def test_check_mode_claims_and_makes_nothing(place):
    assert place("claimed", holder=MINE, _ansible_check_mode=True)["changed"]
    assert place("fresh", _ansible_check_mode=True)["steps"][-1] == "note"
    assert not place.folder.exists()


@pytest.mark.parametrize("state", ["claimed", "fresh"])
def test_a_folder_with_anything_in_it_is_refused(place, state):
    place.folder.mkdir(parents=True)
    (place.folder / "thesis.odt").write_text("years of work")
    refused = place(state, holder=MINE)
    assert "is not empty: 1 things in it" in refused["msg"]
    assert (place.folder / "thesis.odt").exists()


@real
def test_what_lay_in_a_store_is_readable_nowhere_and_then_gone(place):
    made = place("fresh", size=2 << 30)
    assert made["steps"] == ["file", "format", "mount", "seal", "note"]
    (place.folder / "store/data/letter").write_bytes(CANARY)
    (place.folder / "store/beside").write_bytes(CANARY[::-1])
    subprocess.run(["sync", "--file-system", str(place.folder / "store")], check=True)
    image = place.folder / "store.img"
    assert holds(image, CANARY[::-1]), "what is not below data is not encrypted: so the search can find something"
    assert not holds(image, CANARY)
    kept = place.folder.parent / "kept.img"
    os.link(image, kept)
    gone = place("absent")
    assert gone["disposal"] == {"store": "encrypted", "key_destroyed": True, "deleted": True}
    assert not place.folder.exists()
    # whoever kept the blocks has no key to them
    subprocess.run(["mount", "-o", "loop", str(kept), str(kept.parent.parent)], check=True)
    try:
        (name,) = (kept.parent.parent / "data").iterdir()
        assert name.name != "letter"
        with pytest.raises(OSError, match="Required key") as refused:
            name.read_bytes()
        assert refused.value.errno == errno.ENOKEY
    finally:
        subprocess.run(["umount", str(kept.parent.parent)], check=True)


@real
def test_what_a_killed_proof_left_is_wiped_before_a_new_store_is_made(place):
    place("fresh", size=2 << 30)
    (place.folder / "store/data/letter").write_bytes(CANARY)
    again = place("fresh", size=2 << 30)
    assert again["disposal"] == {"store": "encrypted", "key_destroyed": True, "deleted": True}
    (place.folder / "store/data/letter").write_bytes(CANARY)
    (place.folder / "store.json").unlink()
    assert place("fresh", size=2 << 30)["steps"][:2] == ["unmount", "clear"]
    assert list((place.folder / "store/data").iterdir()) == []
    assert place("absent")["disposal"]["key_destroyed"]
    assert place("absent")["steps"] == []


@real
def test_a_store_in_memory_is_as_large_as_asked_and_leaves_nothing(place):
    place("fresh", store="memory", size=1 << 30)
    facts = os.statvfs(place.folder / "store")
    assert facts.f_blocks * facts.f_frsize == 1 << 30
    assert place("absent", store="memory")["disposal"] == {"store": "memory", "deleted": True}
    assert not place.folder.exists()


@real
def test_a_store_that_is_in_use_is_not_called_wiped(place, monkeypatch):
    monkeypatch.setattr(restore_store_host, "PATIENCE", 0.3)
    place("fresh", size=2 << 30)
    with (place.folder / "store/data/letter").open("wb"):
        refused = place("absent")
    assert refused["failed"]
    assert "unmounting" in refused["msg"]
    assert place("absent")["disposal"]["key_destroyed"]


def test_the_memory_of_other_proofs_counts(place, monkeypatch):
    other = place.folder.parent / "hill-road"
    place("claimed", folder=other, holder=MINE)
    monkeypatch.setattr(restore_store_host, "available_memory", lambda: 2 * decisions.MACHINE_MEMORY - 1)
    refused = place("claimed", holder=MINE)
    assert refused["reason"]["code"] == "not_enough_memory"
    monkeypatch.setattr(restore_store_host, "available_memory", lambda: 2 * decisions.MACHINE_MEMORY)
    assert not place("claimed", holder=MINE).get("failed")


@real
def test_the_disk_of_other_proofs_counts(place):
    place("fresh", folder=place.folder.parent / "hill-road", size=3 << 30)
    facts = os.statvfs(place.folder.parent)
    everything = facts.f_bavail * facts.f_frsize
    place("fresh", size=everything)
    promised = (place.folder / "store.img").stat().st_size
    assert promised <= everything - (3 << 30) - decisions.DISK_TO_SPARE + (256 << 20)


def test_the_holder_is_this_process_and_its_claim_has_its_owner():
    mine = holder("harbour-street")
    assert mine["pid"] == os.getpid()
    assert mine["practice"] == "harbour-street"
