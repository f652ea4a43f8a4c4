"""What is refused before, or while, it is stored, and what clients are told."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from engine.http.message import Failure
from store.entry_rows import name_of
from store.errors import BnError, NoSpace
from store.incoming import Incoming
from store.store import Store

MUCH: Final = 2**20
"""Bytes from which on the disk is asked for its room before something is received."""

_FULL: Final = ("the disk of the cache is full", "try again later")


def check_size(size: int | None, most: int | None) -> None:
    """Raise Failure(413) where something is larger than it may be."""
    if size is not None and most is not None and size > most:
        raise Failure(413, f"{size} bytes are more than the {most} that an entry may have here")


def check_name(name_space: str, kind: str, key: str) -> None:
    """Raise Failure(400) where an entry cannot be called so."""
    try:
        name_of(name_space, kind, key)
    except ValueError as error:
        raise Failure(400, str(error)) from None


def check_digests(incoming: Incoming, blake3: str | None, sha256: str | None) -> None:
    """Raise Failure(400) where what came has other digests than it should."""
    if blake3 is not None and incoming.digest != blake3:
        raise Failure(400, f"the BLAKE3 digest of what came is {incoming.digest}, not {blake3}")
    if sha256 is not None and incoming.sha256 != sha256:
        raise Failure(400, f"the SHA-256 digest of what came is {incoming.sha256}, not {sha256}")


def failure(error: BnError) -> Failure:
    """Return what a client is told where the store failed."""
    if isinstance(error, NoSpace):
        return Failure(507, *_FULL)
    return Failure(503, "the cache cannot store anything now", headers={"retry-after": "10"})


def read_all(descriptor: int, size: int) -> bytes:
    """Return `size` bytes of a file; fewer where it is shorter."""
    parts = []
    at = 0
    while at < size and (part := os.pread(descriptor, size - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def check_room(store: Store, size: int | None) -> None:
    """Raise Failure(507) at once for what the disk has no room for."""
    if size is not None and size > MUCH:
        with contextlib.suppress(OSError):
            status = os.statvfs(store.cas.root)
            if size > status.f_bavail * status.f_frsize:
                raise Failure(507, *_FULL)
