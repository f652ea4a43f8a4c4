"""How close placement comes to the best: makespans over a lower bound, on known workflows.

Run it: python -m tests.bench.placement DIR… [--help]. DIR holds workflows as JSON: a clone of the
repository WfInstances of wfcommons, or what the recipes of its package write. With --recipes N, DIR
is filled first: N workflows by each recipe, of sizes up to 2,000 steps. That needs the package
wfcommons in this Python or in another one, named by --python (its own environment: it is heavy).

Without DIR, or with --made-up N, graphs are made up from a seed: see families.py.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from attrs import evolve, frozen

from engine.placement.bounds import lower_bound
from engine.placement.model import Policy
from engine.placement.schedule import (
    Schedule,
    insertion,
    lanes_of,
    never_idle,
    on_the_fastest,
)
from engine.placement.work import Work, order, ranks
from engine.simulation.core import Settings, simulate
from engine.simulation.hardware import Hardware, Network, machines
from engine.simulation.workflows import load_workflow
from executors.physics import Heat
from store.errors import BnError
from tests.bench.families import families

SMALLEST, LARGEST = 5, 2200
CLOSE: Final = 1.10

CLUSTERS: Final[dict[str, list[float]]] = {
    "4 equal": [1.0] * 4,
    "16 equal": [1.0] * 16,
    "64 equal": [1.0] * 64,
    "8 mixed": [1 + 2 * n / 7 for n in range(8)],
    "16 mixed": [1 + 3 * n / 15 for n in range(16)],
}
"""Speeds of nodes of one processor: 1–3× and 1–4× in even steps."""

PORTFOLIO: Final = "portfolio"


@frozen
class Row:
    """One workflow on one cluster: how it was placed, what it took over the lower bound, and
    processor seconds an action that placing it took (with simulating it, but for plain
    schedules)."""

    workflow: str
    cluster: str
    scheduler: str
    ratio: float
    seconds: float


def peers(work: Work, speeds: Sequence[float]) -> dict[str, Callable[[], Schedule]]:
    """Return the schedulers to compare with, for exact durations and no transfers."""
    lanes = lanes_of(speeds)
    rank, places = ranks(work), {step: place for place, step in enumerate(order(work))}
    by_rank = sorted(range(len(work)), key=lambda one: (-rank[one], places[one]))
    dice = random.Random(len(work))
    return {
        "HEFT, insertion": lambda: insertion(work, lanes, by_rank),
        "critical path first": lambda: never_idle(work, lanes, [-one for one in rank]),
        "FIFO": lambda: never_idle(work, lanes, None),
        "random": lambda: never_idle(work, lanes, [dice.random() for _ in rank]),
        "all on the fastest": lambda: on_the_fastest(work, lanes),
    }


def exact(name: str, work: Work) -> Iterator[Row]:
    """Compare with exact durations and no transfers."""
    for cluster, speeds in CLUSTERS.items():
        bound = lower_bound(work, speeds).seconds
        for scheduler, run in peers(work, speeds).items():
            started = time.process_time()
            span = run().makespan
            yield Row(
                name, cluster, scheduler, span / bound, (time.process_time() - started) / len(work)
            )
        yield _simulated(name, cluster, PORTFOLIO, work, machines(speeds), bound)


def _simulated(
    name: str,
    cluster: str,
    strategy: str,
    work: Work,
    hardware: Hardware,
    bound: float,
    **more: Any,
) -> Row:
    started = time.process_time()
    settings = Settings(policy=Policy(strategy=strategy), seed=1, bound=bound == 0, **more)
    done = simulate(work, hardware, settings)
    spent = (time.process_time() - started) / len(work)
    assert not done.unfinished, f"{name}, {cluster}: {len(done.unfinished)} steps never ran"
    return Row(name, cluster, strategy, done.makespan / (bound or done.bound.seconds), spent)


def _rough(speeds: Sequence[float], total: float) -> dict[str, tuple[Hardware, dict[str, Any]]]:
    """Return the harder cases; `total` is the expected makespan, to which heat and losses are
    scaled. Every other node gets hot, so hot that it would throttle."""
    heat = Heat(idle=40, full=100, seconds=total / 20, throttle_at=90, every=total / 200)
    plain = machines(speeds)
    nodes = plain.nodes
    hot = [evolve(one, heat=heat) if n % 2 else one for n, one in enumerate(nodes)]
    lost = [
        evolve(one, vanish=3600 / (2 * total), back=total / 4, failures=0.01) if n % 4 else one
        for n, one in enumerate(nodes)
    ]
    return {
        "±30 % error": (plain, {"error": 0.3}),
        "transfers": (evolve(plain, network=Network(bandwidth="125MB", latency=0.005)), {}),
        "throttling": (Hardware(nodes=tuple(hot)), {}),
        "drop-outs": (Hardware(nodes=tuple(lost)), {}),
    }


RIVALS: Final[Mapping[str, str]] = {
    "HEFT, as things come": "look ahead",
    "critical path first": "fastest",
    "FIFO": "fastest",
    "smart": "smart",
    "round robin": "round_robin",
}
"""What decides as things come, and by which strategy: HEFT's rule (the longest chain next, where it
ends first) each time that something may start, as its plan would not outlive what happens here."""


def rough(name: str, work: Work) -> Iterator[Row]:
    """Compare strategies where durations differ, inputs move, nodes get hot and drop out. The bound
    is that of the durations as they were, at full speed and without transfers."""
    for cluster in ("16 equal", "16 mixed"):
        speeds = CLUSTERS[cluster]
        bound = lower_bound(work, speeds).seconds
        for case, (hardware, more) in _rough(speeds, bound).items():
            named = f"{cluster}, {case}"
            yield _simulated(name, named, PORTFOLIO, work, hardware, 0, **more)
            for rival, strategy in RIVALS.items():
                row = _simulated(
                    name, named, strategy, work, hardware, 0, first_come=rival == "FIFO", **more
                )
                yield evolve(row, scheduler=rival)


def workflows(directories: Sequence[Path]) -> Iterator[tuple[str, Work]]:
    """Yield the workflows of the right size in these directories."""
    for directory in directories:
        for path in sorted(directory.rglob("*.json")):
            try:
                work = load_workflow(path).work
            except BnError as error:
                say(f"{path}: left out: {error}")
                continue
            if SMALLEST <= len(work) <= LARGEST and any(work.seconds):
                count = len(work)  # one processor each, as in the figures of others
                yield path.stem, evolve(work, cpus=[1] * count, memory=[0] * count)


RECIPES: Final = """
import pathlib, random, sys
import numpy
from wfcommons import WorkflowGenerator
from wfcommons.wfchef import recipes
target, count, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
target.mkdir(parents=True, exist_ok=True)
for name in sorted(n for n in dir(recipes) if n.endswith("Recipe")):
    for number in range(count):
        random.seed(f"{seed}/{name}/{number}")
        numpy.random.seed(seed * 1000 + number)
        size = round(30 * (2000 / 30) ** (number / max(1, count - 1)))
        for least in (size, 2 * size, 4 * size):
            try:
                made = WorkflowGenerator(getattr(recipes, name).from_num_tasks(least))
                made.build_workflow().write_json(target / f"{name[:-6]}-{number}.json")
            except Exception as error:
                print(name, least, "left out:", error, file=sys.stderr)
            else:
                break
"""
"""What writes workflows by the recipes of wfcommons: a directory, how many by each, a seed."""


def write_recipes(python: str, target: Path, count: int, seed: int) -> None:
    """Have wfcommons make workflows. Raises CalledProcessError where it cannot."""
    command = [python, "-c", RECIPES, str(target), str(count), str(seed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def table(rows: Sequence[Row]) -> list[str]:
    """Return the comparison as lines: geometric mean, share ≤ 1.10, the worst, µs an action."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.cluster, row.scheduler), []).append(row)
    lines = []
    for (cluster, scheduler), some in found.items():
        ratios = [row.ratio for row in some]
        share = sum(ratio <= CLOSE for ratio in ratios) / len(ratios)
        spent = sum(row.seconds for row in some) / len(some) * 1e6
        lines.append(
            f"{cluster:24} {scheduler:20} {mean(ratios):7.4f} {share:6.1%} "
            f"{max(ratios):6.2f} {spent:6.0f} µs"
        )
    return lines


def beaten(rows: Sequence[Row]) -> list[str]:
    """Return where the portfolio is worse than FIFO or than all on the fastest node."""
    by_case: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        by_case.setdefault((row.workflow, row.cluster), {})[row.scheduler] = row.ratio
    return [
        f"{workflow}, {cluster}: {found[PORTFOLIO]:.4f}, {peer} {found[peer]:.4f}"
        for (workflow, cluster), found in by_case.items()
        for peer in ("FIFO", "all on the fastest")
        if found[PORTFOLIO] > found[peer] * (1 + 1e-9)
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directories", nargs=-1, type=click.Path(path_type=Path))
@click.option("--every", default=1, show_default=True, help="Take one of so many workflows.")
@click.option("--rough/--no-rough", "harder", default=True, help="Also errors, heat, losses.")
@click.option("--made-up", "count", default=0, help="Graphs besides; 176 without DIR.")
@click.option("--largest", default=2000, show_default=True, help="Steps of the largest of these.")
@click.option("--recipes", default=0, help="So many workflows by each recipe into the first DIR.")
@click.option("--python", default=sys.executable, help="The Python that has wfcommons.")
@click.option("--seed", default=1, show_default=True, help="What they are made from.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Keep all rows here.")
def main(
    directories: tuple[Path, ...],
    every: int,
    harder: bool,
    count: int,
    largest: int,
    recipes: int,
    python: str,
    seed: int,
    target: Path | None,
) -> None:
    """Compare the portfolio with other schedulers and with a lower bound."""
    if recipes:
        if not directories:
            raise click.UsageError("--recipes needs a DIR to write to")
        write_recipes(python, directories[0], recipes, seed)
    if not all(map(Path.is_dir, directories)):
        raise click.UsageError("DIR is a directory: a clone of WfInstances, or made by --recipes")
    made_up = families(count or (0 if directories else 176), seed, largest)
    source = itertools.chain(workflows(directories), made_up)
    rows: list[Row] = []
    hard: list[Row] = []
    steps = graphs = 0
    for number, (name, work) in enumerate(source):
        if number % every:
            continue
        graphs, steps = graphs + 1, steps + len(work)
        rows += exact(f"{number} {name}", work)
        if harder:
            hard += rough(f"{number} {name}", work)
    if not graphs:
        raise click.UsageError("no workflow was found: a clone of WfInstances, or --recipes")
    say(f"{graphs} workflows, {steps} steps; makespan over lower bound")
    say(f"{'':45} {'mean':>7} {'≤ 1.10':>6} {'worst':>6} {'an action':>9}")
    for line in table(rows) + table(hard):
        say(line)
    for kind in ("equal", "mixed"):
        some = [r.ratio for r in rows if r.scheduler == PORTFOLIO and r.cluster.endswith(kind)]
        share = sum(ratio <= CLOSE for ratio in some) / len(some)
        say(f"portfolio, all {kind}: {mean(some):.4f}, {share:.1%} ≤ {CLOSE}")
    worse = beaten(rows)
    say(f"worse than FIFO or all on the fastest: {len(worse)}")
    for line in worse[:20]:
        say(f"  {line}")
    if target:
        target.write_text(
            json.dumps([[r.workflow, r.cluster, r.scheduler, r.ratio] for r in rows + hard]) + "\n"
        )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
