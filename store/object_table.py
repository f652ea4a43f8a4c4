"""The objects of a tier: trees, actions, results and short logs in a table, not in a file each.

::

    objects/data.mdb    digest → time of writing, bytes
    objects/uses        times of use, by the first bits of digests

A file costs an inode, which takes longer to make than such an object to write, and is hardly ever
linked to. Values are checked against their digest by whoever reads them.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from store.digest import Digest, digest_bytes
from store.durability import sync_file_system
from store.errors import HostError, IntegrityError
from store.pages import DATA, found_values
from store.records import frozen

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

_TABLE: Final = "objects"
_TIME: Final = struct.Struct("<d")


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
        self._lost = lost
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
        value = self._value(digest)
        return None if value is None else value[_TIME.size :]

    def look(self, digest: Digest, since: float = math.inf) -> Found | None:
        """Return what is known of an object; None where it is not here.

        One that was written after `since` is not looked up in the times of use.
        """
        value = self._value(digest)
        return None if value is None else self._found(bytes.fromhex(digest), value, since)

    def recent(self, digests: Iterable[Digest], since: float) -> set[Digest]:
        """Return those of `digests` that are here and were used after `since`; they are looked up
        in one transaction, which for a thousand takes a third of the time."""
        environment = self.open()
        if environment is None:
            return set()

        def read(transaction: Any) -> set[Digest]:
            found = set()
            for digest in digests:
                key = bytes.fromhex(digest)
                value = transaction.get(key)
                if value is None or len(value) < _TIME.size:
                    continue
                if self._found(key, value, since).used >= since:
                    found.add(digest)
            return found

        with _system_errors(self.path):
            return environment.read(_TABLE, read, set[Digest]())

    def held(self, prefix: str = "") -> list[tuple[Digest, Found]]:
        """Return all objects whose digest begins with `prefix`."""
        environment = self.open()
        if environment is None:
            return []
        first = bytes.fromhex(prefix[: len(prefix) & ~1])
        latest = self._uses.all() if len(first) < 1 else None

        def read(transaction: Any) -> list[tuple[Digest, Found]]:
            found = []
            cursor = transaction.cursor()
            for key, value in cursor if cursor.set_range(first) else ():
                name = Digest(key.hex())
                if not key.startswith(first):
                    break
                if name.startswith(prefix) and len(key) == 32 and len(value) >= _TIME.size:
                    used = self._uses.of(_slot(key)) if latest is None else latest[_slot(key)]
                    used = max(_TIME.unpack_from(value)[0], used)
                    found.append((name, Found(len(value) - _TIME.size, used)))
            return found

        with _system_errors(self.path):
            return environment.read(_TABLE, read, list[tuple[Digest, Found]]())

    def put(self, objects: Mapping[Digest, bytes]) -> int:
        """Put objects in one transaction, durable after `sync`, and return the bytes added."""
        environment = self.open(create=True)
        assert environment is not None
        now, added = _TIME.pack(time.time()), 0

        def change(transaction: Any) -> None:
            nonlocal added
            added, handle = 0, environment.handle(_TABLE)
            for digest, data in sorted(objects.items()):
                key, value = bytes.fromhex(digest), now + data
                if transaction.put(key, value, overwrite=False, db=handle):
                    added += len(data)
                else:
                    transaction.put(key, value, db=handle)
                environment.looked()

        with _system_errors(self.path):
            environment.change(change)
        self.unsynced = True
        return added

    def touch(self, digest: Digest) -> bool:
        """Note that an object is used now, seen by all at once; False where it is not here."""
        if self._value(digest) is None:
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
            handle = environment.handle(_TABLE)
            for digest in names:
                key = bytes.fromhex(digest)
                value = transaction.get(key, db=handle)
                if value is None:
                    continue
                found = self._found(key, value.ljust(_TIME.size, b"\0"))
                if may is None or may(digest, found.used):
                    transaction.delete(key, db=handle)
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
            from store.environment import check

            check(self.path, [_TABLE], WHAT, HINT)

    def mend(self, aside: Path) -> int | None:
        """Where the table is damaged, move it to `aside` and make another one of what is good in
        it; return how many objects that are, None where it is sound. Nobody else may use it."""
        try:
            self.open()
            return None
        except IntegrityError:
            self.close()
        aside.parent.mkdir(exist_ok=True)
        os.rename(self.path, aside)
        good = {
            Digest(key.hex()): value[_TIME.size :]
            for key, value in found_values(f"{aside}/{DATA}")
            if digest_bytes(value[_TIME.size :]) == key.hex()
        }
        self.put(good)
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
        from store.environment import Environment

        there = os.path.exists(self._data)
        if create:
            self.path.mkdir(exist_ok=True)
        if os.access(self.path, os.W_OK):
            try:
                return Environment(
                    self.path,
                    [_TABLE],
                    WHAT,
                    HINT,
                    metasync=False,
                    relaxed=self.relaxed,
                    lost=self._lost,
                )
            except HostError:
                if create or not there:
                    raise
        return Environment(self.path, [_TABLE], WHAT, HINT, readonly=True)

    def _value(self, digest: Digest) -> bytes | None:
        environment = self._environment or self.open()
        if environment is None:
            return None
        try:
            value = environment.get(_TABLE, bytes.fromhex(digest))
        except ValueError:
            return None  # it is no digest
        except HostError as error:
            raise _system_error(self.path, error) from error
        return None if value is None else value.ljust(_TIME.size, b"\0")

    def _found(self, key: bytes, value: bytes, since: float = math.inf) -> Found:
        used = _TIME.unpack_from(value)[0]
        size = len(value) - _TIME.size
        return Found(size, used if used >= since else max(used, self._uses.of(_slot(key))))


class Uses:
    """When something was used last, in a file of one number for each of `slots`.

    It is no part of the table because it has to be seen at once and needs no sync: a time that is
    lost, or that of something else, only makes something go earlier or later than it could.
    """

    def __init__(self, path: str, slots: int) -> None:
        self._path = path
        self._size = slots * _TIME.size
        self._handle = -1
        self._is_whole = False

    def note(self, slot: int, now: float | None = None) -> None:
        """Note a use, at this moment unless another one is given. Raises OSError."""
        handle = self._handle
        if not self._is_whole:
            handle = self._opened(os.O_RDWR | os.O_CREAT)
            if os.fstat(handle).st_size < self._size:
                os.posix_fallocate(handle, 0, self._size)
            self._is_whole = True
        os.pwrite(handle, _TIME.pack(time.time() if now is None else now), slot * _TIME.size)

    def of(self, slot: int) -> float:
        """Return the last use noted, 0 where there is none."""
        try:
            data = os.pread(self._opened(os.O_RDWR), _TIME.size, slot * _TIME.size)
        except OSError:
            return 0.0
        return float(_TIME.unpack(data)[0]) if len(data) == _TIME.size else 0.0

    def all(self) -> list[float]:
        """Return the last use of each slot."""
        try:
            data = os.pread(self._opened(os.O_RDWR), self._size, 0)
        except OSError:
            data = b""
        return [row[0] for row in _TIME.iter_unpack(data.ljust(self._size, b"\0")[: self._size])]

    def close(self) -> None:
        """Close the file; it opens again when it is needed."""
        handle, self._handle = self._handle, -1
        self._is_whole = False
        if handle >= 0:
            os.close(handle)

    def _opened(self, flags: int) -> int:
        if self._handle < 0:
            try:
                self._handle = os.open(self._path, flags | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if flags & os.O_CREAT or error.errno not in (errno.EROFS, errno.EACCES):
                    raise
                self._handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self._handle


def _slot(key: bytes) -> int:
    return key[0] << 8 | key[1]


def _system_error(path: Path, error: HostError) -> OSError:
    """Return what the system said; LMDB calls a write that was cut short an I/O error."""
    from store.environment import error_number

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
