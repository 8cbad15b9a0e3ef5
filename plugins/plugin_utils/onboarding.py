# SPDX-License-Identifier: Apache-2.0
"""Turn the answers of an interview into a practice document that a person can read and change. Pure.

Answers are checked by the practice document's own rules: they are composed into the document's data, and what is wrong there is
said at the answer that it came from.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.holdfast.practice.plugins.plugin_utils import check, source
from ansible_collections.holdfast.practice.plugins.plugin_utils.answers import (
    AGENT,
    GENERATE,
    Answers,
    only_zone,
    slug,
    zones,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.compiler import proof_intervals
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import Document, KeyPath, Problem, dotted, show
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import mapping, strings

KEY_FILE = "ssh_key"
LUNCH = "12:30"

# --- answers into a document ----------------------------------------------------------------------------------------


@dataclass
class Draft:
    """The data of a practice document, and which answer each part of it came from."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, KeyPath] = field(default_factory=dict)

    def came_from(self, path: KeyPath, answer: KeyPath) -> None:
        """Note where a part came from."""
        self.origins[dotted(path)] = answer

    def answer_of(self, path: str) -> KeyPath:
        """Give the answer behind a place of the document, or the nearest part above it; () for what we made up."""
        best = max(
            (each for each in self.origins if path == each or path.startswith((f"{each}.", f"{each}["))),
            key=len,
            default=None,
        )
        if best is None:
            return ()
        index = re.fullmatch(r"\[(\d+)\]", path[len(best) :])
        return (*self.origins[best], int(index[1])) if index else self.origins[best]


def compose(answers: Mapping[str, Any], proposed_id: str = "") -> Draft:
    """Compose a document's data from answers that are right as far as they go; what is not answered yet is left out."""
    draft = Draft()
    _compose_head(draft, answers, proposed_id)
    hosts = draft.data["hosts"] = {}
    protect = draft.data["protect"] = {}
    nas = mapping(answers.get("nas"))
    nas_name = nas.get("name", "nas1")
    disks = nas.get("disks") or []
    hosts[nas_name] = {"kind": "nas", **_place(nas)}
    hosts[nas_name]["pool"] = {"profile": "single" if len(disks) == 1 else "raid1", "devices": disks}
    _trace(draft, nas_name, ("nas",))
    draft.came_from(("hosts", nas_name, "pool", "devices"), ("nas", "disks"))
    for kind, section in (("server", "servers"), ("workstation", "workstations")):
        for index, machine in enumerate(answers.get(section) or []):
            name = machine.get("name")
            if name is None or name in hosts:
                continue  # a name that came twice is said by _twice
            names = _compose_items(draft, protect, machine, (section, index), kind)
            hosts[name] = {"kind": kind, **_place(machine), **({"protect": names} if names else {})}
            _trace(draft, name, (section, index))
    proof = next(name for number in range(1, 100) if (name := f"proof{number}") not in hosts)
    hosts[proof] = {"kind": "restore_host", "driver": "nspawn", "on": "localhost"}
    draft.data["copies"] = {"onsite": {"on": nas_name}}
    _compose_power(draft, answers, [name for name in hosts if name != proof])
    return draft


def _place(machine: Mapping[str, Any]) -> dict[str, Any]:
    return {key: machine[key] for key in ("address", "ssh_port") if key in machine and machine[key] != 22}


def _trace(draft: Draft, name: str, answer: KeyPath) -> None:
    draft.came_from(("hosts", name), answer)
    for key in ("address", "ssh_port"):
        draft.came_from(("hosts", name, key), (*answer, key))


def _compose_head(draft: Draft, answers: Mapping[str, Any], proposed_id: str) -> None:
    country = answers.get("country", "")
    practice = {
        "id": answers.get("id") or proposed_id,
        "name": answers.get("name"),
        "country": country,
        "timezone": answers.get("timezone") or only_zone(country),
    }
    draft.data["practice"] = {key: value for key, value in practice.items() if value}
    for key in practice:
        draft.came_from(("practice", key), (key,))
    contacts = draft.data["contacts"] = {}
    for part, key in (("backup_owner", "manager"), ("it_provider", "provider")):
        person = mapping(answers.get(key))
        if person:
            role = {"role": "practice manager"} if key == "manager" else {}
            contacts[part] = {"name": person.get("name"), **role, "email": person.get("email")}
        draft.came_from(("contacts", part), (key,))
    if answers.get("hours"):
        draft.data["hours"] = dict(answers["hours"])
    draft.came_from(("hours",), ("hours",))
    access = mapping(answers.get("access"))
    draft.data["access"] = {"user": access.get("user", "root")}
    if access.get("key", GENERATE) != AGENT:
        draft.data["access"]["key"] = KEY_FILE
    draft.came_from(("access",), ("access",))


def _compose_items(
    draft: Draft, protect: dict[str, Any], machine: Mapping[str, Any], answer: KeyPath, kind: str
) -> list[str]:
    names = []
    host = machine["name"]
    for index, database in enumerate(machine.get("databases") or []):
        called = database.get("name") or Path(database.get("path") or "").stem
        name = _free(
            protect,
            f"{slug(called, '_', 60)}_db".lstrip("_"),
            f"{slug(host, '_', 28)}_{slug(called, '_', 28)}_db",
            "database",
        )
        described = {key: database[key] for key in ("engine", "name", "path") if database.get(key)}
        protect[name] = {"database": described, "class": "critical"}
        if database.get("images"):
            protect[name]["images"] = dict(database["images"])
        here = (*answer, "databases", index)
        draft.came_from(("protect", name), here)
        draft.came_from(("protect", name, "database"), here)
        for key in ("engine", "name", "path"):
            draft.came_from(("protect", name, "database", key), (*here, key))
        for key in ("images", "images.query", "images.root"):
            draft.came_from(("protect", name, *key.split(".")), (*here, *key.split(".")))
        names.append(name)
    if machine.get("folders"):
        name = _free(protect, f"{slug(host, '_', 57)}_files", f"{slug(host, '_', 51)}_more_files", "files")
        protect[name] = {"paths": list(machine["folders"])}
        if kind == "workstation":
            protect[name]["at"] = LUNCH
        draft.came_from(("protect", name), answer)
        draft.came_from(("protect", name, "paths"), (*answer, "folders"))
        names.append(name)
    return names


def _free(taken: Mapping[str, Any], *wishes: str) -> str:
    """Choose the first name that is free, and that nobody takes for a secret; else number the last wish."""
    numbered = (f"{wishes[-1][:58]}_{number}" for number in range(2, 10**4))
    return next(name for name in (*wishes, *numbered) if name not in taken and not source.is_secret_name(name))


def _compose_power(draft: Draft, answers: Mapping[str, Any], machines: list[str]) -> None:
    power: dict[str, Any] = {}
    for index, ups in enumerate(answers.get("ups") or []):
        name = ups.get("name") or _free(power, f"ups{index + 1}", "ups")
        if name in power:
            continue
        power[name] = {
            "attached_to": ups.get("attached_to") or machines[0],
            "driver": ups.get("driver"),
            **({"port": ups["port"]} if ups.get("port") else {}),
            "feeds": list(ups.get("feeds") or machines),
            "runtime": ups.get("runtime"),
        }
        draft.came_from(("power", name), ("ups", index))
        for key in power[name]:
            draft.came_from(("power", name, key), ("ups", index, key))
        draft.came_from(("power", name, "port"), ("ups", index, "port"))
    if power:
        draft.data["power"] = power


def _twice(document: Document) -> Iterator[Problem]:
    """Refuse a name that two answers give: one of the two machines would be lost on the way."""
    seen: dict[str, str] = {}
    data = document.data
    places: list[KeyPath] = [("nas",)]
    for section in ("servers", "workstations", "ups"):
        places += [(section, index) for index, _ in enumerate(data.get(section) or [])]
    for place in places:
        name = mapping(source.value_at(data, place)).get("name", "nas1" if place == ("nas",) else None)
        if isinstance(name, str):
            if name in seen:
                got = f"got {show(name)}, the name of {seen[name]}"
                yield document.problem((*place, "name"), got, "a name of its own")
            seen.setdefault(name, dotted(place))


# --- checking -------------------------------------------------------------------------------------------------------


def problems_of_parts(document: Document) -> list[Problem]:
    """Say what is wrong with answers in themselves."""
    return check.check_parts(document, Answers)[1]


def problems_between(document: Document, proposed_id: str = "") -> list[Problem]:
    """Say what the practice document's rules have against answers that are right in themselves, at the answers' places."""
    draft = compose(document.data, proposed_id)
    _, found = check.check(Document(document.file, data=draft.data))
    return [*_twice(document), *(_at_answer(document, draft, problem) for problem in found)]


def _at_answer(document: Document, draft: Draft, problem: Problem) -> Problem:
    path = draft.answer_of(problem.path)
    if not path:
        return replace(problem, file=document.file, line=0, column=0)
    line, column = document.mark(path)
    return replace(problem, line=line, column=column, path=dotted(path))


def check_answers(raw: bytes, file: str, proposed_id: str) -> tuple[Draft | None, Answers | None, list[Problem]]:
    """Check a file of answers as a whole. Returns the document's draft and the answers, or all that is wrong."""
    document, found = source.parse(raw, file)
    if document is None:
        return None, None, found
    answers, of_parts = check.check_parts(document, Answers)
    found = [*found, *of_parts]
    if not found:
        found = problems_between(document, proposed_id)
        if not document.data.get("timezone") and not only_zone(document.data["country"]):
            found = [_several_zones(document) if problem.path == "timezone" else problem for problem in found]
    if found or answers is None:
        return None, None, sorted(set(found))
    return compose(document.data, proposed_id), answers, []


def _several_zones(document: Document) -> Problem:
    country = document.data["country"]
    some = ", ".join(zones(country)[:6])
    expected = (
        f"a time zone: {country} has {some} and others" if some else "an IANA region zone such as Australia/Perth"
    )
    return document.problem(("timezone",), "missing", expected)


def document_of(answers: Mapping[str, Any]) -> tuple[Document | None, list[Problem]]:
    """Make a document of answers that were typed, so that they are read the way a file's are."""
    return source.parse(yaml.safe_dump(dict(answers), allow_unicode=True).encode(), "answers")


def problems_at(
    answers: Mapping[str, Any], place: KeyPath, watch: Iterable[KeyPath] = (), proposed_id: str = ""
) -> list[Problem]:
    """Say what is wrong at and below a place of answers that may be unfinished elsewhere, and exactly at the watched ones."""
    wanted, watched = dotted(place), [dotted(each) for each in watch]

    def here(found: Iterable[Problem]) -> list[Problem]:
        below = (f"{wanted}.", f"{wanted}[")
        return [each for each in found if each.path in (wanted, *watched) or each.path.startswith(below)]

    document, unreadable = document_of(answers)
    if document is None:
        return unreadable
    return here(problems_of_parts(document)) or here(problems_between(document, proposed_id))


# --- the document as text -------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+-]+)*")


def scalar(value: object) -> str:
    """Write one value so that YAML reads it back as it is: without quotes only where nobody can misread it."""
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text:
        return text
    return "".join(
        char if char.isprintable() else f"\\U{ord(char):08x}" for char in json.dumps(text, ensure_ascii=False)
    )


def _list(values: Iterable[object]) -> str:
    return f"[{', '.join(scalar(value) for value in values)}]"


def _flow(data: Mapping[str, Any]) -> str:
    parts = []
    for key, value in data.items():
        text = (
            _flow(value)
            if isinstance(value, dict)
            else _list(value)
            if isinstance(value, list)
            else _quoted(key, value)
        )
        parts.append(f"{key}: {text}")
    return f"{{{', '.join(parts)}}}"


def _quoted(key: str, value: object) -> str:
    # A country may be NO and a query may hold ": ": in quotes from the start, so that whoever changes one keeps them
    return json.dumps(value) if key in ("country", "query") and str(value).isascii() else scalar(value)


def render(data: Mapping[str, Any]) -> str:
    """Write a practice document with comments that say what can be changed."""
    practice = check.check(Document("", data=dict(data)))[0]
    if practice is None:
        raise ValueError("only a checked document is written")
    parts = [_head(data), _hosts(data), _protect(data), _rest(data, practice)]
    return "\n\n".join(parts) + "\n"


def _head(data: Mapping[str, Any]) -> str:
    lines = [
        "# Everything Holdfast knows about this practice. Change it here, check it (bin/holdfast validate FOLDER; no host is",
        "# touched), then run playbooks/site.yml again. What else can be said: bin/holdfast schema, inventories/harbour-street.",
        f"practice: {_flow(data['practice'])}",
        "",
        "contacts:   # whom reports go to",
        *[f"  {role}: {_flow(person)}" for role, person in data["contacts"].items()],
        "",
    ]
    if "hours" in data:
        lines += [f"hours: {_flow(data['hours'])}   # times always in quotes; backups start when people have gone", ""]
    lines += [
        "objectives: {rpo: 24h, rto: 4h}   # at most a day's work lost; working again after four hours",
        "",
        f"access: {_flow(data['access'])}"
        + (
            "   # the private key lies in this folder"
            if "key" in data["access"]
            else "   # add key: FILE, a key in this folder"
        ),
    ]
    return "\n".join(lines)


def _hosts(data: Mapping[str, Any]) -> str:
    lines = ["hosts:   # names are for good: backups lie under them"]
    for name, host in data["hosts"].items():
        if host["kind"] == "nas":
            lines += [f"  {name}:"]
            lines += [f"    {key}: {scalar(value)}" for key, value in host.items() if key != "pool"]
            lines += ["    pool:   # empty disks; what is on a disk is never written over"]
            lines += [f"      profile: {host['pool']['profile']}", "      devices:"]
            lines += [f"        - {scalar(device)}" for device in host["pool"]["devices"]]
        else:
            note = "   # restores are tried here, then thrown away" if host["kind"] == "restore_host" else ""
            lines += [f"  {name}: {_flow(host)}{note}"]
    return "\n".join(lines)


def _protect(data: Mapping[str, Any]) -> str:
    lines = ["protect:   # what is backed up; class: critical, sensitive or ordinary"]
    for name, item in data["protect"].items():
        lines += [f"  {name}:"]
        for key, value in item.items():
            note = ""
            if key == "class" and item.get("database"):
                note = '   # a critical database is saved every 4h; every: 1h or at: "21:00" say otherwise'
            elif key == "at":
                note = "   # at lunch, as workstations are off at night"
            elif key == "paths":
                note = '   # also: must_have: [PATH], exclude: ["*.tmp"]'
            text = (
                _flow(value) if isinstance(value, dict) else _list(value) if isinstance(value, list) else scalar(value)
            )
            lines += [f"    {key}: {text}{note}"]
    return "\n".join(lines)


def _rest(data: Mapping[str, Any], practice: Practice) -> str:
    within = practice.retention.within.model_dump(exclude_none=True)
    lines = ["copies:", f"  onsite: {_flow(data['copies']['onsite'])}", ""]
    lines += ["retention:   # how far back, by how dense", f"  within: {_flow(within)}", ""]
    if "power" in data:
        lines += [
            "power:   # attached_to: where the data cable goes; runtime: how long the battery carries all of them"
        ]
        lines += [f"  {name}: {_flow(ups)}" for name, ups in data["power"].items()]
        lines += [""]
    proofs = proof_intervals(practice)
    lines += ["prove:   # how often a restore is tried: daily, weekly or monthly"]
    lines += [f"  {name}: {often}" for name, often in proofs.items()]
    return "\n".join(lines)


def complete(draft: Draft, file: str) -> tuple[str, Practice]:
    """Write the document of a draft, and read it back as anybody else would. Raises ValueError when that differs."""
    text = render(draft.data)
    document, found = source.parse(text.encode(), file)
    practice, problems = check.check(document, found) if document else (None, found)
    if practice is None:
        raise ValueError("; ".join(str(problem) for problem in problems))
    asked = check.check(Document("", data=draft.data))[0]
    if asked is None or any(getattr(asked, key) != getattr(practice, key) for key in draft.data):
        raise ValueError("the document that was written does not say what was answered")
    return text, practice


# --- what comes next ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A thing to do: why, and the command."""

    why: str
    command: str


def next_steps(folder: str, practice_id: str, password_file: str, pin: bool) -> list[Step]:
    """Give the commands from a fresh folder to the first proof, in order. Paths as they are to be typed in the checkout."""
    quoted = shlex.quote(folder)
    play = f"ansible-playbook -i {quoted} --vault-id {shlex.quote(f'{practice_id}@{password_file}')} playbooks/"
    steps = [Step("pin the SSH keys of the hosts, once they are up", f"bin/holdfast pin {quoted}")] if pin else []
    return [
        *steps,
        Step("check the document again after every change; no host is touched", f"bin/holdfast validate {quoted}"),
        Step("look at the hosts, change nothing: what is there, and what of it is not protected", f"{play}survey.yml"),
        Step("say what would be done, do nothing", f"{play}site.yml --check"),
        Step("do it", f"{play}site.yml"),
        Step("back up now", f"{play}backup.yml"),
        Step("restore on a disposable machine and compare: ends with PASS", f"{play}prove.yml"),
        Step("write the report", f"{play}report.yml"),
    ]


def machines(draft: Draft) -> list[str]:
    """Name the machines of a draft that are logged in to."""
    return [name for name, host in draft.data["hosts"].items() if host["kind"] != "restore_host"]


def words(text: str) -> list[str]:
    """Split an answer that lists things: by commas."""
    return strings([part.strip() for part in text.split(",") if part.strip()])
