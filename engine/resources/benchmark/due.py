"""The schedule: which benchmarks are due, and whether the machine is idle enough for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from engine.resources.benchmark.results import CPU, MEMORY, NETWORK, STORAGE, Run
from engine.resources.benchmark.session import Wanted
from engine.resources.machine import Machine

DAY: Final = 86400.0

STALLED: Final = 5.0
"""Percent of the last minute that work may have waited for a processor or a disk."""

LOADED: Final = 0.3
"""Runnable processes for each usable thread from which a machine is not idle."""


@frozen(kw_only=True)
class Schedule:
    """Days between benchmarks of each kind, 0 for never; `automatic` says whether `bn watch` may
    run them by itself."""

    cpu_days: float = 30
    memory_days: float = 30
    storage_days: float = 7
    network_days: float = 1
    automatic: bool = True


def due(
    runs: Iterable[Run],
    schedule: Schedule,
    node: str,
    now: float,
    directories: Sequence[Path],
    urls: Sequence[str],
) -> Wanted:
    """Return what of a node was not measured for longer than the schedule says. Pure."""
    last: dict[tuple[str, str], float] = {}
    for run in runs:
        if run.node == node:
            key = (run.kind, run.target)
            last[key] = max(run.time, last.get(key, 0.0))

    def is_due(kind: str, target: str, days: float) -> bool:
        return days > 0 and now - last.get((kind, target), -1e12) >= days * DAY

    return Wanted(
        cpu=is_due(CPU, "", schedule.cpu_days),
        memory=is_due(MEMORY, "", schedule.memory_days),
        storage=tuple(
            path for path in directories if is_due(STORAGE, str(path), schedule.storage_days)
        ),
        network=tuple(url for url in urls if is_due(NETWORK, url, schedule.network_days)),
    )


def due_lines(
    runs: Iterable[Run],
    schedule: Schedule,
    node: str,
    now: float,
    directories: Sequence[Path],
    urls: Sequence[str],
) -> list[str]:
    """Return what of a node is due, and when it was measured last, for people. Pure."""
    runs = list(runs)
    wanted = due(runs, schedule, node, now, directories, urls)
    named = [
        *([(CPU, "", schedule.cpu_days)] if wanted.cpu else []),
        *([(MEMORY, "", schedule.memory_days)] if wanted.memory else []),
        *((STORAGE, str(path), schedule.storage_days) for path in wanted.storage),
        *((NETWORK, url, schedule.network_days) for url in wanted.network),
    ]
    lines = []
    for kind, target, days in named:
        times = [
            run.time for run in runs if (run.node, run.kind, run.target) == (node, kind, target)
        ]
        what = f"{kind} {target}".strip()
        every = "daily" if days == 1 else f"every {days:g} days"
        if times:
            age = (now - max(times)) / DAY
            lines.append(f"{what}: measured {age:.0f} days ago, meant to be {every}")
        else:
            lines.append(f"{what}: never measured")
    return lines


def why_not_idle(machine: Machine) -> str | None:
    """Return what keeps the machine busy, None if it is idle; by stalls, or else by load. Pure."""
    waited = {
        one.resource: one.some.avg60
        for one in machine.pressure
        if one.some and one.resource in ("cpu", "io")
    }
    for resource, percent in waited.items():
        if percent > STALLED:
            return f"work waited for {resource} {percent:.0f} % of the last minute"
    threads = max(1, len(machine.usable_cpus))
    if machine.load.one is not None and machine.load.one / threads > LOADED:
        return f"the load is {machine.load.one:.1f} on {threads} threads"
    return None
