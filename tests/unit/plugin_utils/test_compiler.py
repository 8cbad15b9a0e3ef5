# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.holdfast.practice.plugins.inventory import practice
from ansible_collections.holdfast.practice.plugins.module_utils.tripwires import SHARES, WIRES, Settings
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, compiler, source
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import Template
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Tripwires
from ansible_collections.holdfast.practice.plugins.plugin_utils.shutdown import Stop

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = (REPOSITORY / "tests" / "unit" / "documents" / "small.txt").read_text()
SECRET = "{{ vault"
STABLE = 31


def compiled(text=EXAMPLE, certificates=None, folder="/practices/harbour-street"):
    document, problems = source.parse(text.encode(), "practice.yml")
    practice, problems = check.check(document, problems)
    assert practice, problems
    return compiler.compile_practice(practice, folder, {"nas1": "PEM"} if certificates is None else certificates)


def changed(*edits):
    text = EXAMPLE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return compiled(text)


def test_groups_follow_kinds_and_wiring():
    assert compiled().groups == {
        "nas": ["nas1"],
        "agents": ["server1", "desk1"],
        "servers": ["server1"],
        "workstations": ["desk1"],
        "restore_hosts": ["proof1"],
        "power": ["nas1", "server1", "desk1"],
        "power_primary": ["nas1"],
        "power_secondary": ["server1", "desk1"],
        "ups_watchers": ["nas1", "server1"],
    }


def test_the_same_document_gives_the_same_bytes():
    first, second = compiled(), compiled()
    assert json.dumps([first.groups, first.all_vars, first.host_vars]) == json.dumps(
        [second.groups, second.all_vars, second.host_vars]
    )


def test_variables_of_all_hosts():
    variables = compiled().all_vars
    assert variables["practice_id"] == "harbour-street"
    assert variables["practice_timezone"] == "Australia/Sydney"
    assert variables["practice_evidence_dir"] == "/practices/harbour-street/evidence"
    summary = variables["practice_summary"]
    promised = {"rpo_s": 86400, "rto_s": 14400, "rto_offsite_s": 14400, "proven_s": 180 * 86400}
    assert summary["objectives"] == promised
    assert summary["hosts"]["proof1"] == {"kind": "restore_host", "address": None}
    assert summary["items"]["clinical_db"] == {
        "hosts": ["server1"],
        "class": "critical",
        "engine": "postgresql",
        "schedule": "every 4h",
        "interval_s": 14400,
        "prove": "daily",
        "levels": ["arrival", "structure", "files", "database"],
    }
    assert summary["power"]["ups1"]["primary"] == "nas1"
    assert summary["power"]["ups1"]["feeds"] == ["nas1", "server1", "desk1"]
    assert summary["power"]["ups1"]["budget"]["order"] == ["server1", "desk1", "nas1"]
    assert summary["power"]["ups1"]["budget"]["need_s"] == 180 + 15 + 180 + 5 + 30
    assert summary["power"]["ups1"]["budget"]["low_battery_s"] == 410 + 60
    assert summary["power"]["ups1"]["budget"]["margin_s"] == 60
    assert "{{" not in json.dumps(summary)


def test_connection_is_pinned_to_the_practices_own_files():
    variables = compiled(folder="/p/Dr O'B 100%").host_vars["server1"]
    assert variables["ansible_host"] == "198.18.0.12"
    assert variables["ansible_user"] == "root"
    assert variables["ansible_python_interpreter"] == "/usr/bin/python3"
    assert variables["ansible_ssh_private_key_file"] == "/p/Dr O'B 100%/ssh_key"
    assert "ansible_become" not in variables
    assert shlex.split(variables["ansible_ssh_common_args"]) == [
        "-o",
        """UserKnownHostsFile="/p/Dr O'B 100%%/known_hosts\"""",
        "-o",
        "GlobalKnownHostsFile=/dev/null",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "IdentitiesOnly=yes",
    ]


def test_two_folders_never_share_a_control_socket():
    one, other = (
        compiled(folder=folder).host_vars["server1"]["ansible_control_path_dir"] for folder in ("/p/a", "/p/b")
    )
    assert one != other
    assert len(one) == len("~/.ansible/cp/") + 8


def test_another_user_becomes_root():
    assert changed(("user: root", "user: admin")).host_vars["nas1"]["ansible_become"] is True


def test_nas():
    variables = compiled().host_vars["nas1"]
    assert variables["nas_storage_pool"] == {
        "label": "holdfast-nas1",
        "profile": "raid1",
        "devices": ["/dev/disk/by-id/lab-nas1-a", "/dev/disk/by-id/lab-nas1-b"],
        "mountpoint": "/srv/holdfast",
    }
    assert variables["nas_repository_listen"] == "198.18.0.11:8000"
    assert variables["nas_repository_certificate"] == "PEM"
    assert variables["nas_repository_key"] == "{{ vault_tls_keys['nas1'] }}"
    assert variables["nas_repository_accounts"][0] == {
        "name": "server1",
        "password_hash": "{{ vault_rest_passwords['server1'] | holdfast.practice.bcrypt_hash('harbour-street/server1') }}",
    }
    assert [account["name"] for account in variables["nas_repository_accounts"]] == ["server1", "desk1"]


def test_a_quota_reaches_the_account():
    accounts = changed(("protect: [desk_files]", 'protect: [desk_files], quota: "200GiB"')).host_vars["nas1"][
        "nas_repository_accounts"
    ]
    assert [account.get("quota") for account in accounts] == [None, "200GiB"]


def test_hooks_come_with_their_limits_in_seconds():
    hooks = "{before: {run: [/bin/stop, pms]}, after: {run: [/bin/start], limit: 30s, user: pms}}"
    inventory = changed(('at: "21:00"', f'hooks: {hooks}\n    at: "21:00"'))
    database, documents = inventory.host_vars["server1"]["backup_agent_jobs"]
    assert documents["hooks"] == {
        "before": {"run": ["/bin/stop", "pms"], "limit_s": 300, "user": "root"},
        "after": {"run": ["/bin/start"], "limit_s": 30, "user": "pms"},
    }
    assert "hooks" not in database


def test_only_hosts_that_a_ups_feeds_are_told_whom_to_ask():
    inventory = changed(("feeds: [nas1, server1, desk1]", "feeds: [nas1, server1]"))
    assert all("power" in job for job in inventory.host_vars["server1"]["backup_agent_jobs"])
    assert all("power" not in job for job in inventory.host_vars["desk1"]["backup_agent_jobs"])


def test_agent_jobs():
    variables = compiled().host_vars["server1"]
    assert variables["backup_agent_repository"] == {
        "url": "rest:https://198.18.0.11:8000/server1/",
        "username": "server1",
        "certificate": "PEM",
    }
    assert variables["backup_agent_repository_password"] == "{{ vault_repository_passwords['server1'] }}"
    database, documents = variables["backup_agent_jobs"]
    assert documents == {
        "name": "documents",
        "item": "documents",
        "class": "ordinary",
        "calendar": ["*-*-* 21:00:00 Australia/Sydney"],
        "spread_s": 300,
        "time_limit_s": 7200,
        "deadline_s": 86400 + 7200 + 300 + 3600,
        "paths": ["/srv/clinic/documents"],
        "exclude": [],
        "must_have": ["/srv/clinic/documents/letters"],
        "min_files": 1,
        "power": {"monitors": ["ups1@198.18.0.11"], "min_supplies": 1},
        "tripwires": {
            "canaries": ["/srv/clinic/documents/Holdfast - please leave this file alone.pdf"],
            "disable": [],
            "least": 10,
            "magic": 20,
            "entropy": 20,
            "rename": 20,
            "change": 30,
        },
    }
    # images are watched, and no file of ours is laid among them
    assert database["tripwires"]["canaries"] == []
    assert database["database"]["images"]["root"] == "/srv/clinic/images"
    assert list(database["database"]["probes"]) == ["newest_appointment", "newest_entry"]
    assert re.fullmatch(r"\*-\*-\* 0[23]/4:[0-5][0-9]:00 UTC", database["calendar"][0])
    assert (database["dump_limit_s"], "dump_limit_s" in documents) == (6480, False)
    assert compiled().host_vars["desk1"]["backup_agent_jobs"][0]["stay_awake"] is True


def test_what_must_be_there_reaches_the_job_only_where_it_is_said():
    said = changed(
        ('at: "12:30"', 'at: "12:30", min_size: 2KiB, mounts: [/home]'), ("every: 4h", "every: 4h\n    mounts: []")
    )
    desk, database = said.host_vars["desk1"], said.host_vars["server1"]["backup_agent_jobs"][0]
    assert {key: desk["backup_agent_jobs"][0][key] for key in ("min_size", "mounts")} == {
        "min_size": 2048,
        "mounts": ["/home"],
    }
    assert (database["mounts"], "min_size" in database) == ([], False)


def test_tripwires():
    def wires(written):
        inventory = changed(('at: "12:30"', f'at: "12:30", {written}'))
        return inventory.host_vars["desk1"]["backup_agent_jobs"][0]["tripwires"]

    assert wires("tripwires: {canaries: [/home/reception/Documents/x.pdf], least: 5}") == {
        **{key: getattr(Settings, key) for key in SHARES},
        "canaries": ["/home/reception/Documents/x.pdf"],
        "disable": [],
        "least": 5,
    }
    assert wires("tripwires: {disable: [canary]}")["canaries"] == []
    assert wires('exclude: ["*.pdf"]')["canaries"] == [], "what the backup does not see is no canary"
    assert Tripwires().least == Settings.least
    assert set(WIRES) == {"canary", *SHARES}


def test_hours_rates_and_priority_reach_the_job_only_where_they_are_said():
    words = 'window: "19:00-05:00", at_window_end: throttle, throttle_to: 1Mbit/s, limits: {"08:00-18:00": 512kbit/s}'
    said = changed(
        ('at: "12:30"', f"{words}, nice: 5, io_class: idle"), ("every: 4h", "every: 4h\n    dump_limit: 30m")
    )
    desk = said.host_vars["desk1"]["backup_agent_jobs"][0]
    keys = ("window", "at_window_end", "throttle", "limits", "nice", "io_class")
    assert [desk[key] for key in keys] == ["19:00-05:00", "throttle", 1000000, {"08:00-18:00": 512000}, 5, "idle"]
    assert re.fullmatch(r"\*-\*-\* 21:.*", desk["calendar"][0])
    database, documents = said.host_vars["server1"]["backup_agent_jobs"]
    assert database["dump_limit_s"] == 1800
    assert not set(keys) & set(documents)


@pytest.mark.parametrize(("window", "at"), [("22:00-05:00", "22"), ("20:30-22:00", "21"), ("20:30-21:30", "(20|21)")])
def test_an_item_with_a_window_and_no_time_begins_in_it(window, at):
    said = changed(('at: "12:30"', f'window: "{window}"'))
    start = said.host_vars["desk1"]["backup_agent_jobs"][0]["calendar"][0]
    assert re.fullmatch(rf"\*-\*-\* {at}:[0-5][0-9]:00 Australia/Sydney", start)


def test_a_window_makes_the_longest_gap_between_two_backups():
    items = changed(("every: 4h", 'every: 4h\n    window: "20:00-08:00"')).all_vars["practice_summary"]["items"]
    assert items["clinical_db"]["interval_s"] == 16 * 3600


def test_ipv6_is_in_brackets_where_a_port_follows():
    inventory = changed(("address: 198.18.0.11", "address: 2001:db8::11"))
    assert inventory.host_vars["nas1"]["ansible_host"] == "2001:db8::11"
    assert inventory.host_vars["nas1"]["nas_repository_listen"] == "[2001:db8::11]:8000"
    assert inventory.host_vars["desk1"]["backup_agent_repository"]["url"] == "rest:https://[2001:db8::11]:8000/desk1/"
    assert inventory.host_vars["desk1"]["power_monitors"][0]["address"] == "2001:db8::11"


def test_power_primary_and_secondaries():
    inventory = compiled()
    primary, secondary = inventory.host_vars["nas1"], inventory.host_vars["server1"]
    assert primary["power_role"] == "primary"
    assert primary["power_ups"] == [
        {
            "name": "ups1",
            "driver": "dummy-ups",
            "port": "ups1.dev",
            "description": "ups1 of Harbour Street Medical Centre",
            "settings": {"mode": "dummy-once", "ignorelb": True, "override.battery.runtime.low": "470"},
            "runtime_s": 600,
        }
    ]
    assert (primary["power_peers"], primary["power_standalone"], primary["power_wake"]) == (
        ["198.18.0.12", "198.18.0.13"],
        False,
        [],
    )
    assert primary["power_listen"] == ["127.0.0.1", "198.18.0.11"]
    assert [(user["name"], user.get("role"), user.get("actions")) for user in primary["power_users"]] == [
        ("nas1", "primary", None),
        ("server1", "secondary", None),
        ("desk1", "secondary", None),
        ("drill", None, ["SET"]),
    ]
    assert secondary["power_role"] == "secondary"
    assert "power_ups" not in secondary
    assert secondary["power_monitors"] == [
        {
            "ups": "ups1",
            "address": "198.18.0.11",
            "user": "server1",
            "password": "{{ vault_nut_passwords['server1'] }}",
            "power_value": 1,
            "type": "secondary",
        }
    ]
    assert "power_role" not in inventory.host_vars["proof1"]


def test_applications_stop_before_the_databases_and_all_of_it_in_the_host_s_time():
    server = compiled().host_vars["server1"]
    assert server["power_databases"] == ["postgresql.service"]
    assert (server["power_applications"], server["power_stop_units"]) == ([], [])
    assert (server["power_unit_stop_s"], server["power_stop_s"]) == ({"postgresql@.service": 170}, 180)
    edits = (
        "{kind: server, ",
        "{kind: server, applications: [pms.service], stop_limits: {pms.service: 45s}, stop_time: 3m, ",
    )
    server = changed(edits).host_vars["server1"]
    assert server["power_stop_units"] == [{"units": ["pms.service"], "before": ["postgresql.service"]}]
    assert server["power_unit_stop_s"] == {"pms.service": 45, "postgresql@.service": 125}


def test_applications_that_are_not_named_are_those_that_proofs_start():
    edit = (
        "    class: critical\n",
        "    class: critical\n    application: {units: [pms.service], ask: {pms: {port: 80}}}\n",
    )
    assert changed(edit).host_vars["server1"]["power_applications"] == ["pms.service"]
    none = changed(edit, ("{kind: server, ", "{kind: server, applications: [], ")).host_vars["server1"]
    assert none["power_applications"] == []


def test_machines_that_the_mains_do_not_wake_are_woken_by_the_primary():
    edit = ("{kind: workstation, ", '{kind: workstation, wake: "52:54:00:AA:BB:CC", ')
    assert changed(edit).host_vars["nas1"]["power_wake"] == ["52:54:00:aa:bb:cc"]


def test_a_ups_that_feeds_its_primary_alone_is_nobody_else_s_business():
    nas = changed(("feeds: [nas1, server1, desk1]", "feeds: [nas1]")).host_vars["nas1"]
    assert (nas["power_standalone"], nas["power_listen"], nas["power_peers"]) == (True, ["127.0.0.1"], [])


def test_a_firewall_that_knows_no_names_keeps_nobody_out():
    assert changed(("address: 198.18.0.13", "address: desk1.lan")).host_vars["nas1"]["power_peers"] == []


def test_the_primary_watches_its_ups_and_a_server_watches_the_primary():
    inventory = changed(
        ("runtime: 10m", 'runtime: 10m, self_test: 4w, battery: {installed: "2025-02-01", replace_by: "2029-02-01"}')
    )
    (own,), (other,) = (inventory.host_vars[host]["ups_watch_upses"] for host in ("nas1", "server1"))
    assert own == {
        "name": "ups1",
        "address": "127.0.0.1",
        "primary": "nas1",
        "deputy": False,
        "feeds": {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"},
        "may_be_off": ["desk1"],
        "runtime_s": 600,
        "low_s": 470,
        "need": {
            "slowest": {"host": "server1", "seconds": 180, "measured": False},
            "hostsync_s": 15,
            "primary_s": 180,
            "finaldelay_s": 5,
            "late_hook_s": 30,
            "total_s": 410,
        },
        "self_test_every_s": 28 * 86400,
        "battery": {"installed": "2025-02-01", "replace_by": "2029-02-01"},
    }
    assert other == {**own, "address": "198.18.0.11", "deputy": True, "self_test_every_s": None}
    assert inventory.host_vars["nas1"]["ups_watch_test_password"] == "{{ vault_nut_passwords['selftest'] }}"
    assert "ups_watch_test_password" not in inventory.host_vars["server1"]
    tester = next(user for user in inventory.host_vars["nas1"]["power_users"] if user["name"] == "selftest")
    assert tester["instcmds"] == ["test.battery.start", "test.battery.start.quick"]
    assert "actions" not in tester
    assert "role" not in tester
    assert "ups_watch_upses" not in inventory.host_vars["desk1"]


def test_a_measured_stop_counts_when_it_is_longer_than_the_written_one():
    document, _ = source.parse(EXAMPLE.encode(), "practice.yml")
    practice, _ = check.check(document)
    measured = {
        "server1": Stop(250, "measured by a drill on 2026-11-26"),
        "nas1": Stop(20, "measured by a drill on 2026-11-26"),
    }
    inventory = compiler.compile_practice(practice, "/p", {}, measured)
    need = inventory.host_vars["nas1"]["ups_watch_upses"][0]["need"]
    assert need["slowest"] == {"host": "server1", "seconds": 250, "measured": True}
    assert (need["primary_s"], need["total_s"]) == (180, 480)


def test_a_ups_that_does_not_tell_its_runtime_calls_for_the_shutdown_itself():
    ups = changed(("driver: dummy-ups", "driver: nutdrv_qx")).host_vars["nas1"]["power_ups"][0]
    assert ups["settings"] == {}
    ups = changed(("driver: dummy-ups", "driver: nutdrv_qx, low_battery: 8m")).host_vars["nas1"]["power_ups"][0]
    assert ups["settings"] == {"ignorelb": True, "override.battery.runtime.low": "480"}


def test_what_opens_a_ups_comes_from_the_vault():
    found = changed(("driver: dummy-ups", "driver: snmp-ups, port: 198.18.0.50, vault_settings: [authPassword]"))
    assert found.host_vars["nas1"]["power_ups"][0]["secrets"] == {
        "authPassword": "{{ vault_ups_secrets['ups1']['authPassword'] }}"
    }
    assert found.all_vars["practice_ups_secrets"] == {"ups1": ["authPassword"]}
    assert "practice_ups_secrets" not in compiled().all_vars


def test_only_a_simulated_ups_can_be_set_by_a_drill():
    users = changed(("driver: dummy-ups", "driver: usbhid-ups")).host_vars["nas1"]["power_users"]
    assert all("actions" not in user for user in users)


def test_engines_of_other_kinds():
    pairs = ("database: {engine: postgresql, name: clinic}", "database: {engine: %s}")
    mariadb = changed((pairs[0], pairs[1] % "mariadb, name: clinic"))
    assert mariadb.host_vars["server1"]["backup_agent_jobs"][0]["database"]["engine"] == "mariadb"
    assert mariadb.host_vars["proof1"]["restore_host_packages"] == ["age", "mariadb-server", "restic"]
    sqlite = changed((pairs[0], pairs[1] % "sqlite, path: /srv/pms.db"))
    database = sqlite.host_vars["server1"]["backup_agent_jobs"][0]["database"]
    assert (database["engine"], database["path"], "name" in database) == ("sqlite", "/srv/pms.db", False)
    assert sqlite.host_vars["proof1"]["restore_host_packages"] == ["age", "python3", "restic"]
    firebird = changed((pairs[0], pairs[1] % "firebird, path: /srv/pms.fdb")).host_vars
    assert firebird["server1"]["backup_agent_jobs"][0]["database"]["engine"] == "firebird"
    assert firebird["proof1"]["restore_host_packages"] == ["age", "firebird4.0-server", "firebird4.0-utils", "restic"]


def test_vendors_dumps_bring_their_checks_and_the_packages_of_these():
    old = EXAMPLE[EXAMPLE.index("    database: {engine: postgresql") : EXAMPLE.index("  documents:\n")]
    check = 'check: [/usr/bin/gzip, -t, "{dump}"], packages: [gzip, restic-tools]'
    command = changed((old, f"    database: {{engine: command, dump: [/opt/dump, --all], {check}}}\n"))
    found = command.host_vars["server1"]["backup_agent_jobs"][0]["database"]
    assert {key: found[key] for key in ("engine", "dump", "check")} == {
        "engine": "command", "dump": ["/opt/dump", "--all"], "check": ["/usr/bin/gzip", "-t", "{dump}"]}  # fmt: skip
    assert "packages" not in found
    assert command.host_vars["proof1"]["restore_host_packages"] == ["age", "gzip", "restic-tools", "restic"]
    pickup = changed((old, '    database: {engine: pickup, path: /srv/v, pattern: "*.bak", min_size: 2KiB}\n'))
    found = pickup.host_vars["server1"]["backup_agent_jobs"][0]["database"]
    figures = {"max_age_s": 26 * 3600, "min_size": 2048, "wait_s": 600}
    assert {key: found[key] for key in ("path", "pattern", *figures)} == {
        "path": "/srv/v",
        "pattern": "*.bak",
        **figures,
    }


SOFTWARE = """{packages: [orthanc, gzip], needs: [documents], owner: orthanc, units: [orthanc.service], limit: 90s,
        ask: {system: {http: "http://127.0.0.1:8042/system", contains: Api}, list: {port: 4242}}}"""


def test_software_that_a_proof_brings_up_is_a_level_and_brings_its_packages():
    inventory = changed(("    class: critical", f"    class: critical\n    application: {SOFTWARE}"))
    variables = inventory.host_vars["proof1"]
    assert variables["restore_host_packages"] == ["age", "postgresql-17", "orthanc", "gzip", "restic"]
    items = {entry["item"]: entry for entry in variables["restore_verify_items"]}
    assert items["clinical_db"]["levels"] == ["arrival", "structure", "files", "database", "application"]
    assert items["clinical_db"]["application"] == {
        "needs": ["documents"],
        "owner": "orthanc",
        "units": ["orthanc.service"],
        "limit_s": 90,
        "ask": {"system": {"http": "http://127.0.0.1:8042/system", "contains": "Api"}, "list": {"port": 4242}},
    }
    assert "application" not in items["documents"]
    assert "application" not in items["documents"]["levels"]


def test_software_of_files_alone_is_a_level_too():
    edit = ('at: "21:00"', 'at: "21:00"\n    application: {ask: {read: {command: [/bin/true]}}}')
    items = changed(edit).host_vars["proof1"]["restore_verify_items"]
    found = next(each for each in items if each["item"] == "documents")
    assert found["levels"] == ["arrival", "structure", "files", "application"]
    assert found["application"]["limit_s"] == 120


def test_the_lab_builds_the_image_that_the_example_asks_for():
    """Inside the lab's network there is nothing to install from."""
    lab = yaml.safe_load((REPOSITORY / "molecule/shared/vars/lab.yml").read_text())
    text = (REPOSITORY / "inventories/harbour-street/practice.yml").read_text()
    assert set(lab["lab_engines"]) == set(compiled(text).host_vars["proof1"]["restore_host_packages"])


def test_restore_host_on_another_machine():
    elsewhere = "driver: nspawn, on: 198.18.0.29, ssh_port: 2222, space: 9GiB"
    variables = changed(("driver: nspawn, on: localhost", elsewhere)).host_vars["proof1"]
    assert "ansible_connection" not in variables
    assert (variables["ansible_host"], variables["ansible_port"]) == ("198.18.0.29", 2222)
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert (variables["restore_host_store"], variables["restore_host_size"]) == ("encrypted", 9 << 30)


def test_restore_host():
    variables = compiled().host_vars["proof1"]
    assert variables["ansible_connection"] == "local"
    assert variables["ansible_python_interpreter"] == "{{ ansible_playbook_python }}"
    assert variables["restore_host_packages"] == ["age", "postgresql-17", "restic"]
    items = {entry["item"]: entry for entry in variables["restore_verify_items"]}
    assert list(items) == ["clinical_db", "documents", "desk_files"]
    assert items["clinical_db"]["engine"] == "postgresql"
    assert items["clinical_db"]["levels"] == ["arrival", "structure", "files", "database"]
    assert items["desk_files"] == {
        "item": "desk_files",
        "job": "desk_files",
        "host": "desk1",
        "copy": "onsite",
        "repository": {"url": "rest:https://198.18.0.11:8000/desk1/", "username": "desk1", "certificate": "PEM"},
        "rpo_s": 86400,
        "rto_s": 14400,
        "levels": ["arrival", "structure", "files"],
    }
    assert SECRET not in json.dumps(variables["restore_verify_items"])
    assert variables["restore_verify_turns"]["clinical_db"] == "daily"
    assert variables["restore_verify_older"] == {"clinical_db": 1, "documents": 3, "desk_files": 3}
    assert variables["restore_verify_rules"]["proven_s"] == 180 * 86400
    assert list(variables["restore_verify_rules"]["within"]) == ["hourly", "daily", "weekly", "monthly", "yearly"]
    assert variables["restore_verify_turns"]["documents"] in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    assert list(variables["restore_verify_credentials"]) == ["server1", "desk1"]


def test_a_missing_certificate_fails_only_who_needs_it():
    variables = compiled(certificates={}).host_vars["nas1"]
    assert isinstance(variables["nas_repository_certificate"], Template)
    assert "undef(" in variables["nas_repository_certificate"]
    assert "bin/holdfast secrets" in variables["nas_repository_certificate"]


def strings(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def test_templates_are_marked_and_nothing_else_looks_like_one():
    inventory = compiled()
    found = list(strings(inventory.host_vars)) + list(strings(inventory.all_vars))
    templates = [text for text in found if isinstance(text, Template)]
    assert len(templates) > 10
    assert all("{{" in text for text in templates)
    assert not any("{{" in text or "{%" in text for text in found if not isinstance(text, Template))


def test_no_policy_is_a_policy():
    text = EXAMPLE
    for part in ("    class: critical\n    every: 4h\n", ', at: "12:30"', '    at: "21:00"\n'):
        assert part in text
        text = text.replace(part, "    class: critical\n" if "class" in part else "", 1)
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("prove:", "objectives:")))
    inventory = compiled(text)
    jobs = {job["name"]: job for host in ("server1", "desk1") for job in inventory.host_vars[host]["backup_agent_jobs"]}
    assert re.fullmatch(r"\*-\*-\* 0[23]/4:[0-5][0-9]:00 UTC", jobs["clinical_db"]["calendar"][0])
    # within the usual hour, each at a minute of its own
    starts = {jobs[name]["calendar"][0] for name in ("documents", "desk_files")}
    assert len(starts) == 2
    assert all(re.fullmatch(r"\*-\*-\* 21:[0-5][0-9]:00 Australia/Sydney", start) for start in starts)
    proofs = {name: item["prove"] for name, item in inventory.all_vars["practice_summary"]["items"].items()}
    assert proofs == {"clinical_db": "daily", "documents": "weekly", "desk_files": "weekly"}


ZONES = ("Australia/Sydney", "Europe/Berlin", "America/New_York", "Pacific/Chatham", "Asia/Kolkata", "America/Santiago")


def starts(expression, first_day, count):
    """When systemd starts a timer, in UTC."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    command = [
        "systemd-analyze",
        "calendar",
        f"--iterations={count}",
        f"--base-time={first_day} 00:00:00 UTC",
        expression,
    ]
    shown = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    )
    found = re.findall(r"(?:elapse|#[0-9]+): [A-Z][a-z]+ (\S+ \S+) UTC", shown.stdout)
    assert len(found) == count, shown.stdout
    return [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in found]


def changeovers(zone):
    """The days before each change of a zone's clocks within a year; two days of a zone without."""
    info, day = ZoneInfo(zone), timedelta(days=1)
    days = [datetime(2027, 1, 1, 12, tzinfo=UTC) + day * number for number in range(365)]
    found = [each for each in days if each.astimezone(info).utcoffset() != (each + day).astimezone(info).utcoffset()]
    return found or [days[90], days[270]]


def calendar_of(zone, words):
    found = changed(("timezone: Australia/Sydney", f"timezone: {zone}"), ("    every: 4h", f"    {words}"))
    (expression,) = found.host_vars["server1"]["backup_agent_jobs"][0]["calendar"]
    return expression


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("every", ["1h", "2h", "3h", "4h", "6h", "8h", "12h", "24h"])
def test_an_interval_is_the_same_on_the_nights_when_clocks_change(zone, every):
    for before in changeovers(zone):
        found = starts(calendar_of(zone, f"every: {every}"), (before - timedelta(days=1)).date(), 74)
        assert {after - each for each, after in pairwise(found)} == {timedelta(hours=int(every[:-1]))}
        minute = found[0].astimezone(ZoneInfo(zone)).minute
        assert {each.astimezone(ZoneInfo(zone)).minute for each in found} == {minute}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "words", ['at: "04:00"', 'at: "21:00"', 'at: "12:30"', 'window: "20:00-06:00"', 'at: "04:00"\n    days: mon-sun']
)
def test_a_time_of_day_comes_once_a_day_also_when_clocks_change(zone, words):
    for before in changeovers(zone):
        first = (before - timedelta(days=2)).date()
        local = [each.astimezone(ZoneInfo(zone)) for each in starts(calendar_of(zone, words), first, 5)]
        assert [each.date() for each in local] == [local[0].date() + timedelta(days=number) for number in range(5)]
        assert len({each.time() for each in local}) == 1


def test_systemd_leaves_out_a_time_that_is_skipped_which_is_why_such_a_time_is_refused():
    local = [
        each.astimezone(ZoneInfo("Australia/Sydney"))
        for each in starts("*-*-* 02:30:00 Australia/Sydney", "2027-10-01", 3)
    ]
    assert [each.day for each in local] == [2, 4, 5]


def test_hosts_and_jobs_begin_at_different_minutes_that_stay():
    minutes = {compiler.stable_minute("practice", f"host{number}", "job") for number in range(200)}
    assert len(minutes) > 40
    assert max(minutes) <= 54
    assert compiler.stable_minute("harbour-street", "server1", "clinical_db") == STABLE


ROLES = {
    "nas_storage": "nas",
    "nas_repository": "nas",
    "backup_agent": "agents",
    "power": "power",
    "restore_host": "restore_hosts",
}


@pytest.mark.parametrize("role", ROLES)
def test_the_variables_are_those_that_the_role_asks_for(role):
    """The compiler is the only place that knows both the document and the roles."""
    specs = yaml.safe_load((REPOSITORY / "roles" / role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    inventory = compiled()
    assert inventory.groups[ROLES[role]]
    for host in inventory.groups[ROLES[role]]:
        given = {name: value for name, value in inventory.host_vars[host].items() if name.startswith(f"{role}_")}
        assert given
        options = specs["main"]["options"]
        assert set(given) <= set(options)
        assert ArgumentSpecValidator(options).validate(given).error_messages == []


def test_the_example_in_the_plugins_documentation_is_a_good_document():
    compiled(practice.EXAMPLES)


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("file: restic.bz2", {"file": "/practices/harbour-street/restic.bz2"}),
        ('url: "https://example.org/r.bz2"', {"url": "https://example.org/r.bz2"}),
    ],
)
def test_a_restic_of_ones_own_goes_to_every_host_with_backups_and_to_no_other(said, given):
    inventory = compiled(EXAMPLE + f"\nprograms: {{restic: {{{said}, sha256: {'ab' * 32}}}}}\n")
    found = {host: variables.get("backup_agent_restic") for host, variables in inventory.host_vars.items()}
    assert {host for host, each in found.items() if each} == set(inventory.groups["agents"])
    assert found["server1"] == {**given, "sha256": "ab" * 32}
    assert all("backup_agent_restic" not in variables for variables in compiled().host_vars.values())


def test_heads_of_the_evidence_go_to_the_nas_always_and_elsewhere_where_the_document_says_so():
    nas = {"mountpoint": "/srv/holdfast", "nas_folder": "/srv/holdfast/evidence"}
    assert compiled().all_vars["practice_evidence_places"] == nas
    places = changed(
        ("copies:\n", "evidence: {publish: {folder: /media/manager, mail: [manager@x.example]}}\ncopies:\n"),
        ("copies:\n", "alerts: {mail: {relay: mail.x.example, sender: h@x.example, user: holdfast}}\ncopies:\n"),
    ).all_vars["practice_evidence_places"]
    assert places["folder"] == "/media/manager"
    assert (places["mail"]["to"], places["mail"]["relay"]) == (["manager@x.example"], "mail.x.example")
    assert places["mail"]["password"] == "{{ vault_mail_password }}"
