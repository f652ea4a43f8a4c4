"""The index: small facts about blobs in LMDB, the only place that imports lmdb.

Everything here can be lost: blobs are files, and what the tables say is looked up or built again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import lmdb

from store.errors import HostError, IntegrityError

MAP_SIZE: Final = 1 << 40
"""Bytes of address space for the map; it takes no room on disk."""


class Table(StrEnum):
    """The tables and what stands in them; keys are at most 511 bytes."""

    ACTION_CACHE = "action_cache"
    """Action digest, or observed key → digest of the ActionResult object."""
    REALISATIONS = "realisations"
    """Recipe digest → digest of the Realisation object."""
    OBSERVED = "observed"
    """Observed base → the sets of input paths that such actions were seen to read."""
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
    META = "meta"
    """Small facts about the store itself, as `used/TIER` → bytes."""


Write = tuple[Table, str, bytes]


class Index:
    """The tables of one store. Reads see the last committed state."""

    def __init__(self, path: Path) -> None:
        try:
            self._environment = lmdb.open(
                str(path), map_size=MAP_SIZE, max_dbs=16, max_readers=1024, subdir=True
            )
            self._environment.reader_check()
            self._tables = {table: self._environment.open_db(table.encode()) for table in Table}
        except (lmdb.CorruptedError, lmdb.InvalidError) as error:
            raise IntegrityError(
                f"{path}: the index is corrupt: {error}",
                "move that directory away: no blob is lost, and the next build fills it anew",
            ) from error
        except lmdb.Error as error:
            raise HostError(
                f"{path}: cannot open the index: {error}", "check its owner and the space on disk"
            ) from error

    def get(self, table: Table, key: str) -> bytes | None:
        """Return what stands under `key`, or None."""
        try:
            with self._environment.begin(self._tables[table]) as transaction:
                value = transaction.get(key.encode())
        except lmdb.Error as error:
            raise IntegrityError(f"index table {table} cannot be read: {error}") from error
        return None if value is None else bytes(value)

    def get_json(self, table: Table, key: str) -> Any:
        """Return the JSON value under `key`, None where there is none or it is damaged."""
        data = self.get(table, key)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None

    def items(self, table: Table) -> Iterator[tuple[str, bytes]]:
        """Yield everything in a table, by key."""
        with self._environment.begin(self._tables[table]) as transaction:
            for key, value in transaction.cursor():
                yield bytes(key).decode(), bytes(value)

    def write(self, writes: Iterable[Write]) -> None:
        """Put all of `writes` in one transaction that is durable when this returns."""
        try:
            with self._environment.begin(write=True) as transaction:
                for table, key, value in writes:
                    transaction.put(key.encode(), value, db=self._tables[table])
        except lmdb.Error as error:
            raise HostError(
                f"cannot write to the index: {error}", "check the space left on the store's disk"
            ) from error

    def close(self) -> None:
        """Close the environment; every process that opened it should."""
        self._environment.close()


def to_json(value: Mapping[str, Any] | list[Any]) -> bytes:
    """Return the bytes under which a JSON value stands in a table."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
