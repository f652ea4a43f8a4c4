"""Syncs afterwards: a thread that makes durable, once a second, what was committed without.

Of several processes one at a time syncs, for all of them: two that did so at once would hold up
each other, and whoever writes to the pages that both want to send to the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from typing import Final

from store.entries import Entries
from store.errors import BnError, HostError, host_error
from store.tierset import TierSet

EVERY: Final = 1.0
"""Seconds from a commit until it is synced, with all that came meanwhile."""

REST_SECONDS: Final = 600.0
"""How long nothing must come until the tables are brought to rest: the next commit waits then until
they can be written to without syncs again."""


class Syncer:
    """Makes the tiers' blobs durable, then the rows that name them. `note` says that there is
    something to do."""

    def __init__(self, tiers: TierSet, entries: Entries) -> None:
        """Start the thread, which first sees to it that no commit has to wait for a sync."""
        self.error: BnError | None = None
        """Why the last sync failed."""
        self._tiers = tiers
        self._rows = entries.environment
        self._place = entries.path / "syncing"
        self._lock = -1
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._syncing = threading.Lock()
        entries.changed = self.note
        self._thread = threading.Thread(target=self._run, name="syncs", daemon=True)
        self._thread.start()

    def note(self) -> None:
        """Sync soon."""
        self._wanted.set()

    def sync(self) -> None:
        """Make all that was committed before durable. Raises HostError."""
        with self._alone():
            self._sync()

    def close(self) -> None:
        """Make all durable, and end the thread."""
        self._closing.set()
        self._wanted.set()
        self._thread.join()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    # inside

    def _sync(self) -> None:
        mark = self._rows.mark()
        try:
            whole = self._tiers.sync()
        finally:
            self._rows.keep(mark)
        if not whole:
            raise HostError("a disk of the store failed", "see `bn store stat`")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process syncs; but not with files, of which others sync only their
        own, and which may take them long."""
        with self._syncing:
            if self._has_files():
                yield
                return
            with contextlib.suppress(OSError):  # it is only faster with it
                if self._lock < 0:
                    path = self._place
                    self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _run(self) -> None:
        with contextlib.suppress(BnError, OSError):  # the first commit does it, or says why not
            self._prepare()
        working = True
        while not self._closing.is_set():
            pause = (REST_SECONDS if self.error is None else EVERY) if working else None
            came = self._wanted.wait(pause)
            self._wanted.clear()
            number = self._rows.version()
            if came:
                self._closing.wait(EVERY)
            working = came or self.error is not None
            self._try(number if came else None)
        self._try(None)

    def _prepare(self) -> None:
        """Enter the state in which commits are written without syncs, which takes some."""
        table = self._tiers.primary.table
        if table is not None and table.relaxed:
            table.beside(int)
        self._rows.relax()

    def _try(self, number: int | None) -> None:
        """Sync, unless another process has made durable what was committed up to a transaction of
        the rows; without one, be at rest then."""
        try:
            with self._alone():
                if number is None or self._has_files() or not self._rows.is_kept(number):
                    self._sync()
                else:
                    self._follow()
                if number is None:
                    self._rest()
            self.error = None
        except BnError as error:
            self.error = error
        except OSError as error:
            self.error = host_error(error, "cannot make the store durable")

    def _has_files(self) -> bool:
        return self.error is not None or any(tier.unsynced for tier in self._tiers.all)

    def _follow(self) -> None:
        for tier in self._tiers.all:
            if tier.table is not None and tier.table.relaxed:
                tier.table.follow()
        self._rows.follow()

    def _rest(self) -> None:
        for tier in self._tiers.all:
            if tier.table is not None and tier.table.relaxed:
                tier.table.settle()
        self._rows.settle(int)
