# SPDX-License-Identifier: Apache-2.0
"""A backup job as it lies in /etc/holdfast/jobs: read, checked as a whole, refused with every fault at once. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .agent_gate import Power, power_faults
from .agent_hooks import Hook, hook_faults
from .agent_hooks import parsed as hooks_of
from .agent_window import Hours, hours_faults, hours_of
from .database_engine import Database
from .engines import ENGINES
from .tripwires import SHARES, WIRES, Settings

SCHEMA = 1
ITEM = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62})")
# a copy's job is called by the job that it copies and the store that it copies to, such as documents.offsite
NAME = re.compile(rf"{ITEM.pattern}(?:\.{ITEM.pattern})?")
IO_CLASSES = ("best-effort", "idle")
_KEYS = {
    "schema", "practice", "host", "repository", "name", "item", "class", "calendar", "spread_s", "time_limit_s", "deadline_s",
    "database", "paths", "exclude", "must_have", "min_files", "tripwires", "copy",
    "min_size", "mounts",
    "power", "hooks",
    "timezone", "window", "at_window_end", "throttle", "limits", "nice", "io_class", "dump_limit_s", "stay_awake",
}  # fmt: skip


class JobError(Exception):
    """The job cannot be run; the text lists every fault."""


@dataclass(frozen=True)
class Job:
    """One protected item on this host."""

    name: str
    item: str
    practice: str
    host: str
    url: str
    database: Database | None = None
    paths: Sequence[str] = ()
    exclude: Sequence[str] = ()
    must_have: Sequence[str] = ()
    min_files: int = 1
    min_size: int = 0
    mounts: Sequence[str] | None = None
    hours: Hours = field(default_factory=Hours)
    dump_limit_s: int = 0
    stay_awake: bool = False
    time_limit_s: int = 0
    power: Power | None = None
    tripwires: Settings = field(default_factory=Settings)
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    # of a copy: the job whose runs are copied, where they are, and the name of the store that they go to
    copy_of: str | None = None
    source_url: str | None = None
    store: str = ""

    @property
    def stored_as(self) -> str:
        """The job under whose name runs are stored: of a copy, the one that it copies."""
        return self.copy_of or self.name


# One flat name each: restic 0.18.0, which Debian 13 has, fails on a folder in --stdin-filename (its issue 5324).
def stored_oracle(job: str) -> str:
    """Path of the oracle in its snapshot."""
    return f"/holdfast.{job}.oracle.json"


def stored_dump(job: str) -> str:
    """Path of the database's dump in its snapshot."""
    return f"/holdfast.{job}.dump"


def parse(text: str) -> Job:
    """Job from the text of its file; raises JobError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise JobError(f"not JSON: {error}") from error
    faults = faults_of(found)
    if faults:
        raise JobError("; ".join(faults))
    database, copy = found.get("database"), found.get("copy") or {}
    return Job(
        name=found["name"],
        item=found["item"],
        practice=found["practice"],
        host=found["host"],
        url=found["repository"]["url"],
        database=Database(
            database["engine"],
            database.get("name"),
            database.get("path"),
            database.get("images") or None,
            dict(database.get("probes") or {}),
            {key: database[key] for key in ENGINES[database["engine"]].settings if database.get(key) is not None},
        )
        if database
        else None,
        paths=tuple(found.get("paths") or ()),
        exclude=tuple(found.get("exclude") or ()),
        must_have=tuple(found.get("must_have") or ()),
        min_files=int(found.get("min_files", 1)),
        min_size=int(found.get("min_size") or 0),
        hours=hours_of(found),
        dump_limit_s=int(found.get("dump_limit_s") or 0),
        stay_awake=bool(found.get("stay_awake")),
        mounts=None if found.get("mounts") is None else tuple(found["mounts"]),
        time_limit_s=int(found.get("time_limit_s") or 0),
        hooks=hooks_of(found.get("hooks") or {}),
        power=Power(tuple(found["power"]["monitors"]), found["power"].get("min_supplies", 1))
        if found.get("power")
        else None,
        copy_of=copy.get("of"),
        source_url=copy.get("from"),
        store=copy.get("to") or "",
        tripwires=_settings(found.get("tripwires") or {}),
    )


def faults_of(found: Any) -> list[str]:
    """Everything that is wrong with a job, in words."""
    if not isinstance(found, dict):
        return ["expected an object"]
    faults = [f"unknown key {key!r}" for key in sorted(set(found) - _KEYS)]
    if found.get("schema") != SCHEMA:
        faults.append(f"schema {found.get('schema')!r}: this agent reads {SCHEMA}; run site.yml for this host")
    for key, shape in (("name", NAME), ("item", ITEM)):
        if not shape.fullmatch(str(found.get(key) or "")):
            faults.append(f"{key} {found.get(key)!r}: expected lower-case letters, digits, - and _")
    for key in ("practice", "host"):
        if not isinstance(found.get(key), str) or not found[key]:
            faults.append(f"{key}: missing")
    repository = found.get("repository")
    if not isinstance(repository, dict) or not isinstance(repository.get("url"), str):
        faults.append("repository: expected url and username")
    for key in ("paths", "must_have", "mounts"):
        faults += _path_faults(key, found.get(key))
    faults += _text_faults("exclude", found.get("exclude"))
    faults += [f"exclude {p!r}: a pattern that brings back is not supported" for p in _texts(found.get("exclude"), "!")]
    for key in ("min_files", "min_size", "time_limit_s", "dump_limit_s", "deadline_s"):
        value = found.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            faults.append(f"{key} {value!r}: expected a number, 0 or more")
    faults += _priority_faults(found)
    faults += hours_faults(found)
    faults += _database_faults(found.get("database"))
    faults += power_faults(found.get("power"))
    faults += hook_faults(found.get("hooks"))
    faults += _tripwire_faults(found.get("tripwires") or {})
    faults += _what_faults(found)
    return faults


def _what_faults(found: dict[str, Any]) -> list[str]:
    copy = found.get("copy")
    if copy is not None:
        return _copy_faults(found, copy)
    if "." in str(found.get("name")):
        return [f"name {found['name']!r}: only the name of a copy has a dot"]
    if not found.get("paths") and not found.get("database"):
        return ["neither database nor paths: there is nothing to back up"]
    return []


def _copy_faults(found: dict[str, Any], copy: Any) -> list[str]:
    if (
        not isinstance(copy, dict)
        or set(copy) != {"of", "from", "to"}
        or not all(_texts([each], "") for each in copy.values())
    ):
        return ["copy: expected of, from and to"]
    faults = []
    if found.get("name") != f"{copy['of']}.{copy['to']}":
        faults.append(
            f"name {found.get('name')!r}: expected {copy['of']}.{copy['to']}, as it copies {copy['of']} to {copy['to']}"
        )
    own = [key for key in ("database", "paths", "exclude", "must_have") if found.get(key)]
    return faults + [f"{key}: a copy has none, it takes what {copy['of']} stored" for key in own]


def _priority_faults(found: Mapping[str, Any]) -> list[str]:
    nice, io_class = found.get("nice"), found.get("io_class")
    faults = [] if nice is None or nice in range(20) else [f"nice {nice!r}: expected a number from 0 to 19"]
    return faults + (
        [] if io_class in (None, *IO_CLASSES) else [f"io_class {io_class!r}: expected best-effort or idle"]
    )


def _texts(value: Any, start: str) -> list[str]:
    return [v for v in value if isinstance(v, str) and v.startswith(start)] if isinstance(value, list) else []


def _text_faults(key: str, value: Any) -> list[str]:
    if value is None or (isinstance(value, list) and all(isinstance(v, str) and v for v in value)):
        return []
    return [f"{key}: expected a list of texts"]


def _path_faults(key: str, value: Any) -> list[str]:
    faults = _text_faults(key, value)
    if not faults:
        bad = [v for v in value or [] if not v.startswith("/") or v != re.sub(r"/+", "/", v) or "\0" in v]
        bad += [v for v in value or [] if ".." in v.split("/") or (v != "/" and v.endswith("/"))]
        faults += [f"{key} {v!r}: expected a plain absolute path" for v in bad]
    return faults


def _settings(given: dict[str, Any]) -> Settings:
    lists: dict[str, Any] = {key: tuple(given.get(key) or ()) for key in ("canaries", "disable")}
    return Settings(**{**given, **lists})


def _tripwire_faults(given: Any) -> list[str]:
    if not isinstance(given, dict):
        return ["tripwires: expected an object"]
    faults = [f"tripwires.{key}: unknown key" for key in sorted(set(given) - {"canaries", "disable", "least", *SHARES})]
    faults += _path_faults("tripwires.canaries", given.get("canaries") or [])
    canaries = given.get("canaries") if isinstance(given.get("canaries"), list) else []
    bad = [path for path in canaries or [] if not str(path).lower().endswith(".pdf")]
    faults += [f"tripwires.canaries {path!r}: a canary is a PDF, so its name ends in .pdf" for path in bad]
    wires = given.get("disable") or []
    if not isinstance(wires, list) or not set(map(str, wires)) <= set(WIRES):
        faults.append(f"tripwires.disable {wires!r}: expected a list of {', '.join(WIRES)}")
    for key, most in (("least", None), *((share, 100) for share in SHARES)):
        value = given.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (most and value > most):
            limit = f"from 1 to {most}" if most else "from 1"
            faults.append(f"tripwires.{key} {value!r}: expected a whole number {limit}")
    return faults


def _database_faults(database: Any) -> list[str]:
    if database is None:
        return []
    if not isinstance(database, dict):
        return ["database: expected an object"]
    faults = []
    engine = ENGINES.get(str(database.get("engine")))
    name, path = database.get("name"), database.get("path")
    if engine is None:
        faults.append(f"database.engine {database.get('engine')!r}: this agent knows {', '.join(ENGINES)}")
    elif engine.settings:
        faults += engine.faults(database)
    elif engine.is_file:
        faults += _path_faults("database.path", [path]) if path else ["database.path: missing"]
        faults += [f"database.name {name!r}: {engine.title} has a path and no name"] if name else []
    else:
        if not isinstance(name, str) or not re.fullmatch(r"[^/\0\n]{1,63}", name) or name in (".", ".."):
            faults.append(f"database.name {name!r}: expected the name of a database")
        faults += [f"database.path {path!r}: {engine.title} has a name and no path"] if path else []
    if engine and not engine.asked:
        asked = [key for key in ("images", "probes") if database.get(key)]
        return faults + [f"database.{key}: a vendor's dump cannot be asked" for key in asked]
    images = database.get("images")
    if images:
        if not isinstance(images, dict) or not isinstance(images.get("query"), str):
            faults.append("database.images: expected query and root")
        else:
            faults += _path_faults("database.images.root", [images.get("root") or ""])
    probes = database.get("probes") or {}
    if not isinstance(probes, dict) or not all(isinstance(sql, str) and sql.strip() for sql in probes.values()):
        faults.append("database.probes: expected a SELECT for each name")
    return faults
