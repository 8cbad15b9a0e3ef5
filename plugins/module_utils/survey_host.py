# SPDX-License-Identifier: Apache-2.0
"""What a survey reads of a host besides its folders: databases that listen, disks, UPSs on USB, links, zone, free space.

Readers take a root that is put before /proc, /sys, /dev and /etc, so that a made-up host can be read as well. The only
commands asked are PostgreSQL's own client, as its own user, in a read-only session, and blkid.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from ansible_collections.holdfast.practice.plugins.module_utils.survey_walk import (
    CHANGE_DAYS,
    DAY_S,
    FRESH,
    Mount,
    is_local,
)

RunCommand = Callable[..., tuple[int, str, str]]

PORTS = {5432: "postgresql", 3306: "mariadb", 3050: "firebird", 1433: "sqlserver"}
PROCESSES = {
    "postgres": "postgresql",
    "postmaster": "postgresql",
    "mariadbd": "mariadb",
    "mysqld": "mariadb",
    "firebird": "firebird",
    "fbserver": "firebird",
    "fb_smp_server": "firebird",
    "fbguard": "firebird",
    "sqlservr": "sqlserver",
}
# where an engine keeps its databases when nothing says otherwise
DATA_FOLDERS = {"mariadb": ("/var/lib/mysql",), "sqlserver": ("/var/opt/mssql/data",)}
_OWN_DATABASES = {
    "mariadb": {"mysql", "performance_schema", "sys", "information_schema", "test", "#innodb_redo", "#innodb_temp"},
    "sqlserver": {"master", "model", "msdbdata", "tempdb", "model_msdbdata", "model_replicatedmaster"},
}
MOST_DATABASES = 50
SETTLED_DAYS = 28  # a database that was counted for so long shows its daily work, not its loading
_TIMEOUT = ["timeout", "--kill-after=5", "30"]


def _each(products: str, driver: str) -> dict[str, str]:
    return dict.fromkeys(products.split(), driver)


# USB ids of UPSs and their NUT drivers, after NUT 2.8's own list. Vendors that make nothing else stand with "*".
UPS_IDS: dict[str, tuple[str, dict[str, str]]] = {
    "03f0": (
        "HP",
        {
            **_each("0001 1f06 1f08 1f09 1f0a 1fe0 1fe1 1fe2 1fe3 1fe5 1fe6 1fe7 1fe8", "usbhid-ups"),
            **_each("1f01 1f02", "bcmxcp_usb"),
        },
    ),
    "0463": ("Eaton", {"*": "usbhid-ups"}),
    "047c": ("Dell", {"ffff": "usbhid-ups"}),
    "0483": ("ST Microelectronics", {"0035": "nutdrv_qx", "a113": "usbhid-ups"}),
    "04b3": ("IBM", {"0001": "usbhid-ups"}),
    "04b4": ("Riello", {"5500": "riello_usb"}),
    "04d8": ("Minibox", {"d004": "usbhid-ups", "d005": "usbhid-ups"}),
    "050d": (
        "Belkin",
        _each("0375 0551 0750 0751 0900 0910 0912 0980 0f51 1100", "usbhid-ups"),
    ),
    "051d": ("APC", {"0003": "apc_modbus", "*": "usbhid-ups"}),
    "0592": ("Powerware", {"0002": "bcmxcp_usb", "*": "usbhid-ups"}),
    "05b8": ("Agiler", {"0000": "nutdrv_qx"}),
    "05dd": ("Delta", {"041b": "usbhid-ups", "a011": "usbhid-ups", "a0a0": "usbhid-ups"}),
    "0665": ("Voltronic", {"5161": "nutdrv_qx"}),
    "06da": ("Phoenixtec", {"ffff": "usbhid-ups", "*": "nutdrv_qx"}),
    "075d": ("iDowell", {"0300": "usbhid-ups"}),
    "0764": ("CyberPower", {"*": "usbhid-ups"}),
    "09ae": ("Tripp Lite", {"0001": "tripplite_usb", "*": "usbhid-ups"}),
    "0d9f": ("Powercom", {"*": "usbhid-ups"}),
    "0f03": ("Unitek", {"0001": "nutdrv_qx"}),
    "10af": ("Liebert", {"*": "usbhid-ups"}),
    "14f0": ("Dynex", {"00c9": "nutdrv_qx"}),
    "1cb0": ("Legrand", {"0035": "nutdrv_qx", "0032": "usbhid-ups", "0038": "usbhid-ups"}),
    "2b2d": ("AEG", {"ffff": "usbhid-ups"}),
    "2e51": ("Ever", {"*": "usbhid-ups"}),
    "2e66": ("Salicru", {"*": "usbhid-ups"}),
    "4234": ("Powervar", {"0002": "usbhid-ups"}),
}


def text_of(path: Path) -> str:
    """Read a small file of the kernel, stripped; nothing when it is not there or does not answer."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def read_os(release: str) -> str:
    """Read /etc/os-release: "Debian 13"."""
    found = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', release, re.MULTILINE))
    name = found.get("NAME", "Linux").split("/")[0].replace(" GNU", "")
    return f"{name} {found['VERSION_ID']}" if found.get("VERSION_ID") else name


def read_zone(root: str = "") -> str | None:
    """Give the host's time zone: where /etc/localtime points, or what /etc/timezone says."""
    link = Path(f"{root}/etc/localtime")
    if link.is_symlink():
        target = str(link.readlink())
        if "zoneinfo/" in target:
            return target.split("zoneinfo/", 1)[1]
    return text_of(Path(f"{root}/etc/timezone")) or None


@dataclass(frozen=True)
class Listener:
    """A TCP port that something listens on. inode: the socket's number."""

    port: int
    inode: str


def read_listeners(*tables: str) -> list[Listener]:
    """Read /proc/net/tcp and tcp6."""
    found = []
    for table in tables:
        for line in table.splitlines()[1:]:
            parts = line.split()
            if len(parts) > 9 and parts[3] == "0A":
                found.append(Listener(int(parts[1].rsplit(":", 1)[1], 16), parts[9]))
    return found


def read_sockets(table: str) -> list[tuple[str, int]]:
    """Read PostgreSQL's local sockets from /proc/net/unix: (folder, port)."""
    found = re.findall(r"\s(/\S*)/\.s\.PGSQL\.(\d+)$", table, re.MULTILINE)
    return list(dict.fromkeys((folder, int(port)) for folder, port in found))


@dataclass
class Engine:
    """A database server that runs here. folders: where its processes live, usually their data folder."""

    engine: str
    ports: set[int] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)


def running_engines(root: str = "") -> list[Engine]:
    """Find database servers by their processes, and by the ports that nobody's process can be named for."""
    tables = [text_of(Path(f"{root}/proc/net/{name}")) for name in ("tcp", "tcp6")]
    listeners = {each.inode: each.port for each in read_listeners(*tables)}
    found: dict[str, Engine] = {}
    taken: set[int] = set()
    for process in sorted(Path(f"{root}/proc").glob("[0-9]*")):
        name = text_of(process / "comm")
        engine = PROCESSES.get(name)
        if engine is None:
            continue
        here = found.setdefault(engine, Engine(engine))
        with contextlib.suppress(OSError):  # a process that went: its folder stays unknown
            here.folders.add(str((process / "cwd").readlink()))
        for link in _links(process / "fd"):
            inode = re.fullmatch(r"socket:\[(\d+)\]", link)
            if inode and inode[1] in listeners:
                here.ports.add(listeners[inode[1]])
                taken.add(listeners[inode[1]])
    for port in listeners.values():
        if port in PORTS and port not in taken:
            found.setdefault(PORTS[port], Engine(PORTS[port])).ports.add(port)
    return list(found.values())


def _links(folder: Path) -> Iterator[str]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield str(entry.readlink())
        except OSError:
            continue


# What PostgreSQL is asked: each database with its size, rows written, and since when they are counted. One value of JSON.
PG_LIST = """select coalesce(json_agg(t), '[]') from (
  select d.datname as name, pg_database_size(d.oid) as bytes, s.tup_inserted + s.tup_updated as written,
    extract(epoch from now() - coalesce(s.stats_reset, (pg_stat_file('base/' || d.oid || '/PG_VERSION', true)).modification))
      as counted_s
  from pg_database d join pg_stat_database s on s.datid = d.oid where d.datallowconn and not d.datistemplate order by 1) t"""
PG_ROWS = """select json_build_object('rows', coalesce((select sum(n_live_tup) from pg_stat_user_tables), 0),
  'tables', (select count(*) from pg_stat_user_tables))"""


def pg_change(row: Mapping[str, Any], rows: Any) -> int | None:
    """Estimate how many bytes of a database change in a day: rows written, at the size of a row, since they are counted.

    Indexes and dead rows count as size, so it is rather too much. None when the server does not tell.
    """
    try:
        written, since, live = float(row["written"]), float(row["counted_s"]), float(rows)
    except (KeyError, TypeError, ValueError):
        return None
    if live <= 0 or since <= 0:
        return None
    days, size = max(since / DAY_S, CHANGE_DAYS), float(row["bytes"])
    change = written / live * size / days
    if since < SETTLED_DAYS * DAY_S and change * CHANGE_DAYS > FRESH * size:
        return None  # it was loaded in this time
    return int(min(change, size))


def postgresql(
    run: RunCommand, sockets: Iterable[tuple[str, int]], psql: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Ask each server on a local socket, as the user postgres. Returns (databases, what could not be asked)."""
    found: list[dict[str, Any]] = []
    silent = []
    asked: set[int] = set()
    for folder, port in sockets:
        if port in asked:
            continue

        def ask(database: str, sql: str, folder: str = folder, port: int = port) -> Any:
            command = [*_TIMEOUT, "runuser", "-u", "postgres", "--", psql]
            command += ["-XAtq", "-w", "-h", folder, "-p", str(port), "-d", database, "-c", sql]
            surroundings = {
                "PGCONNECT_TIMEOUT": "5",
                "PGOPTIONS": "-c default_transaction_read_only=on -c statement_timeout=20000",
                "LC_ALL": "C.UTF-8",
            }
            code, out, _ = run(command, environ_update=surroundings, cwd="/")
            try:
                return json.loads(out) if code == 0 else None
            except ValueError:
                return None

        listed = ask("postgres", PG_LIST)
        if not isinstance(listed, list):
            silent.append(f"PostgreSQL on port {port} does not let the user postgres in through its local socket")
            continue
        asked.add(port)
        for row in listed[:MOST_DATABASES]:
            inside = ask(row["name"], PG_ROWS) or {}
            if row["name"] == "postgres" and inside.get("tables") == 0:
                continue  # made by the installation, and empty
            found.append(
                {
                    "engine": "postgresql",
                    "name": row["name"],
                    "path": None,
                    "port": port,
                    "bytes": int(row["bytes"]),
                    "changed_bytes_per_day": pg_change(row, inside.get("rows")),
                }
            )
    return found, silent


def _decoded(name: str) -> str:
    """Undo how MariaDB writes a name as a folder: @0020 is a space."""
    return re.sub(r"@([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), name)


def folder_bytes(folder: Path) -> int:
    """Add up the files of one folder (engines keep a database flat)."""
    total = 0
    for entry in folder.iterdir():
        facts = entry.lstat()
        total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total


def engine_databases(engine: Engine, root: str = "") -> list[dict[str, Any]]:
    """List the databases of MariaDB (a folder each) and SQL Server (an .mdf each) by their data folders."""
    port = min(engine.ports) if engine.ports else None
    found = []
    for folder in sorted({*engine.folders, *DATA_FOLDERS.get(engine.engine, ())}):
        place = Path(root + folder)
        try:
            entries = sorted(place.iterdir()) if place.is_dir() else []
            for entry in entries:
                name, size = _database_at(engine.engine, entry)
                if name and name not in _OWN_DATABASES[engine.engine]:
                    found.append({"engine": engine.engine, "name": name, "path": None, "port": port, "bytes": size})
        except OSError:
            continue  # not ours to read: the engine itself is named by its caller
    return found[:MOST_DATABASES]


def _database_at(engine: str, entry: Path) -> tuple[str, int]:
    if engine == "mariadb" and entry.is_dir() and not entry.is_symlink():
        holds = any(file.suffix in (".ibd", ".frm", ".MYD", ".MAI", ".opt") for file in entry.iterdir())
        return (_decoded(entry.name), folder_bytes(entry)) if holds else ("", 0)
    if engine == "sqlserver" and entry.suffix == ".mdf":
        log = entry.with_name(f"{entry.stem}_log.ldf")
        return entry.stem, entry.stat().st_size + (log.stat().st_size if log.exists() else 0)
    return "", 0


def sleeping_clusters(running: Iterable[str], root: str = "") -> list[str]:
    """Find PostgreSQL's data folders that no server runs on."""
    known = set(running)
    found = (str(mark.parent)[len(root) :] for mark in Path(f"{root}/var/lib/postgresql").glob("*/*/PG_VERSION"))
    return sorted(folder for folder in found if folder not in known)


def usb_ups(root: str = "") -> list[dict[str, Any]]:
    """Find UPSs on USB by their ids, or by their own word for themselves."""
    found = []
    for device in sorted(Path(f"{root}/sys/bus/usb/devices").glob("*")):
        vendor, product = text_of(device / "idVendor").lower(), text_of(device / "idProduct").lower()
        maker, name = text_of(device / "manufacturer"), text_of(device / "product")
        known, products = UPS_IDS.get(vendor, ("", {}))
        driver = products.get(product) or products.get("*")
        if driver is None and vendor and re.search(r"\bUPS\b", name):
            driver = "usbhid-ups"
        if driver:
            found.append({"vendor": maker or known, "product": name or f"{vendor}:{product}", "driver": driver})
    return found


_FOR_SYSTEM = ("/", "/boot", "/boot/efi", "/usr", "/var")


def disks(
    mounts: Sequence[Mount], pool: Iterable[str], probe: Callable[[str], str], root: str = ""
) -> list[dict[str, Any]]:
    """List the host's disks by their lasting names, and what each is used for: system, pool, data or nothing.

    pool: the devices that the document gives to the pool. probe(device): what is written on a device, "" for nothing.
    """
    names = _lasting_names(root)
    pooled = {os.path.realpath(root + device) for device in pool}
    uses = _uses(mounts, root)
    found = []
    for number, (device, kernel) in sorted(names.items(), key=lambda each: each[1]):
        block = Path(f"{root}/sys/dev/block/{number}")
        size = text_of(block / "size")
        if (block / "partition").exists() or not size.isdigit() or int(size) == 0:
            continue
        if device.startswith(f"{root}/dev/") and re.match(r"(loop|ram|zram|sr|fd|dm-|md)\d", Path(device).name):
            continue  # named by the kernel alone, and not a disk
        family = {number, *(text_of(part) for part in sorted(block.glob("*/dev")))}
        found.append(
            {
                "device": device[len(root) :],
                "bytes": int(size) * 512,
                "used_for": _used_for(kernel in pooled, family, uses) or ("data" if probe(kernel) else "nothing"),
            }
        )
    return found


def _used_for(pooled: bool, family: set[str], uses: Mapping[str, set[str]]) -> str:
    places = {place for number in family for place in uses.get(number, ())}
    if places & set(_FOR_SYSTEM):
        return "system"
    if pooled:
        return "pool"
    return "data" if places or len(family) > 1 else ""


def _lasting_names(root: str) -> dict[str, tuple[str, str]]:
    """Give each disk's best name in /dev/disk/by-id, else its kernel name: {MAJOR:MINOR: (name, device)}."""
    found: dict[str, tuple[str, str]] = {}
    links = sorted(Path(f"{root}/dev/disk/by-id").glob("*"), key=lambda link: (_plainness(link.name), link.name))
    nodes = [Path(f"{root}/dev/{entry.name}") for entry in sorted(Path(f"{root}/sys/block").glob("*"))]
    for link in [*links, *nodes]:
        device = os.path.realpath(link)
        number = device_number(device)
        if number and number not in found:
            found[number] = (str(link), device)
    return found


def _plainness(name: str) -> int:
    return 1 if name.startswith(("wwn-", "nvme-eui", "nvme-nvme", "scsi-3", "dm-", "lvm-", "md-")) else 0


def device_number(device: str) -> str:
    """Give MAJOR:MINOR of a block device, or nothing."""
    try:
        facts = Path(device).stat()
    except OSError:
        return ""
    return f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}" if stat.S_ISBLK(facts.st_mode) else ""


def _uses(mounts: Sequence[Mount], root: str) -> dict[str, set[str]]:
    """Say which block devices lie under which mounts: through device mapper, md and btrfs, down to the disks' partitions."""
    found: dict[str, set[str]] = {}
    for mount in mounts:
        numbers = [device_number(root + mount.source) if mount.source.startswith("/dev/") else mount.number]
        if mount.kind == "btrfs":
            numbers += _btrfs_siblings(numbers[0], root)
        while numbers:
            number = numbers.pop()
            if number and mount.path not in found.setdefault(number, set()):
                found[number].add(mount.path)
                slaves = Path(f"{root}/sys/dev/block/{number}/slaves").glob("*")
                numbers += [text_of(slave / "dev") for slave in slaves]
    return found


def _btrfs_siblings(number: str, root: str) -> list[str]:
    for devices in Path(f"{root}/sys/fs/btrfs").glob("*/devices"):
        members = [text_of(member / "dev") for member in devices.glob("*")]
        if number in members:
            return members
    return []


def filesystems(mounts: Sequence[Mount], root: str = "") -> list[dict[str, Any]]:
    """Give size and free space of each local file system, at the first place where it is mounted."""
    found = []
    seen = set()
    for mount in sorted(mounts, key=lambda each: len(each.path)):
        passing = mount.path.startswith("/run/")
        if passing or not is_local(mount) or mount.read_only or mount.number in seen:
            continue
        if not Path(root + mount.path).is_dir():
            continue  # a file that another one is mounted over
        space = space_at(root + mount.path)
        if space["bytes"]:
            seen.add(mount.number)
            found.append({"mount": mount.path, **space})
    return found


def space_at(path: str) -> dict[str, int]:
    """Give size and free space of the file system at a path, or at the nearest folder above that exists."""
    here = Path(path)
    while not here.exists() and here != here.parent:
        here = here.parent
    facts = os.statvfs(here)
    return {"bytes": facts.f_blocks * facts.f_frsize, "free": facts.f_bavail * facts.f_frsize}


def link_speed(root: str = "") -> int | None:
    """Give the speed of the link that the default route, or else the fastest interface that is up, goes over."""
    speeds = {}
    for interface in sorted(Path(f"{root}/sys/class/net").glob("*")):
        speed = text_of(interface / "speed")
        if interface.name != "lo" and text_of(interface / "operstate") in ("up", "unknown") and speed.isdigit():
            speeds[interface.name] = int(speed) * 10**6
    speeds = {name: speed for name, speed in speeds.items() if speed > 0}
    for line in text_of(Path(f"{root}/proc/net/route")).splitlines()[1:]:
        parts = line.split()
        if len(parts) > 1 and parts[1] == "00000000" and parts[0] in speeds:
            return speeds[parts[0]]
    return max(speeds.values()) if speeds else None


def runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Read how long the agent's last good runs took, and how much they read: {ITEM: {seconds, bytes}}."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["state"] == "OK":
                found[str(record["item"])] = {"seconds": float(record["seconds"]), "bytes": int(record["bytes"])}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the agent's own tools tell of a broken record
    return found
