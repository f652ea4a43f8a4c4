"""A wall that was started before there was a build, for the first one that this process does, and
a first cell behind it.

It is taken only where one that is started now would be the same: behind it are the same directories
and programs, and it has from this process what that would give it now.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from executors.cells import Cell, Kind
from executors.kernel import fixes_addresses, free_addresses
from executors.limits import Limiter
from executors.wall import Wall, served
from store.errors import HostError
from store.records import define

_INHERITED: Final = ("Umask", "SigBlk", "Cpus_allowed", "CapBnd", "NoNewPrivs", "Seccomp")
"""What of /proc/self/status a process has from who starts it, and may be changed there. What it
ignores (under nohup, say) is not among it: a wall has a session of its own, and a cell ignores
nothing, whatever bn was started with."""

_FILES: Final = ("cgroup", "mountinfo", "oom_score_adj", "timerslack_ns", "coredump_filter")
"""What has to be the same in /proc/self."""

_LIMITS: Final = sorted(
    {value for name, value in vars(resource).items() if name.startswith("RLIMIT_")}
)


@define(eq=False)
class _Standing:
    """The wall of this process, and what it was started with."""

    wall: Wall | None = None
    given: tuple[object, ...] = ()


_now: Final = _Standing()


def stand(root: Path, kind: Kind | None = None) -> None:
    """Start a wall for the store at `root`, where that has been used with one, and a cell of that
    kind behind it; where that fails there is none."""
    work, trees = root / "work", root / "trees"
    was = fixes_addresses()
    with contextlib.suppress(OSError, HostError):
        _now.given = tuple(_given(work, trees))
        _now.wall = Wall(work, trees)
        if kind is not None:
            _add_cell(_now.wall, kind)
    if not was:
        free_addresses()


def _add_cell(wall: Wall, kind: Kind) -> None:
    """Raises HostError."""
    fence = Limiter().fence(kind.limits())
    # how many threads the user has is known when an action runs
    if any(name == "RLIMIT_NPROC" for name, _, _ in fence.resource_limits()):
        fence.drop()
    else:
        wall.cells.append(Cell.begin(wall, kind, fence))


def take(work: Path, trees: Path) -> Wall | None:
    """Return the wall that stands if it is as one for these directories would be now; else end it
    and return None."""
    wall, _now.wall = _now.wall, None
    if wall is None:
        return None
    with contextlib.suppress(OSError):
        if wall.alive and wall.trees == trees and _now.given == tuple(_given(work, trees)):
            return wall
    wall.drop()
    return None


def end() -> None:
    """End the wall that stands, if one does. To be called before the process ends: bubblewrap that
    is killed while it starts leaves a child behind."""
    wall, _now.wall = _now.wall, None
    if wall is not None:
        wall.drop()


def descriptors() -> tuple[int, ...]:
    """Return the descriptors of the wall that stands, if one does."""
    return () if _now.wall is None else _now.wall.descriptors()


def moved(descriptors: tuple[int, ...]) -> None:
    """Take note of other numbers of these descriptors."""
    if _now.wall is not None:
        _now.wall.moved(*descriptors)


def _given(work: Path, trees: Path) -> Iterator[object]:
    """Yield all that a wall is made of. Raises OSError."""
    for directory in (work, trees):
        status = os.stat(directory)
        yield (str(directory), status.st_dev, status.st_ino)
    for file in (shutil.which("bwrap") or "", os.path.realpath(sys.executable), *served()):
        status = os.stat(file)
        yield (file, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
    for name in _FILES:
        yield _said(name)
    lines = _said("status").splitlines()
    yield [line for line in lines if line.partition(b":")[0].decode() in _INHERITED]
    yield [resource.getrlimit(number) for number in _LIMITS]
    yield os.getpriority(os.PRIO_PROCESS, 0)
    yield (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)


def _said(name: str) -> bytes:
    with open(f"/proc/self/{name}", "rb", buffering=0) as file:
        return file.readall()
