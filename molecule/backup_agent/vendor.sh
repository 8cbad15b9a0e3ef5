#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A vendor's backup. vendor dump: to standard output, slowly enough to be met under way; spoilt by what /srv/vendor/fault says.
# vendor file NAME SECONDS: writes a backup file, a piece each tenth of a second.
set -eu
fault=$(cat /srv/vendor/fault 2>/dev/null || true)
if [ "$1" = dump ]; then
  for n in $(seq 20000); do
    echo "row $n of patient Smith"
    [ "$n" != 10000 ] || sleep 1
    [ "$fault $n" != "half 12000" ] || { echo "cannot read patient Smith" >&2; exit 3; }
  done
  [ "$fault" = marker ] || echo "-- end of dump"
else
  for _ in $(seq $(($3 * 10))); do
    head -c 5000 /dev/urandom >> "/srv/vendor/$2"
    sleep 0.1
  done
fi
