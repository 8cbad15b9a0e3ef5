"""A host leaves, then the whole practice: closed everywhere, data kept until somebody deletes it on purpose. Runs last."""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[3]
KEPT = "/srv/holdfast/repositories/desk1"
HOST = ("-e", "host=desk1", "-e", "confirm=desk1", "--timeout", "3")
DELETE = ("-e", "host=desk1", "-e", "confirm=delete-desk1-of-harbour-street")


def telling(secret):
    """The part of a secret that is like no other: keys begin alike, and their last line but one does not."""
    return secret.splitlines()[-2] if "\n" in secret else secret


def changed(done):
    return re.findall(r"changed=([1-9]\d*)", done.stdout)


def said(done):
    """The output with Ansible's line breaks taken out."""
    return " ".join(done.stdout.split())


def holdfast(practice, command, *options):
    line = [sys.executable, REPO / "bin/holdfast", command, practice.folder, "desk1", *options]
    return subprocess.run(line, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL)


def last(practice, kind):
    return [r for r in practice.records() if r["kind"] == kind][-1]["body"]


def login(practice, password):
    """Ask the NAS for desk1's repository with a password; gives the HTTP status."""
    context = ssl.create_default_context(cadata=(practice.folder / "certificates/nas1.pem").read_text())
    context.verify_flags = ssl.VerifyFlags(
        (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    )
    connection = http.client.HTTPSConnection("198.18.0.11", 8000, context=context, timeout=10)
    token = base64.b64encode(f"desk1:{password}".encode()).decode()
    connection.request("GET", "/desk1/config", headers={"Authorization": f"Basic {token}"})
    return connection.getresponse().status


@pytest.fixture(scope="module")
def before(practice, hosts):
    """What there was before desk1 left: its secrets, and the names of its snapshots."""
    # the machines' keys are the lab's: the practice gets a copy of its own to take desk1's out of
    known = practice.folder / "known_hosts"
    keys, linked = known.read_text(), known.readlink() if known.is_symlink() else None
    known.unlink()
    known.write_text(keys)
    secrets = {name: secret for name, secret in practice.secrets().items() if name.endswith(".desk1")}
    snapshots = hosts["nas1"].check_output(f"ls {KEPT}/snapshots").split()
    assert len(secrets) == 3
    assert snapshots
    yield secrets, snapshots
    if linked:
        known.unlink()
        known.symlink_to(linked)


def test_a_dead_machines_accounts_are_closed_all_the_same(practice, hosts, before):
    secrets, _snapshots = before
    password = secrets["vault_rest_passwords.desk1"]
    assert login(practice, password) == 200
    in_use = practice.play("retire_host.yml", *HOST)
    assert in_use.returncode != 0
    assert "Nothing was done. desk1 is in use" in said(in_use)
    assert changed(in_use) == []
    done = holdfast(practice, "retire", "--confirm", "desk1", "--keep-until", "2099-12-31")
    assert done.returncode == 0, done.stderr
    subprocess.run(["ip", "link", "set", "vb-desk1", "down"], check=True)
    try:
        done = practice.play("retire_host.yml", *HOST)
    finally:
        subprocess.run(["ip", "link", "set", "vb-desk1", "up"], check=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "The machine was NOT cleaned: it does not answer" in said(done)
    assert login(practice, password) == 401
    assert hosts["desk1"].file("/etc/holdfast/credentials/rest-password").exists
    assert last(practice, "retirement")["machine"] == "not_reached"
    assert "[desk1]" not in hosts["nas1"].check_output("cat /etc/nut/upsd.users")


def test_a_machine_that_turns_up_is_cleaned_and_once_more_changes_nothing(practice, hosts, before):
    secrets, snapshots = before
    done = practice.play("retire_host.yml", *HOST)
    assert done.returncode == 0, done.stdout[-3000:]
    body = last(practice, "retirement")
    # refused with what the machine itself still had
    assert (body["machine"], body["login"]) == ("cleaned", "refused")
    assert body["kept"]["nas1"]["snapshots"] == len(snapshots)
    desk = hosts["desk1"]
    assert desk.run("ls -d /etc/holdfast /usr/lib/holdfast /var/lib/holdfast /var/cache/holdfast").stdout == ""
    # systemctl ends with 1 when it lists none
    assert desk.run("systemctl list-unit-files --no-legend 'holdfast*'").stdout == ""
    assert "ssh.service" in desk.check_output("systemctl list-unit-files --no-legend 'ssh*'")
    for name, secret in secrets.items():
        assert desk.run("grep -rlsF --exclude-dir=journal -e %s /etc /var/lib /root", secret).stdout == "", name
    assert "198.18.0.13" not in (practice.folder / "known_hosts").read_text()
    records = len(practice.records())
    again = practice.play("retire_host.yml", *HOST)
    assert again.returncode == 0, again.stdout[-3000:]
    assert changed(again) == []
    assert len(practice.records()) == records
    assert practice.verify_evidence().returncode == 0


def test_the_data_stays_closed_and_site_names_it_and_leaves_it(practice, hosts, before):
    _secrets, snapshots = before
    nas = hosts["nas1"]
    done = practice.play("site.yml", "--tags", "nas")
    assert done.returncode == 0, done.stdout[-3000:]
    assert changed(done) == []
    assert re.search(r"desk1: .* retired \d{4}-\d\d-\d\d, kept until 2099-12-31", said(done))
    assert nas.check_output(f"stat -c '%U %a' {KEPT}") == "root 700"
    assert nas.check_output(f"ls {KEPT}/snapshots").split() == snapshots
    assert "vault_repository_passwords.desk1" in practice.secrets()


def test_what_is_kept_is_deleted_only_when_all_agrees(practice, hosts):
    document = practice.folder / "practice.yml"
    early = practice.play("delete_orphan.yml", *DELETE)
    assert early.returncode != 0
    assert "to be kept until 2099-12-31" in said(early)
    (today,) = re.findall(r'date: "([0-9-]+)"', document.read_text())
    document.write_text(document.read_text().replace("2099-12-31", today))
    look = practice.play("delete_orphan.yml", "-e", "host=desk1", "-e", "confirm=desk1")
    assert look.returncode != 0
    assert re.search(r"nas1 keeps of desk1: .* snapshots", said(look))
    early = holdfast(practice, "forget", "--confirm", "desk1")
    assert (early.returncode, "no record of their deletion" in early.stderr) == (3, True)
    assert hosts["nas1"].file(f"{KEPT}/config").exists

    done = practice.play("delete_orphan.yml", *DELETE)
    assert done.returncode == 0, done.stdout[-3000:]
    assert not hosts["nas1"].file(KEPT).exists
    assert last(practice, "deletion")["deleted"]["nas1"]["snapshots"] > 0
    done = holdfast(practice, "forget", "--confirm", "desk1")
    assert done.returncode == 0, done.stderr
    assert "desk1" not in document.read_text()
    assert not [name for name in practice.secrets() if name.endswith(".desk1")]


def test_removal_leaves_the_data_and_nothing_else(practice, hosts):
    states = ["power_state", "backup_agent_state", "nas_watch_state", "nas_repository_state", "nas_storage_state"]
    absent = [option for state in states for option in ("-e", f"{state}=absent")]
    # the NAS goes last: agents have to be taken off while it is there
    first = practice.play("site.yml", *absent)
    assert first.returncode == 0, first.stdout[-3000:]
    assert practice.play("retire_practice.yml", "-e", "confirm=harbour-street").returncode == 0
    again = practice.play("retire_practice.yml", "-e", "confirm=harbour-street")
    assert again.returncode == 0, again.stdout[-3000:]
    assert changed(again) == []
    for name, host in hosts.items():
        units = host.check_output("systemctl list-unit-files --no-legend 'holdfast*' 'srv-holdfast*' | wc -l")
        assert units == "0", name
        assert host.run("ls -d /etc/holdfast /etc/holdfast-nas").stdout == "", name
    secrets = {n: telling(s) for n, s in practice.secrets().items()}
    for name, host in hosts.items():
        for place, secret in secrets.items():
            found = host.run("grep -rlsF --exclude-dir=journal -e %s /etc /usr/lib/holdfast /var/lib /root", secret)
            assert found.stdout == "", f"{name} keeps {place} in {found.stdout}"
    # the data is still on the disks
    mounted = "mount -o ro,device=/dev/disk/by-id/lab-nas1-b /dev/disk/by-id/lab-nas1-a /mnt"
    hosts["nas1"].check_output(mounted)
    snapshots = hosts["nas1"].check_output("ls /mnt/repositories/server1/snapshots | wc -l")
    hosts["nas1"].check_output("umount /mnt")
    assert int(snapshots) > 0
