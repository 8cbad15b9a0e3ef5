# SPDX-License-Identifier: Apache-2.0
"""Rehearse the day after: drive a blank machine through the recovery kit's own commands, and ask what came back.

Nothing of the practice's folder or vault is used. The sealed kit and the key go in, one port of the NAS is let through
(port_relay.py), and the rest is what the kit says.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible_collections.holdfast.practice.plugins.module_utils.break_glass import (
    KEYFILE,
    OPENED,
    STICK,
    TARGET,
    TRACE,
    Step,
    isolation,
    item_verdict,
    missing_names,
    opening,
    opening_trouble,
    read_trace,
    script,
    step_trouble,
    steps_of,
)
from ansible_collections.holdfast.practice.plugins.module_utils.database_engine import DatabaseError
from ansible_collections.holdfast.practice.plugins.module_utils.database_oracle import OracleError
from ansible_collections.holdfast.practice.plugins.module_utils.engines import ENGINES
from ansible_collections.holdfast.practice.plugins.module_utils.port_relay import RelayError, relay
from ansible_collections.holdfast.practice.plugins.module_utils.verify import INCONCLUSIVE, Reason
from ansible_collections.holdfast.practice.plugins.module_utils.verify_host import ENGINE_START_S, Machine

KNOCK_S = 3.0
OPEN_S = 120.0
# Which of some doors open, tried side by side: "address port" a line in, those that open a line out.
_KNOCK = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def knock(line):
    address, port = line.split()
    try:
        socket.create_connection((address, int(port)), 3).close()
    except OSError:
        return None
    return line
doors = sys.stdin.read().splitlines()
with ThreadPoolExecutor(32) as pool:
    print("\\n".join(filter(None, pool.map(knock, doors))))
"""


def sha256(path: str) -> str:
    """SHA-256 of the sealed kit, as its page prints it."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Rehearsal:
    """One rehearsal in a started machine. network: as break_glass.network() gives it."""

    def __init__(
        self, machine: Machine, root: str, network: Mapping[str, Any], nas: tuple[str, int], practice: str
    ) -> None:
        self._machine, self._root, self._network, self._nas, self._practice = machine, root, network, nas, practice
        self._folder = f"{OPENED}/recovery-{practice}"
        self._result: dict[str, Any] = {"reasons": [], "items": [], "not_run": [], "phases": {}, "blocked": {}}

    def do(self, kit: str, identity: str, asked: Sequence[str]) -> dict[str, Any]:
        """Rehearse: {reasons, items, not_run, phases, blocked, made}. kit: the sealed file; identity: the key's text."""
        with ExitStack() as stack:
            address = self._network["nas_address"]
            try:
                line = stack.enter_context(
                    relay(f"/run/netns/{self._network['namespace']}", address, self._nas[1], self._nas)
                )
            except RelayError as error:
                return self._stop(Reason("relay_failed", str(error), INCONCLUSIVE))
            self._result["blocked"] = self._look_around()
            reasons = isolation(self._result["blocked"])
            if reasons:
                return self._stop(*reasons)
            opened = self._open(kit, identity)
            if opened is None:
                return self._result
            self._result["made"] = opened["as_of"]["made"]
            chosen, self._result["not_run"] = steps_of(opened, asked)
            items = {each["item"]: each for each in opened["items"]}
            for step in chosen:
                self._result["items"].append(self._recover(step, items[step.item]))
            self._result["blocked"]["bytes_of_nas"] = line.bytes
        return self._result

    def _stop(self, *reasons: Reason) -> dict[str, Any]:
        self._result["reasons"] += [reason._asdict() for reason in reasons]
        return self._result

    # -- alone?

    def _look_around(self) -> dict[str, Any]:
        """Try doors from here and from the machine, one of them opened here for the purpose. See break_glass.isolation()."""
        with socket.create_server(("", 0)) as door:
            port = door.getsockname()[1]
            mine = [f"{address} {number}" for address in _own_addresses() for number in (port, 22)]
            doors = sorted({*mine, f"{self._nas[0]} 22"})
            here = _knock(doors)
            answer = self._machine.call("python3", "-Ic", _KNOCK, stdin="\n".join(doors).encode(), timeout=OPEN_S)
        there = answer.out.decode("ascii", "replace").split("\n") if answer.rc == 0 else doors
        routes = (
            self._machine.call("ip", "route", "show", "default").out
            + self._machine.call("ip", "-6", "route", "show", "default").out
        )
        nas = f"{self._network['nas_address']} {self._nas[1]}"
        nas_answer = self._machine.call("python3", "-Ic", _KNOCK, stdin=nas.encode(), timeout=OPEN_S)
        return {
            "targets": len(doors),
            "open_from_here": len(here),
            "open_from_machine": len([each for each in there if each in doors]),
            "default_route": bool(routes.strip()),
            "nas": nas_answer.out.decode("ascii", "replace").strip() == nas
            and bool(_knock([f"{self._nas[0]} {self._nas[1]}"])),
        }

    # -- the kit

    def _put(self, path: str, content: bytes) -> None:
        done = self._machine.call("sh", "-c", 'umask 077; cat > "$0"', path, stdin=content)
        if done.rc != 0:
            raise OSError(done.rc, "cannot be written in the machine", path)

    def _open(self, kit: str, identity: str) -> dict[str, Any] | None:
        """Carry in what a person would, and open the kit as its page says."""
        sealed = Path(kit).read_bytes()
        name = "kit.age"
        self._machine.call("mkdir", "-m", "0700", STICK)
        self._put(f"{STICK}/{name}", sealed)
        self._put(KEYFILE, identity.strip().encode() + b"\n")
        commands = [line.replace("KEYFILE", KEYFILE) for line in opening(name, f"recovery-{self._practice}")]
        began = time.monotonic()
        done = self._machine.call("sh", "-c", script(commands, STICK), timeout=OPEN_S)
        self._result["phases"]["open_kit_s"] = time.monotonic() - began
        # the owner's key is needed for this and nothing else
        self._machine.call("rm", "-f", KEYFILE)
        if done.rc != 0 or done.timed_out:
            self._stop(opening_trouble(done))
            return None
        text = self._machine.call("cat", f"{self._folder}/kit.json")
        try:
            found: dict[str, Any] = json.loads(text.out)
            steps_of(found, [])
            found["as_of"]["made"]
        except (ValueError, KeyError, TypeError):
            self._stop(Reason("kit_unreadable", "the kit opened, and its kit.json is not one that this version reads"))
            return None
        return found

    # -- an item

    def _recover(self, step: Step, item: Mapping[str, Any]) -> dict[str, Any]:
        phases: dict[str, float] = {}
        result: dict[str, Any] = {"item": step.item, "host": step.host, "phases": phases}
        file = f"repositories/{step.host}.env"
        environment = self._machine.call("cat", f"{self._folder}/{file}")
        lacking = missing_names(environment.out.decode("utf-8", "replace")) if environment.rc == 0 else [file]
        reasons = [
            Reason("secret_missing", f"the kit lacks {name} of the repository of {step.host}") for name in lacking
        ]
        if not reasons:
            reasons = self._follow(step, phases)
        checked = 0
        if not reasons:
            checked, reasons = self._ask(step, item, result)
        result["verdict"], result["reasons"] = item_verdict(reasons, checked)
        return result

    def _follow(self, step: Step, phases: dict[str, float]) -> list[Reason]:
        """Run the step's commands, word for word."""
        done = self._machine.call("sh", "-c", script([command for command, _phase in step.commands], self._folder))
        trace = self._machine.call("cat", TRACE).out.decode("ascii", "replace")
        took, stopped_at = read_trace(trace)
        for number, seconds in took.items():
            phase = step.commands[number][1]
            phases[phase] = phases.get(phase, 0.0) + seconds
        if done.rc == 0 and not done.timed_out and stopped_at is None:
            return []
        return [step_trouble(step, stopped_at or 0, done)]

    def _ask(self, step: Step, item: Mapping[str, Any], result: dict[str, Any]) -> tuple[int, list[Reason]]:
        """Ask what came back the oracle's own questions, and count the files: (how much was there to check, reasons)."""
        kept = self._machine.call("cat", f"{self._folder}/{item['job']}.oracle.json")
        try:
            oracle = json.loads(kept.out)
            files, section = oracle["files"], oracle["database"]
        except (ValueError, KeyError, TypeError):
            return 0, [Reason("oracle_unreadable", "the oracle that the kit's command saved cannot be read")]
        reasons: list[Reason] = []
        checked = 0
        if section:
            began = time.monotonic()
            checked, reasons = self._query(item, section, result)
            result["phases"]["first_query_s"] = time.monotonic() - began
        if files:
            listed = [entry for entry in files["manifest"] if not entry.get("volatile")]
            gone = [entry for entry in listed if not _is_there(self._root + TARGET, entry)]
            result["files"] = len(listed) - len(gone)
            checked += len(listed)
            if gone:
                text = f"{len(gone)} of {len(listed)} files did not come back as they were"
                reasons.append(Reason("files_missing", text))
            self._machine.call("rm", "-rf", TARGET)
        return checked, reasons

    def _query(
        self, item: Mapping[str, Any], section: Mapping[str, Any], result: dict[str, Any]
    ) -> tuple[int, list[Reason]]:
        engine = ENGINES[section["engine"]]
        copy = engine.recovered(self._machine, item["item"], section, f"{self._folder}/{item['job']}.dump")
        try:
            if not copy.wait(ENGINE_START_S):
                return 0, [Reason("engine_not_started", f"{engine.title} does not answer", INCONCLUSIVE)]
            restored = copy.describe(section)
        except (DatabaseError, OracleError) as error:
            return 0, [Reason("query_failed", f"the recovered database does not answer ({error})")]
        result["queries"] = len(restored.get("probes") or ()) + len(restored.get("tables") or ())
        result["tables"] = len(restored.get("tables") or ())
        result["rows"] = sum((restored.get("tables") or {}).values())
        reasons = [Reason(each.code, each.message) for each in engine.compare(section, restored)]
        return engine.checked(section), reasons


def _is_there(root: str, entry: Mapping[str, Any]) -> bool:
    try:
        return os.lstat(root + entry["path"]).st_size == int(entry["size"])
    except OSError:
        return False


def _own_addresses() -> list[str]:
    """This machine's addresses, but not those that every machine has. What the kernel knows, without a program."""
    text = Path("/proc/net/fib_trie").read_text(encoding="ascii")
    found = re.findall(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL", text)
    return sorted({address for address in found if not address.startswith("127.")})


def _knock(doors: Sequence[str]) -> list[str]:
    def opens(line: str) -> bool:
        address, port = line.split()
        try:
            socket.create_connection((address, int(port)), KNOCK_S).close()
        except OSError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        return [door for door, found in zip(doors, pool.map(opens, doors)) if found]
