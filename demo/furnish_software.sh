#!/bin/bash
# Runs on the clinic server, after furnish_server.sh: accounts in MariaDB, recalls in SQLite, laboratory in Firebird, and Orthanc
# with the clinic's DICOM images, its index in PostgreSQL. Cut short anywhere, it is simply run again.
set -euo pipefail
version=$1
cd /srv
rm -f clinic/.software-*

mariadb --no-defaults < clinic/.accounts.sql

install -d -o clinic -g clinic -m 0750 recalls
rm -f recalls/recalls.db*
runuser -u clinic -- python3 - <<'PYTHON'
import sqlite3
with sqlite3.connect("/srv/recalls/recalls.db") as database:
    database.execute("create table recall (id integer primary key, patient integer not null, due text not null, sent text)")
    rows = [(n, n % 500, f"2026-{1 + n % 12:02d}-{1 + n % 28:02d}", None if n % 3 else "2026-01-05") for n in range(1, 2001)]
    database.executemany("insert into recall values (?, ?, ?, ?)", rows)
PYTHON

install -d -o firebird -g firebird -m 0770 lab
rm -f lab/results.fdb
runuser -u firebird -- isql-fb -q -b -user SYSDBA < clinic/.laboratory.sql

# Orthanc begins with an index of its own in its folder; this one has its index in PostgreSQL, and knows its user without a password.
systemctl stop orthanc
find /var/lib/orthanc/db-v6 -mindepth 1 -delete
runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 <<'SQL'
DROP DATABASE IF EXISTS orthanc WITH (FORCE);
SELECT 'CREATE ROLE orthanc LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orthanc') \gexec
CREATE DATABASE orthanc OWNER orthanc TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
SQL
cat > /etc/orthanc/postgresql.json <<'JSON'
{"PostgreSQL": {"EnableIndex": true, "EnableStorage": false, "ConnectionUri": "postgresql:///orthanc?host=/var/run/postgresql"}}
JSON
systemctl start orthanc
python3 - <<'PYTHON'
import pathlib, time, urllib.error, urllib.request
def ask(path, data=None):
    return urllib.request.urlopen(f"http://127.0.0.1:8042/{path}", data=data, timeout=30).read()
end = time.monotonic() + 60
while True:
    try:
        ask("system")
        break
    except (urllib.error.URLError, ConnectionError):
        if time.monotonic() > end:
            raise
        time.sleep(0.2)
for image in sorted(pathlib.Path("/srv/clinic/images").rglob("*.dcm")):
    ask("instances", image.read_bytes())
PYTHON
rm clinic/.accounts.sql clinic/.laboratory.sql
sync --file-system .
touch "clinic/.software-$version"
