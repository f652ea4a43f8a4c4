"""What is known to be at remotes: a table of the index, and what this process adds to it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from store.digest import Digest
from store.index import Table, Write
from store.store import Store
from store.upstream import UNKNOWN, Place, place


class Known:
    """Which remote has a blob. One thread adds to it, all may ask."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._new: dict[Digest, Place] = {}
        self._gone: set[Digest] = set()

    def get(self, digest: Digest) -> Place | None:
        """Return where a blob is known to be."""
        if digest in self._gone:
            return None
        return self._new.get(digest) or place(self._store.index.get(Table.REMOTE, digest))

    def note(self, digest: Digest, remote: str, size: int) -> None:
        """Note where a blob is; it is written with the next commit."""
        if digest in self._gone:
            return
        before = self.get(digest)
        if before is not None and before.remote == remote and size in (before.size, UNKNOWN):
            return
        self._new[digest] = new = Place(remote, size, int(time.time()))
        self._store.actions.also((Table.REMOTE, digest, new.encode()))

    def is_gone(self, digest: Digest) -> bool:
        """Say whether a blob turned out not to be where it was said to be."""
        return digest in self._gone

    def gone(self, digests: Iterable[Digest]) -> None:
        """Note that blobs are not there, whoever says so. Any thread may."""
        self._gone.update(digests)

    def forgotten(self) -> list[Write]:
        """Return what makes others forget what is gone."""
        return [(Table.REMOTE, digest, b"") for digest in sorted(self._gone)]

    def at(self, remotes: Iterable[str]) -> dict[Digest, Place]:
        """Return all that is known to be at one of `remotes`."""
        wanted = set(remotes)
        rows = {Digest(key): place(value) for key, value in self._store.index.items(Table.REMOTE)}
        found = {digest: there for digest, there in rows.items() if there is not None} | self._new
        return {
            digest: there
            for digest, there in found.items()
            if there.remote in wanted and digest not in self._gone
        }
