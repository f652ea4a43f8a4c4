"""A store whose users are killed with SIGKILL at random points, over and over, and checked.

Run as `python killing.py ROOT KILLS SEED`: a child is forked each time, works until it is killed,
and tells what it committed; then all of that must be there, and `verify` find nothing wrong.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from store.closure import Claim, Kind
from store.digest import Digest
from store.gc import collect
from store.ingest import ingest_directory
from store.materialise import materialised
from store.store import Store
from store.tiers import TierSpec
from store.verify import verify
from tests.store.results import make

KEPT = 12
"""Results that are claimed at a time; older ones are garbage."""


def tiers(root: Path) -> list[TierSpec]:
    """Return two tiers, so that there is something to migrate."""
    return [
        TierSpec(name="fast", path=root / "fast", level=1),
        TierSpec(name="slow", path=root / "slow", level=3),
    ]


def say(text: str) -> None:
    """Tell the parent, in one write."""
    os.write(1, f"{text}\n".encode())


def record(store: Store, rng: random.Random, names: list[str]) -> None:
    """Record some results and commit them."""
    with store.lease("build"):
        made: list[str] = []
        for _ in range(rng.randint(1, 3)):
            size, observed = rng.choice([10, 1000, 200_000]), rng.random() < 0.3
            made.append(make(store, f"{rng.getrandbits(60)}", size, observed).digest)
        store.actions.commit()
        for name in made:
            say(f"committed {name}")
    names += made


def ingest(store: Store, rng: random.Random, names: list[str]) -> None:
    """Ingest a directory, show it, and record results."""
    with store.lease("build"):
        source = store.root / "source"
        source.mkdir(exist_ok=True)
        for number in range(5):
            (source / f"f{number}").write_bytes(rng.randbytes(rng.choice([10, 5000, 150_000])))
        snapshot = ingest_directory(store.cas, store.index, str(source))
        materialised(store.cas, snapshot.tree)
    record(store, rng, names)


def garbage(store: Store, rng: random.Random, names: list[str]) -> None:
    """Collect all but the newest results."""
    record(store, rng, names)
    for name in names[:-KEPT]:
        say(f"dropped {name}")
    del names[:-KEPT]
    needs = tuple((Kind.ACTION, Digest(name)) for name in names)
    collect(store, [Claim(why="test", name="test", time=time.time(), needs=needs)])


def migrate(store: Store, rng: random.Random, names: list[str]) -> None:
    """Move what is there to the slow tier."""
    from store.migrate import migrate, plan_migration
    from store.policy import Policy

    record(store, rng, names)
    store.policy = Policy(cold_hours=0)
    migrate(store, plan_migration(store))


KINDS: dict[str, Callable[[Store, random.Random, list[str]], None]] = {
    "commit": record,
    "ingest": ingest,
    "gc": garbage,
    "migrate": migrate,
}


def work(root: Path, kind: str, seed: int, names: list[str]) -> None:
    """Work until killed; `names` are the actions whose results are claimed."""
    rng = random.Random(seed)
    with Store(root, tiers(root)) as store:
        say("ready")
        while True:
            KINDS[kind](store, rng, names)


def killed(root: Path, kind: str, seed: int, names: list[str], seconds: float) -> list[str]:
    """Start a child, kill it that long after it is ready, and return what it told."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        try:
            work(root, kind, seed, names)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        first = told.readline()
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert first == b"ready\n", f"{kind} did not start"
        assert os.WIFSIGNALED(status), f"{kind} ended by itself"
        return told.read().decode().splitlines()


def check(root: Path, names: list[str], *, thoroughly: bool) -> None:
    """Check that every result is there, and with `thoroughly` all else as well."""
    with Store(root, tiers(root)) as store:
        lost = [name for name in names if store.actions.result_of(Digest(name)) is None]
        assert not lost, f"lost: {lost}"
        if thoroughly:
            report = verify(store)
            assert not report.problems, report.problems


def main(root: Path, kills: int, seed: int) -> None:
    """Kill so often, and check after each."""
    rng = random.Random(seed)
    names: list[str] = []
    for turn in range(kills):
        kind = list(KINDS)[turn % len(KINDS)]
        before = list(names)
        for line in killed(root, kind, rng.getrandbits(32), names, rng.uniform(0, 0.08)):
            what, name = line.split()
            if what == "committed":
                names.append(name)
            else:
                names.remove(name)
        try:
            check(root, names, thoroughly=turn % 5 == 4 or turn == kills - 1)
        except AssertionError as error:
            sys.exit(f"after kill {turn} of {kind} (seed {seed}, {len(before)} before): {error}")
    say(f"{kills} kills, {len(names)} results kept")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
