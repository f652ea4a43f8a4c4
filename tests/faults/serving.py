"""Servers' processes that are killed with SIGKILL while they take uploads, over and over.

Run as `python serving.py ROOT KILLS SEED DURABILITY`: some processes share a store, each takes
uploads, many at a time, and tells what it acknowledged; a collector runs beside them. All are
killed at once; then everything acknowledged must be there, byte for byte, and `verify` find nothing
wrong.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.http.service import Item, Service
from store.gc import collect
from store.store import Store
from store.verify import verify

PROCESSES = 2
AT_ONCE = 8
QUOTA = 2_000_000
SIZES = (0, 10, 4096, 4096, 200_000, 300_000, 1_500_000)


def content(name: str, size: int) -> bytes:
    """Return the bytes that are stored under a name."""
    return random.Random(name).randbytes(size)


def say(text: str) -> None:
    """Tell the parent, in one write."""
    os.write(1, f"{text}\n".encode())


async def upload(service: Service, rng: random.Random) -> None:
    """Store things for ever, some of them also where there is little room."""
    while True:
        name, size = f"{rng.getrandbits(60):x}", rng.choice(SIZES)
        data = content(name, size)
        if rng.random() < 0.5:
            await service.put("small", "generic", name, data)
        if rng.random() < 0.3:
            await service.put_many(
                "kept",
                [Item("generic", name, data), Item("again", name, data, {"size": str(size)})],
            )
        else:
            sha256 = hashlib.sha256(data).hexdigest()
            await service.put("kept", "generic", name, data, sha256=sha256)
        say(f"{name} {size}")


async def serve(root: Path, seed: int, durability: str) -> None:
    """Be a server's process."""
    rng = random.Random(seed)
    with Store(root) as store:
        if durability == "process":
            store.relax()
        service = Service(store, quotas={"small": QUOTA})
        say("ready")
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(upload, service, random.Random(rng.random()))


def tidy(root: Path) -> None:
    """Be a collector."""
    with Store(root) as store:
        say("ready")
        while True:
            collect(store)


def child(work: Callable[[], object]) -> tuple[int, int]:
    """Start a process; return its id and what it tells."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        try:
            work()
        finally:
            os._exit(1)
    os.close(writing)
    return pid, reading


def killed(root: Path, seeds: list[int], seconds: float, durability: str) -> list[str]:
    """Let them work for so long after all are ready, and return what was acknowledged."""
    children = [child(partial(trio.run, serve, root, seed, durability)) for seed in seeds]
    children.append(child(partial(tidy, root)))
    told = [os.fdopen(reading, "rb") for _, reading in children]
    first = [one.readline() for one in told]
    time.sleep(seconds)
    for pid, _ in children:
        os.kill(pid, signal.SIGKILL)
    lines: list[str] = []
    for (pid, _), one in zip(children, told, strict=True):
        lines += one.read().decode().splitlines()
        one.close()
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "a process ended by itself"
    assert first == [b"ready\n"] * len(children), "one did not start"
    return lines


async def check(root: Path, names: dict[str, int], thoroughly: bool) -> None:
    """Check that all that was acknowledged is there."""
    with Store(root) as store:
        service = Service(store, quotas={"small": QUOTA})
        for name, size in names.items():
            data = await service.read("kept", "generic", name, limit=size)
            assert data == content(name, size), f"{name} of {size} bytes is lost"
        usage = service.usage("small")
        assert usage.bytes <= QUOTA, usage
        rows = [row async for _, row in service.each("small", "generic")]
        assert (len(rows), sum(row.size for row in rows)) == (usage.entries, usage.bytes)
        await service.aclose()
        if thoroughly:
            report = verify(store)
            assert not report.problems, report.problems
            assert not store.cas.unfinished()


def main(root: Path, kills: int, seed: int, durability: str) -> None:
    """Kill so often, and check after each."""
    rng = random.Random(seed)
    names: dict[str, int] = {}
    for turn in range(kills):
        seeds = [rng.getrandbits(32) for _ in range(PROCESSES)]
        for line in killed(root, seeds, rng.uniform(0, 0.15), durability):
            name, size = line.split()
            names[name] = int(size)
        try:
            last = turn == kills - 1
            some = names if last else dict(list(names.items())[-100:])
            trio.run(check, root, some, last or turn % 10 == 9)
        except AssertionError as error:
            sys.exit(f"after kill {turn} (seed {seed}): {error}")
    say(f"{kills} kills, {len(names)} entries kept")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
