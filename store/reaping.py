"""Orphans: blobs of which no entry is left are removed at once, unless something else needs them.

The collector would find them, too, but it looks at everything. This looks at those alone; what the
store's own index names, and what running builds may use, is left to it.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterable
from typing import Final

from store.cas import TOUCH_SECONDS, Cas
from store.closure import Closure, Kind, Needed
from store.digest import Digest, is_digest
from store.entries import Entries
from store.errors import BnError
from store.index import Table
from store.keep import SLACK_SECONDS, alias, shown_trees
from store.leases import holders
from store.roots import roots
from store.store import Store
from store.tiers import FILES, Form, Tier

BATCH: Final = 128
"""Blobs that are removed at a time, while nobody can write rows."""

PATIENCE: Final = 10.0
"""Seconds until what running builds may use is looked at again."""

_SERVE: Final = "serve"


class Reaper:
    """Removes orphans of a store's entries, in a thread of its own once it is woken."""

    def __init__(self, store: Store, entries: Entries) -> None:
        self.freed = 0
        """Bytes that were removed by this process."""
        self._store = store
        self._entries = entries
        self._live: set[Digest] = set()
        self._version = -1
        self._looked = 0.0
        self._cost = 0.0
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._closed = False

    def wake(self) -> None:
        """Remove orphans soon."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def reap(self) -> bool:
        """Remove the orphans there are; say whether some have to wait."""
        waiting = set[Digest]()
        while not self._closed:
            found = [digest for digest in self._entries.orphans() if digest not in waiting]
            if not found:
                return bool(waiting)
            self._look()
            for start in range(0, len(found), BATCH):
                some = found[start : start + BATCH]
                self._entries.reap(some, self._remove)
            still = self._entries.orphans()
            waiting.update(digest for digest in found if digest in set(still))
        return True

    def take_back(self, digests: Iterable[Digest]) -> None:
        """Remove blobs that were put there for rows that could not be written."""
        self._look()
        self._entries.unnamed(digests, self._remove)

    def _run(self) -> None:
        waiting = False
        while not self._closed:
            self._wanted.wait(PATIENCE if waiting else None)
            self._wanted.clear()
            with contextlib.suppress(BnError, OSError):
                waiting = self.reap()

    def _look(self) -> None:
        """Find out what the store's own index needs, where it changed since the last time."""
        now = time.monotonic()
        if self._version == self._store.index.version() or now - self._looked < 4 * self._cost:
            return
        self._version = self._store.index.version()
        self._live = _needed(self._store)
        self._looked = time.monotonic()
        self._cost = self._looked - now

    def _remove(self, digests: list[Digest]) -> set[Digest]:
        """Remove what nothing needs; return what is settled."""
        settled: set[Digest] = set()
        cas = self._store.cas
        with cas.gate.closed():
            if self._store.index.version() != self._version:
                return settled
            limit = self._limit()
            settled.update(self._live.intersection(digests))
            candidates = [digest for digest in digests if digest not in settled]
            for tier in cas.tiers:
                if tier.readable:
                    found = cas.tier_set.attempt(tier, _remove_from, tier, candidates, limit)
                    kept, freed = found or (set(candidates), 0)
                    self.freed += freed
                    candidates = [one for one in candidates if one not in kept]
        settled.update(candidates)
        return settled

    def _limit(self) -> float:
        """Return the time of use from which on running builds may use a blob."""
        found = [one for one in holders(self._store.root) if one.purpose != _SERVE]
        if any(one.since > time.time() + SLACK_SECONDS for one in found):
            return -math.inf
        return min((one.since - TOUCH_SECONDS - SLACK_SECONDS for one in found), default=math.inf)


def _remove_from(tier: Tier, digests: list[Digest], limit: float) -> tuple[set[Digest], int]:
    """Remove blobs from a tier unless they were used since `limit`; return those that stay, and
    the bytes of the others."""
    kept: set[Digest] = set()
    for digest in digests:
        used = [held.used for form in Form if (held := tier.look(digest, form)) is not None]
        if used and max(used) >= limit:
            kept.add(digest)
    return kept, tier.remove(*(digest for digest in digests if digest not in kept))


def _needed(store: Store) -> set[Digest]:
    """Return every blob that the store's own index, or a shown tree, names."""
    index = store.index
    needed: list[Needed] = [(Kind.TREE, root.tree) for root in roots(index)]
    needed += [(Kind.TREE, Digest(path.name)) for path, _ in shown_trees(store)]
    for table, kind in ((Table.ACTION_CACHE, Kind.RESULT), (Table.DERIVED, Kind.TREE)):
        for key, value in index.items(table):
            digest = value.decode(errors="replace")
            if is_digest(digest):
                needed.append((kind, Digest(digest)))
            if is_digest(key):
                needed.append((Kind.BLOB, Digest(key)))
    for _, value in index.items(Table.REALISATIONS):
        digest = value.decode(errors="replace")
        if is_digest(digest):
            needed.append((Kind.BLOB, Digest(digest)))
    for _, value in index.items(Table.ALIASES):
        found = alias(value)
        if found is not None:
            needed.append((Kind.BLOB, found))
    closure = Closure(store.cas, index)
    closure.mark(needed)
    return closure.live


def still_there(cas: Cas, digest: Digest) -> bool:
    """Say whether a durable tier has the blob, as a file or an object; it is no use of it."""
    for tier in cas.tier_set.readable():
        if not tier.durable:
            continue
        if cas.tier_set.attempt(tier, tier.has_object, digest):
            return True
        if any(cas.tier_set.attempt(tier, tier.status, digest, form) for form in FILES):
            return True
    return False
