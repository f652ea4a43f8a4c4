"""Maps of files kept small: pages that were looked at are given back to the page cache.

What a process has mapped counts as its memory, and a table of which everything was looked at is
mapped as a whole. The pages stay in the page cache, from where the next look maps them again: that
takes about a microsecond for sixteen of them.
"""

from __future__ import annotations

import errno
import os
from _weakref import ref  # weakref takes half a millisecond to load
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from threading import RLock

MOST: Final = 96 * 2**20
LEAST: Final = 24 * 2**20
"""Bytes of files that may be mapped, programs and libraries among them: the first in a process that
needs little else, the second in any."""

ALTOGETHER: Final = 116 * 2**20
"""Bytes that a process may have in memory before less than `MOST` is left to what is mapped."""

HEAVY: Final = 80 * 2**20
"""Bytes of its own from which on a process gives back what only makes it quicker."""

MANY_ROWS: Final = 1024
"""Rows that were put since a file was opened after which it is worth a millisecond to open it
anew."""

MANY: Final = 8192
"""Files, or steps, from which on their memory is worth some milliseconds."""

PATIENCE: Final = 64
"""Looks into a table after which one at the memory is worth while: each maps some 100 KiB, as each
page that is read brings 64 KiB along."""

PUT: Final = 4
"""Looks as which one row that is put counts: 64 of them were seen to map 20 MiB and more."""

LOCK_BYTES: Final = 17 * 4096
"""Bytes of LMDB's lock file, with room for all readers. It is mapped, so the disk gives them
first."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8
"""Options of mallopt(3) in glibc."""

_DONT_NEED: Final = 4
"""MADV_DONTNEED of Linux."""


class TableMap:
    """What is mapped of a file of tables while it is open, where looks into it and rows that are
    put are counted."""

    def __init__(self, file: Path, reading: RLock) -> None:
        """`reading` is held by who may map the file elsewhere."""
        self._file = file
        self._reading = reading
        self._looks = 0
        self._rows = 0
        self._places: list[tuple[int, int]] | None = None
        self._open: Callable[[], object] = int

    def opened(self, environment: object) -> None:
        """Take notice that the file was opened, or opened anew: it is mapped as long as the
        `environment` is there, which may go without being closed."""
        self._places, self._rows = None, 0
        self._open = ref(environment)
        if self not in _maps:
            _maps.append(self)

    def closed(self) -> None:
        """Take notice that it is to be closed, or is; the caller holds `reading`."""
        self._places = []
        if self in _maps:
            _maps.remove(self)

    def looked(self, times: int) -> None:
        """Count looks; now and then what is mapped is given back."""
        self._looks += times
        if self._looks >= PATIENCE:
            self.keep_small()

    def put(self, rows: int) -> None:
        """Count rows that were put, as `looked` does."""
        self._rows += rows
        self.looked(rows * PUT)

    def keep_small(self) -> None:
        """Give back what is mapped of all files that are open, where it is much; at the next look,
        where another thread is at one of them: it may well be so whenever this one runs."""
        self._looks = 0
        if is_much() and False in {one._gave_back() for one in [*_maps]}:
            self._looks = PATIENCE

    def keeps_pages(self) -> bool:
        """Say whether the file should be opened anew, for the memory that LMDB keeps: as many pages
        as its largest transaction had, a page or more a row."""
        return self._rows >= MANY_ROWS and is_heavy()

    def _gave_back(self) -> bool:
        """Give back what is mapped; False where another thread is at it."""
        if not self._reading.acquire(blocking=False):
            return False
        try:  # nobody maps it elsewhere meanwhile, nor lets go of it
            environment = self._open()
            if environment is None:
                self.closed()  # at its place may be anything by now
                return True
            if self._places is None:
                found = places_of(self._file)
                self._places = found if len(found) == 1 else []  # LMDB's, and nobody else's
            release(self._places)
            return True
        finally:
            self._reading.release()


_maps: list[TableMap] = []
"""Those of all files that this process has open: what is mapped of each counts."""


def is_much() -> bool:
    """Say whether this process has more of files mapped and in memory than it should."""
    own, mapped = _memory()
    return mapped > min(MOST, max(LEAST, ALTOGETHER - own))


def is_heavy() -> bool:
    """Say whether this process has much memory of its own."""
    return _memory()[0] > HEAVY


def _memory() -> tuple[int, int]:
    """Return the bytes that this process has of its own, and those of files mapped; 0 where that
    is not to be had."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            _, resident, mapped, *_ = map(int, file.read().split())
    except (OSError, ValueError):
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return (resident - mapped) * page, mapped * page


def trim() -> None:
    """Give back what is free of the heap, a page or more in a piece."""
    _function("malloc_trim")(0)


def give_back_large() -> None:
    """Have memory of 128 KiB and more given back as soon as it is free, for the rest of this
    process; and one heap for all threads.

    By itself the C library keeps pieces as large as the largest one that was free once, up to
    32 MiB each: of 50,000 recipes that is a tenth of all memory.
    """
    mallopt = _function("mallopt")
    for option, value in ((_MMAP_THRESHOLD, 1 << 17), (_TRIM_THRESHOLD, 1 << 18), (_ARENAS, 1)):
        mallopt(option, value)


def places_of(path: Path) -> list[tuple[int, int]]:
    """Return where the file at `path` is mapped: begin and length in bytes. To find out takes half
    a millisecond; it stays so until the file is closed."""
    try:
        inode = os.stat(path).st_ino
        with open("/proc/self/maps") as maps:
            rows = [line.split() for line in maps]
    except OSError:
        return []
    found = []
    for row in rows:
        if row[1].endswith("s") and int(row[4]) == inode:
            start, end = (int(number, 16) for number in row[0].split("-"))
            found.append((start, end - start))
    return found


def release(places: Iterable[tuple[int, int]]) -> None:
    """Give back the mapped pages of an open file, which nobody writes to through a map."""
    advise = _function("madvise")
    for start, length in places:
        advise(start, length, _DONT_NEED)


@cache
def _function(name: str) -> Callable[..., int]:
    """Return a function of the C library; each look for it would leave a class behind."""
    import ctypes

    found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    if name == "madvise":
        pointer = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        found.argtypes = pointer  # type: ignore[attr-defined]
    return found


def reserve(lock: Path) -> None:
    """Make LMDB's lock file with all its bytes: on a full disk, writing to its map would end us.
    Raises OSError where there is no room."""
    try:
        if os.stat(lock).st_size >= LOCK_BYTES:
            return
    except FileNotFoundError:
        pass
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(handle, 0, LOCK_BYTES)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
