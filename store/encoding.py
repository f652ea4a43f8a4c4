"""Canonical bytes of stored objects: JSON with sorted keys and one spelling of everything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from store.errors import IntegrityError

TYPE_KEY = "_"
"""Sorts before every lower-case key, so an object's bytes begin with its type and version."""

HEAD: Final = b'{"_":"'
"""What the bytes of an object begin with, before its type."""


def encode(document: dict[str, Any]) -> bytes:
    """Return the canonical bytes of `document`.

    Sorted keys, UTF-8, no insignificant white space, no floats (two machines may print a float in
    two ways). Raises TypeError for a value that has no canonical form.
    """
    return _encoded(_checked(document)).encode()


def decode(data: bytes, kind: str) -> dict[str, Any]:
    """Return the document in `data`, whose type must be `kind` (as `tree.1`).

    Raises IntegrityError where the bytes are not canonical or are of another type.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise IntegrityError(f"object is not JSON: {error}") from None
    if not isinstance(document, dict) or document.get(TYPE_KEY) != kind:
        raise IntegrityError(f"object is not a {kind}")
    if _encoded(document).encode() != data:
        raise IntegrityError(f"{kind} object is not in canonical form")
    return document


def made_ready(encoder: json.JSONEncoder) -> Callable[[Any], str]:
    """Return what does as `encoder.encode` does for values without circles. For small values most
    of the time would go into setting it up at every call."""
    inside: Any = json.encoder
    basic = inside.encode_basestring_ascii if encoder.ensure_ascii else inside.encode_basestring
    try:
        parts = inside.c_make_encoder(
            None,
            encoder.default,
            basic,
            encoder.indent,
            encoder.key_separator,
            encoder.item_separator,
            encoder.sort_keys,
            encoder.skipkeys,
            encoder.allow_nan,
        )
    except TypeError:  # there is none, or one of another version
        return encoder.encode
    join = "".join
    return lambda value: join(parts(value, 0))


_encoded: Final = made_ready(
    json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
)

_PLAIN: Final = frozenset((str, bool, int, type(None)))
_KEYS: Final = frozenset((str,))


def _checked(value: Any) -> Any:
    """Return `value` unless something in it has no canonical form."""
    match value:
        case dict():
            if not _KEYS.issuperset(map(type, value)):
                for key in value:
                    if not isinstance(key, str):
                        raise TypeError(f"key {key!r} is not a string")
            if not _PLAIN.issuperset(map(type, value.values())):
                for item in value.values():
                    _checked(item)
        case list() | tuple():
            if not _PLAIN.issuperset(map(type, value)):
                for item in value:
                    _checked(item)
        case str() | bool() | int() | None:
            pass
        case _:
            raise TypeError(f"{type(value).__name__} has no canonical form")
    return value
