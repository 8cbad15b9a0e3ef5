# SPDX-License-Identifier: Apache-2.0
"""Check a practice document: the one door to it. Gives the practice, or everything that is wrong with the document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from ansible_collections.holdfast.practice.plugins.plugin_utils import source
from ansible_collections.holdfast.practice.plugins.plugin_utils.available import not_available
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import IN_QUOTES
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import (
    HOST_KINDS,
    KINDS,
    Part,
    Practice,
    Retention,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.rules import OVERRULING, RULES
from ansible_collections.holdfast.practice.plugins.plugin_utils.source import (
    Document,
    KeyPath,
    Problem,
    described,
    did_you_mean,
    nearest,
    show,
    value_at,
)
from ansible_collections.holdfast.practice.plugins.plugin_utils.view import View
from pydantic import ValidationError
from pydantic_core import ErrorDetails


def load(path: Path, name: str = "") -> tuple[Practice | None, list[Problem]]:
    """Read and check the document at path. Returns (practice, []) or (None, all problems in order of their lines)."""
    document, problems = source.read(path, name)
    return check(document, problems) if document else (None, problems)


def check(document: Document, problems: Iterable[Problem] = ()) -> tuple[Practice | None, list[Problem]]:
    """Check a document that was read. problems are those found while reading."""
    practice, of_parts = check_parts(document, Practice)
    view = View.of(document, practice)
    overruling = [problem for rule in OVERRULING for problem in rule(view)]
    instead = {problem.path for problem in overruling}
    found = [*problems, *(problem for problem in of_parts if problem.path not in instead), *overruling]
    said = {problem.path for problem in found}
    for rule in RULES:
        found += [problem for problem in rule(view) if problem.path not in said]
    found += not_available(view)
    found = sorted(set(found))
    return (None, found) if found else (practice, [])


def check_parts[Model: Part](document: Document, model: type[Model]) -> tuple[Model | None, list[Problem]]:
    """Check the parts of a document, each in itself: keys, types, values. Not what must hold between them."""
    errors: list[ErrorDetails] = []
    whole = None
    try:
        whole = model.model_validate(document.data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    if not errors and not document.hazards:
        return whole, []
    classes: dict[int, type[Part]] = {}
    find_parts(model, document.data, classes)
    return whole, list(_merge_hazards(document, _field_problems(document, errors, classes), classes))


def find_parts(kind: Any, value: Any, found: dict[int, type[Part]]) -> None:
    """Find which part of the model stands behind which mapping (by its id), so that an error can name the possible keys."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        find_parts(inner[0], value, found)
    elif origin in (Union, UnionType):
        kinds = [member for member in inner if member is not type(None)]
        if len(kinds) > 1 and isinstance(value, dict):  # hosts: their kind says which
            kinds = [member for member in kinds if value.get("kind") in get_args(_kind_of(member))]
        for member in kinds[:1]:
            find_parts(member, value, found)
    elif origin in (list, dict):
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            find_parts(inner[-1], each, found)
    elif isinstance(kind, type) and issubclass(kind, Part) and isinstance(value, dict):
        found[id(value)] = kind
        for name, info in kind.model_fields.items():
            find_parts(info.annotation, value.get(info.alias or name), found)


def _kind_of(member: Any) -> Any:
    info = getattr(member, "model_fields", {}).get("kind")
    return info.annotation if info else None


def _merge_hazards(
    document: Document, field_problems: list[tuple[KeyPath, Problem]], classes: dict[int, type[Part]]
) -> Iterator[Problem]:
    """Say one thing a place: why YAML misread a value (the hazard) together with what the field expected there."""
    unfit: dict[KeyPath, Problem] = {}
    unknown: set[KeyPath] = set()
    for path, problem in field_problems:
        hazard = next((path[:end] for end in range(len(path), -1, -1) if path[:end] in document.hazards), None)
        if hazard is None or (hazard == path and problem.got.startswith("unknown") and path not in document.hidden):
            unknown.add(path)  # what is wrong with its value does not matter then
            yield problem
        elif hazard == path:
            unfit[path] = problem
    for path, hazard_problem in document.hazards.items():
        if path in unknown:
            continue
        if hazard_problem.expected != source.MISREAD:
            yield hazard_problem
        elif path in unfit:
            yield replace(hazard_problem, expected=unfit[path].expected)
        else:
            expected = _description(document.data, path, classes)
            fix = f'{hazard_problem.fix}; write "{document.texts[path]}" in quotes'
            yield replace(hazard_problem, expected=expected, fix=fix)


def _field_problems(
    document: Document, errors: list[ErrorDetails], classes: dict[int, type[Part]]
) -> list[tuple[KeyPath, Problem]]:
    placed = [(*_place(document.data, error), error) for error in errors]
    # A misspelt required key is one mistake, not an unknown key and a missing one.
    misspelt = set()
    for path, _, error in placed:
        if error["type"] == "extra_forbidden":
            cls = classes.get(id(value_at(document.data, path[:-1])))
            near = "within" if cls is Retention else nearest(str(path[-1]), _keys(cls))
            if near:
                misspelt.add((*path[:-1], near))
    result = []
    for path, is_key, error in placed:
        if error["type"] in ("missing", "union_tag_not_found") and path in misspelt:
            continue
        got, expected, fix = _words(document, path, is_key, error, classes)
        result.append((path, document.problem(path, got, expected, fix, key=is_key)))
    return result


def _place(data: Any, error: ErrorDetails) -> tuple[KeyPath, bool]:
    """Turn pydantic's location, which also holds names of union members, into a key path of the document."""
    path: list[str | int] = []
    here = data
    kind = error["type"]
    loc = error["loc"]
    for number, part in enumerate(loc):
        if part == "[key]":
            return tuple(path), True
        last = number == len(loc) - 1
        if number == 2 and loc[0] == "hosts" and part == value_at(here, ("kind",)):
            continue  # the name of the union's member, which may also be a key
        if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int)):
            path.append(part)
            here = here[part]  # type: ignore[index]
        elif kind == "missing" and last:
            path.append(part)
    if (kind == "union_tag_not_found" and isinstance(here, dict)) or kind == "union_tag_invalid":
        path.append("kind")
    return tuple(path), kind == "extra_forbidden"


def _keys(cls: type[Part] | None) -> list[str]:
    return [info.alias or name for name, info in cls.model_fields.items()] if cls else []


def _description(data: Any, path: KeyPath, classes: dict[int, type[Part]]) -> str:
    """Find what is expected at path: the description of the nearest field at or above it."""
    for end in range(len(path) - 1, -1, -1):
        cls = classes.get(id(value_at(data, path[:end])))
        for name, info in cls.model_fields.items() if cls else ():
            if (info.alias or name) == path[end]:
                return info.description or ""
    return "a practice document"


def _words(
    document: Document, path: KeyPath, is_key: bool, error: ErrorDetails, classes: dict[int, type[Part]]
) -> tuple[str, str, str]:
    """Say (got, expected, fix) for one of pydantic's errors."""
    kind, context = error["type"], error.get("ctx", {})
    expected = _description(document.data, path, classes)
    value = path[-1] if is_key and kind == "holdfast" else value_at(document.data, path)
    if kind == "holdfast":
        fix = context["fix"]
        if fix == IN_QUOTES:
            fix = f'write "{document.texts.get(path, value)}" in quotes'
        direct = isinstance(path[-1], str) and path[-1] in _keys(classes.get(id(value_at(document.data, path[:-1]))))
        general = expected if direct or not context["leaf"] else context["leaf"]
        return context["got"] or described(value), context["expected"] or general, fix
    if kind.startswith("union_tag"):
        kinds = "a kind: " + ", ".join(KINDS[:-1]) + " or " + KINDS[-1]
        fix = did_you_mean(value, KINDS) if isinstance(value, str) else ""
        near = nearest("kind", value_at(document.data, path[:-1])) if kind == "union_tag_not_found" else ""
        fix = f"write kind in the place of {show(near)}" if near else fix
        return (described(value) if kind == "union_tag_invalid" else "missing"), kinds, fix
    if kind == "missing":
        return "missing", expected, ""
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), classes.get(id(value_at(document.data, path[:-1]))))
    return described(value), expected, ""


def _unknown_key(key: str, cls: type[Part] | None) -> tuple[str, str, str]:
    known = _keys(cls)
    owners = [kind for kind, owner in HOST_KINDS.items() if key in _keys(owner)]
    fix = did_you_mean(key, known)
    if cls is Retention:
        fix = "say how far back it reaches: within: {daily: 35d, weekly: 6mo, monthly: 3y}"
    if cls in HOST_KINDS.values() and owners:
        fix = f"only hosts of kind {' or '.join(owners)} have {key}"
    return f"unknown key {show(key)}", "one of " + ", ".join(known), fix
