"""Digests: BLAKE3 of bytes, as 64 hexadecimal characters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NewType

import blake3

Digest = NewType("Digest", str)
"""BLAKE3-256 of a blob's raw bytes: 64 lower-case hexadecimal characters, as `b3sum` prints it."""

MMAP_FROM: Final = 128 * 1024
"""Bytes from which hashing by memory map beats reading (measured: store/README.md)."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Say whether `text` has the form of a digest."""
    return _HEX.fullmatch(text) is not None


def digest_bytes(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest(blake3.blake3(data).hexdigest())


def digest_file(path: str | Path, size: int) -> Digest:
    """Return the digest of the regular file at `path`, which holds `size` bytes.

    Raises OSError as reading does.
    """
    if size >= MMAP_FROM:
        hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
        return Digest(hasher.update_mmap(path).hexdigest())
    with open(path, "rb", buffering=0) as file:
        return digest_bytes(file.read())
