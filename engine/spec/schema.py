"""The JSON Schema of specs, made from the classes that specs are structured into."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from engine.spec.model import SpecFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(form: type = SpecFile, title: str = "bn spec") -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of files of that form."""
    definitions: dict[str, Any] = {}
    root = _object(form, definitions)
    return {"$schema": DIALECT, "title": title, **root, "$defs": definitions}


def _object(form: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(form)
    properties: dict[str, Any] = {}
    for attribute in attrs.fields(form):
        described = _of(hints[attribute.name], definitions)
        if doc := attribute.metadata.get("doc"):
            described = {"description": doc, **described}
        properties[attribute.name] = described
    required = [field.name for field in attrs.fields(form) if field.default is attrs.NOTHING]
    return {
        "type": "object",
        "description": (form.__doc__ or "").partition("\n")[0],
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one field's type."""
    if attrs.has(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    arguments = get_args(kind)
    match get_origin(kind):
        case origin if origin is tuple:
            item = _of(arguments[0], definitions)
            listed = {"type": "array", "items": item}
            return {"anyOf": [listed, item]} if arguments[0] is str else listed
        case origin if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": _of(arguments[1], definitions)}
        case origin if origin in (Union, UnionType):
            options = [_of(one, definitions) for one in arguments if one is not NoneType]
            return options[0] if len(options) == 1 else {"anyOf": options}
    return {"type": {bool: "boolean", int: "integer", float: "number", str: "string"}[kind]}
