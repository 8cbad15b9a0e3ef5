# SPDX-License-Identifier: Apache-2.0
"""What btrfs says, read without a disk."""

from __future__ import annotations

import json
import struct
import uuid

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.btrfs import (
    MAGIC,
    MAGIC_UNFINISHED,
    Btrfs,
    BtrfsError,
    parse_profiles,
    parse_qgroups,
    parse_show,
    parse_stats,
    parse_superblock,
)

POOL = "7d3d6e7f-4299-4ad7-a1d5-902bf3466191"


def superblock(label="holdfast:a", devid=1, members=2, flags=0x2 | 0x10, incompat=0, magic=MAGIC) -> bytes:
    block = bytearray(4096)
    block[0x20:0x30] = uuid.UUID(POOL).bytes
    block[0x40:0x48] = magic
    struct.pack_into("<Q", block, 0x88, members)
    struct.pack_into("<I", block, 0xA0, 129)
    struct.pack_into("<Q", block, 0xBC, incompat)
    struct.pack_into("<Q", block, 0xC9, devid)
    block[0x12B : 0x12B + len(label)] = label.encode()
    struct.pack_into("<Q", block, 0x32B + 17 + 24, flags)
    return bytes(block)


def test_a_superblock_names_pool_label_member_and_profile():
    found = parse_superblock(superblock(devid=2))
    assert found is not None
    assert (found.uuid, found.label, found.devid, found.num_devices) == (POOL, "holdfast:a", 2, 2)
    assert (found.system_profile, found.simple_quota, found.finished) == ("raid1", False, True)


@pytest.mark.parametrize(
    ("flags", "profile"), [(0x2, "single"), (0x22, "dup"), (0x12, "raid1"), (0x42, "raid10"), (0x202, "raid1c3")]
)
def test_the_profile_is_read_from_the_system_chunk(flags, profile):
    found = parse_superblock(superblock(flags=flags))
    assert found is not None
    assert found.system_profile == profile


def test_an_interrupted_mkfs_and_simple_quotas_are_told():
    found = parse_superblock(superblock(magic=MAGIC_UNFINISHED, incompat=1 << 16))
    assert found is not None
    assert (found.finished, found.simple_quota) == (False, True)


@pytest.mark.parametrize("block", [b"", b"\0" * 4096, superblock()[:4095], superblock(magic=b"ext4ext4")])
def test_other_things_are_no_superblock(block):
    assert parse_superblock(block) is None


def test_profiles_leave_out_the_reserve_and_show_a_mixture():
    rows = [
        {"bg-type": "Data", "bg-profile": "RAID1"},
        {"bg-type": "Data", "bg-profile": "single"},
        {"bg-type": "GlobalReserve", "bg-profile": "single"},
        {"bg-type": "Metadata", "bg-profile": "RAID1"},
    ]
    assert parse_profiles(json.dumps({"filesystem-df": rows})) == {"data": ["raid1", "single"], "metadata": ["raid1"]}


def test_stats_mark_a_missing_member():
    row = dict.fromkeys(("write_io_errs", "read_io_errs", "flush_io_errs", "corruption_errs", "generation_errs"), 0)
    text = json.dumps(
        {
            "device-stats": [
                {"device": "<missing disk>", "devid": 2, **row},
                {"device": "/dev/sda", "devid": 1, **row, "corruption_errs": 7},
            ]
        }
    )
    first, second = parse_stats(text)
    assert (first["devid"], first["missing"], first["corruption_errs"]) == (1, False, 7)
    assert (second["devid"], second["missing"]) == (2, True)


@pytest.mark.parametrize("text", ["", "ERROR: output format json is unsupported", "{}", "[]"])
def test_an_answer_that_is_no_table_is_an_error(text):
    with pytest.raises(BtrfsError, match=r"btrfs-progs 6\.7"):
        parse_stats(text)


def test_show_gives_uuid_members_and_the_missing():
    text = (
        f"Label: 'holdfast:x'  uuid: {POOL}\n\tTotal devices 2 FS bytes used 163840\n"
        "\tdevid    1 size 2147483648 used 516685824 path /dev/loop0\n"
        "\tdevid    2 size 0 used 0 path <missing disk> MISSING\n"
    )
    assert parse_show(text) == (POOL, 2, [2])
    with pytest.raises(BtrfsError):
        parse_show("nothing here")


def test_qgroups_are_found_by_path_and_ghosts_are_left_out():
    rows = [
        {"qgroupid": "0/5", "referenced": 0, "max_referenced": "none", "path": ""},
        {"qgroupid": "0/256", "referenced": 10, "max_referenced": 52428800, "path": "repositories/server1"},
        {"qgroupid": "0/257", "referenced": 11, "max_referenced": "none", "path": "repositories/desk1"},
        {"qgroupid": "0/258", "referenced": 12, "max_referenced": "none", "path": "<stale>"},
    ]
    assert parse_qgroups(json.dumps({"qgroup-show": rows})) == {
        "repositories/server1": {"used": 10, "limit": 52428800},
        "repositories/desk1": {"used": 11, "limit": None},
    }


class Fake:
    """Answers commands from a table: first words -> (code, out, err); remembers what was asked."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def __call__(self, command):
        self.asked.append(command)
        return next((a for start, a in self.answers.items() if " ".join(command).startswith(start)), (0, "", ""))


@pytest.mark.parametrize(
    ("profile", "devices", "metadata"),
    [("raid1", ["a", "b"], "raid1"), ("single", ["a"], "dup"), ("single", ["a", "b"], "raid1")],
)
def test_metadata_is_never_kept_only_once(profile, devices, metadata):
    fake = Fake({})
    Btrfs(fake).make(devices, profile, "holdfast:a", POOL, force=False)
    (command,) = fake.asked
    assert command[command.index("--data") + 1] == profile
    assert command[command.index("--metadata") + 1] == metadata
    assert "--force" not in command


def test_without_simple_quotas_full_ones_are_taken():
    fake = Fake({"btrfs quota enable --simple": (1, "", "unknown option")})
    Btrfs(fake).enable_quota("/p")
    assert fake.asked[-1] == ["btrfs", "quota", "enable", "/p"]


def test_quotas_that_are_off_are_told_from_other_failures():
    off = Fake({"btrfs --format json qgroup": (1, "", "ERROR: can't list qgroups: quotas not enabled")})
    assert Btrfs(off).qgroups("/p") is None
    with pytest.raises(BtrfsError, match="not a btrfs"):
        Btrfs(Fake({"btrfs --format json qgroup": (1, "", "ERROR: not a btrfs filesystem")})).qgroups("/p")


def test_a_failing_command_is_an_error_that_quotes_it():
    with pytest.raises(BtrfsError, match=r"btrfs qgroup limit 5 /p failed \(1\): no such"):
        Btrfs(Fake({"btrfs qgroup limit": (1, "", "no such")})).limit("/p", 5)
