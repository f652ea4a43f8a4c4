"""The janitor: a process beside the workers that keeps the server's store within its bounds.

::

    every few seconds   name spaces over their quota   ─▶ their oldest entries go
                        disk near the reserve          ─▶ the oldest entries of all go, by size
    every quarter hour  entries not used for keep_days ─▶ go
                        tiers over their limit         ─▶ what is cold moves down
                        the store over its own         ─▶ collected, oldest builds first
    each hour, and where the disk stays full           ─▶ the collector

Workers keep name spaces to their quotas with each upload; what is left to do here is what no upload
sees: another quota, a disk that others fill, time. A process of its own, because to find out what
is needed takes seconds of Python, in which a worker would answer nobody. Of several servers over
one store one has the janitor that works. Whatever fails is told, and done again at its next turn.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import define, field

from engine.http.observing import Observer
from engine.http.reserve import Reserve, quota_of
from engine.retention import DAY, bound, collect_garbage
from engine.upkeep import is_full, relieve
from store.entries import Entries, Usage
from store.errors import BnError
from store.reaping import Reaper
from store.store import Store
from store.syncing import Syncer

STEP_SECONDS: Final = 2.0
QUARTER_SECONDS: Final = 900.0
HOUR_SECONDS: Final = 3600.0

LEAST_FREED: Final = 0.1
"""Where evicting freed less of the disk than this share of it, others fill the disk, or need the
same blobs: then the next time is as long after as the last one was, and a half more."""

_MOST_PATIENCE: Final = 600.0


@define
class Janitor:
    """What is done for a store, one `step` at a time. Raises BnError and OSError; what was done
    until then stays done."""

    store: Store
    entries: Entries
    quotas: Mapping[str, int]
    """Bytes by name space, `*` for others."""
    keep_days: float
    reserve: Reserve
    observer: Observer
    reaper: Reaper
    clock: Callable[[], float] = time.monotonic
    sync: Callable[[], object] = int
    """Makes durable that rows went, before the collector removes what they named."""
    _quarter: float = field(default=-float("inf"), init=False)
    _collected: float | None = field(default=None, init=False)
    _patience: float = field(default=0.0, init=False)
    _evicted_at: float = field(default=-float("inf"), init=False)

    def step(self) -> None:
        """Do what is due now."""
        now = self.clock()
        if self._collected is None:
            self._collected = now  # not at the start: there is enough to do
        self._hold_quotas()
        self._hold_reserve(now)
        if now - self._quarter >= QUARTER_SECONDS:
            self._quarter = now
            self._expire()
            relieve(self.store)
            if is_full(self.store):
                self.sync()
                bound(self.store)
        if now - self._collected >= HOUR_SECONDS:
            self._collect(now)

    def _hold_quotas(self) -> None:
        for name_space, usage in self.entries.name_spaces().items():
            quota = quota_of(self.quotas, name_space)
            if quota is not None and usage.bytes > quota:
                self._evict(name_space, quota)
        self._reap()

    def _hold_reserve(self, now: float) -> None:
        """Let entries go until twice the reserve is free: of each name space the same share."""
        missing = self.reserve.missing()
        if not missing:
            self._patience = 0.0
            return
        if now - self._evicted_at < self._patience:
            return
        spaces = self.entries.name_spaces()
        whole = sum(usage.bytes for usage in spaces.values())
        gone = 0
        for name_space, usage in spaces.items():
            share = -(-missing * usage.bytes // max(1, whole))
            gone += self._evict(name_space, max(0, usage.bytes - share)).bytes
        before = self.reserve.free
        self._reap()
        if self.reserve.missing() and (not gone or self.reserve.freed_since(before) < gone):
            self._collect(now)
        self._evicted_at = now
        freed = self.reserve.freed_since(before)
        in_vain = freed < max(1, gone) * LEAST_FREED
        self._patience = min(_MOST_PATIENCE, max(1.0, self._patience * 1.5)) if in_vain else 0.0

    def _evict(self, name_space: str, size: int) -> Usage:
        gone = Usage()
        while True:
            some = self.entries.evict(name_space, size)  # bounded: others wait to write
            gone = Usage(gone.entries + some.entries, gone.bytes + some.bytes)
            if not some.entries or self.entries.usage(name_space).bytes <= size:
                break
        if gone.entries:
            self.observer.count("evicted_entries", name_space, gone.entries)
            self.observer.count("evicted_bytes", name_space, gone.bytes)
        return gone

    def _expire(self) -> None:
        gone = self.entries.expire(time.time() - self.keep_days * DAY)
        if gone.entries:
            self.observer.count("expired_entries", amount=gone.entries)
        self._reap()

    def _reap(self) -> None:
        before = self.reaper.freed
        self.reaper.reap()
        self.observer.count("freed_bytes", amount=self.reaper.freed - before)

    def _collect(self, now: float) -> None:
        self._collected = now
        self.sync()
        report = collect_garbage(self.store, wait=False)
        if report is not None:
            self.observer.count("collections")
            self.observer.count("freed_bytes", amount=sum(report.freed.values()))


def keep_house(
    store: Store,
    quotas: Mapping[str, int],
    keep_days: float,
    reserve: Reserve,
    run: Path | None = None,
    parent: int | None = None,
) -> None:
    """Be the janitor until SIGTERM or SIGINT comes, or the parent (its process id) is gone.

    For a process of its own, in its main thread, that opened the store after it was forked.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    parent = parent or os.getppid()
    observer = Observer(run)
    entries = store.entries()
    reaper = Reaper(store, entries)
    janitor = Janitor(store, entries, quotas, keep_days, reserve, observer, reaper)
    syncer = Syncer(store.cas.tier_set, entries) if store.is_relaxed else None
    if syncer is not None:
        janitor.sync = syncer.sync
        reaper.ask_first(syncer.sync)
    lock = -1
    try:
        while not ended.wait(STEP_SECONDS) and os.getppid() == parent:
            lock = lock if lock >= 0 else _lock(store.root)
            if lock >= 0:
                _stepped(janitor)
            observer.flush()
    finally:
        if lock >= 0:
            os.close(lock)
        reaper.close()
        if syncer is not None:
            syncer.close()
        entries.close()
        observer.close()


def _stepped(janitor: Janitor) -> None:
    try:
        janitor.step()
    except (BnError, OSError) as error:
        janitor.observer.count("failures", "janitor")
        sys.stderr.write(f"janitor: {error}\n")


def _lock(root: Path) -> int:
    """Return a descriptor that keeps other servers' janitors away while it is open, -1 where one
    is at work."""
    place = root / "serve"
    place.mkdir(exist_ok=True)
    handle = os.open(place / "janitor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return -1
    return handle
