# SPDX-License-Identifier: Apache-2.0
"""Turn what hosts told a survey into survey.json, what is not protected, the lines that would protect it, and a summary.

Pure, but for stored(), which reads the file back. Lines are offered only when the document with them is right: each one is
tried on the document first, so that a part that this version does not do is said to be so instead of being offered.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, feasibility, source
from ansible_collections.holdfast.practice.plugins.plugin_utils.feasibility_plan import (
    rate_words,
    size_words,
    time_words,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import NOT_AVAILABLE
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice, RestoreHost, Server, Workstation
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Document

FORMAT = 1
FILE = "results/survey.json"
# the module's call itself takes a second or two; arrival times and certificates suffer from minutes
CLOCK_OFF_S = 30
KINDS = {
    "documents": "documents",
    "images": "images",
    "mail": "mail",
    "spreadsheets": "spreadsheets",
    "files": "files of no kind that we know",
}
ENGINES = {
    "postgresql": "PostgreSQL",
    "mariadb": "MariaDB",
    "sqlite": "SQLite",
    "firebird": "Firebird",
    "sqlserver": "SQL Server",
}


class InvalidSurveyError(Exception):
    """A stored survey that cannot be used; the text says why and what to do."""


@dataclass(frozen=True)
class Offer:
    """Lines that would protect what a survey found. host: whose protect list it goes on; protect: that list, with it.

    reason: why it cannot be protected, and empty when it can; then line is the item's line below protect.
    """

    host: str
    item: str
    what: str
    line: str
    protect: str
    reason: str = ""


def stored(folder: Path, practice: str) -> dict[str, Any] | None:
    """Read what the last survey of a practice left in its folder; None when there was none."""
    path = folder / FILE
    try:
        survey = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        text = f"{path}: cannot be read ({error}); delete it, or run playbooks/survey.yml again"
        raise InvalidSurveyError(text) from error
    if not isinstance(survey, dict) or survey.get("format") != FORMAT or survey.get("practice") != practice:
        raise InvalidSurveyError(f"{path}: not a survey of {practice}; delete it, or run playbooks/survey.yml again")
    return survey


def collect(
    practice: Practice,
    found: Mapping[str, Mapping[str, Any]],
    now: dt.datetime,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the survey of what the hosts said. found: each host's result as Ansible registered it, empty when not asked.

    before: the survey before this one, for hosts that were not asked this time (--limit).
    """
    at = now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    former = (before or {}).get("hosts", {})
    hosts = {}
    for name in practice.hosts:
        result = found.get(name) or {}
        hosts[name] = former[name] if not result and name in former else {"at": at, **_host(practice, name, result)}
    return {
        "format": FORMAT,
        "practice": practice.practice.id,
        "at": at,
        "hosts": hosts,
        "items": _items(practice, hosts),
        # what the line to the world carries can only be measured with somebody at its other end: see line: in the document
        "line": {"up_bits_per_s": None, "down_bits_per_s": None, "measured": False},
    }


def _host(practice: Practice, name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    facts = result.get("survey")
    if not isinstance(facts, Mapping):
        said = " ".join(str(result.get("msg") or "not asked").split())
        return {"reached": False, "why": re.sub(r"^(Task failed: |Module failed: )+", "", said)[:300]}
    databases = [{**each, "protected_by": _database_item(practice, name, each)} for each in facts.get("databases", [])]
    stores = []
    for each in facts.get("stores", []):
        plain = {key: value for key, value in each.items() if key != "item"}
        stores.append({**plain, "protected_by": each.get("item") or _path_item(practice, name, each["path"])})
    return {"reached": True, **facts, "databases": databases, "stores": stores}


def _protected(practice: Practice, host: str) -> list[str]:
    return list(getattr(practice.hosts[host], "protect", None) or [])


def _path_item(practice: Practice, host: str, path: str) -> str | None:
    for name in _protected(practice, host):
        item = practice.protect[name]
        roots = [*(item.paths or []), *([item.images.root] if item.images else [])]
        if any(f"{path}/".startswith(root.rstrip("/") + "/") for root in roots):
            return name
    return None


def _database_item(practice: Practice, host: str, found: Mapping[str, Any]) -> str | None:
    for name in _protected(practice, host):
        database = practice.protect[name].database
        if database and database.engine == found["engine"]:
            same_name = database.name is not None and database.name == found.get("name")
            if same_name or (database.path is not None and database.path == found.get("path")):
                return name
    return _path_item(practice, host, found["path"]) if found.get("path") else None


def _items(practice: Practice, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int | None]]:
    """Add up each item over the hosts that protect it; null when one of them did not tell."""
    items = {}
    for name in practice.protect:
        parts = [hosts[host].get("items", {}).get(name, {}) for host in hosts if name in _protected(practice, host)]
        sums: dict[str, int | None] = {}
        for key in ("bytes", "changed_bytes_per_day"):
            values = [part.get(key) for part in parts]
            sums[key] = None if None in values else sum(values)
        items[name] = sums
    return items


def reach(practice: Practice, survey: Mapping[str, Any]) -> str:
    """Say which hosts could not be looked at, or nothing; the control node, where restores are tried, is always there."""
    missing = [name for name, facts in survey["hosts"].items() if not facts["reached"]]
    if not missing:
        return ""
    machines = {name for name, host in practice.hosts.items() if not isinstance(host, RestoreHost)}
    if machines <= set(missing):
        return "No host of the practice could be looked at; see why above, and check addresses, known_hosts and access."
    return f"Could not be looked at: {', '.join(missing)}; see why above. What the others hold is in {FILE}."


def offers(document: Document, practice: Practice, survey: Mapping[str, Any]) -> list[Offer]:
    """Offer a line for everything that is not protected, and say why where there is none."""
    made = []
    working = document
    for host, what, item in _unprotected(practice, survey):
        if not isinstance(practice.hosts[host], (Server, Workstation)):
            kind = practice.hosts[host].kind
            reason = f"{host} is a {kind}, which has no protect: list; move the data to a server"
            made.append(Offer(host, "", what, "", "", reason))
            continue
        if item is None:
            made.append(Offer(host, "", what, "", "", "find out which databases there are, and describe them by name"))
            continue
        name = _name(item, host, working.data["protect"])
        tried, problem = _tried(working, host, name, item)
        if tried is None:
            reason = (
                problem.removesuffix(NOT_AVAILABLE).strip() + f" {NOT_AVAILABLE}"
                if NOT_AVAILABLE in problem
                else problem
            )
            made.append(Offer(host, name, what, _line(name, item), "", reason))
            continue
        working = tried
        made.append(Offer(host, name, what, _line(name, item), ""))
    # the whole list, once all of them are on it
    listed = {host: _flow(working.data["hosts"][host].get("protect") or []) for host in {each.host for each in made}}
    return [offer if offer.reason else replace(offer, protect=f"protect: {listed[offer.host]}") for offer in made]


def _unprotected(practice: Practice, survey: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """Give (host, what it is in words, the item that would protect it); stores in one folder come as one."""
    for host, facts in survey["hosts"].items():
        if not facts["reached"]:
            continue
        for database in facts["databases"]:
            if not database["protected_by"]:
                yield host, *_database_offer(database)
        by_path: dict[str, list[Mapping[str, Any]]] = {}
        for store in facts["stores"]:
            if not store["protected_by"]:
                by_path.setdefault(store["path"], []).append(store)
        covered: list[str] = []
        for path in sorted(by_path):
            if any(f"{path}/".startswith(f"{above}/") for above in covered):
                continue
            covered.append(path)
            yield host, f"{' and '.join(_store_words(each) for each in by_path[path])} in {path}", {"paths": [path]}


def _store_words(store: Mapping[str, Any]) -> str:
    kind = "images (DICOM)" if store.get("dicom") else KINDS[store["kind"]]
    return f"{kind} ({store['files']} files, {size_words(store['bytes'])})"


def _database_offer(database: Mapping[str, Any]) -> tuple[str, dict[str, Any] | None]:
    engine = database["engine"]
    words = ENGINES.get(engine, engine)
    size = f" ({size_words(database['bytes'])})" if database.get("bytes") is not None else ""
    if database.get("folder"):
        return f"{database.get('count')} databases of {words}{size} below {database['folder']}", None
    if database.get("path"):
        return f"a database of {words}{size}: {database['path']}", {
            "database": {"engine": engine, "path": database["path"]}
        }
    if database.get("name"):
        return f"the {words} database {database['name']}{size}", {
            "database": {"engine": engine, "name": database["name"]}
        }
    where = f" on port {database['port']}" if database.get("port") else ""
    return f"{words} runs{where}, and does not tell its databases", None


def _name(item: Mapping[str, Any], host: str, taken: Mapping[str, Any]) -> str:
    """Name an item after its folder or database: letters and digits, and not one that is there."""
    database = item.get("database") or {}
    raw = database.get("name") or Path(database.get("path") or item["paths"][0]).stem
    plain = unicodedata.normalize("NFKD", raw.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:40].strip("_") or "data"
    choices = [base, f"{host.replace('-', '_')}_{base}"[:60].strip("_")]
    choices += [f"{choices[1]}_{number}" for number in range(2, 1000)]
    return next(choice for choice in choices if choice not in taken)


def _tried(document: Document, host: str, name: str, item: Mapping[str, Any]) -> tuple[Document | None, str]:
    """Put an item into a copy of the document. Returns the copy, or None and what is wrong with it."""
    again, problems = source.parse(f"protect:\n  {_line(name, item)}\n".encode(), "line")
    if again is None or problems or again.hazards or again.data != {"protect": {name: dict(item)}}:
        return None, "its name cannot be written in a practice document; give it a plain one"
    data = copy.deepcopy(document.data)
    data["protect"][name] = copy.deepcopy(dict(item))
    data["hosts"][host]["protect"] = [*(data["hosts"][host].get("protect") or []), name]
    tried = replace(document, data=data)
    practice, wrong = check.check(tried)
    return (tried, "") if practice else (None, wrong[0].got)


def _flow(value: Any) -> str:
    """Write a value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False).strip()


def _line(name: str, item: Mapping[str, Any]) -> str:
    return f"{name}: {_flow(dict(item))}"


def summary(
    practice: Practice, survey: Mapping[str, Any], offered: Sequence[Offer], problems: Sequence[source.Problem]
) -> list[str]:
    """Say what was found, what to add, and what the plan comes to, line by line."""
    hosts = survey["hosts"]
    reached = [name for name, facts in hosts.items() if facts["reached"]]
    lines = [f"{practice.practice.name}: {len(reached)} of {len(hosts)} hosts looked at ({survey['at']})"]
    lines += [f"NOT LOOKED AT: {name}: {facts['why']}" for name, facts in hosts.items() if not facts["reached"]]
    for name in reached:
        lines += _host_lines(practice, name, hosts[name], survey["at"])
    lines += _offer_lines(offered)
    lines.append("What the plan comes to (measured, declared or assumed):")
    for figure in feasibility.figures(practice, survey):
        mark = "" if figure.state in (feasibility.OK, feasibility.NOT_PLANNED) else f"{figure.state.upper()}: "
        lines.append(f"  {mark}{figure.name}: {figure.value} [{figure.source}]")
    lines += [f"IMPOSSIBLE: {problem}" for problem in problems]
    return lines


_NO_CHANGE = "change not known (most of it was written in the last week, or its engine does not tell)"


def _host_lines(practice: Practice, name: str, facts: Mapping[str, Any], now: str) -> Iterator[str]:
    former = f" (as of {facts['at']}: not asked this time)" if facts["at"] != now else ""
    yield f"{name}: {', '.join(str(each) for each in (facts.get('os'), facts.get('zone')) if each)}{former}"
    for item, size in facts.get("items", {}).items():
        words = size_words(size["bytes"]) if size["bytes"] is not None else "size not known"
        change = size["changed_bytes_per_day"]
        words += f", {size_words(change)} changed a day" if change is not None else f", {_NO_CHANGE}"
        files = f", {size['files']} files" if size.get("files") else ""
        yield f"  protected: {item}: {words}{files}"
        for missing in size["missing"]:
            yield f"  MISSING: {item} protects {missing}, which is not there"
    yield from _machine_lines(practice, name, facts)
    yield from (f"  note: {note}" for note in facts.get("notes", []))


def _machine_lines(practice: Practice, name: str, facts: Mapping[str, Any]) -> Iterator[str]:
    offset = facts.get("clock_offset_s")
    if offset is not None and abs(offset) > CLOCK_OFF_S:
        way = "ahead of" if offset > 0 else "behind"
        yield f"  CLOCK: {time_words(abs(offset))} {way} the control node; let it follow a time server"
    zone = facts.get("zone")
    if zone and zone != practice.practice.timezone and not isinstance(practice.hosts[name], RestoreHost):
        yield f"  note: its zone is {zone}, the practice's {practice.practice.timezone} (backups follow the practice's)"
    for system in facts.get("filesystems", []):
        yield f"  {system['mount']}: {size_words(system['free'])} free of {size_words(system['bytes'])}"
    if facts.get("pool"):
        yield f"  pool: {size_words(facts['pool']['free'])} free of {size_words(facts['pool']['bytes'])}"
    if facts.get("restore"):
        yield f"  room for restores: {size_words(facts['restore']['free'])} free"
    for disk in facts.get("disks", []):
        yield f"  disk {disk['device']}: {size_words(disk['bytes'])}, used for {disk['used_for']}"
    if facts.get("link_bits_per_s"):
        yield f"  link: {rate_words(facts['link_bits_per_s'])}"
    known = [ups.driver for ups in (practice.power or {}).values() if ups.attached_to == name]
    for ups in facts.get("ups", []):
        yield f"  UPS on USB: {ups['vendor']} {ups['product']}, driver {ups['driver']}"
        if ups["driver"] not in known:
            line = f"{{attached_to: {name}, driver: {ups['driver']}, feeds: [{name}], runtime: 5m}}"
            yield f"    not in the document; add below power (correct feeds and runtime): ups-{name}: {line}"


def _offer_lines(offered: Sequence[Offer]) -> Iterator[str]:
    if not offered:
        yield "Nothing was found that is not protected."
        return
    for offer in offered:
        yield f"NOT PROTECTED: {offer.host}: {offer.what}" + (f": {offer.reason}" if offer.reason else "")
    good = [offer for offer in offered if not offer.reason]
    if good:
        yield "To protect it, add to practice.yml:"
        yield "  protect:"
        yield from (f"    {offer.line}" for offer in good)
        for host in dict.fromkeys(offer.host for offer in good):
            line = next(offer.protect for offer in good if offer.host == host)
            yield f"  and give {host} in hosts: {line}"
