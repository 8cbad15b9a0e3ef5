# SPDX-License-Identifier: Apache-2.0
"""The parts that touch the carrier, as far as they can be tried without being root."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import nspawn_host
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import Machine, NspawnError


def no_command(argv, **_kwargs):
    raise AssertionError(f"nothing should have been run: {argv}")


@pytest.fixture(autouse=True)
def _locks(tmp_path, monkeypatch):
    monkeypatch.setattr(nspawn_host, "LOCKS", tmp_path / "locks")


class Builder(nspawn_host.ImageStore):
    """An image store whose builds are a file, or an interruption."""

    def __init__(self, cache, fail=False):
        super().__init__(no_command, str(cache))
        self.fail = fail
        self.built = 0

    def _bootstrap(self, work, suite, packages):
        (work / "root").mkdir()
        (work / "root/file").write_text(suite, encoding="utf-8")
        self.built += 1
        if self.fail:
            raise NspawnError("the mirror went away")


def test_an_image_is_built_once(tmp_path):
    store = Builder(tmp_path)
    path = store.path("base", "base", "k1")
    assert store.build("base", path, "trixie", ["b", "a"], None, None)
    assert not store.build("base", path, "trixie", ["a", "b"], None, None)
    assert store.built == 1
    assert store.layers(path) == [str(path / "root")]
    assert json.loads((path / "image.json").read_text(encoding="utf-8"))["packages"] == ["a", "b"]


def test_a_build_that_fails_leaves_nothing(tmp_path):
    store = Builder(tmp_path, fail=True)
    path = store.path("base", "base", "k1")
    with pytest.raises(NspawnError, match="mirror"):
        store.build("base", path, "trixie", [], None, None)
    assert list((tmp_path / "images").iterdir()) == []
    assert not store.complete(path)


def test_what_a_cut_short_build_left_is_replaced(tmp_path):
    store = Builder(tmp_path)
    path = store.path("base", "base", "k1")
    (path.parent / f".{path.name}.4711/root").mkdir(parents=True)
    (path / "root").mkdir(parents=True)  # without a record it is no image
    assert not store.complete(path)
    assert store.build("base", path, "trixie", [], None, None)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_image_below_another_is_not_removed(tmp_path):
    store = Builder(tmp_path)
    base = store.path("base", "base", "k1")
    store.build("base", base, "trixie", [], None, None)
    layer = store.path("layer", "restore", "k2")
    layer.mkdir(parents=True)
    record = {"layers": [f"{layer}/root", f"{base}/root"]}
    (layer / "image.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(NspawnError, match="still needed by .*restore-k2"):
        store.remove(base)
    store.remove(layer)
    store.remove(base)
    assert not base.exists()


def test_a_fresh_base_keeps_nothing_that_machines_must_not_share(tmp_path):
    for name in ("etc/ssh", "etc/default", "etc/apt/apt.conf.d", "etc/systemd/system"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_host_rsa_key.pub", "etc/apt/apt.conf.d/99mmdebstrap"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "etc/machine-id").write_text("1234\n", encoding="utf-8")
    nspawn_host.finish_base(tmp_path)
    assert list((tmp_path / "etc/ssh").iterdir()) == []
    assert list((tmp_path / "etc/apt/apt.conf.d").iterdir()) == []
    assert (tmp_path / "etc/machine-id").read_text(encoding="utf-8") == ""


def test_writing_never_follows_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious", encoding="utf-8")
    link = tmp_path / "disk/etc/hostname"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    nspawn_host.write(link, "nas1\n", 0o600)
    assert outside.read_text(encoding="utf-8") == "precious"
    assert link.read_text(encoding="utf-8") == "nas1\n"
    assert link.stat().st_mode & 0o777 == 0o600


def test_a_lock_makes_others_wait_and_leaves_nothing(tmp_path):
    order = []
    subject = tmp_path / "machine"

    def second():
        with nspawn_host.locked(subject):
            order.append("second")

    with nspawn_host.locked(subject):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
    assert list((tmp_path / "locks").iterdir()) == []


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_record_that_is_missing_or_cut_short_is_none(tmp_path, text):
    path = tmp_path / "machine.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert nspawn_host.read_json(path) is None


def test_a_failing_command_says_what_it_was_for():
    def run(argv, **_kwargs):
        return 32, "", "mount: wrong fs type\n"

    with pytest.raises(NspawnError, match="mounting the disk failed: mount ended with 32: mount: wrong fs type"):
        nspawn_host.run_checked(run, ["mount"], "mounting the disk")


def test_looking_for_a_machine_that_is_not_there_changes_nothing(tmp_path):
    want = Machine(name="nas1", folder=str(tmp_path / "machines/nas1"))

    def run(argv, **_kwargs):
        assert argv[:2] == ["losetup", "--list"]
        return 0, "", ""

    machine = nspawn_host.MachineHost(run, want)
    steps, have = nspawn_host.reach(machine, "absent", check_mode=False, timeout=1)
    assert steps == []
    assert have.state == "absent"
    assert not Path(want.folder).parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change a root")
def test_a_process_that_was_put_into_the_disk_is_found(tmp_path):
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.chroot(tmp_path)
        os.write(tell, b"x")
        signal.pause()
        os._exit(0)
    try:
        os.read(ready, 1)
        assert list(nspawn_host.chrooted(str(tmp_path))) == [child]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert list(nspawn_host.chrooted(str(tmp_path))) == []
