"""Digests: BLAKE3 of bytes, as 64 hexadecimal characters."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Final, NewType

import blake3

Digest = NewType("Digest", str)
"""BLAKE3-256 of a blob's raw bytes: 64 lower-case hexadecimal characters, as `b3sum` prints it."""

MMAP_FROM: Final = 128 * 1024
"""Bytes from which hashing by memory map beats reading (measured: store/README.md)."""

_WINDOW: Final = 4 << 20
_LARGE_WINDOW: Final = 16 << 20
"""Bytes that are mapped at a time: what is mapped counts as this process's memory. Of files of
sixteen times as much the larger window, which costs a gigabyte a tenth less (store/README.md)."""

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
    if size < MMAP_FROM:
        return digest_bytes(file_bytes(path, size))
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    if size <= _WINDOW:
        hasher.update_mmap(path)
    else:
        with open(path, "rb", buffering=0) as file:
            _hash_windows(hasher, file.fileno())
    return Digest(hasher.hexdigest())


def _hash_windows(hasher: blake3.blake3, handle: int) -> None:
    """Hash a file that was opened, a part of it mapped at a time."""
    import mmap

    at, end = 0, os.fstat(handle).st_size
    window = _LARGE_WINDOW if end >= 16 * _LARGE_WINDOW else _WINDOW
    while at < end:
        length = min(window, end - at)
        try:
            with mmap.mmap(handle, length, access=mmap.ACCESS_READ, offset=at) as part:
                hasher.update(part)
        except ValueError:
            raise OSError(errno.EIO, "it became shorter while it was read") from None
        at += length


def file_bytes(path: str | Path, size: int) -> bytes:
    """Return what the regular file at `path` holds, which is probably `size` bytes.

    Raises OSError as reading does.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(handle, size + 1)
        if len(data) <= size:
            return data
        parts = [data]
        while part := os.read(handle, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)
