# SPDX-License-Identifier: Apache-2.0
"""Decide about a break-glass rehearsal: which commands of the recovery kit are run, what an end of one means, the verdict.

The rehearsal gives a blank machine the sealed kit, its owner's key and one port of the NAS, and runs the kit's own printed
commands word for word. Whatever stops a person there is named: a key, a tool or a step. Pure: no file, command or clock.

Layout in the machine: /root/stick holds what a person would carry in (kit and key, the key in memory only), /dev/shm/kit is
the folder that the page says to open the kit in, /restored the kit's own TARGET.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.holdfast.practice.plugins.module_utils.verify import (
    INCONCLUSIVE,
    Reason,
    spell,
    unique,
    worst,
)
from ansible_collections.holdfast.practice.plugins.module_utils.verify_restic import Done, classify

STICK = "/root/stick"
KEYFILE = "/dev/shm/holdfast-owner.key"  # noqa: S108 - a folder of the machine, which is thrown away
OPENED = "/dev/shm/kit"  # noqa: S108 - where the kit's page says to open it
TRACE = "/dev/shm/holdfast-trace"  # noqa: S108
TARGET = "/restored"
NEEDED = ("RESTIC_REPOSITORY", "RESTIC_PASSWORD", "RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD")
NAMED_NAS = "198.18.255.1"  # what a NAS that is known by a name is in the machine's own network
PHASES = ("tools_s", "open_kit_s", "fetch_s", "restore_s", "load_s", "first_query_s")

# What restic says of a backup is a question of reach for a proof; of a kit it is what the kit is for.
_KIT_FAULTS = {
    "wrong_password": "the repository password in the kit does not open it",
    "access_refused": "the NAS refuses the account with the password in the kit",
    "certificate_mismatch": "the NAS shows another certificate than the one in the kit",
    "repository_missing": "there is no repository where the kit says",
}


class Step(NamedTuple):
    """One item's step of the kit: its commands, in order, each with the phase that its time counts for."""

    item: str
    host: str
    number: int
    title: str
    commands: tuple[tuple[str, str], ...]


def opening(file: str, folder: str) -> list[str]:
    """How a person opens a sealed kit (a file in the folder where they are), as its page prints it. KEYFILE is their key."""
    return [
        f"sha256sum {file}",
        f"mkdir -m 0700 {OPENED} && cp {file} {OPENED} && cd {OPENED}",
        f"age --decrypt --identity KEYFILE {file} | tar --extract --file=-",
        f"cd {folder} && more RECOVERY.txt",
    ]


def network(address: str, name: str) -> dict[str, Any]:
    """Lay out the machine's own network, in which the NAS's address is the only other one.

    Returns {namespace, bridge_address, machine_address, nas_address, hosts}: addresses with their prefix but nas_address.
    """
    hosts = {}
    try:
        nas = ipaddress.ip_address(address)
    except ValueError:
        nas = ipaddress.ip_address(NAMED_NAS)
        hosts = {address: NAMED_NAS}
    prefix = 24 if nas.version == 4 else 64
    wire = ipaddress.ip_network(f"{nas}/{prefix}", strict=False)
    mine = next(each for each in (wire[253], wire[252]) if each != nas)
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return {
        "namespace": f"holdfast-{digest}",
        "bridge_address": f"{nas}/{prefix}",
        "machine_address": f"{mine}/{prefix}",
        "nas_address": str(nas),
        "hosts": hosts,
    }


def phase_of(command: str) -> str:
    """For which phase the time of a command of the kit counts."""
    if command.startswith("apt-get "):
        return "tools_s"
    if re.match(r"restic .* restore ", command):
        return "restore_s"
    if re.match(r"(restic |RUN=|\. repositories/)", command):
        return "fetch_s"
    return "load_s" if not re.match(r"TARGET=", command) else "restore_s"


def steps_of(kit: Mapping[str, Any], asked: Sequence[str]) -> tuple[list[Step], list[dict[str, str]]]:
    """Choose the items to recover, in the kit's own order: (their steps, the items that are not run).

    asked: names, or nothing for the first database of the kit (or its first item, where there is no database).
    """
    items = {each["item"]: each for each in kit["items"]}
    found = [
        Step(
            step["item"],
            items[step["item"]]["host"],
            int(step["number"]),
            step["title"],
            tuple((command, phase_of(command)) for part in step["parts"] for command in part["commands"]),
        )
        for step in kit["steps"]
        if step.get("item") in items
    ]
    databases = [step for step in found if items[step.item]["database"]]
    chosen = [step for step in found if step.item in asked] if asked else (databases or found)[:1]
    skipped = [{"item": step.item, "host": step.host, "why": "not asked for"} for step in found if step not in chosen]
    skipped += [{"item": name, "host": "", "why": "the kit has no such item"} for name in asked if name not in items]
    return chosen, skipped


def script(commands: Sequence[str], folder: str) -> str:
    """One shell that runs commands as a person would type them, and stops at the first that fails.

    Before each it leaves its number and the machine's monotonic clock in TRACE.
    """
    mark = f"read -r up _idle </proc/uptime; echo {{}} $up >>{TRACE}"
    lines = ["set -eu", f": >{TRACE}", f"cd {shlex.quote(folder)}"]
    for number, command in enumerate(commands):
        lines += [mark.format(number), command]
    return "\n".join([*lines, mark.format("end"), ""])


def read_trace(text: str) -> tuple[dict[int, float], int | None]:
    """Read what script() left: (seconds by number of the command, number of the one that did not end, or None)."""
    rows = [line.split() for line in text.splitlines() if re.fullmatch(r"(\d+|end) \d+\.\d+", line)]
    times = [(name, float(up)) for name, up in rows]
    took = {int(name): after[1] - up for (name, up), after in zip(times, times[1:])}
    return took, None if times and times[-1][0] == "end" else int(times[-1][0]) if times else 0


def missing_names(environment: str) -> list[str]:
    """Name what a repository's file in the kit does not bring, or brings empty."""
    found = {}
    for line in environment.splitlines():
        name, equals, value = (
            line.removeprefix("export ").partition("=") if line.startswith("export ") else ("", "", "")
        )
        if equals:
            found[name] = "".join(shlex.split(value))
    return [name for name in NEEDED if not found.get(name)]


def opening_trouble(done: Done) -> Reason:
    """Say why the sealed kit did not open."""
    tool = missing_tool(done)
    if tool:
        return tool_missing(tool)
    if "no identity matched" in done.err:
        return Reason("wrong_identity_key", "the identity key is not one of those that the kit is sealed to")
    if "age: error" in done.err and re.search(r"identity|KEYFILE|holdfast-owner", done.err):
        return Reason("identity_key_unreadable", "the identity key is not an age key file")
    if "age: error" in done.err:
        return Reason("kit_damaged", "the sealed kit cannot be decrypted: it is damaged, or not a kit")
    return Reason("kit_not_opened", f"the sealed kit did not open: the commands of its page ended with {done.rc}")


def missing_tool(done: Done) -> str:
    """Name the program that a shell or runuser did not find; empty when that is not what happened."""
    found = re.search(r"(?:^|\s)(\S+): (?:command )?not found|failed to execute (\S+):", done.err)
    return (found[1] or found[2]).rpartition("/")[2] if found else ""


def tool_missing(name: str) -> Reason:
    """A program that the kit's commands need."""
    return Reason("tool_missing", f"the program {name} is not on the machine, and the kit's commands need it")


def step_trouble(step: Step, number: int, done: Done) -> Reason:
    """Say why a command of a step did not end well; its output is not quoted, as it may hold names of files."""
    command, _phase = step.commands[number]
    where = f"step {step.number}, command {number + 1} of {len(step.commands)}"
    if done.timed_out:
        return Reason("timeout", f"{where}: no end after {done.seconds:.0f} s", INCONCLUSIVE)
    tool = missing_tool(done)
    if tool:
        return tool_missing(tool)
    if command.startswith("apt-get "):
        return Reason("tool_missing", f"{where}: {command.split()[-1]} could not be installed, and is not there")
    source = re.match(r"\. (repositories/\S+)", command)
    if source:
        return Reason("secret_missing", f"{where}: {source[1]} is not in the kit, or cannot be read")
    if re.search(r"No space left on device", done.err):
        return Reason("not_enough_space", f"{where}: the machine's disk or memory is full", INCONCLUSIVE)
    if "restic " in command:
        reason = classify(done._replace(rc=done.rc or 1), where)[0]
        if reason.code in _KIT_FAULTS:
            return Reason(reason.code, f"{where}: repository of {step.host}: {_KIT_FAULTS[reason.code]}")
        return reason
    return Reason("step_failed", f"{where} ended with {done.rc}")


def isolation(seen: Mapping[str, Any]) -> list[Reason]:
    """Judge whether the machine was on its own.

    seen: targets (how many doors of the control node and the practice were tried), open_from_here (how many of them are
    open from outside, so that a closed one means something), open_from_machine, default_route, nas (whether the NAS's port
    answered).
    """
    if seen["open_from_machine"] or seen["default_route"]:
        text = f"the machine reached {seen['open_from_machine']} doors of the control node or the practice"
        text += ", and has a way out" if seen["default_route"] else ""
        return [Reason("not_blocked", f"{text}, so this shows nothing", INCONCLUSIVE)]
    if not seen["open_from_here"]:
        text = (
            "none of the doors that were tried is open to anybody, so that they are closed to the machine shows nothing"
        )
        return [Reason("block_not_shown", text, INCONCLUSIVE)]
    if not seen["nas"]:
        return [Reason("nas_unreachable", "the NAS does not answer at its backup port", INCONCLUSIVE)]
    return []


def conclude(
    practice: str, kit: Mapping[str, Any], found: Mapping[str, Any], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the body of the record from whatever the rehearsal got to.

    kit: {"sha256", "made"}. found: what break_glass_host.rehearse() returns, empty when it was not reached. machine:
    {"driver", "created", "disposed", "seconds"}.
    """
    items = list(found.get("items") or ())
    reasons = [Reason(**each) for each in found.get("reasons") or ()]
    if not found:
        reasons.append(Reason("not_run", "the rehearsal ended before the kit was opened", INCONCLUSIVE))
    elif not items and not reasons:
        reasons.append(Reason("zero_checked", "no item was recovered, so nothing was rehearsed"))
    if machine.get("created") and not machine.get("disposed"):
        text = "the machine, with restored data and the opened kit, could not be removed"
        reasons.append(Reason("machine_not_wiped", text))
    phases = dict(found.get("phases") or {})
    for item in items:
        for name, took in item["phases"].items():
            phases[name] = phases.get(name, 0.0) + took
    ordered = {name: round(phases[name], 3) for name in PHASES if name in phases}
    verdict = worst([*(item["verdict"] for item in items), *(reason.verdict for reason in reasons)])
    return {
        "rehearsal": "break_glass",
        "practice": practice,
        "verdict": verdict,
        "copy": "onsite",
        "kit": {"sha256": kit.get("sha256") or "", "made": found.get("made") or ""},
        "blocked": dict(found.get("blocked") or {}),
        "reasons": unique(reason.public() for reason in reasons),
        "items": [{**item, "phases": {n: round(s, 3) for n, s in item["phases"].items()}} for item in items],
        "not_run": list(found.get("not_run") or ()),
        "machine": dict(machine),
        "figures": {"phases": ordered, "total_s": round(sum(ordered.values()), 3), "queries": _total(items, "queries")},
    }


def _total(items: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(int(item.get(name) or 0) for item in items)


def item_verdict(reasons: Sequence[Reason], checked: int) -> tuple[str, list[dict[str, str]]]:
    """Judge an item: without a reason there must have been something to ask."""
    held = list(reasons)
    if not held and checked <= 0:
        held.append(Reason("zero_checked", "nothing that came back was asked or counted"))
    return worst([reason.verdict for reason in held] or ["PASS"]), [reason.public() for reason in held]


def describe(body: Mapping[str, Any]) -> list[str]:
    """Say a rehearsal in a few lines."""
    took = body["figures"]["phases"]
    lines = [f"{body['verdict']}: break-glass rehearsal of practice {body['practice']}"]
    if took:
        parts = ", ".join(f"{name[:-2].replace('_', ' ')} {spell(seconds)}" for name, seconds in took.items())
        lines[0] += f", {spell(body['figures']['total_s'])} ({parts})"
    blocked = body["blocked"]
    if blocked:
        lines.append(
            f"  on its own: {blocked['targets']} doors of the control node and the practice tried, "
            f"{blocked['open_from_machine']} open to the machine ({blocked['open_from_here']} to others)"
        )
    lines += [f"  {reason['code']}: {reason['message']}" for reason in body["reasons"]]
    for item in body["items"]:
        counts = [f"{item[name]} {name}" for name in ("queries", "tables", "rows", "files") if item.get(name)]
        lines.append(
            f"  {item['verdict']}: {item['item']} of {item['host']}" + (": " if counts else "") + ", ".join(counts)
        )
        lines += [f"    {reason['code']}: {reason['message']}" for reason in item["reasons"]]
    lines += [f"  not run: {row['item']}: {row['why']}" for row in body["not_run"]]
    return lines
