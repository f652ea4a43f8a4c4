"""What one operation of the cache server's store costs: `python -m tests.bench.serve_store`.

Processor time for each find and open, and uploads a second in batches, as so many connections make
them; without network and protocol.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import trio

from engine.http.service import Service
from store.store import Store

SMALL = 4096
LARGE = 2**20


def cpu() -> float:
    """Return the processor seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def show(name: str, number: int, size: int, work: float, wall: float) -> None:
    """Print a line of the table."""
    each = f"{work / number * 1e6:8.1f} µs"
    rate = f"{number / wall:8.0f}/s {number * size / wall / 1e6:8.1f} MB/s"
    print(f"{name:42} {each} {rate}")  # noqa: T201


async def uploads(service: Service, name: str, number: int, size: int, at_once: int) -> None:
    """Store so many values of `size` bytes, `at_once` at a time."""
    values = [os.urandom(16) + bytes(size - 16) for _ in range(number)]

    async def worker(first: int) -> None:
        for at in range(first, number, at_once):
            await service.put("bench", "generic", f"{name}{at}", values[at])

    work, wall = cpu(), time.perf_counter()
    async with trio.open_nursery() as nursery:
        for first in range(at_once):
            nursery.start_soon(worker, first)
    work, wall = cpu() - work, time.perf_counter() - wall
    show(f"put of {size} bytes, {at_once} at once", number, size, work, wall)


async def reads(service: Service, what: str, name: str, number: int, rounds: int) -> None:
    """Find and open what was stored."""
    work, wall, size = cpu(), time.perf_counter(), 0
    for _ in range(rounds):
        for at in range(number):
            stored = await service.get("bench", "generic", f"{name}{at}")
            assert stored is not None
            size = stored.size
            stored.close()
    work, wall = cpu() - work, time.perf_counter() - wall
    show(f"find and open of {size} bytes, {what}", number * rounds, size, work, wall)


async def main(root: Path, number: int) -> None:
    """Measure all."""
    with Store(root) as store:
        service = Service(store)
        await uploads(service, "single", max(1, number // 16), SMALL, 1)
        await uploads(service, "small", number, SMALL, 32)
        await uploads(service, "many", number, SMALL, 128)
        await uploads(service, "large", max(32, number // 20), LARGE, 32)
        cold = Service(store, hot_bytes=0)
        await reads(cold, "not hot", "small", number, 4)
        await reads(service, "first", "small", number, 1)
        await reads(service, "hot", "small", number, 4)
        await reads(service, "first", "large", max(32, number // 20), 1)
        await reads(service, "again", "large", max(32, number // 20), 10)
        names = [f"small{at}" for at in range(number)]
        work, wall = cpu(), time.perf_counter()
        found = service.find_many("bench", "generic", names)
        show("find of many", len(found), 0, cpu() - work, time.perf_counter() - wall)
        await cold.aclose()
        await service.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--number", type=int, default=4000)
    parser.add_argument("--directory", default=None)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=told.directory) as place:
        run: Callable[..., object] = trio.run
        run(main, Path(place) / "store", told.number)
