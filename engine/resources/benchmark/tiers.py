"""Speeds of the store's tiers: the last run on the same file system, whoever asked for it.

What was measured stands in one place, the history of results. `bn store stat` shows it, and what it
measures itself is added there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.resources.benchmark.kept import keep
from engine.resources.benchmark.results import STORAGE, Run
from store.detect import Mount, detect_level, mounted
from store.measure import SEEDS, Latencies
from store.probe import latency
from store.tiers import LEVEL_NAMES

if TYPE_CHECKING:
    from store.index import Index

DEVICE: Final = "device"
POINT: Final = "mount"
TYPE: Final = "type"
"""What a run on storage tells of the file system."""


def held_by(directory: Path) -> dict[str, str]:
    """Return what holds a directory, for the run that tells of it."""
    mount = mounted(directory)
    level = detect_level(directory, latency=lambda path, _: latency(path))
    return {
        DEVICE: mount.device,
        POINT: mount.point,
        "filesystem": mount.kind,
        TYPE: LEVEL_NAMES[level],
    }


def speed_of(runs: Iterable[Run], directory: Path, node: str) -> Run | None:
    """Return the last run of a node on the file system that holds a directory, None if nobody
    measured it."""
    mount = mounted(directory)
    here = [run for run in runs if run.kind == STORAGE and run.node == node]
    same = [run for run in here if run.target == str(directory) or _is_on(run, mount)]
    told = [run for run in same if run.value("storage.score") is not None]
    return max(told, key=lambda run: run.time, default=None)


def _is_on(run: Run, mount: Mount) -> bool:
    return (run.about.get(DEVICE), run.about.get(POINT)) == (mount.device, mount.point)


def score(run: Run | None, level: int) -> int:
    """Return the score of a tier of that level: as measured, else what such tiers usually have."""
    points = run.value("storage.score") if run else None
    return SEEDS[level] if points is None else round(points)


def keep_storage(run: Run, store: Path, index: Index | None = None) -> None:
    """Add a run on storage to the history of a store, and let the store know the latency of the
    device, in `index` where it is open already; raises HostError."""
    keep([run], store)
    Latencies(store).renew(Path(run.target), run.about.get(DEVICE, ""), index)
