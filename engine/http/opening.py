"""Blobs opened for sending: small ones as bytes, kept while they are hot, large as descriptors.

Nothing is given out that was not checked: bytes against their digest, a file once for each inode
and change time in this process, in which nobody can have changed it since.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from enum import Enum
from typing import Final

import blake3

from engine.http.message import Stored
from store.cas import TOUCH_SECONDS, Cas
from store.digest import Digest, digest_bytes
from store.entries import Row
from store.object_table import LARGEST
from store.tiers import EPOCH_NS, HDD, Form, Tier

SMALL: Final = 128 * 1024
"""Bytes up to which a blob is sent from memory."""

CHECKED_KEPT: Final = 65536
"""Files of which it is remembered that they were checked."""

SEEN_KEPT: Final = 100_000
"""Objects of which it is remembered that they are there."""

CHUNK: Final = 2**20


class _Look(Enum):
    RIGHT = 1
    OTHER = 2
    """Not known yet, or of another size than was said."""
    DAMAGED = 3


class Opener:
    """Opens blobs of the CAS. `hot_bytes` is the most that is kept in memory."""

    def __init__(self, cas: Cas, hot_bytes: int) -> None:
        self.hot_bytes = 0
        self.damaged = 0
        self._most = hot_bytes
        self._cas = cas
        self._hot: OrderedDict[Digest, bytes] = OrderedDict()
        self._seen: set[Digest] = set()
        self._checked: OrderedDict[tuple[int, int, int, int], None] = OrderedDict()
        self._locks = [threading.Lock() for _ in range(64)]

    def at_once(self, row: Row) -> Stored | None:
        """Return a blob that can be had without waiting for a slow disk or a long check."""
        data = self._hot.get(row.digest)
        if data is not None:
            self._hot.move_to_end(row.digest)
            return Stored(row.digest, row.size, data, meta=row.meta)
        if row.size > LARGEST:
            return self._file(row, check=False)
        for tier in self._cas.tier_set.readable():
            if tier.level >= HDD:
                break
            data = self._cas.tier_set.attempt(tier, tier.read_object, row.digest)
            if data is not None and len(data) == row.size and digest_bytes(data) == row.digest:
                self._keep(row.digest, data)
                return Stored(row.digest, row.size, data, meta=row.meta)
        return None

    def open(self, row: Row) -> Stored | None:
        """Return a blob, from wherever it is; None where it is gone or damaged. It may block."""
        self.forget_uses()
        if row.size <= LARGEST:
            data = self._cas.get_bytes(row.digest)
            if len(data) != row.size:
                return None
            return Stored(row.digest, row.size, data, meta=row.meta)
        found = self._file(row, check=True)
        if found is None:
            self._cas.promote(row.digest, size=row.size)
            found = self._file(row, check=True)
        return found

    def forget_uses(self) -> None:
        """Keep what the CAS notes of uses, for builds, from growing for ever."""
        if len(self._cas.uses) > CHECKED_KEPT:
            self._cas.uses.clear()

    def has(self, row: Row) -> bool:
        """Say whether a row's bytes are there. The row was read just now: it goes before an object
        does, so one that was there once need not be looked for again."""
        digest = row.digest
        if digest in self._seen or digest in self._hot:
            return True
        for tier in self._cas.tier_set.readable():
            if not tier.durable or tier.table is None:
                continue
            found = self._cas.tier_set.attempt(tier, tier.table.look, digest, 0.0)
            if found is not None and found.size == row.size:
                if len(self._seen) >= SEEN_KEPT:
                    self._seen.clear()
                self._seen.add(digest)
                return True
        return self.size_of(digest) == row.size or self._is_packed(digest)

    def _is_packed(self, digest: Digest) -> bool:
        return any(
            tier.durable and self._cas.tier_set.attempt(tier, tier.status, digest, Form.PACKED)
            for tier in self._cas.tier_set.readable()
        )

    def lost(self, digest: Digest) -> None:
        """Look for an object again that was not to be had."""
        self._seen.discard(digest)

    def size_of(self, digest: Digest) -> int | None:
        """Return how large a blob of a durable tier is, None where it is not there; no use of it
        is noted."""
        for tier in self._cas.tier_set.readable():
            if not tier.durable:
                continue
            found = self._cas.tier_set.attempt(tier, _size_in, tier, digest)
            if found is not None:
                return found
        return None

    def _file(self, row: Row, *, check: bool) -> Stored | None:
        for tier in self._cas.tier_set.reading(row.digest):
            for form in (Form.PLAIN, Form.EXECUTABLE):
                try:
                    handle = os.open(tier.path(row.digest, form), os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    continue
                found = self._look(handle, row, tier, check=check)
                if found is _Look.RIGHT:
                    return Stored(row.digest, row.size, None, handle, row.meta)
                os.close(handle)
                if found is _Look.DAMAGED:
                    self.damaged += 1
                    self._cas.tier_set.attempt(tier, tier.quarantine, row.digest, form)
        return None

    def _look(self, handle: int, row: Row, tier: Tier, *, check: bool) -> _Look:
        """Say what a file is; without `check` only if that is known."""
        status = os.fstat(handle)
        old = status.st_ctime < time.time() - TOUCH_SECONDS
        if status.st_mtime_ns == EPOCH_NS[0]:
            if _mark(status) in self._checked and not old:
                return _Look.RIGHT if status.st_size == row.size else _Look.OTHER
            if not check:
                return _Look.OTHER
            with self._locks[int(row.digest[:2], 16) % len(self._locks)]:  # many want the same
                known = _mark(status) in self._checked
                if known or _digest(handle) == row.digest:
                    self._note(handle, status, tier, old=old)
                    return _Look.RIGHT if status.st_size == row.size else _Look.OTHER
        return _Look.DAMAGED if check else _Look.OTHER

    def _note(self, handle: int, status: os.stat_result, tier: Tier, *, old: bool) -> None:
        """Note that a file was checked; what is used does not get cold."""
        if old and tier.writable:
            with self._cas.gate.passing(), contextlib.suppress(OSError):
                os.utime(handle, ns=EPOCH_NS)
                status = os.fstat(handle)
        self._checked[_mark(status)] = None
        while len(self._checked) > CHECKED_KEPT:
            self._checked.popitem(last=False)

    def keep(self, found: Stored) -> None:
        """Keep what `open` returned in memory, if it is small. Not for threads."""
        if found.data is not None:
            self._keep(Digest(found.digest), found.data)

    def _keep(self, digest: Digest, data: bytes) -> None:
        if len(data) > SMALL or len(data) > self._most or digest in self._hot:
            return
        self._hot[digest] = data
        self.hot_bytes += len(data) + 200
        while self.hot_bytes > self._most and self._hot:
            _, gone = self._hot.popitem(last=False)
            self.hot_bytes -= len(gone) + 200


def _mark(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what is another one once a file was changed."""
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size


def _size_in(tier: Tier, digest: Digest) -> int | None:
    found = tier.look(digest, Form.OBJECT)
    if found is not None:
        return found.size
    for form in (Form.PLAIN, Form.EXECUTABLE):
        status = tier.status(digest, form)
        if status is not None:
            return status.st_size
    return None


def _digest(handle: int) -> str:
    hasher = blake3.blake3()
    at = 0
    while part := os.pread(handle, CHUNK, at):
        hasher.update(part)
        at += len(part)
    return hasher.hexdigest()
