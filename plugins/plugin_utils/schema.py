# SPDX-License-Identifier: Apache-2.0
"""The practice document as a JSON Schema (2020-12), for editors: generated from the model. Pure.

It says what a single place may hold. What must hold between places (a name that is described elsewhere, a budget that is large
enough) only `bin/holdfast validate` knows; the schema never refuses what that accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ansible_collections.holdfast.practice.plugins.plugin_utils.available import LATER, Later
from ansible_collections.holdfast.practice.plugins.plugin_utils.leaves import NOT_AVAILABLE
from ansible_collections.holdfast.practice.plugins.plugin_utils.model import Practice
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"


class _Generator(GenerateJsonSchema):
    """Pydantic's own, but for what editors would show badly."""

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """Keep the names' own rule: pydantic's patternProperties would let every other name through."""
        values = self.generate_inner(schema["values_schema"])
        return {
            "type": "object",
            "additionalProperties": values,
            "propertyNames": self.generate_inner(schema["keys_schema"]),
        }

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Say "text or nothing" in one schema where that is possible: of two, editors explain neither."""
        inner = self.generate_inner(schema["schema"])
        if "type" not in inner:
            return {"anyOf": [inner, {"type": "null"}]}
        choices = {"enum": [*inner["enum"], None]} if "enum" in inner else {}
        return {**inner, **choices, "type": [inner["type"], "null"]}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> Schema:
        """Leave out OpenAPI's discriminator, which JSON Schema does not know."""
        return {"oneOf": super().tagged_union_schema(schema)["oneOf"]}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave titles out: they only repeat the keys."""
        return False


def build() -> Schema:
    """Give the schema as data."""
    schema = Practice.model_json_schema(by_alias=True, schema_generator=_Generator)
    for part in _parts(Practice):
        here = schema if part is Practice else schema["$defs"][part.__name__]
        here.pop("title", None)
        for name, info in part.model_fields.items():
            key = info.alias or name
            shown = here["properties"][key]
            if info.default_factory is not None:
                made = info.get_default(call_default_factory=True)
                shown["default"] = made.model_dump(mode="json", by_alias=True, exclude_none=True)
            elif shown.get("default", "") is None:
                del shown["default"]
    for later in LATER:
        for shown in _places(schema, schema, later.path):
            _mark(shown, later)
    title = "A practice document of Holdfast"
    return {"$schema": DIALECT, "title": title, **schema}


def render() -> str:
    """Give the schema as the text of docs/practice.schema.json."""
    return json.dumps(build(), indent=2, ensure_ascii=False) + "\n"


def _parts(kind: type[BaseModel]) -> list[type[BaseModel]]:
    """List a model and every model that its fields lead to."""
    found = [kind]
    for part in found:
        for info in part.model_fields.values():
            found += [each for each in _models(info.annotation) if each not in found]
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _places(schema: Schema, here: Schema, path: tuple[str, ...]) -> Iterator[Schema]:
    """Find the schemas at a key path; * stands for any name."""
    if not path:
        yield here
        return
    for each in _resolved(schema, here):
        below = each.get("additionalProperties") if path[0] == "*" else each.get("properties", {}).get(path[0])
        if isinstance(below, dict):
            yield from _places(schema, below, path[1:])


def _resolved(schema: Schema, here: Schema) -> Iterator[Schema]:
    if "$ref" in here:
        yield from _resolved(schema, schema["$defs"][here["$ref"].removeprefix(_DEFINITIONS)])
        return
    yield here
    for branch in (*here.get("anyOf", ()), *here.get("oneOf", ())):
        yield from _resolved(schema, branch)


def _mark(shown: Schema, later: Later) -> None:
    """Say in a description that this version does not do it. A place that knows none of the values stays as it is."""
    if later.values is None:
        text = NOT_AVAILABLE
    else:
        known = shown.get("enum", [shown.get("const")])
        named = [value for value in later.values if value in known]
        if not named:
            return
        text = f"{NOT_AVAILABLE}: {', '.join(named)}"
    before = shown.get("description", "")
    if text not in before:
        shown["description"] = f"{before}; {text}" if before else text
