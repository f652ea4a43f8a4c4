"""How close placement comes to the best: makespans over a lower bound, on known workflows.

Run it: python -m tests.bench.placement DIR… [--help]. DIR holds workflows as JSON: a clone of the
repository WfInstances of wfcommons, or what the recipes of the package wfcommons write.

Without DIR, graphs are made up from a seed: fork and join, layers, chains, trees, random.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from engine.placement.work import Work, make_work, order, ranks
from engine.simulation.core import Settings, simulate
from engine.simulation.hardware import Hardware, Network, machines
from engine.simulation.workflows import load_workflow
from executors.physics import Heat
from store.errors import BnError

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


def rough(name: str, work: Work) -> Iterator[Row]:
    """Compare strategies where durations differ, inputs move, nodes get hot and drop out. The bound
    is that of the durations as they were, at full speed and without transfers."""
    for cluster in ("16 equal", "16 mixed"):
        speeds = CLUSTERS[cluster]
        bound = lower_bound(work, speeds).seconds
        for case, (hardware, more) in _rough(speeds, bound).items():
            for strategy in (PORTFOLIO, "look ahead", "fastest", "smart", "round_robin"):
                yield _simulated(name, f"{cluster}, {case}", strategy, work, hardware, 0, **more)


def made_up(count: int, seed: int, largest: int = 400) -> Iterator[tuple[str, Work]]:
    """Yield graphs of several shapes, with several spreads of durations."""
    dice = random.Random(seed)
    for number in range(count):
        shape = ("fork and join", "layers", "chains", "tree", "random")[number % 5]
        size = dice.randint(10, largest)
        spread = dice.choice([0.1, 0.5, 1.0, 1.5])
        seconds = {f"s{n:04}": dice.lognormvariate(1, spread) for n in range(size)}
        names = list(seconds)
        needs = {name: _needs(shape, n, names, dice) for n, name in enumerate(names)}
        yield f"{shape} {size}", make_work(seconds, needs)


def _needs(shape: str, n: int, names: Sequence[str], dice: random.Random) -> list[str]:
    if n == 0:
        return []
    if shape == "fork and join":  # every 30th step needs all since the one before, and so on
        return list(names[max(0, n - 30) : n]) if n % 30 == 0 else [names[n - n % 30]]
    if shape == "layers":
        width = 12
        first = (n // width - 1) * width
        return [] if first < 0 else dice.sample(names[first : first + width], 3)
    if shape == "chains":
        return [names[n - 8]] if n >= 8 and n % 40 >= 8 else []
    if shape == "tree":
        return [names[(n - 1) // 3]]
    return dice.sample(names[max(0, n - 40) : n], min(n, dice.randint(0, 3)))


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
@click.argument("directories", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--every", default=1, show_default=True, help="Take one of so many workflows.")
@click.option("--rough/--no-rough", "harder", default=True, help="Also errors, heat, losses.")
@click.option("--made-up", "count", default=100, show_default=True, help="Graphs without DIR.")
@click.option("--seed", default=1, show_default=True, help="What they are made from.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Keep all rows here.")
def main(
    directories: tuple[Path, ...],
    every: int,
    harder: bool,
    count: int,
    seed: int,
    target: Path | None,
) -> None:
    """Compare the portfolio with other schedulers and with a lower bound."""
    source = workflows(directories) if directories else made_up(count, seed)
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
