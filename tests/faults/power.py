"""Servers whose machine goes down while they take uploads, over and over.

Run as `python power.py PLACE CUTS SEED`, as root. The store is on a file system in a file (a loop
device). Two processes take uploads without a sync for each, a third one commits objects as a build
does; pages of the tables are written out at random, in any order, as a kernel may. Then all are
stopped and the file is copied: that is what a power cut would have left. In the copy everything
must be there that was synced, and what is there must be right.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[2]))

import store.checkpoints
from engine.http.service import Service
from store.digest import digest_bytes
from store.environment import Environment
from store.index import Table
from store.store import Store
from store.syncing import Syncer
from store.verify import verify
from tests.faults.serving import child, content, say

AT_ONCE = 8
SIZES = (0, 10, 300, 4096, 4096, 4096, 20_000, 300_000)
SIZE = 768 * 2**20
TABLES = ("objects/data.mdb", "entries/data.mdb")
WRITE = 2
"""SYNC_FILE_RANGE_WRITE of Linux."""


async def upload(service: Service, rng: random.Random) -> None:
    """Store things for ever; some are stored again, or removed."""
    names: list[str] = []
    while True:
        name, size = f"{rng.getrandbits(60):x}", rng.choice(SIZES)
        await service.put("kept", "generic", name, content(name, size))
        say(f"stored {name} {size}")
        names.append(name)
        if rng.random() < 0.2:
            await service.put("moving", "generic", f"{rng.randrange(50)}", content(name, 4096))
        if rng.random() < 0.1:
            await service.put("moving", "generic", name, b"gone")
            await service.remove("moving", "generic", name)


def serve(root: Path, seed: int) -> None:
    """Be a server's process that syncs afterwards, and tell when it did."""

    def told(self: Syncer, sync: Callable[[Syncer], None] = Syncer._sync) -> None:
        say("begins")
        sync(self)
        say("synced")

    def noted(
        self: Environment, version: Callable[[Environment], int] = Environment.version
    ) -> int:
        if threading.current_thread().name == "syncs":
            say("noted")
        return version(self)

    def followed(self: Syncer, follow: Callable[[Syncer], None] = Syncer._follow) -> None:
        say("followed")
        follow(self)

    Syncer._sync = told  # type: ignore[method-assign]
    Syncer._follow = followed  # type: ignore[method-assign]
    Environment.version = noted  # type: ignore[method-assign]

    async def work() -> None:
        rng = random.Random(seed)
        with Store(root) as store:
            store.relax()
            service = Service(store)
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(upload, service, random.Random(rng.random()))

    say("ready")
    trio.run(work)


def build(root: Path, seed: int) -> None:
    """Commit objects, and what names them, as a build does; also some that servers put."""
    rng = random.Random(seed)
    say("ready")
    with Store(root) as store:
        while True:
            name = f"{rng.getrandbits(60):x}"
            digest = store.cas.put_object(content(name, 2000))
            store.cas.sync()
            store.index.write([(Table.META, f"test/{name}", digest.encode())])
            say(f"built {name}")
            time.sleep(rng.uniform(0, 0.3))


def durable(lines: list[str]) -> tuple[dict[str, int], list[str]]:
    """Return what a process said to be durable: uploads before a sync that ended, and objects."""
    synced: dict[str, int] = {}
    before: dict[str, dict[str, int]] = {}
    acknowledged: dict[str, int] = {}
    for line in lines:
        what, *rest = line.split()
        if what == "stored":
            acknowledged[rest[0]] = int(rest[1])
        elif what in ("begins", "noted"):
            before[what] = dict(acknowledged)
        elif what in ("synced", "followed"):
            synced |= before["begins" if what == "synced" else "noted"]
    return synced, [line.split()[1] for line in lines if line.startswith("built ")]


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """Mount the file system in a file."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop,commit=1", image, place], check=True)
    try:
        yield place / "store"
    finally:
        for _ in range(50):
            if subprocess.run(["umount", place], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)


def written(place: Path) -> str:
    """Return a text that changes when something is written to the device of a mount."""
    device = os.stat(place).st_dev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()


def write_out(root: Path, rng: random.Random, seconds: float) -> None:
    """Let the kernel write random parts of the tables, first pages among them."""
    library = ctypes.CDLL(None, use_errno=True)
    library.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in TABLES:
            try:
                handle = os.open(root / name, os.O_RDONLY)
            except FileNotFoundError:
                continue
            pages = max(1, os.fstat(handle).st_size // 4096)
            for _ in range(rng.randrange(1, 20)):
                first = rng.choice([0, 1, rng.randrange(pages)])
                library.sync_file_range(handle, first * 4096, rng.randrange(1, 8) * 4096, WRITE)
            os.close(handle)
        time.sleep(0.01)


def cut(image: Path, place: Path, copy: Path, rng: random.Random, seconds: float) -> list[str]:
    """Let them work for so long, and copy the file; return what they said."""
    with mounted(image, place) as root:
        works = [partial(serve, root, rng.getrandbits(32)) for _ in range(2)]
        works.append(partial(build, root, rng.getrandbits(32)))
        Store(root).close()
        children = [child(work) for work in works]
        said = []
        try:
            write_out(root, rng, seconds)
            for pid, _ in children:
                os.kill(pid, signal.SIGSTOP)
            for _ in range(100):
                before = written(place)
                time.sleep(0.05)
                if before != written(place):
                    continue
                shutil.copyfile(image, copy)
                if before == written(place):
                    break
            else:
                sys.exit("the file system does not come to rest")
        finally:
            for pid, reading in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                with os.fdopen(reading, "rb") as told:
                    said.append(told.read().decode())
        return said


async def check(root: Path, uploads: dict[str, int], built: set[str]) -> int:
    """Check that what was synced is there, and all that is there is right; return how much."""
    with Store(root) as store_:
        service = Service(store_)
        for name, size in uploads.items():
            data = await service.read("kept", "generic", name, limit=size)
            assert data == content(name, size), f"{name} of {size} bytes is lost"
        rows = [found async for found in service.each("kept", "generic")]
        for name, row in rows:
            data = await service.read("kept", "generic", name, limit=row.size)
            assert data is not None, f"{name} of {row.size} bytes has no bytes"
            assert data == content(name, row.size), f"{name}: other bytes"
        for name in built:
            assert store_.cas.has(digest_bytes(content(name, 2000))), f"{name}, built, is lost"
            assert store_.index.get(Table.META, f"test/{name}"), f"{name} is not named"
        for space in ("kept", "moving"):
            usage = service.usage(space)
            some = [row async for _, row in service.each(space, "generic")]
            assert (len(some), sum(row.size for row in some)) == (usage.entries, usage.bytes)
        await service.aclose()
        report = verify(store_)
        assert not report.problems, report.problems
        assert not list((root / "quarantine").glob("*s.*")), "it had to be mended"
        return len(rows)


def main(place: Path, cuts: int, seed: int) -> None:
    """Cut the power so often, and check after each; each goes on from what the last one left."""
    rng = random.Random(seed)
    image, copy = place / "image", place / "copy"
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    uploads: dict[str, int] = {}
    built: set[str] = set()
    acknowledged = kept = 0
    for turn in range(cuts):
        said = cut(image, place / "mount", copy, rng, rng.uniform(0.3, 3.0))
        for one in said:
            lines = one.splitlines()
            synced, objects = durable(lines)
            uploads |= synced
            built |= set(objects)
            acknowledged += sum(line.startswith("stored ") for line in lines)
        os.replace(copy, image)
        store.checkpoints.boot = lambda turn=turn: b"%036d" % turn  # type: ignore[misc]
        try:
            with mounted(image, place / "mount") as root:
                kept = trio.run(check, root, uploads, built)
        except AssertionError as error:
            sys.exit(f"after cut {turn} (seed {seed}): {error}")
    say(
        f"{cuts} cuts: {acknowledged} acknowledged, {len(uploads)} synced, {kept} kept, "
        f"{len(built)} objects built"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
