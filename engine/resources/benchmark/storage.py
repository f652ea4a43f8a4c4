"""Storage measured past the page cache: reading, writing, 4 KiB reads a second, latency, score.

Speeds, latency and the score are measured by `store.measure`; only the reads by many at once are
measured here. `tiers.py` tells `bn store stat` of the results.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import Final

from engine.resources.benchmark.cpu import Say
from engine.resources.benchmark.results import Measure, measure
from store.errors import HostError, host_error
from store.measure import LEAST
from store.measure import measure as measure_speed
from store.probe import BLOCK, PAGE, buffer, scratch

DEPTH: Final = 16
"""Reads that are under way at once."""

SECONDS: Final = 1.0
"""Seconds of reading by many at once."""

BRIEF: Final = 0.2
"""Likewise where somebody waits to see a tier for the first time."""

SIZE: Final = 64 * 2**20


def measure_storage(
    directory: Path, say: Say, rounds: int = 3, seconds: float = SECONDS
) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """Measure the file system that holds a directory; raises HostError where it cannot be.

    `seconds` is how long many read at once.
    """
    say(f"storage: {directory}")
    try:
        speeds = [speed for _ in range(rounds) if (speed := measure_speed(directory))]
        if not speeds:
            raise HostError(
                f"cannot measure {directory}: too little room is free", f"free {LEAST} bytes there"
            )
        iops, direct = _reads(directory, seconds)
    except OSError as error:
        raise host_error(error, f"cannot measure {directory}") from error
    notes = () if direct else ("the file system has a cache that cannot be gone past: it is in it",)
    return (
        measure("storage.score", "points", [float(speed.score) for speed in speeds]),
        measure("storage.read", "B/s", [speed.read for speed in speeds]),
        measure("storage.write", "B/s", [speed.write for speed in speeds]),
        measure("storage.iops", "1/s", [iops]),
        measure("storage.latency", "s", [speed.latency for speed in speeds]),
    ), notes


def _reads(directory: Path, seconds: float) -> tuple[float, bool]:
    """Return how many 4 KiB a second can be read by several at once, and if past the cache."""
    with scratch(directory) as (handle, direct):
        block = buffer(BLOCK)
        free = os.fstatvfs(handle)
        size = min(SIZE, free.f_bavail * free.f_frsize // 4) // BLOCK * BLOCK
        for _ in range(max(1, size // BLOCK)):
            os.write(handle, block)
        os.fsync(handle)
        counts = [0] * DEPTH
        end = time.perf_counter() + seconds

        def read(at: int) -> None:
            page, places = buffer(PAGE), random.Random(at)
            while time.perf_counter() < end:
                os.preadv(handle, [page], places.randrange(max(BLOCK, size) // PAGE) * PAGE)
                counts[at] += 1

        threads = [threading.Thread(target=read, args=(at,)) for at in range(DEPTH)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - began), direct
