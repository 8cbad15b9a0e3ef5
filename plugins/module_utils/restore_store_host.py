# SPDX-License-Identifier: Apache-2.0
"""Make and destroy the place that holds restored data on a carrier. Deciding is restore_store.py's part."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils import restore_store as store
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import NspawnError, parse_losetup
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn_host import (
    PATIENCE,
    RunCommand,
    locked,
    own_mounts,
    read_json,
    remove_tree,
    run_checked,
    write,
)
from ansible_collections.holdfast.practice.plugins.module_utils.restore_store import ENCRYPTED, MEMORY, Have, StoreError


def boot_id() -> str:
    """Name of the time since the carrier was switched on."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise StoreError("/proc/meminfo does not say how much memory is available; Linux 3.14 or newer does")


class Place:
    """One proof's place on this carrier."""

    def __init__(self, run_command: RunCommand, folder: str, kind: str) -> None:
        self._run = run_command
        self.folder = Path(folder)
        self.kind = kind
        self.mount = self.folder / "store"
        self.image = self.folder / "store.img"
        self._key = b""
        self._key_flags: int | None = None
        self._let_go = False

    @property
    def data(self) -> Path:
        """The folder that everything of the proof goes into."""
        return self.mount / "data"

    def gather(self) -> Have:
        """Look at what is there."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise StoreError(f"{self.folder} is no folder; expected a folder or nothing. Move it away")
        names = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        made = read_json(self.folder / "store.json") or {}
        mounts = [mount for mount in own_mounts(str(self.folder)) if mount.target == str(self.mount)]
        inside = self.mount.is_dir() and not mounts and any(self.mount.iterdir())
        return Have(
            folder=self.folder.is_dir(),
            claim=read_json(self.folder / "claim.json") or {},
            made=made,
            mounted=bool(mounts),
            image=self.image.exists(),
            loops=tuple(self._loops()) if not mounts else (),
            foreign=len(names - store.OWN) + bool(inside),
        )

    def _loops(self) -> Iterator[str]:
        out = run_checked(
            self._run, ["losetup", "--list", "--json", "--output", "NAME,BACK-FILE"], "listing loop devices"
        )
        for name, backing in sorted(parse_losetup(out).items()):
            if backing.replace(" (deleted)", "") == str(self.image):
                yield name

    # -- claiming

    def claim(self, holder: Mapping[str, Any], over: str, discard: bool, size: int, check: bool) -> dict[str, Any]:
        """Take the place for a proof, or say who has it. Returns the claim that gave way, {} when there was none."""
        with locked(self.folder.parent):
            have = self.gather()
            store.may_claim(have, over, discard)
            memory = size if self.kind == MEMORY else store.MACHINE_MEMORY
            store.check_memory(available_memory(), self._promised_memory())
            if not check:
                for folder in (self.folder.parent, self.folder):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                mine = {**holder, "boot": boot_id(), "memory": memory}
                text = json.dumps(mine, indent=1, sort_keys=True) + "\n"
                write(self.folder / ".claim", text, 0o600)
                (self.folder / ".claim").rename(self.folder / "claim.json")
        return dict(have.claim)

    def _of_others(self, name: str) -> list[Path]:
        return [path for path in sorted(self.folder.parent.glob(f"*/{name}")) if path.parent != self.folder]

    def _promised_memory(self) -> int:
        claims = [read_json(path) or {} for path in self._of_others("claim.json")]
        return sum(int(claim.get("memory", 0)) for claim in claims if claim.get("boot") == boot_id())

    def _promised_disk(self) -> int:
        promised = 0
        for image in self._of_others("store.img"):
            try:
                facts = image.stat()
            except FileNotFoundError:
                continue
            promised += max(0, facts.st_size - facts.st_blocks * 512)
        return promised

    # -- doing

    def apply(self, steps: Sequence[str], size: int) -> None:
        """Carry out a plan."""
        for step in steps:
            verb, _colon, argument = step.partition(":")
            if verb == "detach":
                run_checked(self._run, ["losetup", "--detach", argument], f"detaching {argument}")
            elif verb == "file":
                self._file(size)
            else:
                {
                    "destroy_key": self._destroy_key,
                    "unmount": self._unmount,
                    "remove": self._remove,
                    "clear": self._clear,
                    "format": self._format,
                    "mount": self._mount,
                    "mount_memory": lambda: self._mount_memory(size),
                    "seal": self._seal,
                    "note": self._note,
                }[verb]()

    def _file(self, size: int) -> None:
        with locked(self.folder.parent):
            facts = os.statvfs(self.folder)
            free = facts.f_bavail * facts.f_frsize
            size = store.room(ENCRYPTED, size, free, self._promised_disk(), 0)
            write(self.image, "", 0o600)
            os.truncate(self.image, size)

    def _format(self) -> None:
        # no journal: what a crash leaves is thrown away, never mounted again
        argv = ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "encrypt,^has_journal", str(self.image)]
        run_checked(self._run, argv, "making a file system for restored data")

    def _mount(self) -> None:
        self.mount.mkdir(mode=0o700, exist_ok=True)
        argv = ["mount", "-t", "ext4", "-o", "loop,noatime,noinit_itable", str(self.image), str(self.mount)]
        run_checked(self._run, argv, "mounting the store for restored data")

    def _mount_memory(self, size: int) -> None:
        self.mount.mkdir(mode=0o700, exist_ok=True)
        with locked(self.folder.parent):
            size = store.room(MEMORY, size, 0, 0, available_memory() - self._promised_memory())
        options = f"size={size},mode=0700"
        swap = len(Path("/proc/swaps").read_text(encoding="utf-8").splitlines()) > 1
        argv = ["mount", "-t", "tmpfs", "-o", options + (",noswap" if swap else ""), "tmpfs", str(self.mount)]
        # a kernel that knows no noswap (before 6.4) refuses it, and so is not taken
        run_checked(self._run, argv, "mounting memory for restored data, never to be swapped out")
        self.data.mkdir(mode=0o700)

    def _seal(self) -> None:
        """Encrypt everything below ``data`` with a key that only the kernel has, and only until the store is unmounted."""
        self.data.mkdir(mode=0o700)
        request = store.add_key_request(secrets.token_bytes(store.KEY_BYTES))
        top, inner = os.open(self.mount, os.O_RDONLY), os.open(self.data, os.O_RDONLY)
        try:
            fcntl.ioctl(top, store.ADD_KEY, request, True)
            name = store.identifier(request)
            fcntl.ioctl(inner, store.SET_POLICY, store.policy(name), True)
        except OSError as error:
            raise store.no_encryption(error.errno or 0) from None
        finally:
            request[:] = bytes(len(request))
            os.close(top)
            os.close(inner)
        self._key = name

    def _note(self) -> None:
        key = {"key": self._key.hex()} if self.kind == ENCRYPTED else {}
        text = json.dumps({"kind": self.kind, **key}, sort_keys=True) + "\n"
        write(self.folder / ".store", text, 0o600)
        (self.folder / ".store").rename(self.folder / "store.json")

    def _destroy_key(self) -> None:
        request = store.remove_key_request(bytes.fromhex(self.gather().made["key"]))
        top = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(top, store.REMOVE_KEY, request, True)
            self._key_flags = store.removal(request)
        finally:
            os.close(top)

    def _unmount(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                for mount in own_mounts(str(self.mount)):
                    run_checked(self._run, ["umount", mount.target], f"unmounting {mount.target}")
                return
            except NspawnError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _loop_gone(self) -> bool:
        """Wait for the loop device to be let go: only then has the file system, with its keys, left the kernel."""
        deadline = time.monotonic() + PATIENCE
        while list(self._loops()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _clear(self) -> None:
        self._let_go = self._loop_gone()
        for name in ("store.json", "store.img"):
            (self.folder / name).unlink(missing_ok=True)
        remove_tree(self.mount)

    def _remove(self) -> None:
        self._let_go = self._loop_gone()
        remove_tree(self.folder)

    def reach(self, state: str, size: int, check: bool) -> tuple[list[str], dict[str, Any]]:
        """Bring the place into a state: (the steps, what became of the data when it was wiped)."""
        have = self.gather()
        steps = store.plan(have, state, self.kind)
        if check:
            return steps, {}
        if state == "fresh":
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.apply(steps, size)
        if not have.made or "unmount" not in steps:
            return steps, {}
        kind, key = str(have.made.get("kind")), bool(have.made.get("key"))
        return steps, store.disposal(kind, key, steps, self._key_flags, self._let_go)
