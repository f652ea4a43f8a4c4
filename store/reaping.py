"""Orphans: blobs of which no entry is left are removed at once, unless something else needs them.

The collector would find them, too, but it looks at everything. This looks at those alone; what the
store's own index names, and what running builds may use, is left to it.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable
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
from store.tiers import FILES, Form, Held, Tier, discard

EVERY: Final = 1.0
"""Seconds between removals that are to wait for a sync."""

BATCH: Final = 32
"""Blobs that are removed at a time, while nobody can write rows."""

BREATH: Final = 0.01
"""The most seconds between such removals: others get as long to write as the last one took."""

LARGE: Final = 2**20
"""Bytes of a file from which on unlink(2) takes long."""

PATIENCE: Final = 10.0
"""Seconds until what running builds may use is looked at again."""

_SERVE: Final = "serve"
_NAMING: Final = (
    Table.ACTION_CACHE,
    Table.REALISATIONS,
    Table.DERIVED,
    Table.ALIASES,
    Table.ROOTS,
)


class Reaper:
    """Removes orphans of a store's entries, in a thread of its own once it is woken.

    `most` is how many entries the store's own index may have: to follow more takes long, and is
    for another process.
    """

    def __init__(self, store: Store, entries: Entries, most: float = math.inf) -> None:
        self._most = most
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
        self._aside: list[str] = []
        self._before: Callable[[], object] | None = None
        self._closing = threading.Event()

    def wake(self) -> None:
        """Remove orphans soon."""
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)
            self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._closing.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def ask_first(self, before: Callable[[], object]) -> None:
        """From now on, call `before` to make durable that no row names the orphans there are,
        before they are removed: else a power cut may bring rows back. It is done once a second."""
        self._before = before

    def reap(self) -> bool:
        """Remove the orphans there are; say whether some have to wait."""
        orphans, waiting = self._entries.orphans(), False
        if not self._is_mine():
            return False
        if self._before is not None:
            found = list(orphans)
            if not found:
                return False
            orphans = iter(found)
            self._before()
        while not self._closed and (some := list(itertools.islice(orphans, BATCH))):
            self._look()
            began = time.monotonic()
            waiting = self._entries.reap(some, self._remove) > 0 or waiting
            self._closing.wait(min(BREATH, time.monotonic() - began))
            self._discard()
        return waiting

    def take_back(self, digests: Iterable[Digest]) -> None:
        """Remove blobs that were put there for rows that could not be written."""
        if self._is_mine():
            self._look()
            self._entries.unnamed(digests, self._remove)
            self._discard()

    def _run(self) -> None:
        waiting = False
        while not self._closed:
            self._wanted.wait(PATIENCE if waiting else None)
            self._wanted.clear()
            try:
                waiting = self.reap()
            except (BnError, OSError):
                waiting = True
            if self._before is not None:
                self._closing.wait(EVERY)

    def _is_mine(self) -> bool:
        return sum(map(self._store.index.count, _NAMING)) <= self._most

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
                    kept = cas.tier_set.attempt(tier, self._remove_from, tier, candidates, limit)
                    candidates = [one for one in candidates if kept is not None and one not in kept]
        settled.update(candidates)
        return settled

    def _remove_from(self, tier: Tier, digests: list[Digest], limit: float) -> set[Digest]:
        """Remove blobs from a tier unless they were used since `limit`; return those that stay."""
        kept: set[Digest] = set()
        objects: list[Digest] = []
        for digest in digests:
            found = [held for form in Form if (held := tier.look(digest, form)) is not None]
            if any(held.used >= limit for held in found):
                kept.add(digest)
                continue
            for held in found:
                if held.form is Form.OBJECT:
                    objects.append(digest)
                else:
                    self._unlink(tier, tier.path(digest, held.form), held)
        if objects and tier.table is not None:
            freed = sum(tier.table.remove(objects).values())
            tier.count(-freed)
            self.freed += freed
        return kept

    def _unlink(self, tier: Tier, path: str, held: Held) -> None:
        """Remove a file; a large one takes long, so it is only moved away for now."""
        with contextlib.suppress(FileNotFoundError):
            if held.size > LARGE:
                aside = tier.temporary()
                os.rename(path, aside)
                self._aside.append(aside)
            else:
                os.unlink(path)
            tier.count(-held.size)
            self.freed += held.size if held.links == 1 else 0

    def _discard(self) -> None:
        """Remove what was moved away."""
        aside, self._aside = self._aside, []
        for path in aside:
            discard(path)

    def _limit(self) -> float:
        """Return the time of use from which on running builds may use a blob."""
        found = [one for one in holders(self._store.root) if one.purpose != _SERVE]
        if any(one.since > time.time() + SLACK_SECONDS for one in found):
            return -math.inf
        return min((one.since - TOUCH_SECONDS - SLACK_SECONDS for one in found), default=math.inf)


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
