# SPDX-License-Identifier: Apache-2.0
"""What is known of a practice document that may be wrong in places: what the rules between its parts look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import HostId, ItemId, Zone
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    Copies,
    Host,
    Hours,
    Identity,
    Item,
    Maintenance,
    Network,
    Objectives,
    Offsite,
    Practice,
    Removable,
    Ups,
    Within,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import (
    Document,
    KeyPath,
    Problem,
    did_you_mean,
    show,
    value_at,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.times import usual_time
from pydantic import TypeAdapter, ValidationError


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def valid(kind: Any, value: Any) -> Any:
    """Give the checked part, or None when it is not there or wrong in itself (which is said elsewhere)."""
    if value is None:
        return None
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError:
        return None


def mapping(value: Any) -> dict[str, Any]:
    """Give a value that is a mapping, or an empty one."""
    return value if isinstance(value, dict) else {}


def _parts(kind: Any, value: Any) -> dict[str, Any]:
    return {name: valid(kind, raw) for name, raw in mapping(value).items()}


def _names_sure(document: Document, section: str, kind: Any) -> bool:
    if any(path[:1] == (section,) and len(path) == 2 for path in document.duplicates):
        return False
    names = mapping(document.data.get(section))
    return all((not kind or valid(kind, name)) and (section, name) not in document.hazards for name in names)


def _within(data: dict[str, Any]) -> Within | None:
    if "retention" not in data:
        usual: Within = Practice.model_fields["retention"].get_default(call_default_factory=True).within
        return usual
    said: Within | None = valid(Within, value_at(data, ("retention", "within")))
    return said


def strings(value: Any) -> list[str]:
    """Give the strings of a list; nothing of anything else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


@dataclass
class View:
    """What is known of a document that may be wrong in places: parts that are wrong in themselves are None.

    So the rules between parts can be checked, and all mistakes be said, in one run. hosts_sure and items_sure are False
    when a name is wrong or came twice: then a name that is not known may well be the one that was meant.
    """

    document: Document
    hosts: dict[str, Any] = field(default_factory=dict)
    items: dict[str, Item | None] = field(default_factory=dict)
    power: dict[str, Ups | None] = field(default_factory=dict)
    objectives: Objectives | None = None
    identity: Identity | None = None
    copies: Copies | None = None
    offsite: Offsite | None = None
    removable: Removable | None = None
    line: Network | None = None
    within: Within | None = None
    maintenance: Maintenance | None = None
    zone: str | None = None
    usual: str = ""
    prove: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    protected: dict[str, list[str]] = field(default_factory=dict)
    fed: set[str] = field(default_factory=set)
    hosts_sure: bool = True
    items_sure: bool = True

    @classmethod
    def of(cls, document: Document, practice: Practice | None) -> View:
        """Collect what can be known; practice is given when every part is right in itself."""
        data = document.data
        hosts = mapping(data.get("hosts"))
        power = mapping(data.get("power"))
        return cls(
            document,
            hosts=practice.hosts if practice else _parts(Host, hosts),
            items=dict(practice.protect) if practice else _parts(Item, data.get("protect")),
            power=dict(practice.power or {}) if practice else _parts(Ups, power),
            objectives=practice.objectives if practice else valid(Objectives, data.get("objectives", {})),
            identity=practice.practice if practice else valid(Identity, data.get("practice")),
            copies=practice.copies if practice else valid(Copies, data.get("copies")),
            offsite=practice.copies.offsite if practice else valid(Offsite, value_at(data, ("copies", "offsite"))),
            removable=practice.copies.removable
            if practice
            else valid(Removable, value_at(data, ("copies", "removable"))),
            line=practice.line if practice else valid(Network, data.get("line")),
            within=practice.retention.within if practice else _within(data),
            maintenance=practice.maintenance if practice else valid(Maintenance, data.get("maintenance")),
            zone=practice.practice.timezone if practice else valid(Zone, value_at(data, ("practice", "timezone"))),
            usual=usual_time(
                practice.hours if practice else valid(Hours, data.get("hours")),
                practice.practice.timezone if practice else valid(Zone, value_at(data, ("practice", "timezone"))),
            ),
            prove=mapping(data.get("prove")),
            kinds={name: str(mapping(raw).get("kind")) for name, raw in hosts.items()},
            protected={name: strings(mapping(raw).get("protect")) for name, raw in hosts.items()},
            hosts_sure=_names_sure(document, "hosts", None if practice else HostId),
            items_sure=_names_sure(document, "protect", None if practice else ItemId),
            fed={host for raw in power.values() for host in strings(mapping(raw).get("feeds"))},
        )

    def problem(self, path: KeyPath, got: str, expected: str, fix: str = "", key: bool = False) -> Problem:
        """Make a problem at a place of the document."""
        return self.document.problem(path, got, expected, fix, key)

    def unknown(self, path: KeyPath, name: str, known: Iterable[str], what: str) -> Problem:
        """Make the problem of a name that nothing stands behind."""
        known = list(known)
        listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        return self.problem(path, f"got {show(name)} (string)", f"{what}: {listed}", did_you_mean(name, known))
