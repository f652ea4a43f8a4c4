"""Upstream: whoever can fetch blobs that no tier of the store has. No network is known here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from store.digest import Digest
from store.objects import Entry
from store.records import frozen

UNKNOWN: Final = -1
"""The size of a blob of which only the digest is known."""


@frozen
class Place:
    """A remote, by its address, that has a blob; the size in bytes, or `UNKNOWN`; since when that
    is known (seconds since 1970). The rows of `Table.REMOTE`."""

    remote: str
    size: int
    since: int

    def encode(self) -> bytes:
        """Return the row."""
        return b"%d %d %s" % (self.size, self.since, self.remote.encode())

    def fits(self, size: int | None) -> bool:
        """Say whether the blob may be one of `size` bytes."""
        return size is None or self.size in (size, UNKNOWN)


def place(value: bytes | None) -> Place | None:
    """Return what a row says; None where there is none, or it is empty or damaged."""
    try:
        size, since, remote = (value or b"").decode().split(" ", 2)
        return Place(remote, int(size), int(since))
    except ValueError:
        return None


class Upstream(Protocol):
    """The last tier of a store: blobs that are known to be elsewhere. Safe for several threads."""

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Say whether the blob (of `size` bytes) is known to be there, and there is who can be
        asked for it."""
        ...

    def bring(self, entries: Iterable[Entry]) -> None:
        """Fetch what is missing here of the files in `entries` and below them, checked.

        It takes a bounded time. What cannot be had is no longer said to be there; whoever needs it
        finds it missing. Raises HostError where the store cannot be written.
        """
        ...

    def doubt(self, *, altogether: bool) -> None:
        """Look again at what is said to be there, as something was not; or do without it
        `altogether` from here on."""
        ...

    def close(self) -> None:
        """End all that goes on."""
        ...
