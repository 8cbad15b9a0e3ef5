# SPDX-License-Identifier: Apache-2.0
"""Other kinds of hosts and UPSes: a Debian 12 primary, a host with two feeds, a stand-alone host; SNMP and a serial line.

The UPSes on the network and on the serial line are simulated: NUT's own drivers speak with programs of this test. What machines
do is real, they switch off. The tests run in their order: at first the host with two feeds needs both, later one.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import testinfra
import yaml

SCENARIO = Path(__file__).resolve().parents[1]
PROJECT = SCENARIO.parents[1]
LAB_FOLDER = Path(os.environ["HOLDFAST_LAB_FOLDER"])
PASSWORDS = yaml.safe_load((SCENARIO / "inventory.yml").read_text())["power"]["vars"]["power_test_passwords"]
ADDRESSES = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
VAULT = f"ups-kinds@{SCENARIO / 'vars' / 'vault-password'}"
PLAY = str(Path(sys.executable).parent / "ansible-playbook")
SAYS = {"normal": 3, "none": 2, "bypass": 4, "battery": 5}  # upsOutputSource of RFC 1628
UNTIL_SEEN_S = 20  # two polls of a driver, one of upsmon, and what two processors are busy with


@pytest.fixture(scope="module")
def hosts() -> dict[str, testinfra.host.Host]:
    """The machines over ssh, one connection a command: they go off and come back in here."""
    pins = f"-o UserKnownHostsFile={LAB_FOLDER}/known_hosts -o GlobalKnownHostsFile=/dev/null -o ControlMaster=no"
    key = str(LAB_FOLDER / "ssh_key")
    return {
        name: testinfra.get_host(f"ssh://root@{address}", ssh_identity_file=key, ssh_extra_args=pins, controlpersist=0)
        for name, address in ADDRESSES.items()
    }


@pytest.fixture(scope="module")
def nas(hosts):
    """The primary with Debian 12."""
    return hosts["nas1"]


@pytest.fixture(scope="module")
def desk(hosts):
    """The host with two feeds: ups1 of nas1, and its own ups2, simulated on the network."""
    return hosts["desk1"]


@pytest.fixture(scope="module")
def alone(hosts):
    """The stand-alone host. Both simulated UPSes run there too."""
    return hosts["server1"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook. Molecule's own settings are for its own runs only."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment["ANSIBLE_INVENTORY_ENABLED"] = "yaml,host_list"
    return subprocess.run([PLAY, *words], cwd=PROJECT, env=environment, text=True, capture_output=True, check=False)


def converge(*words: str, **extra: object) -> subprocess.CompletedProcess[str]:
    inventories = ["-i", str(LAB_FOLDER / "inventory" / "machines.yml"), "-i", str(SCENARIO / "inventory.yml")]
    return run(*inventories, "--vault-id", VAULT, *words, "-e", json.dumps(extra), str(SCENARIO / "converge.yml"))


def events(name: str) -> list[dict]:
    lines = (LAB_FOLDER / "machines" / name / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def went_off(name: str, before: int) -> float | None:
    """When a machine went off, as its carrier saw it, since it had had so many events."""
    return next((each["at"] for each in events(name)[before:] if each["event"] == "stopped"), None)


def until(what: str, true: Callable[[], object], seconds: float = UNTIL_SEEN_S) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not within {seconds} seconds"
        time.sleep(0.2)


def switch_on(*names: str) -> None:
    """Switch on what is off, and wait until its UPSes are heard."""
    done = run("-i", "localhost,", "-e", f"lab_name={os.environ['HOLDFAST_LAB']}", "molecule/shared/create.yml")
    assert done.returncode == 0, done.stdout
    for name in names:
        until(f"{name} answers", lambda name=name: port_open(name, 22), 60)


def port_open(name: str, port: int) -> bool:
    try:
        socket.create_connection((ADDRESSES[name], port), timeout=1).close()
    except OSError:
        return False
    return True


def status(host: testinfra.host.Host, ups: str) -> str:
    return host.run("upsc %s ups.status", ups).stdout.strip()


def log(host: testinfra.host.Host, since: str) -> str:
    """What upsmon said since then."""
    return host.check_output("journalctl -q -o cat -u nut-monitor --since @%s", since)


def now(host: testinfra.host.Host) -> str:
    return host.check_output("date +%s")


def set_dummy(nas: testinfra.host.Host, value: str) -> None:
    """Let ups1 say something."""
    set_it = f"upsrw -s ups.status='{value}' -u drill -p {PASSWORDS['drill']} ups1@127.0.0.1"
    until("upsd knows its driver again", lambda: nas.run(set_it).rc == 0, 60)
    if "LB" not in value:  # nobody is left to ask soon
        until(f"ups1 says {value}", lambda: status(nas, "ups1") == value)


def set_snmp(alone: testinfra.host.Host, source: str, minutes: int = 30) -> None:
    """Let ups2 say something. It never says that its battery is low: its runtime is for Holdfast to judge."""
    says = f"battery 2\nminutes {minutes}\ncharge 100\nsource {SAYS[source]}\n"
    alone.check_output("printf %s >/var/lib/simulated-ups/.new && mv /var/lib/simulated-ups/.new %s", says, SNMP)


SNMP, SERIAL = "/var/lib/simulated-ups/snmp", "/var/lib/simulated-ups/serial"


def set_serial(alone: testinfra.host.Host, bits: str) -> None:
    """Let ups3 say something: the bits of the Megatec protocol, mains failed and battery low at first."""
    alone.check_output("echo %s >/var/lib/simulated-ups/.new && mv /var/lib/simulated-ups/.new %s", bits, SERIAL)


LATE = "[Mount]\nWhat=tmpfs\nWhere=/srv/late\nType=tmpfs\n[Install]\nWantedBy=local-fs.target\n"
LOGGER = """\
#!/bin/sh
# the test's: writes down when the late hook calls, and what still was there
[ "$1" = shutdown ] || exec /sbin/upsdrvctl.real "$@"
echo "$* mounted=$(grep -c ' /srv/late ' /proc/self/mountinfo) drivers=$(pgrep -c 'dummy-ups|nutdrv_qx')" >>/root/late.log
"""
CALLED = "shutdown mounted=0 drivers=0"


@pytest.fixture(scope="module", autouse=True)
def surroundings(nas, alone):
    """A logger in the place of the program that tells the UPS to cut the power: that a UPS does it is not tried here."""
    for host in (nas, alone):
        host.check_output("mv /sbin/upsdrvctl /sbin/upsdrvctl.real && printf %s >/sbin/upsdrvctl", LOGGER)
        host.check_output("chmod 755 /sbin/upsdrvctl && printf %s >/etc/systemd/system/srv-late.mount", LATE)
        host.check_output("systemctl daemon-reload && systemctl enable -q --now srv-late.mount")
        assert host.mount_point("/srv/late").exists


def test_each_host_has_its_part_with_the_nut_of_its_release(nas, desk, alone):
    assert nas.check_output("upsd -V 2>/dev/null").endswith("2.8.0")
    for host in (desk, alone):
        assert host.check_output("upsd -V 2>/dev/null").endswith("2.8.1")
    modes = [host.check_output("grep ^MODE /etc/nut/nut.conf") for host in (nas, desk, alone)]
    assert modes == ["MODE=netserver", "MODE=netserver", "MODE=standalone"]
    for host, ups in ((nas, "ups1"), (desk, "ups1@198.18.0.11"), (desk, "ups2"), (alone, "ups3")):
        assert status(host, ups) == "OL"
    drivers = {
        ups: host.check_output("upsc %s driver.name 2>/dev/null", ups)
        for host, ups in ((desk, "ups2"), (alone, "ups3"))
    }
    assert drivers == {"ups2": "snmp-ups", "ups3": "nutdrv_qx"}
    assert desk.check_output("upsc ups2 driver.version.data 2>/dev/null").startswith("ietf MIB")


def test_a_stand_alone_host_listens_to_itself_only(alone):
    listening = alone.check_output("ss -Hltn sport = :3493").split()
    assert "127.0.0.1:3493" in listening
    assert len(listening) == 5, "one line"
    assert port_open("server1", 22), "the injection: the host can be reached"
    assert not port_open("server1", 3493)


# --- a serial line --------------------------------------------------------------------------------------------------------


def test_a_driver_on_a_simulated_serial_line_is_given_its_device_and_upsmon_hears_of_an_outage(alone):
    assert alone.check_output("ps -o user= -C nutdrv_qx").strip() == "nut"
    device = alone.check_output("readlink -f /dev/ttySimulated")
    # one that comes back with other rights, as a device does at each start, is given to NUT again
    alone.check_output("chown root:tty %s && chmod 0600 %s && systemctl restart nut-driver@ups3", device, device)
    assert alone.check_output("stat -c '%%U:%%G %%a' %s", device) == "root:nut 660"
    since = now(alone)
    set_serial(alone, "10000001")
    until("upsmon hears of the outage", lambda: "on battery" in log(alone, since))
    set_serial(alone, "00000001")
    until("and of its end", lambda: "on line power" in log(alone, since))
    assert "shutdown" not in log(alone, since)


# --- SNMP -----------------------------------------------------------------------------------------------------------------


def test_the_community_of_a_simulated_network_ups_comes_from_the_vault_and_is_shown_nowhere(desk):
    view = [PLAY.replace("-playbook", "-vault"), "view", "--vault-id", VAULT, str(SCENARIO / "vars" / "vault.yml")]
    shown = subprocess.run(view, text=True, capture_output=True, check=True, cwd=PROJECT).stdout
    secret = yaml.safe_load(shown)["vault_ups_secrets"]["ups2"]["community"]
    assert desk.check_output("grep -rlF -- %s /etc /run /var/lib", secret).split() == ["/etc/nut/ups.conf"]
    assert desk.file("/etc/nut/ups.conf").mode == 0o640
    assert secret not in desk.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert desk.check_output("upsc ups2 ups.model 2>/dev/null") == "simulated network UPS", "it was accepted"
    desk.check_output("echo '# drift' >>/etc/nut/ups.conf")
    done = converge("--limit", "desk1", "--check", "--diff", "-vvv")
    assert done.returncode == 0, done.stdout
    assert re.search(r"desk1 +: ok=\d+ +changed=1 ", done.stdout), "the injection: there is a difference"
    assert secret not in done.stdout + done.stderr
    desk.check_output("sed -i '/^# drift/d' /etc/nut/ups.conf && systemctl restart nut-driver@ups2 nut-server")
    until("ups2 is heard again", lambda: status(desk, "ups2") == "OL", 40)


# --- a UPS that says that it is off, bypassed or calibrating ------------------------------------------------------------------


def test_a_ups_that_says_it_is_off_stops_nobody_who_runs_on_it(nas, desk, alone):
    """upsmon 2.8.1 would stop desk1, which needs both: after 30 s with the mains there, at once without."""
    count, since = len(events("desk1")), now(desk)
    set_snmp(alone, "none")
    until("upsmon hears that ups2 is off", lambda: "UPS ups2@127.0.0.1: administratively OFF" in log(desk, since))
    set_dummy(nas, "OB OFF")
    until("and ups1 too, on battery", lambda: "UPS ups1@198.18.0.11 on battery" in log(desk, since))
    time.sleep(36)
    assert "automatic power-fail shutdown" not in log(desk, since)
    assert desk.service("nut-monitor").is_running
    assert nas.service("nut-monitor").is_running
    assert len(events("desk1")) == count
    set_dummy(nas, "OL")
    set_snmp(alone, "normal")
    until("all is well", lambda: status(desk, "ups2") == "OL")


def test_nothing_is_restarted_under_a_ups_that_counts_as_dead_when_it_falls_silent(nas, desk):
    """upsmon 2.8.1 would stop desk1 at once."""
    set_dummy(nas, "OL BYPASS")
    try:
        done = converge("--limit", "nas1", power_hostsync_s=16)
        assert done.returncode != 0
        assert "ups1 is bypassed or calibrating (OL BYPASS)" in " ".join(done.stdout.split())
        assert "HOSTSYNC 15" in nas.file("/etc/nut/upsmon.conf").content_string
    finally:
        set_dummy(nas, "OL")


# --- machines that switch off -------------------------------------------------------------------------------------------------


def stopped_by_its_ups(host: testinfra.host.Host) -> bool:
    return json.loads(host.check_output("cat /var/lib/holdfast-power/stops.json"))[-1]["on_battery"]


def test_a_debian_12_primary_stops_after_its_secondary_which_needs_both_feeds(nas, desk):
    before = {name: len(events(name)) for name in ADDRESSES}
    set_dummy(nas, "OB DISCHRG")
    time.sleep(6)  # the secondary's hold looks every second, upsmon every two
    assert {name: len(events(name)) for name in ADDRESSES} == before, "on battery nobody stops yet"
    set_dummy(nas, "OB DISCHRG LB")
    until("desk1 is off", lambda: went_off("desk1", before["desk1"]), 40)
    until("nas1 is off", lambda: went_off("nas1", before["nas1"]), 40)
    assert went_off("desk1", before["desk1"]) < went_off("nas1", before["nas1"])
    assert len(events("server1")) == before["server1"]
    switch_on("nas1", "desk1")
    assert stopped_by_its_ups(nas)
    assert stopped_by_its_ups(desk)
    assert nas.check_output("cat /root/late.log") == CALLED, "the late hook, on Debian 12 too"
    assert not nas.file("/run/killpower").exists
    until("ups1 is heard", lambda: status(nas, "ups1") == "OL", 40)
    until(
        "by desk1 too, and ups2", lambda: (status(desk, "ups1@198.18.0.11"), status(desk, "ups2")) == ("OL", "OL"), 40
    )


def test_a_host_that_needs_one_of_two_feeds_stops_when_both_are_low_and_not_before(nas, desk, alone):
    assert converge("--limit", "desk1", power_min_supplies=1).returncode == 0
    assert "OFFDURATION 30" in desk.file("/etc/nut/upsmon.conf").content_string, "a feed that is off does not carry it"
    before, since = {name: len(events(name)) for name in ADDRESSES}, now(desk)
    set_snmp(alone, "battery", minutes=5)  # less than Holdfast's low_battery of 6 minutes
    until("ups2 alone is low", lambda: status(desk, "ups2") == "OB LB")
    until("upsmon hears it", lambda: "ups2@127.0.0.1 battery is low" in log(desk, since))
    time.sleep(8)
    assert {name: len(events(name)) for name in ADDRESSES} == before, "ups2 alone stops nobody"
    set_snmp(alone, "normal")
    until("ups2 is well", lambda: status(desk, "ups2") == "OL")
    set_dummy(nas, "OB DISCHRG LB")
    until("nas1 is off", lambda: went_off("nas1", before["nas1"]), 40)
    time.sleep(8)  # FINALDELAY, and DEADTIME of a server that is gone
    assert len(events("desk1")) == before["desk1"], "ups1 alone stops nobody who has another feed"
    assert desk.service("nut-monitor").is_running
    # upsmon does not wait for minutes for the primary that is off
    set_snmp(alone, "battery", minutes=5)
    until("desk1 is off", lambda: went_off("desk1", before["desk1"]), 40)
    set_snmp(alone, "normal")


def test_a_stand_alone_host_on_a_simulated_serial_ups_switches_off_with_its_late_hook(alone):
    count = len(events("server1"))
    set_serial(alone, "10000001")
    time.sleep(5)
    assert len(events("server1")) == count, "on battery it does not stop yet"
    set_serial(alone, "11000001")
    until("server1 is off", lambda: went_off("server1", count), 40)
    switch_on("server1")
    assert alone.check_output("cat /root/late.log") == CALLED
    assert stopped_by_its_ups(alone)
    set_serial(alone, "00000001")
    until("ups3 is heard", lambda: status(alone, "ups3") == "OL", 60)
