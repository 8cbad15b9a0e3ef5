# SPDX-License-Identifier: Apache-2.0
"""What is decided about nspawn machines and their images."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nspawn
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import (
    Bind,
    Disk,
    Have,
    Machine,
    Mount,
    NspawnError,
    Process,
)

FOLDER = "/var/lib/lab/machines/nas1"
ROOT = Mount(FOLDER + "/root", "overlay", "rw")
DISKS = (Disk("lab-nas1-a", 2 << 30), Disk("lab-nas1-b", 2 << 30))
WANT = Machine(
    name="nas1",
    folder=FOLDER,
    layers=("/cache/restore/root", "/cache/base/root"),
    namespace="/run/netns/lab",
    bridge="br0",
    address="198.18.0.11/24",
    disks=DISKS,
    shelf="/cache/shelf",
)
ALONE = replace(WANT, namespace=None, bridge=None, address=None, disks=(), shelf=None)
LOOPS = {"lab-nas1-a.img": "/dev/loop3", "lab-nas1-b.img": "/dev/loop4"}
OFF = Have(folder=True, laid_out=WANT.laid_out(), mounts=(ROOT,), loops=LOOPS)
ON = replace(OFF, supervisor=10, nspawn=11, leader=12, remains=(11, 12, 13))
ATTACH = ["attach:lab-nas1-a.img", "attach:lab-nas1-b.img"]
DETACH = ["detach:/dev/loop3", "detach:/dev/loop4"]


# ---------------------------------------------------------------------------------------------------------- images


def test_a_key_does_not_depend_on_the_order_of_packages():
    assert nspawn.image_key("layer", "trixie", ["b", "a", "b"], "base-1") == nspawn.image_key(
        "layer", "trixie", ["a", "b"], "base-1"
    )


@pytest.mark.parametrize(
    "other",
    [
        ("shelf", "trixie", ["a"], "base-1"),
        ("layer", "bookworm", ["a"], "base-1"),
        ("layer", "trixie", ["a", "b"], "base-1"),
        ("layer", "trixie", ["a"], "base-2"),
        ("layer", "trixie", ["a"], "base-1", "aarch64"),
    ],
)
def test_everything_that_goes_into_an_image_changes_its_key(other):
    key = nspawn.image_key("layer", "trixie", ["a"], "base-1", "x86_64")
    assert len(key) == 12
    assert nspawn.image_key(*other[:4], *(other[4:] or ("x86_64",))) != key


def test_a_new_recipe_makes_new_keys(monkeypatch):
    before = nspawn.image_key("base", "trixie", [])
    monkeypatch.setattr(nspawn, "RECIPE", nspawn.RECIPE + 1)
    assert nspawn.image_key("base", "trixie", []) != before


TARGETS = """\
http://mirror.example/debian/ bookworm main Packages
http://mirror.example/debian/ bookworm main Translations
http://mirror.example/debian/ bookworm contrib Packages
http://mirror.example/debian/ bookworm-updates main Packages
http://mirror.example/debian-security/ bookworm-security main Packages
http://mirror.example/debian/ bookworm-backports main Packages
https://vendor.example/apt nodistro main Packages
"""


@pytest.mark.parametrize(
    ("targets", "release", "lines"),
    [
        (
            TARGETS,
            "bookworm",
            [
                "deb http://mirror.example/debian trixie main",
                "deb http://mirror.example/debian trixie-updates main",
                "deb http://mirror.example/debian-security trixie-security main",
            ],
        ),
        (TARGETS, "trixie", []),
        (TARGETS, "", []),  # not Debian: the builder's own default
        ("http://mirror.example/debian-security/ bookworm-security main Packages\n", "bookworm", []),
        ("", "bookworm", []),
    ],
)
def test_the_mirror_is_the_machines_own(targets, release, lines):
    assert nspawn.mirror_lines(targets, release, "trixie") == lines


def test_apt_settings_take_proxies_into_the_environment_and_never_into_arguments():
    dump = (
        'APT::Architecture "amd64";\nAcquire::http::Proxy "http://user:secret@proxy:3128";\nAcquire::cdrom "";\n'
        'Acquire::Check-Valid-Until "false";\n'
    )
    assert nspawn.apt_settings(dump) == (
        ['Acquire::Check-Valid-Until "false";'],
        {"http_proxy": "http://user:secret@proxy:3128"},
    )


# ------------------------------------------------------------------------------------------------------------ plan


@pytest.mark.parametrize(
    ("have", "state", "steps"),
    [
        # created
        (Have(), "created", ["lay_out", "mount", "furnish", *ATTACH]),
        (OFF, "created", []),
        (ON, "created", []),  # a running machine has been created
        (replace(OFF, mounts=()), "created", ["mount"]),  # the carrier was restarted
        (replace(OFF, mounts=(ROOT, ROOT)), "created", ["unmount", "mount"]),
        (replace(OFF, loops={}, stale_loops=("/dev/loop9",)), "created", ["detach:/dev/loop9", *ATTACH]),
        # a run was cut short: nothing it left is trusted
        (Have(folder=True), "created", ["wipe", "lay_out", "mount", "furnish", *ATTACH]),
        (
            replace(OFF, laid_out=None),
            "created",
            ["unmount", *DETACH, "wipe", "lay_out", "mount", "furnish", *ATTACH],
        ),
        # started
        (Have(), "started", ["lay_out", "mount", "furnish", *ATTACH, "start"]),
        (OFF, "started", ["start"]),
        (ON, "started", []),
        (replace(ON, mounts=(ROOT, Mount(ROOT.target + "/proc", "proc"))), "started", []),
        (replace(ON, supervisor=None), "started", ["kill", "start"]),
        (replace(ON, leader=None), "started", ["kill", "start"]),
        (replace(OFF, supervisor=10), "started", ["kill", "start"]),
        (replace(OFF, remains=(13,)), "started", ["kill", "start"]),
        # stopped
        (Have(), "stopped", []),
        (OFF, "stopped", []),
        (ON, "stopped", ["poweroff"]),
        (replace(OFF, supervisor=10), "stopped", ["kill"]),
        # killed
        (Have(), "killed", []),
        (OFF, "killed", []),
        (ON, "killed", ["kill"]),
        (replace(OFF, remains=(13,)), "killed", ["kill"]),
        # absent
        (Have(), "absent", []),
        (OFF, "absent", ["unmount", *DETACH, "wipe"]),
        (ON, "absent", ["kill", "unmount", *DETACH, "wipe"]),
        (Have(stale_loops=("/dev/loop9",)), "absent", ["detach:/dev/loop9"]),
        (Have(supervisor=10), "absent", ["kill"]),
        (Have(folder=True), "absent", ["wipe"]),
    ],
)
def test_plan(have, state, steps):
    assert nspawn.plan(have, WANT, state) == steps


@pytest.mark.parametrize("state", ["created", "started"])
def test_a_machine_of_another_image_is_not_taken_for_this_one(state):
    other = replace(WANT, layers=("/cache/newer/root",))
    with pytest.raises(NspawnError, match=r"another layers; remove it first \(state=absent\)"):
        nspawn.plan(OFF, other, state)


def test_a_machine_of_another_image_can_be_removed():
    assert "wipe" in nspawn.plan(OFF, replace(WANT, layers=()), "absent")


def test_a_running_machine_takes_no_new_disk():
    with pytest.raises(NspawnError, match="without its disk new; stop it first"):
        nspawn.plan(ON, replace(WANT, disks=(*DISKS, Disk("new", 1))), "started")


@pytest.mark.parametrize(
    ("have", "state"),
    [
        (Have(), "absent"),
        (Have(folder=True), "partial"),
        (Have(stale_loops=("/dev/loop9",)), "partial"),
        (OFF, "created"),
        (ON, "started"),
        (Have(remains=(13,)), "started"),
    ],
)
def test_state(have, state):
    assert have.state == state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Nas_1"}, "is no host name"),
        ({"name": "a-very-long-name"}, "at most 12 characters"),
        ({"folder": "/root"}, "folder of its own"),
        ({"folder": "relative/path"}, "folder of its own"),
        ({"address": "198.18.0.11"}, "must look like"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(NspawnError, match=message):
        nspawn.check(replace(WANT, **change))


def test_a_long_name_is_fine_without_a_network():
    nspawn.check(replace(ALONE, name="a-very-long-name"))


# ------------------------------------------------------------------------------------------------------- arguments


def test_a_machine_with_a_network_is_started_inside_its_namespace():
    argv = nspawn.nspawn_argv(replace(WANT, binds=(Bind("/a", "/b"), Bind("/c", "/d", writable=True))), LOOPS)
    assert argv[:3] == ["nsenter", "--net=/run/netns/lab", "systemd-nspawn"]
    assert "--network-bridge=br0" in argv
    assert "--private-network" not in argv
    assert "--bind-ro=/cache/shelf:/srv/shelf" in argv
    assert {"--bind-ro=/a:/b", "--bind=/c:/d"} <= set(argv)
    assert argv[-4:] == [
        "--bind=/dev/loop3",
        "--bind=/dev/loop3:/dev/disk/by-id/lab-nas1-a",
        "--bind=/dev/loop4",
        "--bind=/dev/loop4:/dev/disk/by-id/lab-nas1-b",
    ]
    assert "--bind=/dev/btrfs-control" in argv


def test_a_machine_without_a_network_has_no_way_out():
    argv = nspawn.nspawn_argv(ALONE, {})
    assert argv[0] == "systemd-nspawn"
    assert "--private-network" in argv
    assert not [word for word in argv if "bridge" in word or "btrfs" in word]


def test_a_disk_may_have_a_path_of_its_own():
    disk = Disk("/dev/vdb", 1)
    assert (disk.target, disk.file) == ("/dev/vdb", "dev_vdb.img")


def test_overlay_options():
    assert nspawn.overlay_options(WANT) == (
        f"lowerdir=/cache/restore/root:/cache/base/root,upperdir={FOLDER}/up,workdir={FOLDER}/work"
    )


CGROUPS = [
    Mount("/sys/fs/cgroup/pids", "cgroup", "rw,pids"),
    Mount("/sys/fs/cgroup/systemd", "cgroup", "rw,name=systemd"),
    Mount("/sys/fs/cgroup/unified", "cgroup2", "rw"),
    Mount("/somewhere/root/sys/fs/cgroup", "cgroup2", "rw"),
]


def test_each_machine_has_control_groups_of_its_own():
    first = nspawn.cgroups_of(CGROUPS, WANT)
    other = nspawn.cgroups_of(CGROUPS, replace(WANT, folder="/var/lib/other/machines/nas1"))
    assert [path.rpartition("/")[0] for path in first] == ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
    assert not set(first) & set(other)


# --------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(
    ("found", "inside", "state", "steps"),
    [
        (set(), False, "present", ["namespace", "loopback", "bridge", "address", "up"]),
        ({"namespace", "loopback", "bridge", "address", "up"}, False, "present", []),
        ({"namespace", "bridge"}, True, "present", ["loopback", "address", "up"]),
        ({"stale"}, False, "present", ["remove stale", "namespace", "loopback", "bridge", "address", "up"]),
        (set(), False, "absent", []),
        ({"stale"}, False, "absent", ["remove stale"]),
        ({"namespace", "bridge", "up"}, False, "absent", ["remove bridge", "remove namespace"]),
        ({"namespace", "bridge"}, True, "absent", ["remove bridge"]),  # whoever sits in it still needs it
        ({"namespace"}, True, "absent", []),
    ],
)
def test_plan_network(found, inside, state, steps):
    assert nspawn.plan_network(found, inside, state) == steps


# --------------------------------------------------------------------------------------------------------- parsing


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("2G", 2 << 30), ("64 MB", 64 << 20), ("512k", 512 << 10), ("1048576", 1 << 20)],
)
def test_sizes(text, size):
    assert nspawn.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "two", "2.5G", "-1", "2X"])
def test_wrong_sizes(text):
    with pytest.raises(NspawnError, match="must be a number of bytes or look like 2GiB"):
        nspawn.parse_size(text)


MOUNTINFO = rf"""23 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
91 23 0:51 / {FOLDER}/root rw,relatime shared:1 master:2 - overlay overlay rw,lowerdir=/cache/base/root
92 91 0:52 / {FOLDER}/root/proc rw - proc proc rw
93 23 0:53 / /mnt/with\040blank rw - tmpfs tmpfs rw
94 23 0:54 / {FOLDER}2/root rw - overlay overlay rw
95 91 0:55 / {FOLDER}/root rw - tmpfs tmpfs rw
"""


def test_mountinfo():
    mounts = nspawn.parse_mountinfo(MOUNTINFO)
    assert len(mounts) == 6
    assert mounts[1] == Mount(f"{FOLDER}/root", "overlay", "rw,lowerdir=/cache/base/root")
    assert mounts[3].target == "/mnt/with blank"


def test_mounts_are_undone_deepest_and_newest_first_and_a_neighbours_not_at_all():
    found = nspawn.mounts_below(nspawn.parse_mountinfo(MOUNTINFO), FOLDER)
    assert [(mount.target.removeprefix(FOLDER), mount.kind) for mount in found] == [
        ("/root/proc", "proc"),
        ("/root", "tmpfs"),
        ("/root", "overlay"),
    ]


def test_losetup():
    text = json.dumps({"loopdevices": [{"name": "/dev/loop3", "back-file": "/a.img"}, {"name": "/dev/loop4"}]})
    assert nspawn.parse_losetup(text) == {"/dev/loop3": "/a.img", "/dev/loop4": ""}
    assert nspawn.parse_losetup("") == {}


def test_only_loop_devices_on_the_machines_own_files_are_its_own():
    loops = {
        "/dev/loop1": "/var/lib/lab/machines/other/disks/lab-nas1-a.img",
        "/dev/loop3": FOLDER + "/disks/lab-nas1-a.img",
        "/dev/loop4": FOLDER + "/disks/lab-nas1-a.img",  # attached twice by a run that was cut short
        "/dev/loop5": FOLDER + "/disks/gone.img",
        "/dev/loop6": FOLDER + "/disks/lab-nas1-b.img (deleted)",
    }
    wanted, stale = nspawn.split_loops(loops, FOLDER, [disk.file for disk in DISKS])
    assert wanted == {"lab-nas1-a.img": "/dev/loop3"}
    assert stale == ["/dev/loop4", "/dev/loop5", "/dev/loop6"]


def test_processes_are_found_by_what_they_were_started_with():
    processes = [
        Process(1, 0, ("init",)),
        Process(20, 1, ("python3", FOLDER + "/supervise", FOLDER)),
        Process(21, 20, ("systemd-nspawn", "--directory=" + FOLDER + "/root", "--boot")),
        Process(22, 21, ("/lib/systemd/systemd",)),
        Process(30, 1, ("python3", FOLDER + "2/supervise", FOLDER + "2")),
        Process(31, 30, ("systemd-nspawn", "--directory=" + FOLDER + "2/root")),
        Process(40, 1, ("grep", "--directory=" + FOLDER + "/root")),
    ]
    assert nspawn.find_processes(processes, WANT) == (20, 21, 22)
    assert nspawn.find_processes(processes[:1], WANT) == (None, None, None)
    assert nspawn.find_processes(processes[:3], WANT) == (20, 21, None)
