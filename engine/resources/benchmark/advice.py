"""Recommendations: what results say of a machine, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from engine.resources.benchmark.results import CPU, MEMORY, STORAGE, Run, show_value
from store.tier_records import HDD, LEVEL_NAMES

ASKED: Final = "it was asked for"
"""Why the mix was run where somebody wanted it."""

SLOW_DISK: Final = 300
FAIR_DISK: Final = 600
"""Scores below which a disk is as slow as an HDD, or slower than an NVMe disk is."""

SLOW_NETWORK: Final = 300
FAR: Final = 0.02
"""Seconds of latency from which small results are quicker to build than to fetch."""

POOR_SCALING: Final = 0.5
UNSTEADY: Final = 0.15


def advice(runs: Iterable[Run], store: Path | None = None) -> list[str]:
    """Return what the last runs of one node recommend, most telling first; `store` is where the
    store is. Pure."""
    runs = list(runs)
    found: list[str] = []
    for run in runs:
        match run.kind:
            case "storage":
                found += _storage(run, runs, store)
            case "cpu":
                found += _cpu(run)
            case "network":
                found += _network(run)
    unsteady = [
        f"{one.name} varied by {one.spread:.0%}: measure again when the machine is idle"
        for run in runs
        for one in run.measures
        if run.kind in (CPU, MEMORY) and one.spread > UNSTEADY
    ]
    return found + unsteady[:1]


def _storage(run: Run, runs: Sequence[Run], store: Path | None) -> Iterator[str]:
    points = run.value("storage.score")
    if points is None:
        return
    here = store is not None and _same(run.target, store)
    what = "the store" if here else run.target
    if points < SLOW_DISK:
        kind = "an HDD" if run.about.get("type") == LEVEL_NAMES[HDD] else "a disk as slow as an HDD"
        yield (
            f"{what} is on {kind} ({points:.0f} of 1000): put it on an NVMe disk or SSD, or add one"
            " as a tier (`bn store add`)"
        )
    elif here and points < FAIR_DISK:
        better = [
            one
            for one in runs
            if one.kind == STORAGE and (one.value("storage.score") or 0) > points + 150
        ]
        for one in better[:1]:
            yield (
                f"{one.target} is faster ({one.value('storage.score'):.0f}) than where the store is"
                f" ({points:.0f}): add it as a tier (`bn store add`)"
            )
    wait = run.value("storage.latency")
    if here and wait is not None and wait > 1e-3:
        yield (
            f"4 KiB take {show_value(wait, 's')} where the store is: many small files will be slow"
        )


def _same(target: str, store: Path) -> bool:
    return Path(target) == store or Path(target) in store.parents or store in Path(target).parents


def _cpu(run: Run) -> Iterator[str]:
    single, multi = run.value("cpu.single"), run.value("cpu.multi")
    threads = int(run.about.get("threads", "0"))
    cores = min(threads, int(run.about.get("cores", "0")))
    better, other = run.value("cpu.single.performance"), run.value("cpu.single.efficiency")
    if better and other:
        yield (
            f"a performance core is {better / other:.1f}× an efficiency core: long actions belong"
            " on the former, and placement sees to it"
        )
    if single and multi and cores > 1 and multi / single < POOR_SCALING * cores:
        yield (
            f"all threads together are worth {multi / single:.1f} cores of {cores}: others use the"
            " machine, or a quota, heat or memory bandwidth holds it back"
        )
    if run.way == "mix" and not any(ASKED in note for note in run.notes):
        yield "install node and npm to measure what BPU is defined by: compiling TypeScript"
    if run.busy is not None and run.busy > UNSTEADY:
        yield f"the machine was {run.busy:.0%} busy with other work: measure again when idle"


def _network(run: Run) -> Iterator[str]:
    points, wait = run.value("network.score"), run.value("network.latency")
    if points is not None and points < SLOW_NETWORK:
        yield (
            f"the way to {run.target} is slow ({points:.0f} of 1000): `--download minimal` fetches"
            " only what has to be here"
        )
    elif wait is not None and wait > FAR:
        yield (
            f"{run.target} is {show_value(wait, 's')} away: results that take less to build are not"
            " worth fetching"
        )
