"""LMDB environments: tables on disk.

LMDB does not check its pages, and a damaged one can end the process. So the file carries, like the
blobs, a fixed modification time whenever it is at rest: with another one it was changed by somebody
else (or a writer was killed), and a child process (`store.soundness`) reads all of it before it is
used. Only that one, `store.upgrade` and `store.lmdb_errors` import lmdb besides.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import lmdb

from store.checkpoints import LOCK as LOCK
from store.checkpoints import Checkpoints, Mark, boot
from store.epoch import EPOCH_NS
from store.errors import HostError, IntegrityError
from store.lmdb_errors import as_lmdb, told
from store.mapped import TableMap, reserve, trim
from store.pages import DATA as DATA
from store.resting import at_rest as at_rest
from store.resting import check as check
from store.resting import comes_to_rest
from store.resting import corrupt as corrupt

MAP_SIZE: Final = 1 << 40
"""Bytes of address space for the map; it takes no room on disk."""

MAP_LEAST: Final = 1 << 20
"""The smallest map that is tried where the system gives no larger one."""

READERS: Final = 1024
"""Read transactions that may be open at a time, of all processes."""

Value = TypeVar("Value")


class Environment:
    """Named tables of bytes in one directory. Reads see the last committed state.

    One thread may write while another reads. A map that is too small grows by itself. What goes
    wrong is a HostError, or an IntegrityError where the file is damaged.
    """

    def __init__(
        self,
        path: Path,
        tables: Sequence[str],
        what: str,
        hint: str,
        *,
        readonly: bool = False,
        metasync: bool = True,
        relaxed: bool = False,
        lost: Callable[[float], object] = int,
    ) -> None:
        """Open `tables`, called `what` in errors, in the directory `path`, which is there.

        `hint` says what helps where they are damaged. Without `metasync` a committed transaction is
        whole, but durable only after `sync`; one that is `relaxed` is not synced at all until then,
        and after a power cut the file goes back to what was synced last (`store.checkpoints`): then
        `lost` is called, with the time of that.
        """
        self._path = path
        self._what = what
        self._hint = hint
        self._names = tables
        self._readonly = readonly
        self._metasync = metasync
        self._relaxed = relaxed and not readonly and bool(boot())
        self._sync = True
        self._checkpoints = Checkpoints(path)
        self._reading = threading.RLock()
        self._writing = threading.RLock()
        self._syncing = threading.RLock()
        self._tables: dict[str, Any] = {}
        self._environment: Any = None
        self._size = MAP_SIZE
        self._map = TableMap(path / DATA, self._reading)
        self._own = self._others = 0
        """The numbers of the last transactions that changed something: our own, and those of
        others, as far as one of our own came after them."""
        if self._went_back(lost) or not comes_to_rest(path):
            check(path, tables, what, hint)
        sizes = [max(MAP_LEAST, MAP_SIZE >> shift) for shift in range(0, 21, 4)]
        self._guarded(lambda: self._open(sizes), f"cannot open the {what}")
        self._rest()
        if self._relaxed:
            self._set_relaxed()

    @property
    def map_size(self) -> int:
        """Bytes of address space that the map has now."""
        return self._size

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return what stands under `key`, or None."""
        self.looked()
        try:
            with self._reading:
                handle = self._tables.get(table)
                if handle is None:
                    return None
                with self._environment.begin(handle) as transaction:
                    found: bytes | None = transaction.get(key)
                    return found
        except lmdb.Error:

            def read(transaction: Any) -> bytes | None:
                value: bytes | None = transaction.get(key)
                return value

            return self.read(table, read, None)

    def read(self, table: str, action: Callable[[Any], Value], empty: Value) -> Value:
        """Return what `action` makes of a read transaction on a table, `empty` where that is not
        there."""
        try:
            return self._read(table, action, empty)
        except lmdb.Error:
            what = f"cannot read table {table} of the {self._what}"
            return self._retried(lambda: self._read(table, action, empty), what)

    def holds(self, name: str) -> bool:
        """Say whether there is a table of that name, opened or not."""

        def read() -> bool:
            with self._reading, self._environment.begin() as transaction:
                return bool(transaction.cursor().set_key(name.encode()))

        return self._retried(read, f"cannot read the {self._what}")

    def change(self, change: Callable[[Any], None]) -> None:
        """Let `change` work in one write transaction, which is committed when this returns. It may
        be called again with another transaction: then the first one did not take place."""

        def write() -> None:
            with self._writing:
                with self._environment.begin(write=True) as transaction:
                    number = transaction.id()
                    self._prepare()
                    change(transaction)
                if number != self._own + 1:
                    self._others = number - 1
                self._own = number

        if self._readonly:
            raise HostError(
                f"{self._path}: the store is read-only",
                "make it writable, or use another one with BN_STORE",
            )
        self._retried(write, f"cannot write to the {self._what}")
        self._rest()
        self._map.keep_small()
        if self._map.keeps_pages() and not self._relaxed:
            self._guarded(lambda: self._reopen([self._size]), f"cannot open the {self._what}")
            trim()

    def handle(self, table: str) -> Any:
        """Return the handle of a table, for `change`; it is another one after each growth."""
        return self._tables[table]

    def version(self) -> int:
        """Return the number of the last transaction that changed something."""
        with self._reading:
            return int(self._environment.info()["last_txnid"])

    def version_if_alone(self, since: int) -> int | None:
        """Return the number of the last transaction that changed something, if nobody else changed
        anything after the one numbered `since`, else None."""
        now = self.version()
        alone = self._others <= since and now == self._own
        return now if alone or now == since else None

    def count(self, table: str) -> int:
        """Return how many entries a table has."""

        def read(transaction: Any) -> int:
            return int(transaction.stat(self._tables[table])["entries"])

        return self.read(table, read, 0)

    def looked(self, times: int = 1) -> None:
        """Count looks into a table, of those in a long transaction, too: now and then what is
        mapped of it is given back."""
        self._map.looked(times)

    def put(self, rows: int) -> None:
        """Count rows that were put in a transaction, as `looked` does."""
        self._map.put(rows)

    def sync(self) -> None:
        """Make what was committed durable, by others as well."""

        def flush() -> None:
            with self._syncing:
                self._environment.sync(True)

        if not self.is_ahead:
            self._guarded(flush, f"cannot write to the {self._what}")
        elif self._relaxed:
            self.keep(self.mark())
        else:
            self.settle()

    @property
    def is_ahead(self) -> bool:
        """Whether some process has committed what may not be durable yet."""
        try:
            return self._checkpoints.is_ahead
        except OSError:
            return True

    @property
    def is_behind(self) -> bool:
        """Whether that is so, or files that were put beside it may not be durable."""
        try:
            return self._checkpoints.is_behind
        except OSError:
            return True

    def beside(self, action: Callable[[], Value]) -> Value:
        """Return what `action` gives, which puts files beside the tables that may not be durable,
        as `is_behind` then tells all processes. For one that is relaxed."""

        def act() -> Value:
            self._prepare()
            return action()

        return self._transact(act)

    def relax(self) -> None:
        """Take the syncs that the first of many transactions without them would wait for. For one
        that is relaxed."""
        self.beside(int)

    def mark(self) -> Mark | None:
        """Return what was committed so far, for `keep`; None where that is durable."""
        return self._transact(lambda: as_lmdb(lambda: self._checkpoints.mark(self._environment)))

    def keep(self, mark: Mark | None) -> None:
        """Make what was committed before a mark durable."""

        def advance() -> None:
            nonlocal mark
            with self._syncing:
                while mark and not self._checkpoints.advance(self._environment, mark):
                    mark = self.mark()  # the tables were opened anew with a larger map

        self._guarded(lambda: as_lmdb(advance), f"cannot write to the {self._what}")

    def is_kept(self, number: int) -> bool:
        """Whether some process has made durable, as a checkpoint, what was committed up to a
        transaction."""
        try:
            return self._checkpoints.kept() >= number
        except OSError:
            return False

    def follow(self) -> None:
        """Let what became of old pages since the last checkpoint but one be written over, where
        another process makes the checkpoints. To be called about as often as these are made."""

        def act() -> None:
            with self._syncing:
                as_lmdb(lambda: self._checkpoints.follow(self._environment))

        self._retried(act, f"cannot read the {self._what}")

    def settle(self, files: Callable[[], object] | None = None) -> None:
        """Make all that was committed durable, and know that it is: after a power cut the file does
        not go back. With `files`, which does that, those beside the tables, too. Others wait to
        write meanwhile."""

        def act() -> None:
            as_lmdb(lambda: self._checkpoints.settle(self._environment, files))

        self._transact(act)

    def close(self) -> None:
        """Close the environment; every process that opened it should."""
        with self._reading, self._syncing:
            self._map.closed()
            self._checkpoints.close()
            self._environment.close()

    # inside

    def _read(self, table: str, action: Callable[[Any], Value], empty: Value) -> Value:
        with self._reading:
            handle = self._tables.get(table)
            if handle is None:
                return empty
            with self._environment.begin(handle) as transaction:
                return action(transaction)

    def _went_back(self, lost: Callable[[float], object]) -> bool:
        """Bring the file back to its last checkpoint after a power cut; say whether there was one.
        One that cannot be written is only looked at."""
        try:
            return self._checkpoints.restore(lost)
        except OSError:
            return True

    def _set_relaxed(self) -> None:
        """Open the tables, which were made durably, anew without syncs. What a process left that
        was killed becomes durable first."""
        if self.is_ahead:
            self.settle()
        self._sync = False
        self._guarded(lambda: self._reopen([self._size]), f"cannot open the {self._what}")

    def _prepare(self) -> None:
        """See to it, within a write transaction, that the file can be written to as this one is
        meant to."""
        if self._relaxed:
            as_lmdb(lambda: self._checkpoints.enter(self._environment))
        else:
            as_lmdb(lambda: self._checkpoints.settle(self._environment))

    def _transact(self, action: Callable[[], Value]) -> Value:
        """Return what `action` gives while nobody else writes."""

        def act() -> Value:
            with self._writing, self._environment.begin(write=True) as transaction:
                try:
                    return action()
                finally:
                    transaction.abort()

        return self._retried(act, f"cannot write to the {self._what}")

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
        except lmdb.Error as error:
            raise told(error, f"{self._path}: {what}", self._size, self._corrupt) from error

    def _corrupt(self, error: str) -> IntegrityError:
        return corrupt(self._path, self._what, error, self._hint)

    def _grow(self) -> None:
        before = self._size
        self._reopen([before * 2, before * 3 // 2, before * 5 // 4, before])
        if self._size == before:
            raise lmdb.MapFullError("no larger map can be had")

    def _reopen(self, sizes: Iterable[int]) -> None:
        """Open the tables anew with another map, while no thread uses them."""
        with self._writing, self._reading, self._syncing:
            self._checkpoints.forget()
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
        self._map.opened(self._environment)
        if not self._readonly:
            self._environment.reader_check()
        self._tables = self._there() if self._readonly else self._made()

    def _there(self) -> dict[str, Any]:
        """Return the handles of those tables that are there."""
        handles = {}
        for table in self._names:
            with contextlib.suppress(lmdb.NotFoundError, lmdb.ReadonlyError):
                handles[table] = self._environment.open_db(table.encode(), create=False)
        return handles

    def _made(self) -> dict[str, Any]:
        """Return the handles of the tables, made where they are not there, all at once."""
        with self._environment.begin(write=True) as writing:
            return {
                table: self._environment.open_db(table.encode(), writing) for table in self._names
            }

    def _environment_of(self, size: int) -> Any:
        options: dict[str, Any] = {"map_size": size, "max_dbs": 16, "max_readers": READERS}
        if not self._readonly:
            as_lmdb(lambda: reserve(self._path / LOCK))
            options |= {"sync": self._sync, "metasync": self._metasync}
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
