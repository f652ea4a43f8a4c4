"""Messages of the Remote Execution API, written by hand."""

from __future__ import annotations

import hashlib


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def field(number: int, value: bytes | int) -> bytes:
    """Return a field: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def digest(data: bytes) -> bytes:
    return field(1, sha256(data).encode()) + (field(2, len(data)) if data else b"")


def output_file(path: str, data: bytes, *, inline: bool = False) -> bytes:
    """Return a field of an ActionResult."""
    message = field(1, path.encode()) + field(2, digest(data)) + field(4, 1)
    return field(2, message + (field(5, data) if inline else b""))


def output_directory(path: str, tree: bytes) -> bytes:
    """Return a field of an ActionResult."""
    return field(3, field(1, path.encode()) + field(3, digest(tree)))


def directory(**files: bytes) -> bytes:
    return b"".join(
        field(1, field(1, name.encode()) + field(2, digest(data))) for name, data in files.items()
    )


def tree(root: bytes, *children: bytes) -> bytes:
    return field(1, root) + b"".join(field(2, child) for child in children)


def streams(out: bytes, err: bytes) -> bytes:
    """Return the fields of an ActionResult for what was printed."""
    return field(6, digest(out)) + field(8, digest(err))
