"""How keys and values stand in the index: digests as 32 bytes instead of 64 characters.

A byte that UTF-8 never has says that what follows is the digest of 32 bytes (0xff) or, at the
beginning of a value, that the rest of it stands as it is (0xfe).
"""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 1024
"""Bytes above which a value stands as it is: there are few so long, and pages of their own."""

_DIGEST: Final = b"\xff"
_PLAIN: Final = b"\xfe"
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_PACKED: Final = re.compile(rb"\xff(.{32})", re.DOTALL)
_ROW: Final = 33


def key_row(key: str) -> bytes:
    """Return the bytes under which something stands."""
    return (_digest_row(key) if len(key) == 64 else None) or key.encode()


def row_key(name: bytes) -> str:
    """Return the key that stands as `name`."""
    if len(name) == _ROW and name.startswith(_DIGEST):
        return name[1:].hex()
    return name.decode(errors="replace")


def value_row(value: bytes) -> bytes:
    """Return the bytes that stand for a value."""
    if _DIGEST in value or value.startswith(_PLAIN):
        return _PLAIN + value
    if len(value) == 64:
        return _digest_row(value.decode(errors="replace")) or value
    return _HEX.sub(_packed, value) if 64 < len(value) <= LONGEST else value


def row_value(row: bytes) -> bytes:
    """Return the value for which `row` stands."""
    if len(row) == _ROW and row.startswith(_DIGEST):
        return row[1:].hex().encode()
    if row.startswith(_PLAIN):
        return row[1:]
    return _PACKED.sub(_unpacked, row) if _DIGEST in row else row


def _digest_row(text: str) -> bytes | None:
    """Return how a digest stands; None where `text` is none."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return _DIGEST + raw if raw.hex() == text else None


def _packed(found: re.Match[bytes]) -> bytes:
    return _DIGEST + bytes.fromhex(found[0].decode())


def _unpacked(found: re.Match[bytes]) -> bytes:
    return found[1].hex().encode()
