# SPDX-License-Identifier: Apache-2.0
"""A survey's walk over made-up folders: finds stores where they begin, measures what is protected, names no patient."""

from __future__ import annotations

import os
import sqlite3

import pytest
from ansible_collections.holdfast.practice.plugins.module_utils import survey_walk
from ansible_collections.holdfast.practice.plugins.module_utils.survey_walk import Mount, Walk, Wanted

NOW = 1_795_000_000.0
OLD = NOW - 30 * 86400
PATIENT = "Mustermann Erika 1961"


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


class Host:
    """A made-up host below a folder."""

    def __init__(self, root):
        self.root = root

    def put(self, path, data=b"x" * 100, new=False):
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        os.utime(place, (OLD, NOW - 3600 if new else OLD))

    def many(self, folder, count, suffix, **options):
        for number in range(count):
            self.put(f"{folder}/{number}{suffix}", **options)

    def sqlite(self, path, rows=10):
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(place) as database:
            database.execute("create table t (a)")
            database.executemany("insert into t values (?)", [("x" * 50,)] * rows)
        database.close()
        os.utime(place, (OLD, OLD))
        return place.stat().st_size

    def walk(self, *wanted, mounts=(), **options):
        return Walk(list(wanted), list(mounts), NOW, root=str(self.root), **options).run()


def stores(found):
    return {(each["kind"], each["path"]): each["files"] for each in found.stores if each["item"] is None}


DICOM = b"\0" * 128 + b"DICM" + b"\0" * 100


def test_it_finds_all_kinds_where_they_begin(host):
    host.many(f"/srv/letters/{PATIENT}", 12, ".pdf")
    host.many("/srv/letters/B", 5, ".docx")
    host.many(f"/srv/pacs/{PATIENT}/2024", 4, "", data=DICOM)
    host.many("/home/reception/Tables", 1, ".xlsx")
    host.many("/home/reception/Maildir/cur", 3, ",S=1")
    host.many("/home/reception/Maildir/.Sent/cur", 2, "")
    for folder in ("new", "tmp", ".Sent/new", ".Sent/tmp"):
        (host.root / "home/reception/Maildir" / folder).mkdir(parents=True)
    host.put("/home/reception/.thunderbird/abc.default/Mail/Local Folders/Inbox")
    host.put("/var/mail/reception")
    host.put("/var/mail/root")
    host.put("/opt/vendor/data.dat")
    os.truncate(host.root / "opt/vendor/data.dat", survey_walk.LEAST_FILES_BYTES)
    found = host.walk()
    assert stores(found) == {
        ("documents", "/srv/letters"): 17,
        ("images", "/srv/pacs"): 4,
        ("spreadsheets", "/home/reception/Tables"): 1,
        ("mail", "/home/reception/Maildir"): 5,
        ("mail", "/home/reception/.thunderbird"): 1,
        ("mail", "/var/mail"): 1,
        ("files", "/opt/vendor"): 1,
    }
    assert next(each for each in found.stores if each["kind"] == "images")["dicom"] is True
    assert not found.stopped
    assert PATIENT not in repr(found)


def test_an_application_folder_is_taken_apart(host):
    host.many(f"/srv/clinic/documents/{PATIENT}", 12, ".pdf")
    host.many(f"/srv/clinic/images/{PATIENT}", 5, ".dcm")
    found = host.walk()
    assert stores(found) == {("documents", "/srv/clinic/documents"): 12, ("images", "/srv/clinic/images"): 5}
    assert PATIENT not in repr(found)


def test_patients_with_different_kinds_are_not_parts_of_an_application(host):
    for number in range(20):
        host.many(f"/srv/files/Patient {number}", 2, ".pdf" if number % 2 else ".jpg")
    found = host.walk()
    assert stores(found) == {("documents", "/srv/files"): 20, ("images", "/srv/files"): 20}
    assert "Patient" not in repr(found)


def test_what_is_protected_is_measured_and_not_listed(host):
    host.many("/srv/clinic/documents/letters", 20, ".pdf")
    host.many("/srv/clinic/documents/new", 7, ".pdf", new=True)
    host.many("/srv/clinic/documents/scratch", 7, ".tmp")
    host.many("/srv/clinic/exports", 4, ".xlsx")
    found = host.walk(Wanted("documents", ("/srv/clinic/documents", "/srv/gone"), ("*.tmp",)))
    assert stores(found) == {("spreadsheets", "/srv/clinic/exports"): 4}
    assert found.items == {
        "documents": {"files": 27, "bytes": 2700, "changed_bytes_per_day": 100, "missing": ["/srv/gone"]}
    }
    assert [each for each in found.stores if each["item"]] == [
        {
            "kind": "documents",
            "path": "/srv/clinic/documents",
            "files": 27,
            "bytes": 2700,
            "changed_bytes_per_day": 100,
            "item": "documents",
        }
    ]


def test_the_rest_of_a_partly_protected_store_is_listed(host):
    host.many("/srv/docs/letters", 20, ".pdf")
    host.many("/srv/docs/results", 11, ".pdf")
    found = host.walk(Wanted("letters", ("/srv/docs/letters",)))
    assert stores(found) == {("documents", "/srv/docs/results"): 11}


def test_databases_that_are_files_are_found_by_their_head(host):
    size = host.sqlite("/opt/pms/data/pms.db")
    host.sqlite("/opt/pms/data/no-suffix")
    firebird = bytes([1]) + b"\0" * 15 + b"\x00\x10" + b"\x0c\x80" + b"\0" * 4076
    host.put("/opt/pms/data/old.fdb", data=firebird)
    host.put("/var/lib/firebird/4.0/system/security4.fdb", data=firebird)  # the server's own
    host.put("/opt/pms/data/fake.db", data=b"\0" * 4096)
    host.sqlite("/home/reception/.config/app/state.db")
    host.sqlite("/home/reception/.mozilla/firefox/places.sqlite")
    host.sqlite("/var/lib/fwupd/pending.db")
    found = host.walk()
    listed = {each["path"]: (each["engine"], each["bytes"]) for each in found.databases}
    assert listed["/opt/pms/data/pms.db"] == ("sqlite", size)
    assert set(listed) == {"/opt/pms/data/pms.db", "/opt/pms/data/no-suffix", "/opt/pms/data/old.fdb"}
    assert listed["/opt/pms/data/old.fdb"][0] == "firebird"


def test_many_databases_in_a_folder_are_not_named(host):
    for number in range(9):
        host.sqlite(f"/opt/pms/patients/{PATIENT} {number}.db")
    found = host.walk()
    assert [(each["folder"], each["count"], each["path"]) for each in found.databases] == [("/opt/pms", 9, None)]
    assert PATIENT not in repr(found)


def test_few_files_and_system_folders_are_no_store(host):
    host.many("/srv/app", 9, ".pdf")
    host.many("/usr/share/doc/x", 50, ".pdf")
    host.many("/var/cache/x", 50, ".pdf")
    host.many("/home/u/.cache/x", 50, ".pdf")
    host.many("/srv/app/node_modules/x", 50, ".pdf")
    host.many("/srv/holdfast/x", 50, ".pdf")
    host.many("/srv/lists", 2, ".csv")
    assert stores(host.walk()) == {}


@pytest.mark.parametrize(
    ("mount", "listed"),
    [
        (Mount("/srv/share", "nfs4", "filer:/x", "0:50"), False),
        (Mount("/srv/share", "tmpfs", "tmpfs", "0:51"), False),
        (Mount("/srv/share", "ext4", "/dev/sdb1", "8:17", read_only=True), False),
        (Mount("/srv/share", "ext4", "/dev/sdb1", "8:17"), True),
    ],
)
def test_only_the_hosts_own_file_systems_are_walked(host, mount, listed):
    host.many("/srv/share/a", 20, ".pdf")
    found = host.walk(mounts=[mount])
    assert bool(stores(found)) is listed
    assert found.elsewhere == (["/srv/share (nfs4 from filer:/x)"] if mount.kind == "nfs4" else [])


def test_links_are_not_followed_and_loops_end(host):
    host.many("/srv/a", 10, ".pdf")
    (host.root / "srv/b").symlink_to(host.root / "srv/a")
    (host.root / "srv/a/up").symlink_to(host.root / "srv")
    assert stores(host.walk()) == {("documents", "/srv/a"): 10}


def test_it_ends_at_its_limits_and_says_so(host):
    host.many("/srv/docs", 40, ".pdf")
    host.many("/srv/more", 40, ".pdf")
    found = host.walk(Wanted("docs", ("/srv/docs",)), Wanted("more", ("/srv/more",)), most_entries=60)
    assert found.stopped == "after 60 entries, at /srv"
    assert found.items["docs"]["bytes"] == 4000
    assert found.items["more"]["bytes"] is None  # not measured to the end is not known
    ticks = iter([0.0, *[500.0] * 10_000])
    for number in range(10):
        host.many(f"/srv/wide/{number}", 40, ".pdf")
    found = host.walk(deadline_s=10, clock=lambda: next(ticks))
    assert found.stopped == "after 10 seconds, at /srv"


def test_a_folder_that_cannot_be_read_is_counted(host, monkeypatch):
    host.many("/srv/docs", 20, ".pdf")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/srv/docs"):
            raise PermissionError(13, "no")
        return real(path)

    monkeypatch.setattr(survey_walk.os, "scandir", scandir)
    found = host.walk()
    assert found.unreadable == 1
    assert stores(found) == {}


def test_access_times_stay(host):
    host.put("/srv/pacs/a", data=DICOM)
    host.put("/srv/pacs/b", data=DICOM)
    host.put("/srv/pacs/c", data=DICOM)
    assert stores(host.walk()) == {("images", "/srv/pacs"): 3}
    assert (host.root / "srv/pacs/a").stat().st_atime == OLD


def test_mounts_are_read_with_their_escapes():
    text = (
        "22 1 0:20 / /proc rw - proc proc rw\n"
        "31 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"
        "40 31 8:17 / /mnt/old\\040disk ro - xfs /dev/sdb1 rw\n"
    )
    found = survey_walk.read_mounts(text)
    assert found[2] == Mount("/mnt/old disk", "xfs", "/dev/sdb1", "8:17", True)
    assert [survey_walk.is_local(mount) for mount in found] == [False, True, True]
    assert survey_walk.is_local(Mount("/", "overlay", "overlay", "0:30"))


def test_jobs_become_paths():
    jobs = [
        {
            "item": "db",
            "database": {"engine": "postgresql", "name": "c", "images": {"query": "select", "root": "/srv/i"}},
        },
        {"item": "pms", "database": {"engine": "sqlite", "path": "/opt/pms.db"}},
        {"item": "docs", "paths": ["/srv/d"], "exclude": ["*.tmp"], "calendar": ["x"]},
    ]
    assert survey_walk.wanted_of(jobs) == [
        Wanted("db", ("/srv/i",)),
        Wanted("pms", ("/opt/pms.db",)),
        Wanted("docs", ("/srv/d",), ("*.tmp",)),
    ]


@pytest.mark.parametrize(
    ("path", "pattern", "hidden"),
    [
        ("/srv/d/a.tmp", "*.tmp", True),
        ("/srv/d/a.pdf", "*.tmp", False),
        ("/srv/d/cache", "/srv/d/cache", True),
        ("/srv/d/cache2", "/srv/d/cache", False),
        ("/srv/d/Thumbs.db", "Thumbs.db", True),
    ],
)
def test_excludes(path, pattern, hidden):
    assert survey_walk.is_hidden_by(path, [pattern]) is hidden


def test_what_was_copied_in_the_last_week_tells_no_daily_change(host):
    host.many("/srv/docs", 8, ".pdf", new=True)
    host.many("/srv/docs/old", 4, ".pdf")
    found = host.walk(Wanted("docs", ("/srv/docs",)))
    assert (found.items["docs"]["bytes"], found.items["docs"]["changed_bytes_per_day"]) == (1200, None)
