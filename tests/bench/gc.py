"""A collection of a store of 100,000 objects, timed. Run it: python -m tests.bench.gc [OBJECTS]."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from store.closure import Claim, Kind, Needed
from store.digest import Digest
from store.gc import collect
from store.objects import Action, ActionResult, Directory, File, Tree
from store.store import Store

OBJECTS = 100_000
FILES = 6
"""Files in one result: with its trees, action, log and result that is ten objects."""


def fill(store: Store, objects: int) -> list[Needed]:
    """Put results of actions in until there are so many objects, and return every other one."""
    kept: list[Needed] = []
    for number in range(objects // (FILES + 4)):
        entries = {}
        for name in range(FILES):
            data = b"%d/%d" % (number, name) * 64
            entries[f"f{name}"] = File(store.cas.put_bytes(data), len(data))
        inputs = Directory(store.cas.put_tree(Tree(entries)))
        outputs = store.cas.put_tree(Tree({"out": inputs}))
        action = Action(command=(f"run {number}",), input_root=inputs.digest, outputs=("out",))
        log = store.cas.put_bytes(b"log %d" % number)
        result = ActionResult(action=action.digest(), outputs=outputs, log=log)
        store.actions.record(action, result, dict)
        if number % 2 == 0:
            kept.append((Kind.ACTION, action.digest()))
    store.actions.commit()
    return kept


def timed(store: Store, claims: list[Claim], name: str, dry_run: bool = False) -> None:
    """Collect and print how long that took."""
    started = time.perf_counter()
    report = collect(store, claims, dry_run=dry_run)
    assert report is not None
    gone = report.removed["blobs"].number if "blobs" in report.removed else 0
    line = f"{name:<28} {time.perf_counter() - started:6.2f} s   {gone:>7} blobs removed\n"
    sys.stdout.write(line)


def main(objects: int) -> None:
    """Fill a store, then collect half of it, nothing, and the rest."""
    place = os.environ.get("BN_BENCH_DIR")
    with tempfile.TemporaryDirectory(dir=place) as directory, Store(Path(directory)) as store:
        started = time.perf_counter()
        kept = fill(store, objects)
        filled = time.perf_counter() - started
        sys.stdout.write(f"{objects} objects, filled in {filled:.1f} s\n")
        claims = [Claim(why="bench", name="bench", time=time.time(), needs=tuple(kept))]
        timed(store, claims, "half of it, dry run", dry_run=True)
        timed(store, claims, "half of it")
        timed(store, claims, "nothing to do")
        some: list[Digest] = [digest for _, digest in kept[:10]]
        assert all(store.actions.result_of(one) for one in some)
        timed(store, [], "all the rest")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS)
