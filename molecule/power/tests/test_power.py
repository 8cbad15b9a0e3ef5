# SPDX-License-Identifier: Apache-2.0
"""An outage on real machines: who goes off, in which order, and what may not be done to a UPS over the network.

The tests run in their order: the drills switch the machines off and on, the last tests take NUT away.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import testinfra
import yaml

SCENARIO = Path(__file__).resolve().parents[1]
PROJECT = SCENARIO.parents[1]
LAB = os.environ["HOLDFAST_LAB"]
LAB_FOLDER = Path(os.environ["HOLDFAST_LAB_FOLDER"])
MACHINES = LAB_FOLDER / "inventory" / "machines.yml"
OWN = SCENARIO / "inventory.yml"
MOVED = SCENARIO / "moved" / "inventory.yml"
PASSWORDS = yaml.safe_load(OWN.read_text())["power"]["vars"]["power_test_passwords"]
ADDRESSES = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
SECONDARIES = ("server1", "desk1")


def play(
    playbook: Path, *arguments: str, machines: Path = MACHINES, own: Path = OWN, **extra: object
) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the lab with further variables. Molecule's own settings are for its own runs only."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment["ANSIBLE_INVENTORY_ENABLED"] = "yaml,host_list"
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", machines, "-i", own, *arguments]
    command += ["-e", json.dumps({"lab_name": LAB, **extra}), playbook]
    return subprocess.run(command, cwd=PROJECT, env=environment, text=True, capture_output=True, check=False)


def converge(*arguments: str, **extra: object) -> subprocess.CompletedProcess[str]:
    return play(SCENARIO / "converge.yml", *arguments, **extra)


def drill(*arguments: str, **extra: object) -> subprocess.CompletedProcess[str]:
    start = {"power_drill_start_tasks": str(PROJECT / "molecule/shared/tasks/start.yml")}
    return play(PROJECT / "playbooks/power_drill.yml", *arguments, **{**start, **extra})


def changed(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """changed= of each host in the recap."""
    found = {m[1]: int(m[2]) for m in re.finditer(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", run.stdout, re.MULTILINE)}
    assert found, run.stdout + run.stderr
    return found


def plain(text: str) -> str:
    """Output without line breaks that only fold it."""
    return " ".join(text.split())


@pytest.fixture
def hosts() -> dict[str, testinfra.host.Host]:
    """The machines over ssh, one connection a command: they go off and come back in here."""
    pins = f"-o UserKnownHostsFile={LAB_FOLDER}/known_hosts -o GlobalKnownHostsFile=/dev/null -o ControlMaster=no"
    return {
        name: testinfra.get_host(
            f"ssh://root@{address}",
            ssh_identity_file=str(LAB_FOLDER / "ssh_key"),
            ssh_extra_args=pins,
            controlpersist=0,
        )
        for name, address in ADDRESSES.items()
    }


def events(name: str) -> list[dict]:
    lines = (LAB_FOLDER / "machines" / name / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def last_stop(name: str) -> float:
    return next(event["at"] for event in reversed(events(name)) if event["event"] == "stopped")


def wait_until(what: str, true: Callable[[], bool], seconds: float) -> float:
    """Wait for something, and say how long that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + seconds, f"{what}: not within {seconds} seconds"
        time.sleep(0.1)
    return time.monotonic() - began


def is_off(name: str) -> bool:
    return events(name)[-1]["event"] == "stopped"


def switch_on(*names: str) -> None:
    """Switch on what is off, and wait for those named."""
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", "-e", f"lab_name={LAB}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment["ANSIBLE_INVENTORY_ENABLED"] = "host_list"
    run = subprocess.run(
        [*command, PROJECT / "molecule/shared/create.yml"],
        cwd=PROJECT, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    for name in names:
        wait_until(f"{name} answers", lambda name=name: answers_ssh(name), 60)


def answers_ssh(name: str) -> bool:
    try:
        with socket.create_connection((ADDRESSES[name], 22), timeout=1) as wire:
            return wire.recv(4) == b"SSH-"
    except OSError:
        return False


def stops(host: testinfra.host.Host) -> list[dict]:
    return json.loads(host.check_output("cat /var/lib/holdfast-power/stops.json"))


def boot_id(host: testinfra.host.Host) -> str:
    return host.check_output("cat /proc/sys/kernel/random/boot_id")


LOGGER = """\
#!/bin/sh
# the test's: writes down when the late hook calls, and does all else
[ "$1" = shutdown ] || exec /usr/sbin/upsdrvctl.real "$@"
echo "$* mounted=$(grep -c ' /srv/late ' /proc/self/mountinfo) drivers=$(pgrep -c dummy-ups) postgres=$(pgrep -c postgres)" \\
  >>/root/late.log
"""
MOUNT = "[Mount]\nWhat=tmpfs\nWhere=/srv/late\nType=tmpfs\n[Install]\nWantedBy=local-fs.target\n"
CALLED = "shutdown mounted=0 drivers=0 postgres=0"


def put(host: testinfra.host.Host, path: str, text: str, mode: str = "0644") -> None:
    """Lay a file of the test's into a machine."""
    host.check_output("mkdir -p %s && printf %%s %s >%s && chmod %s %s", str(Path(path).parent), text, path, mode, path)


def late_calls(host: testinfra.host.Host) -> list[str]:
    """Take what the late hook called since the last look."""
    said = host.run("cat /root/late.log && rm /root/late.log")
    return said.stdout.splitlines()


@pytest.fixture
def logger(hosts: dict[str, testinfra.host.Host]) -> Iterator[None]:
    """Put a logger in the place of the program that tells the UPS to cut the power, also where it does not belong."""
    for name in ("nas1", "server1"):
        hosts[name].check_output("test ! -e /usr/sbin/upsdrvctl || mv /usr/sbin/upsdrvctl /usr/sbin/upsdrvctl.real")
        put(hosts[name], "/usr/sbin/upsdrvctl", LOGGER, "0755")
    put(hosts["nas1"], "/etc/systemd/system/srv-late.mount", MOUNT)
    hosts["nas1"].check_output("systemctl daemon-reload && systemctl enable --now srv-late.mount")
    assert hosts["nas1"].mount_point("/srv/late").exists
    yield
    hosts["nas1"].check_output(
        "mv /usr/sbin/upsdrvctl.real /usr/sbin/upsdrvctl && systemctl disable --now srv-late.mount"
    )
    hosts["server1"].check_output("rm /usr/sbin/upsdrvctl")


def ask_upsd(*lines: str, primary: str = "nas1") -> list[str]:
    """Speak with the primary's server from another machine: the answers, line by line."""
    answers = []
    with socket.create_connection((ADDRESSES[primary], 3493), timeout=5) as wire:
        stream = wire.makefile("rw", newline="\n")
        for line in lines:
            stream.write(line + "\n")
            stream.flush()
            answers.append(stream.readline().strip())
    return answers


def status(primary: str = "nas1") -> str:
    """What the UPS says, or what the server says of a UPS that it does not hear yet."""
    answer = ask_upsd("GET VAR ups1 ups.status", primary=primary)[0]
    return answer.split('"')[1] if '"' in answer else answer


def wait_for_status(value: str, primary: str = "nas1") -> None:
    """A driver polls, and one that has just started says WAIT."""
    deadline = time.monotonic() + 10
    while (said := status(primary)) != value:
        assert time.monotonic() < deadline, f"the UPS still says {said}, not {value}"
        time.sleep(0.2)


def set_mains(value: str, primary: str = "nas1") -> None:
    words = ("USERNAME drill", f"PASSWORD {PASSWORDS['drill']}", f'SET VAR ups1 ups.status "{value}"')
    assert ask_upsd(*words, primary=primary) == ["OK", "OK", "OK"]
    wait_for_status(value, primary)


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_host_sees_the_ups(hosts, name):
    assert hosts[name].check_output("upsc ups1@198.18.0.11 ups.status 2>/dev/null") == "OL"
    assert hosts[name].service("nut-monitor").is_running
    assert hosts[name].service("nut-monitor").is_enabled


def test_both_secondaries_are_attached():
    clients = set()
    with socket.create_connection((ADDRESSES["nas1"], 3493), timeout=5) as wire:
        stream = wire.makefile("rw", newline="\n")
        stream.write("LIST CLIENT ups1\n")
        stream.flush()
        while not (line := stream.readline()).startswith("END"):
            if line.startswith("CLIENT"):
                clients.add(line.split()[2])
    assert {ADDRESSES[name] for name in SECONDARIES} <= clients


def test_only_the_primary_has_a_server(hosts):
    assert hosts["nas1"].service("nut-server").is_running
    assert hosts["nas1"].service("nut-driver@ups1").is_running
    for name in SECONDARIES:
        assert not hosts[name].package("nut-server").is_installed
        assert not hosts[name].file("/etc/nut/upsd.users").exists


@pytest.mark.parametrize("name", ADDRESSES)
def test_nobody_else_can_read_a_password(hosts, name):
    host = hosts[name]
    holding = host.check_output(f"grep -rlF -- '{PASSWORDS[name]}' /etc").split()
    assert holding, "the injection: the password has to be on the host at all"
    for path in holding:
        assert host.file(path).mode == 0o640
        assert (host.file(path).user, host.file(path).group) == ("root", "nut")
        assert host.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups cat {path}").rc != 0


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("server1", "not-the-password"),
        ("server1", PASSWORDS["desk1"]),
        ("nobody", PASSWORDS["server1"]),
        ("drill", PASSWORDS["drill"]),  # may set a dummy's status, and is no machine on the UPS
    ],
)
def test_a_wrong_login_is_refused(hosts, user, password):
    answers = ask_upsd(f"USERNAME {user}", f"PASSWORD {password}", "LOGIN ups1")
    assert answers[-1] == "ERR ACCESS-DENIED"


def test_the_right_login_is_not_refused():
    assert ask_upsd("USERNAME server1", f"PASSWORD {PASSWORDS['server1']}", "LOGIN ups1")[-1] == "OK"


@pytest.mark.parametrize("user", SECONDARIES)
@pytest.mark.parametrize(
    "command", ["FSD ups1", "PRIMARY ups1", "INSTCMD ups1 load.off", 'SET VAR ups1 ups.status "OB LB"']
)
def test_a_secondary_can_only_listen(user, command):
    answers = ask_upsd(f"USERNAME {user}", f"PASSWORD {PASSWORDS[user]}", command)
    assert answers[-1] in ("ERR ACCESS-DENIED", "ERR CMD-NOT-SUPPORTED")
    assert not (answers[-1] == "ERR CMD-NOT-SUPPORTED" and "INSTCMD" not in command)
    assert status() == "OL"


def test_check_mode_tells_of_drift_and_leaves_it(hosts):
    hosts["desk1"].check_output("chmod 0666 /etc/nut/upsmon.conf && echo '# drift' >>/etc/nut/upsmon.conf")
    run = converge("--check", "--diff")
    assert run.returncode == 0, run.stdout
    assert changed(run) == {"nas1": 0, "server1": 0, "desk1": 1}
    assert not [word for word in PASSWORDS.values() if word in run.stdout + run.stderr]
    assert hosts["desk1"].file("/etc/nut/upsmon.conf").mode == 0o666
    assert changed(converge())["desk1"] == 1
    assert hosts["desk1"].file("/etc/nut/upsmon.conf").mode == 0o640
    assert changed(converge()) == {"nas1": 0, "server1": 0, "desk1": 0}


def test_a_lost_restart_is_made_by_the_next_run(hosts):
    before = hosts["nas1"].check_output("systemctl show -P MainPID nut-server")
    hosts["nas1"].check_output("cp -p /etc/nut/upsd.users /root/u && cat /root/u >/etc/nut/upsd.users && rm /root/u")
    assert changed(converge()) == {"nas1": 1, "server1": 0, "desk1": 0}
    assert hosts["nas1"].check_output("systemctl show -P MainPID nut-server") != before
    assert changed(converge())["nas1"] == 0


def test_a_wrong_password_fails_the_play_and_is_not_shown():
    wrong = "Wrong-password-canary-1"
    monitors = [{"ups": "ups1", "address": ADDRESSES["nas1"], "user": "desk1", "password": wrong}]
    run = converge("-vvv", "--limit", "desk1", power_monitors=monitors)
    assert run.returncode != 0
    assert "ACCESS-DENIED" in run.stdout + run.stderr
    # the variable itself was given on the command line of this test; the module must not repeat it
    said = [line for line in (run.stdout + run.stderr).splitlines() if wrong in line]
    assert not said, said
    assert changed(converge())["desk1"] == 1


@pytest.mark.parametrize("password", ["grün-und-lang", "with a blank", 'quote"quote'])
def test_a_password_that_nut_would_change_is_refused(password):
    monitors = [{"ups": "ups1", "address": ADDRESSES["nas1"], "user": "desk1", "password": password}]
    run = converge("--limit", "desk1", power_monitors=monitors)
    assert run.returncode != 0
    assert "choose another one" in plain(run.stdout + run.stderr)
    assert changed(converge()) == {"nas1": 0, "server1": 0, "desk1": 0}


def test_another_practice_is_refused():
    run = converge(power_practice="some-other-practice")
    assert run.returncode != 0
    assert 'of practice "molecule-power"' in plain(run.stdout + run.stderr)
    assert sum(changed(run).values()) == 0


def test_a_blip_stops_nobody(hosts):
    before = {name: len(events(name)) for name in ADDRESSES}
    since = hosts["nas1"].check_output("date +%s")
    set_mains("OB DISCHRG")
    gone = time.monotonic()
    assert converge().returncode == 0  # nothing to change, so nothing is refused either
    time.sleep(max(0.0, gone + 20 - time.monotonic()))
    set_mains("OL")
    time.sleep(12)
    for name in ADDRESSES:
        log = hosts[name].check_output(f"journalctl -q -o cat -u nut-monitor --since @{since}")
        assert "on battery" in log, f"the injection: {name} must have noticed"
        assert "on line power" in log
        assert "shutdown" not in log.lower()
    assert {name: len(events(name)) for name in ADDRESSES} == before


def test_nothing_is_restarted_on_battery(hosts):
    set_mains("OB DISCHRG")
    try:
        run = converge("--limit", "nas1", power_hostsync_s=16)
        assert run.returncode != 0
        assert "is on battery" in plain(run.stdout + run.stderr)
        assert "HOSTSYNC 15" in hosts["nas1"].file("/etc/nut/upsmon.conf").content_string
    finally:
        set_mains("OL")


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({}, "add -e confirm=molecule-power"),
        ({"confirm": "other"}, "add -e confirm=molecule-power"),
        ({"level": "rael"}, "expected paper, signal or real"),
        ({"confirm": "molecule-power", "power_drill_start_tasks": "/nowhere/start.yml"}, "which is not a file"),
    ],
)
def test_a_drill_that_was_not_meant_is_explained_and_not_begun(extra, says):
    before = {name: len(events(name)) for name in ADDRESSES}
    run = drill(**extra)
    assert run.returncode != 0
    assert says in plain(run.stdout + run.stderr)
    assert {name: len(events(name)) for name in ADDRESSES} == before


def test_a_drill_on_paper(tmp_path):
    before = {name: len(events(name)) for name in ADDRESSES}
    run = drill(level="paper", practice_results_dir=str(tmp_path))
    assert run.returncode == 0, run.stdout
    result = json.loads((tmp_path / "power_drill.json").read_text())
    assert (result["verdict"], result["level"], result["order_ok"]) == ("PASS", "paper", None)
    assert {name: len(events(name)) for name in ADDRESSES} == before


def test_a_drill_on_paper_notices_a_host_that_nobody_would_stop(hosts, tmp_path):
    hosts["desk1"].check_output("systemctl stop nut-monitor")
    run = drill(level="paper", practice_results_dir=str(tmp_path))
    assert run.returncode != 0
    result = json.loads((tmp_path / "power_drill.json").read_text())
    assert result["verdict"] == "FAIL"
    assert {"monitor_not_running", "not_attached"} <= {reason["code"] for reason in result["reasons"]}
    assert changed(converge())["desk1"] == 1


def test_an_outage_stops_the_secondaries_first_and_everything_comes_back(hosts, tmp_path):
    before = {name: len(events(name)) for name in ADDRESSES}
    run = drill("-vvv", confirm="molecule-power", practice_results_dir=str(tmp_path), power_drill_start_timeout_s=120)
    assert run.returncode == 0, run.stdout[-4000:]
    result = json.loads((tmp_path / "power_drill.json").read_text())
    assert (result["verdict"], result["reasons"], result["order_ok"]) == ("PASS", [], True)
    assert result["databases"] == [{"host": "server1", "clean": True}]
    # what the machines' carrier saw has to agree with what the control node saw from outside
    assert all(len(events(name)) > before[name] for name in ADDRESSES), "the injection: everybody was off"
    for name in SECONDARIES:
        assert last_stop(name) < last_stop("nas1")
    gone = [event["host"] for event in result["timeline"] if event["event"] == "gone"]
    assert gone[-1] == "nas1"
    assert {"on_battery", "low_battery", "fsd", "gone", "back"} <= {event["event"] for event in result["timeline"]}
    seen = {event["host"]: event["t_s"] for event in result["timeline"] if event["event"] == "gone"}
    between = seen["nas1"] - max(seen[name] for name in SECONDARIES)
    truly = last_stop("nas1") - max(last_stop(name) for name in SECONDARIES)
    assert between == pytest.approx(truly, abs=1.5)
    assert result["figures"]["battery_runtime_s"] == 600
    assert 5 < result["figures"]["shutdown_s"] < 120
    assert not [word for word in PASSWORDS.values() if word in run.stdout + run.stderr]
    for host in hosts.values():
        assert not host.file("/run/killpower").exists
    assert changed(converge()) == {"nas1": 0, "server1": 0, "desk1": 0}


@pytest.mark.long
def test_a_drill_finds_a_host_that_stays_on_and_a_database_that_is_cut(hosts, tmp_path):
    hosts["desk1"].check_output("sed -i 's|^SHUTDOWNCMD.*|SHUTDOWNCMD /bin/true|' /etc/nut/upsmon.conf")
    hosts["desk1"].check_output("systemctl restart nut-monitor")
    folder = "/etc/systemd/system/postgresql@.service.d"
    hosts["server1"].check_output(
        f"mkdir -p {folder} && printf '[Service]\\nExecStop=\\nKillSignal=SIGKILL\\n' >{folder}/cut.conf"
        " && systemctl daemon-reload"
    )
    desk1_events = len(events("desk1"))
    times = {"power_drill_start_timeout_s": 120, "power_drill_timeout_s": 60, "power_drill_settle_s": 20}
    run = drill(confirm="molecule-power", practice_results_dir=str(tmp_path), **times)
    assert run.returncode != 0
    result = json.loads((tmp_path / "power_drill.json").read_text())
    codes = {reason["code"] for reason in result["reasons"]}
    assert result["verdict"] == "FAIL"
    assert {"host_not_gone", "host_not_restarted", "database_unclean"} <= codes
    assert (result["order_ok"], result["figures"]["shutdown_s"]) == (False, None)
    assert result["databases"] == [{"host": "server1", "clean": False}]
    assert len(events("desk1")) == desk1_events, "the injection: desk1 stayed on"
    hosts["server1"].check_output(f"rm -r {folder} && systemctl daemon-reload")
    assert converge().returncode == 0


def test_a_network_driver_brings_its_package_and_its_secret_is_shown_nowhere():
    secret = "Canary-7391-community"
    ups = {"name": "ups1", "driver": "dummy-ups", "port": "ups1.dev", "secrets": {"community": secret}}
    run = converge("--limit", "nas1", "--check", "--diff", "-vvv", power_ups=[ups])
    assert run.returncode == 0, run.stdout
    assert "write /etc/nut/ups.conf (content)" in run.stdout, "the injection: the secret would be written"
    assert secret not in run.stdout + run.stderr
    # the lab's packages do not include it, so that asking for it shows
    run = converge(
        "--limit", "nas1", "--check", power_ups=[{**ups, "driver": "netxml-ups", "port": "http://198.18.0.40"}]
    )
    assert run.returncode != 0
    assert "nut-xml" in run.stdout
    open_secret = {"name": "ups1", "driver": "usbhid-ups", "settings": {"password": "x"}}
    run = converge("--limit", "nas1", "--check", power_ups=[open_secret])
    assert "move it from settings to secrets" in plain(run.stdout)


def knock(source: str, port: int) -> bool:
    """Connect to the primary from an address of ours."""
    try:
        socket.create_connection((ADDRESSES["nas1"], port), timeout=5, source_address=(source, 0)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_u13_a_stranger_is_refused_and_no_other_table_is_touched(hosts):
    stranger, nas1 = "198.18.0.99", hosts["nas1"]
    subprocess.run(["ip", "address", "replace", f"{stranger}/24", "dev", "br0"], check=True)
    try:
        nas1.check_output("nft add table inet somebody_elses")
        assert knock(stranger, 22), "the injection: the stranger is in the network"
        assert not knock(stranger, 3493)
        assert knock("198.18.0.1", 3493)
        assert stranger in nas1.check_output("nft list set inet holdfast_power refused")
        # somebody empties everything: the next run sees it
        nas1.check_output("nft flush ruleset && nft add table inet somebody_elses")
        assert knock(stranger, 3493), "the injection: the firewall is gone"
        assert changed(converge()) == {"nas1": 1, "server1": 0, "desk1": 0}
        assert not knock(stranger, 3493)
        # so does a restart of nftables' own service, which empties everything too
        nas1.check_output("systemctl restart nftables")
        wait_until("the table is back", lambda: not knock(stranger, 3493), 5)
        nas1.check_output("nft add table inet somebody_elses")
        tables = set(nas1.check_output("nft list tables").splitlines())
        assert changed(converge(power_peers=[]))["nas1"] == 1
        assert set(nas1.check_output("nft list tables").splitlines()) == tables - {"table inet holdfast_power"}
        assert changed(converge())["nas1"] == 1
        assert not knock(stranger, 3493)
    finally:
        subprocess.run(["ip", "address", "delete", f"{stranger}/24", "dev", "br0"], check=True)


def test_u13_a_wrong_password_is_kept_in_mind(hosts):
    denied = "nft list set inet holdfast_power denied"
    hosts["nas1"].check_output("nft flush set inet holdfast_power denied")
    assert ask_upsd("USERNAME server1", f"PASSWORD {PASSWORDS['server1']}", "LOGIN ups1")[-1] == "OK"
    assert "198.18.0.1" not in hosts["nas1"].check_output(denied)
    assert ask_upsd("USERNAME server1", "PASSWORD not-the-password", "LOGIN ups1")[-1] == "ERR ACCESS-DENIED"
    assert "198.18.0.1 " in hosts["nas1"].check_output(denied)


FLAG = "printf upsmon-shutdown-file >/run/killpower && upsmon -K >/dev/null 2>&1"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "stale", "mode", "verb", "calls"),
    [
        ("nas1", False, "netserver", "poweroff", [CALLED]),  # the logger is called at all
        ("nas1", False, "netserver", "reboot", []),
        ("nas1", True, "netserver", "poweroff", []),  # left by a shutdown that was called off
        ("nas1", False, "none", "poweroff", []),
        ("server1", False, "netclient", "poweroff", []),
    ],
)
def test_u09_the_ups_cuts_the_power_only_when_it_has_ordered_the_stop(logger, hosts, name, stale, mode, verb, calls):
    host = hosts[name]
    assert late_calls(host) == []
    own = host.check_output("sed -n s/^MODE=//p /etc/nut/nut.conf")
    host.check_output("sed -i s/^MODE=.*/MODE=%s/ /etc/nut/nut.conf", mode)
    before, boot = len(events(name)), boot_id(host)
    aged = " && touch -d '-1 hour' /run/killpower" if stale else ""
    # a moment later, so that the connection is not cut under the command
    host.check_output(f"{FLAG}{aged} && touch /root/landed && systemd-run -q --on-active=1 systemctl {verb}")
    wait_until(f"{name} stops", lambda: len(events(name)) > before, 60)
    if verb == "poweroff":
        wait_until(f"{name} is off", lambda: is_off(name), 20)
    switch_on(name)
    assert boot_id(host) != boot
    assert host.run("rm /root/landed").rc == 0, "the injection: upsmon found its flag"
    assert late_calls(host) == calls
    assert not host.file("/run/killpower").exists
    assert not host.file("/run/holdfast-power/ordered").exists
    record = stops(host)[-1]
    assert (record["boot_id"], record["on_battery"]) == (boot, verb == "poweroff" and not stale)
    host.check_output("sed -i s/^MODE=.*/MODE=%s/ /etc/nut/nut.conf", own)
    host.check_output("systemctl restart nut.target nut-monitor")
    wait_for_status("OL")


HANGS = (
    "[Service]\nExecStart=/bin/sh -c 'trap : TERM; while :; do sleep 1; done'\n[Install]\nWantedBy=multi-user.target\n"
)


def magic_packets(found: list[bytes], end: threading.Event) -> None:
    """Collect what wakes machines."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wire.bind(("", 9))
        wire.settimeout(0.5)
        while not end.is_set():
            try:
                found.append(wire.recv(2048))
            except TimeoutError:
                continue


@pytest.mark.long
def test_u07_the_mains_return_in_the_middle_and_everybody_comes_back(logger, hosts):
    """Also here: applications before databases before the primary, a unit that hangs, and the late hook of a real stop."""
    put(hosts["server1"], "/etc/systemd/system/practice-app.service", HANGS)
    hosts["server1"].check_output("systemctl daemon-reload && systemctl enable --now practice-app")
    assert converge(power_return_wait_s=4).returncode == 0
    for host in hosts.values():
        late_calls(host)
    before, boots = {name: len(events(name)) for name in ADDRESSES}, {n: boot_id(h) for n, h in hosts.items()}
    since, packets, heard = time.time(), [], threading.Event()
    ear = threading.Thread(target=magic_packets, args=(packets, heard))
    ear.start()
    try:
        set_mains("OB DISCHRG")
        time.sleep(3)  # the secondaries' hold looks every second
        set_mains("OB DISCHRG LB")
        time.sleep(5)
        words = ("USERNAME drill", f"PASSWORD {PASSWORDS['drill']}", 'SET VAR ups1 ups.status "OL"')
        assert ask_upsd(*words) == ["OK", "OK", "OK"]
        wait_for_status("FSD OL")  # the injection: the mains are back, and the order stands
        for name in SECONDARIES:
            wait_until(f"{name} is off", lambda name=name: is_off(name), 60)
        wait_until(
            "nas1 starts again", lambda: [e["event"] for e in events("nas1")[before["nas1"] :]][-1:] == ["started"], 60
        )
        exited = next(e for e in events("nas1")[before["nas1"] :] if e["event"] == "exited")
        assert exited["rc"] == 133, "the power did not go, so the primary started again by itself"
        assert all(last_stop(name) < exited["at"] for name in SECONDARIES)
        wait_until("the primary wakes the others", lambda: len(packets) > 0, 60)
    finally:
        heard.set()
        ear.join()
    assert set(packets) == {b"\xff" * 6 + bytes.fromhex("525400123456") * 16}
    switch_on(*ADDRESSES)
    nas1 = hosts["nas1"]
    assert late_calls(nas1) == [CALLED]
    assert late_calls(hosts["server1"]) == []
    for name, host in hosts.items():
        record = stops(host)[-1]
        assert (record["boot_id"], record["on_battery"]) == (boots[name], True)
        assert abs(record["began"] - since) < 60
        assert 0 < record["seconds"] < 30
        assert not host.file("/run/killpower").exists
    # the application was given its 4 seconds, the database stopped after it, and the primary waited for both
    assert 3.9 <= stops(hosts["server1"])[-1]["units"]["practice-app.service"] < 8
    log = hosts["server1"].check_output("journalctl -q -b -1 -o short-monotonic _PID=1")
    steps = (
        "practice-app.service: State 'stop-sigterm' timed out",
        "Stopped practice-app.service",
        "Stopping postgresql@17-main.service",
        "Stopped postgresql@17-main.service",
        "Stopped holdfast-power-hold.service",
    )
    at = [log.index(words) for words in steps]
    assert at == sorted(at)
    proceeds = "journalctl -q -b -1 -o short-unix -u nut-monitor --grep 'Executing automatic power-fail shutdown'"
    left = "journalctl -q -b -1 -o short-unix --grep 'Stopped holdfast-power-hold.service'"
    assert float(nas1.check_output(proceeds).split()[0]) > float(hosts["server1"].check_output(left).split()[0]) - 0.3
    back = json.loads(nas1.check_output("cat /var/lib/holdfast-power/back.json")) if wait_until(
        "all are back", lambda: nas1.file("/var/lib/holdfast-power/back.json").exists, 90) >= 0 else {}  # fmt: skip
    assert (back["boot_id"], back["missing"]) == (boot_id(nas1), [])
    assert {name: boot_id(host) for name, host in hosts.items()}.keys() == boots.keys()
    counts = {name: len(events(name)) for name in ADDRESSES}
    assert "inet holdfast_power" in nas1.check_output("nft list tables"), "the firewall came back with the boot"
    assert converge().returncode == 0
    assert {name: len(events(name)) for name in ADDRESSES} == counts, "no loop"


@pytest.mark.long
def test_u05_upsd_dies_on_battery_and_nobody_waits_for_ever(logger, hosts):
    """Also here: a unit that nobody bounded, which would hang for an hour."""
    put(
        hosts["server1"],
        "/etc/systemd/system/nobody-knows.service",
        HANGS.replace("[Install]", "TimeoutStopSec=1h\n[Install]"),
    )
    hosts["server1"].check_output("systemctl daemon-reload && systemctl start nobody-knows")
    boot = boot_id(hosts["server1"])
    set_mains("OB DISCHRG")
    time.sleep(6)  # a poll of everybody's upsmon
    hosts["nas1"].check_output("chmod a-x /usr/sbin/upsd && pkill -9 -x upsd")
    killed = time.time()
    assert hosts["nas1"].run("pgrep -x upsd").rc == 1, "the injection: no server"
    for name in ADDRESSES:
        wait_until(f"{name} is off", lambda name=name: is_off(name), 90)
    # DEADTIME 15, a poll of 5, FINALDELAY 5, and each one's own stop: of server1 as long as it may at most
    # upsmon 2.8.0 of Debian 12 waits in a connection to the primary, which is off by then, as long as TCP does
    assert last_stop("desk1") - killed < 15 + 5 + 5 + 5 + 45
    assert last_stop("nas1") - killed < 15 + 5 + 5 + 15 + 5
    assert last_stop("server1") - killed < 15 + 5 + 5 + 20 + 2
    switch_on(*ADDRESSES)
    assert late_calls(hosts["nas1"]) == [CALLED]
    hosts["nas1"].check_output("chmod a+x /usr/sbin/upsd && systemctl restart nut-server")
    wait_until("nas1 serves", lambda: serving("nas1"), 30)
    wait_for_status("OL")
    record = stops(hosts["server1"])[-1]
    # broken off, and marked so
    assert (record["boot_id"], record["on_battery"], record["seconds"]) == (boot, True, None)
    hosts["server1"].check_output("systemctl disable --now practice-app")
    assert converge().returncode == 0


@pytest.mark.long
def test_a_hard_power_cut_and_a_full_disk_leave_no_false_record(hosts):
    desk1, boot = hosts["desk1"], boot_id(hosts["desk1"])
    before = stops(desk1)
    pids = [int(p.name) for p in Path("/proc").glob("[0-9]*") if f"/{LAB}/machines/desk1/root" in cmdline(p)]
    assert len(pids) == 1
    kill_with_children(pids[0])
    wait_until("desk1 is off", lambda: is_off("desk1"), 20)
    switch_on("desk1")
    assert boot_id(desk1) != boot
    assert stops(desk1) == before
    assert json.loads(desk1.check_output("cat /run/holdfast-power/came-back.json"))["outage"] is True
    # the program itself on a file system without any room
    full = (
        "import sys, os; sys.path.insert(0, '/usr/lib/holdfast-power'); from holdfast_power import power_stop as p; "
        "from pathlib import Path; places = p.Places(Path('/mnt/full'), Path('/mnt/full')); p.keep_room(places); "
        "p.put(places, places.stops, '[1]'); os.system('dd if=/dev/zero of=/mnt/full/fill bs=1k 2>/dev/null'); "
        "print(os.statvfs('/mnt/full').f_bavail); p.put(places, places.stops, '[' + '2' * 9999 + ']'); "
        "print(places.stops.stat().st_size)"
    )
    desk1.check_output("mkdir -p /mnt/full && mount -t tmpfs -o size=256k tmpfs /mnt/full")
    try:
        assert desk1.check_output("python3 -IBc %s", full).splitlines() == ["0", "10001"]
    finally:
        desk1.check_output("umount /mnt/full")


def cmdline(process: Path) -> str:
    try:
        words = (process / "cmdline").read_text()
    except OSError:
        return ""
    return words if words.startswith("systemd-nspawn") else ""


def kill_with_children(pid: int) -> None:
    """Take the power from a machine: its first process, then what runs it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in [*children, pid]:
        os.kill(int(each), 9)


def serving(name: str) -> bool:
    try:
        with socket.create_connection((ADDRESSES[name], 3493), timeout=0.5) as wire:
            wire.settimeout(0.5)
            wire.sendall(b"GET VAR ups1 ups.status\n")
            return wire.recv(200).startswith(b"VAR ups1")
    except OSError:
        return False


@pytest.fixture
def site(tmp_path) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    """Run the power part of site.yml on a practice. The lab's own groups say who is primary; here the practice does."""
    machines = yaml.safe_load(MACHINES.read_text())
    del machines["all"]["children"]
    (tmp_path / "machines.yml").write_text(yaml.safe_dump(machines))

    def run(own: Path) -> subprocess.CompletedProcess[str]:
        same = {"practice_id": "molecule-power", "vault_practice_id": "molecule-power"}
        place = {"machines": tmp_path / "machines.yml", "own": own}
        return play(PROJECT / "playbooks/site.yml", "--tags", "power", **place, **same)

    return run


def move(site: Callable[[Path], subprocess.CompletedProcess[str]], own: Path, old: str, new: str) -> None:
    """Let ups1's cable be moved, and look all the while who serves it."""
    assert [serving(old), serving(new)] == [True, False]
    seen, end = set(), threading.Event()

    def look() -> None:
        while not end.is_set():
            seen.add((serving(old), serving(new)))
            time.sleep(0.05)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        run = site(own)
    finally:
        end.set()
        looking.join()
    assert run.returncode == 0, run.stdout
    assert {(True, False), (False, True)} <= seen, "the injection: it served there, then here"
    assert (True, True) not in seen
    again = site(own)
    assert set(changed(again).values()) == {0}, again.stdout


@pytest.mark.long
def test_a_primary_moves_in_one_run_and_there_are_never_two(hosts, site):
    move(site, MOVED, "nas1", "server1")
    nas1 = hosts["nas1"]
    assert nas1.run("grep -rq ups1 /etc/nut").rc == 1
    assert not nas1.file("/etc/nut/ups1.dev").exists
    assert nas1.run("systemctl is-active nut-driver@ups1").stdout.strip() == "inactive"
    assert nas1.run(f"grep -rqF -- '{PASSWORDS['drill']}' /etc").rc == 1
    assert hosts["desk1"].check_output("upsc ups1@198.18.0.12 ups.status 2>/dev/null") == "OL"
    assert hosts["desk1"].check_output("upsc ups2@198.18.0.11 ups.status 2>/dev/null") == "OL"


@pytest.mark.long
def test_a_host_with_two_feeds_outlives_one_of_them(hosts):
    """The practice is still the moved one: ups1 feeds server1 and desk1, ups2 feeds nas1 and desk1."""
    before = {name: len(events(name)) for name in ADDRESSES}
    set_mains("OB DISCHRG LB", primary="server1")
    wait_until("server1 is off", lambda: is_off("server1"), 60)
    # the time in which it would have gone as well: a poll, FINALDELAY, and one DEADTIME for the server that is gone
    time.sleep(15 + 5 + 5)
    assert {name: len(events(name)) - before[name] for name in SECONDARIES} == {"server1": 2, "desk1": 0}
    assert len(events("nas1")) == before["nas1"]
    switch_on("server1")
    wait_until("server1 serves", lambda: serving("server1"), 30)


@pytest.mark.long
def test_and_back_again(hosts, site):
    move(site, OWN, "server1", "nas1")
    former = hosts["server1"]
    for path in ("ups.conf", "upsd.conf", "upsd.users", "ups1.dev"):
        assert not former.file(f"/etc/nut/{path}").exists
    for path in (
        "/usr/lib/systemd/system-shutdown/holdfast-power",
        "/etc/holdfast/power.nft",
        "/etc/holdfast/power-wake.json",
    ):
        assert not former.file(path).exists
        assert hosts["nas1"].file(path).exists
    assert former.run("nft list table inet holdfast_power").rc == 1
    assert former.run(f"grep -rqF -- '{PASSWORDS['drill']}' /etc").rc == 1
    assert former.run("ss -Hltn sport = :3493").stdout.strip() == ""
    assert former.run("systemctl is-active nut-server nut-driver@ups1").stdout.split() == ["inactive", "inactive"]
    for host in hosts.values():
        assert host.check_output("upsc ups1@198.18.0.11 ups.status 2>/dev/null") == "OL"


@pytest.mark.long
def test_a_former_primary_keeps_nothing_of_it(hosts):
    monitors = [{"ups": "ups1", "address": ADDRESSES["server1"], "user": "nas1", "password": PASSWORDS["nas1"]}]
    other = {"power_role": "secondary", "power_ups": [], "power_users": [], "power_listen": []}
    run = converge("--limit", "nas1", power_monitors=monitors, **other)
    assert run.returncode == 0, run.stdout
    assert "nobody tells this host to stop" in plain(run.stdout + run.stderr)
    nas1 = hosts["nas1"]
    for name in ("ups.conf", "upsd.conf", "upsd.users", "ups1.dev"):
        assert not nas1.file(f"/etc/nut/{name}").exists
    assert nas1.run(f"grep -rqF -- '{PASSWORDS['drill']}' /etc").rc == 1
    nas1.check_output("systemctl restart nut.target nut-monitor")
    time.sleep(3)
    for unit in ("nut-server", "nut-driver@ups1", "nut-driver.target"):
        assert not nas1.service(unit).is_running or unit == "nut-driver.target"
    assert nas1.check_output("systemctl --failed --plain --no-legend") == ""
    assert nas1.run("ss -Hltn sport = :3493").stdout.strip() == ""
    assert converge().returncode == 0
    wait_for_status("OL")
    assert changed(converge()) == {"nas1": 0, "server1": 0, "desk1": 0}


def test_removal_leaves_no_unit_and_no_credential(hosts):
    assert min(changed(converge(power_state="absent")).values()) == 1
    assert set(changed(converge(power_state="absent")).values()) == {0}
    for name, host in hosts.items():
        for password in PASSWORDS.values():
            assert host.run(f"grep -rqF -- '{password}' /etc").rc == 1, name
        units = host.check_output("systemctl list-units --plain --no-legend --state=active,activating,failed 'nut*'")
        assert units == "", name
        # ends with 1 when it lists nothing
        enabled = host.run("systemctl list-unit-files --plain --no-legend --state=enabled 'nut*' 'ups*'")
        assert (enabled.stdout, enabled.stderr) == ("", ""), name
        assert not host.file("/etc/systemd/system/nut-server.service.d").exists
        assert "nut" not in host.run("dpkg-statoverride --list").stdout, "other packages have some of their own"
        if name == "nas1":
            assert host.file("/usr/lib/systemd/system-shutdown/nutshutdown").mode == 0o755, "as its package has it"
        ours = host.check_output(
            "find /etc/systemd /usr/lib/systemd /usr/lib /var/lib /etc/holdfast -name 'holdfast*power*' -o -name 'power*nft'"
        )
        assert ours == "", name
    assert converge().returncode == 0
    wait_for_status("OL")
