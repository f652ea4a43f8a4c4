"""Probes of storage: latency and speed as this machine shows them now."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

PAGE: Final = 4096
BLOCK: Final = 2**20
"""Bytes read or written at a time where speed counts."""

Clock = Callable[[], float]

_READS: Final = 64
_WRITES: Final = 4
_SLOW: Final = 0.003
"""Seconds that only a platter takes."""


def latency(directory: Path) -> float | None:
    """Return the median seconds for 4 KiB past the page cache; None where that cannot be told.

    Reads of what was just written come from a hard disk's own cache, so writes that are waited for
    (O_DSYNC) are timed too, and theirs is the answer where they take as long as a platter turns.
    """
    while not directory.is_dir() and directory != directory.parent:
        directory = directory.parent
    try:
        with scratch(directory, os.O_DSYNC) as (handle, _):
            block = buffer(PAGE)
            waited = statistics.median(timed_write(handle, block) for _ in range(_WRITES))
        with scratch(directory) as (handle, direct):
            if not direct:
                return None
            os.write(handle, buffer(BLOCK))
            os.fsync(handle)
            reads = read_latency(handle, BLOCK)
    except OSError:
        return None
    return waited if waited > _SLOW else reads


def read_latency(
    handle: int, size: int, reads: int = _READS, clock: Clock = time.perf_counter
) -> float:
    """Return the median seconds of `reads` reads of 4 KiB anywhere in a file of `size` bytes."""
    block = buffer(PAGE)
    places = random.Random(size)  # the same places every time
    times = []
    for _ in range(reads):
        offset = places.randrange(size // PAGE) * PAGE
        began = clock()
        os.preadv(handle, [block], offset)
        times.append(clock() - began)
    return statistics.median(times)


def timed_write(handle: int, block: mmap.mmap, clock: Clock = time.perf_counter) -> float:
    """Write a block where the file stands and return the seconds that it took."""
    began = clock()
    os.write(handle, block)
    return clock() - began


@contextlib.contextmanager
def scratch(directory: Path, flags: int = 0) -> Iterator[tuple[int, bool]]:
    """Give an open file without a name in `directory`, and whether it goes past the page cache."""
    handle, direct = -1, True
    kinds = flags | os.O_RDWR | os.O_CLOEXEC
    try:
        handle = _unnamed(directory, kinds | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        handle, direct = _unnamed(directory, kinds), False
    try:
        yield handle, direct
    finally:
        os.close(handle)


def _unnamed(directory: Path, flags: int) -> int:
    try:
        return os.open(directory, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    path = directory / f".bn-{os.getpid()}-probe"  # network file systems have none without a name
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    finally:
        path.unlink(missing_ok=True)


def buffer(size: int) -> mmap.mmap:
    """Return aligned memory, as O_DIRECT needs it, with bytes that nothing can compress."""
    block = mmap.mmap(-1, size)
    block.write(os.urandom(size))
    return block
