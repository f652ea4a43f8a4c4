"""Both hermetic executors on actions that do nothing. Run it: python -m tests.bench.sandbox."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from engine.spec.model import ToolchainSpec
from engine.toolchains.importer import import_toolchain
from executors.base import ExecutionRequest
from executors.sandbox import PlainSandbox, Sandbox
from store.cas import empty_tree
from store.objects import Action
from store.store import Store

ROUNDS = 7
ACTIONS = 60
AT_ONCE = 2


async def run(executor: PlainSandbox, request: ExecutionRequest, at_once: int) -> None:
    """Run `ACTIONS` actions, so many at a time."""
    limit = trio.CapacityLimiter(at_once)

    async def one() -> None:
        async with limit:
            outcome = await executor.execute(request)
            assert outcome.outputs is not None, outcome.reason

    async with trio.open_nursery() as nursery:
        for _ in range(ACTIONS):
            nursery.start_soon(one)


def cpu_seconds() -> float:
    """Return the processor time of this process and of all its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(
    kind: type[PlainSandbox], store: Store, request: ExecutionRequest, at_once: int
) -> tuple[float, float]:
    """Return wall and processor milliseconds per action."""
    with contextlib.closing(kind(store)) as executor:
        trio.run(run, executor, request, at_once)  # the wall starts, caches fill
    before, started = cpu_seconds(), time.perf_counter()
    with contextlib.closing(kind(store)) as executor:
        trio.run(run, executor, request, at_once)
    wall = time.perf_counter() - started
    return 1000 * wall / ACTIONS, 1000 * (cpu_seconds() - before) / ACTIONS


def main() -> None:
    """Time both in turn, one action at a time and two."""
    with (
        tempfile.TemporaryDirectory(dir=os.environ.get("BN_BENCH_DIR")) as directory,
        Store(Path(directory) / "store") as store,
    ):
        tools = import_toolchain(store, ToolchainSpec(debian=("dash", "coreutils")), Path("/"))
        root = empty_tree(store.cas)
        action = Action(command=("/bin/true",), input_root=root, toolchains=(tools.tree,))
        request = ExecutionRequest(action=action, label="bench")
        for at_once in (1, AT_ONCE):
            timed = partial(measure, store=store, request=request, at_once=at_once)
            rows = [(timed(Sandbox), timed(PlainSandbox)) for _ in range(ROUNDS)]
            for number, what in enumerate(("wall", "processor")):
                ours = statistics.median(row[0][number] for row in rows)
                theirs = statistics.median(row[1][number] for row in rows)
                ratio = statistics.median(row[0][number] / row[1][number] for row in rows)
                sys.stdout.write(
                    f"{at_once} at once, {what:<9} cells {ours:5.2f} ms   "
                    f"bubblewrap {theirs:5.2f} ms   ratio {ratio:.2f}\n"
                )


if __name__ == "__main__":
    main()
