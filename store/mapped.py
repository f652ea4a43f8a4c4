"""Maps of files kept small: pages that were looked at are given back to the page cache.

What a process has mapped counts as its memory, and a table of which everything was looked at is
mapped as a whole. The pages stay in the page cache, from where the next look maps them again: that
takes about a microsecond for sixteen of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Final

MOST: Final = 96 * 2**20
LEAST: Final = 24 * 2**20
"""Bytes of files that may be mapped, programs and libraries among them: the first in a process that
needs little else, the second in any."""

ALTOGETHER: Final = 132 * 2**20
"""Bytes that a process may have in memory before less than `MOST` is left to what is mapped."""

MANY: Final = 8192
"""Files, or steps, from which on their memory is worth some milliseconds."""

PATIENCE: Final = 64
"""Looks into a table after which one at the memory is worth while: each maps some 300 KiB, as each
page that is read brings 64 KiB along. Four times as often made no peak of 50,000 steps smaller."""

LOCK_BYTES: Final = 17 * 4096
"""Bytes of LMDB's lock file, with room for all readers. It is mapped, so the disk gives them
first."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = -1, -3, -8
"""Options of mallopt(3) in glibc."""

_DONT_NEED: Final = 4
"""MADV_DONTNEED of Linux."""


def is_much() -> bool:
    """Say whether this process has more of files mapped and in memory than it should."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            _, resident, mapped, *_ = map(int, file.read().split())
    except (OSError, ValueError):
        return False
    page = os.sysconf("SC_PAGE_SIZE")
    rest = ALTOGETHER - (resident - mapped) * page
    return mapped * page > min(MOST, max(LEAST, rest))


def give_back_large() -> None:
    """Have memory of 128 KiB and more given back as soon as it is free, for the rest of this
    process; and one heap for all threads.

    By itself the C library keeps pieces as large as the largest one that was free once, up to
    32 MiB each: of 50,000 recipes that is a tenth of all memory.
    """
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
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
    advise = _madvise()
    for start, length in places:
        advise(start, length, _DONT_NEED)


@cache
def _madvise() -> Callable[[int, int, int], int]:
    """Return madvise(2); each look for it would leave a class behind."""
    import ctypes

    found: Callable[[int, int, int], int] = ctypes.CDLL(None).madvise
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)  # type: ignore[attr-defined]
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
