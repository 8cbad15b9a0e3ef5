#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Lay out files with the names that people give them, and a small clinic database. Usage: furnish.py HOST."""

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = (b"plain.txt", b"with space.txt", "Überweisung März.pdf".encode(), b'quo"te\'s $HOME.txt', b"new\nline.txt",
         b"latin-\xfc.txt", b"-dash.txt", b"back\\slash.txt", b"star*[x].txt", b" lead and trail ")  # fmt: skip
CLINIC = """
create table patient (id bigint generated always as identity primary key, name text not null, born date);
create table appointment (id bigint generated always as identity primary key, patient bigint references patient,
                          starts timestamptz not null, recorded_at timestamptz not null default now());
create table image (path text primary key, patient bigint references patient);
insert into patient (name, born) select 'Patient ' || n, date '1950-01-01' + n from generate_series(1, 2000) n;
insert into appointment (patient, starts) select 1 + n % 2000, now() + n * interval '1 minute' from generate_series(1, 5000) n;
insert into image select format('p%s/scan %s.png', n % 10, n), 1 + n % 2000 from generate_series(1, 40) n;
insert into image values ('/srv/clinic/images/p0/absolute ü.png', 1);
create role readers;
create role app login password 'never in a backup' in role readers;
alter role app set work_mem = '8MB';
create table note (id int primary key, body text);
insert into note select n, 'body' from generate_series(1, 50) n;
alter table note owner to app;
alter table note enable row level security;
alter table note force row level security;
create policy nobody on note using (false);
grant select on appointment to readers;
grant insert (name) on patient to app with grant option;
create function born(bigint) returns date language sql return (select born from patient where id = $1);
revoke all on function born from public;
revoke connect on database clinic from public;
select lo_from_bytea(0, 'a large object');
"""

BILLING = """
create database billing character set utf8mb4;
use billing;
create table account (id bigint auto_increment primary key, name varchar(200), note blob);
create table entry (id bigint auto_increment primary key, account bigint, at datetime(6) default now(6),
                    foreign key (account) references account (id));
create table letter (path varchar(200) primary key);
create sequence invoice;
create view recent as select a.name, e.at from entry e join account a on a.id = e.account;
create trigger stamp before insert on entry for each row set new.at = coalesce(new.at, now(6));
create procedure book (who bigint) insert into entry (account) values (who);
create function twice (n int) returns int deterministic return n * 2;
create event tidy on schedule every 1 day do delete from entry where at < now() - interval 100 year;
insert into account (name, note) select concat('Müller\\t', seq), unhex('00ff0a') from seq_1_to_4000;
insert into entry (account) select id from account;
insert into letter values ('letters/plain.txt');
"""

WARD = """
create database 'localhost:/srv/ward/ward.fdb' default character set utf8;
create domain words as varchar(300) character set win1252;
create sequence invoice start with 1000 increment by 5;
create exception stranger 'This is not for you';
create table bed (id bigint generated always as identity primary key, note words, picture blob,
                  twice computed by (id * 2), constraint real_note check (char_length(note) > 0));
create table stay (id bigint generated always as identity primary key, bed bigint not null references bed on delete cascade,
                   since timestamp default current_timestamp not null);
create table "odd ""name" (path varchar(200) primary key);
create index by_day on stay computed by (cast(since as date));
create view recent as select b.note, s.since from stay s join bed b on b.id = s.bed;
set term ^;
create trigger numbered for stay before insert as begin new.since = coalesce(new.since, current_timestamp); end^
create trigger only_us on connect as begin if (current_user <> 'SYSDBA') then exception stranger; end^
create procedure book (bed bigint) returns (stay bigint) as begin
  insert into stay (bed) values (:bed) returning id into stay; end^
create function next_invoice returns bigint as begin return next value for invoice; end^
create package care as begin function days (bed bigint) returns int; end^
create package body care as begin
  function days (bed bigint) returns int as begin return 1; end
end^
execute block as declare n int = 0; begin
  while (n < 4000) do begin
    insert into bed (note, picture) values ('Müller ' || :n, x'00ff0a'); insert into stay (bed) values (:n + 1); n = n + 1;
  end
end^
set term ;^
insert into "odd ""name" values ('letters/plain.txt');
commit;
"""


def like(name: str, size: int) -> bytes:
    """Bytes that are no two times the same, of the type that the name says: backups are judged by that too."""
    head = {".pdf": b"%PDF-1.4\n", ".png": b"\x89PNG\r\n\x1a\n"}.get(Path(name).suffix)
    return head + os.urandom(size - len(head)) if head else base64.b64encode(os.urandom(size))[:size]


def fill(folder: bytes) -> None:
    """One file for every name."""
    place = Path(os.fsdecode(folder))
    place.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        (place / os.fsdecode(name)).write_bytes(like(os.fsdecode(name), 1000 + number))


def main() -> None:
    """Furnish this host."""
    if sys.argv[1] == "desk1":
        fill(b"/home/reception/Documents")
    else:
        fill(b"/srv/clinic/documents/letters")
        fill("/srv/clinic/documents/Befunde für Ärzte".encode())
        Path("/srv/clinic/documents/left out.tmp").write_text("not for the backup")
        Path("/srv/clinic/documents/empty").mkdir()
        for n in range(1, 41):
            image = Path(f"/srv/clinic/images/p{n % 10}/scan {n}.png")
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(like(image.name, 3000 + n))
        Path("/srv/clinic/images/p0/absolute ü.png").write_bytes(like("ü.png", 10))
        as_postgres = ["runuser", "-u", "postgres", "--"]
        subprocess.run([*as_postgres, "createdb", "-E", "UTF8", "-T", "template0", "clinic"], check=True, cwd="/")
        subprocess.run(
            [*as_postgres, "psql", "-Xq1", "-v", "ON_ERROR_STOP=1", "clinic"],
            check=True, cwd="/", input=CLINIC.encode(),
        )  # fmt: skip
        subprocess.run(["mariadb", "--default-character-set=utf8mb4"], check=True, input=BILLING.encode())
        login = dict(
            re.findall(r'^(ISC_\w+)="?(.*?)"?$', Path("/etc/firebird/4.0/SYSDBA.password").read_text(), re.MULTILINE)
        )
        Path("/srv/ward").mkdir()
        shutil.chown("/srv/ward", "firebird", "firebird")
        client = ["isql-fb", "-q", "-bail", "-ch", "utf8"]
        subprocess.run(client, check=True, input=WARD.encode(), env={**os.environ, **login})
        subprocess.run(["useradd", "--system", "--no-create-home", "pms"], check=True)
        Path("/srv/vendor").mkdir()
        Path("/srv/pms").mkdir()
        shutil.chown("/srv/pms", "pms", "pms")
    Path("/srv/furnished").touch()


main()
