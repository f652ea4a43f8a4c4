"""The objects of a store: in tables, one in each tier, and in memory until they are committed.

::

    put ─▶ waiting ─▶ in flight ──one transaction──▶ table of the primary tier, or of the next one
              └── seen by this process ──┘             seen by all
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from store.digest import Digest, digest_bytes
from store.gate import Gate
from store.object_table import LARGEST
from store.tiers import Form, Tier
from store.tierset import TierSet

MOST_WAITING: Final = 4 * 2**20
"""Bytes of new objects that wait for a commit."""

MOST_OBJECTS: Final = 2048
"""New objects that wait for a commit: in a large table each of them costs LMDB a page of memory."""


class Objects:
    """The objects of the tiers in `tiers`; safe for several threads.

    `touch_before` is the time (seconds since 1970) from which on a use counts as recent.
    """

    def __init__(self, tiers: TierSet, gate: Gate, touch_before: float) -> None:
        self.touch_before = touch_before
        self._tiers = tiers
        self._gate = gate
        self._lock = threading.Lock()
        self._waiting: dict[Digest, bytes] = {}
        self._in_flight: dict[Digest, bytes] = {}
        self._bytes = 0
        self._committed: set[Digest] = set()
        self._committing = threading.Lock()

    def waiting(self, digest: Digest) -> bytes | None:
        """Return an object that is not committed yet, or just being so."""
        data = self._waiting.get(digest)
        return self._in_flight.get(digest) if data is None else data

    def all_waiting(self, prefix: str) -> list[Digest]:
        """Return the digests of these that begin with `prefix`."""
        with self._lock:
            waiting = [*self._waiting, *self._in_flight]
        return [digest for digest in waiting if digest.startswith(prefix)]

    def get(self, digest: Digest) -> bytes | None:
        """Return an object's bytes, checked; None where no table has it."""
        data = self.waiting(digest)
        if data is not None:
            return data
        for tier in self._tiers.readable():
            if tier.table is None:
                continue
            data = self._tiers.attempt(tier, tier.table.read, digest)
            if data is not None:
                if digest_bytes(data) == digest:
                    return data
                self.quarantine(tier, digest)
        return None

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Say whether an object (of `size` bytes) is in a table, or waits for being committed."""
        data = self.waiting(digest)
        if data is not None:
            return size in (None, len(data))
        return any(self._is_in(tier, digest, size) for tier in self._tiers.readable())

    def recent(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of `digests` that the primary tier's table has and that were used lately. Of
        the others nothing is said."""
        table = self._tiers.primary.table
        if table is None:
            return set()
        found = self._tiers.attempt(self._tiers.primary, table.recent, digests, self.touch_before)
        return found or set()

    def put(self, digest: Digest, data: bytes, *, new: bool = False) -> bool:
        """Keep an object, for the next commit unless it is in the table already; False where it
        has to become a file. One that is `new` is not looked for: in a large table that takes
        longer than all else, and to write it again does no harm."""
        if digest in self._committed or self.waiting(digest) is not None:
            return True
        tier = self._tiers.primary
        if len(data) > LARGEST or tier.table is None:
            return False
        if not new and self._is_in(tier, digest, len(data)):
            self._committed.add(digest)
            return True
        with self._lock:
            self._waiting[digest] = data
            self._bytes += len(data)
        if self._bytes > MOST_WAITING or len(self._waiting) > MOST_OBJECTS:
            with self._taken() as objects:
                self._write(objects, sync=False)  # they are durable with the next that is committed
        return True

    def commit(self) -> None:
        """Let others see what was put, durably. Raises HostError where no tier can take it."""
        if self._waiting:
            with self._taken() as objects:
                self._write(objects, sync=True)

    def sync(self) -> bool:
        """Commit, and make all that was stored so far durable, files as well; False where some of
        the files were lost with a tier."""
        with self._taken() as objects:
            self._write(objects, sync=False)
            tier = self._tiers.primary
            whole = self._tiers.sync()
            if self._tiers.primary is not tier:  # what is in memory still is not lost with it
                self._write(objects, sync=True)
        return whole

    def quarantine(self, tier: Tier, digest: Digest) -> None:
        """Set an object aside that is not what its name says."""
        self.forget()
        self._tiers.attempt(tier, tier.quarantine, digest, Form.OBJECT)

    def forget(self) -> None:
        """Look again for what was known to be in a table."""
        self._committed.clear()

    # inside

    @contextlib.contextmanager
    def _taken(self) -> Iterator[Mapping[Digest, bytes]]:
        """Give all that waits, to be committed; where that fails it waits again."""
        with self._committing:
            with self._lock:
                self._in_flight, self._waiting = self._waiting, {}
                self._bytes = 0
            try:
                yield self._in_flight
            except BaseException:
                with self._lock:
                    self._waiting = {**self._in_flight, **self._waiting}
                raise
            finally:
                self._in_flight = {}

    def _write(self, objects: Mapping[Digest, bytes], *, sync: bool) -> None:
        def write(tier: Tier) -> None:
            tier.write_objects(objects)
            if sync and tier.table is not None:
                tier.table.sync()

        if objects:
            self._tiers.write(write)

    def _is_in(self, tier: Tier, digest: Digest, size: int | None) -> bool:
        """Say whether a tier's table has it; one that was not used for long shows this use."""
        table = tier.table
        if table is None:
            return False
        found = self._tiers.attempt(tier, table.look, digest, self.touch_before)
        if found is None:
            return False
        if size not in (None, found.size):
            self.quarantine(tier, digest)
            return False
        if found.used >= self.touch_before:
            return True
        with self._gate.passing():  # False where the collector was quicker
            return self._tiers.attempt(tier, table.touch, digest) is not False
