"""How objects lie in their tables: in the order of writing, and where each of them is.

::

    log      number → time of writing, digest, bytes       numbers grow: pages are filled in a row
    places   first 8 bytes of a digest → numbers           of all objects that begin so: mostly one

What was written together is read together and lies together, and of what is hit at random a row has
some thirty bytes. All of it happens in a transaction that the caller has.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

LOG: Final = "log"
PLACES: Final = "places"
TABLES: Final = (LOG, PLACES)

OLD: Final = "objects"
"""The one table of stores of format 1: digest → time of writing, bytes."""

TIME: Final = struct.Struct("<d")
KEY: Final = 32
"""Bytes of a digest."""

TOGETHER: Final = 16
"""Rows that are put before what they mapped is given back, if it is much."""

Looked = Callable[[int], object]
"""Called with a number of looks, so that what is mapped is given back."""

_HEAD: Final = TIME.size + KEY
_START: Final = 8
_WIDTH: Final = 5
"""Bytes of a number, big-endian: enough for 10¹² objects."""


class ObjectRows:
    """The objects as one transaction sees them, given the handles of both tables."""

    __slots__ = ("_log", "_places", "_transaction")

    def __init__(self, transaction: Any, handle: Callable[[str], Any]) -> None:
        self._transaction = transaction
        self._log = handle(LOG)
        self._places = handle(PLACES)

    def under(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield digest and row of all objects whose digest begins with `prefix`, in their order
        where that has not 0 bytes: then it is that of writing."""
        if not prefix:
            for _, row in self._transaction.cursor(self._log):
                if len(row) >= _HEAD:
                    yield row[TIME.size : _HEAD], row
            return
        start = prefix[:_START]
        cursor = self._transaction.cursor(self._places)
        for first, numbers in cursor if cursor.set_range(start) else ():
            if not first.startswith(start):
                break
            rows = (self._transaction.get(number, db=self._log) for number in _split(numbers))
            found = {row[TIME.size : _HEAD]: row for row in rows if row and len(row) >= _HEAD}
            yield from ((key, found[key]) for key in sorted(found) if key.startswith(prefix))

    def put(self, rows: Iterable[tuple[bytes, bytes, bytes]], looked: Looked = int) -> int:
        """Put objects, given digest, time and bytes of each, in the order in which they are to lie;
        return how many bytes were added. What is here is written over where it lies."""
        values = {key: time + key + data for key, time, data in rows}
        log = self._transaction.cursor(self._log)
        number = int.from_bytes(log.key(), "big") + 1 if log.last() else 1
        names = {key: one.to_bytes(_WIDTH, "big") for one, key in enumerate(values, number)}
        places = self._transaction.cursor(self._places)
        keys = sorted(values)  # neighbours among the places lie on the same pages
        for at in range(0, len(keys), TOGETHER):
            some = keys[at : at + TOGETHER]
            looked(len(some))
            found = [(key[:_START], names[key]) for key in some]
            if places.putmulti(found, overwrite=False)[1] == len(some):
                continue
            for key in some:
                if self._numbers(key) != names[key] and self._is_written_over(key, values[key]):
                    del values[key]
                elif names[key] not in _split(self._numbers(key)):
                    known = self._numbers(key) + names[key]
                    self._transaction.put(key[:_START], known, db=self._places)
        log.putmulti([(names[key], value) for key, value in values.items()], append=True)
        return sum(map(len, values.values())) - _HEAD * len(values)

    def find(self, key: bytes) -> bytes | None:
        """Return the row of an object, given the 32 bytes of its digest; None where it is not
        here."""
        found = self._at(key, self._numbers(key))
        return None if found is None else found[1]

    def remove(self, key: bytes) -> None:
        """Remove an object, if it is here."""
        numbers = self._numbers(key)
        found = self._at(key, numbers)
        if found is None:
            return
        self._transaction.delete(found[0], db=self._log)
        rest = b"".join(one for one in _split(numbers) if one != found[0])
        if rest:
            self._transaction.put(key[:_START], rest, db=self._places)
        else:
            self._transaction.delete(key[:_START], db=self._places)

    def misplaced(self, looked: Looked = int) -> int:
        """Return how many objects are not where their place says, or have none."""
        wrong = entries = 0
        for start, numbers in self._transaction.cursor(self._places):
            looked(1)
            for number in _split(numbers):
                row = self._transaction.get(number, db=self._log) or b""
                entries += 1
                wrong += len(row) < _HEAD or not row.startswith(start, TIME.size)
        return wrong + abs(entries - int(self._transaction.stat(self._log)["entries"]))

    # inside

    def _is_written_over(self, key: bytes, row: bytes) -> bool:
        """Put a row in the place of the object that is here; False where it is not."""
        found = self._at(key, self._numbers(key))
        return found is not None and bool(self._transaction.put(found[0], row, db=self._log))

    def _numbers(self, key: bytes) -> bytes:
        found: bytes = self._transaction.get(key[:_START], db=self._places) or b""
        return found

    def _at(self, key: bytes, numbers: bytes) -> tuple[bytes, bytes] | None:
        """Return number and row of that one of `numbers` that is the object `key`."""
        for number in _split(numbers):
            row: bytes | None = self._transaction.get(number, db=self._log)
            if row is not None and row.startswith(key, TIME.size):
                return number, row
        return None


def find(transaction: Any, log: Any, key: bytes) -> bytes | None:
    """Return the row of an object, given the 32 bytes of its digest; None where it is not here.

    The transaction is one on the places; `log` is the handle of the other table.
    """
    numbers: bytes | None = transaction.get(key[:_START])
    for number in _split(numbers) if numbers else ():
        row: bytes | None = transaction.get(number, None, log)
        if row is not None and row.startswith(key, 8):
            return row
    return None


def time_of(row: bytes) -> float:
    """Return when an object was written (seconds since 1970)."""
    return float(TIME.unpack_from(row)[0])


def size_of(row: bytes) -> int:
    """Return the bytes of an object."""
    return len(row) - _HEAD


def bytes_of(row: bytes) -> bytes:
    """Return an object's bytes."""
    return row[_HEAD:]


def rescued(key: bytes, value: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return digest, time and bytes of what may be a row of an object, in this layout or that of
    format 1; None where it is none. Whether the bytes are right is for the caller to see."""
    if len(key) == KEY and len(value) >= TIME.size:
        return key, value[: TIME.size], value[TIME.size :]
    if len(key) == _WIDTH and len(value) >= _HEAD:
        return value[TIME.size : _HEAD], value[: TIME.size], value[_HEAD:]
    return None


def _split(numbers: bytes) -> Iterable[bytes]:
    if len(numbers) == _WIDTH:
        return (numbers,)
    return [numbers[at : at + _WIDTH] for at in range(0, len(numbers), _WIDTH)]
