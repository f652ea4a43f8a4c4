"""What changes entries, within one write transaction: rows, their order, references, counters."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from store.digest import Digest
from store.entry_rows import (
    Put,
    Row,
    Usage,
    name_of,
    pack,
    pack_usage,
    place,
    row_of,
    slot,
    start,
    usage_of,
    with_use,
)
from store.environment import Environment
from store.uses import Uses

ROWS, ORDER, REFS, ORPHANS, USAGE = TABLES = ("rows", "order", "refs", "orphans", "usage")

LOW_WATER: Final = 0.95
"""The share of its quota down to which a name space that is over it is brought."""

PORTION: Final = 1024
"""Rows that are looked at, or removed, at a time."""

LONGEST: Final = 4 * PORTION
"""Rows that are evicted in one transaction, but for the rest of a portion."""

_COUNT: Final = struct.Struct("<Q")


class Tables:
    """The tables within a write transaction."""

    def __init__(self, environment: Environment, transaction: Any, uses: Uses) -> None:
        self._environment = environment
        self._transaction = transaction
        self._rows, self._order, self._refs, self._orphans, self._usage_table = map(
            environment.handle, TABLES
        )
        self._uses = uses
        self._usage: dict[bytes, tuple[int, int]] = {}
        self._fresh: set[Digest] = set()
        self._newest: dict[bytes, int] = {}

    def row(self, name: bytes) -> Row | None:
        return row_of(name, self._transaction.get(name, db=self._rows))

    def put(self, put: Put, now: float) -> Row:
        name = name_of(put.name_space, put.kind, put.key)
        before = self.row(name)
        row = Row(put.digest, put.size, now, now, put.meta, name)
        self._count(put.digest, put.size, 1)
        if before is not None:
            self._drop(name, before)
        self._transaction.put(name, pack(row, put), db=self._rows)
        self._transaction.put(place(name, now), name, db=self._order)
        self._add(name, 1, put.size)
        self._newest[name[: name.index(0)]] = put.size
        self._environment.looked()
        return row

    def missing(self, there: Callable[[Digest], bool]) -> set[Digest]:
        """Return the blobs that no row named before and that are not there."""
        return {digest for digest in self._fresh if not there(digest)}

    def remove(self, name: bytes) -> Row | None:
        row = self.row(name)
        if row is not None:
            self._drop(name, row)
            self._transaction.delete(name, db=self._rows)
            self._environment.looked()
        return row

    def make_room(self, quotas: Mapping[str, int]) -> dict[str, Usage]:
        """Bring every name space that was written to under its quota; return what went, by name
        space."""
        found = {}
        for space in list(self._usage):
            quota = quotas.get(space.decode(), quotas.get("*"))
            if quota is not None and self._now(space)[1] > quota:
                most = max(int(quota * LOW_WATER), self._newest.get(space, 0))
                gone = self.evict(space.decode(), most)
                if gone.entries:
                    found[space.decode()] = gone
        return found

    def evict(self, name_space: str, most: int) -> Usage:
        """Remove what was used longest ago until at most `most` bytes are left, or `LONGEST` rows
        went: others wait to write."""
        space, entries, size = name_space.encode(), 0, 0
        after = prefix = start(name_space)
        while self._now(space)[1] > most and entries < LONGEST:
            portion = self._oldest(after, prefix)
            if not portion:
                break
            last = portion[-1][0]
            after = last + b"\0"
            while portion and self._now(space)[1] > most:
                where, name = heapq.heappop(portion)
                row = self.row(name)
                used = self._uses.of(slot(name))
                if row is None or place(name, row.used) != where:
                    self._transaction.delete(where, db=self._order)
                elif used > row.used:
                    moved = self._move(name, row, used)
                    if moved <= last:
                        heapq.heappush(portion, (moved, name))
                else:
                    self.remove(name)
                    entries, size = entries + 1, size + row.size
        return Usage(entries, size)

    def finish(self) -> None:
        """Write the counters."""
        for space, (entries, size) in self._usage.items():
            if entries > 0:
                self._transaction.put(space, pack_usage(entries, size), db=self._usage_table)
            else:
                self._transaction.delete(space, db=self._usage_table)

    def _oldest(self, after: bytes, prefix: bytes) -> list[tuple[bytes, bytes]]:
        cursor = self._transaction.cursor(self._order)
        found: list[tuple[bytes, bytes]] = []
        for where, name in cursor if cursor.set_range(after) else ():
            if not where.startswith(prefix) or len(found) == PORTION:
                break
            found.append((bytes(where), bytes(name)))
        return found

    def _move(self, name: bytes, row: Row, used: float) -> bytes:
        """Give a row its last use, as others noted it; return where it stands in the order now."""
        value = self._transaction.get(name, db=self._rows)
        self._transaction.delete(place(name, row.used), db=self._order)
        moved = place(name, used)
        self._transaction.put(moved, name, db=self._order)
        self._transaction.put(name, with_use(name, value, used), db=self._rows)
        return moved

    def _drop(self, name: bytes, row: Row) -> None:
        self._transaction.delete(place(name, row.used), db=self._order)
        self._count(row.digest, row.size, -1)
        self._add(name, -1, -row.size)

    def _count(self, digest: Digest, size: int, more: int) -> None:
        key = bytes.fromhex(digest)
        value = self._transaction.get(key, db=self._refs)
        number = _COUNT.unpack(value)[0] if value else 0
        if number + more > 0:
            self._transaction.put(key, _COUNT.pack(number + more), db=self._refs)
            if not number:
                self._fresh.add(digest)
                self._transaction.delete(key, db=self._orphans)
            return
        self._fresh.discard(digest)
        self._transaction.delete(key, db=self._refs)
        self._transaction.put(key, _COUNT.pack(size), db=self._orphans)

    def _now(self, space: bytes) -> tuple[int, int]:
        if space not in self._usage:
            found = usage_of(self._transaction.get(space, db=self._usage_table))
            self._usage[space] = (found.entries, found.bytes)
        return self._usage[space]

    def _add(self, name: bytes, entries: int, size: int) -> None:
        space = name[: name.index(0)]
        before = self._now(space)
        self._usage[space] = (before[0] + entries, before[1] + size)
