"""Hashing against b3sum, ingesting and staging against cp, paired. Run it: python -m
tests.bench.store [ROUNDS]."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from store.digest import Digest, digest_file
from store.durability import sync_file_system
from store.ingest import ingest_directory
from store.materialise import materialise
from store.store import Store, remove_tree

ROUNDS = 5
HASHED = 1 << 30
"""Bytes of the file that is hashed."""
INGESTED = 10_000
INGESTED_BYTES = 4096
STAGED = 20_000
A_DIRECTORY = 500
"""Files in one directory of the made trees."""


def make_files(root: Path, count: int, size: int) -> None:
    """Make `count` files of `size` bytes, all different, in directories of `A_DIRECTORY`."""
    for number in range(count):
        directory = root / f"d{number // A_DIRECTORY}"
        if number % A_DIRECTORY == 0:
            directory.mkdir(parents=True)
        text = f"{number:08d}".encode()
        (directory / f"f{number}").write_bytes((text * (size // 8 + 1))[:size])


def seconds(action: Callable[[], object]) -> float:
    """Return how long `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def hashing(directory: Path, rounds: int) -> None:
    """Compare hashing a large file, which is in memory, with b3sum, where that is installed."""
    if shutil.which("b3sum") is None:
        sys.stdout.write("b3sum not found\n")
        return
    file = directory / "large"
    with open(file, "wb") as large:
        for _ in range(HASHED >> 20):
            large.write(os.urandom(1 << 20))
    theirs = ["b3sum", "--no-names", str(file)]
    said = subprocess.run(theirs, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said.strip() == digest_file(file, HASHED)
    ours, other = [], []
    for _ in range(rounds):
        other.append(seconds(lambda: subprocess.run(theirs, check=True, stdout=subprocess.DEVNULL)))
        ours.append(seconds(lambda: digest_file(file, HASHED)))
    file.unlink()
    say(f"hash {HASHED >> 20} MiB", ours, other, "b3sum")


def ingest(directory: Path, source: Path, round_: int) -> float:
    """Return the time of an ingest into a new store."""
    with Store(directory / f"store{round_}") as store:
        return seconds(lambda: ingest_directory(store.cas, store.index, str(source)))


def again(directory: Path, source: Path, round_: int) -> float:
    """Return the time of an ingest of what the store has already, with its stat cache."""
    with Store(directory / f"store{round_}") as store:
        return seconds(lambda: ingest_directory(store.cas, store.index, str(source)))


def copy(source: Path, target: Path, *options: str) -> float:
    """Return the time of cp."""
    command = ["cp", *options, str(source), str(target)]
    return seconds(lambda: subprocess.run(command, check=True))


def stage(store: Store, tree: Digest, target: Path) -> float:
    """Return the time of staging a tree with hard links."""
    return seconds(lambda: materialise(store.cas, tree, str(target)))


def ingesting(directory: Path, rounds: int) -> None:
    """Compare ingesting with cp -r."""
    source = directory / "source"
    make_files(source, INGESTED, INGESTED_BYTES)
    time.sleep(0.1)  # so that the signatures can be believed
    ours, known, theirs = [], [], []
    for number in range(rounds):
        theirs.append(copy(source, directory / f"copy{number}", "-r"))
        ours.append(ingest(directory, source, number))
        known.append(again(directory, source, number))
        sync_file_system(directory)
        remove_tree(directory / f"copy{number}")
        remove_tree(directory / f"store{number}")
    say(f"ingest {INGESTED} files of {INGESTED_BYTES} B", ours, theirs, "cp -r")
    say("the same again, unchanged", known, theirs, "cp -r")


def staging(directory: Path, rounds: int) -> None:
    """Compare staging with cp -al and cp -r."""
    source = directory / "inputs"
    make_files(source, STAGED, 64)
    with Store(directory / "staging") as store:
        tree = ingest_directory(store.cas, store.index, str(source)).tree
        shown = directory / "shown"
        materialise(store.cas, tree, str(shown))
        ours, links, copies = [], [], []
        for number in range(rounds):
            links.append(copy(shown, directory / f"links{number}", "-al"))
            ours.append(stage(store, tree, directory / f"staged{number}"))
            copies.append(copy(shown, directory / f"copies{number}", "-r"))
            for name in ("links", "staged", "copies"):
                remove_tree(directory / f"{name}{number}")
    say(f"stage {STAGED} files", ours, links, "cp -al")
    say(f"stage {STAGED} files", ours, copies, "cp -r")


def say(what: str, ours: list[float], theirs: list[float], peer: str) -> None:
    """Print medians and the median of the ratios of pairs."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    sys.stdout.write(
        f"{what:<32} {statistics.median(ours):6.2f} s   {peer:<7} "
        f"{statistics.median(theirs):6.2f} s   ratio {statistics.median(ratios):5.2f} "
        f"({min(ratios):.2f}–{max(ratios):.2f})\n"
    )


def main(rounds: int) -> None:
    """Run all comparisons on the file system of $BN_BENCH_DIR, else of the temporary directory."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BN_BENCH_DIR")) as directory:
        hashing(Path(directory), rounds)
        ingesting(Path(directory), rounds)
        staging(Path(directory), rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
