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
import time
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
PASSWORDS = yaml.safe_load(OWN.read_text())["power"]["vars"]["power_test_passwords"]
ADDRESSES = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
SECONDARIES = ("server1", "desk1")


def play(playbook: Path, *arguments: str, **extra: object) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the lab with further variables. Molecule's own settings are for its own runs only."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment["ANSIBLE_INVENTORY_ENABLED"] = "yaml"
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", MACHINES, "-i", OWN, *arguments]
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


def ask_upsd(*lines: str) -> list[str]:
    """Speak with the primary's server from another machine: the answers, line by line."""
    answers = []
    with socket.create_connection((ADDRESSES["nas1"], 3493), timeout=5) as wire:
        stream = wire.makefile("rw", newline="\n")
        for line in lines:
            stream.write(line + "\n")
            stream.flush()
            answers.append(stream.readline().strip())
    return answers


def status() -> str:
    """What the UPS says, or what the server says of a UPS that it does not hear yet."""
    answer = ask_upsd("GET VAR ups1 ups.status")[0]
    return answer.split('"')[1] if '"' in answer else answer


def wait_for_status(value: str) -> None:
    """A driver polls, and one that has just started says WAIT."""
    deadline = time.monotonic() + 10
    while (said := status()) != value:
        assert time.monotonic() < deadline, f"the UPS still says {said}, not {value}"
        time.sleep(0.2)


def set_mains(value: str) -> None:
    answers = ask_upsd("USERNAME drill", f"PASSWORD {PASSWORDS['drill']}", f'SET VAR ups1 ups.status "{value}"')
    assert answers == ["OK", "OK", "OK"]
    wait_for_status(value)


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
    time.sleep(8)
    assert converge().returncode == 0  # nothing to change, so nothing is refused either
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
        assert not host.file("/etc/killpower").exists
    assert changed(converge()) == {"nas1": 0, "server1": 0, "desk1": 0}


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
    assert converge().returncode == 0
    wait_for_status("OL")
