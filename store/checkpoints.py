"""Checkpoints: what an LMDB file goes back to if the machine goes down before it was synced.

::

              enter: pin, sync, record                advance, once a second: pin, sync, record
      CLEAN ──────────────────────────▶ AHEAD ──┐
        ▲                                 │ ▲   │
        └── settle: sync, record ─────────┘ └───┘

In CLEAN all writers sync, and LMDB's own first pages are right. In AHEAD only writers that do not
sync write, and what counts after a power cut is the record: the first page of a state of which all
is on the disk, and of which nothing was written over, as a reader of that state is kept open (the
pin). Both changes of state happen in LMDB's write lock. A record names the boot of the machine it
is of: in that boot, what others see is what was written; in another one, the file goes back to it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from store.pages import DATA, go_back, last_meta
from store.records import frozen

NAME: Final = "checkpoint"
LOCK: Final = "lock.mdb"

_RECORD: Final = struct.Struct("<8sQB36sdQ136s")
_MAGIC: Final = b"bn ckpt1"
_CHECK: Final = struct.Struct("<I")
_SLOT: Final = 4096
"""Records are written in turns to two places, so that one that is cut short spoils none before."""

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"


def boot() -> bytes:
    """Return what tells this run of the machine from others; empty where that is not known."""
    try:
        with open(_BOOT_ID, "rb") as file:
            return file.read(36)
    except OSError:
        return b""


@frozen
class Record:
    """The state of a file: of which transaction, whether others came after it without a sync, in
    which boot that was written, and its first page. `since` is from when on (seconds since 1970)
    files beside it may not be durable, 0 where all are."""

    number: int
    ahead: bool
    boot: bytes
    since: float
    transaction: int
    meta: bytes


@frozen
class Mark:
    """A state of which all is to be made durable, the reader that keeps it, and when it was."""

    transaction: int
    meta: bytes
    pin: Any
    time: float


class Checkpoints:
    """The checkpoints of the environment in the directory `path`. All of it raises OSError.

    What takes `environment` is given lmdb's, and where it says so, is called while a write
    transaction of it is open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._lock = threading.RLock()
        self._pin: tuple[int, Any] | None = None
        self._next: tuple[int, Any] | None = None
        self._boot = b""

    @property
    def is_ahead(self) -> bool:
        """Whether a process has written what is not durable yet."""
        record = self._last()
        return record is not None and record.ahead

    @property
    def is_behind(self) -> bool:
        """Whether that is so, or files that were put beside it may not be durable."""
        record = self._last()
        return record is not None and (record.ahead or record.since > 0)

    def restore(self, lost: Callable[[float], object]) -> bool:
        """Bring the file back to the last checkpoint where the machine went down after it; say
        whether that was so. To be called before the file is opened. Then `lost` is called with the
        time from when on files may be lost, once or, where that is cut short, more often."""
        if not self._is_old(self._last()):
            return False
        with self._locked():
            record = self._last()  # another process may have been quicker
            if record is None or not self._is_old(record) or self._in_use():
                return False
            if record.ahead:
                go_back(f"{self._path}/{DATA}", record.transaction, record.meta)
            lost(record.since)
            self._write(record.transaction, record.meta, ahead=False, since=0.0)
            return True

    def enter(self, environment: Any) -> None:
        """See to it, in a write transaction that will not be synced, that the file can go back to
        what was before it; from now on files beside it may not be durable, too."""
        record = self._last()
        if record is not None and record.ahead and self._pin is not None:
            return
        mark = self._marked(environment)
        environment.sync(True)
        with self._locked():
            since = record.since if record is not None and record.since else time.time()
            self._write(mark.transaction, mark.meta, ahead=True, since=since)
            self._keep(mark)

    def mark(self, environment: Any) -> Mark | None:
        """Return the last state, in a write transaction that changes nothing; None where it is
        durable."""
        return self._marked(environment) if self.is_ahead else None

    def advance(self, environment: Any, mark: Mark) -> bool:
        """Make a state durable, as the next checkpoint, after the files; False where it was let go
        of meanwhile."""
        try:
            mark.pin.id()
        except Exception:  # lmdb's, which is not known here: the environment was closed
            return False
        try:
            environment.sync(True)
            with self._locked():
                record = self._last()
                if record is not None and record.ahead and record.transaction < mark.transaction:
                    self._write(mark.transaction, mark.meta, ahead=True, since=mark.time)
                self._keep(mark)
                if record is None or not record.ahead:
                    self.unpin()
            return True
        except BaseException:
            if self._pin is None or self._pin[1] is not mark.pin:
                mark.pin.abort()
            raise

    def kept(self) -> int:
        """Return the number of the last transaction that is durable, -1 where it is not known."""
        with self._locked():
            record = self._last()
        return record.transaction if record is not None and record.ahead else -1

    def follow(self, environment: Any) -> None:
        """Pin a later state where another process has made checkpoints since: one that is there
        now, as soon as there is a checkpoint of it or a later one."""
        with self._locked():
            record = self._last()
            if record is None or not record.ahead or self._pin is None:
                return
            if self._next is not None and self._next[0] <= record.transaction:
                pin, self._next = self._next, None
                self.unpin()
                self._pin = pin
            if self._next is None and self._pin[0] < record.transaction:
                later = environment.begin()
                self._next = (later.id(), later)

    def settle(self, environment: Any, files: Callable[[], object] | None = None) -> None:
        """Make all durable, in a write transaction that changed nothing yet; with `files`, which
        does that for them, the files as well."""
        record = self._last()
        if record is None or not (record.ahead or (files and record.since)):
            self.unpin()
            return
        if files is not None:
            files()
        environment.sync(True)
        transaction, meta = last_meta(f"{self._path}/{DATA}")
        with self._locked():
            self._write(transaction, meta, ahead=False, since=0.0 if files else record.since)
            self.unpin()

    def unpin(self) -> None:
        """Let go of the reader that keeps the last checkpoint."""
        with self._lock:
            pins = (self._pin, self._next)
            self._pin = self._next = None
            for pin in pins:
                if pin is not None:
                    pin[1].abort()

    def forget(self) -> None:
        """Take notice that the environment was closed, and all readers with it."""
        self._pin = self._next = None

    def close(self) -> None:
        """Close the file."""
        self.forget()
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    # inside

    def _marked(self, environment: Any) -> Mark:
        pin = environment.begin()
        transaction, meta = last_meta(f"{self._path}/{DATA}")
        if transaction != pin.id():
            pin.abort()
            raise OSError(errno.EIO, "the first pages are not those of the last transaction")
        return Mark(transaction, meta, pin, time.time())

    def _keep(self, mark: Mark) -> None:
        """Pin a state that is durable, or the later one that is pinned already."""
        if self._pin is not None and self._pin[0] > mark.transaction:
            mark.pin.abort()
        else:
            self.unpin()
            self._pin = (mark.transaction, mark.pin)

    def _is_old(self, record: Record | None) -> bool:
        if record is None or not (record.ahead or record.since):
            return False
        return record.boot != self._now()

    def _now(self) -> bytes:
        self._boot = self._boot or boot()
        return self._boot

    def _in_use(self) -> bool:
        """Say whether a process has the environment open, whatever its boot is called."""
        with contextlib.suppress(FileNotFoundError), open(self._path / LOCK, "r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            except (BlockingIOError, PermissionError):
                return True
        return False

    def _opened(self, *, create: bool = False) -> int:
        if self._handle < 0:
            path = self._path / NAME
            flags = os.O_RDWR | os.O_CLOEXEC
            try:
                self._handle = os.open(path, flags)
            except FileNotFoundError:
                if create:
                    self._handle = os.open(path, flags | os.O_CREAT, 0o644)
            except OSError as error:
                if create or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._handle

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other threads, and processes, from writing a record."""
        with self._lock:
            handle = self._opened(create=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

    def _last(self) -> Record | None:
        handle = self._opened()
        data = os.pread(handle, 2 * _SLOT, 0) if handle >= 0 else b""
        found = [one for start in (0, _SLOT) if (one := _record(data[start : start + _SLOT]))]
        return max(found, key=lambda one: one.number, default=None)

    def _write(self, transaction: int, meta: bytes, *, ahead: bool, since: float) -> None:
        """Write a record that is durable when this returns."""
        before = self._last()
        number = before.number + 1 if before is not None else 1
        data = _RECORD.pack(_MAGIC, number, ahead, self._now(), since, transaction, meta)
        data += _CHECK.pack(zlib.crc32(data))
        handle = self._opened(create=True)
        if before is None:  # all its room, and its name
            os.pwrite(handle, bytes(2 * _SLOT), 0)
        os.pwrite(handle, data, number % 2 * _SLOT)
        if before is not None:
            os.fdatasync(handle)
            return
        os.fsync(handle)
        directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _record(data: bytes) -> Record | None:
    """Return the record in a place; None where there is none, or a damaged one."""
    size = _RECORD.size
    if len(data) < size + _CHECK.size or data[:8] != _MAGIC:
        return None
    if _CHECK.unpack_from(data, size)[0] != zlib.crc32(data[:size]):
        return None
    _, number, ahead, of, since, transaction, meta = _RECORD.unpack_from(data)
    return Record(number, bool(ahead), of, since, transaction, meta)
