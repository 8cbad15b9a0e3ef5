#!/bin/bash
# Runs on the clinic server: load /srv/clinic/.incoming.tar. Cut short anywhere, it is simply run again.
set -euo pipefail
version=$1
cd /srv/clinic

rm -rf .incoming .data-*
getent passwd clinic >/dev/null || useradd --system --home-dir /srv/clinic --shell /usr/sbin/nologin clinic
mkdir -m 0700 .incoming
tar --extract --file .incoming.tar --directory .incoming --same-owner --same-permissions

# The cluster may speak only ASCII (a bare machine has no locale); names of patients do not.
runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 <<'SQL'
SELECT 'CREATE ROLE clinic LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'clinic') \gexec
SELECT 'CREATE DATABASE clinic OWNER clinic TEMPLATE template0 ENCODING ''UTF8'' LOCALE ''C.UTF-8'''
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'clinic') \gexec
SQL
# One transaction: half a load is no load.
runuser -u postgres -- psql -X -q -v ON_ERROR_STOP=1 --single-transaction -o /dev/null \
  -c 'SET LOCAL ROLE clinic' -f - clinic < .incoming/clinic.sql

for part in documents images; do
  rm -rf "$part"
  mv ".incoming/$part" "$part"
done
rm -rf .incoming .incoming.tar
sync --file-system .
touch ".data-$version"
