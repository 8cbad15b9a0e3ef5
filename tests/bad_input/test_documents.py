# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  (the tables read across)
"""Every mistake in a practice document is found, named by file, line and key, and said once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, source

GOOD = (Path(__file__).parent / "documents" / "good.txt").read_text("utf-8")


class Bad(NamedTuple):
    """One edit of the good document, and the one error wanted: at the line of `at` (default: the edit), with fragments."""

    old: str
    new: str
    path: str
    fragments: tuple[str, ...]
    at: str = ""


def problems_of(text: str | bytes) -> list[source.Problem]:
    raw = text if isinstance(text, bytes) else text.encode()
    document, problems = source.parse(raw, "practice.yml")
    return check.check(document, problems)[1] if document else problems


TIME = 'expected a time of day as "HH:MM" in quotes'
BAD = {
    # I01 wrong types
    "text for a mapping": Bad("retention: {within: {hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}", 'retention: "many"', "retention", ('got "many" (string)', "expected {within:")),
    "text for a list": Bad("protect: [desk_files]", "protect: desk_files", "hosts.desk1.protect", ('got "desk_files" (string)', "a list of names", "write [desk_files]")),
    "list for a text": Bad("kind: workstation, address: 198.18.0.13", "kind: workstation, address: [198.18.0.13]", "hosts.desk1.address", ("got a list", "write one value")),
    "mapping for a text": Bad('at: "12:30"', "at: {hour: 12}", "protect.desk_files.at", ("got a mapping", TIME)),
    "nothing for a mapping": Bad("copies: {onsite: {on: nas1}}", "copies:", "copies", ("got nothing (null)", "{onsite: {on: NAME_OF_A_NAS}}")),
    "number in a list of names": Bad("[clinical_db, documents]", "[clinical_db, documents, 7]", "hosts.server1.protect[2]", ("got 7 (integer)",)),
    "true is not a text": Bad("name: Harbour Street Medical Centre", "name: true", "practice.name", ("got true (boolean)",)),
    "text for a number": Bad('at: "12:30"', 'at: "12:30", min_files: "3"', "protect.desk_files.min_files", ('got "3" (string)', "a whole number from 1")),
    "zero for a number": Bad('at: "12:30"', 'at: "12:30", min_files: 0', "protect.desk_files.min_files", ("got 0 (integer)", "a whole number from 1")),
    "empty list": Bad("protect: [desk_files]", "protect: []", "hosts.desk1.protect", ("got an empty list",), ),
    "empty text": Bad("name: Robin Example", 'name: "  "', "contacts.backup_owner.name", ("got an empty text",)),
    # I02 misspelt keys
    "misspelt key": Bad("retention:", "retenton:", "retenton", ('unknown key "retenton"', 'did you mean "retention"?')),
    "misspelt required key": Bad("copies:", "copys:", "copys", ('unknown key "copys"', 'did you mean "copies"?')),
    "misspelt key deep inside": Bad("must_have:", "must_hav:", "protect.documents.must_hav", ('did you mean "must_have"?',)),
    "key of another kind of host": Bad("kind: workstation,", "kind: workstation, pool: x,", "hosts.desk1.pool", ("only hosts of kind nas have pool",)),
    "misspelt kind": Bad("kind: workstation", "kind: workstaton", "hosts.desk1.kind", ('got "workstaton" (string)', 'did you mean "workstation"?')),
    "misspelt choice": Bad("class: critical", "class: critcal", "protect.clinical_db.class", ('did you mean "critical"?',)),
    # I03 missing keys
    "missing time zone": Bad(", timezone: Australia/Sydney", "", "practice.timezone", ("missing", "an IANA region zone such as Australia/Perth"), "practice:"),
    "missing kind": Bad("kind: workstation, ", "", "hosts.desk1.kind", ("missing", "nas, server, standby, workstation or restore_host"), "desk1:"),
    "missing contacts": Bad("contacts:\n  backup_owner: {name: Robin Example, role: practice manager, email: manager@harbour-street.example}\n", "", "contacts", ("missing", "backup_owner:"), "practice:"),
    # I04 base 60
    "unquoted time": Bad('at: "21:00"', "at: 22:00", "protect.documents.at", ("got 1320 (integer)", TIME, "YAML reads 22:00 as a base-60 number", 'write "22:00" in quotes')),
    "unquoted time out of range": Bad('at: "21:00"', "at: 25:00", "protect.documents.at", ("got 1500 (integer)", "base-60", TIME)),
    "unquoted time with seconds": Bad('at: "21:00"', "at: 21:00:30.5", "protect.documents.at", ("base-60", TIME)),
    "base 60 for a number": Bad('at: "12:30"', 'at: "12:30", min_files: 1:30', "protect.desk_files.min_files", ("got 90 (integer)", "YAML reads 1:30 as a base-60 number", "a whole number")),
    # I06 booleans
    "Norway": Bad("country: AU", "country: NO", "practice.country", ("got false (boolean)", "YAML reads NO as a boolean", 'write "NO" in quotes')),
    "yes": Bad("role: practice manager", "role: yes", "contacts.backup_owner.role", ("got true (boolean)", 'write "yes" in quotes')),
    "off in a list": Bad("[desk_files]", "[desk_files, off]", "hosts.desk1.protect[1]", ("got false (boolean)", "YAML reads off as a boolean")),
    # I07 octal and friends
    "octal": Bad('at: "12:30"', 'at: "12:30", min_files: 0750', "protect.desk_files.min_files", ("got 488 (integer)", "YAML reads 0750 as an octal number")),
    "octal in the new way": Bad('at: "12:30"', 'at: "12:30", min_files: 0o750', "protect.desk_files.min_files", ('got "0o750" (string)',)),
    "hexadecimal": Bad("name: clinic}", "name: 0x10}", "protect.clinical_db.database.name", ("got 16 (integer)", "hexadecimal", 'write "0x10" in quotes')),
    "underscores in a number": Bad('at: "12:30"', 'at: "12:30", min_files: 1_000', "protect.desk_files.min_files", ("YAML reads 1_000 as a number",)),
    # I08 versions
    "number with a fraction": Bad("name: clinic}", "name: 1.10}", "protect.clinical_db.database.name", ("got 1.1 (number)", 'write "1.10" in quotes')),
    # I10 duplicate keys
    "duplicate host": Bad("  desk1: {kind", "  server1: {kind", "hosts.server1", ('duplicate key "server1" at lines 9 and 10',)),
    "duplicate key in one line": Bad('at: "12:30"', 'at: "12:30", at: "13:00"', "protect.desk_files.at", ('duplicate key "at"',)),
    # I13 dates
    "date": Bad('at: "21:00"', "at: 2026-11-21", "protect.documents.at", ("got 2026-11-21 (date)", "YAML reads 2026-11-21 as a date")),
    # templates
    "template in quotes": Bad("address: 198.18.0.13", 'address: "{{ desk }}"', "hosts.desk1.address", ("got a template", "not templated")),
    "template without quotes": Bad("address: 198.18.0.13", "address: {{ desk }}", "hosts.desk1.address", ("got a template", "not templated")),
    "template that begins a host": Bad("desk1: {kind: workstation, address: 198.18.0.13, protect: [desk_files]}", "desk1: {{ desk }}", "hosts.desk1", ("got a template",)),
    "template statement": Bad("name: Robin Example", 'name: "{% raw %}"', "contacts.backup_owner.name", ("got a template",)),
    "template in a key": Bad("  desk1: ", '  "{{ x }}": ', 'hosts."{{ x }}"', ("got a template as a key",)),
    # I15 times
    **{
        f"time {value}": Bad('at: "21:00"', f"at: {value}", "protect.documents.at", (TIME,))
        for value in ('"25:00"', '"24:00"', '"-1:00"', "8pm", '"9:00"', '"21:60"', '"21:00 "', "2100")
    },
    # I16 windows
    "empty window": Bad('sat: "09:00-12:00"', 'sat: "09:00-09:00"', "hours.sat", ("is empty",)),
    "window backwards": Bad('sat: "09:00-12:00"', 'sat: "12:00-09:00"', "hours.sat", ("ends before it begins",)),
    "unknown day": Bad("sat: ", "samstag: ", "hours.samstag", ("a day (mon tue",)),
    # I19 time zones
    "fixed offset": Bad("Australia/Sydney", "EST", "practice.timezone", ('got "EST"', "an IANA region zone", "fixed offset")),
    "offset": Bad("Australia/Sydney", "GMT+10", "practice.timezone", ("an IANA region zone",)),
    "misspelt zone": Bad("Australia/Sydney", "Australia/Sidney", "practice.timezone", ('did you mean "Australia/Sydney"?',)),
    "city alone": Bad("Australia/Sydney", "Sydney", "practice.timezone", ('did you mean "Australia/Sydney"?',)),
    "zone that is a path": Bad("Australia/Sydney", "Australia/../../etc/passwd", "practice.timezone", ("an IANA region zone",)),
    # I22 retention
    "one restore point": Bad("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{daily: 1d}", "retention.within", ("keeps 1 restore point;", "at least 2"), ),
    "no restore point": Bad("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{}", "retention.within", ("keeps 0 restore points",)),
    "short memory": Bad("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{daily: 14d}", "retention.within", ("reaches back 14 days", "at least 30 days")),
    # durations
    **{
        f"duration {value}": Bad("rto: 4h", f"rto: {value}", "objectives.rto", ("a time such as 4h",))
        for value in ("0h", "-4h", "4", "4 h", "4hours", "1.5h", ".inf", "1e3", "1h30m")
    },
    # I27 engines
    "unknown engine": Bad("engine: postgresql", "engine: postgress", "protect.clinical_db.database.engine", ('got "postgress" (string)', "an unknown engine", "postgresql", 'did you mean "postgresql"?')),
    "unknown engine without a neighbour": Bad("engine: postgresql", "engine: access", "protect.clinical_db.database.engine", ("an unknown engine", "a supported engine (postgresql, mariadb, sqlite, firebird, sqlserver, command, pickup)")),
    "misspelt engine of later": Bad("engine: postgresql", "engine: mysql8", "protect.clinical_db.database.engine", ('did you mean "mariadb"?',)),
    # I28
    "two items with one database": Bad("  documents: {paths: [/srv/clinic/documents], must_have: [/srv/clinic/documents/letters], at: \"21:00\"}", "  documents: {database: {engine: postgresql, name: clinic}}", "hosts.server1.protect[1]", ("the same database as clinical_db",), "server1:"),
    # I30 secrets
    "password": Bad("user: root,", "user: root, password: hunter2hunter2,", "access.password", ("plain-text secret (hidden)", "vault.yml")),
    "token in a host": Bad("kind: workstation,", "kind: workstation, api_token: [hunter2],", "hosts.desk1.api_token", ("plain-text secret (hidden)",)),
    "vaulted value": Bad("user: root,", "user: !vault xyz,", "access.user", ("got a tag (!vault)", "vault.yml")),
    "private key": Bad("key: ssh_key", 'key: "-----BEGIN OPENSSH PRIVATE KEY-----"', "access.key", ("private key (hidden)",)),
    # reserved
    "key of Ansible": Bad("kind: workstation,", "kind: workstation, ansible_user: bob,", "hosts.desk1.ansible_user", ("is reserved",)),
    "host named like a group": Bad("on: localhost}", "on: localhost}\n  nas: {kind: server, address: 198.18.0.20, protect: [documents]}", "hosts.nas", ('the name "nas" is reserved',), "  nas:"),
    # I35 paths
    "relative path": Bad("[/srv/clinic/documents]", "[srv/clinic/documents]", "protect.documents.paths[0]", ("expected an absolute path",)),
    "path upwards": Bad("[/home/reception/Documents]", "[/home/../etc]", "protect.desk_files.paths[0]", ("which goes through ..",)),
    "whole machine": Bad("[/home/reception/Documents]", "[/]", "protect.desk_files.paths[0]", ("the whole machine",)),
    "kernel's files": Bad("[/home/reception/Documents]", "[/proc/1]", "protect.desk_files.paths[0]", ("kernel's view",)),
    "the backups themselves": Bad("[/home/reception/Documents]", "[/srv/holdfast/repositories]", "protect.desk_files.paths[0]", ("keeps the backups",)),
    "Windows path on Linux": Bad("[/home/reception/Documents]", r"['C:\Users\Data']", "hosts.desk1.protect[0]", ("desk_files has the path", "desk1 has os: linux"), "desk1:"),
    "whole drive": Bad("[/home/reception/Documents]", r"['C:\']", "protect.desk_files.paths[0]", ("the whole drive",)),
    "the same path twice": Bad("[/home/reception/Documents]", "[/srv/x, /srv/x]", "protect.desk_files.paths", ("is listed twice",)),
    "key file outside": Bad("key: ssh_key", "key: /root/.ssh/id", "access.key", ("in the practice's folder",)),
    "must-have elsewhere": Bad("must_have: [/srv/clinic/documents/letters]", "must_have: [/srv/clinic/documents2]", "protect.documents.must_have[0]", ("at or below one of paths",)),
    "canary elsewhere": Bad('at: "12:30"', 'at: "12:30", tripwires: {canaries: [/srv/x.pdf]}', "protect.desk_files.tripwires.canaries[0]", ("a path below one of paths",)),
    "canary that is the folder": Bad("[/home/reception/Documents]", "[/home/reception/x.pdf], tripwires: {canaries: [/home/reception/x.pdf]}", "protect.desk_files.tripwires.canaries[0]", ("a path below one of paths",)),
    "canary that is no PDF": Bad('at: "12:30"', 'at: "12:30", tripwires: {canaries: [/home/reception/Documents/x.docx]}', "protect.desk_files.tripwires.canaries[0]", ("let it end in .pdf",)),
    "canary that is hidden": Bad('at: "12:30"', 'at: "12:30", exclude: ["*.pdf"], tripwires: {canaries: [/home/reception/Documents/x.pdf]}', "protect.desk_files.tripwires.canaries[0]", ('the pattern "*.pdf" of exclude hides', "give it another name")),
    "unknown wire": Bad('at: "12:30"', 'at: "12:30", tripwires: {disable: [magick]}', "protect.desk_files.tripwires.disable[0]", ('did you mean "magic"?',)),
    "wire off by a word": Bad('at: "12:30"', 'at: "12:30", tripwires: {magic: off}', "protect.desk_files.tripwires.magic", ("got false (boolean)", "a percentage, 1 to 100")),
    "more than everything": Bad('at: "12:30"', 'at: "12:30", tripwires: {change: 101}', "protect.desk_files.tripwires.change", ("got 101 (integer)", "a percentage, 1 to 100")),
    "none at all": Bad('at: "12:30"', 'at: "12:30", tripwires: {least: 0}', "protect.desk_files.tripwires.least", ("a whole number from 1",)),
    "tripwires without files": Bad('images: {query: "select path from image", root: /srv/clinic/images}', "tripwires: {least: 5}", "protect.clinical_db.tripwires", ("tripwires without paths or images",)),
    # I37, I43, I44 names
    **{
        f"host name {name}": Bad("  desk1: ", f"  {name}: ", f"hosts.{shown}", ("1-63 characters a-z 0-9 -",))
        for name, shown in (
            ('"srv1; reboot"', '"srv1; reboot"'),
            ('"$(id)"', "$(id)"),
            ('"`id`"', "`id`"),
            ('"-rf"', "-rf"),
            ("DESK1", "DESK1"),
            ("desk_1", "desk_1"),
            ('"a/b"', "a/b"),
            ("müller", "müller"),
            ("a" * 64, "a" * 64),
        )
    },
    "practice id": Bad("id: harbour-street", "id: Harbour Street", "practice.id", ("1-63 characters", "write harbour-street")),
    "very long practice name": Bad("Harbour Street Medical Centre", "H" * 256, "practice.name", ("a text of 256 characters", "at most 255")),
    "country in small letters": Bad("country: AU", "country: au", "practice.country", ('write "AU"',)),
    # I45 and I46, I48, I50: power
    "no UPS primary": Bad("attached_to: nas1, ", "", "power.ups1.attached_to", ("missing", "the primary"), "ups1:"),
    "two UPS primaries": Bad("attached_to: nas1", "attached_to: [nas1, server1]", "power.ups1.attached_to", ("got a list", "the primary")),
    "UPS on an unknown host": Bad("attached_to: nas1", "attached_to: nas2", "power.ups1.attached_to", ('got "nas2"', 'did you mean "nas1"?')),
    "UPS on a restore host": Bad("attached_to: nas1", "attached_to: proof1", "power.ups1.attached_to", ('got "proof1"',)),
    "UPS that does not feed its primary": Bad("feeds: [nas1, server1", "feeds: [server1", "power.ups1.attached_to", ("ups1 does not feed", "add nas1 to feeds")),
    "UPS feeds an unknown host": Bad("[nas1, server1, desk1]", "[nas1, server1, desk2]", "power.ups1.feeds[2]", ('got "desk2"', 'did you mean "desk1"?')),
    "UPS too small": Bad("runtime: 10m", "runtime: 3m", "power.ups1.runtime", ("180 s, 230 s too few", "slowest secondary 180 (server1) + HOSTSYNC 15 + primary 180 (nas1) + FINALDELAY 5 + late hook 30 = 410 s")),
    "UPS driver": Bad("driver: usbhid-ups", "driver: usbhidups", "power.ups1.driver", ('did you mean "usbhid-ups"?',)),
    "network UPS without address": Bad("driver: usbhid-ups", "driver: snmp-ups", "power.ups1.port", ("missing", "network address"), "ups1:"),
    # I56 sizes
    **{
        f"size {value}": Bad("protect: [desk_files]", f"protect: [desk_files], quota: {value}", "hosts.desk1.quota", ("a size with its unit", *fix))
        for value, fix in (("-5G", ()), ("0", ()), ("500", ()), ("1TB", ('write "1TiB"',)), (".inf", ()), ("1e3", ()))
    },
    # I58 pools
    "raid1 with one disk": Bad("[/dev/disk/by-id/a, /dev/disk/by-id/b]", "[/dev/disk/by-id/a]", "hosts.nas1.pool.devices", ("got 1 device", "at least 2 different devices")),
    "raid1 with one disk twice": Bad("[/dev/disk/by-id/a, /dev/disk/by-id/b]", "[/dev/disk/by-id/a, /dev/disk/by-id/a]", "hosts.nas1.pool.devices", ('"/dev/disk/by-id/a" is listed twice',)),
    "single with two disks": Bad("profile: raid1", "profile: single", "hosts.nas1.pool.devices", ("one device for single",)),
    "another profile": Bad("profile: raid1", "profile: raid5", "hosts.nas1.pool.profile", ("not available in this version",)),
    "a name that moves": Bad("/dev/disk/by-id/b", "/dev/vdc", "hosts.nas1.pool.devices[1]", ("may be another disk's",)),
    "not a disk": Bad("/dev/disk/by-id/b", "vdc", "hosts.nas1.pool.devices[1]", ("/dev/disk/by-id",)),
    # I60, I61 addresses
    **{
        f"address {value}": Bad("address: 198.18.0.13", f"address: {value}", "hosts.desk1.address", fragments)
        for value, fragments in (
            ("010.0.0.5", ("is not an IP address", "leading zeros")),
            ("10.0.0.256", ("is not an IP address",)),
            ("10.0.0.5/24", ("one address, not a network", 'write "10.0.0.5"')),
            ('"[2001:db8::1]:8000"', ("without brackets",)),
            ('"fe80::1"', ("fe80::1%INTERFACE",)),
            ('"2001:db8::g"', ("is not an IP address",)),
            ("0.0.0.0", ("not the address of a host",)),
            ("host_one", ("an IPv4 or IPv6 address or a host name",)),
            ("198.18.0.12", ("the address of server1",)),
            ("server1:22", ("an IPv4 or IPv6 address or a host name",)),
        )
    },
    "mail address": Bad("manager@harbour-street.example", "manager", "contacts.backup_owner.email", ("a mail address",)),
    # I66 host without work, item without host, unknown names
    "host without work": Bad("on: localhost}", "on: localhost}\n  desk2: {kind: workstation, address: 198.18.0.14}", "hosts.desk2", ("nothing is to be done",), "desk2:"),
    "nas without copies": Bad("on: localhost}", "on: localhost}\n  nas2: {kind: nas, address: 198.18.0.14, pool: {profile: single, devices: [/dev/disk/by-id/a]}}", "hosts.nas2", ("no copy goes to this nas",), "nas2:"),
    "unknown item": Bad("[clinical_db, documents]", "[clinical_dp, documents]", "hosts.server1.protect[0]", ('got "clinical_dp"', 'did you mean "clinical_db"?')),
    "item without host": Bad("[clinical_db, documents]", "[clinical_db]", "protect.documents", ("no host protects it",), "documents: {paths"),
    "unknown item to prove": Bad("desk_files: weekly", "desk_file: weekly", "prove.desk_file", ('unknown item "desk_file"', 'did you mean "desk_files"?')),
    "copies to a server": Bad("{on: nas1}", "{on: server1}", "copies.onsite.on", ("which is a server", "write nas1")),
    "copies to nowhere": Bad("{on: nas1}", "{on: nas9}", "copies.onsite.on", ('got "nas9"', 'did you mean "nas1"?')),
    "no restore host": Bad("  proof1: {kind: restore_host, driver: nspawn, on: localhost}\n", "", "hosts", ("no host of kind restore_host",), "hosts:"),
    "two schedules": Bad('at: "12:30"', 'at: "12:30", every: 4h', "protect.desk_files.at", ("both every and at",)),
    "two kinds of content": Bad("{paths: [/home/reception/Documents]", "{paths: [/home/reception/Documents], database: {engine: postgresql, name: x}", "protect.desk_files", ("both database and paths",)),
    "no content": Bad('{paths: [/home/reception/Documents], at: "12:30"}', '{at: "12:30"}', "protect.desk_files", ("neither database nor paths",)),
    "image list without database": Bad('at: "12:30"', 'at: "12:30", probes: {newest: select 1}', "protect.desk_files.probes", ("probes without a database",)),
    "two statements": Bad('"select path from image"', '"select 1; drop table image"', "protect.clinical_db.images.query", ("more than one statement",)),
    "not a select": Bad('"select path from image"', '"delete from image"', "protect.clinical_db.images.query", ("one select statement",)),
    "interval that does not fit a day": Bad("every: 4h", "every: 5h", "protect.clinical_db.every", ("1h, 2h, 3h, 4h, 6h, 8h, 12h or 24h",)),
    "run longer than the interval": Bad("every: 4h", "every: 4h\n    time_limit: 5h", "protect.clinical_db.time_limit", ("at most the time between two backups",), "time_limit"),
    "time at which clocks change": Bad('at: "21:00"', 'at: "02:30"', "protect.documents.at", ("outside 01:00-03:59",)),
    # I69 excludes
    "exclude of everything": Bad('at: "12:30"', 'at: "12:30", exclude: ["*"]', "protect.desk_files.exclude[0]", ('the pattern "*" hides "/home/reception/Documents"',)),
    "exclude of a must-have": Bad('at: "21:00"', 'at: "21:00", exclude: ["*.tmp", "lett*"]', "protect.documents.exclude[1]", ('hides the must-have "/srv/clinic/documents/letters"',)),
    # I70 restore host
    "restore host in use": Bad("on: localhost", "on: server1", "hosts.proof1.on", ("which is also a server",)),
    "restore host at no address": Bad("on: localhost", "on: 198.18.0.300", "hosts.proof1.on", ("is not an IP address",)),
    "spare machine that is the control node": Bad("driver: nspawn", "driver: spare", "hosts.proof1.on", ("which is no spare machine", "may be erased")),
    "spare machine that is in use": Bad("driver: nspawn, on: localhost", "driver: spare, on: 198.18.0.12", "hosts.proof1.on", ("which is also server1, a server",)),
    "port of the control node": Bad("on: localhost", "on: localhost, ssh_port: 2222", "hosts.proof1.ssh_port", ("got 2222, for localhost",)),
    "store of another kind": Bad("on: localhost", "on: localhost, store: disk", "hosts.proof1.store", ("encrypted (on the disk",)),
    "driver that is no role": Bad("driver: nspawn", "driver: acme.vm", "hosts.proof1.driver", ("the full name of a role",)),
    "restore host of two kinds": Bad("kind: restore_host", "kind: [restore_host, server]", "hosts.proof1.kind", ("got a list", "nas, server, standby, workstation or restore_host")),
    "second restore host": Bad("on: localhost}", "on: localhost}\n  proof2: {kind: restore_host}", "hosts.proof2", ("not available in this version",), "proof2:"),
    # parts of later versions
    **{
        f"part of a later version: {name}": Bad("{onsite: {on: nas1}}", f"{{onsite: {{on: nas1}}, {name}: {content}}}", f"copies.{name}", ("not available in this version",))
        for name, content in (
            ("offsite", '{rest: {url: "https://[2001:db8::1]:8000/x"}, country: AU}'),
            ("removable", '{on: nas1, disks: {red: {uuid: "4fd6c6a8-0b39-4e0c-b9c0-5d2f5e4c7c11"}, blue: {uuid: "1A2B-3C4D"}}}'),
            ("archive", "{on: nas1}"),
        )
    },
    "driver of a later version": Bad("driver: nspawn", "driver: vm", "hosts.proof1.driver", ('"vm" is not available in this version',)),
    # YAML that a practice document does not need
    "anchor": Bad("address: 198.18.0.13", "address: &a 198.18.0.13", "", ("got an anchor (&)",)),
    "merge key": Bad("kind: workstation,", "<<: x, kind: workstation,", "hosts.desk1.<<", ("merge key",)),
    "tag": Bad("address: 198.18.0.13", "address: !!python/name:os.system x", "hosts.desk1.address", ("got a tag",)),
    # I14 what editors leave behind
    "curly quotes": Bad("name: Robin Example", "name: \u201cRobin Example\u201d", "contacts.backup_owner.name", ("curly quotes", 'write "Robin Example"')),
    "curly quotes around a key": Bad("  desk1:", "  \u201cdesk1\u201d:", "hosts.\u201cdesk1\u201d", ("curly quotes",)),
    "no-break space": Bad("  desk1:", "  \u00a0desk1:", r'hosts."\u00a0desk1"', ("invisible character",)),
    "tab for indentation": Bad("  desk1:", "\tdesk1:", "", ("tab character in the indentation", "two spaces")),
    "tab after a colon": Bad("  documents: {paths", "  documents:\t{paths", "", ("tab character",)),
    "second document": Bad("protect:\n", "---\nprotect:\n", "", ("second document",), "---"),
    "percent sign": Bad("name: Robin Example", "name: %x", "", ("begins with %", "quotes")),
    "at sign": Bad("name: Robin Example", "name: @x", "", ("begins with @", "quotes")),
    "second colon": Bad("  documents: {paths", "  x: a: b\n  documents: {paths", "", ('second ": "',), "x: a: b"),
    "control character": Bad("Robin Example", "Robin\x07", "", ("control character (U+0007)",)),
}  # fmt: skip


def edited(case: Bad) -> tuple[str, int]:
    assert GOOD.count(case.old) >= 1, "the edit must hit"
    where = GOOD.index(case.old)
    text = GOOD[:where] + case.new + GOOD[where + len(case.old) :]
    line = text.index(case.at) if case.at else where
    return text, text.count("\n", 0, line) + 1


def test_the_good_document_is_good():
    assert problems_of(GOOD) == []


@pytest.mark.parametrize("name", BAD)
def test_one_mistake_gives_one_error_at_its_place(name):
    case = BAD[name]
    text, line = edited(case)
    said = [str(problem) for problem in problems_of(text)]
    assert len(said) == 1, said
    assert said[0].startswith(f"practice.yml:{line}: {case.path}: " if case.path else f"practice.yml:{line}: "), said[0]
    for fragment in case.fragments:
        assert fragment in said[0]
    assert "\n" not in said[0]
    assert "hunter2" not in said[0]


def test_all_mistakes_of_a_document_are_said_at_once():
    edits = [
        ("retention:", "retenton:"),
        ('at: "21:00"', "at: 22:00"),
        ("engine: postgresql", "engine: postgress"),
        ("attached_to: nas1, ", ""),
        ("address: 198.18.0.13", 'address: "{{ desk }}"'),
        ("country: AU", "country: NO"),
        ("[/dev/disk/by-id/a, /dev/disk/by-id/b]", "[/dev/disk/by-id/a]"),
        ("[clinical_db, documents]", "[clinical_dp, documents]"),
    ]
    text = GOOD
    for old, new in edits:
        text = text.replace(old, new, 1)
    problems = problems_of(text)
    assert len(problems) == len(edits), "\n".join(map(str, problems))
    assert problems == sorted(problems)
    assert all(re.match(r"practice\.yml:[1-9][0-9]*: \S", str(problem)) for problem in problems)


@pytest.mark.parametrize(
    ("rpo", "paths"),
    [
        ("4h", {"protect.documents.at", "protect.desk_files.at"}),
        ("1h", {"protect.clinical_db.every", "protect.documents.at", "protect.desk_files.at"}),
    ],
)
def test_an_objective_that_the_schedules_cannot_meet_is_refused_for_each_item(rpo, paths):
    problems = problems_of(GOOD.replace("rpo: 24h", f"rpo: {rpo}"))
    assert {problem.path for problem in problems} == paths
    assert all(f"cannot meet objectives.rpo {rpo}" in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("raw", "line", "fragment"),
    [
        (b"", 1, "the document is empty"),
        (b"# nothing\n---\n", 1, "the document is empty"),
        (b"- a\n- b\n", 1, "got a list"),
        (b"hello\n", 1, 'got "hello" (string)'),
        ("practice: {}\n".encode("utf-16"), 1, "UTF-16"),
        (b"practice:\n  name: M\xfcller\n", 2, "not UTF-8 text"),
        (b"practice:\n  name: 'unfinished\n", 2, "cannot be read"),
        (b"a: " + b"[" * 5000, 1, "nesting"),
        (b"a: &x [1]\nb: *x\n", 1, "anchor"),
        (b"? [a, b]\n: c\n", 1, "a list as a key"),
        (b'a: "C:\\Users"\n', 1, "backslash"),
    ],
)  # fmt: skip
def test_what_is_no_document_at_all_is_named(raw, line, fragment):
    problems = problems_of(raw)
    found = [problem for problem in problems if fragment in str(problem)]
    assert found, problems
    assert found[0].line == line


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"---\n" + raw,
        lambda raw: raw + b"...\n",
    ],
)
def test_marks_of_other_editors_are_accepted(change):
    assert problems_of(change(GOOD.encode())) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[/home/reception/Documents]", r"""['/srv/Users/Dr "Bob" Müller/Röntgen 2026']"""),
        ("[/home/reception/Documents]", r"""["/srv/it's/$(x)/%h/a;b"]"""),
        ("name: Robin Example", "name: Dr Rób O\u2019Brien \u201cBob\u201d 山田"),
        ("address: 198.18.0.13", "address: 2001:db8::13"),
        ("address: 198.18.0.13", 'address: "fe80::13%eth0"'),
        ("address: 198.18.0.13", "address: desk1.harbour-street.example"),
        ("address: 198.18.0.11", "address: 2001:db8::11"),
        ("Australia/Sydney", "America/Argentina/Buenos_Aires"),
        ("protect: [desk_files]", 'protect: [desk_files], quota: "200GiB"'),
        ('at: "12:30"', 'exclude: ["*.tmp", /home/reception/Documents/cache], min_files: 3'),
        ("protect: [clinical_db, documents]", "protect: [clinical_db, documents, desk_files]"),
        ("driver: usbhid-ups", 'driver: snmp-ups, port: 198.18.0.30, settings: {snmp_version: "v1"}'),
        ("retention: {within: {hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}\n", ""),
        ("prove: {clinical_db: daily, documents: weekly, desk_files: weekly}\n", ""),
        ("objectives: {rpo: 24h, rto: 4h}\n", ""),
        ("Australia/Sydney}", "Australia/Perth}"),
    ],
)
def test_good_values_are_accepted(old, new):
    assert old in GOOD
    assert [str(problem) for problem in problems_of(GOOD.replace(old, new, 1))] == []


def test_a_zone_without_summer_time_allows_every_hour():
    assert problems_of(GOOD.replace("Australia/Sydney", "Australia/Perth").replace('"21:00"', '"02:30"')) == []


def lines_of_good() -> list[int]:
    return list(range(len(GOOD.splitlines())))


@pytest.mark.parametrize("number", lines_of_good())
@pytest.mark.parametrize("junk", ["{{", "}", "key: [", "  : x", '"', "- x", "\t", "a: 22:00", "*", "!!"])
def test_any_damaged_line_is_refused_with_file_and_line_and_never_crashes(number, junk):
    lines = GOOD.splitlines()
    lines.insert(number, junk)
    problems = problems_of("\n".join(lines) + "\n")
    if junk == "\t" and not problems:  # a line of blanks only
        return
    assert problems
    assert all(re.match(r"practice\.yml:[1-9][0-9]*: \S", str(problem)) for problem in problems)
