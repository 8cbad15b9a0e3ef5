# SPDX-License-Identifier: Apache-2.0
"""What a retirement came to: what the record says, and what a person is told. Pure; the filter of this name calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLEANED, BEFORE, NOT_REACHED, TROUBLE = "cleaned", "cleaned_before", "not_reached", "trouble"
WHOLE = "*"  # stands for the host's name in the record of a whole practice

_LEFT = "Left on it: packages such as restic and nut-client, its journal, and whoever may log in there still may"
_MACHINE = {
    CLEANED: "The machine is clean: agent, timers, credentials, caches, UPS configuration and stamp are gone{locked_out}. "
    f"It may join another practice. {_LEFT}.",
    BEFORE: "The machine was cleaned before.",
    NOT_REACHED: "The machine was NOT cleaned: {why}. It may still hold, for its root alone: timers that fail, logins that "
    "are refused now, and the password that opens what is kept here. When it turns up, run this again; when it was "
    "destroyed, there is nothing left to do.",
    TROUBLE: "The machine was NOT cleaned: {why}",
}


def machine_of(seen: Mapping[str, Any], why_not: str, known: Mapping[str, Any]) -> tuple[str, str]:
    """Say what became of a machine, and why when it was not cleaned.

    seen: retire_before, retire_after, retire_trouble of the play, as far as there are. why_not: why nobody went there.
    known: body of the record before this one.
    """
    before, after = seen.get("retire_before") or {}, seen.get("retire_after") or {}
    if seen.get("retire_trouble"):
        return TROUBLE, str(seen["retire_trouble"])
    # only the module's own answer counts: a task that was skipped leaves a result as well
    if "stamped" in after and not after.get("failed"):
        return CLEANED, ""
    if before.get("failed") and not before.get("unreachable"):
        return TROUBLE, str(before.get("msg") or "it could not be looked at")
    if not why_not:
        return NOT_REACHED, "it does not answer"
    if known.get("machine") in (CLEANED, BEFORE):
        return BEFORE, ""
    return NOT_REACHED, why_not


def amount(orphan: Mapping[str, Any]) -> str:
    """Say how much is kept, and how new it is."""
    size, snapshots = orphan.get("bytes"), int(orphan.get("snapshots") or 0)
    shown = "an unknown amount" if size is None else _size(int(size))
    newest = f", the newest of {orphan['newest']}" if orphan.get("newest") else ""
    return f"{shown} in {snapshots} {'snapshot' if snapshots == 1 else 'snapshots'}{newest}"


def _size(size: int) -> str:
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _known(about: Mapping[str, Any], host: str) -> Mapping[str, Any]:
    """Give the body of the newest retirement; what an earlier machine of this name came to is no news of this one."""
    last, deleted = about.get(f"retirement/{host}"), about.get(f"deletion/{host}")
    if not last or (deleted and deleted["seq"] > last["seq"]):
        return {}
    return dict(last["body"])


def host_outcome(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conclude the retirement of one host.

    facts: host, practice, retired (its entry), why_not, seen (see machine_of), nas {NAME: result of nas_repository},
    primaries [NAME], about (of the evidence), check. Returns {machine, why, lines, body, record, clean}.
    """
    host, retired = str(facts["host"]), facts["retired"]
    known = _known(facts["about"], host)
    seen = facts.get("seen") or {}
    machine, why = machine_of(seen, str(facts.get("why_not") or ""), known)
    kept = {
        nas: orphan
        for nas, result in facts["nas"].items()
        for orphan in result.get("orphans") or []
        if orphan["name"] == host
    }
    login = str((seen.get("retire_before") or {}).get("login", "not_asked"))
    changed = bool((seen.get("retire_after") or {}).get("changed")) or any(
        result.get("changed") for result in facts["nas"].values()
    )
    body = {
        "host": host,
        "retired": retired["date"],
        "keep_until": retired["keep_until"],
        "accounts_closed": {"nas": sorted(facts["nas"]), "ups": sorted(facts["primaries"])},
        "machine": machine,
        "login": login,
        "kept": kept,
    }
    return {
        "machine": machine,
        "why": why,
        "body": body,
        "record": changed or not known or machine not in (known.get("machine"), BEFORE),
        "clean": machine in (CLEANED, BEFORE),
        "lines": _dry(facts) + _host_lines(facts, machine, why, login, kept),
    }


def _dry(facts: Mapping[str, Any]) -> list[str]:
    return ["With --check nothing was done. Without it, this would be said:"] if facts["check"] else []


def _host_lines(
    facts: Mapping[str, Any], machine: str, why: str, login: str, kept: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    retired = facts["retired"]
    closed = f"its account on {', '.join(facts['nas'])}"
    if facts["primaries"]:
        closed += f", its login at the UPS on {', '.join(facts['primaries'])}"
    until = f", until {retired['keep_until']}" if retired["keep_until"] else ""
    stored = "; ".join(f"on {nas} {amount(orphan)}" for nas, orphan in kept.items())
    locked_out = "; before that, its own login was seen to be refused" if login == "refused" else ""
    return [
        f"{facts['host']} of {facts['practice']}, retired on {retired['date']}.",
        f"Closed: {closed}.",
        _MACHINE[machine].format(why=why, locked_out=locked_out),
        f"Kept{until}: {stored}." if stored else "Kept: nothing, it never backed up.",
        "The password that opens it stays in the vault. How to read or delete it: docs/retiring.md.",
    ]


def _kept(facts: Mapping[str, Any]) -> tuple[dict[str, list[Any]], str | None]:
    """Say what is kept of a practice, and when it was counted: None for now.

    Once the pool is unmounted nobody can count any more. Then the record before tells, but for what was deleted since.
    """
    now = {nas: list(result.get("orphans") or []) for nas, result in facts["nas"].items()}
    last = facts["about"].get(f"retirement/{WHOLE}")
    if any(now.values()) or not last:
        return now, None
    deleted = {name for name in facts["about"] if name.startswith("deletion/")}
    gone = {name for name in deleted if facts["about"][name]["seq"] > last["seq"]}
    known = last["body"].get("kept") or {}
    left = {nas: [o for o in each if f"deletion/{o['name']}" not in gone] for nas, each in known.items()}
    return left, last["body"].get("counted_at") or last["at"]


def practice_outcome(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conclude the retirement of a whole practice.

    facts: practice, name, folder, machines {NAME: what its play left}, nas {NAME: result of nas_repository}, about,
    check. Returns {machines, lines, body, record, clean}; clean is False when a machine that answered could not be cleaned.
    """
    known = _known(facts["about"], WHOLE)
    seen = {name: machine_of(left, "", {}) for name, left in facts["machines"].items()}
    machines = {name: machine for name, (machine, _why) in seen.items()}
    changed = any(bool((left.get("retire_after") or {}).get("changed")) for left in facts["machines"].values())
    kept, counted_at = _kept(facts)
    as_of = f" (as counted at {counted_at})" if counted_at else ""
    says = {CLEANED: "clean", NOT_REACHED: "NOT cleaned, it does not answer; run this again when it turns up"}
    return {
        "machines": machines,
        "body": {"host": WHOLE, "machines": machines, "kept": kept, "counted_at": counted_at},
        "record": changed or known.get("machines") != machines,
        "clean": TROUBLE not in machines.values(),
        "lines": [
            *_dry(facts),
            f"{facts['name']} ({facts['practice']}) is retired: no backup is made any more, and no UPS stops anything.",
            *(f"{name}: {says.get(machine) or f'NOT cleaned: {why}'}." for name, (machine, why) in seen.items()),
            *(
                f"Kept on the disks of {nas}{as_of}: {o['name']}, {amount(o)}."
                for nas, each in kept.items()
                for o in each
            ),
            f"Keep {facts['folder']} and its vault password as long as any of it may have to be read: nobody can without them.",
            "Take that folder out of whatever runs regularly: playbooks/site.yml would build the practice again.",
        ],
    }


def outcome(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conclude a retirement, of one host or (without "host") of a whole practice."""
    return host_outcome(facts) if "host" in facts else practice_outcome(facts)
