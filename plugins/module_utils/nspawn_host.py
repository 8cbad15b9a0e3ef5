# SPDX-License-Identifier: Apache-2.0
"""Touch the carrier of nspawn machines: files, mounts, loop devices, processes. Deciding is nspawn.py's part."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from ansible_collections.holdfast.practice.plugins.module_utils import nspawn_supervisor
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import (
    SHELF_MOUNT,
    SHELF_SOURCE,
    Have,
    Machine,
    Mount,
    NspawnError,
    Process,
    apt_settings,
    cgroups_of,
    find_processes,
    mirror_lines,
    mounts_below,
    nspawn_argv,
    overlay_options,
    parse_losetup,
    parse_mountinfo,
    plan,
    split_loops,
)

RunCommand = Callable[..., "tuple[int, str, str]"]

# Seconds for what should take a moment: a mount, a loop device, the death of a process.
PATIENCE = 20.0

LOCKS = Path("/run/holdfast")

# A build's processes and mounts: they all go when the module goes, however it was killed.
_CAGE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")

_POWEROFF = signal.SIGRTMIN + 4  # systemd as PID 1 powers off on it

_MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "container-getty@.service",
    "dpkg-db-backup.timer",
    "systemd-firstboot.service",
    "systemd-networkd-wait-online.service",
    "systemd-resolved.service",
)

_WAIT_FOR_SSH = """
import socket, sys, time
address, deadline = sys.argv[1], time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    try:
        with socket.create_connection((address, 22), 0.5) as connection:
            connection.settimeout(2)
            if connection.recv(4) == b"SSH-":
                sys.exit(0)
    except OSError:
        pass
    time.sleep(0.05)
sys.exit(1)
"""


# ----------------------------------------------------------------------------------------------------- small tools


def run_checked(run_command: RunCommand, argv: Sequence[str], what: str, **kwargs: Any) -> str:
    """Run a command and return its output; NspawnError with the end of what it said when it fails."""
    rc, out, err = run_command(list(argv), **kwargs)
    if rc != 0:
        said = (err.strip() or out.strip())[-1500:]
        raise NspawnError(f"{what} failed: {argv[0]} ended with {rc}: {said}")
    return out


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a small file, never following a link that a machine may have left in its disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)


def read_json(path: Path) -> Any:
    """Read a JSON file; None when it is missing or was cut short by an interrupted run."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def own_mounts(folder: str) -> list[Mount]:
    """Return the mounts at or below a folder, in the order in which to undo them."""
    return mounts_below(parse_mountinfo(Path("/proc/self/mountinfo").read_text(encoding="utf-8")), folder)


def processes() -> list[Process]:
    """Return all processes of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            found.append(Process(int(entry.name), int(parent), tuple(argv) or ("",)))
    return found


def chrooted(root: str) -> Iterator[int]:
    """Find the processes of this machine that have a folder for their root."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.readlink(entry / "root") == root:  # noqa: PTH115 - the text of the link is wanted
                    yield int(entry.name)
            except OSError:  # it ended meanwhile
                continue


def send(pid: int | None, number: int) -> None:
    """Send a signal to a process, which may have ended meanwhile."""
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def locked(subject: Path) -> Iterator[None]:
    """Let runs for the same machine or image wait for each other; the lock file goes away with its last holder."""
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = LOCKS / ("nspawn-" + hashlib.blake2b(os.fsencode(subject), digest_size=8).hexdigest())
    while True:
        with path.open("w", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # The holder we waited for has removed the file: what we hold is no lock any more.
            if not path.exists() or not path.samefile(f"/proc/self/fd/{stream.fileno()}"):
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def remove_tree(path: Path) -> None:
    """Remove a folder with all it holds, refusing while something is mounted in it."""
    mounted = own_mounts(str(path))
    if mounted:
        raise NspawnError(f"{path} still has {mounted[0].target} mounted in it; unmount that first")
    if path.exists():
        shutil.rmtree(path)


# ---------------------------------------------------------------------------------------------------------- images


class ImageStore:
    """The cache of images: CACHE/images/NAME-KEY and CACHE/shelf-KEY, each complete or not there."""

    def __init__(self, run_command: RunCommand, cache: str) -> None:
        self._run = run_command
        self.cache = Path(cache)

    def path(self, kind: str, name: str, key: str) -> Path:
        """Return where an image of this key is kept."""
        return self.cache / f"shelf-{key}" if kind == "shelf" else self.cache / "images" / f"{name}-{key}"

    def layers(self, path: Path) -> list[str]:
        """Return the folders an overlay over this image needs, topmost first."""
        record = read_json(path / "image.json")
        return list(record["layers"]) if record else [str(path / "root")]

    def complete(self, path: Path) -> bool:
        """Say whether an image is there: the record in it was written last."""
        return read_json(path / "image.json") is not None

    def users(self, path: Path) -> list[str]:
        """Name the mounts and images that need this image."""
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        found = [
            mount.target
            for mount in parse_mountinfo(text)
            if mount.kind == "overlay"
            and f"{path}/root" in mount.options.replace("=", ":").replace(",", ":").split(":")
        ]
        for record in sorted(self.cache.glob("images/*/image.json")):
            if record.parent != path and f"{path}/root" in (read_json(record) or {}).get("layers", []):
                found.append(str(record.parent))
        return found

    def remove(self, path: Path) -> None:
        """Remove an image that nobody uses."""
        users = self.users(path)
        if users:
            raise NspawnError(f"{path} is still needed by {', '.join(users)}; remove those first")
        remove_tree(path)

    def build(
        self, kind: str, path: Path, suite: str, packages: Sequence[str], base: Path | None, shelf: str | None
    ) -> bool:
        """Build an image beside its place and move it there; False when another run has built it meanwhile."""
        with locked(path):
            if self.complete(path):
                return False
            for left_over in path.parent.glob(f".{path.name}.*"):
                remove_tree(left_over)
            remove_tree(path)
            work = path.parent / f".{path.name}.{os.getpid()}"
            work.mkdir(mode=0o755, parents=True)
            try:
                if kind == "base":
                    self._bootstrap(work, suite, packages)
                    record: dict[str, Any] = {"layers": [f"{path}/root"]}
                elif kind == "shelf":
                    self._fill_shelf(work, packages, self.layers(_required(base)))
                    record = {}
                else:
                    below = self.layers(_required(base))
                    self._install(work, packages, below, shelf)
                    record = {"layers": [f"{path}/root", *below]}
                record.update(kind=kind, suite=suite, packages=sorted(set(packages)))
                write(work / "image.json", json.dumps(record, indent=1, sort_keys=True) + "\n")
                work.rename(path)
            finally:
                remove_tree(work)
        return True

    def _apt(self) -> tuple[list[str], dict[str, str]]:
        return apt_settings(run_checked(self._run, ["apt-config", "dump"], "reading apt's settings"))

    def _bootstrap(self, work: Path, suite: str, packages: Sequence[str]) -> None:
        release = {}
        for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
            key, _equals, value = line.partition("=")
            release[key] = value.strip('"')
        targets = run_checked(
            self._run,
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY)"],
            "reading apt's sources",
        )
        host_release = release.get("VERSION_CODENAME", "") if release.get("ID") == "debian" else ""
        options, environment = self._apt()
        argv = [
            *_CAGE,
            "--mount-proc",
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--include=" + ",".join(sorted(set(packages))),
        ]
        argv += ["--aptopt=" + option for option in options]
        argv += [suite, str(work / "root"), *mirror_lines(targets, host_release, suite)]
        run_checked(self._run, argv, f"building a {suite} image", environ_update=environment)
        finish_base(work / "root")

    def _chroot(self, work: Path, layers: Sequence[str], script: str, arguments: Sequence[str], binds: str) -> None:
        """Run a script in an overlay over layers, whose upper folder is work/root.

        All mounts and processes live in namespaces that go with the first of them: a build that is cut short leaves
        nothing but its folder.
        """
        options, environment = self._apt()
        (work / "root").mkdir(mode=0o755)
        (work / "work").mkdir()
        (work / "merged").mkdir()
        (work / "apt").mkdir()
        write(work / "apt" / "apt.conf", "\n".join([*options, 'APT::Get::Assume-Yes "true";', ""]), 0o600)
        outer = f"""set -eu
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/root,workdir=$2/work" "$2/merged"
mount -t proc proc "$2/merged/proc"
mount -t tmpfs tmpfs "$2/merged/tmp"
mount --rbind /dev "$2/merged/dev"
mkdir "$2/merged/tmp/apt" "$2/merged/tmp/out" "$2/merged/tmp/shelf"
mount --bind "$2/apt" "$2/merged/tmp/apt"
{binds}
for file in resolv.conf hosts; do
    if test -e "/etc/$file"; then
        test -e "$2/merged/etc/$file" || : > "$2/merged/etc/$file"
        mount --bind "/etc/$file" "$2/merged/etc/$file"
    fi
done
root="$2/merged"; shift 2
exec chroot "$root" /bin/sh -eu -c "$@"
"""
        environment.update(
            APT_CONFIG="/tmp/apt/apt.conf",  # noqa: S108 - inside the chroot, a tmpfs of its own
            DEBIAN_FRONTEND="noninteractive",
            LC_ALL="C.UTF-8",
            PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        run_checked(
            self._run,
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "/bin/sh",
                "-c",
                outer,
                "sh",
                ":".join(layers),
                str(work),
                script,
                "sh",
                *arguments,
            ],
            "installing packages in an image",
            environ_update=environment,
        )
        for name in ("work", "merged", "apt"):
            shutil.rmtree(work / name)

    def _fill_shelf(self, work: Path, packages: Sequence[str], layers: Sequence[str]) -> None:
        out = work / "packages"
        out.mkdir()
        script = """
apt-get -q update
apt-get -q -o Dir::Cache::archives=/tmp/out install --download-only "$@"
"""
        self._chroot(work, layers, script, sorted(set(packages)), 'mount --bind "$2/packages" "$2/merged/tmp/out"')
        shutil.rmtree(work / "root")
        for path in sorted(out.iterdir()):
            if path.suffix == ".deb":
                path.rename(work / path.name)
        shutil.rmtree(out)
        index = run_checked(self._run, ["apt-ftparchive", "packages", "."], "indexing the shelf", cwd=str(work))
        write(work / "Packages", index)
        write(work / "Release", run_checked(self._run, ["apt-ftparchive", "release", "."], "indexing", cwd=str(work)))
        # What `apt-get update` would make of it, so that a fresh machine knows its packages at once.
        (work / "lists").mkdir()
        shutil.copy(work / "Packages", work / "lists" / "_srv_shelf_._Packages")
        shutil.copy(work / "Release", work / "lists" / "_srv_shelf_._Release")

    def _install(self, work: Path, packages: Sequence[str], layers: Sequence[str], shelf: str | None) -> None:
        script = """
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get -q update
apt-get -q --no-install-recommends install "$@"
apt-get -q clean
rm -rf /var/lib/apt/lists /usr/sbin/policy-rc.d
"""
        binds = ""
        if shelf:
            source = SHELF_SOURCE.replace(SHELF_MOUNT, "/tmp/shelf").strip()  # noqa: S108 - inside the chroot
            binds = f"""mount --bind '{shelf}' "$2/merged/tmp/shelf"
echo '{source}' > "$2/apt/sources.list"
printf 'Dir::Etc::sourcelist "/tmp/apt/sources.list";\\nDir::Etc::sourceparts "-";\\n' >> "$2/apt/apt.conf"
"""
        self._chroot(work, layers, script, sorted(set(packages)), binds)


def _required(path: Path | None) -> Path:
    if path is None:
        raise NspawnError("base: an image of this kind needs the folder of the image below it")
    return path


def finish_base(root: Path) -> None:
    """Take from a fresh base image what every machine must have of its own, and what only costs a test time."""
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    write(root / "etc/machine-id", "")
    write(root / "etc/hostname", "")
    write(root / "etc/resolv.conf", "")
    write(root / "etc/default/locale", "LANG=C.UTF-8\n")
    units = root / "etc/systemd/system"
    for unit in _MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    if not (wants / "systemd-networkd.service").is_symlink():
        (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")


# -------------------------------------------------------------------------------------------------------- machines


class MachineHost:
    """One machine on this carrier: gather what is there, carry out a plan."""

    def __init__(self, run_command: RunCommand, want: Machine) -> None:
        self._run = run_command
        self.want = want
        self.folder = Path(want.folder)
        self.root = Path(want.root)

    # -- looking

    def gather(self) -> Have:
        """Return what is there of the machine."""
        folder = str(self.folder)
        listing = run_checked(
            self._run, ["losetup", "--list", "--json", "--output", "NAME,BACK-FILE"], "listing loop devices"
        )
        loops, stale = split_loops(parse_losetup(listing), folder, [disk.file for disk in self.want.disks])
        return replace(
            self.look(),
            folder=self.folder.is_dir(),
            laid_out=read_json(self.folder / "machine.json"),
            mounts=tuple(own_mounts(folder)),
            loops=loops,
            stale_loops=tuple(stale),
        )

    def look(self) -> Have:
        """Return what is running of the machine, and nothing else: for loops that wait."""
        supervisor, nspawn, leader = find_processes(processes(), self.want)
        return Have(supervisor=supervisor, nspawn=nspawn, leader=leader, remains=tuple(self._members()))

    def _members(self) -> Iterator[int]:
        """Find what is left of the machine even when nspawn is gone.

        All processes in its control groups, and those of the carrier that were put into its disk (a restore, say).
        """
        for cgroup in self._cgroups():
            for procs in sorted(Path(cgroup).rglob("cgroup.procs")):
                try:
                    yield from (int(pid) for pid in procs.read_text(encoding="ascii").split())
                except (FileNotFoundError, OSError):  # the group went away meanwhile
                    continue
        yield from chrooted(str(self.root))

    def known_hosts(self) -> str | None:
        """Return the line that pins this machine's ssh key; None before it was laid out or without a network."""
        public = self.folder / "ssh_host_ed25519_key.pub"
        if self.want.address is None or not public.exists():
            return None
        kind, key = public.read_text(encoding="utf-8").split()[:2]
        return f"{self.want.address.partition('/')[0]} {kind} {key}"

    # -- doing

    def apply(self, steps: Sequence[str], timeout: float) -> None:
        """Carry out a plan; NspawnError names the step that could not be done."""
        for step in steps:
            verb, _colon, argument = step.partition(":")
            if verb == "attach":
                self._attach(argument)
            elif verb == "detach":
                self._detach(argument)
            elif verb in ("start", "poweroff"):
                {"start": self._start, "poweroff": self._poweroff}[verb](timeout)
            else:
                {
                    "kill": self._kill,
                    "unmount": self._unmount,
                    "wipe": self._wipe,
                    "lay_out": self._lay_out,
                    "mount": self._mount,
                    "furnish": self._furnish,
                }[verb]()

    def _wipe(self) -> None:
        self._wait(self._cgroups_gone, "the machine's last process to end")
        remove_tree(self.folder)

    def _unmount(self) -> None:
        for mount in own_mounts(str(self.folder)):
            self._patiently(["umount", mount.target], f"unmounting {mount.target}")

    def _patiently(self, argv: Sequence[str], what: str) -> None:
        """Run a command again while a dying machine still holds on to things."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                run_checked(self._run, argv, what)
            except NspawnError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _lay_out(self) -> None:
        for layer in self.want.layers:
            if not Path(layer).is_dir():
                raise NspawnError(f"layers: {layer} is no folder; build the image first (nspawn_image)")
        self.folder.mkdir(mode=0o700, parents=True)
        for name in ("root", "up", "work", "disks"):
            (self.folder / name).mkdir(mode=0o755)

    def _mount(self) -> None:
        argv = ["mount", "-t", "overlay", "overlay", "-o", overlay_options(self.want), str(self.root)]
        run_checked(self._run, argv, f"mounting the disk of {self.want.name}")

    def _furnish(self) -> None:
        """Give a fresh disk what makes it this machine; machine.json is last: without it all of this is done again."""
        want, etc = self.want, self.root / "etc"
        write(etc / "hostname", want.name + "\n")
        lines = ["127.0.0.1 localhost", f"127.0.1.1 {want.name}", "::1 localhost"]
        write(etc / "hosts", "\n".join([*lines, *(f"{address} {name}" for name, address in want.hosts), ""]))
        write(etc / "machine-id", uuid.uuid4().hex + "\n", 0o444)
        if want.authorized_key:
            (self.root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
            write(self.root / "root/.ssh/authorized_keys", want.authorized_key.strip() + "\n", 0o600)
        key = self.folder / "ssh_host_ed25519_key"
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", want.name, "-f", str(key)]
        run_checked(self._run, argv, "making a host key")
        write(etc / "ssh" / key.name, key.read_text(encoding="utf-8"), 0o600)
        write(etc / "ssh" / (key.name + ".pub"), key.with_suffix(".pub").read_text(encoding="utf-8"))
        if want.address:
            write(
                etc / "systemd/network/10-host.network",  # before Debian's 80-container-host0.network
                f"[Match]\nName=host0\n\n[Network]\nAddress={want.address}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            )
        if want.shelf:
            for source in (etc / "apt/sources.list.d").iterdir():
                source.unlink()
            write(etc / "apt/sources.list", SHELF_SOURCE)
            for lists in Path(want.shelf, "lists").iterdir():
                write(self.root / "var/lib/apt/lists" / lists.name, lists.read_text(encoding="utf-8"))
        write(self.folder / "machine.json", json.dumps(want.laid_out(), indent=1, sort_keys=True) + "\n", 0o600)

    def _attach(self, file: str) -> None:
        path = self.folder / "disks" / file
        size = next(disk.size for disk in self.want.disks if disk.file == file)
        with path.open("ab") as stream:
            if stream.tell() == 0:
                stream.truncate(size)
        self._patiently(["losetup", "--find", str(path)], f"attaching {path}")

    def _detach(self, loop: str) -> None:
        self._patiently(["losetup", "--detach", loop], f"detaching {loop}")
        # A device in use is let go by the kernel at its last close; wait for that, so that nothing is left behind.
        self._wait(lambda: loop not in self._own_loops(), f"{loop} to be let go")

    def _own_loops(self) -> list[str]:
        have = self.gather()
        return [*have.loops.values(), *have.stale_loops]

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise NspawnError(f"waited {timeout:g} s in vain for {what}")
            time.sleep(0.05)

    def _unplug(self) -> bool:
        """Remove the cable of a machine whose power was cut: the kernel takes its time, and two of one name clash."""
        inside = ["nsenter", f"--net={self.want.namespace}", "ip", "link"]
        cable = f"vb-{self.want.name}"
        if self._run([*inside, "show", "dev", cable])[0] != 0:
            return True
        self._run([*inside, "delete", "dev", cable])  # it may vanish by itself in between: asked again by the next look
        return False

    def _start(self, timeout: float) -> None:
        have = self.gather()
        if self.want.namespace:
            self._wait(self._unplug, f"the old cable of {self.want.name} to go")
        spec = {
            "command": nspawn_argv(self.want, have.loops),
            "cgroups": self._cgroups(),
            # Guests know when a unit's last process is gone only in the unified hierarchy; without it they wait 90 s
            # for every ssh session when they power off.
            "environment": {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        }
        write(self.folder / "start.json", json.dumps(spec, indent=1) + "\n", 0o600)
        program = self.folder / "supervise"
        write(program, inspect.getsource(nspawn_supervisor), 0o700)
        (self.folder / "console.log").unlink(missing_ok=True)
        with (self.folder / "console.log").open("ab") as console:
            supervisor = subprocess.Popen(
                [sys.executable, str(program), str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        begun = False
        while not self._answers(deadline):
            have = self.look()
            begun = begun or have.running
            if time.monotonic() > deadline:
                raise NspawnError(f"{self.want.name} did not answer within {timeout:g} s; {self._console()}")
            if supervisor.poll() is not None and not have.running:
                why = "went off while starting" if begun else "did not start"
                raise NspawnError(f"{self.want.name} {why}; {self._console()}")
            time.sleep(0.1)

    def _answers(self, deadline: float) -> bool:
        if self.want.namespace and self.want.address:
            slice_s = max(0.1, min(2.0, deadline - time.monotonic()))
            argv = ["nsenter", "--net=" + self.want.namespace, sys.executable, "-c", _WAIT_FOR_SSH]
            return bool(self._run([*argv, self.want.address.partition("/")[0], str(slice_s)])[0] == 0)
        leader = self.look().leader
        if leader is None:
            return False
        out = self._run(["nsenter", "--target", str(leader), "--all", "systemctl", "is-system-running"])[1]
        return out.strip() in ("running", "degraded")

    def _cgroups(self) -> list[str]:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        return cgroups_of(parse_mountinfo(text), self.want)

    def _cgroups_gone(self) -> bool:
        """Remove the machine's control groups; False while a dying process is still in one."""
        try:
            for cgroup in self._cgroups():
                nspawn_supervisor.remove_cgroup(Path(cgroup))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def _console(self) -> str:
        try:
            text = (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        return f"the end of {self.folder}/console.log: {text[-1500:].strip() or '(it is empty)'}"

    def _poweroff(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        asked = 0.0
        while True:
            have = self.look()
            if not have.running and have.supervisor is None:
                return
            if time.monotonic() > deadline:
                raise NspawnError(
                    f"{self.want.name} did not power off within {timeout:g} s; state=killed cuts its power. "
                    + self._console()
                )
            # A machine that has not set up its signals yet ignores the first request.
            if have.leader is not None and time.monotonic() - asked > 5:
                send(have.leader, _POWEROFF)
                asked = time.monotonic()
            time.sleep(0.1)

    def _kill(self) -> None:
        """Cut the power: nspawn and the machine's first process, by their ids; the rest dies with the latter."""
        deadline = time.monotonic() + PATIENCE
        while True:
            have = self.look()
            if not have.running and have.supervisor is None:
                return
            if time.monotonic() > deadline:
                raise NspawnError(f"{self.want.name} does not die; look at `ps` for {self.want.root}")
            if have.nspawn is not None or have.leader is not None:
                send(have.nspawn, signal.SIGKILL)
                send(have.leader, signal.SIGKILL)
            elif have.remains:
                for pid in have.remains:
                    send(pid, signal.SIGKILL)
            else:
                # With nspawn gone the supervisor notes that down and ends; one that does not has lost its machine.
                time.sleep(0.5)
                if not self.look().running:
                    send(have.supervisor, signal.SIGKILL)
            time.sleep(0.05)


def reach(machine: MachineHost, state: str, check_mode: bool, timeout: float) -> tuple[list[str], Have]:
    """Bring a machine into a state; returns (the steps, what is there now)."""
    if check_mode:
        have = machine.gather()
        return plan(have, machine.want, state), have
    with locked(machine.folder):
        steps = plan(machine.gather(), machine.want, state)
        machine.apply(steps, timeout)
        return steps, machine.gather()
