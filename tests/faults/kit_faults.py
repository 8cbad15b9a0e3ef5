# SPDX-License-Identifier: Apache-2.0
"""The faults of the kit: what is done to a backup, and what a proof has to say of it. Ids: ../../docs/faults.md tells of them."""

from __future__ import annotations

from typing import Any

from kit import INCONCLUSIVE, PASS, Fault

LARGEST = "P=$(find data -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2)"
# by arrival; whoever reads first of a pipe ends the others, which is no error here
NEWEST = "N=$(cd snapshots; find . -type f -printf '%T@ %P\\n' | sort -n | tail -n 1 | cut -d' ' -f2)"
DOCUMENTS, IMAGES = "$T/srv/clinic/documents", "$T/srv/clinic/images"
CANARY = f'"{DOCUMENTS}/Please leave this file alone.pdf"'
# a hundred letters and scans, as a practice has them; what follows is done to a tree that has them
MANY = f"""
python3 - {DOCUMENTS} <<'E'
import base64, os, pathlib, sys
for n in range(100):
    kind, head = (("pdf", b"%PDF-1.4\\n"), ("jpg", b"\\xff\\xd8\\xff\\xe0"), ("docx", b"PK\\x03\\x04"))[n % 3]
    place = pathlib.Path(sys.argv[1]) / "letters" / f"{{n:03d}}.{{kind}}"
    place.write_bytes(head + base64.b64encode(os.urandom(6000)))
E
"""
ALL_FILES = "find $T -type f -print0 > /root/kit/list; while IFS= read -r -d '' f; do {} ; done < /root/kit/list"
# the first 4 KiB of each file, or what there is of them; size and time stay as they were
HEADS = ALL_FILES.format(
    'touch -r "$f" /root/kit/time; n=$(stat -c %s "$f"); [ $n -le 4096 ] || n=4096; '
    'head -c $n /dev/urandom | dd of="$f" conv=notrunc status=none; touch -r /root/kit/time "$f"'
)
WHOLE = ALL_FILES.format('encrypt "$f" /root/kit/x; cat /root/kit/x > "$f"')
RENAMED = ALL_FILES.format('encrypt "$f" "$f.locked"; rm "$f"')
STOP_PG = "pg_ctlcluster 17 main stop -m fast"
START_PG = "pg_ctlcluster 17 main start"
PG_FILE = (
    "f=/var/lib/postgresql/17/main/$(runuser -u postgres -- psql -XqAt -d restored_clinical_db "
    "-c \"select pg_relation_filepath('{}')\")"
)


def oracle(**changes: Any) -> Any:
    """Change keys of an oracle; of its parts with two underscores between."""

    def change(found: dict[str, Any]) -> None:
        for name, value in changes.items():
            *way, last = name.split("__")
            place = found
            for step in way:
                place = place[step]
            place[last] = value(place[last]) if callable(value) else value

    return change


def first_files(number: int) -> Any:
    """A manifest that lost its end, as a text that was cut."""
    return lambda manifest: manifest[:number]


REPOSITORY = [
    Fault(
        "R01",
        "one byte of the largest pack flipped (bit rot)",
        "clinical_db",
        {"repository_damaged"},
        repository=f'{LARGEST}; flip "$P"',
        structure=True,
    ),
    Fault(
        "R01-old",
        "bit rot in what this run does not need: older data that were fine last month",
        "documents",
        {"repository_damaged"},
        repository=f'{LARGEST}; flip "$P"',
        structure=True,
        passes=("arrival", "files"),
    ),
    Fault(
        "R02",
        "a pack cut by 1000 bytes",
        "clinical_db",
        {"repository_damaged"},
        repository=f'{LARGEST}; truncate -s -1000 "$P"',
        structure=True,
        quick=True,
    ),
    Fault(
        "R02-empty",
        "a pack of 0 bytes",
        "clinical_db",
        {"repository_damaged"},
        repository=f'{LARGEST}; truncate -s 0 "$P"',
        structure=True,
    ),
    Fault(
        "R02-swap",
        "a pack that holds what another one should",
        "clinical_db",
        {"repository_damaged"},
        repository=f'{LARGEST}; Q=$(find data -type f ! -path "$P" -print -quit); cp "$Q" "$P"',
        structure=True,
    ),
    Fault("R03", "the index is gone", "documents", {"repository_damaged"}, repository="rm index/*", structure=True),
    Fault(
        "R03-flip",
        "one byte of the index flipped",
        "documents",
        {"repository_damaged"},
        repository='for i in index/*; do flip "$i"; done',
        structure=True,
    ),
    Fault(
        "R04", "a pack is gone", "clinical_db", {"repository_damaged"}, repository=f'{LARGEST}; rm "$P"', structure=True
    ),
    Fault(
        "R04-all",
        "all packs are gone",
        "documents",
        {"repository_damaged"},
        repository="find data -type f -delete",
        structure=True,
    ),
    Fault(
        "R05",
        "the newest snapshot is gone, and the evidence names it",
        "documents",
        {"known_snapshot_missing"},
        tree=f"echo more >> {DOCUMENTS}/letters/plain.txt",
        noticed=True,
        repository=f'{NEWEST}; rm "snapshots/$N"',
        known=True,
    ),
    Fault(
        "R05-cut",
        "the newest snapshot is cut short",
        "documents",
        {"snapshot_unreadable"},
        tree=f"echo more >> {DOCUMENTS}/letters/plain.txt",
        noticed=True,
        repository=f'{NEWEST}; truncate -s -20 "snapshots/$N"',
    ),
    Fault(
        "R05-all",
        "all snapshots are gone",
        "documents",
        {"arrivals_unknown"},
        verdict=INCONCLUSIVE,
        repository="rm snapshots/*",
    ),
    Fault(
        "R06",
        "the newest run is three days old",
        "clinical_db",
        {"rpo_exceeded"},
        repository="find snapshots -type f -exec touch -d '-72 hours' {} +",
        passes=("database", "files"),
    ),
    Fault(
        "R06-closed",
        "the job stopped while the practice was closed",
        "documents",
        {"rpo_exceeded"},
        repository="find snapshots -type f -exec touch -d '-60 hours' {} +",
        passes=("files",),
        quick=True,
    ),
    Fault(
        "R13",
        "the password of another repository",
        "documents",
        {"wrong_password"},
        verdict=INCONCLUSIVE,
        password="another-one",
        repository="touch -d '-1 minute' config",
    ),
    Fault(
        "R13-rotated",
        "the repository's key was replaced",
        "documents",
        {"wrong_password"},
        verdict=INCONCLUSIVE,
        repository="rm keys/*",
    ),
]

IDENTITY = [
    Fault(
        "R14",
        "the run of another host",
        "documents",
        {"wrong_host", "foreign_snapshots"},
        oracle=oracle(host="desk1"),
        host="desk1",
    ),
    Fault(
        "R14-practice",
        "the run of another practice",
        "documents",
        {"wrong_practice"},
        oracle=oracle(practice="mill-lane"),
    ),
    Fault(
        "R14-repository",
        "a run that was made for another repository",
        "documents",
        {"wrong_repository"},
        oracle=oracle(identity__repository_id="ab" * 32),
    ),
    Fault(
        "R14-swapped",
        "the dump of another database",
        "clinical_db",
        {"table_missing", "schema_differs"},
        dump="pg 'drop table appointment, image, note, patient cascade; create table billing (id int primary key)'",
    ),
    Fault(
        "R14-run",
        "the oracle of one run with the data of another",
        "documents",
        {"wrong_tags"},
        oracle=oracle(run="20260101T000000Z-00000000"),
    ),
    Fault(
        "R14-tags",
        "an oracle that is stored as that of another run",
        "documents",
        {"wrong_tags"},
        tags={"run": "20260101T000000Z-00000000"},
    ),
    Fault(
        "R14-none",
        "a promised item that nobody ever backed up (one database of three)",
        "documents",
        {"no_run"},
        repository="touch config",
        wanted={"job": "imaging_db", "item": "imaging_db"},
        quick=True,
    ),
    Fault(
        "R14-lost",
        "the data that a run's oracle names are not there",
        "documents",
        {"snapshot_missing"},
        oracle=oracle(snapshots__files="cd" * 32),
    ),
    Fault(
        "E09",
        "the clock of the NAS is two hours ahead",
        "documents",
        {"clock_skew"},
        verdict=INCONCLUSIVE,
        repository="find snapshots -type f -exec touch -d '+2 hours' {} +",
    ),
    Fault(
        "B09",
        "snapshots that claim to have been taken three hours after they arrived",
        "documents",
        {"time_implausible"},
        repository="find snapshots -type f -exec touch -d '-3 hours' {} +",
    ),
    Fault(
        "oracle-cut",
        "an oracle cut in half",
        "documents",
        {"oracle_unreadable"},
        oracle=lambda found: found.update(kit_text='{"schema": 1, "practice": "agent-test", "fil'),
    ),
    Fault(
        "oracle-schema",
        "an oracle of a kind that nobody knows",
        "documents",
        {"oracle_unreadable"},
        oracle=oracle(schema=99),
    ),
    Fault(
        "oracle-manifest",
        "an oracle whose list of files lost its end",
        "documents",
        {"manifest_damaged", "files_extra"},
        oracle=oracle(files__manifest=first_files(5)),
    ),
    Fault(
        "oracle-twice",
        "an oracle that lists one file twice",
        "documents",
        {"manifest_damaged"},
        oracle=oracle(files__manifest=lambda rows: [*rows, rows[0]], files__count=lambda n: n + 1),
    ),
    Fault(
        "oracle-tables",
        "an oracle that lists no table",
        "pms_db",
        {"nothing_to_compare"},
        oracle=oracle(database__tables={}),
    ),
]

FILES = [
    Fault(
        "R07",
        "a file was skipped",
        "documents",
        {"files_missing"},
        tree=f"rm {DOCUMENTS}/letters/plain.txt",
        quick=True,
    ),
    Fault(
        "R07-folder",
        "a folder that must not be empty was skipped",
        "documents",
        {"files_missing", "must_have_missing"},
        tree=f"rm -r {DOCUMENTS}/letters",
    ),
    Fault(
        "R07-name",
        "a file with a hostile name was skipped",
        "documents",
        {"files_missing"},
        tree=f"rm {DOCUMENTS}/letters/$'new\\nline.txt' {DOCUMENTS}/letters/star\\*\\[x\\].txt",
    ),
    Fault(
        "file-content",
        "one byte of one file differs",
        "documents",
        {"files_changed"},
        tree=f"touch -r {DOCUMENTS}/letters/plain.txt /root/kit/time; flip {DOCUMENTS}/letters/plain.txt; "
        f"touch -r /root/kit/time {DOCUMENTS}/letters/plain.txt",
    ),
    Fault(
        "file-swapped",
        "two files have each other's content",
        "documents",
        {"files_changed"},
        tree=f"cd {DOCUMENTS}/letters; mv plain.txt x; mv -- 'with space.txt' plain.txt; mv x 'with space.txt'; cd /",
    ),
    Fault(
        "file-empty",
        "a file is there, with 0 bytes",
        "documents",
        {"files_changed"},
        tree=f": > {DOCUMENTS}/letters/plain.txt",
    ),
    Fault(
        "file-extra",
        "a file that nobody listed",
        "documents",
        {"files_extra"},
        tree=f"echo x > {DOCUMENTS}/letters/new.txt",
    ),
    Fault(
        "file-mode", "other permissions", "documents", {"files_mode"}, tree=f"chmod 0777 {DOCUMENTS}/letters/plain.txt"
    ),
    Fault(
        "file-time",
        "another time of modification",
        "documents",
        {"files_mtime"},
        tree=f"touch -d 2001-01-01 {DOCUMENTS}/letters/plain.txt",
    ),
    Fault(
        "file-link",
        "a link in the place of a file",
        "documents",
        {"files_kind"},
        tree=f"ln -sf /etc/passwd {DOCUMENTS}/letters/plain.txt",
    ),
    Fault(
        "R15",
        "all files encrypted under a new ending",
        "documents",
        {"files_missing", "files_extra", "canary_differs"},
        tree=RENAMED,
    ),
    Fault(
        "R15-place",
        "all files encrypted in their places",
        "documents",
        {"files_changed", "canary_differs", "content_spoilt"},
        tree=MANY + WHOLE,
    ),
    Fault(
        "R15-before",
        "documents encrypted before the backup, which lists them so",
        "documents",
        {"canary_differs", "content_spoilt"},
        tree=MANY + WHOLE,
        noticed=True,
    ),
    Fault(
        "R15-heads",
        "heads of files encrypted before the backup, sizes and times kept",
        "documents",
        {"canary_differs", "content_spoilt"},
        tree=MANY + HEADS,
        noticed=True,
        quick=True,
    ),
    Fault(
        "R15-heads-after",
        "heads of files encrypted after they were listed, sizes and times kept",
        "documents",
        {"files_changed", "canary_differs"},
        tree=HEADS,
    ),
    Fault(
        "R15-spared",
        "everything but the canary encrypted before the backup",
        "documents",
        {"content_spoilt"},
        tree=f"{MANY} cp -a {CANARY} /root/kit/canary; {WHOLE}; cp -a /root/kit/canary {CANARY}",
        noticed=True,
    ),
    Fault(
        "R15-canary",
        "the canary is gone, and the backup lists no more",
        "documents",
        {"canary_differs"},
        tree=f"rm {CANARY}",
        noticed=True,
    ),
    Fault(
        "R15-held", "a run that its agent holds for suspect", "documents", {"suspect"}, oracle=oracle(holds=["suspect"])
    ),
    Fault(
        "image-skipped",
        "an image was skipped",
        "clinical_db",
        {"files_missing", "images_missing"},
        tree=f"rm {IMAGES}/p1/scan\\ 1.png",
    ),
    Fault(
        "image-unsaved",
        "an image that the database names and nobody saved",
        "clinical_db",
        {"images_missing"},
        tree=f"rm {IMAGES}/p1/scan\\ 1.png",
        noticed=True,
        quick=True,
    ),
    Fault(
        "image-damaged",
        "an image that differs from the one that was saved",
        "clinical_db",
        {"images_damaged", "files_changed"},
        tree=f"flip {IMAGES}/p1/scan\\ 1.png",
    ),
    Fault(
        "image-heads",
        "heads of images encrypted before the backup, sizes and times kept",
        "clinical_db",
        {"content_spoilt"},
        tree=HEADS,
        noticed=True,
    ),
]

DATABASES = [
    Fault(
        "R09-pg",
        "a live copy of the server's files in the place of a dump",
        "clinical_db",
        {"load_failed"},
        dump="tar -C /var/lib/postgresql/17/main -cf $F base/1 2>/dev/null",
    ),
    Fault(
        "R09-sqlite",
        "a live SQLite file without its write-ahead log",
        "pms_db",
        {"rows_differ"},
        dump="cp /srv/pms/pms.db $F",
        quick=True,
    ),
    Fault(
        "R09-mariadb",
        "a live copy of the server's files in the place of a dump",
        "billing_db",
        {"dump_truncated", "load_failed"},
        dump="cp /var/lib/mysql/billing/entry.ibd $F",
    ),
    Fault(
        "R22",
        "a live copy of a Firebird file",
        "ward_db",
        {"not_a_dump", "load_failed"},
        dump="cp /srv/ward/ward.fdb $F",
    ),
    Fault(
        "R22-page",
        "a page of nonsense in a dump of Firebird",
        "ward_db",
        {"load_failed"},
        dump="head -c 4096 /dev/zero | tr '\\0' '\\377' | dd of=$F bs=4096 seek=40 conv=notrunc status=none",
    ),
    Fault(
        "R22-loaded",
        "a damaged page in the loaded copy of Firebird",
        "ward_db",
        {"engine_damage"},
        loaded="f=/var/lib/firebird/4.0/data/holdfast-ward_db.fdb; n=$(($(stat -c %s $f) / 8192 * 3 / 4)); "
        "head -c 8192 /dev/urandom | dd of=$f bs=8192 seek=$n conv=notrunc status=none",
    ),
    *[
        Fault(
            f"R10-{engine}",
            f"an empty dump ({engine})",
            job,
            {"dump_empty"},
            dump=": > $F",
            quick=engine == "postgresql",
        )
        for job, engine in (
            ("clinical_db", "postgresql"),
            ("billing_db", "mariadb"),
            ("pms_db", "sqlite"),
            ("ward_db", "firebird"),
            ("vendor_dump", "vendor"),
        )
    ],
    Fault(
        "R10-tables",
        "a whole dump of an empty database",
        "clinical_db",
        {"table_missing"},
        dump="pg 'drop table appointment, image, note, patient cascade'",
    ),
    Fault(
        "R11-mid",
        "a dump of PostgreSQL cut in the middle",
        "clinical_db",
        {"dump_truncated"},
        dump="truncate -s $(($(stat -c %s $F) / 2)) $F",
        quick=True,
    ),
    Fault(
        "R11-end",
        "a dump of PostgreSQL that lost its last 100 bytes",
        "clinical_db",
        {"dump_truncated"},
        dump="truncate -s -100 $F",
    ),
    Fault(
        "R11-mariadb",
        "a dump of MariaDB cut before its end marker",
        "billing_db",
        {"dump_truncated"},
        dump="sed -i '/^-- Dump completed/d' $F",
    ),
    Fault(
        "R11-half",
        "a dump of MariaDB cut in the middle",
        "billing_db",
        {"dump_truncated", "table_missing"},
        dump="truncate -s $(($(stat -c %s $F) / 2)) $F",
    ),
    Fault(
        "R11-glued",
        "a dump of MariaDB cut in the middle, with an end marker after it",
        "billing_db",
        {"table_missing"},
        dump="head -n 40 $F > /root/kit/x; tail -n 1 $F >> /root/kit/x; cat /root/kit/x > $F",
    ),
    Fault(
        "R11-sqlite", "a SQLite file without its last page", "pms_db", {"dump_truncated"}, dump="truncate -s -4096 $F"
    ),
    Fault("R11-firebird", "a dump of Firebird cut short", "ward_db", {"dump_truncated"}, dump="truncate -s -51200 $F"),
    Fault(
        "R11-vendor",
        "a vendor's dump without its end",
        "vendor_dump",
        {"dump_truncated", "size_differs", "dump_differs"},
        dump="sed -i '$d' $F",
    ),
    Fault(
        "vendor-check",
        "a vendor's dump that its own check refuses",
        "vendor_dump",
        {"check_failed"},
        dump="sed -i '100,200d' $F",
    ),
    Fault("vendor-byte", "one byte of a vendor's dump flipped", "vendor_dump", {"dump_differs"}, dump="flip $F"),
    Fault(
        "R17",
        "a dump of PostgreSQL that lost a tenth of its rows",
        "clinical_db",
        {"rows_differ"},
        dump="pg 'delete from appointment where id % 10 = 0'",
        quick=True,
    ),
    Fault(
        "R17-mariadb",
        "a dump of MariaDB that lost a tenth of its rows",
        "billing_db",
        {"rows_differ"},
        dump="maria 'delete from entry where id % 10 = 0'",
        quick=True,
    ),
    Fault(
        "R17-sqlite",
        "a SQLite file that lost a tenth of its rows",
        "pms_db",
        {"rows_differ"},
        dump="lite 'delete from finding where id % 10 = 0'",
    ),
    Fault(
        "R17-firebird",
        "a dump of Firebird that lost a tenth of its rows",
        "ward_db",
        {"rows_differ"},
        dump="fire 'delete from stay where mod(id, 10) = 0;'",
        quick=True,
    ),
    Fault(
        "content-pg",
        "as many rows, one name in ten differs (PostgreSQL)",
        "clinical_db",
        {"content_differs"},
        dump="pg \"update patient set name = 'Patient 77' where id % 10 = 8\"",
        quick=True,
    ),
    Fault(
        "content-mariadb",
        "as many rows, texts in a wrong character set (MariaDB)",
        "billing_db",
        {"content_differs"},
        dump='maria "update account set name = convert(cast(convert(name using utf8mb4) as binary) using latin1) '
        'where id % 10 = 9"',
        quick=True,
    ),
    Fault(
        "content-sqlite",
        "as many rows, one value in ten differs (SQLite)",
        "pms_db",
        {"content_differs"},
        dump="lite \"update picture set note = 'y' where id % 10 = 5\"",
        quick=True,
    ),
    Fault(
        "content-firebird",
        "as many rows, one picture in ten differs (Firebird)",
        "ward_db",
        {"content_differs"},
        dump="fire \"update bed set picture = x'00ff0b' where mod(id, 10) = 5;\"",
        quick=True,
    ),
    Fault(
        "content-dates",
        "as many rows, all times an hour late (a lost time zone)",
        "clinical_db",
        {"content_differs", "probe_differs"},
        dump="pg \"update appointment set starts = starts + interval '1 hour', recorded_at = recorded_at + interval '1 hour'\"",
    ),
    Fault(
        "content-swapped",
        "as many rows, two patients' appointments exchanged",
        "clinical_db",
        {"content_differs"},
        dump="pg 'update appointment set patient = case patient when 5 then 6 else 5 end where patient in (5, 6)'",
    ),
    Fault(
        "content-null",
        "as many rows, a column that came back empty",
        "billing_db",
        {"content_differs"},
        dump="maria 'update account set note = null'",
    ),
    Fault(
        "content-newest",
        "the newest row lost, an old one twice",
        "pms_db",
        {"content_differs", "probe_differs"},
        dump="lite 'update finding set id = -1 where id = (select max(id) from finding)'",
    ),
    Fault(
        "R19",
        "a table that the dump's user could not read",
        "clinical_db",
        {"table_missing", "schema_differs"},
        dump="pg '' --exclude-table=note",
        quick=True,
    ),
    Fault(
        "R19-index",
        "an index that did not come back",
        "clinical_db",
        {"schema_differs"},
        dump="pg 'alter table image drop constraint image_pkey'",
    ),
    Fault(
        "R19-routine",
        "a routine, a trigger and a view that did not come back",
        "billing_db",
        {"schema_differs"},
        dump="maria 'drop procedure book; drop trigger stamp; drop view recent'",
    ),
    Fault(
        "R19-firebird",
        "a routine that did not come back",
        "ward_db",
        {"schema_differs"},
        dump="fire 'drop procedure book;'",
    ),
    Fault(
        "R19-sqlite",
        "a table that was not there when the file was saved",
        "pms_db",
        {"table_missing", "schema_differs"},
        dump="lite 'drop table finding'",
    ),
    Fault(
        "R19-roles",
        "roles that did not come back",
        "clinical_db",
        {"roles_missing"},
        oracle=oracle(
            database__globals=lambda text: "\n".join(line for line in text.splitlines() if " app" not in line) + "\n"
        ),
    ),
    Fault(
        "R19-grants",
        "rights that did not come back",
        "clinical_db",
        {"access_differs"},
        dump="pg 'revoke select on appointment from readers'",
    ),
    Fault(
        "R19-objects",
        "large objects that did not come back",
        "clinical_db",
        {"large_objects_differ"},
        dump="pg 'select lo_unlink(oid) from pg_largeobject_metadata'",
    ),
    Fault(
        "R20",
        "a damaged page of a table after the restore (PostgreSQL)",
        "clinical_db",
        {"engine_damage"},
        quick=True,
        loaded=f"{PG_FILE.format('appointment')}; {STOP_PG}; "
        f"head -c 4000 /dev/urandom | dd of=$f bs=1 seek=8292 conv=notrunc status=none; {START_PG}",
    ),
    Fault(
        "R20-index",
        "a damaged page of an index after the restore (PostgreSQL)",
        "clinical_db",
        {"engine_damage"},
        loaded=f"{PG_FILE.format('appointment_pkey')}; {STOP_PG}; "
        f"head -c 4000 /dev/urandom | dd of=$f bs=1 seek=8292 conv=notrunc status=none; {START_PG}",
    ),
    Fault(
        "R20-lost",
        "rows that an index knows and the table lost, after the restore (PostgreSQL)",
        "clinical_db",
        {"engine_damage"},
        loaded=f"{PG_FILE.format('patient_pkey')}; {STOP_PG}; "
        f"dd if=/dev/zero of=$f bs=8192 seek=2 count=1 conv=notrunc status=none; {START_PG}",
    ),
    Fault(
        "R20-mariadb",
        "a damaged page after the restore (MariaDB)",
        "billing_db",
        {"engine_damage"},
        loaded="mariadb -e 'set global innodb_fast_shutdown = 0'; systemctl stop mariadb; f=/var/lib/mysql/billing/entry.ibd; "
        "head -c 8000 /dev/urandom | dd of=$f bs=16384 seek=4 conv=notrunc status=none; systemctl start mariadb",
    ),
    Fault(
        "R20-sqlite",
        "a damaged page in a file of SQLite",
        "pms_db",
        {"engine_damage"},
        loaded="head -c 4000 /dev/urandom | dd of=/srv/holdfast-restore/pms_db.dump bs=4096 seek=9 conv=notrunc status=none",
    ),
    Fault(
        "dump-link", "a link in the place of the dump", "pms_db", {"dump_missing"}, dump="rm $F; ln -s /etc/passwd $F"
    ),
    Fault(
        "dump-folder",
        "a folder in the place of the dump",
        "pms_db",
        {"dump_missing"},
        dump="rm $F; mkdir $F; echo x > $F/x",
    ),
    *[
        Fault(
            f"older-{engine}",
            f"an engine older than the one that was backed up ({engine})",
            job,
            {"version_older"},
            oracle=oracle(database__version=version),
            quick=engine == "postgresql",
        )
        for job, engine, version in (
            ("clinical_db", "postgresql", "18.1"),
            ("billing_db", "mariadb", "12.0.2-MariaDB"),
            ("ward_db", "firebird", "5.0.1"),
        )
    ],
    Fault(
        "engine-unknown",
        "a database of an engine that nobody knows",
        "pms_db",
        {"engine_unknown"},
        verdict=INCONCLUSIVE,
        oracle=oracle(database__engine="db2"),
    ),
]

# What must stay quiet. Each is as much of a change as a fault is.
CLEAN = [
    *[
        Fault(
            f"clean-{engine}",
            f"nothing is wrong: dumped, loaded and dumped again ({engine})",
            job,
            set(),
            verdict=PASS,
            dump=dump,
            structure=job == "clinical_db",
            quick=job in ("clinical_db", "billing_db"),
        )
        for job, engine, dump in (
            ("clinical_db", "postgresql", "pg 'create table x (); drop table x'"),
            ("billing_db", "mariadb", "maria ''; echo >> $F; tail -n 2 $F | head -n 1 >> $F"),
            ("pms_db", "sqlite", "lite 'vacuum'"),
            ("ward_db", "firebird", "fire 'select 1 from rdb$database;'"),
        )
    ],
    Fault(
        "clean-newer",
        "an engine newer than the one that was backed up",
        "clinical_db",
        set(),
        verdict=PASS,
        oracle=oracle(database__version="15.3"),
    ),
    Fault(
        "clean-before",
        "a run of an agent that took no samples yet",
        "billing_db",
        set(),
        verdict=PASS,
        oracle=lambda found: (found["database"].pop("samples"), found["database"]["questions"].pop("samples")),
    ),
    Fault(
        "clean-names",
        "files with hostile names",
        "documents",
        set(),
        verdict=PASS,
        noticed=True,
        quick=True,
        tree=f"cd {DOCUMENTS}/letters; touch -- '-rf' '$(reboot)' '`id`' $'a\\tb' $'\\xff\\xfe' \"$(printf 'ü%.0s' $(seq 100))\" "
        "'; rm -rf x' '{{ 1 + 1 }}' '<b>' '%s%n' ' ' '...'; for f in *; do [ -s \"$f\" ] || echo x > \"./$f\"; done; cd /",
    ),
    Fault(
        "clean-day",
        "a busy day: a hundred new letters, as many gone or edited",
        "documents",
        set(),
        verdict=PASS,
        noticed=True,
        tree=MANY,
    ),
]

FAULTS = [*REPOSITORY, *IDENTITY, *FILES, *DATABASES, *CLEAN]
assert len({fault.id for fault in FAULTS}) == len(FAULTS), "two faults have one id"
