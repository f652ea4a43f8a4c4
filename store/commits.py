"""Commits of uploads: a thread that makes all that wait durable together, then visible.

::

    lease ─▶ objects: one transaction ─▶ files renamed ─▶ one sync ─▶ rows: one transaction
                                                              what is over its quota goes │
                                     store.reaping: the bytes of orphans, afterwards ◀────┘

In a store that is relaxed no sync is waited for: store.syncing does them afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from attrs import Factory, define

from store.action_cache import USED
from store.digest import Digest
from store.entries import Entries, Put, Row, Usage, Vanished
from store.errors import BnError, HostError, InternalError, host_error
from store.incoming import Incoming
from store.leases import Lease
from store.reaping import Reaper, still_there
from store.store import Store
from store.syncing import Syncer
from store.tiers import EPOCH_NS, Form, Tier, discard

PURPOSE: Final = "serve"
"""What the leases of a server say."""

TOUCH_SECONDS: Final = 60.0
"""What is used again has its time renewed where that is older; the slack of a server's lease."""

RENEWAL_SECONDS: Final = 1.0
"""How old a lease gets before it is renewed."""

IDLE_SECONDS: Final = 5.0
"""How long a lease is held though nothing comes."""

NOTE_SECONDS: Final = 60.0
"""How often it is written down how many bytes came."""

MOST: Final = 512
"""Uploads that are committed together."""


MOST_FOLLOWED: Final = 1000
"""Entries of the store's own index up to which a committer's process frees what was evicted: to
follow more keeps it from answering. Of more, a process beside it does that, or the collector."""


@define(eq=False)
class Arrival:
    """An upload that came whole, and under what it is to be found. In the end `row` or `error` is
    there."""

    name_space: str
    kind: str
    key: str
    incoming: Incoming
    meta: Mapping[str, str] = Factory(dict)
    row: Row | None = None
    error: BnError | None = None

    def put(self) -> Put:
        """Return the row to be written."""
        return Put(
            self.name_space,
            self.kind,
            self.key,
            self.incoming.digest,
            self.incoming.size,
            self.meta,
        )

    def stored(self) -> Row:
        """Return the row of one that was committed."""
        assert self.row is not None
        return self.row


_Job = tuple[Sequence[Arrival], Callable[[], object]]


class Committer:
    """Commits uploads into a store and its entries, in a thread of its own, started when it is
    needed. `quotas` are bytes by name space, `*` for others; `evicted` counts what had to
    go, by name space."""

    def __init__(self, store: Store, entries: Entries, quotas: Mapping[str, int]) -> None:
        self.quotas = quotas
        self.evicted: dict[str, Usage] = {}
        self.reaper = Reaper(store, entries, most=MOST_FOLLOWED)
        self._syncer = Syncer(store.cas.tier_set, entries) if store.is_relaxed else None
        if self._syncer is not None:
            self.reaper.ask_first(self._syncer.sync)
        self._store = store
        self._cas = store.cas
        self._entries = entries
        self._lease: Lease | None = None
        self._leased = 0.0
        self._noted = time.monotonic()
        self._jobs: list[_Job] = []
        self._stale: dict[bytes, Row] = {}
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._lock = -1

    def submit(self, arrivals: Sequence[Arrival], done: Callable[[], object]) -> None:
        """Commit uploads; `done` is called in the committer's thread when each has a row or an
        error. They must have been finished."""
        with self._condition:
            self._jobs.append((arrivals, done))
            self._wake()

    def forget(self, row: Row) -> None:
        """Remove a row, soon, if its blob is not there."""
        if row.name:
            with self._condition:
                self._stale[row.name] = row
                self._wake()

    def close(self) -> None:
        """Commit what waits and end the threads."""
        with self._condition:
            self._closed = True
            self._condition.notify()
            thread = self._thread
        if thread is not None:
            thread.join()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self.reaper.close()
        if self._syncer is not None:
            self._syncer.close()

    # the thread

    def _wake(self) -> None:
        if self._closed:
            raise HostError("the store is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
            self._thread.start()
        self._condition.notify()

    def _run(self) -> None:
        try:
            while True:
                with self._condition:
                    while not (self._jobs or self._stale or self._closed):
                        if not self._condition.wait(IDLE_SECONDS) and self._lease is not None:
                            break
                    waiting = bool(self._jobs or self._stale)
                if waiting:
                    with self._turn():
                        self._round()
                    continue
                self._rest()
                if self._closed:
                    return
        finally:
            self._rest()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other process commits: what comes meanwhile goes with this batch, which
        halves the syncs of two workers."""
        with contextlib.suppress(OSError):  # it is only faster with it
            if self._lock < 0:
                path = os.path.join(self._entries.path, "turn")
                self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _round(self) -> None:
        with self._condition:
            jobs, self._jobs = self._taken()
            stale, self._stale = self._stale, {}
        if stale:
            self._remove(stale.values())
        if jobs:
            self._commit(jobs)

    def _taken(self) -> tuple[list[_Job], list[_Job]]:
        number = 0
        for at, (arrivals, _) in enumerate(self._jobs):
            number += len(arrivals)
            if number >= MOST:
                return self._jobs[: at + 1], self._jobs[at + 1 :]
        return self._jobs, []

    def _rest(self) -> None:
        """Nothing comes: give the lease back, and note how much was added."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._note_added()
            with contextlib.suppress(BnError, OSError):
                lease.__exit__(None, None, None)

    def _note_added(self) -> None:
        """Write down how many bytes came into the tiers, or went."""
        self._noted = time.monotonic()
        with contextlib.suppress(BnError, OSError):
            added = self._cas.take_added()
            if added:
                self._store.index.put((), {f"{USED}{n}": size for n, size in added.items()})

    def _commit(self, jobs: Sequence[_Job]) -> None:
        arrivals = [one for some, _ in jobs for one in some]
        try:
            self._together(arrivals)
        except BnError as error:
            self._fail(arrivals, error)
        except OSError as error:
            self._fail(arrivals, host_error(error, "cannot write to the store"))
        except Exception as error:
            failure = InternalError(f"cannot commit: {error!r}")
            failure.__cause__ = error
            self._fail(arrivals, failure)
        for one in arrivals:
            one.incoming.discard()
        for _, done in jobs:
            with contextlib.suppress(Exception):  # who waited is gone
                done()

    def _fail(self, arrivals: Iterable[Arrival], error: BnError) -> None:
        for one in arrivals:
            one.row, one.error = None, error

    def _together(self, arrivals: Sequence[Arrival]) -> None:
        self._hold()
        fresh: dict[Digest, Form] = {}
        try:
            for _ in range(8):
                self._place(arrivals, fresh)
                self._sync()
                try:
                    puts = [one.put() for one in arrivals]
                    rows, gone = self._entries.put(puts, self.quotas, self._is_there)
                    break
                except Vanished:  # evicted, or taken by another's removal, just now
                    continue
            else:
                raise HostError("what is stored is removed again at once", "try again")
        except BaseException:
            self._take_back(fresh)
            raise
        finally:
            if self._syncer is not None:
                self._syncer.note()
        for one, row in zip(arrivals, rows, strict=True):
            one.row = row
        for name_space, more in gone.items():
            before = self.evicted.get(name_space, Usage())
            both = Usage(before.entries + more.entries, before.bytes + more.bytes)
            self.evicted = {**self.evicted, name_space: both}
        if gone:
            self.reaper.wake()

    def _sync(self) -> None:
        """Make what was placed durable, unless that is done afterwards and did not fail."""
        if self._syncer is not None:
            if self._syncer.error is not None:
                self._syncer.sync()
        elif not self._cas.tier_set.sync():
            raise HostError("a disk of the store failed", "see `bn store stat`")

    def _hold(self) -> None:
        """See to it that the collector spares what is used from now on."""
        now = time.monotonic()
        if self._lease is None:
            lease = Lease(self._store.root, PURPOSE, slack=TOUCH_SECONDS)
            lease.__enter__()
            self._lease, self._leased = lease, now
            self._cas.tier_set.retry()
        elif now - self._leased > RENEWAL_SECONDS:
            self._lease.renew()
            self._leased = now
            self._cas.tier_set.retry()
            if now - self._noted > NOTE_SECONDS:
                self._note_added()

    def _place(self, arrivals: Sequence[Arrival], fresh: dict[Digest, Form]) -> None:
        """Put what is not in the store yet where it belongs; note in `fresh` what that was."""
        objects: dict[Digest, bytes] = {}
        for one in arrivals:
            digest, incoming = one.incoming.digest, one.incoming
            if incoming.path is None:
                if digest not in objects and not self._has_object(digest, incoming.data):
                    objects[digest] = incoming.data
            elif os.path.exists(incoming.path) and not self._has_file(digest, incoming.size):
                self._place_file(digest, incoming, fresh)
        if objects:
            fresh.update(dict.fromkeys(objects, Form.OBJECT))
            self._cas.tier_set.write(lambda tier: tier.write_objects(objects))

    def _place_file(self, digest: Digest, incoming: Incoming, fresh: dict[Digest, Form]) -> None:
        path = incoming.path
        assert path is not None
        if not self._is_there(digest):
            fresh[digest] = Form.PLAIN
        if self._entries.is_orphan(digest):  # it may go once more: then it is needed again
            second = self._cas.temporary()
            os.link(path, second)
            path = second

        def place(tier: Tier) -> None:
            if self._syncer is not None and tier.table is not None:
                tier.table.beside(lambda: _adopt(tier, digest, path, incoming.size))
            else:
                _adopt(tier, digest, path, incoming.size)

        self._cas.tier_set.write(place)

    def _has_object(self, digest: Digest, data: bytes) -> bool:
        """Say whether these very bytes are in a table, and renew their time of use."""
        for tier in self._cas.tier_set.readable():
            if tier.durable and self._cas.tier_set.attempt(tier, tier.read_object, digest) == data:
                found = tier.look(digest, Form.OBJECT)
                if found is None or tier.table is None:
                    continue
                if not self._entries.is_named(digest):
                    tier.table.unsynced = True  # another process may have put it just now
                if found.used < time.time() - TOUCH_SECONDS:
                    with self._cas.gate.passing():
                        return tier.touch(digest, Form.OBJECT)
                return True
        return False

    def _has_file(self, digest: Digest, size: int) -> bool:
        """Say whether the blob is a file already that was made durable, and renew its time of use.

        One that no row names is written anew: nobody knows whether it is on the disk.
        """
        if not self._entries.is_named(digest):
            return False
        tier = self._cas.primary
        status = self._cas.tier_set.attempt(tier, tier.status, digest, Form.PLAIN)
        if status is None or status.st_mtime_ns != EPOCH_NS[0] or status.st_size != size:
            return False
        if status.st_ctime < time.time() - TOUCH_SECONDS:
            with self._cas.gate.passing():
                return tier.touch(digest, Form.PLAIN)
        return True

    def _is_there(self, digest: Digest) -> bool:
        return still_there(self._cas, digest)

    def _is_file(self, digest: Digest) -> bool:
        return any(tier.find(digest) for tier in self._cas.tier_set.readable() if tier.durable)

    def _take_back(self, fresh: dict[Digest, Form]) -> None:
        """Remove what was put there for rows that could not be written, but for what a table got
        that is a file, too, which others put there."""
        with contextlib.suppress(BnError, OSError):
            gone = [d for d, form in fresh.items() if form is Form.PLAIN or not self._is_file(d)]
            if gone:
                self.reaper.take_back(gone)

    def _remove(self, rows: Iterable[Row]) -> None:
        with contextlib.suppress(BnError, OSError):
            self._entries.remove(row for row in rows if not still_there(self._cas, row.digest))


def _adopt(tier: Tier, digest: Digest, path: str, size: int) -> None:
    """Move an upload to its place; one that was received on another tier is copied."""
    if path.startswith(f"{tier.root}/"):
        tier.adopt(digest, path, size, Form.PLAIN)
        return
    with open(path, "rb") as file:
        tier.copy_in(digest, file, executable=False)
    discard(path)
