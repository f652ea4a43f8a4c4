"""The service: what the protocols' adapters ask of the store, without blocking the server's loop.

::

    find ─▶ row ─▶ open ─▶ bytes from memory (hot) │ the table of objects │ a checked descriptor
    put  ─▶ body, as it comes, checked ─▶ the thread that commits, with all others that wait

Small reads are done at once: what is in the page cache takes microseconds. All else is done by
threads. A process has one service of its own, made after it was forked.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar, TypeVarTuple

import trio
from attrs import Factory, define, field, frozen

from engine.http.checks import (
    check_digests,
    check_name,
    check_room,
    check_size,
    failure,
    read_all,
)
from engine.http.message import Body, Stored
from engine.http.opening import Opener
from store.commits import Arrival, Committer
from store.digest import Digest
from store.entries import Entries, Row, Usage
from store.errors import BnError
from store.incoming import Incoming
from store.object_table import LARGEST
from store.reaping import still_there
from store.store import Store

HOT_BYTES: Final = 64 * 2**20
"""Bytes of small blobs that are kept in memory."""

CHUNK: Final = 2**20
"""Bytes of a large upload that are written, and hashed, at a time by a thread."""

THREADS: Final = 16
"""Threads that read and write for a service."""

MANY: Final = 256
"""Blobs from which on a thread looks whether they are there."""

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


@frozen
class Item:
    """A short value to be stored with others: `blake3` and `sha256` are what it must have."""

    kind: str
    key: str
    data: bytes
    meta: Mapping[str, str] = Factory(dict)
    blake3: str | None = None
    sha256: str | None = None


@define
class Counts:
    """What happened in this process so far."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    stored_bytes: int = 0
    damaged: int = 0
    saved: dict[str, float] = field(factory=dict)
    """Seconds of work that hits saved, where clients said so, by name space."""

    def save(self, name_space: str, seconds: float) -> None:
        """Count a hit that saved so much work."""
        if seconds:
            self.saved[name_space] = self.saved.get(name_space, 0.0) + seconds


class Service:
    """The entries of one store. `quotas` are bytes by name space, `*` for those not named.

    `share_local` says whether results of the store's own builds are for the name space `default`.
    Failures have the status that a client is to get: 400 another digest, 413 too large, 507 full.
    """

    def __init__(
        self,
        store: Store,
        entries: Entries | None = None,
        quotas: Mapping[str, int] | None = None,
        *,
        share_local: bool = True,
        hot_bytes: int = HOT_BYTES,
    ) -> None:
        self.store = store
        self.entries = store.entries() if entries is None else entries
        self.quotas = dict(quotas or {})
        self.counts = Counts()
        self.share_local = share_local
        self._committer = Committer(store, self.entries, self.quotas)
        self._opener = Opener(store.cas, hot_bytes)
        self._finished: deque[trio.Event] = deque()
        self._limiter = trio.CapacityLimiter(THREADS)

    def close(self) -> None:
        """Commit what waits and end the threads; the store stays open. It blocks."""
        self._committer.close()

    async def aclose(self) -> None:
        """Do as `close` does, without blocking the loop."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.close)

    # reading

    def find(self, name_space: str, kind: str, key: str) -> Row | None:
        """Return what stands under a key, and note that it is used."""
        try:
            return self.entries.find(name_space, kind, key)
        except (ValueError, BnError):
            return None

    def find_many(self, name_space: str, kind: str, keys: Iterable[str]) -> dict[str, Row]:
        """Return what stands under those of `keys` that are there, and note that it is used."""
        try:
            return self.entries.find_many(name_space, kind, list(keys))
        except (ValueError, BnError):
            return {}

    async def open(self, row: Row) -> Stored | None:
        """Return the checked bytes of a row; None where they are gone, or damaged: a miss."""
        try:
            found = self._opener.at_once(row)
            if found is None:
                found = await self._threaded(self._opener.open, row)
                if found is not None:
                    self._opener.keep(found)
        except (BnError, OSError):
            found = None
        if found is None:
            self.counts.misses += 1
            self._opener.lost(row.digest)
            with contextlib.suppress(BnError):
                self._committer.forget(row)
            return None
        self.counts.hits += 1
        return found

    async def get(self, name_space: str, kind: str, key: str) -> Stored | None:
        """Return the checked bytes under a key, None where there are none."""
        row = self.find(name_space, kind, key)
        if row is None:
            self.counts.misses += 1
            return None
        return await self.open(row)

    async def read(self, name_space: str, kind: str, key: str, limit: int = CHUNK) -> bytes | None:
        """Return what stands under a key as bytes; None where that is nothing, or more than
        `limit` bytes."""
        row = self.find(name_space, kind, key)
        return None if row is None or row.size > limit else await self._bytes(row)

    async def missing(self, name_space: str, digests: Iterable[str]) -> list[Digest]:
        """Return which of some blobs are not in a name space, each once."""
        wanted = list(dict.fromkeys(digests))
        if len(wanted) > MANY:
            return await self._threaded(self._missing, name_space, wanted)
        return self._missing(name_space, wanted)

    def is_there(self, name_space: str, kind: str, keys: Iterable[str]) -> bool:
        """Say whether all of some keys have entries whose blobs are there, and note their use."""
        wanted = list(keys)
        found = self.find_many(name_space, kind, wanted)
        return all(key in found and self._opener.has(found[key]) for key in wanted)

    def has(self, row: Row) -> bool:
        """Say whether the bytes are in the store of a row that was read just now."""
        return self._opener.has(row)

    async def each(
        self, name_space: str, kind: str, prefix: str = ""
    ) -> AsyncIterator[tuple[str, Row]]:
        """Yield keys and rows of a kind whose key begins with `prefix`, by key; no use is noted."""
        for number, found in enumerate(self.entries.each(name_space, kind, prefix)):
            if number % MANY == MANY - 1:
                await trio.lowlevel.checkpoint()
            yield found

    def usage(self, name_space: str) -> Usage:
        """Return how many entries and bytes a name space has."""
        return self.entries.usage(name_space)

    @property
    def evicted(self) -> Mapping[str, Usage]:
        """What had to go for this process's uploads so far, for quotas' sake, by name space."""
        return self._committer.evicted

    @property
    def freed(self) -> int:
        """Bytes of blobs that this process removed, as no entry was left that names them."""
        return self._committer.reaper.freed

    # writing

    async def put(
        self,
        name_space: str,
        kind: str,
        key: str,
        body: Body | bytes,
        *,
        blake3: str | None = None,
        sha256: str | None = None,
        limit: int | None = None,
        meta: Mapping[str, str] | None = None,
    ) -> Row:
        """Store what comes under a key, durably unless the store is relaxed, and return the row.

        Raises Failure(400) where its digest is not the one given, 413 where it is more than `limit`
        bytes or than the quota of the name space, 507 where the disk is full.
        """
        length = len(body) if isinstance(body, bytes) else body.length
        most = self._most(name_space, limit)
        check_size(length, most)
        check_name(name_space, kind, key)
        check_room(self.store, length)
        incoming = Incoming(self.store.cas, sha256=sha256 is not None)
        try:
            try:
                if isinstance(body, bytes):
                    incoming.write(body)
                else:
                    await self._receive(incoming, body, most)
                if not incoming.is_small:
                    await self._threaded(incoming.finish)
            except BnError as error:
                raise failure(error) from error
            check_digests(incoming, blake3, sha256)
            arrival = Arrival(name_space, kind, key, incoming, meta or {})
        except BaseException:
            incoming.discard()
            raise
        await self._commit([arrival])
        return arrival.stored()

    async def put_many(self, name_space: str, items: Sequence[Item]) -> list[Row]:
        """Store short values together, all or none of them. Raises Failure as `put` does."""
        most = self._most(name_space, None)
        for one in items:
            check_size(len(one.data), most)
            check_name(name_space, one.kind, one.key)
        arrivals: list[Arrival] = []
        try:
            for one in items:
                incoming = Incoming(self.store.cas, sha256=one.sha256 is not None)
                arrivals.append(Arrival(name_space, one.kind, one.key, incoming, one.meta))
                if len(one.data) > LARGEST:
                    await self._threaded(incoming.write, one.data)
                    await self._threaded(incoming.finish)
                else:
                    incoming.write(one.data)
                check_digests(incoming, one.blake3, one.sha256)
        except BaseException as error:
            for arrival in arrivals:
                arrival.incoming.discard()
            if isinstance(error, BnError):
                raise failure(error) from error
            raise
        if arrivals:
            await self._commit(arrivals)
        return [arrival.stored() for arrival in arrivals]

    async def remove(self, name_space: str, kind: str, key: str) -> bool:
        """Remove what stands under a key; say whether there was something."""
        row = self.find(name_space, kind, key)
        return row is not None and bool(row.name) and await self.remove_rows([row]) > 0

    async def remove_rows(self, rows: Sequence[Row]) -> int:
        """Remove rows that are still as they were found, in one transaction, and return how many
        went."""
        try:
            gone = await self._threaded(self.entries.remove, rows)
        except BnError as error:
            raise failure(error) from error
        self._committer.reaper.wake()
        return gone.entries

    # inside

    def _missing(self, name_space: str, digests: list[str]) -> list[Digest]:
        missing: list[Digest] = []
        for start in range(0, len(digests), MANY):  # others read meanwhile
            some = digests[start : start + MANY]
            found = self.find_many(name_space, "blob", some)
            missing += [
                Digest(digest)
                for digest in some
                if digest not in found or not self._opener.has(found[digest])
            ]
        return missing

    async def _bytes(self, row: Row) -> bytes | None:
        stored = await self.open(row)
        if stored is None:
            return None
        if stored.data is not None:
            return stored.data
        try:
            return await self._threaded(read_all, stored.descriptor, stored.size)
        finally:
            stored.close()

    async def _receive(self, incoming: Incoming, body: Body, most: int | None) -> None:
        """Take a body as it comes; a large one is written by threads, in large parts."""
        parts: list[bytes] = []
        waiting = 0
        coming = aiter(body)
        try:
            async for part in coming:
                waiting += len(part)
                check_size(incoming.size + waiting, most)
                parts.append(part)
                if waiting >= CHUNK or (incoming.size == 0 and waiting > LARGEST):
                    await self._threaded(incoming.write, b"".join(parts))
                    parts, waiting = [], 0
        finally:
            if isinstance(coming, AsyncGenerator):
                await coming.aclose()
        if not parts:
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if incoming.is_small:
            incoming.write(data)
        else:
            await self._threaded(incoming.write, data)

    def _most(self, name_space: str, limit: int | None) -> int | None:
        """Return the most bytes that an entry may have."""
        quota = self.quotas.get(name_space, self.quotas.get("*"))
        return min((one for one in (limit, quota) if one is not None), default=None)

    def _is_known(self, arrival: Arrival) -> bool:
        """Say whether the same is stored there already; clients often upload everything again."""
        one = arrival.put()
        row = self.entries.find(one.name_space, one.kind, one.key)
        if row is None or (row.digest, row.meta) != (one.digest, one.meta):
            return False
        arrival.row = row
        return self._opener.has(row) and still_there(self.store.cas, row.digest)

    async def _commit(self, whole: Sequence[Arrival]) -> None:
        """Wait until uploads are committed, or have failed."""
        arrivals = []
        for one in whole:
            if self._is_known(one):
                one.incoming.discard()
            else:
                arrivals.append(one)
        if not arrivals:
            return
        finished = trio.Event()
        try:
            self._committer.submit(arrivals, self._wakeup(finished))
        except BnError as error:
            for one in arrivals:
                one.incoming.discard()
            raise failure(error) from error
        await finished.wait()
        for one in arrivals:
            if one.error is not None:
                raise failure(one.error) from one.error
            if one.row is not None and one.incoming.size:
                self.counts.stored += 1
                self.counts.stored_bytes += one.incoming.size

    def _wakeup(self, finished: trio.Event) -> Callable[[], None]:
        """Return what another thread calls to set an event; those of a batch wake the loop once."""
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            while self._finished:
                self._finished.popleft().set()

        def done() -> None:
            self._finished.append(finished)
            if len(self._finished) == 1:
                try:
                    token.run_sync_soon(wake)
                except trio.RunFinishedError:
                    self._finished.clear()
                    raise

        return done

    async def _threaded(self, action: Callable[[*Arguments], Value], *args: *Arguments) -> Value:
        return await trio.to_thread.run_sync(action, *args, limiter=self._limiter)
