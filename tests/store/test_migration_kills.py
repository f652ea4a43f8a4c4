"""Migrations that are killed at random moments lose nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from store.digest import Digest
from store.store import Store
from store.tiers import HDD, NVME, TierSpec

KILLS = 20
BLOBS = 400

MIGRATE = """
import sys, time
from pathlib import Path
from store.migrate import migrate, plan_migration
from store.store import Store
from store.tiers import TierSpec
root = Path(sys.argv[1])
tiers = [TierSpec(name="fast", path=root / "fast", level=1),
         TierSpec(name="slow", path=root / "slow", level=3)]
with Store(root / "store", tiers) as store:
    print("go", flush=True)
    migrate(store, plan_migration(store, time.time() + 10**9))
"""


def opened(root: Path) -> Store:
    """Open the store of the test, which sweeps what killed processes left."""
    fast = TierSpec(name="fast", path=root / "fast", level=NVME)
    slow = TierSpec(name="slow", path=root / "slow", level=HDD)
    return Store(root / "store", [fast, slow])


def test_killed_migrations_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    with opened(tmp_path) as store:
        blobs = [
            store.cas.put_bytes(chance.randbytes(chance.choice([10, 5000, 60_000])), bool(n % 2))
            for n in range(BLOBS)
        ]
    whole = migrating(tmp_path, None)
    with opened(tmp_path) as store:
        for digest in blobs:
            put_back(store, digest)
    moved = set()
    for _ in range(KILLS):
        migrating(tmp_path, chance.uniform(0, whole))
        with opened(tmp_path) as store:
            fast, slow = store.cas.tiers
            copied = sum(slow.find(digest) is not None for digest in blobs)
            moved.add((copied, sum(fast.find(digest) is None for digest in blobs)))
            assert not fast.temporaries.unfinished() + slow.temporaries.unfinished()
            for digest in blobs:
                check(store, digest)
                if chance.random() < 0.7:
                    put_back(store, digest, executable=chance.random() < 0.5)
    assert len(moved) > 3, "the kills came at too few moments"


def migrating(root: Path, seconds: float | None) -> float:
    """Run a migration, killed after so many seconds, and return how long it ran."""
    command = [sys.executable, "-I", "-c", MIGRATE, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"go\n"
        started = time.monotonic()
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        process.wait()
        return time.monotonic() - started


def put_back(store: Store, digest: Digest, *, executable: bool = False) -> None:
    """Leave a blob in the fast tier alone, so that the next migration has all of its work again."""
    store.cas.promote(digest, executable=executable)
    store.cas.tiers[1].remove(digest)


def check(store: Store, digest: Digest) -> None:
    """Read a blob, which checks it, and see that no tier had anything wrong."""
    store.cas.get_bytes(digest)
    assert not any((tier.root / "quarantine").exists() for tier in store.cas.tiers)
