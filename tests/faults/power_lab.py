# SPDX-License-Identifier: Apache-2.0
"""What the tests of power failures share: machines that go off and on, and writers that note what was committed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.holdfast.practice.plugins.module_utils import power_facts
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn import Disk, Machine, parse_size
from ansible_collections.holdfast.practice.plugins.module_utils.nspawn_host import MachineHost, reach
from faults_lab import ADDRESSES, REPO

PRIMARY, SECONDARIES = "nas1", ("server1", "desk1")
GREEN_S = 120  # within which everything is as before, once the last machine was switched on
OFF_S = 120
TABLE = "power_writes"
MAKE = f"create table if not exists {TABLE} (writer int, n bigint, primary key (writer, n))"
CLIENTS = {"postgresql": "su postgres -c 'psql -qAt -v ON_ERROR_STOP=1 clinic'", "mariadb": "mariadb -NBn accounts"}
PASSWORD = """pw=$(sed -n '/^\\[drill\\]/,/password/s/.*password = "\\(.*\\)"/\\1/p' /etc/nut/upsd.users)"""


def lab_folder() -> Path:
    return Path(os.environ["HOLDFAST_LAB_FOLDER"])


def ssh_command(host: str) -> list[str]:
    folder = lab_folder()
    options = ["-i", f"{folder}/ssh_key", "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "BatchMode=yes"]
    options += ["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=2"]
    return ["ssh", *options, f"root@{ADDRESSES[host]}"]


def ask(host: str, script: str) -> str | None:
    """What the host answers; None when it does not, or the script fails."""
    done = subprocess.run([*ssh_command(host), script], text=True, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def tell(host: str, script: str, stdin: str | None = None) -> str:
    done = subprocess.run([*ssh_command(host), script], input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{host}: {done.stderr[-2000:]}"
    return done.stdout


def until(what: Callable[[], Any], seconds: float, why: str, every: float = 0.5) -> Any:
    """Wait for a true value and give it back."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"not within {seconds} s: {why}"
        time.sleep(every)
    return found


# --- machines -----------------------------------------------------------------------------------------------------------


def _run(argv: Sequence[str], **more: Any) -> tuple[int, str, str]:
    environment = {**os.environ, **(more.get("environ_update") or {})}
    done = subprocess.run(list(argv), text=True, capture_output=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


def machine(name: str) -> MachineHost:
    """The lab's own machine, as its folder and molecule/shared describe it."""
    lab = yaml.safe_load((REPO / "molecule/shared/vars/lab.yml").read_text())
    folder = lab_folder() / "machines" / name
    laid = json.loads((folder / "machine.json").read_text())
    disks = next(each.get("disks", []) for each in lab["lab_machines"] if each["name"] == name)
    return MachineHost(
        _run,
        Machine(
            name=name,
            folder=str(folder),
            layers=tuple(laid["layers"]),
            namespace=f"/run/netns/{lab_folder().name}",
            bridge=lab["lab_bridge"],
            address=laid["address"],
            disks=tuple(Disk(disk["name"], parse_size(disk["size"])) for disk in disks),
            shelf=laid["shelf"],
            hosts=tuple((a, b) for a, b in laid["hosts"]),
            authorized_key=laid["authorized_key"],
        ),
    )


def switch(name: str, state: str) -> None:
    """started, stopped, or killed (its power is cut)."""
    reach(machine(name), state, check_mode=False, timeout=120)


def switch_on(order: Sequence[str], pauses: Sequence[float]) -> None:
    """Switch machines on one after another; they come up side by side, as after a mains failure."""
    troubles: list[BaseException] = []

    def start(name: str) -> None:
        try:
            switch(name, "started")
        except BaseException as error:  # told below, by the thread that waits
            troubles.append(error)

    threads = []
    for name, pause in zip(order, pauses, strict=True):
        threads.append(threading.Thread(target=start, args=(name,)))
        threads[-1].start()
        time.sleep(pause)
    for thread in threads:
        thread.join()
    assert not troubles, troubles


def stops(name: str) -> list[float]:
    """When the machine went off, as its carrier saw it (not as NUT or the drill says)."""
    lines = (lab_folder() / "machines" / name / "events.jsonl").read_text().splitlines()
    return [each["mono_ns"] / 1e9 for each in map(json.loads, lines) if each["event"] == "stopped"]


# --- who tells the UPS to cut the power -----------------------------------------------------------------------------------

CUTS = "/var/lib/holdfast-test-cuts"
UPSDRVCTL = "/usr/sbin/upsdrvctl"
COUNTER = f"""\
#!/bin/sh
[ "$1" != shutdown ] || echo cut >> {CUTS}
[ ! -x {UPSDRVCTL}.real ] || exec {UPSDRVCTL}.real "$@"
"""


def count_cuts() -> None:
    """Let every machine write down when it tells a UPS to cut the power."""
    for host in ADDRESSES:
        tell(host, f"rm -f {CUTS}; test ! -e {UPSDRVCTL} || mv {UPSDRVCTL} {UPSDRVCTL}.real")
        tell(host, f"cat > {UPSDRVCTL} && chmod 755 {UPSDRVCTL}", COUNTER)


def cuts() -> dict[str, int]:
    return {host: tell(host, f"test ! -e {CUTS} || cat {CUTS}").count("cut") for host in ADDRESSES}


def count_no_more() -> None:
    for host in ADDRESSES:
        tell(host, f"rm -f {CUTS} {UPSDRVCTL}; test ! -e {UPSDRVCTL}.real || mv {UPSDRVCTL}.real {UPSDRVCTL}")


# --- the UPS ------------------------------------------------------------------------------------------------------------


def set_ups(words: str) -> None:
    """Make the simulated UPS say this, and see that it does (upsd may have added its own FSD)."""
    tell(PRIMARY, f"""{PASSWORD}; upsrw -s ups.status="{words}" -u drill -p "$pw" ups1@localhost""")

    def shown() -> bool:
        said = (ask(PRIMARY, "upsc ups1 ups.status 2> /dev/null") or "").split()
        return [word for word in said if word != "FSD"] == words.split()

    until(shown, 10, f"ups1 says {words}", 0.2)


# --- writers ------------------------------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """Inserts numbers one after another into a database, and notes each that was acknowledged, outside of the machines."""

    def __init__(self, engine: str, number: int) -> None:
        super().__init__(daemon=True)
        self.engine, self.number = engine, number
        self.acknowledged: list[int] = []
        self.last_at = 0.0
        command = [*ssh_command("server1"), CLIENTS[engine]]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )

    def run(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        n = 0
        while True:
            n += 1
            try:
                self.process.stdin.write(f"insert into {TABLE} values ({self.number}, {n}) returning n;\n")
            except (BrokenPipeError, OSError):
                return
            if self.process.stdout.readline().strip() != str(n):
                return
            self.acknowledged.append(n)
            self.last_at = time.monotonic()


@dataclass
class Writers:
    """Two for each engine; numbers of writers are never used twice, so no earlier outage's rows count for this one."""

    writers: list[Writer] = field(default_factory=list)

    @classmethod
    def begin(cls, first: int) -> Writers:
        for client in CLIENTS.values():
            tell("server1", client, f"{MAKE};\n")
            tell("server1", client, f"delete from {TABLE};\n")
        found = cls([Writer(engine, first + n) for n, engine in enumerate(e for e in CLIENTS for _ in range(2))])
        for writer in found.writers:
            writer.start()
        until(lambda: all(len(writer.acknowledged) > 20 for writer in found.writers), 20, "every writer writes", 0.1)
        return found

    def judge(self, ordered: float) -> int:
        """All that was acknowledged is there, and it was written until the stop. Gives the number of rows looked for."""
        looked = 0
        for writer in self.writers:
            writer.join(20)
            assert not writer.is_alive(), f"writer {writer.number} did not notice that its server is gone"
            assert writer.last_at > ordered, f"{writer.engine} was not written to when the shutdown was ordered"
            query = f"select n from {TABLE} where writer = {writer.number};\n"
            there = {int(line) for line in tell("server1", CLIENTS[writer.engine], query).split()}
            lost = set(writer.acknowledged) - there
            assert not lost, f"{writer.engine}: {len(lost)} of {len(writer.acknowledged)} committed rows are lost"
            looked += len(writer.acknowledged)
        return looked


# --- what has to be well afterwards -------------------------------------------------------------------------------------


def units(host: str) -> set[str]:
    patterns = " ".join(f"'{pattern}'" for pattern in (*power_facts.UNIT_PATTERNS, "orthanc.service"))
    found = ask(host, f"systemctl list-units --plain --no-legend --state=active {patterns}")
    return set(power_facts.read_units(found or ""))


def well(before: dict[str, set[str]]) -> list[str]:
    """What is not as it was: services that do not run, a UPS that is not online, hosts that do not hang on it."""
    missing = [f"{host}: {unit}" for host, known in before.items() for unit in sorted(known - units(host))]
    for host in before:
        status = ask(host, "upsc ups1@198.18.0.11 ups.status 2> /dev/null")
        if (status or "").split() != ["OL"]:
            missing.append(f"{host}: ups1 says {status}")
        if ask(host, "test ! -e /etc/killpower && test ! -e /run/killpower") is None:
            missing.append(f"{host}: the power-down flag is set")
    attached = (ask(PRIMARY, "upsc -c ups1 2> /dev/null") or "").split()
    return missing + [f"{host} is not attached" for host in SECONDARIES if ADDRESSES[host] not in attached]


def clean_starts() -> dict[str, bool | None]:
    """Did the newest start of each engine follow a clean stop, as its own log tells?"""
    postgresql = tell("server1", "tail -n 2000 /var/log/postgresql/postgresql-17-main.log")
    mariadb = tell("server1", "journalctl -b -q --no-pager -o cat -u mariadb.service")
    return {
        "postgresql": power_facts.judge_start(postgresql),
        "mariadb": power_facts.judge_mariadb_start(mariadb),
    }


@dataclass
class Outage:
    """One mains failure, from the first word of the UPS until everything is as it was."""

    number: int
    low_after_s: float
    order: tuple[str, ...]
    pauses: tuple[float, ...]

    @classmethod
    def drawn(cls, number: int, chance: random.Random, order: Sequence[str] | None = None) -> Outage:
        hosts = list(order or chance.sample([PRIMARY, *SECONDARIES], 3))
        return cls(number, chance.uniform(0, 6), tuple(hosts), tuple(chance.uniform(0, 4) for _ in hosts))

    def __str__(self) -> str:
        pauses = ", ".join(f"{pause:.1f}" for pause in self.pauses)
        return f"outage {self.number}: low after {self.low_after_s:.1f} s, then {' '.join(self.order)} ({pauses} s)"

    def play(self, before: dict[str, set[str]]) -> dict[str, Any]:
        """Play it and judge it; gives the figures."""
        known = {host: len(stops(host)) for host in (PRIMARY, *SECONDARIES)}
        cut = cuts()
        writers = Writers.begin(self.number * 10)
        set_ups("OB DISCHRG")
        time.sleep(self.low_after_s)  # the random part of the fault, not a wait
        ordered = time.monotonic()
        set_ups("OB DISCHRG LB")
        until(lambda: all(len(stops(host)) > known[host] for host in known), OFF_S, "every machine is off", 0.2)
        off = {host: stops(host)[-1] for host in known}
        assert {host: len(stops(host)) - known[host] for host in known} == dict.fromkeys(known, 1), "each went off once"
        assert all(off[host] < off[PRIMARY] for host in SECONDARIES), f"the primary was not the last: {off}"
        switched = time.monotonic()
        switch_on(self.order, self.pauses)
        until(lambda: not well(before), GREEN_S, f"all is well again ({well(before)})", 1.0)
        green = time.monotonic()
        rows = writers.judge(ordered)
        assert {host: now - cut[host] for host, now in cuts().items()} == {PRIMARY: 1, "server1": 0, "desk1": 0}, (
            "the primary alone tells the UPS to cut the power, once"
        )
        assert clean_starts() == {"postgresql": True, "mariadb": True}
        return {
            "rows": rows,
            "off_s": round(off[PRIMARY] - ordered, 1),
            "green_s": round(green - switched, 1),
        }
