# SPDX-License-Identifier: Apache-2.0
"""Take a host out of a practice's folder, and later forget it: edits of the document's text and of the vault's entries.

Pure: text and data in, text and data out. The document is a person's: only the lines that speak of the host change. Every
edit is read again, and has to be exactly what was meant; where the text does not allow that (a document in one line, an odd
layout), nothing is changed and the message says what to write by hand.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import yaml
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, source
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import HostId, seconds
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Nas, Practice, RestoreHost, Retired
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import did_you_mean
from pydantic import TypeAdapter, ValidationError

REVOKED = ("vault_rest_passwords", "vault_nut_passwords")
KEPT = "vault_repository_passwords"
HEADING = "retired:   # taken out of use; their backups stay on the NAS until somebody deletes them on purpose"
Path = tuple[str | int, ...]


class RetiringError(Exception):
    """A host cannot be taken out; the message says why and what to do instead. Nothing was changed."""


@dataclass(frozen=True)
class Edit:
    """A new text of the document, and what goes with the host: items that nobody else protects, UPSs that fed it alone."""

    text: str
    items: tuple[str, ...] = ()
    ups: tuple[str, ...] = ()


# --- what is wanted, as data ----------------------------------------------------------------------------------------


def retire(raw: bytes, name: str, host: str, today: date, keep_until: str | None) -> Edit | None:
    """Move a host of a sound document to retired. None: it is retired already. name: how messages call the document.

    keep_until: a date, or None for as long as the practice's retention reaches. Raises RetiringError.
    """
    practice, data = _sound(raw, name)
    if host in (practice.retired or {}):
        return None
    _may_retire(practice, host)
    removed: list[Path] = [("hosts", host)]
    others = {item for each, known in data["hosts"].items() if each != host for item in known.get("protect") or []}
    items = tuple(item for item in data["hosts"][host].get("protect") or [] if item not in others)
    for item in items:
        removed.append(("protect", item))
        if item in (data.get("prove") or {}):
            removed.append(("prove", item))
    ups = []
    for each, battery in (data.get("power") or {}).items():
        if battery["feeds"] == [host]:
            removed.append(("power", each))
            ups.append(each)
        elif host in battery["feeds"]:
            removed.append(("power", each, "feeds", battery["feeds"].index(host)))
    known = practice.hosts[host]
    entry = {"date": today.isoformat(), "keep_until": keep_until or kept_until(practice, today).isoformat()}
    entry["address"] = getattr(known, "address")  # noqa: B009
    if "ssh_port" in known.model_fields_set:
        entry["ssh_port"] = getattr(known, "ssh_port")  # noqa: B009
    _check_entry(entry)
    text = _decoded(raw)
    for path in _highest_first(data, removed):
        text = _without(text, path)
    text = _with_entry(text, host, entry)
    return Edit(_proved(text, name, _less(data, removed), host, entry), items, tuple(ups))


def forget(raw: bytes, name: str, host: str) -> Edit | None:
    """Take a retired host out of the document altogether. None: there is nothing of it."""
    practice, data = _sound(raw, name)
    if host in practice.hosts:
        raise RetiringError(
            f"{host} is in use (hosts.{host} in {name}); only a retired host whose backups were deleted can be forgotten"
        )
    if host not in (practice.retired or {}):
        return None
    removed: list[Path] = [("retired", host)]
    text = _decoded(raw)
    for path in _highest_first(data, removed):
        text = _without(text, path)
    return Edit(_proved(text, name, _less(data, removed), None, None))


def revoke(vault: Mapping[str, Any], host: str) -> tuple[dict[str, Any], list[str]]:
    """Take a retired host's logins out of the vault; the password that opens its backups stays. Returns (vault, taken)."""
    return _taken(vault, host, REVOKED)


def erase(vault: Mapping[str, Any], host: str) -> tuple[dict[str, Any], list[str]]:
    """Take everything of a host out of the vault: its backups cannot be read any more, wherever a copy is left."""
    return _taken(vault, host, (*REVOKED, KEPT))


def _taken(vault: Mapping[str, Any], host: str, variables: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    left, taken = dict(vault), []
    for variable in variables:
        entries = left.get(variable)
        if isinstance(entries, Mapping) and host in entries:
            left[variable] = {name: value for name, value in entries.items() if name != host}
            taken.append(f"{variable}[{host}]")
    return left, taken


def kept_until(practice: Practice, today: date) -> date:
    """Say until when a retired host's backups are kept unless somebody decides otherwise: the longest retention."""
    said = [value for value in practice.retention.within.model_dump().values() if value]
    return max((after(today, value) for value in said), default=today)


def after(day: date, duration: str) -> date:
    """Give the day that is a duration (35d, 6mo, 7y) later; a year is a calendar's year."""
    found = re.fullmatch(r"(\d+)y", duration)
    if not found:
        return day + timedelta(days=-(-seconds(duration) // 86400))
    year = day.year + int(found[1])
    return date(year, 2, 28) if (day.month, day.day) == (2, 29) and year % 4 else day.replace(year=year)


def last_record(records: Sequence[Mapping[str, Any]], kind: str, host: str) -> Mapping[str, Any] | None:
    """Give the newest record of a kind about a host."""
    return next((r for r in reversed(records) if r["kind"] == kind and r["body"].get("host") == host), None)


def _may_retire(practice: Practice, host: str) -> None:
    known = practice.hosts.get(host)
    if known is None:
        near = did_you_mean(host, practice.hosts)
        listed = ", ".join(practice.hosts)
        raise RetiringError(f"no host is named {host!r}; expected one of {listed}" + (f"; {near}" if near else ""))
    if isinstance(known, Nas):
        raise RetiringError(
            f"{host} is a nas and holds the backups of the others; expected a server or workstation. To give up the whole "
            f"practice, run playbooks/retire_practice.yml"
        )
    if isinstance(known, RestoreHost):
        raise RetiringError(
            f"{host} is a restore_host and keeps nothing; expected a server or workstation. Just take its line out of hosts"
        )
    if not any(getattr(known, "protect", None) for each, known in practice.hosts.items() if each != host):
        raise RetiringError(
            f"{host} is the last host that backs up; write the machine that takes its place into the document first. To give "
            f"up the whole practice, run playbooks/retire_practice.yml"
        )
    for name, ups in (practice.power or {}).items():
        if ups.attached_to == host and ups.feeds != [host]:
            others = ", ".join(each for each in ups.feeds if each != host)
            raise RetiringError(
                f"the cable of {name} ends in {host}, which tells {others} when to stop; put the cable into another "
                f"machine and write that one in power.{name}.attached_to first"
            )


def _check_entry(entry: Mapping[str, Any]) -> None:
    try:
        TypeAdapter(Retired).validate_python(dict(entry))
    except ValidationError as error:
        context = error.errors()[0].get("ctx", {})
        expected = context.get("expected") or 'a date such as "2033-11-30"'
        raise RetiringError(f"keep until {entry['keep_until']!r}: expected {expected}") from None
    if entry["keep_until"] < entry["date"]:
        raise RetiringError(
            f"keep until {entry['keep_until']} lies in the past; expected a day from {entry['date']} on"
        )


def _sound(raw: bytes, name: str) -> tuple[Practice, dict[str, Any]]:
    document, problems = source.parse(raw, name)
    practice, problems = check.check(document, problems) if document else (None, problems)
    if practice is None or document is None:
        count = f"{len(problems)} {'mistake' if len(problems) == 1 else 'mistakes'}"
        raise RetiringError(f"the document has {count}; mend it first:\n" + "\n".join(map(str, problems)))
    return practice, document.data


def _less(data: Mapping[str, Any], removed: list[Path]) -> dict[str, Any]:
    """Give the data without what is removed; a mapping that would be empty goes as well."""
    left: dict[str, Any] = copy.deepcopy(dict(data))
    for path in removed:
        holder = source.value_at(left, path[:-1])
        del holder[path[-1]]
        if not holder:
            del left[str(path[0])]
    return left


def _highest_first(data: Mapping[str, Any], removed: list[Path]) -> list[Path]:
    """Give the paths whose text goes: a whole section once it loses all of its entries."""
    emptied = {path[0] for path in removed} - set(_less(data, removed))
    return [*((section,) for section in sorted(emptied, key=str)), *(p for p in removed if p[0] not in emptied)]


def _proved(text: str, name: str, wanted: dict[str, Any], host: str | None, entry: Mapping[str, Any] | None) -> str:
    """Read the new text again: it has to say exactly what is wanted, and be a sound document."""
    if host:
        wanted = {**wanted, "retired": {**(wanted.get("retired") or {}), host: dict(entry or {})}}
    document, problems = source.parse(text.encode(), name)
    if document is None or document.data != wanted:
        by_hand = (
            f"write {entry_text(host, entry)} below retired"
            if host and entry
            else "take the host's entry out of retired"
        )
        raise RetiringError(
            f"{name} is laid out in a way that cannot be changed safely; by hand: take every line about the host out of "
            f"hosts, power, protect and prove, and {by_hand}; then run this again"
            if host
            else f"{name} is laid out in a way that cannot be changed safely; by hand: {by_hand}; then run this again"
        )
    _practice, problems = check.check(document, problems)
    if problems:
        raise RetiringError(
            "without this host the document would have mistakes; mend what they say first:\n"
            + "\n".join(map(str, problems))
        )
    return text


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8-sig")


# --- the text ---------------------------------------------------------------------------------------------------------


def entry_text(host: str | None, entry: Mapping[str, Any] | None) -> str:
    """Write the line of a retired host."""
    plain = re.compile(r"\d+\.\d+\.\d+\.\d+|[A-Za-z][A-Za-z0-9.-]*")
    parts = []
    for key, value in (entry or {}).items():
        bare = isinstance(value, int) or (key == "address" and plain.fullmatch(value) and value.lower() not in _WORDS)
        parts.append(f"{key}: {value}" if bare else f'{key}: "{value}"')
    return f"{host}: {{{', '.join(parts)}}}"


_WORDS = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")


def _node(text: str) -> Any:
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _find(node: Any, path: Path) -> tuple[Any, int]:
    """Give the collection that holds the last part of a path, and which of its entries that is."""
    for depth, part in enumerate(path):
        if isinstance(node, yaml.MappingNode):
            at = next(index for index, (key, _value) in enumerate(node.value) if key.value == part)
            if depth == len(path) - 1:
                return node, at
            node = node.value[at][1]
        else:
            if depth == len(path) - 1:
                return node, int(part)
            node = node.value[int(part)]
    raise KeyError(path)


def _without(text: str, path: Path) -> str:
    """Take one entry out of the text: whole lines in block style, up to the comma in flow style."""
    holder, at = _find(_node(text), path)
    entries = [pair if isinstance(pair, tuple) else (pair, pair) for pair in holder.value]
    first, last = entries[at]
    if holder.flow_style:
        if at + 1 < len(entries):
            return text[: first.start_mark.index] + text[entries[at + 1][0].start_mark.index :]
        start = entries[at - 1][1].end_mark.index if at else first.start_mark.index
        return text[:start] + text[last.end_mark.index :]
    lines = text.splitlines(keepends=True)
    begin, end = first.start_mark.line, _last_line(last)
    return "".join(lines[:begin] + lines[end + 1 :])


def _last_line(node: Any) -> int:
    """Give the last line that a node is written on. A block collection ends with its last entry, not where YAML says."""
    if isinstance(node, yaml.ScalarNode):
        # a block scalar (| or >) ends at the beginning of the line after it
        ends_before = node.style in ("|", ">") and node.end_mark.column == 0
        return int(node.end_mark.line) - (1 if ends_before else 0)
    if node.flow_style or not node.value:
        return int(node.end_mark.line)
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)


def _with_entry(text: str, host: str, entry: Mapping[str, Any]) -> str:
    line, end = entry_text(host, entry), "\r\n" if "\r\n" in text else "\n"
    root = _node(text)
    section = next((value for key, value in root.value if key.value == "retired"), None)
    if section is None:
        whole = text if text.endswith("\n") else text + end
        return f"{whole}{end}{HEADING}{end}  {line}{end}"
    if section.flow_style:
        at = section.value[-1][1].end_mark.index
        return f"{text[:at]}, {line}{text[at:]}"
    lines = text.splitlines(keepends=True)
    last = _last_line(section)
    if not lines[last].endswith("\n"):
        lines[last] += end
    lines.insert(last + 1, " " * section.value[0][0].start_mark.column + line + end)
    return "".join(lines)


def valid_name(host: str) -> bool:
    """Say whether a text can be a host's name at all."""
    try:
        TypeAdapter(HostId).validate_python(host)
    except ValidationError:
        return False
    return True
