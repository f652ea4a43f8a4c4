"""RAM disk directories: those of stores that are gone go, others stay."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from store.heat import warm
from store.orphans import tidy_ram
from store.store import Store
from store.tiers import NVME, RAM, TierSpec


def warmed(place: Path, name: str) -> Path:
    """Make a store that has something on the RAM disk, and return its directory there."""
    ram = place / "shm" / f"bn-{os.getuid()}-{name}"
    specs = [
        TierSpec(name="ram", path=ram, level=RAM),
        TierSpec(name="main", path=place / name, level=NVME),
    ]
    with Store(place / name, specs) as store:
        warm(store.cas, [store.cas.put_bytes(name.encode())], seconds=60)
        tidy_ram(store)
    return ram


def test_only_what_belongs_to_stores_that_are_gone_is_removed(tmp_path: Path) -> None:
    gone, there = warmed(tmp_path, "gone"), warmed(tmp_path, "there")
    foreign = tmp_path / "shm" / f"bn-{os.getuid()}-foreign"
    foreign.mkdir()
    shutil.rmtree(tmp_path / "gone")
    last = warmed(tmp_path, "last")
    assert not gone.exists()
    assert there.exists()
    assert foreign.exists()
    assert last.exists()
