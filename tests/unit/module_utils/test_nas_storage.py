# SPDX-License-Identifier: Apache-2.0
"""When a disk may be formatted, and above all when not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils.btrfs import Superblock
from ansible_collections.holdfast.practice.plugins.module_utils.nas_storage import (
    Device,
    Mounted,
    Pool,
    StorageError,
    check_names,
    escape_path,
    judge,
    judge_pool_stamp,
    mount_at,
    owner_of,
    parse_mountinfo,
    probed_type,
    profile_problem,
    render_mount,
    signatures_in,
    units,
)

GIB = 1024**3
POOL = "7d3d6e7f-4299-4ad7-a1d5-902bf3466191"
OTHER = "00000000-4299-4ad7-a1d5-902bf3466191"
WANT = Pool("harbour-street", "holdfast", "raid1", ("/dev/a", "/dev/b"), "/srv/holdfast")
A = Device("/dev/a", number=(8, 0), disk=(8, 0), size=GIB)
B = Device("/dev/b", number=(8, 16), disk=(8, 16), size=GIB)


def member(device, devid, pool=POOL, label="holdfast:harbour-street", of=2, profile="raid1", finished=True):
    block = Superblock(pool, label, devid, of, profile, finished=finished)
    return replace(device, superblock=block, signatures=(f'btrfs "{label}"',) if finished else ("unknown",))


def test_blank_disks_become_a_pool():
    verdict = judge([A, B], WANT, None, allow_format=False)
    assert (verdict.action, verdict.problems, verdict.force) == ("make", (), False)


def test_a_pool_of_ours_is_kept():
    verdict = judge([member(A, 1), member(B, 2)], WANT, None, allow_format=False)
    assert (verdict.action, verdict.problems, verdict.uuid) == ("keep", (), POOL)


def test_a_mounted_pool_is_kept_although_its_disks_are_in_use():
    devices = [replace(member(d, i), used_by="mounted at /srv/holdfast") for i, d in ((1, A), (2, B))]
    verdict = judge(devices, WANT, Mounted("btrfs", POOL), allow_format=False)
    assert (verdict.action, verdict.problems) == ("keep", ())


def test_an_interrupted_format_of_ours_is_done_again():
    verdict = judge([member(A, 1, finished=False), B], WANT, None, allow_format=False)
    assert (verdict.action, verdict.problems, verdict.force) == ("make", (), True)


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([A, replace(A, path="/dev/link")], ["/dev/link and /dev/a are the same device"]),
        ([A, replace(B, disk=(8, 0))], ["are on the same disk"]),
        ([A, Device("/dev/b", problem="not there (No such file)")], ["/dev/b: not there"]),
        ([A, replace(B, size=GIB // 4)], ["too small"]),
        ([A, replace(B, used_by="mounted at /home")], ["/dev/b: in use (mounted at /home)", "never formatted"]),
        ([A, replace(B, used_by="swap", signatures=("swap",))], ["in use (swap)"]),
        ([A, member(B, 1, label="holdfast:other-street", of=1)], ['practice "other-street"', "never formatted"]),
        ([member(A, 1), B], ["degraded", "/dev/a (member 1)", "/dev/b: blank", "Nothing was formatted"]),
        ([member(A, 1), replace(B, signatures=("ext4",))], ["degraded", "/dev/b: ext4"]),
        ([member(A, 1), Device("/dev/b", problem="not there (x)")], ["degraded", "not there", "btrfs replace start"]),
        ([member(A, 1), member(B, 1, pool=OTHER)], ["2 different pools"]),
        ([member(A, 1, of=1, profile="raid1"), B], ["complete without /dev/b", "btrfs device add /dev/b"]),
        (
            [member(A, 1, profile="dup"), member(B, 2, profile="dup")],
            ["does not have profile raid1", "-dconvert=raid1"],
        ),
    ],
)
def test_never_formatted_whatever_is_allowed(devices, words, allow):
    verdict = judge(devices, WANT, None, allow_format=allow)
    assert verdict.problems
    assert not verdict.force
    text = "; ".join(verdict.problems)
    assert all(word in text for word in words), text
    assert "nas_storage_allow_format" not in text


@pytest.mark.parametrize(
    "mark", ['ext4 "DATA"', "LVM2_member", "partition table gpt", "data of an unknown kind", 'btrfs "photos"']
)
def test_a_signature_needs_the_setting_which_the_message_names(mark):
    devices = [A, replace(B, signatures=(mark,))]
    refused = judge(devices, WANT, None, allow_format=False)
    assert refused.problems
    assert all(word in refused.problems[0] for word in ("/dev/b", mark, "nas_storage_allow_format: true"))
    allowed = judge(devices, WANT, None, allow_format=True)
    assert (allowed.action, allowed.problems, allowed.force) == ("make", (), True)


def test_all_problems_are_told_at_once():
    devices = [replace(A, signatures=("ext4",)), replace(B, used_by="swap")]
    assert len(judge(devices, WANT, None, allow_format=False).problems) == 2


def test_a_missing_member_is_told_once_and_as_degraded():
    verdict = judge([member(A, 1), Device("/dev/b", problem="not there (x)")], WANT, None, allow_format=True)
    assert verdict.degraded
    assert len(verdict.problems) == 1


@pytest.mark.parametrize(
    ("profile", "count", "enough"),
    [("single", 1, True), ("raid1", 1, False), ("raid1", 2, True), ("raid1c3", 2, False), ("raid10", 2, True)],
)
def test_profiles_need_their_devices(profile, count, enough):
    devices = [Device(f"/dev/{n}", number=(8, n), disk=(8, n), size=GIB) for n in range(count)]
    want = replace(WANT, profile=profile, devices=tuple(d.path for d in devices))
    assert (not judge(devices, want, None, allow_format=False).problems) is enough


@pytest.mark.parametrize("mounted", [Mounted("ext4", source="/dev/c"), Mounted("btrfs", OTHER)])
@pytest.mark.parametrize("devices", [[A, B], [member(A, 1), member(B, 2)]])
def test_something_else_at_the_mountpoint_is_refused(devices, mounted):
    (problem,) = judge(devices, WANT, mounted, allow_format=True).problems
    assert "is not this pool" in problem


@pytest.mark.parametrize(
    ("label", "owner"),
    [("holdfast:a", "a"), ("vault:b", "b"), ("photos:2020", None), ("holdfast", None), ("", None), ("holdfast:", None)],
)
def test_a_label_names_its_practice(label, owner):
    assert owner_of(label, "vault") == owner


def test_mixed_profiles_are_named_with_their_cure():
    assert profile_problem({"data": ["raid1"], "metadata": ["raid1"], "system": ["raid1"]}, WANT, POOL) is None
    text = profile_problem({"data": ["raid1", "single"], "metadata": ["raid1"], "system": ["raid1"]}, WANT, POOL)
    assert text is not None
    assert "data is raid1+single" in text
    assert "-dconvert=raid1,soft" in text


@pytest.mark.parametrize(
    "change",
    [
        {"practice": "a:b"},
        {"label": "x y"},
        {"devices": ("sda",)},
        {"devices": ("/dev/a,b",)},
        {"devices": ()},
        {"mountpoint": "/"},
        {"mountpoint": "/srv/../etc"},
        {"mountpoint": "/srv/%n"},
        {"devices": ("/dev/a\nWhat=/dev/b",)},
    ],
)
def test_names_that_a_unit_cannot_carry_are_refused(change):
    check_names(WANT)
    with pytest.raises(StorageError):
        check_names(replace(WANT, **change))


# as printed by: systemd-escape --path
@pytest.mark.parametrize(
    ("path", "name"),
    [("/srv/holdfast", "srv-holdfast"), ("/srv/a-b", "srv-a\\x2db"), ("/.x", "\\x2ex"), ("/", "-"), ("/a//b/", "a-b")],
)
def test_mount_units_are_named_as_systemd_wants(path, name):
    assert escape_path(path) == name


def test_the_mount_unit_names_every_member_and_the_right_source():
    plain, managed = render_mount(WANT, POOL, udev=False), render_mount(WANT, POOL, udev=True)
    assert "What=/dev/a\n" in plain
    assert f"What=/dev/disk/by-uuid/{POOL}\n" in managed
    for text in (plain, managed):
        assert "device=/dev/a,device=/dev/b" in text
        assert "degraded" not in text


def test_a_changed_mount_unit_never_remounts():
    assert all(not u.restart_when for u in units("/srv/holdfast", present=True) if u.name.endswith(".mount"))


def test_pool_stamps_are_compared():
    judge_pool_stamp(None, "a", "/p")
    judge_pool_stamp('{"practice": "a"}', "a", "/p")
    for text in ('{"practice": "b"}', "", "[]", "{}"):
        with pytest.raises(StorageError, match="/p"):
            judge_pool_stamp(text, "a", "/p")


MOUNTINFO = (
    "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "2 1 0:40 / /srv/hold\\040fast rw - btrfs /dev/b rw,subvol=/\n"
    "3 1 0:41 / /srv/holdfast rw shared:2 master:1 - ext4 /dev/c rw\n"
    "4 1 0:42 / /srv/holdfast rw - btrfs /dev/a rw\n"
)


def test_mounts_are_read_with_spaces_and_covers():
    assert len(parse_mountinfo(MOUNTINFO)) == 4
    assert parse_mountinfo(MOUNTINFO)[1]["mountpoint"] == "/srv/hold fast"
    found = mount_at("/srv/holdfast", MOUNTINFO)
    assert found is not None
    assert (found["kind"], found["source"]) == ("btrfs", "/dev/a")
    assert mount_at("/srv", MOUNTINFO) is None


def test_signatures_are_put_into_words():
    text = '{"signatures": [{"type": "ext4", "label": "DATA"}, {"type": "gpt", "label": null}]}'
    assert signatures_in(text) == ('ext4 "DATA"', "gpt")
    assert signatures_in("") == ()
    assert signatures_in('{"signatures": []}') == ()
    with pytest.raises(StorageError):
        signatures_in("wipefs: what?")
    assert probed_type("DEVNAME=/dev/a\nTYPE=vfat\n") == "vfat"
    assert probed_type("PTTYPE=dos\n") == "partition table dos"
    assert probed_type("") == ""
