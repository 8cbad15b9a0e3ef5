# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501  (the table reads across)
"""What people get wrong in a practice document, row by row, with every line that they are told, word by word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible_collections.holdfast.practice.plugins.plugin_utils import available, check, source

DOCUMENTS = Path(__file__).parent / "documents"
GOOD = (DOCUMENTS / "good.txt").read_text("utf-8")
HOSTS = GOOD[GOOD.index("hosts:\n") : GOOD.index("protect:\n")]
EXAMPLE = Path(__file__).resolve().parents[2] / "inventories" / "harbour-street" / "practice.yml"


class Row(NamedTuple):
    """Edits of the good document, and all that is said then, after practice.yml: in order.

    also: key paths of parts that a version may not have yet. Their mistakes are said nevertheless, beside that.
    """

    id: str
    name: str
    edits: list[tuple[str, str]]
    lines: list[str]
    also: tuple[str, ...] = ()


NO_QUERY = ('    images: {query: "select path from image", root: /srv/clinic/images}\n', "")
NO_PROBE = ('    probes: {newest_entry: "select max(recorded_at) from appointment"}\n', "")
# The traps are numbered; those that are about values that must work, or about several practices, are further down.
ROWS = [
    # I01
    Row("I01", "text for a mapping", [("{within: {hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}", '"many"')], ['22: retention: got "many" (string); expected {within: {daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}']),
    Row("I01", "text for a duration", [("daily: 35d", 'daily: "many"')], ['22: retention.within.daily: got "many" (string); expected a time such as 35d (h, d, w, mo, y)']),
    Row("I01", "text for a list", [("protect: [desk_files]", "protect: desk_files")], ['10: hosts.desk1.protect: got "desk_files" (string); expected a list of names that are described below protect:, such as [clinical_db, documents]; write [desk_files]']),
    Row("I01", "text for all hosts", [("hosts:\n", "hosts: srv1\nprotect_also:\n")], ['7: hosts: got "srv1" (string); expected the machines, by name', '8: protect_also: unknown key "protect_also"; expected one of practice, contacts, hours, objectives, access, hosts, protect, copies, line, retention, maintenance, power, prove, evidence, alerts, programs, retired; did you mean "protect"?']),
    # I02
    Row("I02", "misspelt section", [("retention:", "retenton:")], ['22: retenton: unknown key "retenton"; expected one of practice, contacts, hours, objectives, access, hosts, protect, copies, line, retention, maintenance, power, prove, evidence, alerts, programs, retired; did you mean "retention"?']),
    Row("I02", "misspelt key deep inside", [("must_have:", "must_hav:")], ['19: protect.documents.must_hav: unknown key "must_hav"; expected one of database, paths, exclude, must_have, min_files, min_size, mounts, class, every, at, days, time_limit, window, at_window_end, throttle_to, limits, dump_limit, nice, io_class, size, daily_change, images, probes, tripwires, application, hooks; did you mean "must_have"?']),
    Row("I02", "programs", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nprograms: {restic: {sha256: abc}}")], ["22: programs.restic: there is neither file nor url; expected one place that it comes from; leave restic out to use the distribution's", "22: programs.restic.sha256: got \"abc\" (string); expected the sha256 of that file: 64 characters 0-9 a-f"]),
    Row("I02", "program from nowhere", [("copies: {onsite: {on: nas1}}", f"copies: {{onsite: {{on: nas1}}}}\nprograms: {{restic: {{sha256: {'ab' * 32}}}}}")], ["22: programs.restic: there is neither file nor url; expected one place that it comes from; leave restic out to use the distribution's"]),
    Row("I02", "program from two places", [("copies: {onsite: {on: nas1}}", f"copies: {{onsite: {{on: nas1}}}}\nprograms: {{restic: {{file: restic.bz2, url: \"https://example.org/restic\", sha256: {'ab' * 32}}}}}")], ["22: programs.restic: there are both file and url; expected one place that it comes from; keep one of the two"]),
    Row("I02", "program without TLS", [("copies: {onsite: {on: nas1}}", f"copies: {{onsite: {{on: nas1}}}}\nprograms: {{restic: {{url: \"http://example.org/restic\", sha256: {'AB' * 32}}}}}")], ['22: programs.restic.url: got "http://example.org/restic": without TLS anybody on the way can read it; expected an address such as https://example.org/restic_linux_amd64.bz2; write "https://example.org/restic"', f'22: programs.restic.sha256: got "{"AB" * 27}A..." (string); expected the sha256 of that file: 64 characters 0-9 a-f; write it in small letters']),
    Row("I01", "a hook for a shell", [("{paths: [/srv/clinic/documents]", "{hooks: {before: {run: systemctl stop pms}}, paths: [/srv/clinic/documents]")], ['19: protect.documents.hooks.before.run: got "systemctl stop pms" (string); expected a program by its absolute path and its arguments, such as [/usr/bin/systemctl, stop, pms.service]; write a list: [PROGRAM, ARGUMENT]; no shell reads it']),
    Row("I01", "a hook without a path", [("{paths: [/srv/clinic/documents]", "{hooks: {before: {run: [systemctl, stop, pms]}}, paths: [/srv/clinic/documents]")], ['19: protect.documents.hooks.before.run: got "systemctl" first; expected a program by its absolute path first']),
    Row("I01", "a hook that does nothing", [("{paths: [/srv/clinic/documents]", "{hooks: {after: {run: []}}, paths: [/srv/clinic/documents]")], ['19: protect.documents.hooks.after.run: got an empty list; expected a program by its absolute path and its arguments, such as [/usr/bin/systemctl, stop, pms.service]']),
    Row("I02", "a hook at another time", [("{paths: [/srv/clinic/documents]", "{hooks: {during: {run: [/bin/true]}}, paths: [/srv/clinic/documents]")], ['19: protect.documents.hooks.during: unknown key "during"; expected one of before, after, on_failure']),
    Row("I01", "a hook whose user has a space", [("{paths: [/srv/clinic/documents]", "{hooks: {on_failure: {run: [/bin/true], user: pms user}}, paths: [/srv/clinic/documents]")], ['19: protect.documents.hooks.on_failure.user: got "pms user" (string); expected a user name such as root']),
    Row("I15", "a hook that may take days", [("{paths: [/srv/clinic/documents]", "{hooks: {on_failure: {run: [/bin/true], limit: 2d}}, paths: [/srv/clinic/documents]")], ['19: protect.documents.hooks.on_failure.limit: got "2d" (string); expected a time such as 30s or 5m (s, m, h)']),
    Row("I02", "heads by a mail that nobody sends", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nevidence: {publish: {mail: [a@example.org]}}")], ["22: evidence.publish.mail: there is no alerts.mail, which says how mails are sent; expected a way to send them; add alerts: {mail: {relay: HOST, sender: ADDRESS}}"]),
    Row("I01", "a folder for heads that is none", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nevidence: {publish: {folder: stick}}")], ['22: evidence.publish.folder: got "stick" (string); expected a folder that the control node reaches and others keep, such as /media/manager/evidence']),
    # software that a proof brings up
    Row("I01", "an application in words", [("    class: critical", "    class: critical\n    application: orthanc")], ['16: protect.clinical_db.application: got "orthanc" (string); expected {packages: [...], units: [...], ask: {NAME: {http: ...}}}; left out: its level is not promised']),
    Row("I03", "an application that nobody asks", [("    class: critical", "    class: critical\n    application: {units: [pms.service]}")], ['16: protect.clinical_db.application.ask: missing; expected named questions such as system: {http: "http://127.0.0.1:8042/system"}']),
    Row("I03", "an application with no question", [("    class: critical", "    class: critical\n    application: {ask: {}}")], ['16: protect.clinical_db.application.ask: it is empty; expected named questions such as system: {http: "http://127.0.0.1:8042/system"}']),
    Row("I02", "an application's misspelt key", [("    class: critical", "    class: critical\n    application: {unit: [pms.service], ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.unit: unknown key "unit"; expected one of packages, needs, owner, units, limit, ask; did you mean "units"?']),
    Row("I01", "a unit by half its name", [("    class: critical", "    class: critical\n    application: {units: [orthanc], ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.units[0]: got "orthanc" (string); expected a unit of systemd such as orthanc.service; write "orthanc.service"']),
    Row("I01", "a unit that is a timer", [("    class: critical", "    class: critical\n    application: {units: [pms.timer], ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.units[0]: got "pms.timer" (string); expected a unit of systemd such as orthanc.service']),
    Row("I01", "one unit for a list", [("    class: critical", "    class: critical\n    application: {units: orthanc.service, ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.units: got "orthanc.service" (string); expected the units that are started, such as [orthanc.service]; write [orthanc.service]']),
    Row("I37", "an owner that is two", [("    class: critical", "    class: critical\n    application: {owner: pms user, ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.owner: got "pms user" (string); expected the user that the restored files belong to, such as orthanc']),
    Row("I37", "a package with a space", [("    class: critical", "    class: critical\n    application: {packages: [orthanc --all], ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.packages[0]: got "orthanc --all" (string); expected the name of a Debian package']),
    Row("I15", "software that may take days to start", [("    class: critical", "    class: critical\n    application: {limit: 2d, ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.limit: got "2d" (string); expected how long until all is answered, such as 30s or 5m (s, m, h)']),
    Row("I02", "a question without a kind", [("    class: critical", "    class: critical\n    application: {ask: {it: {status: 200}}}")], ["16: protect.clinical_db.application.ask.it: there is nothing to ask; expected one of http, port, query and command"]),
    Row("I02", "a question of two kinds", [("    class: critical", "    class: critical\n    application: {ask: {it: {port: 80, query: select 1}}}")], ["16: protect.clinical_db.application.ask.it: there are port and query; expected one of http, port, query and command; write each as a question of its own"]),
    Row("I02", "a misspelt kind", [("    class: critical", '    class: critical\n    application: {ask: {it: {htp: "http://127.0.0.1/"}}}')], ['16: protect.clinical_db.application.ask.it.htp: unknown key "htp"; expected one of http, status, contains, count, rows, file, port, query, command, exit_code, user; did you mean "http"?']),
    Row("I01", "a question that is an address", [("    class: critical", '    class: critical\n    application: {ask: {it: "http://127.0.0.1/"}}')], ['16: protect.clinical_db.application.ask.it: got "http://127.0.0.1/" (string); expected named questions such as system: {http: "http://127.0.0.1:8042/system"}']),
    Row("I63", "an address in the practice", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://198.18.0.12:8042/system"}}}')], ['16: protect.clinical_db.application.ask.it.http: got "http://198.18.0.12:8042/system", an address outside of the machine; expected an address inside the machine in quotes, such as "http://127.0.0.1:8042/system"; write "http://127.0.0.1:PORT/...": the restored copy is asked inside its machine, which has no network']),
    Row("I63", "an address with a password", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://me:secret@127.0.0.1/"}}}')], ["16: protect.clinical_db.application.ask.it: there is nothing to ask; expected one of http, port, query and command", "16: protect.clinical_db.application.ask.it.http: got an address with a user or password in it (hidden); expected no secrets in this document; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"]),
    Row("I01", "no address", [("    class: critical", "    class: critical\n    application: {ask: {it: {http: localhost}}}")], ['16: protect.clinical_db.application.ask.it.http: got "localhost" (string); expected an address inside the machine in quotes, such as "http://127.0.0.1:8042/system"']),
    Row("I62", "port zero", [("    class: critical", "    class: critical\n    application: {ask: {it: {port: 0}}}")], ["16: protect.clinical_db.application.ask.it.port: got 0 (integer); expected a port, a whole number from 1 to 65535"]),
    Row("I01", "a status in words", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://127.0.0.1/", status: ok}}}')], ['16: protect.clinical_db.application.ask.it.status: got "ok" (string); expected for http: the status that it answers with, 100 to 599; left out: 200']),
    Row("I62", "a status of four digits", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://127.0.0.1/", status: 2000}}}')], ["16: protect.clinical_db.application.ask.it.status: got 2000 (integer); expected for http: the status that it answers with, 100 to 599; left out: 200"]),
    Row("I01", "a question that changes something", [("    class: critical", '    class: critical\n    application: {ask: {it: {query: "delete from patient"}}}')], ['16: protect.clinical_db.application.ask.it.query: got "delete from patient" (string); expected one select statement that gives something']),
    Row("I37", "a command for a shell", [("    class: critical", "    class: critical\n    application: {ask: {it: {command: pms --check}}}")], ['16: protect.clinical_db.application.ask.it.command: got "pms --check" (string); expected a program by its absolute path and its arguments, such as [/usr/bin/pms, --check]; write a list: [PROGRAM, ARGUMENT]; no shell reads it']),
    Row("I37", "a command without its path", [("    class: critical", "    class: critical\n    application: {ask: {it: {command: [pms, --check]}}}")], ['16: protect.clinical_db.application.ask.it.command: got "pms" first; expected a program by its absolute path first']),
    Row("I62", "an exit code that no program has", [("    class: critical", "    class: critical\n    application: {ask: {it: {command: [/bin/true], exit_code: 256}}}")], ["16: protect.clinical_db.application.ask.it.exit_code: got 256 (integer); expected for command: what it ends with, 0 to 255; left out: 0"]),
    Row("I02", "an exit code of a page", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://127.0.0.1/", exit_code: 1}}}')], ["16: protect.clinical_db.application.ask.it.exit_code: exit_code without command; expected command: beside it"]),
    Row("I02", "a text of a port", [("    class: critical", "    class: critical\n    application: {ask: {it: {port: 80, contains: x}}}")], ["16: protect.clinical_db.application.ask.it.contains: contains without http; expected http: beside it"]),
    Row("I02", "rows without a place", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://127.0.0.1/", rows: "select id from image"}}}')], ['16: protect.clinical_db.application.ask.it.http: got "http://127.0.0.1/", the same for each row; expected an address with {1} in it, where a row\'s first word goes']),
    Row("I02", "a place without rows", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://127.0.0.1/{1}"}}}')], ["16: protect.clinical_db.application.ask.it.http: {1} without rows; expected rows: beside it, to put something there"]),
    Row("I02", "rows and a count", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://127.0.0.1/{1}", rows: "select id from image", count: "select 1"}}}')], ["16: protect.clinical_db.application.ask.it.count: there are both rows and count; expected one of the two; write two questions"]),
    Row("I02", "a file without rows", [("    class: critical", '    class: critical\n    application: {ask: {it: {http: "http://127.0.0.1/", file: x}}}')], ["16: protect.clinical_db.application.ask.it.file: file without rows; expected rows: beside it"]),
    Row("I02", "a question of no database", [("{paths: [/srv/clinic/documents]", '{application: {ask: {it: {query: "select 1"}}}, paths: [/srv/clinic/documents]')], ["19: protect.documents.application.ask.it.query: query without a database; expected database: in the same item"]),
    Row("I02", "software that needs itself", [("    class: critical", "    class: critical\n    application: {needs: [clinical_db], ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.needs[0]: got "clinical_db", the item itself; expected another item']),
    Row("I02", "software that needs what is not there", [("    class: critical", "    class: critical\n    application: {needs: [document], ask: {it: {port: 80}}}")], ['16: protect.clinical_db.application.needs[0]: got "document" (string); expected an item below protect: documents, desk_files; did you mean "documents"?']),
    Row("I02", "software that needs another host's files", [("    class: critical", "    class: critical\n    application: {needs: [desk_files], ask: {it: {port: 80}}}")], ["16: protect.clinical_db.application.needs[0]: server1 protects clinical_db, and not desk_files; expected an item of the same host; add desk_files to the protect list of server1"]),
    Row("I02", "software that needs a database", [("{paths: [/srv/clinic/documents]", "{application: {needs: [clinical_db], ask: {it: {port: 80}}}, paths: [/srv/clinic/documents]")], ['19: protect.documents.application.needs[0]: "clinical_db" is a database; expected an item with paths']),
    Row("I35", "software laid over the machine", [("{paths: [/srv/clinic/documents]", "{application: {ask: {it: {port: 80}}}, paths: [/etc]"), ("must_have: [/srv/clinic/documents/letters]", "must_have: [/etc/ssh]")], ['19: protect.documents.paths[0]: got "/etc", which the restore machine has itself: the application of documents cannot be laid out there; expected a folder of the software alone, such as /etc/orthanc']),
    Row("I35", "jobs brought back to life", [("{paths: [/srv/clinic/documents]", "{application: {ask: {it: {port: 80}}}, paths: [/etc/cron.d]"), ("must_have: [/srv/clinic/documents/letters]", "must_have: [/etc/cron.d/x]")], ['19: protect.documents.paths[0]: got "/etc/cron.d", which the restore machine has itself: the application of documents cannot be laid out there; expected a folder of the software alone, such as /etc/orthanc']),
    Row("I27", "software of a vendor's dump", [("{engine: postgresql, name: clinic}", "{engine: command, dump: [/opt/dump]}"), ('    images: {query: "select path from image", root: /srv/clinic/images}\n', ""), ('    probes: {newest_entry: "select max(recorded_at) from appointment"}\n', ""), ("    class: critical", "    class: critical\n    application: {ask: {it: {port: 80}}}")], ["16: protect.clinical_db.application: application with engine: command; expected no application: a vendor's dump cannot be put to use by itself; let check: of the database try the dump"]),
    # I03
    Row("I03", "no time zone", [(", timezone: Australia/Sydney", "")], ["1: practice.timezone: missing; expected an IANA region zone such as Australia/Perth"]),
    # I04
    Row("I04", "time without quotes", [('at: "21:00"', "at: 22:00")], ['19: protect.documents.at: got 1320 (integer); expected a time of day as "HH:MM" in quotes, "00:00" to "23:59"; YAML reads 22:00 as a base-60 number; write "22:00" in quotes']),
    # I06
    Row("I06", "Norway", [("country: AU", "country: NO")], ['1: practice.country: got false (boolean); expected a country code of two capital letters in quotes, such as "AU"; YAML reads NO as a boolean; write "NO" in quotes']),
    # I07
    Row("I07", "octal", [('at: "12:30"', 'at: "12:30", min_files: 0750')], ["20: protect.desk_files.min_files: got 488 (integer); expected a whole number from 1; YAML reads 0750 as an octal number"]),
    Row("I07", "octal in the new way", [('at: "12:30"', 'at: "12:30", min_files: 0o750')], ['20: protect.desk_files.min_files: got "0o750" (string); expected a whole number from 1']),
    Row("I07", "octal that is none", [('at: "12:30"', 'at: "12:30", min_files: 0899')], ['20: protect.desk_files.min_files: got "0899" (string); expected a whole number from 1']),
    Row("I07", "mode, which no document has", [('at: "12:30"', 'at: "12:30", mode: 0750')], ['20: protect.desk_files.mode: unknown key "mode"; expected one of database, paths, exclude, must_have, min_files, min_size, mounts, class, every, at, days, time_limit, window, at_window_end, throttle_to, limits, dump_limit, nice, io_class, size, daily_change, images, probes, tripwires, application, hooks']),
    # I08
    Row("I08", "version 1.10", [("name: clinic}", "name: clinic, version: 1.10}")], ["14: protect.clinical_db.database.version: got 1.1 (number); expected the engine's version in quotes, such as \"17\" or \"10.11\"; write \"1.10\" in quotes"]),
    Row("I08", "version 15.0", [("name: clinic}", "name: clinic, version: 15.0}")], ["14: protect.clinical_db.database.version: got 15.0 (number); expected the engine's version in quotes, such as \"17\" or \"10.11\"; write \"15.0\" in quotes"]),
    Row("I08", "version 17", [("name: clinic}", "name: clinic, version: 17}")], ["14: protect.clinical_db.database.version: got 17 (integer); expected the engine's version in quotes, such as \"17\" or \"10.11\"; write \"17\" in quotes"]),
    # I10
    Row("I10", "duplicate host", [("  desk1: {kind", "  server1: {kind")], ['10: hosts.server1: duplicate key "server1" at lines 9 and 10; expected each key once; keep one of the two "server1"']),
    # I11
    Row("I11", "password with a comment", [("access: {user: root, key: ssh_key}", "access:\n  user: root\n  password: ab #c")], ["8: access.password: there is a plain-text secret (hidden); expected no secrets in this document; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"]),
    Row("I11", "text cut by a comment", [("    class: critical", "    class: critical #2")], ['15: protect.clinical_db.class: got "critical" (string): what follows # is a comment; expected all of the text in quotes; write a blank after the # where a comment is meant']),
    Row("I11", "text cut by a comment, in braces", [("name: Robin Example", "name: Robin #2")], ["3: what follows # is a comment; expected the end of what began here; write the text in quotes where the # belongs to it"]),
    Row("I11", "percent sign", [("name: Robin Example", "name: %x")], ['3: the text begins with %; expected text in quotes; write it in straight quotes: "..."']),
    Row("I11", "at sign", [("name: Robin Example", "name: @x")], ['3: the text begins with @; expected text in quotes; write it in straight quotes: "..."']),
    Row("I11", "star", [('at: "12:30"', 'at: "12:30", exclude: [*.tmp]')], ['20: the text begins with *; expected text in quotes; write it in straight quotes: "..."']),
    Row("I11", "star that is an alias", [('at: "12:30"', 'at: "12:30", exclude: [*tmp]')], ["20: protect.desk_files.exclude[0]: got an alias (*); expected a value; write the value out, or in quotes where the * belongs to it"]),
    # I13
    Row("I13", "date without quotes", [("manager@harbour-street.example", "manager@harbour-street.example, agreement: {reference: A1, reviewed: 2026-11-21}")], ['3: contacts.backup_owner.agreement.reviewed: got 2026-11-21 (date); expected a date as "YYYY-MM-DD" in quotes; YAML reads 2026-11-21 as a date; write "2026-11-21" in quotes']),
    Row("I13", "date in another order", [("manager@harbour-street.example", "manager@harbour-street.example, agreement: {reference: A1, reviewed: 31/12/26}")], ['3: contacts.backup_owner.agreement.reviewed: got "31/12/26" (string); expected a date as "YYYY-MM-DD" in quotes']),
    Row("I13", "day that no calendar has", [("manager@harbour-street.example", 'manager@harbour-street.example, agreement: {reference: A1, reviewed: "2026-02-30"}')], ['3: contacts.backup_owner.agreement.reviewed: got "2026-02-30", a day that no calendar has; expected a date as "YYYY-MM-DD" in quotes']),
    # I14
    Row("I14", "tab", [("  desk1:", "\tdesk1:")], ["10: there is a tab character in the indentation; expected spaces; write two spaces for each level"]),
    Row("I14", "curly quotes", [("name: Robin Example", "name: \u201cRobin Example\u201d")], ['3: contacts.backup_owner.name: got curly quotes: "\u201cRobin Example\u201d"; expected straight quotes; write "Robin Example"']),
    # I15
    Row("I15", 'time "25:00"', [('at: "21:00"', 'at: "25:00"')], ['19: protect.documents.at: got "25:00" (string); expected a time of day as "HH:MM" in quotes, "00:00" to "23:59"']),
    Row("I15", 'time "24:00"', [('at: "21:00"', 'at: "24:00"')], ['19: protect.documents.at: got "24:00" (string); expected a time of day as "HH:MM" in quotes, "00:00" to "23:59"']),
    Row("I15", 'time "-1:00"', [('at: "21:00"', 'at: "-1:00"')], ['19: protect.documents.at: got "-1:00" (string); expected a time of day as "HH:MM" in quotes, "00:00" to "23:59"']),
    Row("I15", "time 8pm", [('at: "21:00"', "at: 8pm")], ['19: protect.documents.at: got "8pm" (string); expected a time of day as "HH:MM" in quotes, "00:00" to "23:59"']),
    # I16
    Row("I16", "empty window", [('sat: "09:00-12:00"', 'sat: "09:00-09:00"')], ['4: hours.sat: the window "09:00-09:00" is empty; expected a window as "HH:MM-HH:MM" in quotes, such as "08:00-18:30"; leave it out, or write two different times']),
    Row("I16", "whole day as an empty window", [('sat: "09:00-12:00"', 'sat: "00:00-00:00"')], ['4: hours.sat: the window "00:00-00:00" is empty; expected a window as "HH:MM-HH:MM" in quotes, such as "08:00-18:30"; write "00:00-23:59" for the whole day']),
    Row("I16", "whole day until 24:00", [('sat: "09:00-12:00"', 'sat: "00:00-24:00"')], ['4: hours.sat: got "00:00-24:00" (string); expected a window as "HH:MM-HH:MM" in quotes, such as "08:00-18:30"; write "00:00-23:59" for the whole day']),
    # I17
    Row("I17", "across midnight", [("copies: {onsite: {on: nas1}}", 'copies: {onsite: {on: nas1}}\nmaintenance: {prune: {days: sun, window: "01:30-03:00"}}'), ('at: "21:00"}', 'at: "22:00", time_limit: 4h}')], ["22: maintenance.prune: prune 01:30-03:00 (sun) overlaps backup documents 22:00-02:00; expected times apart from each other; move one of the two"], ("maintenance",)),
    Row("I17", "across the week's end", [("rpo: 24h", "rpo: 2w"), ("copies: {onsite: {on: nas1}}", 'copies: {onsite: {on: nas1}}\nmaintenance: {prune: {days: mon, window: "00:30-01:00"}}'), ('at: "21:00"}', 'at: "23:30", days: sun}')], ["22: maintenance.prune: prune 00:30-01:00 (mon) overlaps backup documents 23:30-01:30 (sun); expected times apart from each other; move one of the two"], ("maintenance",)),
    Row("I17", "maintenance with itself", [("copies: {onsite: {on: nas1}}", 'copies: {onsite: {on: nas1}}\nmaintenance: {check: {days: sat, window: "03:00-05:00"}, reboot: {days: sat, window: "04:30-04:45"}}')], ["22: maintenance.reboot: reboot 04:30-04:45 (sat) overlaps check 03:00-05:00 (sat); expected times apart from each other; move one of the two"], ("maintenance",)),
    Row("I17", "offsite copy", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, offsite: {rest: {url: "https://b.example.org"}, country: AU, window: "20:00-05:00"}}')], ["21: copies.offsite: copies.offsite 20:00-05:00 overlaps backup documents 21:00-23:00; expected times apart from each other; move one of the two"], ("copies.offsite",)),
    # I19
    Row("I19", "zone EST", [("Australia/Sydney", "EST")], ['1: practice.timezone: got "EST" (string); expected an IANA region zone such as Australia/Perth; a fixed offset such as EST or GMT+10 is not one, nor is an old name such as US/Eastern']),
    Row("I19", "zone GMT+10", [("Australia/Sydney", "GMT+10")], ['1: practice.timezone: got "GMT+10" (string); expected an IANA region zone such as Australia/Perth; a fixed offset such as EST or GMT+10 is not one, nor is an old name such as US/Eastern']),
    Row("I19", "zone Australia/Sidney", [("Australia/Sydney", "Australia/Sidney")], ['1: practice.timezone: got "Australia/Sidney" (string); expected an IANA region zone such as Australia/Perth; did you mean "Australia/Sydney"?']),
    Row("I19", "zone Etc/GMT+10", [("Australia/Sydney", "Etc/GMT+10")], ['1: practice.timezone: got "Etc/GMT+10" (string); expected an IANA region zone such as Australia/Perth; a fixed offset such as EST or GMT+10 is not one, nor is an old name such as US/Eastern']),
    Row("I19", "zone US/Eastern", [("Australia/Sydney", "US/Eastern")], ['1: practice.timezone: got "US/Eastern" (string); expected an IANA region zone such as Australia/Perth; a fixed offset such as EST or GMT+10 is not one, nor is an old name such as US/Eastern']),
    # I22
    Row("I22", "all zeros", [("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{daily: 0d, weekly: 0w}")], ['22: retention.within.daily: got "0d" (string); expected a time such as 35d (h, d, w, mo, y)', '22: retention.within.weekly: got "0w" (string); expected a time such as 6mo (h, d, w, mo, y)']),
    Row("I22", "only keep_last", [("{within: {hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}}", "{keep_last: 1}")], ['22: retention.keep_last: unknown key "keep_last"; expected one of within; say how far back it reaches: within: {daily: 35d, weekly: 6mo, monthly: 3y}']),
    Row("I22", "one restore point", [("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{daily: 1d}")], ["22: retention.within: this keeps 1 restore point; expected at least 2 restore points; write for example {daily: 35d, weekly: 6mo, monthly: 3y}"]),
    Row("I22", "two weeks", [("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{daily: 14d}")], ["22: retention.within: this reaches back 14 days; expected at least 30 days; write for example {daily: 35d, weekly: 6mo, monthly: 3y}"]),
    # I23
    Row("I23", "shorter than the proofs", [("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{daily: 30d}"), ("documents: weekly", "documents: monthly")], ["25: prove.documents: proven monthly, but retention.within reaches back 30 days; expected a proof before its backup is forgotten; keep longer, or prove more often"]),
    Row("I23", "shorter than the RPO", [("{hourly: 2d, daily: 35d, weekly: 6mo, monthly: 3y, yearly: 7y}", "{daily: 30d}"), ("rpo: 24h", "rpo: 5w")], ['5: objectives.rpo: got "5w", longer than retention.within reaches back (30 days); expected a restore point within the RPO; keep longer']),
    Row("I23", "shorter than the object lock", [("{onsite: {on: nas1}}", "{onsite: {on: nas1}, offsite: {s3: {bucket: harbour-street, region: ap-southeast-2, object_lock: 8y}}}")], ['21: copies.offsite.s3.object_lock: got "8y", longer than anything is kept (2555 days by retention.within); expected at most what retention keeps: a prune could never delete; write a shorter lock, or keep longer'], ("copies.offsite",)),
    # I25
    Row("I25", "one backup a day for 4h", [("rpo: 24h", "rpo: 4h"), ('at: "12:30"', "every: 4h")], ["19: protect.documents.at: a backup once a day at 21:00 cannot meet objectives.rpo 4h: at best 24h + the run; expected a backup at least every 4h; write every: 4h"]),
    # vendors' own dumps
    Row("I27", "command without a program", [("{engine: postgresql, name: clinic}", "{engine: command}"), NO_QUERY, NO_PROBE], ["14: protect.clinical_db.database.dump: missing; expected for command: the vendor's program and its arguments, such as [/opt/vendor/bin/dump, --all] (for command)"]),
    Row("I27", "program without its path", [("{engine: postgresql, name: clinic}", "{engine: command, dump: [dump]}"), NO_QUERY, NO_PROBE], ['14: protect.clinical_db.database.dump: got "dump" first; expected a program by its absolute path first']),
    Row("I27", "program as root", [("{engine: postgresql, name: clinic}", "{engine: command, dump: [/opt/dump], user: root}"), NO_QUERY, NO_PROBE], ['14: protect.clinical_db.database.user: got "root"; expected for command: the name of the user that the program runs as; left out: holdfast; name the user that the vendor\'s program runs as, or leave it out']),
    Row("I27", "a dump that is asked", [("{engine: postgresql, name: clinic}", "{engine: command, dump: [/opt/dump]}")], ["17: protect.clinical_db.images: images with engine: command; expected no questions: a vendor's dump cannot be asked", "18: protect.clinical_db.probes: probes with engine: command; expected no questions: a vendor's dump cannot be asked"]),
    Row("I27", "check without the dump", [("{engine: postgresql, name: clinic}", "{engine: command, dump: [/opt/dump], check: [/usr/bin/gzip, -t]}"), NO_QUERY, NO_PROBE], ['14: protect.clinical_db.database.check: {dump} is not in it; expected the dump\'s path in the check, as "{dump}"']),
    Row("I27", "pickup without a pattern", [("{engine: postgresql, name: clinic}", "{engine: pickup, path: /srv/v}"), NO_QUERY, NO_PROBE], ['14: protect.clinical_db.database.pattern: missing; expected for pickup: a pattern of file names in quotes, such as "*.bak" (for pickup)']),
    Row("I27", "pattern with a folder", [("{engine: postgresql, name: clinic}", '{engine: pickup, path: /srv/v, pattern: "a/*.bak"}'), NO_QUERY, NO_PROBE], ['14: protect.clinical_db.database.pattern: got "a/*.bak" (string); expected for pickup: a pattern of file names in quotes, such as "*.bak"']),
    Row("I27", "age for PostgreSQL", [("name: clinic}", "name: clinic, max_age: 26h}")], ["14: protect.clinical_db.database.max_age: max_age for a database of postgresql; expected max_age with engine: pickup; leave max_age out"]),
    Row("I27", "packages without a check", [("{engine: postgresql, name: clinic}", "{engine: command, dump: [/opt/dump], packages: [gzip]}"), NO_QUERY, NO_PROBE], ["14: protect.clinical_db.database.packages: packages without check; expected check: beside it"]),
    # I27
    Row("I27", "engine postgress", [("engine: postgresql", "engine: postgress")], ['14: protect.clinical_db.database.engine: got "postgress" (string), an unknown engine; expected a supported engine (postgresql, mariadb, sqlite, firebird, sqlserver, command, pickup); did you mean "postgresql"?']),
    Row("I27", "engine mysql8", [("engine: postgresql", "engine: mysql8")], ['14: protect.clinical_db.database.engine: got "mysql8" (string), an unknown engine; expected a supported engine (postgresql, mariadb, sqlite, firebird, sqlserver, command, pickup); did you mean "mariadb"?']),
    Row("I27", "engine access", [("engine: postgresql", "engine: access")], ['14: protect.clinical_db.database.engine: got "access" (string), an unknown engine; expected a supported engine (postgresql, mariadb, sqlite, firebird, sqlserver, command, pickup)']),
    # I28
    Row("I28", "engine of another system", [("{engine: postgresql, name: clinic}", "{engine: sqlserver, name: clinic}")], ["9: hosts.server1.protect[0]: clinical_db is a database of sqlserver, server1 has os: linux; expected sqlserver on hosts with os: windows; write os: windows, or correct engine:"], ("protect.clinical_db.database.engine",)),
    Row("I28", "SQLite on a folder", [("{engine: postgresql, name: clinic}", "{engine: sqlite, path: /srv/clinic}")], ["14: protect.clinical_db.database.path: got \"/srv/clinic\", a folder; expected a file; write the path of the database's file"], ("protect.clinical_db.database.engine",)),
    Row("I28", "SQLite by name", [("{engine: postgresql, name: clinic}", "{engine: sqlite, name: clinic}")], ["14: protect.clinical_db.database.path: missing; expected the file that is the database (for sqlite)", "14: protect.clinical_db.database.name: name for a database of sqlite; expected only path; leave name out"], ("protect.clinical_db.database.engine",)),
    Row("I28", "Firebird by name", [("{engine: postgresql, name: clinic}", "{engine: firebird, name: clinic}")], ["14: protect.clinical_db.database.path: missing; expected the file that is the database (for firebird)", "14: protect.clinical_db.database.name: name for a database of firebird; expected only path; leave name out"], ("protect.clinical_db.database.engine",)),
    Row("I28", "two items with one database", [('documents: {paths: [/srv/clinic/documents], must_have: [/srv/clinic/documents/letters], at: "21:00"}', "documents: {database: {engine: postgresql, name: clinic}}")], ["9: hosts.server1.protect[1]: documents is the same database as clinical_db (clinic); expected each database once on a host"]),
    # I30
    Row("I30", "password", [("user: root", "user: root, repo_password: hunter2hunter2")], ["6: access.repo_password: there is a plain-text secret (hidden); expected no secrets in this document; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"]),
    Row("I30", "password of a database", [("{engine: postgresql, name: clinic}", "{engine: postgresql, name: clinic, password: {value: hunter2hunter2}}")], ["14: protect.clinical_db.database.password: there is a plain-text secret (hidden); expected no secrets in this document; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"]),
    Row("I30", "private key", [("access: {user: root, key: ssh_key}", "access:\n  user: root\n  key: |\n    -----BEGIN OPENSSH PRIVATE KEY-----\n    hunter2hunter2")], ["8: access.key: there is a private key (hidden); expected no secrets in this document; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"]),
    Row("I30", "password in an address", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, offsite: {rest: {url: "https://me:hunter2hunter2@b.example.org"}, country: AU}}')], ["21: copies.offsite.rest.url: got an address with a user or password in it (hidden); expected no secrets in this document; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"], ("copies.offsite",)),
    Row("I30", "vaulted here", [("user: root", "user: !vault hunter2hunter2")], ["6: access.user: got a tag (!vault); expected a plain value; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)"]),
    # I35
    Row("I35", "path srv/x", [("[/home/reception/Documents]", "[srv/x]")], ['20: protect.desk_files.paths[0]: got "srv/x" (string); expected an absolute path such as /srv/clinic/documents']),
    Row("I35", "path /srv/../x", [("[/home/reception/Documents]", "[/srv/../x]")], ['20: protect.desk_files.paths[0]: got "/srv/../x", which goes through .. or .; expected an absolute path such as /srv/clinic/documents']),
    Row("I35", "path /", [("[/home/reception/Documents]", "[/]")], ["20: protect.desk_files.paths[0]: got \"/\", the whole machine; expected an absolute path such as /srv/clinic/documents; write the folders that hold the practice's data"]),
    Row("I35", "path /proc", [("[/home/reception/Documents]", "[/proc]")], ["20: protect.desk_files.paths[0]: got \"/proc\", which holds no files but the kernel's view of the machine; expected an absolute path such as /srv/clinic/documents"]),
    Row("I35", "path /srv/holdfast", [("[/home/reception/Documents]", "[/srv/holdfast]")], ['20: protect.desk_files.paths[0]: got "/srv/holdfast", where Holdfast keeps the backups themselves; expected an absolute path such as /srv/clinic/documents']),
    Row("I35", "path 'C:\\'", [("[/home/reception/Documents]", "['C:\\']")], ["20: protect.desk_files.paths[0]: got \"C:\\\\\", the whole drive; expected an absolute path such as /srv/clinic/documents; write the folders that hold the practice's data"]),
    Row("I35", "Windows path on Linux", [("[/home/reception/Documents]", "['C:\\Users\\Bob']")], ["10: hosts.desk1.protect[0]: desk_files has the path \"C:\\\\Users\\\\Bob\", desk1 has os: linux; expected paths of linux such as /srv/...; correct the path, or the host's os:"]),
    # I37
    Row("I37", 'host "srv1; reboot"', [("  desk1: ", '  "srv1; reboot": ')], ['10: hosts."srv1; reboot": got "srv1; reboot" (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write srv1-reboot']),
    Row("I37", 'host "$(id)"', [("  desk1: ", '  "$(id)": ')], ['10: hosts.$(id): got "$(id)" (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write id']),
    Row("I37", 'host "`id`"', [("  desk1: ", '  "`id`": ')], ['10: hosts.`id`: got "`id`" (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write id']),
    Row("I37", 'host "-rf"', [("  desk1: ", '  "-rf": ')], ['10: hosts.-rf: got "-rf" (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write rf']),
    Row("I37", "item", [("  desk_files: {", '  "x; reboot": {')], ['20: protect."x; reboot": got "x; reboot" (string); expected 1-63 characters a-z 0-9 _ -, beginning and ending with a letter or digit; write x-reboot']),
    # I41
    Row("I41", "names equal but for capitals", [("  desk1: ", "  SERVER1: ")], ['10: hosts.SERVER1: the name "SERVER1" is "server1" in capitals; expected names that differ in more: disks and people do not see capitals; give it another name']),
    # I43
    Row("I43", "host a/b", [("  desk1: ", "  a/b: ")], ['10: hosts.a/b: got "a/b" (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write a-b']),
    Row("I43", 'host ".."', [("  desk1: ", '  "..": ')], ['10: hosts."..": got ".." (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit']),
    Row("I43", "host a%2Fb", [("  desk1: ", "  a%2Fb: ")], ['10: hosts.a%2Fb: got "a%2Fb" (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write a-2fb']),
    Row("I43", 'host ".a"', [("  desk1: ", '  ".a": ')], ['10: hosts.".a": got ".a" (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write a']),
    Row("I43", "host aaaaaaaaaa", [("  desk1: ", f"  {'a' * 300}: ")], ['10: hosts."aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...": got "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..." (string); expected 1-63 characters a-z 0-9 -, beginning and ending with a letter or digit; write aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']),
    Row("I43", "user", [("user: root", 'user: "../root"')], ['6: access.user: got "../root" (string); expected a user name such as root']),
    # I44
    Row("I44", "practice name", [("Harbour Street Medical Centre", "H" * 256)], ["1: practice.name: got a text of 256 characters; expected at most 255 characters"]),
    Row("I44", "long path", [("[/home/reception/Documents]", f"[/{'a/' * 2100}b]")], ["20: protect.desk_files.paths[0]: got a text of 4202 characters; expected at most 4096 characters"]),
    Row("I44", "long name in a path", [("[/home/reception/Documents]", f"[/{'ä' * 130}]")], ["20: protect.desk_files.paths[0]: got a path with a name of 260 bytes; expected paths of at most 4095 bytes, and names in them of at most 255"]),
    Row("I44", "NetBIOS", [("  nas1: {kind", "  archive-in-the-cellar: {kind"), ("{on: nas1}", "{on: archive-in-the-cellar}"), ("attached_to: nas1", "attached_to: archive-in-the-cellar"), ("[nas1,", "[archive-in-the-cellar,")], ['8: hosts.archive-in-the-cellar.netbios_name: missing, and the name "archive-in-the-cellar" has 21 characters; expected a NetBIOS name of at most 15 characters; add netbios_name: ARCHIVE-IN-THE']),
    # I45
    Row("I45", "no primary", [("attached_to: nas1, ", "")], ["24: power.ups1.attached_to: missing; expected the host that the UPS's data cable goes to (the primary, which cuts the power last)"]),
    # I46
    Row("I46", "two primaries", [("attached_to: nas1", "attached_to: [nas1, server1]")], ["24: power.ups1.attached_to: got a list; expected the host that the UPS's data cable goes to (the primary, which cuts the power last); write one value, without [ ] or -"]),
    Row("I46", "one UPS twice", [("runtime: 10m}", 'runtime: 10m, settings: {serial: "A1"}}\n  ups2: {attached_to: server1, driver: usbhid-ups, feeds: [server1], runtime: 10m, settings: {serial: "A1"}}')], ["25: power.ups2.settings.serial: got \"A1\", which is also ups1: one UPS with the primaries nas1, server1; expected each UPS once; add ups2's hosts to the feeds of ups1"]),
    Row("I46", "two that nothing tells apart", [("runtime: 10m}", "runtime: 10m}\n  ups2: {attached_to: nas1, driver: usbhid-ups, feeds: [nas1], runtime: 10m}")], ['25: power.ups2: nothing tells ups2 from ups1: both are on the USB of nas1; expected a serial number of each; add settings: {serial: "..."} to both (nut-scanner prints it)']),
    # I48
    Row("I48", "runtime too short", [("runtime: 10m", "runtime: 3m")], ['24: power.ups1.runtime: got "3m": 180 s, 230 s too few; expected at least slowest secondary 180 (server1) + HOSTSYNC 15 + primary 180 (nas1) + FINALDELAY 5 + late hook 30 = 410 s; write a shorter stop_time of server1 where it stops sooner, feed fewer machines or get a larger UPS']),
    Row("I48", "low battery too late", [("runtime: 10m", "runtime: 10m, low_battery: 2m")], ['24: power.ups1.low_battery: got "2m": 120 s, 290 s too few; expected at least slowest secondary 180 (server1) + HOSTSYNC 15 + primary 180 (nas1) + FINALDELAY 5 + late hook 30 = 410 s; write "470s" or more']),
    Row("I48", "low battery at once", [("runtime: 10m", "runtime: 10m, low_battery: 10m")], ['24: power.ups1.low_battery: got "10m": 600 s, and the whole battery lasts 600 s; expected a part of the battery: mains that fail are no low battery; write less than runtime, or leave it out']),
    Row("I48", "a UPS that feeds nobody else", [("feeds: [nas1, server1, desk1]", "feeds: [nas1]"), ("runtime: 10m", "runtime: 3m")], ['24: power.ups1.runtime: got "3m": 180 s, 35 s too few; expected at least primary 180 (nas1) + FINALDELAY 5 + late hook 30 = 215 s; write a shorter stop_time of nas1 where it stops sooner, feed fewer machines or get a larger UPS']),
    Row("I48", "a stop that no machine makes", [("  desk1: {", "  desk1: {stop_time: 5s, ")], ['10: hosts.desk1.stop_time: got "5s"; expected at least 8s']),
    Row("I48", "units that take longer than their machine", [("  server1: {", '  server1: {stop_limits: {pms.service: 60s, postgresql@17-main.service: "3m"}, applications: [pms.service], ')], ['9: hosts.server1.stop_limits: together 250 s, and server1 has 180 s (stop_time), 70 s too few; expected applications 60 (pms.service) + databases 180 (postgresql@17-main.service) + the rest 10 = 250 s, at most stop_time; shorten them, or write stop_time: 250s']),
    Row("I48", "a secret that everybody may read", [("runtime: 10m", "runtime: 10m, settings: {community: lotus-4711}")], ["24: power.ups1.settings.community: a secret in the document; expected its name alone; write vault_settings: [community] instead, and run bin/holdfast secrets: it makes a place in the vault"]),
    Row("I48", "a setting twice", [("runtime: 10m", "runtime: 10m, settings: {mibs: ietf}, vault_settings: [mibs]")], ["24: power.ups1.settings.mibs: given here and in vault_settings; expected one of them; take it out of settings"]),
    Row("I48", "a battery that is older than it is", [("runtime: 10m", 'runtime: 10m, battery: {installed: "2026-01-01", replace_by: "2025-01-01"}')], ['24: power.ups1.battery.replace_by: got "2025-01-01", and it was installed on "2026-01-01"; expected a later day; write the day it has to go by']),
    # I50
    Row("I50", "two supplies, one feed", [("kind: workstation,", "kind: workstation, min_supplies: 2,")], ["10: hosts.desk1.min_supplies: got 2: desk1 is fed by 1 (ups1); expected at most the number of its UPSs; write 1, or add desk1 to another UPS's feeds"]),
    Row("I50", "no UPS", [("feeds: [nas1, server1, desk1]", "feeds: [nas1, server1]"), ("kind: workstation,", "kind: workstation, min_supplies: 1,")], ["10: hosts.desk1.min_supplies: got 1: no UPS feeds desk1; expected at most the number of its UPSs; leave it out, or add the UPS"]),
    # I52
    Row("I52", "region outside", [("{onsite: {on: nas1}}", "{onsite: {on: nas1}, offsite: {s3: {bucket: harbour-street, region: us-east-1}}}")], ['21: copies.offsite.s3.region: us-east-1 is in US; expected a country that practice.data_countries allows: AU; choose another place, or write practice.data_countries: ["AU", "US"]'], ("copies.offsite",)),
    Row("I52", "unknown region", [("{onsite: {on: nas1}}", "{onsite: {on: nas1}, offsite: {s3: {bucket: harbour-street, region: ap-southwest-2}}}")], ['21: copies.offsite.s3.region: got "ap-southwest-2", an unknown region; expected a region of AWS, or endpoint: of another provider; did you mean "ap-southeast-2"?'], ("copies.offsite",)),
    Row("I52", "country outside", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, offsite: {rest: {url: "https://b.example.org"}, country: NZ}}')], ['21: copies.offsite.country: got "NZ"; expected a country that practice.data_countries allows: AU; choose another place, or write practice.data_countries: ["AU", "NZ"]'], ("copies.offsite",)),
    Row("I52", "no country", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, offsite: {rest: {url: "https://b.example.org"}}}')], ["21: copies.offsite.country: missing; expected the country that the copy lies in"], ("copies.offsite",)),
    Row("I52", "in the house", [("{onsite: {on: nas1}}", "{onsite: {on: nas1}, offsite: {sftp: {host: 198.18.0.11, user: me, path: /srv/x}, country: AU}}")], ['21: copies.offsite.sftp.host: got "198.18.0.11", which is nas1, a machine of this practice; expected an address in another place'], ("copies.offsite",)),
    # I54
    Row("I54", "bucket name", [("{onsite: {on: nas1}}", "{onsite: {on: nas1}, offsite: {s3: {bucket: Harbour_Street, region: ap-southeast-2}}}")], ["21: copies.offsite.s3.bucket: got \"Harbour_Street\" (string); expected a bucket's name: 3-63 characters a-z 0-9 - .; write harbour-street"], ("copies.offsite",)),
    # I55
    Row("I55", "one disk", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, removable: {on: nas1, disks: {red: {uuid: "1A2B-3C4D"}}}}')], ["21: copies.removable.disks: got 1 disk; expected at least 2 disks, or nothing rotates; get a second one: one is always away"], ("copies.removable",)),
    Row("I55", "one disk twice", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, removable: {on: nas1, disks: {red: {uuid: "1A2B-3C4D"}, blue: {uuid: "1A2B-3C4D"}}}}')], ['21: copies.removable.disks.blue.uuid: got "1A2B-3C4D", the UUID of red; expected a UUID of its own (blkid prints it)'], ("copies.removable",)),
    Row("I55", "gap too long", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, removable: {on: nas1, disks: {red: {uuid: "1A2B-3C4D"}, blue: {uuid: "1A2B-3C4E"}}, max_gap: 14d}}')], ['21: copies.removable.max_gap: got "14d", longer than rotate: weekly (7 days); expected at most the time between two swaps; write a shorter gap or rotate less often'], ("copies.removable",)),
    # I56
    Row("I56", "size -5G", [("protect: [desk_files]", "protect: [desk_files], quota: -5G")], ['10: hosts.desk1.quota: got "-5G" (string); expected a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB)']),
    Row("I56", "size 0", [("protect: [desk_files]", "protect: [desk_files], quota: 0")], ['10: hosts.desk1.quota: got 0 (integer); expected a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB)']),
    Row("I56", "size 500", [("protect: [desk_files]", "protect: [desk_files], quota: 500")], ['10: hosts.desk1.quota: got 500 (integer); expected a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB)']),
    Row("I56", "size 1TB", [("protect: [desk_files]", "protect: [desk_files], quota: 1TB")], ['10: hosts.desk1.quota: got "1TB" (string); expected a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB); write "1TiB"']),
    Row("I56", "size .inf", [("protect: [desk_files]", "protect: [desk_files], quota: .inf")], ['10: hosts.desk1.quota: got Infinity (number); expected a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB)']),
    Row("I56", "size 1e3", [("protect: [desk_files]", "protect: [desk_files], quota: 1e3")], ['10: hosts.desk1.quota: got "1e3" (string); expected a size with its unit, such as "200GiB" (KiB, MiB, GiB, TiB)']),
    # I58
    Row("I58", "one disk", [("[/dev/disk/by-id/a, /dev/disk/by-id/b]", "[/dev/disk/by-id/a]")], ["8: hosts.nas1.pool.devices: got 1 device; expected at least 2 different devices for raid1; add the second disk, or write profile: single"]),
    Row("I58", "one disk twice", [("[/dev/disk/by-id/a, /dev/disk/by-id/b]", "[/dev/disk/by-id/a, /dev/disk/by-id/a]")], ['8: hosts.nas1.pool.devices: "/dev/disk/by-id/a" is listed twice; expected a list of disks by a lasting name, such as [/dev/disk/by-id/ata-ONE, /dev/disk/by-id/ata-TWO]; write it once']),
    Row("I58", "two parts of one disk", [("[/dev/disk/by-id/a, /dev/disk/by-id/b]", "[/dev/disk/by-id/a-part1, /dev/disk/by-id/a-part2]")], ['8: hosts.nas1.pool.devices[1]: got "/dev/disk/by-id/a-part2", a part of the disk of "/dev/disk/by-id/a-part1"; expected different disks']),
    Row("I58", "system disk", [("[/dev/disk/by-id/a, /dev/disk/by-id/b]", "[/dev/disk/by-id/a, /dev/sda]")], ["8: hosts.nas1.pool.devices[1]: got \"/dev/sda\", a name that may be another disk's after the next start; expected a disk such as /dev/disk/by-id/ata-NAME; ls -l /dev/disk/by-id tells which one it is now"]),
    # I60
    Row("I60", 'address "fe80::1"', [("198.18.0.13", '"fe80::1"')], ['10: hosts.desk1.address: got "fe80::1" (string); expected an IPv4 or IPv6 address or a host name; write "fe80::1%INTERFACE": a link-local address needs its interface']),
    Row("I60", 'address "[2001:db8::1]:8000"', [("198.18.0.13", '"[2001:db8::1]:8000"')], ['10: hosts.desk1.address: got "[2001:db8::1]:8000" (string); expected an IPv4 or IPv6 address or a host name; write the address alone, without brackets and port']),
    Row("I60", 'address "2001:db8::1%eth0"', [("198.18.0.13", '"2001:db8::1%eth0"')], ['10: hosts.desk1.address: got "2001:db8::1%eth0" (string); expected an IPv4 or IPv6 address or a host name; only a link-local address (fe80::...) has an interface, such as %eth0']),
    Row("I60", "URL https://2001:db8::1/x", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, offsite: {rest: {url: "https://2001:db8::1/x"}, country: AU}}')], ['21: copies.offsite.rest.url: got "https://2001:db8::1/x" (string); expected an address such as "https://backup.example.org:8000"; write "https://[2001:db8::1]/x": IPv6 in brackets'], ("copies.offsite",)),
    Row("I60", "URL https://[fe80::1]/x", [("{onsite: {on: nas1}}", '{onsite: {on: nas1}, offsite: {rest: {url: "https://[fe80::1]/x"}, country: AU}}')], ['21: copies.offsite.rest.url: got "https://[fe80::1]/x" (string); expected an address such as "https://backup.example.org:8000"; write [fe80::1%25INTERFACE]: a link-local address needs its interface'], ("copies.offsite",)),
    # I61
    Row("I61", "address 010.0.0.5", [("198.18.0.13", "010.0.0.5")], ['10: hosts.desk1.address: "010.0.0.5" is not an IP address; expected an IPv4 or IPv6 address or a host name; each part is 0-255 without leading zeros']),
    Row("I61", "address 10.0.0.256", [("198.18.0.13", "10.0.0.256")], ['10: hosts.desk1.address: "10.0.0.256" is not an IP address; expected an IPv4 or IPv6 address or a host name; each part is 0-255 without leading zeros']),
    Row("I61", "address 10.0.0.5/24", [("198.18.0.13", "10.0.0.5/24")], ['10: hosts.desk1.address: got "10.0.0.5/24" (string); expected an IPv4 or IPv6 address or a host name; write "10.0.0.5": a host has one address, not a network']),
    Row("I61", "address 198.18.0.12", [("198.18.0.13", "198.18.0.12")], ['10: hosts.desk1.address: got "198.18.0.12", the address of server1; expected an address of its own']),
    Row("I61", 'address "::ffff:198.18.0.12"', [("198.18.0.13", '"::ffff:198.18.0.12"')], ['10: hosts.desk1.address: got "::ffff:198.18.0.12", the address of server1; expected an address of its own']),
    Row("I61", 'address "10.1"', [("198.18.0.13", '"10.1"')], ['10: hosts.desk1.address: "10.1" is not an IP address; expected an IPv4 or IPv6 address or a host name; each part is 0-255 without leading zeros']),
    # I62
    Row("I62", "port 0", [("kind: nas,", "kind: nas, repository_port: 0,")], ["8: hosts.nas1.repository_port: got 0 (integer); expected a port, a whole number from 1 to 65535"]),
    Row("I62", "port 70000", [("kind: nas,", "kind: nas, repository_port: 70000,")], ["8: hosts.nas1.repository_port: got 70000 (integer); expected a port, a whole number from 1 to 65535"]),
    Row("I62", 'port "8000/tcp"', [("kind: nas,", 'kind: nas, repository_port: "8000/tcp",')], ['8: hosts.nas1.repository_port: got "8000/tcp" (string); expected a port, a whole number from 1 to 65535; write 8000']),
    Row("I62", 'port "70000/tcp"', [("kind: nas,", 'kind: nas, repository_port: "70000/tcp",')], ['8: hosts.nas1.repository_port: got "70000/tcp" (string); expected a port, a whole number from 1 to 65535']),
    Row("I62", "port 22", [("kind: nas,", "kind: nas, repository_port: 22,")], ["8: hosts.nas1.repository_port: got 22, the port of ssh_port; expected a port of its own"]),
    Row("I62", "port 3492", [("kind: nas,", "kind: nas, repository_port: 3492,")], ["8: hosts.nas1.repository_port: got 3492, and the next one, which is for maintenance, is the port of NUT's server; expected two ports of its own"]),
    Row("I62", "port 65535", [("kind: nas,", "kind: nas, repository_port: 65535,")], ["8: hosts.nas1.repository_port: got 65535, and the next one, which is for maintenance, does not exist; expected two ports of its own"]),
    Row("I62", "port 3493", [("kind: nas,", "kind: nas, repository_port: 3493,")], ["8: hosts.nas1.repository_port: got 3493, the port of NUT's server; expected a port of its own"]),
    # I63
    Row("I63", 'ssh_args: "-o StrictHostKeyChecking=no"', [("kind: workstation,", 'kind: workstation, ssh_args: "-o StrictHostKeyChecking=no",')], ['10: hosts.desk1.ssh_args: got "-o StrictHostKeyChecking=no": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER']),
    Row("I63", "restic_args: --insecure-tls", [("kind: workstation,", "kind: workstation, restic_args: --insecure-tls,")], ['10: hosts.desk1.restic_args: got "--insecure-tls": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER']),
    Row("I63", "cert_validation: ignore", [("kind: workstation,", "kind: workstation, cert_validation: ignore,")], ['10: hosts.desk1.cert_validation: got "ignore": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER']),
    Row("I63", "validate_certs: no", [("kind: workstation,", "kind: workstation, validate_certs: no,")], ['10: hosts.desk1.validate_certs: got "no": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER']),
    Row("I63", "scheme: http", [("kind: workstation,", "kind: workstation, scheme: http,")], ['10: hosts.desk1.scheme: got "http": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER']),
    Row("I63", "winrm port: 5985", [("kind: workstation,", "kind: workstation, os: windows, winrm: {port: 5985},"), ("[/home/reception/Documents]", "['C:\\x']")], ["10: hosts.desk1.winrm.port: got 5985: this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER"], ("hosts.desk1.os",)),
    Row("I63", "winrm scheme: http", [("kind: workstation,", "kind: workstation, os: windows, winrm: {scheme: http},"), ("[/home/reception/Documents]", "['C:\\x']")], ['10: hosts.desk1.winrm.scheme: got "http": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER'], ("hosts.desk1.os",)),
    Row("I63", "winrm cert_validation: ignore", [("kind: workstation,", "kind: workstation, os: windows, winrm: {cert_validation: ignore},"), ("[/home/reception/Documents]", "['C:\\x']")], ['10: hosts.desk1.winrm.cert_validation: got "ignore": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER'], ("hosts.desk1.os",)),
    Row("I63", "access", [("user: root", 'user: root, ssh_args: "-o StrictHostKeyChecking=no"')], ['6: access.ssh_args: got "-o StrictHostKeyChecking=no": this switches a control off; expected no such setting; it is not allowed; pin the key or certificate instead: bin/holdfast pin PRACTICE_FOLDER']),
    # I65
    Row("I65", "no address", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nalerts: {}")], ['22: alerts: there is no route; expected at least one alert route outside the site; add heartbeat: "https://...", or a relay elsewhere']),
    Row("I65", "the machine that may fail", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nalerts: {mail: {relay: nas1, sender: a@b.example, to: [c@d.example]}}")], ['22: alerts.mail.relay: the only route is nas1, a machine of this site; expected at least one alert route outside the site; add heartbeat: "https://...", or a relay elsewhere']),
    Row("I65", "heartbeat in the house", [("copies: {onsite: {on: nas1}}", 'copies: {onsite: {on: nas1}}\nalerts: {heartbeat: "https://198.18.0.11/x"}')], ['22: alerts.heartbeat: got "https://198.18.0.11/x", which is nas1, a machine of this site; expected an address outside the site'], ("alerts.heartbeat",)),
    Row("I65", "no mail address", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nalerts: {mail: {relay: mail.example.org, sender: a@b.example, to: [reception]}}")], ['22: alerts.mail.to[0]: got "reception" (string); expected a mail address such as help@example.org']),
    Row("I65", "mail without TLS", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nalerts: {mail: {relay: mail.example.org, sender: a@b.example, tls: none}}")], ['22: alerts.mail.tls: got "none" (string); expected starttls or tls']),
    Row("I65", "mail's password in the document", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nalerts: {mail: {relay: mail.example.org, sender: a@b.example, user: me, password: hunter2-hunter2}}")], ['22: alerts.mail.password: there is a plain-text secret (hidden); expected no secrets in this document; take it out of this file: secrets live in group_vars/all/vault.yml (made by: bin/holdfast secrets PRACTICE_FOLDER)']),
    Row("I65", "certificate outside the folder", [("copies: {onsite: {on: nas1}}", "copies: {onsite: {on: nas1}}\nalerts: {mail: {relay: mail.example.org, sender: a@b.example, ca: /etc/ssl/mail.pem}}")], ['22: alerts.mail.ca: got "/etc/ssl/mail.pem" (string); expected the name of a PEM file in the practice\'s folder with the mail server\'s certificate, such as mail.pem']),
    Row("I65", "how long a machine may be off", [("kind: workstation,", "kind: workstation, may_be_off: forever,")], ['10: hosts.desk1.may_be_off: got "forever" (string); expected how long beyond its schedule the machine may be silent, such as 3d (m, h, d, w)']),
    # I66
    Row("I66", "groups", [("hosts:\n", "groups: {a: {children: [b]}, b: {children: [a]}}\nhosts:\n")], ['7: groups: unknown key "groups"; expected one of practice, contacts, hours, objectives, access, hosts, protect, copies, line, retention, maintenance, power, prove, evidence, alerts, programs, retired']),
    Row("I66", "host without work", [("on: localhost}", "on: localhost}\n  desk2: {kind: workstation, address: 198.18.0.14}")], ["12: hosts.desk2: nothing is to be done on this host; expected protect: or a UPS; give it protect: [ITEM], or leave desk2 out"]),
    Row("I66", "work without host", [("[clinical_db, documents]", "[clinical_db]")], ["19: protect.documents: no host protects it; expected each item on at least one host; add documents to the protect list of a server or workstation"]),
    Row("I66", "work of a host that is not there", [("attached_to: nas1, driver: usbhid-ups, feeds: [nas1, server1, desk1]", "attached_to: nas1, driver: usbhid-ups, feeds: [nas1, server1, desk9]")], ['24: power.ups1.feeds[2]: got "desk9" (string); expected a machine of this practice: nas1, server1, desk1; did you mean "desk1"?']),
    Row("I66", "no hosts", [(HOSTS, "hosts: {}\n")], ["7: hosts: it is empty; expected the machines, by name"]),
    Row("I66", "empty document", [(GOOD, "")], ["1: the document is empty; expected a practice document; start with the example in inventories/harbour-street/practice.yml"]),
    # I69
    Row("I69", "must-have", [('at: "21:00"', 'at: "21:00", exclude: ["*.db", "lett*"]')], ['19: protect.documents.exclude[1]: the pattern "lett*" hides the must-have "/srv/clinic/documents/letters"; expected patterns that leave it in the backup']),
    Row("I69", "everything", [('at: "12:30"', 'at: "12:30", exclude: ["*"]')], ['20: protect.desk_files.exclude[0]: the pattern "*" hides "/home/reception/Documents"; expected patterns that leave it in the backup']),
    Row("I16", "empty window of an item", [('at: "12:30"', 'window: "12:00-12:00"')], ['20: protect.desk_files.window: the window "12:00-12:00" is empty; expected when backups may run, as "HH:MM-HH:MM" in quotes; left out: at any time; leave it out, or write two different times']),
    Row("I16", "window of minutes", [('at: "12:30"', 'window: "12:00-12:30"')], ['20: protect.desk_files.window: the window "12:00-12:30" is shorter than an hour; expected a window of at least an hour']),
    Row("I16", "time outside of the window", [('at: "12:30"', 'at: "12:30", window: "20:00-06:00"')], ['20: protect.desk_files.at: got "12:30" (string); expected a time in the item\'s window 20:00-06:00; correct at: or window:']),
    Row("I16", "what to do at the end of no window", [('at: "12:30"', 'at: "12:30", at_window_end: throttle, throttle_to: 1Mbit/s')], ["20: protect.desk_files.at_window_end: at_window_end without a window; expected window: beside it", "20: protect.desk_files.throttle_to: throttle_to without a window; expected window: beside it"]),
    Row("I16", "throttle without a rate", [('at: "12:30"', 'window: "20:00-06:00", at_window_end: throttle')], ['20: protect.desk_files.at_window_end: at_window_end: throttle without a rate; expected throttle_to: beside it; add throttle_to: "1Mbit/s"']),
    Row("I16", "a rate where the end stops the run", [('at: "12:30"', 'window: "20:00-06:00", throttle_to: 1Mbit/s')], ["20: protect.desk_files.throttle_to: throttle_to where the window's end stops the run; expected at_window_end: throttle beside it; write at_window_end: throttle, or leave it out"]),
    Row("I16", "another end", [('at: "12:30"', 'window: "20:00-06:00", at_window_end: kill')], ['20: protect.desk_files.at_window_end: got "kill" (string); expected stop, or throttle beside throttle_to: RATE']),
    Row("I56", "a rate that restic gives up at", [('at: "12:30"', 'at: "12:30", limits: {"08:00-18:00": 10kbit/s}')], ['20: protect.desk_files.limits.08:00-18:00: got "10kbit/s" (string); expected a rate of at least 100kbit/s']),
    Row("I56", "a rate without its unit", [('at: "12:30"', 'at: "12:30", limits: {"08:00-18:00": 2M}')], ['20: protect.desk_files.limits.08:00-18:00: got "2M" (string); expected rates by time of day such as {"08:00-18:00": 2Mbit/s}; the lowest in force counts']),
    Row("I01", "a dump's limit without a dump", [('at: "12:30"', 'at: "12:30", dump_limit: 1h')], ["20: protect.desk_files.dump_limit: dump_limit without a database; expected database: beside it"]),
    Row("I01", "a dump's limit past the run's", [("    every: 4h", "    every: 4h\n    dump_limit: 2h")], ["17: protect.clinical_db.dump_limit: got \"2h\" (string); expected less than the item's time_limit, which is 2h"]),
    Row("I01", "too nice", [('at: "12:30"', 'at: "12:30", nice: 20')], ["20: protect.desk_files.nice: got 20 (integer); expected a whole number from 0 to 19 (gives way)"]),
    Row("I25", "a window that no rpo can be kept in", [("rpo: 24h", "rpo: 12h"), ('at: "12:30"', 'every: 4h, window: "20:00-05:00"'), ('at: "21:00"', "every: 4h")], ["20: protect.desk_files.every: a backup every 4h within 20:00-05:00 cannot meet objectives.rpo 12h: at best 19h + the run; expected a backup at least every 12h; write a wider window, or leave it out"]),
    Row("I69", "a mount that holds none of the data", [('at: "12:30"', 'at: "12:30", mounts: [/home, /srv]')], ['20: protect.desk_files.mounts[1]: got "/srv" (string); expected a mount point that holds this item\'s data, or lies in it']),
    Row("I01", "one mount for a list", [('at: "12:30"', 'at: "12:30", mounts: /home')], ['20: protect.desk_files.mounts: got "/home" (string); expected a list of paths that must be mounted, such as [/srv/pms]; left out: those of the last good run; write [/home]']),
    Row("I01", "a mount twice", [('at: "12:30"', 'at: "12:30", mounts: [/home, /home]')], ['20: protect.desk_files.mounts: "/home" is listed twice; expected a list of paths that must be mounted, such as [/srv/pms]; left out: those of the last good run; write it once']),
    Row("I69", "everything below", [('at: "12:30"', 'at: "12:30", exclude: ["/home/reception/Documents/*"]')], ['20: protect.desk_files.exclude[0]: the pattern "/home/reception/Documents/*" hides "/home/reception/Documents"; expected patterns that leave it in the backup']),
    # I70
    Row("I70", "a server of the practice", [("on: localhost", "on: server1")], ['11: hosts.proof1.on: got "server1", which is also a server of this practice; expected localhost, or the address of a machine that does nothing else; restores are never proven on a machine that is in use']),
    Row("I70", "another machine", [("on: localhost", "on: 198.18.0.12")], ['11: hosts.proof1.on: got "198.18.0.12", which is also server1, a server of this practice; expected localhost, or the address of a machine that does nothing else; restores are never proven on a machine that is in use']),
    Row("I70", "space without unit", [("on: localhost", "on: localhost, space: 500")], ['11: hosts.proof1.space: got 500 (integer); expected how much room it has for restored data, such as "500GiB" (KiB, MiB, GiB, TiB)']),
]  # fmt: skip


def told(text: str) -> list[str]:
    document, problems = source.parse(text.encode(), "practice.yml")
    return [str(problem) for problem in (check.check(document, problems)[1] if document else problems)]


def edited(edits: list[tuple[str, str]]) -> str:
    text = GOOD
    for old, new in edits:
        assert old in text, "the edit must hit"
        text = text.replace(old, new, 1)
    return text


LATER = re.compile(
    r"practice\.yml:\d+: ([^ ]+): (a host of kind |the engine )?(\"\w+\" is )?not available in this version; "
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.id} {row.name}")
def test_a_trap_is_told_word_by_word(row):
    said = told(edited(row.edits))
    later = [found[1] for line in said if (found := LATER.match(line))]
    assert [line for line in said if not LATER.match(line)] == [f"practice.yml:{line}" for line in row.lines]
    assert later == [path for path in row.also if not_yet(path, edited(row.edits))]
    assert "hunter2" not in "".join(said)


def not_yet(path: str, text: str) -> bool:
    """Say whether this version does not have a part: the table of those is in available.py and grows shorter."""
    document, _ = source.parse(text.encode(), "practice.yml")
    parts = tuple(path.split("."))
    value = source.value_at(document.data, parts)
    return any(
        len(later.path) == len(parts)
        and all(there in ("*", here) for there, here in zip(later.path, parts, strict=True))
        and (later.values is None or value in later.values)
        for later in available.LATER
    )


TRAPS = {
    f"I{number:02}"
    for number in [
        *(
            1,
            2,
            3,
            4,
            6,
            7,
            8,
            10,
            11,
            13,
            14,
            15,
            16,
            17,
            19,
            22,
            23,
            25,
            27,
            28,
            30,
            32,
            33,
            35,
            37,
            39,
            40,
            41,
            43,
            44,
        ),
        *(45, 46, 48, 50, 52, 54, 55, 56, 58, 60, 61, 62, 63, 65, 66, 69, 70),
    ]
}
# Between practices, or in their vaults: test_across.py, which has them by these names
ELSEWHERE = {"I32": "a_shared_secret", "I39": "what_two_practices_share", "I40": "what_two_practices_share"}
MUST_WORK = {"I33"}


def test_every_trap_is_tried():
    assert {row.id for row in ROWS} | set(ELSEWHERE) | MUST_WORK == TRAPS
    across = Path(__file__).parents[1] / "unit" / "plugin_utils" / "test_across.py"
    assert all(f"def test_{name}" in across.read_text("utf-8") for name in ELSEWHERE.values())


@pytest.mark.parametrize(
    "path",
    [
        r"""'/srv/Users/Dr "Bob" Müller/Röntgen 2026'""",
        '"/srv/it\'s/$(x)/%h/a;b"',
        "/srv/a b/c  d",
        '"/srv/ leading and trailing "',
        "/srv/\u5c71\u7530/\U0001f9b7",
        "/srv/-rf",
        "/srv/#1",
        "/srv/" + "ä" * 127,
        "/srv/{a},[b]",
    ],
)
def test_paths_that_must_work_work(path):
    """I33."""
    quoted = path if path[0] in "'\"" else "'" + path + "'"
    text = edited([("[/home/reception/Documents]", f"[{quoted}]")])
    assert told(text) == []


@pytest.mark.parametrize("path", [r'C:\Users\Dr "Bob" Müller\Röntgen 2026', r"\\server\Röntgen 2026", "D:/Daten/Ä b"])
def test_paths_of_windows_that_must_work_work(path):
    """I33: only the system itself is for later."""
    text = edited(
        [("[/home/reception/Documents]", f"['{path}']"), ("kind: workstation,", "kind: workstation, os: windows,")]
    )
    assert told(text) == ['practice.yml:10: hosts.desk1.os: "windows" is not available in this version; expected linux']
    document, _ = source.parse(text.encode(), "practice.yml")
    assert document.data["protect"]["desk_files"]["paths"] == [path]


@pytest.mark.parametrize(
    "address",
    [
        "2001:db8::13", "2001:0db8:0000:0000:0000:0000:0000:0013", "2001:DB8::13", "fd00::1", "::ffff:198.18.0.13",
        "fe80::13%eth0", "fe80::13%enp3s0.20", "64:ff9b::198.18.0.13", "198.18.0.13", "desk1", "desk1.example.org",
        "1st-desk.example.org",
    ],
)  # fmt: skip
def test_addresses_that_must_work_work(address):
    """I60."""
    assert told(edited([("198.18.0.13", f'"{address}"')])) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://[2001:db8::1]:8000/copies", "https://[2001:db8::1]", "https://[fe80::1%25eth0]:8000/", "https://b.example.org",
        "https://b.example.org:8000/a-b/c_d/%20", "https://198.51.100.7/",
    ],
)  # fmt: skip
def test_urls_that_must_work_work(url):
    """I60: only the part itself is for later."""
    text = edited(
        [("{onsite: {on: nas1}}", f'{{onsite: {{on: nas1}}, offsite: {{rest: {{url: "{url}"}}, country: AU}}}}')]
    )
    assert [line for line in told(text) if "not available in this version" not in line] == []


def test_a_whole_practice_of_four_hosts_takes_fewer_than_60_lines():
    text = EXAMPLE.read_text("utf-8")
    assert told(text) == []
    document, _ = source.parse(text.encode(), "practice.yml")
    assert sorted(host["kind"] for host in document.data["hosts"].values()) == [
        "nas",
        "restore_host",
        "server",
        "workstation",
    ]
    assert {"power", "prove", "retention", "copies"} <= set(document.data)
    assert len(text.splitlines()) < 60


def test_five_thousand_hosts_are_refused_with_the_limit():
    """I44."""
    more = "".join(
        f"  h{n}: {{kind: workstation, address: 10.{n // 250}.{n % 250}.1, protect: [desk_files]}}\n"
        for n in range(4996)
    )
    said = told(edited([("  proof1:", f"{more}  proof1:")]))
    expected = "practice.yml:7: hosts: got 5000 hosts; expected at most 1000 in a practice"
    assert said == [f"{expected}; describe each site as a practice of its own"]
