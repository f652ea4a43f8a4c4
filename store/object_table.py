"""The objects of a tier: trees, actions, results and short logs in a table, not in a file each.

::

    objects/data.mdb    a log of objects, and where each of them is in it (`store.object_rows`)
    objects/uses        times of use, by the first bits of digests

A file costs an inode, which takes longer to make than such an object to write, and is hardly ever
linked to. Values are checked against their digest by whoever reads them.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from store.digest import Digest, digest_bytes
from store.durability import sync_file_system
from store.errors import HostError, IntegrityError
from store.object_rows import (
    LOG,
    OLD,
    PLACES,
    TABLES,
    TIME,
    ObjectRows,
    bytes_of,
    find,
    rescued,
    size_of,
    time_of,
)
from store.pages import DATA, found_values
from store.records import frozen
from store.uses import Uses

if TYPE_CHECKING:
    from store.environment import Environment

DIRECTORY: Final = "objects"
WHAT: Final = "table of objects"
HINT: Final = "`bn store rebuild-index` saves what is good in it"

LARGEST: Final = 256 * 1024
"""Bytes above which an object becomes a file: LMDB needs all its pages in a row."""

SLOTS: Final = 1 << 16
"""Objects that share their first 16 bits share a time of use: the later one counts for all."""

LEAST_FREE: Final = 2**20
"""Bytes of room below which a disk on which a write was cut short counts as full."""


@frozen
class Found:
    """An object in a table: its size in bytes, and when it was used last (seconds since 1970)."""

    size: int
    used: float


class ObjectTable:
    """The table of the tier at `root`. It is opened when it is there and asked for, and made when
    something is put.

    Raises OSError where the disk fails, IntegrityError where the table is damaged.
    """

    def __init__(self, root: Path, lost: Callable[[float], object] = int) -> None:
        """`lost` is called when it turns out that what was written after a time (seconds since
        1970) may be lost in a power cut."""
        self.path = root / DIRECTORY
        self.unsynced = False
        self.relaxed = False
        self.lost = lost
        self._data = f"{self.path}/{DATA}"
        self._uses = Uses(f"{self.path}/uses", SLOTS)
        self._environment: Environment | None = None
        self._opening = threading.Lock()

    def open(self, *, create: bool = False) -> Environment | None:
        """Return the open table; None where there is none and it is not to be made."""
        if self._environment is None and (create or os.path.exists(self._data)):
            with self._opening, _system_errors(self.path):
                if self._environment is None:
                    self._environment = self._opened(create)
        return self._environment

    def read(self, digest: Digest) -> bytes | None:
        """Return an object's bytes, not checked; None where it is not here."""
        row = self._row(digest)
        return None if row is None else bytes_of(row)

    def look(self, digest: Digest, since: float = math.inf) -> Found | None:
        """Return what is known of an object; None where it is not here.

        One that was written after `since` is not looked up in the times of use.
        """
        row = self._row(digest)
        return None if row is None else self._found(bytes.fromhex(digest), row, since)

    def recent(self, digests: Iterable[Digest], since: float) -> set[Digest]:
        """Return those of `digests` that are here and were used after `since`; they are looked up
        in one transaction, which for a thousand takes a third of the time."""
        environment = self.open()
        if environment is None:
            return set()

        def read(transaction: Any) -> set[Digest]:
            found = set()
            log = environment.handle(LOG)
            for digest in digests:
                key = bytes.fromhex(digest)
                row = find(transaction, log, key)
                if row is not None and self._found(key, row, since).used >= since:
                    found.add(digest)
                environment.looked()
            return found

        with _system_errors(self.path):
            return environment.read(PLACES, read, set[Digest]())

    def held(self, prefix: str = "") -> list[tuple[Digest, Found]]:
        """Return all objects whose digest begins with `prefix`."""
        environment = self.open()
        if environment is None:
            return []
        first = bytes.fromhex(prefix[: len(prefix) & ~1])
        latest = self._uses.all() if len(first) < 1 else None

        def read(transaction: Any) -> list[tuple[Digest, Found]]:
            found = []
            for key, row in ObjectRows(transaction, environment.handle).under(first):
                name = Digest(key.hex())
                if name.startswith(prefix):
                    used = self._uses.of(_slot(key)) if latest is None else latest[_slot(key)]
                    found.append((name, Found(size_of(row), max(time_of(row), used))))
                environment.looked()
            return found

        with _system_errors(self.path):
            return environment.read(PLACES, read, list[tuple[Digest, Found]]())

    def put(self, objects: Mapping[Digest, bytes]) -> int:
        """Put objects in one transaction, durable after `sync`, and return the bytes added."""
        now = TIME.pack(time.time())
        rows = [(bytes.fromhex(digest), now, data) for digest, data in objects.items()]
        return self._put(rows)

    def touch(self, digest: Digest) -> bool:
        """Note that an object is used now, seen by all at once; False where it is not here."""
        if self._row(digest) is None:
            return False
        self._uses.note(_slot(bytes.fromhex(digest)))
        return True

    def remove(
        self, digests: Iterable[Digest], may: Callable[[Digest, float], bool] | None = None
    ) -> dict[Digest, int]:
        """Remove objects, of which `may` says yes to digest and last use, and return their sizes.

        It is asked within the transaction, so nobody writes one of them again meanwhile.
        """
        environment, gone = self.open(), dict[Digest, int]()
        names = list(digests)
        if environment is None or not names:
            return gone

        def change(transaction: Any) -> None:
            gone.clear()
            rows = ObjectRows(transaction, environment.handle)
            for digest in names:
                key = bytes.fromhex(digest)
                row = rows.find(key)
                if row is None:
                    continue
                found = self._found(key, row)
                if may is None or may(digest, found.used):
                    rows.remove(key)
                    gone[digest] = found.size

        with _system_errors(self.path):
            environment.change(change)
        return gone

    def relax(self) -> None:
        """From now on nothing that is put is durable before `sync`, and commits cost nothing: after
        a power cut the table goes back to what was synced last. For a server."""
        self.close()
        self.relaxed = True

    def beside(self, action: Callable[[], object]) -> None:
        """Do what puts files into this tier that may not be durable. For one that is relaxed."""
        environment = self.open(create=True)
        assert environment is not None
        with _system_errors(self.path):
            environment.beside(action)

    def follow(self) -> None:
        """Take notice of checkpoints that another process makes."""
        if self._environment is not None:
            with _system_errors(self.path):
                self._environment.follow()

    def settle(self) -> None:
        """Make what was put into this tier durable, files as well, and be at rest."""
        if self._environment is not None:
            with _system_errors(self.path):
                self._environment.settle(lambda: sync_file_system(self.path))

    @property
    def is_ahead(self) -> bool:
        """Whether a process that is relaxed has put something that may not be durable."""
        return self._environment is not None and self._environment.is_behind

    def sync(self) -> None:
        """Make what was put durable."""
        self.unsynced = False
        if self._environment is not None:
            with _system_errors(self.path):
                self._environment.sync()

    def check(self) -> None:
        """Read all of the table, if there is one; raises IntegrityError where it is damaged."""
        if os.path.exists(self._data):
            from store.environment import check, corrupt

            check(self.path, TABLES, WHAT, HINT)
            wrong = self._misplaced()
            if wrong:
                raise corrupt(self.path, WHAT, f"{wrong} objects are not in their place", HINT)

    def mend(self, aside: Path) -> int | None:
        """Where the table is damaged, move it to `aside` and make another one of what is good in
        it; return how many objects that are, None where it is sound. Nobody else may use it."""
        with contextlib.suppress(IntegrityError):
            if not self._misplaced():
                return None
        self.close()
        aside.parent.mkdir(exist_ok=True)
        os.rename(self.path, aside)
        good = {
            one[0]: one
            for key, value in found_values(f"{aside}/{DATA}")
            if (one := rescued(key, value)) and digest_bytes(one[2]) == one[0].hex()
        }
        now = TIME.pack(time.time())
        self._put([(key, now, data) for key, _, data in good.values()])
        self.sync()
        return len(good)

    def close(self) -> None:
        """Close the table; it opens again when it is asked for."""
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()
        self._uses.close()

    # inside

    def _opened(self, create: bool) -> Environment:
        environment = self._environment_of(create)
        if environment.holds(OLD):
            from store.upgrade import upgrade_objects

            environment.close()
            try:
                upgrade_objects(self.path, self.lost)
            except HostError as error:  # this tier cannot be used
                raise OSError(errno.EIO, error.message, str(self.path)) from error
            environment = self._environment_of(create)
        return environment

    def _environment_of(self, create: bool) -> Environment:
        from store.environment import Environment

        there = os.path.exists(self._data)
        if create:
            self.path.mkdir(exist_ok=True)
        if os.access(self.path, os.W_OK):
            try:
                return Environment(
                    self.path,
                    TABLES,
                    WHAT,
                    HINT,
                    metasync=False,
                    relaxed=self.relaxed,
                    lost=self.lost,
                )
            except HostError:
                if create or not there:
                    raise
        return Environment(self.path, TABLES, WHAT, HINT, readonly=True)

    def _put(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> int:
        environment = self.open(create=True)
        assert environment is not None
        added = 0

        def change(transaction: Any) -> None:
            nonlocal added
            added = ObjectRows(transaction, environment.handle).put(rows, environment.put)

        with _system_errors(self.path):
            environment.change(change)
        self.unsynced = True
        return added

    def _misplaced(self) -> int:
        environment = self.open()
        if environment is None:
            return 0

        def read(transaction: Any) -> int:
            return ObjectRows(transaction, environment.handle).misplaced(environment.looked)

        with _system_errors(self.path):
            return environment.read(PLACES, read, 0)

    def _row(self, digest: Digest) -> bytes | None:
        environment = self._environment or self.open()
        if environment is None:
            return None
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            return None  # it is no digest
        environment.looked()
        try:
            return environment.read(
                PLACES, lambda transaction: find(transaction, environment.handle(LOG), key), None
            )
        except HostError as error:
            raise _system_error(self.path, error) from error

    def _found(self, key: bytes, row: bytes, since: float = math.inf) -> Found:
        used = time_of(row)
        return Found(size_of(row), used if used >= since else max(used, self._uses.of(_slot(key))))


def _slot(key: bytes) -> int:
    return key[0] << 8 | key[1]


def _system_error(path: Path, error: HostError) -> OSError:
    """Return what the system said; LMDB calls a write that was cut short an I/O error."""
    from store.lmdb_errors import error_number

    number = error_number(error.__cause__)
    with contextlib.suppress(OSError):
        status = os.statvfs(path)
        if number == errno.EIO and status.f_bavail * status.f_frsize < LEAST_FREE:
            number = errno.ENOSPC
    return OSError(number, error.message.removeprefix(f"{path}: "), str(path))


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Turn errors of the table into the system's, which tell what became of the tier."""
    try:
        yield
    except HostError as error:
        raise _system_error(path, error) from error
