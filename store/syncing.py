"""Syncs afterwards: a thread that makes durable, once a second, what was committed without."""

from __future__ import annotations

import threading
import time
from typing import Final

from store.entries import Entries
from store.errors import BnError, HostError, host_error
from store.tierset import TierSet

EVERY: Final = 1.0
"""Seconds from the beginning of a sync to that of the next."""

REST_SECONDS: Final = 3.0
"""How long nothing must come until the tables are brought to rest."""


class Syncer:
    """Makes the tiers' blobs durable, then the rows that name them. `note` says that there is
    something to do; the thread is started by the first."""

    def __init__(self, tiers: TierSet, entries: Entries) -> None:
        self.error: BnError | None = None
        """Why the last sync failed."""
        self._tiers = tiers
        self._entries = entries
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._syncing = threading.Lock()
        entries.changed = self.note

    def note(self) -> None:
        """Sync soon."""
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name="syncs", daemon=True)
            self._thread.start()
        self._wanted.set()

    def sync(self) -> None:
        """Make all that was committed before durable. Raises HostError."""
        with self._syncing:
            mark = self._entries.mark()
            try:
                whole = self._tiers.sync()
            finally:
                self._entries.keep(mark)
            if not whole:
                raise HostError("a disk of the store failed", "see `bn store stat`")

    def close(self) -> None:
        """Make all durable, and end the thread."""
        self._closing.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        working = True
        while not self._closing.is_set():
            came = self._wanted.wait(REST_SECONDS if working else None)
            self._wanted.clear()
            began = time.monotonic()
            self._try(rest=not came)
            working = came or self.error is not None
            self._closing.wait(began + EVERY - time.monotonic() if working else 0.0)
        self._try(rest=True)

    def _try(self, *, rest: bool) -> None:
        try:
            self.sync()
            if rest:
                self._rest()
            self.error = None
        except BnError as error:
            self.error = error
        except OSError as error:
            self.error = host_error(error, "cannot make the store durable")

    def _rest(self) -> None:
        for tier in self._tiers.all:
            if tier.table is not None and tier.table.relaxed:
                tier.table.settle()
        self._entries.settle()
