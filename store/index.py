"""The index: small facts about blobs in LMDB tables.

Everything here can be lost: blobs and objects say enough to look it up or to build it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from store import environment
from store.encoding import made_ready
from store.environment import DATA as DATA
from store.environment import Environment
from store.errors import HostError
from store.index_rows import key_row, row_key, row_value, value_row
from store.object_rows import TOGETHER

WHAT: Final = "index"
OLD: Final = "meta"
"""A table that only stores of format 1 have."""

REBUILD: Final = "no blob is lost: `bn store rebuild-index` makes it again from the files"


class Table(StrEnum):
    """The tables and what stands in them; keys are at most 511 bytes."""

    ACTION_CACHE = "action_cache"
    """Action digest, or observed key → digest of the ActionResult object."""
    REALISATIONS = "realisations"
    """Recipe digest → digest of the Realisation object."""
    OBSERVED = "observed"
    """Observed base → the sets of input paths that such actions were seen to read, each with the
    digest of the result that told."""
    STATS = "stats"
    """Digest of a directory's path → what its files looked like when they were hashed."""
    ALIASES = "aliases"
    """SHA-256 → BLAKE3 digest and size of the same bytes."""
    DERIVED = "derived"
    """Digest of how something was derived (an unpacked archive, say) → tree digest."""
    HISTORY = "history"
    """Step (spec and label) → its last runs: action, build, duration."""
    ROOTS = "roots"
    """What the collector keeps: `artifact/NAME` → tree and time, `link/PATH` → tree."""
    HEAT = "heat"
    """Digest → how often the blob was used, and since when that is counted."""
    REMOTE = "remote"
    """Digest → a remote cache that has the blob, its size in bytes, since when that is known."""
    ORIGINS = "origins"
    """Action digest → the remote cache that its result came from, and whose signature it has."""
    TIMELINES = "timelines"
    """Build → how many events its timeline has, and the link of the last one."""
    META = "facts"
    """Small facts about the store itself, as `used/TIER` → bytes."""


Write = tuple[Table, str, bytes]


class Index:
    """The tables of one store; see `Environment`.

    `before_write` is called before anything is written, as it may name what is new in the store.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open the tables in the directory `path`. Raises IntegrityError where they are corrupt."""
        self._path = path
        self._readonly = readonly
        self.open()
        self.before_write: Callable[[], object] = int
        self._leaving = threading.Lock()
        self._later: list[Write] = []
        self._added: dict[str, int] = {}

    def open(self) -> None:
        """Open the tables again that were closed."""
        self._environment = Environment(
            self._path, list(Table), WHAT, REBUILD, readonly=self._readonly
        )

    @property
    def map_size(self) -> int:
        """Bytes of address space that the map has now."""
        return self._environment.map_size

    def version(self) -> int:
        """Return a number that is another one after every change, also by others."""
        return self._environment.version()

    def state(self) -> tuple[int, int]:
        """Return what is another one after every change, with what was left for later put, and
        where the file is another one."""
        self._settle()
        return os.stat(self._path / DATA).st_ino, self.version()

    def version_if_alone(self, since: int) -> int | None:
        """Return the same, with what was left for later put, if nobody else changed anything since
        it was `since`; else None."""
        self._settle()
        return self._environment.version_if_alone(since)

    def count(self, table: Table) -> int:
        """Return how many entries a table has."""
        return self._environment.count(table)

    def get(self, table: Table, key: str) -> bytes | None:
        """Return what stands under `key`, or None."""
        self._settle(table)
        row = self._environment.get(table, key_row(key))
        return None if row is None else row_value(row)

    def get_many(self, table: Table, keys: Iterable[str]) -> dict[str, bytes]:
        """Return what stands under those of `keys` that are there, all as of one moment."""
        self._settle(table)
        # neighbours in a table lie on the same pages
        wanted, empty = sorted((key_row(key), key) for key in keys), dict[str, bytes]()

        def read(transaction: Any) -> dict[str, bytes]:
            found = {}
            for name, key in wanted:
                row = transaction.get(name)
                if row is not None:
                    found[key] = row_value(row)
                self._environment.looked()
            return found

        return self._environment.read(table, read, empty)

    def there(self, table: Table, keys: Iterable[str]) -> set[str]:
        """Return those of `keys` under which something stands, all as of one moment."""
        self._settle(table)
        wanted = sorted((key_row(key), key) for key in keys)

        def read(transaction: Any) -> set[str]:
            found, cursor = set(), transaction.cursor()
            for name, key in wanted:
                if cursor.set_key(name):
                    found.add(key)
                self._environment.looked()
            return found

        return self._environment.read(table, read, set[str]())

    def get_json(self, table: Table, key: str) -> Any:
        """Return the JSON value under `key`, None where there is none or it is damaged."""
        data = self.get(table, key)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None

    def items(self, table: Table) -> Iterator[tuple[str, bytes]]:
        """Yield everything in a table, by key (digests after all else), as it is when the first is
        asked for."""

        def read(transaction: Any) -> list[tuple[str, bytes]]:
            return [(row_key(name), row_value(row)) for name, row in transaction.cursor()]

        self._settle(table)
        empty: list[tuple[str, bytes]] = []
        yield from self._environment.read(table, read, empty)

    def write(self, writes: Iterable[Write], added: Mapping[str, int] | None = None) -> None:
        """Put all of `writes` in one transaction that is durable when this returns; `added` is
        added to numbers in the table of small facts."""
        rows = list(writes)
        if rows:
            self.before_write()
        self.put(rows, added)

    def put(self, rows: Iterable[Write], added: Mapping[str, int] | None = None) -> None:
        """Do as `write` does for who made sure that all that is named is durable."""
        with self._leaving:
            rows, self._later = [*self._later, *rows], []
            numbers, self._added = self._added, {}
        for name, number in (added or {}).items():
            numbers[name] = numbers.get(name, 0) + number
        handle = self._environment.handle
        standing = [(table, key_row(key), value_row(value)) for table, key, value in rows]
        standing.sort(key=lambda row: row[:2])

        def change(transaction: Any) -> None:
            for table in dict.fromkeys(row[0] for row in standing):
                cursor = transaction.cursor(handle(table))
                found = [row[1:] for row in standing if row[0] == table]
                for at in range(0, len(found), TOGETHER):
                    self._environment.put(len(found[at : at + TOGETHER]))
                    cursor.putmulti(found[at : at + TOGETHER])
            for key, number in numbers.items():
                meta, name = handle(Table.META), key_row(key)
                before = _number(transaction.get(name, db=meta))
                transaction.put(name, b"%d" % max(0, before + number), db=meta)

        self._environment.change(change)

    def later(self, writes: Iterable[Write], added: Mapping[str, int] | None = None) -> None:
        """Put `writes` with the next transaction, or on closing: they name nothing that is not
        durable yet, and it is no harm if they are lost. Who reads such a table here finds them."""
        with self._leaving:
            self._later += writes
            for name, number in (added or {}).items():
                self._added[name] = self._added.get(name, 0) + number

    def number(self, key: str) -> int | None:
        """Return a number from the table of small facts; None where it was never counted."""
        data, more = self.get(Table.META, key), self._added.get(key)
        return more if data is None else _number(data) + (more or 0)

    def edit(
        self, table: Table, keys: Iterable[str], new: Callable[[str, bytes], bytes | None]
    ) -> int:
        """Give entries the value that `new` makes of key and value, or remove them where it gives
        None, and return how many were removed. It is asked within the transaction."""
        self._settle(table)
        names = list(keys)
        gone = 0

        def change(transaction: Any) -> None:
            nonlocal gone
            gone = 0
            handle = self._environment.handle(table)
            for key in names:
                name = key_row(key)
                row = transaction.get(name, db=handle)
                value = None if row is None else row_value(row)
                made = None if value is None else new(key, value)
                if made is None:
                    gone += transaction.delete(name, db=handle)
                elif made != value:
                    transaction.put(name, value_row(made), db=handle)

        self._environment.change(change)
        return gone

    def close(self) -> None:
        """Close the environment; every process that opened it should."""
        with contextlib.suppress(HostError):  # what was left for later may be lost
            self._settle()
        self._environment.close()

    def _settle(self, table: Table | None = None) -> None:
        """Put what was left for later, if any of it belongs into `table` (None: whatever it is)."""
        if (table is None and self._added) or any(
            table in (None, write[0]) for write in self._later
        ):
            self.put(())


def check(path: Path) -> None:
    """Read the whole index in the directory `path`; raises IntegrityError where it is damaged."""
    environment.check(path, list(Table), WHAT, REBUILD)


def _number(data: bytes | None) -> int:
    try:
        return int(data or b"0")
    except ValueError:
        return 0


def to_json(value: Mapping[str, Any] | list[Any]) -> bytes:
    """Return the bytes under which a JSON value stands in a table."""
    return _encoded(value).encode()


_encoded: Final = made_ready(json.JSONEncoder(separators=(",", ":"), sort_keys=True))
