# SPDX-License-Identifier: Apache-2.0
"""Walking a host's folders for a survey: how much there is, how much of it is new, and which stores nobody protects.

Reads names, sizes and times, and the first bytes of a few files; writes nothing, not even access times where that can be
had. Ends at a deadline and at a number of entries, and says so. What leaves are the folders in which stores begin: names
below them, where patients' names are, stay on the host. A database's file is named, as nothing else can be protected.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Callable

CHANGE_DAYS = 7
# When more than this share of something was written in the last week, it was copied or loaded then: that tells no daily rate.
FRESH = 0.5
DAY_S = 86400
HEAD = 132  # "DICM" stands at 128
HEADS_PER_FOLDER = 12
MOST_HEADS = 50000
MOST_FOLDERS = 20000
MOST_DATABASES_PER_FOLDER = 5


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


DOCUMENTS = _set("pdf doc docx odt rtf pages xps hl7")
SPREADSHEETS = _set("xls xlsx xlsm xlsb ods csv")
PICTURES = _set("jpg jpeg png tif tiff bmp heic jp2 mp4 avi mov")
MAIL = _set("mbox pst ost eml msg olm dbx")
DICOM = frozenset(("dcm", "dicom", "ima"))
# never a database, never DICOM: not worth opening
_OTHER = _set("zip gz xz bz2 zst tar deb rpm iso log txt xml json html htm js css py sh so jar exe dll")
_NEVER_OPENED = DOCUMENTS | SPREADSHEETS | PICTURES | MAIL | _OTHER

# fewest files that make a store; one spreadsheet in somebody's own folder may be the appointment book
FEWEST = {"documents": 10, "images": 20, "mail": 1, "spreadsheets": 3, "files": 1}
FEWEST_DICOM = 3
# more folders than these below a first level are somebody's own order (patients, years), not an application's parts
MOST_PARTS = 12
DEEP = 6  # folders are remembered by number down to here, to know a bind mount when it comes
FEWEST_AT_HOME = {"spreadsheets": 1}
LEAST_FILES_BYTES = 64 * 2**20  # files of no kind that we know: a store from this size on

_VIRTUAL = _set(
    """proc sysfs devtmpfs devpts tmpfs ramfs cgroup cgroup2 securityfs debugfs tracefs configfs pstore efivarfs bpf mqueue
    hugetlbfs fusectl fuse.gvfsd-fuse fuse.portal autofs binfmt_misc rpc_pipefs nsfs squashfs iso9660 udf fuse.lxcfs
    overlay"""
)
_ELSEWHERE = _set("nfs nfs4 cifs smb3 smbfs 9p ceph glusterfs afs fuse.sshfs fuse.rclone davfs fuse.glusterfs")
_SYSTEM = _set(
    """/proc /sys /dev /run /tmp /boot /usr /bin /sbin /lib /lib32 /lib64 /libx32 /etc /snap /lost+found /swap /nix /gnu
    /var/tmp /var/cache /var/log /var/run /var/lock /var/backups /var/crash /var/snap /var/lib/holdfast /srv/holdfast
    /var/lib/holdfast-lab /var/lib/firebird/3.0/system /var/lib/firebird/4.0/system /var/lib/firebird/5.0/system"""
)
# packages' own state; what a practice's software keeps below /var/lib has other names
_SYSTEM_LIB = _set(
    """AccountsService NetworkManager PackageKit alsa app-info apt apt-xapian-index aspell bluetooth boltd ca-certificates-java
    cloud colord command-not-found containerd dbus dhcp dictionaries-common dpkg emacsen-common fail2ban flatpak fwupd gdm3
    geoclue ghostscript grub initramfs-tools ispell lightdm locales logrotate lxcfs machines man-db misc mlocate nut
    os-prober pam plocate plymouth polkit-1 portables private python rpm saned sgml-base shells.state shim-signed snapd sudo
    swcatalog systemd tpm2-tss ubuntu-advantage ubuntu-release-upgrader ucf udisks2 unattended-upgrades update-manager
    update-notifier upower urandom usb_modeswitch usbutils vim xfonts xkb xml-core"""
)
_SYSTEM_SPOOL = _set("anacron cron cups exim4 postfix rsyslog samba lpd plymouth")
_NAMES = _set("node_modules lost+found __pycache__ @eaDir #recycle .Trash .Trash-1000 .git .snapshots $RECYCLE.BIN") | {
    "System Volume Information"
}
_MAIL_AT_HOME = (
    ".thunderbird",
    ".icedove",
    ".evolution",
    ".local/share/evolution/mail",
    ".local/share/local-mail",
    "snap/thunderbird",
    ".var/app/org.mozilla.Thunderbird",
)
_FIRST = ("/home", "/srv", "/data", "/opt", "/mnt", "/media", "/export", "/root", "/var")
# Folders that hold stores; each of these begins one level below, and nothing deeper is named unless an application has its
# folders there (see Walk._is_mixed). A star is one name.
_CONTAINERS = (
    "/",
    "/home",
    "/home/*",
    "/srv",
    "/data",
    "/opt",
    "/mnt",
    "/media",
    "/export",
    "/root",
    "/var",
    "/var/lib",
    "/var/opt",
    "/var/spool",
    "/var/local",
    "/var/lib/docker",
    "/var/lib/docker/volumes",
)
_DATA_PLACES = ("/home", "/srv", "/data", "/opt", "/mnt", "/media", "/export", "/var/opt", "/var/www")


@dataclass
class Tally:
    """How many files, how many bytes, and how many of them came or changed in the last week."""

    files: int = 0
    bytes: int = 0
    recent: int = 0

    def add(self, size: int, recent: bool) -> None:
        """Count one file."""
        self.files += 1
        self.bytes += size
        self.recent += size if recent else 0

    def join(self, other: Tally) -> None:
        """Count what another tally has counted."""
        self.files += other.files
        self.bytes += other.bytes
        self.recent += other.recent

    def facts(self) -> dict[str, int | None]:
        """Give it as a result."""
        change = self.recent // CHANGE_DAYS if self.recent <= FRESH * self.bytes else None
        return {"files": self.files, "bytes": self.bytes, "changed_bytes_per_day": change}


@dataclass(frozen=True)
class Wanted:
    """What the document protects on this host, as far as it lies in folders."""

    item: str
    paths: tuple[str, ...]
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A mounted file system."""

    path: str
    kind: str
    source: str
    number: str
    read_only: bool = False


@dataclass
class Found:
    """What a walk saw. stopped: why it ended early, or empty."""

    stores: list[dict[str, Any]] = field(default_factory=list)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    databases: list[dict[str, Any]] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    unreadable: int = 0
    entries: int = 0
    stopped: str = ""


@dataclass
class _Folder:
    """A folder that is being looked at. mail: where its files count as mail, or None."""

    path: str
    key: str
    mail: str | None
    names: list[str] = field(default_factory=list)
    databases: list[dict[str, Any]] = field(default_factory=list)
    opened: int = 0


class _StopError(Exception):
    """The deadline or the number of entries is reached."""


def unescape(text: str) -> str:
    """Undo the octal escapes of mountinfo."""
    for code, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, plain)
    return text


def read_mounts(mountinfo: str) -> list[Mount]:
    """Read /proc/self/mountinfo; of several mounts at one place the last one counts."""
    found: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        parts, kinds = left.split(), right.split()
        if len(parts) > 5 and len(kinds) > 1:
            path = unescape(parts[4])
            found.pop(path, None)
            found[path] = Mount(path, kinds[0], unescape(kinds[1]), parts[2], "ro" in parts[5].split(","))
    return list(found.values())


def is_local(mount: Mount) -> bool:
    """Say whether a mount holds this host's own files (a root of overlay does)."""
    return mount.kind not in _ELSEWHERE and (mount.kind not in _VIRTUAL or mount.path == "/")


def suffix_of(name: str) -> str:
    """Give a file name's last suffix in lower case, or nothing; a dot at the beginning begins none."""
    return name.rsplit(".", 1)[-1].lower() if "." in name[1:] else ""


def kind_of_name(name: str) -> str:
    """Give the kind of store that a file of this name belongs to, or nothing."""
    suffix = suffix_of(name)
    for kind, suffixes in (("documents", DOCUMENTS), ("spreadsheets", SPREADSHEETS), ("mail", MAIL)):
        if suffix in suffixes:
            return kind
    return "images" if suffix in PICTURES or suffix in DICOM else ""


def is_dicom(head: bytes) -> bool:
    """Say whether a file begins as DICOM files do."""
    return head[128:132] == b"DICM"


def engine_of_head(head: bytes) -> str:
    """Give the engine whose database a file is, by its first bytes, or nothing."""
    if head.startswith(b"SQLite format 3\0"):
        return "sqlite"
    if (
        len(head) > 20 and head[0] == 1
    ):  # a header page of Firebird: its page size, and the structure version with its mark
        size, version = int.from_bytes(head[16:18], "little"), int.from_bytes(head[18:20], "little")
        if size in (1024, 2048, 4096, 8192, 16384, 32768) and (version & 0x8000 or 8 <= version <= 13):
            return "firebird"
    return ""


def is_hidden_by(path: str, patterns: Iterable[str]) -> bool:
    """Say whether one of restic's exclude patterns hides a path."""
    name = path.rsplit("/", 1)[-1]
    return any(fnmatchcase(path if "/" in pattern else name, pattern.rstrip("/")) for pattern in patterns)


def is_system(path: str) -> bool:
    """Say whether a folder holds the system's own files, in which nobody keeps a practice's data."""
    if path in _SYSTEM:
        return True
    above, _, name = path.rpartition("/")
    return (above == "/var/lib" and name in _SYSTEM_LIB) or (above == "/var/spool" and name in _SYSTEM_SPOOL)


def at_home(path: str) -> str:
    """Give the home folder that a path lies in, or nothing."""
    parts = path.split("/")
    if len(parts) > 2 and parts[1] == "home":
        return "/".join(parts[:3])
    return "/root" if parts[1:2] == ["root"] else ""


def container_of(path: str) -> str:
    """Give the deepest of the known folders of stores at or above a path."""
    parts = [part for part in path.split("/") if part]
    best = ""
    for pattern in _CONTAINERS:
        wanted = [part for part in pattern.split("/") if part]
        if len(wanted) <= len(parts) and all(w in ("*", part) for w, part in zip(wanted, parts)):
            best = max(best, "/" + "/".join(parts[: len(wanted)]), key=len)
    return best or "/"


def below(path: str, root: str) -> bool:
    """Say whether a path is a folder or lies in it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


class Walk:
    """One walk over a host. root is put before every path that is opened, for tests; results are without it."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        mounts: Sequence[Mount],
        now: float,
        deadline_s: float = 120,
        most_entries: int = 2000000,
        leave_out: Iterable[str] = (),
        root: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wanted = wanted
        self.mounts = {mount.path: mount for mount in mounts}
        self.since = now - CHANGE_DAYS * DAY_S
        self.clock = clock
        self.end = clock() + deadline_s
        self.deadline_s = deadline_s
        self.most_entries = most_entries
        self.leave_out = frozenset(leave_out)
        self.root = root
        self.found = Found()
        self.heads = 0
        self.seen: set[tuple[int, int]] = set()
        self.folders: dict[str, dict[str, Tally]] = {}
        self.dicom: Counter[str] = Counter()
        self.asked: dict[str, tuple[int, int]] = {}
        self.own_roots: set[str] = set()
        self.owners = {path.rstrip("/"): each for each in wanted for path in each.paths}

    def run(self) -> Found:
        """Measure what is protected, then look for what is not."""
        try:
            for wanted in self.wanted:
                self._measure(wanted)
            for top in self._tops():
                self._look(top)
        except _StopError as stop:
            self.found.stopped = str(stop)
        self.found.stores += self._stores()
        return self.found

    def _tops(self) -> list[str]:
        listed = [f"/{entry.name}" for entry in self._entries("/") if entry.is_dir(follow_symlinks=False)]
        first = [path for path in _FIRST if path in listed]
        return first + sorted(path for path in listed if path not in first and not is_system(path))

    def _entries(self, path: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir((self.root + path) or "/") as entries:
                for entry in entries:
                    self.found.entries += 1
                    if self.found.entries > self.most_entries:
                        raise _StopError(f"after {self.most_entries} entries, at {container_of(path)}")
                    if self.found.entries % 256 == 0 and self.clock() > self.end:
                        raise _StopError(f"after {self.deadline_s:.0f} seconds, at {container_of(path)}")
                    yield entry
        except OSError:  # a folder that went, or that even root may not read: counted, and said
            self.found.unreadable += 1

    def _facts(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        try:
            return entry.stat(follow_symlinks=False)
        except OSError:
            self.found.unreadable += 1
            return None

    def _measure(self, wanted: Wanted) -> None:
        """Add up what an item holds, and which kinds of store are in it."""
        total = Tally()
        kinds: dict[str, dict[str, Tally]] = {}
        missing: list[str] = []
        self.found.items[wanted.item] = {
            "bytes": None,
            "changed_bytes_per_day": None,
            "files": None,
            "missing": missing,
        }
        for path in wanted.paths:
            plain = path.rstrip("/")
            try:
                facts = Path(self.root + plain).stat()
            except OSError:
                missing.append(path)
                continue
            if not stat.S_ISDIR(facts.st_mode):
                total.add(facts.st_size, facts.st_mtime > self.since)
                continue
            here: dict[str, Tally] = {}
            for entry, where, size, recent in self._files(plain, wanted.exclude):
                total.add(size, recent)
                kind = kind_of_name(entry.name) or ("mail" if where.endswith(("/cur", "/new")) else "")
                if kind or self._is_dicom_folder(where, entry):
                    here.setdefault(kind or "images", Tally()).add(size, recent)
            kinds[plain] = here
        self.found.items[wanted.item] = {**total.facts(), "missing": missing}
        for path, here in kinds.items():
            for kind, tally in here.items():
                self.found.stores.append({"kind": kind, "path": path, **tally.facts(), "item": wanted.item})

    def _files(self, top: str, exclude: Sequence[str]) -> Iterator[tuple[os.DirEntry[str], str, int, bool]]:
        folders = [top]
        while folders:
            path = folders.pop()
            for entry in self._entries(path):
                here = f"{path}/{entry.name}"
                if exclude and is_hidden_by(here, exclude):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(here)
                elif entry.is_file(follow_symlinks=False):
                    facts = self._facts(entry)
                    if facts:
                        yield entry, path, facts.st_size, facts.st_mtime > self.since

    def _head(self, path: str) -> bytes:
        """Read the first bytes of a file, leaving its access time alone where the kernel lets us."""
        if self.heads >= MOST_HEADS:
            return b""
        self.heads += 1
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            try:
                handle = os.open(path, flags | getattr(os, "O_NOATIME", 0))
            except PermissionError:
                handle = os.open(path, flags)
            try:
                return os.read(handle, HEAD)
            finally:
                os.close(handle)
        except OSError:
            self.found.unreadable += 1
            return b""

    def _is_dicom_folder(self, where: str, entry: os.DirEntry[str]) -> bool:
        """Say whether a file without a telling name is DICOM, by opening the first few of its folder."""
        if suffix_of(entry.name) in _NEVER_OPENED:
            return False
        count, yes = self.asked.get(where, (0, 0))
        if count < HEADS_PER_FOLDER:
            count, yes = count + 1, yes + is_dicom(self._head(entry.path))
            if len(self.asked) > MOST_FOLDERS:
                self.asked.clear()
            self.asked[where] = (count, yes)
        return bool(yes)

    def _skips(self, path: str, name: str) -> bool:
        if path in self.leave_out or is_system(path) or name in _NAMES:
            return True
        mount = self.mounts.get(path)
        if mount and mount.kind in _ELSEWHERE:
            self.found.elsewhere.append(f"{path} ({mount.kind} from {mount.source})")
        if mount and (not is_local(mount) or mount.read_only):
            return True
        home = at_home(path)
        return bool(home) and path != home and name.startswith(".") and path.count("/") == home.count("/") + 1

    def _look(self, top: str) -> None:
        """Walk what nobody protects; protected paths are measured already."""
        folders: list[tuple[str, str | None]] = [(top, None)] if not self._skips(top, top[1:]) else []
        while folders:
            path, mail = folders.pop()
            if path in self.owners or self._was_here(path):
                continue
            here = _Folder(path, self._key(path), mail if mail is not None else self._mail_spool(path))
            for entry in self._entries(path):
                if entry.is_dir(follow_symlinks=False):
                    here.names.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    self._count(here, entry)
            self._databases(path, here.databases)
            if here.mail is None and {"cur", "new", "tmp"} <= set(here.names):
                here.mail = here.key
            for name in here.names:
                child = f"{path}/{name}" if path != "/" else f"/{name}"
                if not self._skips(child, name):
                    folders.append((child, here.mail))
            if path == at_home(path):
                for each in (f"{path}/{known}" for known in _MAIL_AT_HOME):
                    if Path(self.root + each).is_dir():
                        self.own_roots.add(each)
                        folders.append((each, each))

    def _mail_spool(self, path: str) -> str | None:
        return path if path in ("/var/mail", "/var/spool/mail") else None

    def _was_here(self, path: str) -> bool:
        if path.count("/") > DEEP and path not in self.mounts:
            return False
        try:
            facts = Path(self.root + path).lstat()
        except OSError:
            self.found.unreadable += 1
            return True
        number = (facts.st_dev, facts.st_ino)
        known = number in self.seen
        self.seen.add(number)
        return known

    def _count(self, here: _Folder, entry: os.DirEntry[str]) -> None:
        """Count one file for the kind of store that it belongs to."""
        facts = self._facts(entry)
        if facts is None or not facts.st_size or f"{here.path}/{entry.name}" in self.owners:
            return
        recent = facts.st_mtime > self.since
        if here.mail is not None:
            if not (here.path.startswith("/var/") and entry.name == "root"):  # the machine's own letters
                self._tally(here.mail, "mail", facts.st_size, recent)
            return
        kind, suffix = kind_of_name(entry.name), suffix_of(entry.name)
        unknown = not kind and suffix not in _NEVER_OPENED
        if unknown and here.opened < 4 * HEADS_PER_FOLDER and facts.st_size % 512 == 0:
            here.opened += 1
            engine = engine_of_head(self._head(entry.path))
            if engine:
                here.databases.append({"engine": engine, "name": entry.name, "bytes": facts.st_size, "recent": recent})
                return
        if entry.name.endswith(("-wal", "-shm", "-journal")):
            return
        if suffix in DICOM or (not kind and self._is_dicom_folder(here.path, entry)):
            kind = "images"
            self.dicom[here.key] += 1
        self._tally(here.key, kind or "files", facts.st_size, recent)

    def _databases(self, path: str, databases: list[dict[str, Any]]) -> None:
        """Name the few database files of a folder; of many only the folder, as their names may be those of patients."""
        if len(databases) > MOST_DATABASES_PER_FOLDER:
            for each in databases:
                self._tally(self._key(path), "files", each["bytes"], each["recent"])
            self.found.databases.append(
                {
                    "engine": databases[0]["engine"],
                    "name": None,
                    "path": None,
                    "folder": self._root_of(path),
                    "port": None,
                    "bytes": sum(each["bytes"] for each in databases),
                    "count": len(databases),
                }
            )
            return
        for each in databases:
            self.found.databases.append(
                {
                    "engine": each["engine"],
                    "name": None,
                    "path": f"{path}/{each['name']}",
                    "port": None,
                    "bytes": each["bytes"],
                }
            )

    def _tally(self, key: str, kind: str, size: int, recent: bool) -> None:
        self.folders.setdefault(key, {}).setdefault(kind, Tally()).add(size, recent)

    def _key(self, path: str) -> str:
        """Give the folder at which files are counted: their own, or the second level of the store when it lies deeper."""
        container = container_of(path)
        rest = [part for part in path[len(container) :].split("/") if part]
        key = "/".join([container.rstrip("/"), *rest[:2]]) or "/"
        if key not in self.folders and len(self.folders) >= MOST_FOLDERS:
            return container
        return key

    def _root_of(self, path: str) -> str:
        """Give the first level of a store: one below the folder that holds stores."""
        container = container_of(path)
        rest = [part for part in path[len(container) :].split("/") if part]
        return f"{container.rstrip('/')}/{rest[0]}" if rest else container

    def _stores(self) -> list[dict[str, Any]]:
        """Turn counted folders into stores: where each begins, as high as it may and as low as it must."""
        firsts: dict[str, list[str]] = {}
        for path in self.folders:
            firsts.setdefault(path if path in self.own_roots else self._root_of(path), []).append(path)
        named = [each["path"] for each in self.found.databases if each["path"]]
        busy = [*self.owners, *named]
        found: list[dict[str, Any]] = []
        for first, paths in sorted(firsts.items()):
            groups = {path: [path] for path in paths} if self._is_mixed(first, paths, busy) else {first: paths}
            for root, members in groups.items():
                found += self._stores_at(root, members)
        return found

    def _is_mixed(self, first: str, paths: Sequence[str], busy: Sequence[str]) -> bool:
        """Say whether the folders below a first level are stores of their own: different in kind, or partly protected."""
        if len(paths) > MOST_PARTS:
            return False
        if any(path != first and below(path, first) for path in busy):
            return True
        main = set()
        for path in paths:
            tallies = {kind: tally.files for kind, tally in self.folders[path].items() if kind != "files"}
            if path != first and tallies:
                main.add(max(tallies, key=lambda kind: tallies[kind]))
        return len(main) > 1

    def _stores_at(self, root: str, members: Sequence[str]) -> Iterator[dict[str, Any]]:
        kinds: dict[str, Tally] = {}
        for path in members:
            for kind, tally in self.folders[path].items():
                kinds.setdefault(kind, Tally()).join(tally)
        dicom = sum(self.dicom[path] for path in members)
        home = at_home(root)
        known = False
        for kind, tally in sorted(kinds.items()):
            fewest = FEWEST_AT_HOME.get(kind, FEWEST[kind]) if home else FEWEST[kind]
            if kind == "images" and dicom >= FEWEST_DICOM:
                fewest = FEWEST_DICOM
            if kind == "files" or tally.files < fewest:
                continue
            known = True
            store = {"kind": kind, "path": root, **tally.facts(), "item": None}
            yield {**store, "dicom": True} if kind == "images" and dicom >= FEWEST_DICOM else store
        rest = kinds.get("files", Tally())
        place = any(below(root, each) for each in _DATA_PLACES)
        if not known and place and rest.bytes >= LEAST_FILES_BYTES:
            yield {"kind": "files", "path": root, **rest.facts(), "item": None}


def wanted_of(jobs: Sequence[Mapping[str, Any]]) -> list[Wanted]:
    """Read what a host protects from its agent's jobs: folders, and the images that a database names."""
    found = []
    for job in jobs:
        database = job.get("database") or {}
        images = (database.get("images") or {}).get("root")
        paths = [*(job.get("paths") or []), *([images] if images else [])]
        paths += [database["path"]] if database.get("path") else []
        found.append(Wanted(str(job["item"]), tuple(paths), tuple(job.get("exclude") or ())))
    return found
