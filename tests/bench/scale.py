"""What an action costs bn itself, by the number of actions: with the simulated executor, and the
real command on what that left.

Run it: python -m tests.bench.scale [--help]. Nothing runs in a sandbox: the loop, the store and the
action cache do all their work, and the executor leaves an output of a few bytes for each action.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import trio
from attrs import asdict, frozen
from trio.testing import MockClock

from engine.graph import Graph
from engine.history import History
from engine.job import Job, Options
from engine.modes import run_build
from engine.picking import local_node
from engine.plan import Plan, make_plan
from engine.remembered import Remembered
from engine.request import Request, evaluated, labels_of, planned, targets_of
from engine.result import BuildStatus
from engine.timeline.log import TimelineLog
from executors.simulated import Simulated
from store.orphans import tidy_ram
from store.store import Store, remove_tree
from tests.bench.measure import RunFailedError, Usage, run
from tests.bench.model import Workload
from tests.bench.peers.base import Setting
from tests.bench.peers.bn import Bn
from tests.bench.shapes import layers, wide

SIZES: Final = "1000,3000,10000,30000,100000"
WARM_UP: Final = 30
"""Actions of a first run that is not shown: it fills the caches of files."""

LIMIT: Final = 3600.0
"""Seconds for one size."""

SHAPES: Final[dict[str, Callable[[int], Workload]]] = {
    "wide": lambda actions: wide(actions, "scale"),
    "layers": lambda actions: layers(10, max(3, actions // 10), 3, name="scale"),
}

Value = TypeVar("Value")


@frozen(kw_only=True)
class Measured:
    """What a size took: processor seconds of evaluation with planning, of the build loop with
    nothing cached, and of both again with everything cached; wall seconds of all of the first
    build; peak of resident memory in bytes after each."""

    actions: int
    evaluation: float
    build: float
    cached: float
    wall: float
    evaluation_memory: int
    build_memory: int
    cached_memory: int


def peak() -> int:
    """Return this process's peak of resident memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def timed(action: Callable[[], Value]) -> tuple[Value, float]:
    """Return what `action` gives and how many processor seconds it took, in all threads."""
    started = time.process_time()
    value = action()
    return value, time.process_time() - started


def measure(directory: Path) -> Measured:
    """Build the spec in `directory` twice with the simulated executor, in this process."""
    request = Request(spec=directory / "spec.toml")
    with Store(directory.with_name(f"{directory.name}.store")) as store:
        tidy_ram(store)
        planned(store, Request(spec=directory.with_name("tiny") / "spec.toml"))  # imports the tools
        started = time.perf_counter()
        count, first, built = build(store, request, "first")
        wall = time.perf_counter() - started
        memory = peak()
        _, again, cached = build(store, request, "again")
        return Measured(
            actions=count,
            evaluation=first[0],
            build=built,
            cached=again[0] + cached,
            wall=wall,
            evaluation_memory=first[1],
            build_memory=memory,
            cached_memory=peak(),
        )


def build(store: Store, request: Request, name: str) -> tuple[int, tuple[float, int], float]:
    """Return the number of actions, seconds and peak of evaluation, and seconds of the loop."""
    (graph, plan, history), evaluating = timed(partial(prepared, store, request))
    memory = peak()
    log = TimelineLog(store.root, name)
    job = Job(
        build=name,
        graph=graph,
        plan=plan,
        store=store,
        executor=Simulated(store.cas),
        history=history,
        options=Options(node=local_node(None)),
        emit=log,
    )
    try:
        clock = MockClock(autojump_threshold=0)
        result, seconds = timed(partial(trio.run, run_build, job, clock=clock))
    finally:
        log.close()
    assert result.status is BuildStatus.OK
    return len(plan.steps), (evaluating, memory), seconds


def prepared(store: Store, request: Request) -> tuple[Graph, Plan, History]:
    """Do what a build does before it runs anything: what it learns of the past is used later."""
    graph = evaluated(store, request).graph
    labels = labels_of(graph, targets_of(graph, request))
    history = History(store, graph.about.spec)
    remembered = Remembered(store, graph.about.package)
    plan = make_plan(graph, labels, store, history, remembered)
    gc.freeze()
    return graph, plan, history


def real(peer: Bn) -> dict[str, Usage]:
    """Return what the real bn takes where all actions are known: to evaluate and plan, to show the
    result, and to say that it is up to date."""
    log = peer.directory.with_name("bn.log")
    command = list(peer.command())
    steps = {
        "dry run": [*command, "--dry-run"],
        "cached": command,
        "settle": command,
        "no-op": command,
    }
    return {
        name: run(words, peer.directory, peer.env(), log, LIMIT) for name, words in steps.items()
    }


def one(size: int, shape: str, work: Path) -> tuple[Measured, dict[str, Usage]]:
    """Return what a size takes, in processes of its own."""
    workload = SHAPES[shape](size)
    peer = Bn(Setting(), work / str(size))
    try:
        peer.write(workload)
        Bn(Setting(), work / "tiny").write(SHAPES[shape](1))
        command = [sys.executable, "-m", "tests.bench.scale", "--measure", str(peer.directory)]
        said = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT).stdout
        return Measured(**json.loads(said)), real(peer)
    finally:
        peer.stop()
        remove_tree(work / "tiny")
        remove_tree(peer.directory)


def header() -> str:
    """Return the heading of the lines that `line` makes."""
    return (
        "         processor µs an action          wall   peak MB       the real bn: s, MB\n"
        " actions  evaluate build  both × cached    µs  eval. build  dry run    cached     no-op"
    )


def line(it: Measured, bn: dict[str, Usage], first: Measured) -> str:
    """Return the numbers of a size as one line; × is the cost of an action to that of the first
    size."""

    def micro(seconds: float) -> str:
        return f"{1e6 * seconds / it.actions:6.0f}"

    both, base = it.evaluation + it.build, first.evaluation + first.build
    ratio = both / it.actions / (base / first.actions)
    shown = "".join(
        f" {bn[name].seconds:6.2f} {bn[name].memory / 1e6:3.0f}"
        for name in ("dry run", "cached", "no-op")
    )
    return (
        f"{it.actions:8,} {micro(it.evaluation)} {micro(it.build)} {ratio:6.2f} "
        f"{micro(it.cached)} {micro(it.wall)} {it.evaluation_memory / 1e6:5.0f} "
        f"{it.build_memory / 1e6:5.0f} {shown}"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--sizes", default=SIZES, help="Actions, as 1000,10000.", show_default=True)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="wide", show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Directory to work in.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Keep the numbers here.")
@click.option("--measure", "directory", type=click.Path(path_type=Path), hidden=True)
def main(
    sizes: str, shape: str, work: Path | None, target: Path | None, directory: Path | None
) -> None:
    """Print what an action costs by the number of actions, and the memory that bn takes."""
    if directory:
        sys.stdout.write(json.dumps(asdict(measure(directory))))
        return
    rows: list[tuple[Measured, dict[str, Usage]]] = []
    say(header())
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=work) as scratch:
        one(WARM_UP, shape, Path(scratch))
        for size in map(int, sizes.split(",")):
            try:
                rows.append(one(size, shape, Path(scratch)))
            except (RunFailedError, subprocess.SubprocessError) as error:
                raise click.ClickException(str(error)) from None
            say(line(*rows[-1], rows[0][0]))
    if target:
        kept: list[dict[str, Any]] = [
            {**asdict(row), "bn": {name: asdict(usage) for name, usage in bn.items()}}
            for row, bn in rows
        ]
        target.write_text(json.dumps(kept, indent=1) + "\n")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
