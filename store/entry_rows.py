"""Rows of entries as they stand in their table: names, values, and the check of each."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

import blake3
from attrs import Factory, field, frozen

from store.digest import Digest

SLOTS: Final = 1 << 18
"""Rows whose names have the same check sum, cut to 18 bits, share a time of use."""

LONGEST_NAME_SPACE: Final = 64
LONGEST_KEY: Final = 4096
"""Bytes of a key. From `KEY_KEPT` on, its digest stands for the rest in the name."""

MOST_META: Final = 4096
"""Bytes of small facts about a row."""

KEY_KEPT: Final = 380
"""Bytes of a key that stand in a name."""

_HEAD: Final = struct.Struct("<8s32sQdd")
_CHECK: Final = 8
_COUNTS: Final = struct.Struct("<qq")
_TIME: Final = struct.Struct(">Q")


@frozen
class Row:
    """What stands under a key: the blob's digest and size in bytes, when it was stored and last
    used (seconds since 1970), and small facts. `name` is what the row has in the table."""

    digest: Digest
    size: int
    stored: float = 0.0
    used: float = field(default=0.0, eq=False)
    meta: Mapping[str, str] = Factory(dict)
    name: bytes = field(default=b"", repr=False)


@frozen
class Put:
    """A row to be written: what it names is durable already."""

    name_space: str
    kind: str
    key: str
    digest: Digest
    size: int
    meta: Mapping[str, str] = Factory(dict)


@frozen
class Usage:
    """How many rows a name space has, and how many bytes these name."""

    entries: int = 0
    bytes: int = 0


def name_of(name_space: str, kind: str, key: str) -> bytes:
    """Return the name of a row. Raises ValueError where a part of it cannot be one."""
    whole = key.encode(errors="surrogateescape")
    if len(whole) > KEY_KEPT:
        if len(whole) > LONGEST_KEY:
            raise ValueError(f"the key is longer than {LONGEST_KEY} bytes")
        whole = whole[:KEY_KEPT] + b"\xff" + blake3.blake3(whole).digest()
    return start(name_space) + kind.encode() + b"\0" + whole


def name_start(name_space: str, kind: str, prefix: str) -> bytes:
    """Return how the names begin of a kind's rows whose keys begin with `prefix`."""
    if not kind:
        return start(name_space)
    key = prefix.encode(errors="surrogateescape")[:KEY_KEPT]
    return start(name_space) + kind.encode() + b"\0" + key


def start(name_space: str) -> bytes:
    """Return how the names of a name space begin. Raises ValueError where it cannot be one."""
    space = name_space.encode()
    if not space or len(space) > LONGEST_NAME_SPACE or b"\0" in space:
        raise ValueError(f"{name_space!r} is no name of a name space")
    return space + b"\0"


def parts_of(name: bytes, value: bytes) -> tuple[str, str, str]:
    """Return the name space, the kind and the key of a row by its name and value."""
    space, kind, key = name.split(b"\0", 2)
    facts = value[_HEAD.size :]
    if len(key) > KEY_KEPT and facts:
        return space.decode(), kind.decode(), str(json.loads(facts).get("key", ""))
    return space.decode(), kind.decode(), key.decode(errors="surrogateescape")


def pack(row: Row, put: Put) -> bytes:
    """Return the value of a row that is written. Raises ValueError where its facts are too many."""
    facts: dict[str, Any] = {"meta": dict(put.meta)} if put.meta else {}
    if len(put.key.encode(errors="surrogateescape")) > KEY_KEPT:
        facts["key"] = put.key
    data = json.dumps(facts, separators=(",", ":")).encode() if facts else b""
    if put.meta and len(data) > MOST_META + 6 * len(put.key):
        raise ValueError(f"more than {MOST_META} bytes of facts about an entry")
    digest = bytes.fromhex(row.digest)
    value = _HEAD.pack(b"", digest, row.size, row.stored, row.used) + data
    return _checked(row.name, value)


def with_use(name: bytes, value: bytes, used: float) -> bytes:
    """Return a row's value with another time of use."""
    _, digest, size, stored, _ = _HEAD.unpack_from(value)
    return _checked(name, _HEAD.pack(b"", digest, size, stored, used) + value[_HEAD.size :])


def _checked(name: bytes, value: bytes) -> bytes:
    return _check_of(name, value) + value[_CHECK:]


def _check_of(name: bytes, value: bytes) -> bytes:
    return blake3.blake3(name + b"\0" + value[_CHECK:]).digest(_CHECK)


def row_of(name: bytes, value: bytes | None) -> Row | None:
    """Return the row in a value; None where there is none, or it is damaged."""
    if value is None or len(value) < _HEAD.size or value[:_CHECK] != _check_of(name, value):
        return None
    _, digest, size, stored, used = _HEAD.unpack_from(value)
    meta = json.loads(value[_HEAD.size :]).get("meta", {}) if len(value) > _HEAD.size else {}
    return Row(Digest(digest.hex()), size, stored, used, meta, name)


def usage_of(value: bytes | None) -> Usage:
    """Return a name space's counters as they stand in their table."""
    return Usage(*_COUNTS.unpack(value)) if value else Usage()


def place(name: bytes, used: float) -> bytes:
    """Return where a row stands in the order of use."""
    space = name[: name.index(0) + 1]
    return space + _TIME.pack(int(used * 1e6)) + blake3.blake3(name).digest(16)


def slot(name: bytes) -> int:
    """Return where a row's last use is noted."""
    return zlib.crc32(name) & (SLOTS - 1)


def pack_usage(entries: int, size: int) -> bytes:
    """Return the bytes under which a name space's counters stand."""
    return _COUNTS.pack(entries, size)
