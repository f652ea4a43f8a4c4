"""Speed of a directory's file system, measured, and a score made of it; latencies of devices."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from pathlib import Path
from typing import Final

from attrs import frozen

from store.detect import RAM_TYPES, mounted
from store.errors import BnError
from store.index import Index, Table, to_json
from store.probe import BLOCK, buffer, latency, read_latency, scratch, timed_write

MOST_BYTES: Final = 64 * 2**20
MOST_SECONDS: Final = 0.3
"""Bounds on each of writing and reading; the file has no name and is gone with its last use."""

LEAST: Final = 16 * BLOCK
"""Bytes that have to be free; a quarter of what is free is used at most."""

PROBES: Final = 3
"""How often a latency is measured where it is measured again."""

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

    Takes less than a second. In RAM there is no device to wait for: there processor time counts,
    which others do not lengthen as they do the wall clock's. None where there is too little room
    to tell; raises OSError.
    """
    size = min(MOST_BYTES, shutil.disk_usage(directory).free // 4) // BLOCK * BLOCK
    if size < LEAST // 4:
        return None
    clock = time.thread_time if mounted(directory).kind in RAM_TYPES else time.perf_counter
    block = buffer(BLOCK)
    with scratch(directory) as (handle, direct):
        written, seconds = 0, 0.0
        while written < size and seconds < MOST_SECONDS:
            seconds += timed_write(handle, block, clock)
            written += BLOCK
        began = clock()
        os.fsync(handle)
        write = written / (seconds + clock() - began)
        if not direct:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        done, seconds = 0, 0.0
        while done < written and seconds < MOST_SECONDS:
            began = clock()
            os.preadv(handle, [block], done)
            seconds += clock() - began
            done += BLOCK
        waiting = read_latency(handle, written, clock=clock)
    return Speed(write=write, read=done / seconds, latency=waiting, time=round(time.time(), 3))


class Latencies:
    """The latencies of devices: measured once, then known to the store at `root`."""

    def __init__(self, root: Path) -> None:
        self._path = root / "index"

    def __call__(self, path: Path, device: str) -> float | None:
        """Return the seconds that 4 KiB take on the device that holds `path`, None if unknown."""
        try:
            index = Index(self._path) if self._path.is_dir() else None
        except BnError:  # whoever opens the store will say so
            index = None
        if index is None:
            return latency(path)
        try:
            known = index.get_json(Table.META, _key(device))
            if isinstance(known, dict) and isinstance(known.get("seconds"), float):
                return float(known["seconds"])
            seconds = latency(path)
            if seconds is not None:
                self._write(index, device, seconds)
            return seconds
        except BnError:
            return latency(path)
        finally:
            index.close()

    def renew(self, path: Path, device: str, index: Index | None = None) -> None:
        """Measure the latency of a device again: what tiers are taken for follows from it. The
        least of a few counts, as others only ever make it longer. `index` is that of the store
        where this process has it open."""
        found = [one for one in (latency(path) for _ in range(PROBES)) if one is not None]
        if not found or not self._path.is_dir():
            return
        with contextlib.suppress(BnError):  # whoever opens the store will say so
            if index is not None:
                self._write(index, device, min(found))
                return
            opened = Index(self._path)
            try:
                self._write(opened, device, min(found))
            finally:
                opened.close()

    @staticmethod
    def _write(index: Index, device: str, seconds: float) -> None:
        fact = {"seconds": seconds, "time": time.time()}
        index.write([(Table.META, _key(device), to_json(fact))])


def _key(device: str) -> str:
    return f"latency/{device}"[:500]
