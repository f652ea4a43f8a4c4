"""The index: small facts about blobs in LMDB, the only place that imports lmdb.

Everything here can be lost: blobs are files, and what the tables say is looked up or built again.

LMDB does not check its pages, and a damaged one can end the process. So the file carries, like the
blobs, a fixed modification time whenever it is at rest: with another one it was changed by somebody
else (or a writer was killed), and a child process reads all of it before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from store.errors import HostError, IntegrityError
from store.pages import DamagedPage, check_pages
from store.tiers import EPOCH_NS

MAP_SIZE: Final = 1 << 40
"""Bytes of address space for the map; it takes no room on disk."""

MAP_LEAST: Final = 1 << 20
"""The smallest map that is tried where the system gives no larger one."""

DATA: Final = "data.mdb"
REBUILD: Final = "no blob is lost: `bn store rebuild-index` makes it again from the files"

Value = TypeVar("Value")


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
    META = "meta"
    """Small facts about the store itself, as `used/TIER` → bytes."""


Write = tuple[Table, str, bytes]


class Index:
    """The tables of one store. Reads see the last committed state.

    One thread may write while another reads. A map that is too small grows by itself.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open the tables in the directory `path`. Raises IntegrityError where they are corrupt."""
        self._path = path
        self._readonly = readonly
        self._reading = threading.RLock()
        self._writing = threading.RLock()
        self._tables: dict[Table, Any] = {}
        self._environment: Any = None
        self._size = MAP_SIZE
        if not _at_rest(path):
            check(path)
        sizes = [max(MAP_LEAST, MAP_SIZE >> shift) for shift in range(0, 21, 4)]
        self._guarded(lambda: self._open(sizes), "cannot open the index")
        self._rest()

    @property
    def map_size(self) -> int:
        """Bytes of address space that the map has now."""
        return self._size

    def get(self, table: Table, key: str) -> bytes | None:
        """Return what stands under `key`, or None."""

        def read() -> bytes | None:
            with self._reading:
                if table not in self._tables:
                    return None
                with self._environment.begin(self._tables[table]) as transaction:
                    value = transaction.get(key.encode())
            return None if value is None else bytes(value)

        return self._retried(read, f"cannot read table {table} of the index")

    def get_many(self, table: Table, keys: Iterable[str]) -> dict[str, bytes]:
        """Return what stands under those of `keys` that are there, all as of one moment."""
        wanted = list(keys)

        def read() -> dict[str, bytes]:
            with self._reading:
                if table not in self._tables:
                    return {}
                with self._environment.begin(self._tables[table]) as transaction:
                    found = ((key, transaction.get(key.encode())) for key in wanted)
                    return {key: bytes(value) for key, value in found if value is not None}

        return self._retried(read, f"cannot read table {table} of the index")

    def get_json(self, table: Table, key: str) -> Any:
        """Return the JSON value under `key`, None where there is none or it is damaged."""
        data = self.get(table, key)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None

    def items(self, table: Table) -> Iterator[tuple[str, bytes]]:
        """Yield everything in a table, by key, as it is when the first is asked for."""

        def read() -> list[tuple[str, bytes]]:
            with self._reading:
                if table not in self._tables:
                    return []
                with self._environment.begin(self._tables[table]) as transaction:
                    return [
                        (bytes(key).decode(errors="replace"), bytes(value))
                        for key, value in transaction.cursor()
                    ]

        yield from self._retried(read, f"cannot read table {table} of the index")

    def write(self, writes: Iterable[Write], added: Mapping[str, int] | None = None) -> None:
        """Put all of `writes` in one transaction that is durable when this returns; `added` is
        added to numbers in the table of small facts."""
        rows = list(writes)

        def change(transaction: Any) -> None:
            for table, key, value in rows:
                transaction.put(key.encode(), value, db=self._tables[table])
            for key, number in (added or {}).items():
                meta = self._tables[Table.META]
                before = _number(transaction.get(key.encode(), db=meta))
                transaction.put(key.encode(), b"%d" % max(0, before + number), db=meta)

        self._change(change)

    def number(self, key: str) -> int | None:
        """Return a number from the table of small facts; None where it was never counted."""
        data = self.get(Table.META, key)
        return None if data is None else _number(data)

    def edit(
        self, table: Table, keys: Iterable[str], new: Callable[[str, bytes], bytes | None]
    ) -> int:
        """Give entries the value that `new` makes of key and value, or remove them where it gives
        None, and return how many were removed. It is asked within the transaction."""
        names = list(keys)
        gone = 0

        def change(transaction: Any) -> None:
            nonlocal gone
            gone = 0
            handle = self._tables[table]
            for key in names:
                name = key.encode()
                value = transaction.get(name, db=handle)
                made = None if value is None else new(key, bytes(value))
                if made is None:
                    gone += transaction.delete(name, db=handle)
                elif made != bytes(value):
                    transaction.put(name, made, db=handle)

        self._change(change)
        return gone

    def close(self) -> None:
        """Close the environment; every process that opened it should."""
        self._environment.close()

    # inside

    def _change(self, change: Callable[[Any], None]) -> None:
        def write() -> None:
            with self._writing, self._environment.begin(write=True) as transaction:
                change(transaction)

        if self._readonly:
            raise HostError(
                f"{self._path}: the store is read-only",
                "make it writable, or use another one with BN_STORE",
            )
        self._retried(write, "cannot write to the index")
        self._rest()

    def _retried(self, action: Callable[[], Value], what: str) -> Value:
        """Return what `action` gives, with a larger map and without stale readers where it must."""

        def attempt() -> Value:
            for _ in range(64):
                try:
                    return action()
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.MapResizedError:
                    self._reopen([self._size])  # by another process: it becomes as large as that
                except lmdb.ReadersFullError:
                    if not self._environment.reader_check():
                        raise
            return action()

        return self._guarded(attempt, what)

    def _guarded(self, action: Callable[[], Value], what: str) -> Value:
        """Return what `action` gives; LMDB's errors become ours."""
        try:
            return action()
        except (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError) as error:
            raise _corrupt(self._path, str(error)) from error
        except (lmdb.VersionMismatchError, lmdb.IncompatibleError, lmdb.PanicError) as error:
            raise _corrupt(self._path, str(error)) from error
        except lmdb.MapFullError as error:
            raise HostError(
                f"{self._path}: {what}: it does not fit into {self._size} bytes of address space",
                "raise the limit on address space (ulimit -v)",
            ) from error
        except lmdb.Error as error:
            raise HostError(
                f"{self._path}: {what}: {error}", "check its owner and the space on its disk"
            ) from error

    def _grow(self) -> None:
        before = self._size
        self._reopen([before * 2, before * 3 // 2, before * 5 // 4, before])
        if self._size == before:
            raise lmdb.MapFullError("no larger map can be had")

    def _reopen(self, sizes: Iterable[int]) -> None:
        """Open the tables anew with another map, while no thread uses them."""
        with self._writing, self._reading:
            self._environment.close()
            self._open(sizes)

    def _open(self, sizes: Iterable[int]) -> None:
        """Open with a map of the first of `sizes`, in bytes, that can be had."""
        for size in sizes:
            try:
                self._environment = self._environment_of(size)
                break
            except (lmdb.MemoryError, MemoryError, OverflowError):
                continue
        else:
            raise lmdb.MemoryError("no room for a map")
        self._size = size
        if not self._readonly:
            self._environment.reader_check()
        self._tables = {}
        for table in Table:
            with contextlib.suppress(lmdb.NotFoundError, lmdb.ReadonlyError):
                self._tables[table] = self._environment.open_db(
                    table.encode(), create=not self._readonly
                )

    def _environment_of(self, size: int) -> Any:
        options: dict[str, Any] = {"map_size": size, "max_dbs": 16, "max_readers": 1024}
        if not self._readonly:
            return lmdb.open(str(self._path), **options)
        try:
            return lmdb.open(str(self._path), readonly=True, create=False, **options)
        except (lmdb.MemoryError, lmdb.InvalidError, lmdb.CorruptedError):
            raise
        except lmdb.Error:  # where its lock cannot be written, nobody writes to it either
            return lmdb.open(str(self._path), readonly=True, create=False, lock=False, **options)

    def _rest(self) -> None:
        """Give the file the time that says that nobody else changed it."""
        if not self._readonly:
            with contextlib.suppress(OSError):
                os.utime(self._path / DATA, ns=EPOCH_NS)


def _at_rest(path: Path) -> bool:
    """Say whether the index in `path` was last changed by an `Index`, or is not there yet."""
    try:
        status = os.stat(path / DATA)
    except OSError as error:
        return error.errno == errno.ENOENT
    return status.st_mtime_ns == EPOCH_NS[0]


def check(path: Path) -> None:
    """Read the whole index in the directory `path`, in a child process because a damaged one can
    end it; raises IntegrityError where that fails."""
    command = [sys.executable, "-I", "-m", "store.index", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"reading it ends with {done.returncode}"]
        raise _corrupt(path, last[0])


def _corrupt(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path}: the index is corrupt: {why}", REBUILD)


def _number(data: bytes | None) -> int:
    try:
        return int(data or b"0")
    except ValueError:
        return 0


def _read_all(path: str) -> None:
    """Check every page, then walk every table: all keys and values, in order, as many as are
    counted. Nobody writes meanwhile: a transaction that changes nothing is open for that."""
    size = max(os.stat(f"{path}/{DATA}").st_size, MAP_LEAST)
    writable = os.access(path, os.W_OK)
    environment = lmdb.open(
        path, map_size=size, max_dbs=16, create=False, readonly=not writable, lock=writable
    )
    with environment.begin(write=writable) as transaction:
        try:
            check_pages(f"{path}/{DATA}")
        except DamagedPage as damage:
            sys.exit(str(damage))
        names = [bytes(name) for name, _ in transaction.cursor()]
        for name in names:
            handle = environment.open_db(name, transaction, create=False)
            before, count = b"", 0
            for key, value in transaction.cursor(handle):
                if not before < bytes(key) or len(bytes(value)) > size:
                    sys.exit(f"table {name!r} is out of order")
                before, count = bytes(key), count + 1
            if count != transaction.stat(handle)["entries"]:
                sys.exit(f"table {name!r} has lost entries")
    unknown = set(names) - {table.encode() for table in Table}
    if unknown:
        sys.exit(f"unknown tables {sorted(unknown)}")


def to_json(value: Mapping[str, Any] | list[Any]) -> bytes:
    """Return the bytes under which a JSON value stands in a table."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


if __name__ == "__main__":
    _read_all(sys.argv[1])
