# SPDX-License-Identifier: Apache-2.0
"""What a survey reads of a made-up host: processes, sockets, disks, UPSs, links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import survey_host
from ansible_collections.holdfast.practice.plugins.module_utils.survey_walk import Mount

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 1001 1 0 100 0 0 10 0
   1: 00000000:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1002 1 0 100 0 0 10 0
   2: 0100007F:1538 0100007F:D001 01 00000000:00000000 00:00000000 00000000   105        0 1003 1 0 100 0 0 10 0
   3: 00000000:0BEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1004 1 0 100 0 0 10 0
"""
UNIX = """Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 22001 /var/run/postgresql/.s.PGSQL.5432
0000000000000000: 00000002 00000000 00010000 0001 01 22002 /run/systemd/private
0000000000000000: 00000002 00000000 00010000 0001 01 22003 /tmp/.s.PGSQL.5433
"""


def write(root, path, text):
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def process(root, number, name, cwd, sockets=()):
    write(root, f"proc/{number}/comm", f"{name}\n")
    (root / f"proc/{number}/cwd").symlink_to(cwd)
    (root / f"proc/{number}/fd").mkdir()
    for count, inode in enumerate(sockets):
        (root / f"proc/{number}/fd/{count}").symlink_to(f"socket:[{inode}]")


def test_engines_are_found_by_process_and_by_port(tmp_path):
    write(tmp_path, "proc/net/tcp", TCP)
    process(tmp_path, 100, "postgres", "/var/lib/postgresql/17/main", (1001, 1003))
    process(tmp_path, 200, "bash", "/root", (1002,))
    found = {each.engine: each for each in survey_host.running_engines(str(tmp_path))}
    assert found["postgresql"].ports == {5432}
    assert found["postgresql"].folders == {"/var/lib/postgresql/17/main"}
    assert found["mariadb"].ports == {3306}  # nobody's process, but somebody listens (a container)
    assert found["firebird"].ports == {3050}
    assert "sqlserver" not in found


def test_local_sockets_are_read():
    assert survey_host.read_sockets(UNIX) == [("/var/run/postgresql", 5432), ("/tmp", 5433)]


class Server:
    """A PostgreSQL that answers its client; commands are kept."""

    def __init__(self, code=0):
        self.code = code
        self.asked = []

    def __call__(self, command, **options):
        self.asked.append((command, options))
        database, sql = command[command.index("-d") + 1], command[-1]
        if self.code:
            return self.code, "", "no"
        if "pg_database " in sql:
            rows = [
                {"name": "clinic", "bytes": 10_000_000, "written": 280_000, "counted_s": 7 * 86400},
                {"name": "postgres", "bytes": 7_000_000, "written": 0, "counted_s": 86400},
            ]
            return 0, json.dumps(rows), ""
        return 0, json.dumps({"rows": 1_000_000, "tables": 5} if database == "clinic" else {"rows": 0, "tables": 0}), ""


def test_postgresql_is_asked_as_its_own_user_and_reads_only():
    server = Server()
    found, silent = survey_host.postgresql(server, [("/run/postgresql", 5432), ("/tmp", 5432)], "psql")
    assert found == [
        {
            "engine": "postgresql",
            "name": "clinic",
            "path": None,
            "port": 5432,
            "bytes": 10_000_000,
            "changed_bytes_per_day": 400_000,
        }
    ]
    assert silent == []
    for command, options in server.asked:
        assert command[command.index("runuser") :][:4] == ["runuser", "-u", "postgres", "--"]
        assert "default_transaction_read_only=on" in options["environ_update"]["PGOPTIONS"]


def test_a_server_that_does_not_let_in_is_said():
    found, silent = survey_host.postgresql(Server(code=2), [("/run/postgresql", 5432)], "psql")
    assert found == []
    assert "port 5432" in silent[0]


@pytest.mark.parametrize(
    ("row", "rows", "wanted"),
    [
        ({"bytes": 1000, "written": 10, "counted_s": 100 * 86400}, 10, 10),
        ({"bytes": 1000, "written": 4, "counted_s": 60}, 10, 57),  # never counted as less than a week
        ({"bytes": 1000, "written": 10, "counted_s": 60}, 10, None),  # loaded in this time
        ({"bytes": 1000, "written": 10**9, "counted_s": 30 * 86400}, 10, 1000),  # at most all of it
        ({"bytes": 1000, "written": 10, "counted_s": None}, 10, None),
        ({"bytes": 1000, "written": 10, "counted_s": 86400}, 0, None),
    ],
)
def test_change_of_a_database(row, rows, wanted):
    assert survey_host.pg_change(row, rows) == wanted


def test_mariadb_and_sqlserver_by_their_folders(tmp_path):
    write(tmp_path, "var/lib/mysql/clinic@0020db/patient.ibd", "x" * 500)
    write(tmp_path, "var/lib/mysql/mysql/db.MYD", "x")
    write(tmp_path, "var/lib/mysql/#innodb_redo/x", "x")
    (tmp_path / "var/lib/mysql/empty").mkdir()
    engine = survey_host.Engine("mariadb", {3306})
    assert survey_host.engine_databases(engine, str(tmp_path)) == [
        {"engine": "mariadb", "name": "clinic db", "path": None, "port": 3306, "bytes": 500}
    ]
    write(tmp_path, "var/opt/mssql/data/pms.mdf", "x" * 300)
    write(tmp_path, "var/opt/mssql/data/pms_log.ldf", "x" * 50)
    write(tmp_path, "var/opt/mssql/data/master.mdf", "x")
    found = survey_host.engine_databases(survey_host.Engine("sqlserver"), str(tmp_path))
    assert [(each["name"], each["bytes"], each["port"]) for each in found] == [("pms", 350, None)]


def test_a_cluster_without_a_server_is_named(tmp_path):
    write(tmp_path, "var/lib/postgresql/15/main/PG_VERSION", "15")
    write(tmp_path, "var/lib/postgresql/17/main/PG_VERSION", "17")
    running = {"/var/lib/postgresql/17/main"}
    assert survey_host.sleeping_clusters(running, str(tmp_path)) == ["/var/lib/postgresql/15/main"]


def usb(root, name, vendor, product, maker="", text=""):
    folder = f"sys/bus/usb/devices/{name}"
    for key, value in (("idVendor", vendor), ("idProduct", product), ("manufacturer", maker), ("product", text)):
        write(root, f"{folder}/{key}", value + "\n")


def test_ups_are_known_by_their_ids(tmp_path):
    usb(tmp_path, "1-1", "051d", "0002", "American Power Conversion", "Back-UPS ES 700")
    usb(tmp_path, "1-2", "0463", "ffff")
    usb(tmp_path, "1-3", "09ae", "0001")
    usb(tmp_path, "1-4", "03f0", "0024", "HP", "Keyboard")
    usb(tmp_path, "1-5", "03f0", "1f01", "HP", "T500")
    usb(tmp_path, "1-6", "dead", "beef", "Acme", "Line UPS 900")
    usb(tmp_path, "1-7", "1d6b", "0002", "Linux", "xHCI")
    found = survey_host.usb_ups(str(tmp_path))
    assert [(each["product"], each["driver"]) for each in found] == [
        ("Back-UPS ES 700", "usbhid-ups"),
        ("0463:ffff", "usbhid-ups"),
        ("09ae:0001", "tripplite_usb"),
        ("T500", "bcmxcp_usb"),
        ("Line UPS 900", "usbhid-ups"),
    ]
    assert found[1]["vendor"] == "Eaton"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Five disks: the system on a partition through LVM, one of the pool, one mounted, one that is blank, one that is not."""
    numbers = {
        "sda": "8:0",
        "sda1": "8:1",
        "sdb": "8:16",
        "sdc": "8:32",
        "sdd": "8:48",
        "sde": "8:64",
        "loop0": "7:0",
        "dm-0": "253:0",
    }
    for name, number in numbers.items():
        write(tmp_path, f"dev/{name}", "")
        block = tmp_path / "sys/dev/block" / number
        block.mkdir(parents=True)
        (block / "size").write_text("2048\n")
        (block / "dev").write_text(number)
        if name != "sda1":
            (tmp_path / "sys/block" / name).mkdir(parents=True)
    (tmp_path / "sys/dev/block/8:1/partition").write_text("1")
    write(tmp_path, "sys/dev/block/8:0/sda1/dev", "8:1")
    write(tmp_path, "sys/dev/block/253:0/slaves/sda1/dev", "8:1")
    by_id = tmp_path / "dev/disk/by-id"
    by_id.mkdir(parents=True)
    for link, name in (
        ("wwn-0x1", "sda"),
        ("ata-SYSTEM", "sda"),
        ("ata-SYSTEM-part1", "sda1"),
        ("ata-POOL", "sdb"),
        ("usb-BLANK", "sdd"),
    ):
        (by_id / link).symlink_to(f"../../{name}")
    monkeypatch.setattr(survey_host, "device_number", lambda path: numbers.get(Path(path).name, ""))
    return tmp_path


def test_disks_and_what_they_are_used_for(machine):
    mounts = [Mount("/", "ext4", "/dev/dm-0", "253:0"), Mount("/mnt/x", "xfs", "/dev/sdc", "8:32")]

    def probe(device):
        return "TYPE=ntfs" if device.endswith("sde") else ""

    found = survey_host.disks(mounts, ["/dev/disk/by-id/ata-POOL"], probe, str(machine))
    assert {each["device"]: each["used_for"] for each in found} == {
        "/dev/disk/by-id/ata-SYSTEM": "system",
        "/dev/disk/by-id/ata-POOL": "pool",
        "/dev/sdc": "data",
        "/dev/disk/by-id/usb-BLANK": "nothing",
        "/dev/sde": "data",
    }
    assert {each["bytes"] for each in found} == {2048 * 512}


def test_all_disks_of_a_btrfs_are_in_use(machine):
    for name, number in (("sdc", "8:32"), ("sdd", "8:48")):
        write(machine, f"sys/fs/btrfs/abc/devices/{name}/dev", number)
    mounts = [Mount("/srv/data", "btrfs", "/dev/sdc", "0:40")]
    found = survey_host.disks(mounts, [], lambda device: "", str(machine))
    used = {each["device"]: each["used_for"] for each in found}
    assert used["/dev/disk/by-id/usb-BLANK"] == "data"
    assert used["/dev/sdc"] == "data"


def interface(root, name, speed, state="up"):
    write(root, f"sys/class/net/{name}/speed", f"{speed}\n")
    write(root, f"sys/class/net/{name}/operstate", f"{state}\n")


def test_the_link_of_the_default_route_counts(tmp_path):
    interface(tmp_path, "eth0", 1000)
    interface(tmp_path, "eth1", 10000)
    interface(tmp_path, "wlan0", -1)
    interface(tmp_path, "eth2", 40000, "down")
    assert survey_host.link_speed(str(tmp_path)) == 10 * 10**9
    write(tmp_path, "proc/net/route", "Iface\tDestination\tGateway\neth1\t0000A8C0\t0\neth0\t00000000\t0100A8C0\n")
    assert survey_host.link_speed(str(tmp_path)) == 10**9
    assert survey_host.link_speed(str(tmp_path / "nothing")) is None


def test_file_systems_come_once_and_only_local_ones(tmp_path):
    (tmp_path / "srv").mkdir()
    mounts = [
        Mount("/srv", "ext4", "/dev/sdb1", "8:17"),
        Mount("/", "overlay", "overlay", "0:30"),
        Mount("/again", "ext4", "/dev/sdb1", "8:17"),
        Mount("/proc", "proc", "proc", "0:3"),
        Mount("/run/host/incoming", "ext4", "/dev/sdc1", "8:33"),
        Mount("/ro", "ext4", "/dev/sdd1", "8:49", True),
    ]
    found = survey_host.filesystems(mounts, str(tmp_path))
    assert [each["mount"] for each in found] == ["/", "/srv"]
    assert all(each["bytes"] >= each["free"] > 0 for each in found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('PRETTY_NAME="x"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\n', "Debian 13"),
        ("NAME=Ubuntu\nVERSION_ID=24.04\n", "Ubuntu 24.04"),
        ("NAME=Arch\n", "Arch"),
        ("", "Linux"),
    ],
)
def test_the_system_is_named(text, wanted):
    assert survey_host.read_os(text) == wanted


def test_the_zone_is_read(tmp_path):
    write(tmp_path, "etc/timezone", "Europe/Berlin\n")
    assert survey_host.read_zone(str(tmp_path)) == "Europe/Berlin"
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Australia/Perth")
    assert survey_host.read_zone(str(tmp_path)) == "Australia/Perth"
    assert survey_host.read_zone(str(tmp_path / "nothing")) is None


def test_only_good_runs_count(tmp_path):
    good = {"state": "OK", "item": "documents", "seconds": 2.2, "bytes": 100}
    write(tmp_path, "documents.json", json.dumps(good))
    write(tmp_path, "desk.json", json.dumps({**good, "state": "FAILED", "item": "desk"}))
    write(tmp_path, "broken.json", "{")
    write(tmp_path, "odd.json", json.dumps([1]))
    assert survey_host.runs(tmp_path) == {"documents": {"seconds": 2.2, "bytes": 100}}
    assert survey_host.runs(tmp_path / "nothing") == {}


def test_every_ups_driver_is_one_that_a_document_may_name():
    from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import UPS_DRIVERS

    assert {driver for _, products in survey_host.UPS_IDS.values() for driver in products.values()} <= UPS_DRIVERS
