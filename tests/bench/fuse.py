"""Ratios of the mounted store to the same tree on disk: `python -m tests.bench.fuse`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen

from store.materialise import materialised
from store.objects import Entry, File
from store.roots import artifact_root
from store.store import Store
from store.trees import build_tree

ROUNDS: Final = 15
MANY: Final = 20_000
SOME: Final = 2_000
GIB: Final = 1 << 30
_CHUNK: Final = 1 << 20


@frozen
class Row:
    """A measurement: seconds on disk and through the mount, and the ratio that is aimed at."""

    name: str
    native: float
    mounted: float
    bar: float

    @property
    def ratio(self) -> float:
        """How many times as long it takes through the mount."""
        return self.mounted / self.native


def main() -> None:
    """Measure everything in one run and print the table."""
    with tempfile.TemporaryDirectory(prefix="bn-bench-") as directory:
        place = Path(directory)
        native = make_store(place / "store")
        with mounted(place) as top:
            rows = list(measure(native, top / "artifacts" / "bench"))
    line = "{:<34} {:>10} {:>10} {:>7} {:>5}\n"
    sys.stdout.write(line.format("", "disk/ms", "mount/ms", "ratio", "bar"))
    for row in rows:
        cells = (f"{row.native * 1e3:.2f}", f"{row.mounted * 1e3:.2f}", f"{row.ratio:.2f}")
        sys.stdout.write(line.format(row.name, *cells, f"{row.bar:g}" if row.bar else "-"))


def make_store(root: Path) -> Path:
    """Fill a store and return the directory that shows the tree on disk."""
    with Store(root) as store:
        entries: dict[str, Entry] = {}
        for number in range(MANY):
            data = f"file {number}\n".encode() * (1 + number % 50)
            file = File(store.cas.put_bytes(data), len(data))
            entries[f"many/{number % 200:03}/{number:05}.txt"] = file
            if number < SOME:
                entries[f"some/{number:05}.txt"] = file
        big = store.cas.temporary()
        chunk = random.Random(1).randbytes(_CHUNK)
        with open(big, "wb") as file_object:
            for number in range(GIB // _CHUNK):
                file_object.write(number.to_bytes(8, "big") + chunk[8:])
        entries["big"] = store.cas.adopt(big, False)
        tree = build_tree(store.cas, entries)
        store.index.write([artifact_root("bench", "bench", tree)])
        return materialised(store.cas, tree)


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Mount the store in `place` and unmount it again."""
    bn = [sys.executable, "-I", "-m", "engine.cli.main"]
    environment = {**os.environ, "BN_STORE": str(place / "store")}
    top = place / "mount"
    subprocess.run([*bn, "mount", str(top)], env=environment, check=True)
    try:
        yield top
    finally:
        subprocess.run([*bn, "unmount", "--lazy", str(top)], env=environment, check=True)


def measure(native: Path, view: Path) -> Iterator[Row]:
    """Yield all measurements; the two sides take turns."""
    names = sorted(os.listdir(native / "some"))

    def stat_all(top: Path) -> None:
        for name in names:
            os.stat(f"{top}/some/{name}")

    def find(top: Path) -> None:
        subprocess.run(["find", str(top / "many")], stdout=subprocess.DEVNULL, check=True)

    def read_all(top: Path) -> None:
        for name in names:
            handle = os.open(f"{top}/some/{name}", os.O_RDONLY)
            os.read(handle, 65536)
            os.close(handle)

    def cat(top: Path) -> None:
        subprocess.run(["cat", str(top / "big")], stdout=subprocess.DEVNULL, check=True)

    def forget_files() -> None:
        for name in names:
            forget_pages(view / "some" / name)

    yield compare("find, 20,000 files, first time", find, native, view, 0, rounds=1)
    yield compare("find, 20,000 files, warm", find, native, view, 2.5)
    yield compare("stat, 2,000 files, warm", stat_all, native, view, 1.2)
    yield compare("open+read, 2,000 files, cold view", read_all, native, view, 0, forget_files)
    yield compare("open+read, 2,000 files, warm", read_all, native, view, 15)
    yield compare("cat, 1 GiB, cold view", cat, native, view, 6, lambda: forget_pages(view / "big"))
    yield compare("cat, 1 GiB, warm", cat, native, view, 1.3)


def forget_pages(path: Path) -> None:
    """Drop what the kernel caches of a file."""
    handle = os.open(path, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def compare(
    name: str,
    action: Callable[[Path], None],
    native: Path,
    view: Path,
    bar: float,
    before: Callable[[], None] | None = None,
    rounds: int = ROUNDS,
) -> Row:
    """Return the best of each side, which other load disturbs least; `before` makes the view cold,
    else it is warmed first."""
    if rounds > 1:
        action(native)
        if before is None:
            action(view)
    disk, mount = [], []
    for _ in range(rounds):
        disk.append(seconds(action, native))
        if before is not None:
            before()
        mount.append(seconds(action, view))
    return Row(name, min(disk), min(mount), bar)


def seconds(action: Callable[[Path], None], top: Path) -> float:
    """Return how long an action takes."""
    begun = time.perf_counter()
    action(top)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
