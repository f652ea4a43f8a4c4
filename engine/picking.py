"""Executors made by their names, and the machine that they run on."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from executors.base import Executor
from store.errors import HostError
from store.store import Store

if TYPE_CHECKING:
    from engine.placement import Node
    from executors.wall import Wall


def wall_stands() -> bool:
    """Say whether a wall was started before there was a build."""
    standing = sys.modules.get("executors.standing")
    return standing is not None and bool(standing.descriptors())


def make_wall(store: Store) -> Wall | None:
    """Start a wall for `store`; None where that fails, which is said where an action needs it."""
    with contextlib.suppress(HostError):
        from executors.wall import Wall, begun

        work, trees = store.work(), store.trees()
        standing = sys.modules.get("executors.standing")  # loaded where one was started before
        wall: Wall | None = standing.take(work, trees) if standing else begun(work, trees)
        return wall or Wall(work, trees)
    return None


def make_executor(name: str, store: Store) -> Executor:
    """Return the executor of that name; raises HostError where this machine cannot run it."""
    if name == "native":
        from executors.native import Native

        return Native(store)
    if name == "bubblewrap":
        from executors.sandbox import PlainSandbox

        return PlainSandbox(store)
    wall = make_wall(store)
    from executors.sandbox import Sandbox  # this takes long: the wall gets ready meanwhile

    return Sandbox(store, wall)


def local_node(jobs: int | None) -> Node:
    """Return this machine as a node with `jobs` slots (default: the processors it may use)."""
    from engine.placement import Node

    cpus = jobs or len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Node(name="local", cpus=cpus, memory=memory, free_cpus=cpus, free_memory=memory)
