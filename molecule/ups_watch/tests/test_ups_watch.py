"""Who is told what of a UPS, with a real upsd and a real mail server. Every fault is shown to have landed, and mended.

The UPS is dummy-ups. Where a test needs one that tests its battery, which dummy-ups cannot, its name says "played".
What would stop a machine only leaves a mark here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path

import lab_mail
import pytest
import testinfra
import yaml

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HERE = Path(__file__).resolve().parents[1]
PASSWORDS = yaml.safe_load((HERE / "inventory.yml").read_text())["power"]["vars"]["power_test_passwords"]
MAIL_PASSWORD = (FOLDER / "ups_watch" / "mail").read_text().strip()
SECRETS = [*PASSWORDS.values(), MAIL_PASSWORD]
LAB_FOLDER = Path(os.environ["HOLDFAST_LAB_FOLDER"])
ADDRESSES = {"nas1": "198.18.0.11", "server1": "198.18.0.12", "desk1": "198.18.0.13"}
PRIMARY = ADDRESSES["nas1"]
MARK = "/run/was-told-to-stop"
CLINIC = "[Holdfast] Power Test Clinic: "


@pytest.fixture(scope="module")
def hosts():
    """The machines over ssh, one connection a command: a shared one would hang for a while after a cut of the network."""
    pins = f"-o UserKnownHostsFile={LAB_FOLDER}/known_hosts -o GlobalKnownHostsFile=/dev/null -o ControlMaster=no"
    key = str(LAB_FOLDER / "ssh_key")
    return {
        name: testinfra.get_host(f"ssh://root@{address}", ssh_identity_file=key, ssh_extra_args=pins, controlpersist=0)
        for name, address in ADDRESSES.items()
    }


@pytest.fixture(scope="module")
def nas(hosts):
    return hosts["nas1"]


@pytest.fixture(scope="module")
def provider(hosts):
    """The machine of the mail provider."""
    return hosts["desk1"]


def until(what, wait_s=60):
    """Wait until a question is answered with something true, and give that back."""
    deadline = time.monotonic() + wait_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {wait_s} s"
        time.sleep(0.3)
    return found


def ask_upsd(*lines, address=PRIMARY):
    """Speak with upsd: the answers, line by line."""
    answers = []
    with socket.create_connection((address, 3493), timeout=5) as wire:
        stream = wire.makefile("rw", newline="\n")
        for line in lines:
            stream.write(line + "\n")
            stream.flush()
            answers.append(stream.readline().strip())
    return answers


def listening():
    """Whether upsd is there, and has heard from its driver what may be set."""
    try:
        return ask_upsd("GET TYPE ups1 ups.status")[0].startswith("TYPE ups1 ups.status RW")
    except ConnectionRefusedError:
        return False


def set_ups(name, value):
    login = ["USERNAME drill", f"PASSWORD {PASSWORDS['drill']}"]
    assert ask_upsd(*login, f'SET VAR ups1 {name} "{value}"') == ["OK"] * 3
    until(lambda: ask_upsd(f"GET VAR ups1 {name}") == [f'VAR ups1 {name} "{value}"'], 30)


def clients():
    with socket.create_connection((PRIMARY, 3493), timeout=5) as wire:
        stream = wire.makefile("rw", newline="\n")
        stream.write("LIST CLIENT ups1\n")
        stream.flush()
        found = []
        while not (line := stream.readline()).startswith(("END", "ERR")):
            found.append(line.split()[-1])
        return found


def status(host):
    """What holdfast-ups says to programs, and its exit code."""
    done = host.run("holdfast-ups --json")
    return json.loads(done.stdout), done.rc


def ups(nas):
    return status(nas)[0]["upses"][0]


def told(provider, about, count, wait_s=150):
    """Exactly so many mails since the test began whose subject speaks of this, the oldest first; waits for the last one."""
    until(lambda: len(subjects(provider, about)) >= count, wait_s)
    listed = [each for each in lab_mail.mails(provider, len(subjects(provider))) if about in each["subject"]]
    assert len(listed) == count, [each["subject"] for each in listed]
    for each in listed:
        assert not [secret for secret in SECRETS if secret in each["raw"]]
    return listed


def subjects(provider, about=""):
    """Subjects of what the manager got."""
    found = provider.check_output(
        "grep -h '^Subject:' /home/keeper/mail/manager/new/* 2>/dev/null || [ $? = 1 -o $? = 2 ]"
    )
    return [line.removeprefix("Subject: ") for line in found.splitlines() if about in line]


def well(host):
    """Nothing is red, and nothing waits for its end to be told."""
    found, code = status(host)
    kept = json.loads(host.check_output("cat /var/lib/holdfast-ups/state.json"))["upses"]
    raised = [side for each in kept.values() for side, entry in each["sides"].items() if entry["raised"]]
    return code == 0 and not raised and not found["mail"]


def forget(host):
    """No subject has been told so often today that it is told more rarely."""
    script = (
        "import json; p = '/var/lib/holdfast-ups/memory.json'; d = json.load(open(p)); "
        "[each.update(recent=[]) for each in d['told'].values()]; json.dump(d, open(p, 'w'))"
    )
    host.check_output(f"systemctl stop holdfast-ups; python3 -c {shlex.quote(script)}; systemctl start holdfast-ups")


@pytest.fixture(autouse=True)
def clean(request, hosts, nas, provider):
    """All is well and was so for a while, and no mail lies about; except while a network is cut."""
    if "cut_off" not in request.fixturenames:
        until(lambda: well(nas), 120)
        forget(nas)
        lab_mail.empty(provider)
    yield
    log = nas.check_output("journalctl -q -o cat -u holdfast-ups")
    assert not [secret for secret in SECRETS if secret in log]


def unstopped(hosts):
    for name, host in hosts.items():
        assert not host.file(MARK).exists, f"{name} was told to stop"
        assert host.service("nut-monitor").is_running, name


def test_all_is_well_at_first_and_nobody_is_told(hosts, nas, provider):
    found, code = status(nas)
    assert code == 0
    assert (found["upses"][0]["status"], found["upses"][0]["margin_s"]) == ("OL", 60.0)
    assert found["watching"]
    said = nas.run("holdfast-ups")
    assert said.rc == 0
    assert "ups1: OL; charge 100 %, battery for 10 min" in said.stdout
    assert "360 s left when the battery is low, 300 s needed: 60 s to spare" in said.stdout
    assert "watched by nas1, which answers" in hosts["server1"].check_output("holdfast-ups")
    assert subjects(provider) == []


def link(name, state):
    subprocess.run(["ip", "link", "set", f"vb-{name}", state], check=True)


# --- a server that lost the network, and meanwhile the battery's own test ----------------------------------------------


@contextlib.contextmanager
def played(nas, result, runtime="580"):
    """A UPS that can test its battery, in the driver's place beneath the real upsd."""
    where = "/run/nut/dummy-ups-ups1"
    nas.check_output("cat > /usr/local/lib/played_ups.py <<'E'\n" + (HERE / "played_ups.py").read_text() + "E")
    nas.check_output(
        "systemctl stop nut-driver@ups1; systemd-run --quiet --unit=played-ups --uid=nut -p UMask=0007 "
        f"/usr/bin/python3 /usr/local/lib/played_ups.py {where} {shlex.quote(result)} {runtime}"
    )
    try:
        until(lambda: ask_upsd("GET VAR ups1 driver.name") == ['VAR ups1 driver.name "played-ups"'])
        yield
    finally:
        nas.check_output("systemctl stop played-ups; rm /usr/local/lib/played_ups.py; systemctl start nut-driver@ups1")
        until(lambda: ask_upsd("GET VAR ups1 driver.name") == ['VAR ups1 driver.name "dummy-ups"'])


def edit(nas, statement):
    """Change what the watch knows, while it does not look; the statement speaks of ``d``, what it keeps of ups1."""
    script = (
        "import json, time; p = '/var/lib/holdfast-ups/state.json'; all = json.load(open(p)); d = all['upses']['ups1']; "
        f"{statement}; json.dump(all, open(p, 'w'))"
    )
    nas.check_output(f"systemctl stop holdfast-ups; python3 -c {shlex.quote(script)}; systemctl start holdfast-ups")


NEW = "d['test'] = {'first_seen': time.time()}; d.pop('last_outage', None)"
LATE = "d['test'] = {'first_seen': time.time() - 40 * 86400}; d.pop('last_outage', None)"


class TestWhileAServerIsCutOff:
    """upsd gives up a client that it has not heard for a minute. Other tests fill that minute."""

    @pytest.fixture(scope="class")
    def cut_off(self, nas, provider):
        until(lambda: well(nas), 120)
        lab_mail.empty(provider)
        began = time.monotonic()
        assert ADDRESSES["server1"] in clients(), "it was attached"
        link("server1", "down")
        with pytest.raises(OSError, match="timed out"):
            socket.create_connection((ADDRESSES["server1"], 22), timeout=2)
        yield began
        link("server1", "up")

    def test_a_battery_that_was_not_tested_in_time_is_red_and_told(self, nas, provider, cut_off):
        """dummy-ups has no such command, so the test that is due cannot begin: that is said, and does not count as tested."""
        edit(nas, LATE)
        found = told(provider, "battery test of ups1", 1)[0]
        assert found["subject"] == CLINIC + "battery test of ups1 OVERDUE"
        assert "tested last: never; it is to be tested every 30 d" in found["body"]
        until(lambda: "ups1 offers none of test.battery.start.quick" in (ups(nas)["self_test"]["why_not"] or ""))
        assert status(nas)[1] == 1
        edit(nas, NEW)
        assert told(provider, "battery test of ups1", 2)[1]["subject"] == CLINIC + "battery test of ups1 recovered"

    def test_a_test_that_is_due_runs_by_itself_on_a_played_ups_and_its_result_is_kept(self, nas, provider, cut_off):
        before = nas.check_output("date +%s")
        with played(nas, "Done and passed"):
            edit(nas, NEW)
            last = until(lambda: ups(nas)["self_test"]["last"])
            assert (last["verdict"], last["result"], last["runtime_s"]) == ("PASS", "Done and passed", 580.0)
            assert (last["charge_before"], last["charge_after"], last["load"]) == (100.0, 97.0, 23.0)
            assert last["on_battery_s"] > 0
            log = nas.check_output(f"journalctl -q -o cat -u played-ups --since @{before}")
            assert re.findall(r"INSTCMD (\S+)", log) == ["test.battery.start.quick"], "once, and no other command"
            assert "PASS" in nas.run("holdfast-ups").stdout
        told(provider, "ON BATTERY", 0)

    def test_a_test_that_fails_on_a_played_ups_is_told(self, nas, provider, cut_off):
        with played(nas, "Done and error", "45"):
            edit(nas, NEW)
            until(lambda: (ups(nas)["self_test"]["last"] or {}).get("verdict") == "FAIL")
            found = told(provider, "battery test of ups1 FAILED", 1)[0]
            assert "Done and error" in found["body"]
            assert "Runtime after it: 45 s; before: 600 s" in found["body"]
            assert status(nas)[1] == 1
        edit(nas, NEW)

    def test_the_right_to_test_is_a_right_to_nothing_else_on_a_played_ups(self, nas, cut_off):
        login = ["USERNAME selftest", f"PASSWORD {PASSWORDS['selftest']}"]
        with played(nas, "Done and passed"):
            for command in ("load.off", "test.battery.start.deep", "test.battery.stop"):
                assert ask_upsd(*login, f"INSTCMD ups1 {command}")[-1] == "ERR ACCESS-DENIED", command
            assert ask_upsd(*login, "FSD ups1")[-1].startswith("ERR")
            assert ask_upsd(*login, 'SET VAR ups1 ups.status "OB LB"')[-1].startswith("ERR")
            for name in ("server1", "desk1"):
                own = [f"USERNAME {name}", f"PASSWORD {PASSWORDS[name]}"]
                assert ask_upsd(*own, "INSTCMD ups1 test.battery.start.quick")[-1] == "ERR ACCESS-DENIED", name
            assert ask_upsd(*login, "INSTCMD ups1 test.battery.start.quick")[-1].startswith("OK"), (
                "the right itself works"
            )

    def test_a_battery_that_would_not_last_is_told_with_what_is_missing(self, hosts, nas, provider, cut_off):
        set_ups("battery.runtime", "120")
        try:
            found = told(provider, "battery of ups1", 1)[0]
            assert found["subject"] == CLINIC + "battery of ups1 TOO SHORT"
            assert (
                "carries everything for 120 s, and the machines need 300 s to stop: 180 s are missing" in found["body"]
            )
            assert "The slowest machine is server1: 200 s (by the practice document)" in found["body"]
            assert (status(nas)[1], ups(nas)["margin_s"]) == (1, -180.0)
        finally:
            set_ups("battery.runtime", "600")
        assert told(provider, "battery of ups1", 2)[1]["subject"] == CLINIC + "battery of ups1 recovered"

    def test_a_measured_stop_counts_from_then_on(self, nas, provider, cut_off):
        need = {"ups1": {"slowest": {"host": "desk1", "seconds": 310.5, "measured": True}, "total_s": 410.5}}
        assert nas.run("echo nonsense | holdfast-ups need").rc == 3
        assert nas.run('echo \'{"ups9": {"total_s": 5}}\' | holdfast-ups need').rc == 3
        nas.check_output(f"echo {shlex.quote(json.dumps(need))} | holdfast-ups need")
        try:
            found = told(provider, "battery of ups1", 3)[2]
            assert "50 s are missing" in found["body"] or "51 s are missing" in found["body"]
            assert "desk1: 310 s (measured)" in found["body"]
        finally:
            need["ups1"]["total_s"] = 200
            nas.check_output(f"echo {shlex.quote(json.dumps(need))} | holdfast-ups need")
        told(provider, "battery of ups1", 4)

    def test_a_secondary_that_lost_the_lan_is_told_although_the_mains_are_there(self, hosts, nas, provider, cut_off):
        """NUT alone says nothing of it: the primary goes by who is attached."""
        found = told(provider, "server1", 1, wait_s=120)[0]
        # NOCOMMWARNTIME of upsmon, which would tell the machine itself, and nobody else
        assert time.monotonic() - cut_off < 300
        assert found["subject"] == CLINIC + "server1 on ups1 NOT ATTACHED"
        assert "in an outage nobody would tell it to stop" in found["body"]
        assert "It does not answer at all" in found["body"]
        assert ADDRESSES["server1"] not in clients()
        assert status(nas)[1] == 1
        link("server1", "up")
        assert told(provider, "server1", 2)[1]["subject"] == CLINIC + "server1 on ups1 recovered"
        # it is a deputy: that it could not reach the primary was its own trouble
        log = hosts["server1"].check_output(
            f"journalctl -q -o cat -u holdfast-ups --since -{time.monotonic() - cut_off:.0f}s"
        )
        assert "SILENT" not in log
        assert hosts["server1"].service("holdfast-ups").is_running
        unstopped(hosts)


def test_mains_that_flap_are_one_mail_and_a_summary_and_nothing_is_tested_then(hosts, nas, provider):
    since = nas.check_output("date +%s")
    for number in range(4):
        set_ups("ups.status", "OB DISCHRG")
        until(lambda: "OB" in known_words(nas), 30)
        if not number:
            done = nas.run("holdfast-ups test ups1")
            assert (done.rc, "a test begins on mains only" in done.stdout) == (1, True)
            # upsmon sees it too, at its next poll
            until(lambda: "on battery" in nas.check_output(f"journalctl -q -o cat --since @{since} -u nut-monitor"), 15)
        set_ups("ups.status", "OL CHRG")
        until(lambda: "OB" not in known_words(nas), 30)
    first, second = told(provider, "", 2)
    assert first["subject"] == CLINIC + "ups1 ON BATTERY"
    assert "charge 100 %, battery for 10 min" in first["body"]
    assert (
        "If the mains stay away, in about 4 min server1 and desk1 stop, then nas1; backups are held until the mains are back."
        in first["body"]
    )
    assert second["subject"] == CLINIC + "ups1 recovered"
    assert "The mains failed 4 times" in second["body"]
    done = nas.run("holdfast-ups test ups1")
    assert (done.rc, "the mains were away within the last hour" in done.stdout) == (1, True)
    unstopped(hosts)


def known_words(nas):
    """Status that the watch saw last."""
    return json.loads(nas.check_output("cat /var/lib/holdfast-ups/state.json"))["upses"]["ups1"]["words"]


def test_what_the_ups_says_of_itself_is_told_once_each_and_stops_nobody(hosts, nas, provider):
    said = {"RB": "REPLACE BATTERY", "OVER": "OVERLOADED", "BYPASS": "BYPASSED", "ALARM": "ALARM", "CAL": "CALIBRATING"}
    for number, (token, word) in enumerate(said.items(), 1):
        set_ups("ups.status", " ".join(["OL", *list(said)[:number]]))
        found = told(provider, "", number)[-1]
        assert found["subject"] == CLINIC + f"ups1 {word}", token
        assert token in found["body"]
    assert status(nas)[1] == 1
    set_ups("ups.status", "OL")
    found = told(provider, "", 6)[-1]
    assert found["subject"] == "[Holdfast] Power Test Clinic, nas1: 5 recovered"
    for token, word in said.items():
        assert f"It had said {token}: {word}." in found["body"]
    unstopped(hosts)


@pytest.mark.parametrize(
    ("break_it", "mend", "code", "word"),
    [
        ("systemctl stop nut-server", "systemctl start nut-server", "UNREACHABLE", "NO SERVER"),
        ("systemctl stop nut-driver@ups1", "systemctl start nut-driver@ups1", "DRIVER-NOT-CONNECTED", "NOT CONNECTED"),
        (
            "kill -STOP $(cat /run/nut/dummy-ups-ups1.pid)",
            "kill -CONT $(cat /run/nut/dummy-ups-ups1.pid)",
            "DATA-STALE",
            "STALE",
        ),
    ],
)
def test_a_ups_that_is_not_heard_is_told_once_and_nobody_stops(hosts, nas, provider, break_it, mend, code, word):
    nas.check_output(break_it)
    try:
        found = told(provider, "", 1)[0]
        assert found["subject"] == CLINIC + f"line to ups1 {word}"
        assert "Nobody would know of an outage" in found["body"]
        answer, rc = status(nas)
        assert (answer["upses"][0]["error"]["code"], rc) == (code, 2)
    finally:
        nas.check_output(mend)
    assert told(provider, "", 2)[1]["subject"] == CLINIC + "line to ups1 recovered"
    unstopped(hosts)


def test_the_deputy_tells_when_nothing_of_the_primary_answers(hosts, provider):
    link("nas1", "down")
    try:
        found = told(provider, "", 1)[0]
        assert found["subject"] == CLINIC + "watch over ups1 SILENT"
        assert "seen on server1" in found["body"]
        assert status(hosts["server1"])[1] == 1
    finally:
        link("nas1", "up")
    assert told(provider, "", 2)[1]["subject"] == CLINIC + "watch over ups1 recovered"
    unstopped(hosts)


# --- a shutdown, last as upsmon ends with it ---------------------------------------------------------------------------


def test_a_battery_that_runs_low_is_told_with_what_happens_and_then_the_order_to_stop(hosts, nas, provider):
    set_ups("ups.status", "OB DISCHRG")
    assert told(provider, "", 1)[0]["subject"] == CLINIC + "ups1 ON BATTERY"
    set_ups("ups.status", "OB DISCHRG LB")
    until(lambda: all(host.file(MARK).exists for host in hosts.values()), 60)

    def bodies():
        """Of all mails to the manager; what is found at one look is one mail."""
        return provider.check_output("cat /home/keeper/mail/manager/new/*")

    until(lambda: "Shutdown by ups1 ORDERED" in bodies())
    for title in ("Ups1 ON BATTERY", "Battery of ups1 LOW", "Shutdown by ups1 ORDERED"):
        assert bodies().count(title) == 1, title
    assert "Within moments server1 and desk1 stop, then nas1" in bodies()
    for host in hosts.values():
        host.check_output(f"systemctl stop nut-monitor; rm -f {MARK} /etc/killpower")
    nas.check_output("systemctl restart nut-server")
    until(listening, 60)
    set_ups("ups.status", "OL")
    for host in hosts.values():
        host.check_output("systemctl start nut-monitor")
    until(lambda: well(nas), 120)
    for title in ("Ups1", "Battery of ups1", "Shutdown by ups1"):
        assert bodies().count(f"{title} recovered") == 1, title
    assert "NOT ATTACHED" not in bodies(), "they stopped, as they had to"


# --- what the role promises --------------------------------------------------------------------------------------------


def converge(*arguments):
    play = [
        "ansible-playbook", "-i", str(HERE / "inventory.yml"), "-i", str(FOLDER / "inventory" / "machines.yml"),
        str(HERE / "converge.yml"), *arguments,
    ]  # fmt: skip
    return subprocess.run(play, capture_output=True, text=True, check=False)


def power_status():
    """The play, with a practice that has no document: exit code and what it said."""
    command = ["ansible-playbook", "-i", str(HERE / "inventory.yml"), "-i", str(FOLDER / "inventory" / "machines.yml")]
    # Molecule's own settings are for its own runs only: the exit code is the work of a callback of ours
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment["ANSIBLE_INVENTORY_ENABLED"] = "yaml"
    project = HERE.parents[1]
    command.append(str(project / "playbooks" / "power_status.yml"))
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_power_status_shows_what_feeds_what_and_ends_with_its_verdict(nas, provider):
    code, said = power_status()
    assert code == 0, said[-2000:]
    assert re.search(r"`-- ups1   OL, charge 100 %, battery for 10 min\n\s+\|-- server1   stops first .*", said)
    assert re.search(r"`-- nas1      stops last \(primary\)", said)
    assert "6 min left when the battery is low, 5 min needed: 60 s to spare" in said
    assert not [secret for secret in SECRETS if secret in said]
    nas.check_output("systemctl stop nut-driver@ups1")
    code, said = power_status()
    nas.check_output("systemctl start nut-driver@ups1")
    assert (code, "not known: DRIVER-NOT-CONNECTED" in said) == (1, True), (
        "what is red outweighs what could not be asked"
    )
    nas.check_output("systemctl stop holdfast-ups; mv /usr/local/sbin/holdfast-ups /root/")
    code, said = power_status()
    nas.check_output("mv /root/holdfast-ups /usr/local/sbin/; systemctl start holdfast-ups")
    assert (code, "nas1 could not be asked" in said) == (2, True), said[-2000:]
    until(lambda: well(nas), 120)


def test_a_new_password_is_hidden_in_the_diff_and_check_mode_tells_the_truth(nas):
    before = nas.check_output("sha256sum /etc/holdfast-ups/*")
    done = converge("--check", "--diff", "-e", "trial_mail_password=an0ther-s3cret", "-e", "ups_watch_every_s=2")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "an0ther-s3cret" not in done.stdout + done.stderr
    assert "mail-password (write" in done.stdout
    assert done.stdout.count("changed=1") == 2
    assert nas.check_output("sha256sum /etc/holdfast-ups/*") == before


def test_what_cannot_be_is_refused_with_every_reason(nas):
    wrong = {"name": "ups1", "address": "127.0.0.1", "primary": "nas9", "feeds": {"nas1": "198.18.0.11"}}
    wrong |= {"self_test_every_s": 5, "battery": {"replace_by": "next year"}}
    done = converge("--limit", "nas1", "-e", json.dumps({"ups_watch_upses": [wrong], "ups_watch_test_password": ""}))
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    for part in ("expected one of feeds", "needs test_password", "expected a day such as 2030-03-01"):
        assert part in said
    assert well(nas)


def test_the_watch_can_do_nothing_else(hosts):
    for name in ("nas1", "server1"):
        line = hosts[name].check_output("systemd-analyze security --no-pager holdfast-ups.service | tail -n 1")
        assert float(line.split(":")[1].split()[0]) < 5.0, line
        assert hosts[name].service("holdfast-ups").is_enabled
        for secret in SECRETS:
            found = hosts[name].run(
                f"grep -rlsF -e {shlex.quote(secret)} /etc /var/lib/holdfast-ups /usr/lib/holdfast-ups"
            )
            for path in found.stdout.splitlines():
                assert hosts[name].file(path).mode in (0o600, 0o640), path
            assert secret not in hosts[name].check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
