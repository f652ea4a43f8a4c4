"""Measured speed of tiers, and a score made of it; kept in the index with the date."""

from __future__ import annotations

import math
import os
import shutil
import time
from pathlib import Path
from typing import Final

from attrs import asdict, frozen

from store.errors import BnError
from store.index import Index, Table, to_json
from store.probe import BLOCK, buffer, latency, read_latency, scratch, timed_write
from store.tiers import Tier

MOST_BYTES: Final = 64 * 2**20
MOST_SECONDS: Final = 0.3
"""Bounds on each of writing and reading; the file has no name and is gone with its last use."""

SEEDS: Final = (1000, 850, 570, 150, 100)
"""The scores by level of tiers that were not measured."""


@frozen(kw_only=True)
class Speed:
    """What was measured: bytes a second, seconds for 4 KiB, and when (seconds since 1970)."""

    write: float
    read: float
    latency: float
    time: float

    @property
    def score(self) -> int:
        """The score from 0 to 1000: half by latency, a quarter each by reading and writing.

        The formula is ours. Each part is logarithmic between two ends: 10 ms and 10 µs, 30 MB/s and
        10 GB/s. It was set so that the figures of data sheets give what people expect: a hard disk
        (8 ms, 150 and 140 MB/s) 152, an NVMe disk (20 µs, 3.5 and 3 GB/s) 853, RAM 1000.
        """
        waiting = _part(1 / self.latency, 1e2, 1e5)
        parts = 2 * waiting + _part(self.read, 3e7, 1e10) + _part(self.write, 3e7, 1e10)
        return round(250 * parts)


def _part(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, math.log(value / low) / math.log(high / low)))


def measure(directory: Path) -> Speed | None:
    """Measure the file system that holds `directory`, past the page cache where it lets us.

    Takes less than a second. None where there is too little room to tell; raises OSError.
    """
    size = min(MOST_BYTES, shutil.disk_usage(directory).free // 4) // BLOCK * BLOCK
    if size < 4 * BLOCK:
        return None
    block = buffer(BLOCK)
    with scratch(directory) as (handle, direct):
        written, seconds = 0, 0.0
        while written < size and seconds < MOST_SECONDS:
            seconds += timed_write(handle, block)
            written += BLOCK
        began = time.perf_counter()
        os.fsync(handle)
        write = written / (seconds + time.perf_counter() - began)
        if not direct:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        done, seconds = 0, 0.0
        while done < written and seconds < MOST_SECONDS:
            began = time.perf_counter()
            os.preadv(handle, [block], done)
            seconds += time.perf_counter() - began
            done += BLOCK
        waiting = read_latency(handle, written)
    return Speed(write=write, read=done / seconds, latency=waiting, time=round(time.time(), 3))


def measured(index: Index, tier: Tier) -> Speed | None:
    """Return what was measured of a tier last."""
    match index.get_json(Table.META, _key(tier)):
        case {"write": float(write), "read": float(read), "latency": float(wait), "time": when}:
            return Speed(write=write, read=read, latency=wait, time=when)
    return None


def measure_tier(index: Index, tier: Tier) -> Speed | None:
    """Measure a tier and remember it; None where that cannot be done now."""
    try:
        speed = measure(tier.root)
    except OSError:
        return None
    if speed is not None:
        index.write([(Table.META, _key(tier), to_json(asdict(speed)))])
    return speed


def score(speed: Speed | None, level: int) -> int:
    """Return the score of a tier of that level, as it was measured if it was."""
    return SEEDS[level] if speed is None else speed.score


def _key(tier: Tier) -> str:
    return f"speed/{tier.root}"[:500]


class Latencies:
    """The latencies of devices: measured once, then known to the store at `root`."""

    def __init__(self, root: Path) -> None:
        self._path = root / "index"

    def __call__(self, path: Path, device: str) -> float | None:
        """Return the seconds that 4 KiB take on the device that holds `path`, None if unknown."""
        key = f"latency/{device}"[:500]
        try:
            index = Index(self._path) if self._path.is_dir() else None
        except BnError:  # whoever opens the store will say so
            index = None
        if index is None:
            return latency(path)
        try:
            known = index.get_json(Table.META, key)
            if isinstance(known, dict) and isinstance(known.get("seconds"), float):
                return float(known["seconds"])
            seconds = latency(path)
            if seconds is not None:
                index.write([(Table.META, key, to_json({"seconds": seconds, "time": time.time()}))])
            return seconds
        except BnError:
            return latency(path)
        finally:
            index.close()
