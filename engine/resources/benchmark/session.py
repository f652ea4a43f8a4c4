"""One session of benchmarks: what was asked for is measured in turn, and told of as runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attrs import field, frozen

from engine.resources.benchmark import results
from engine.resources.benchmark.advice import ASKED
from engine.resources.benchmark.cpu import Say, about, measure_cpu
from engine.resources.benchmark.memory import measure_memory
from engine.resources.benchmark.network import measure_network
from engine.resources.benchmark.others import Others
from engine.resources.benchmark.results import Run
from engine.resources.benchmark.storage import BRIEF, SECONDS, measure_storage
from engine.resources.benchmark.tiers import held_by
from engine.resources.benchmark.typescript import Compiler, Missing, find_compiler
from engine.resources.machine import Machine


@frozen(kw_only=True)
class Wanted:
    """What to measure: processors, memory, directories, addresses."""

    cpu: bool = False
    memory: bool = False
    storage: tuple[Path, ...] = ()
    network: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Say whether there is anything to measure."""
        return bool(self.cpu or self.memory or self.storage or self.network)


@frozen(kw_only=True)
class Setting:
    """How to measure: where things are kept, and whether npm may fetch. `brief` measures once
    only, `quick`, for tests, so little that values mean nothing."""

    kept: Path
    fetch: bool = True
    quick: bool = False
    brief: bool = False
    force_mix: bool = False
    facts: Mapping[str, str] = field(factory=dict)

    @property
    def rounds(self) -> int:
        """How often each thing is measured."""
        return 1 if self.quick or self.brief else 3


def run_all(machine: Machine, wanted: Wanted, setting: Setting, say: Say) -> Iterator[Run]:
    """Measure one thing after the other and yield the runs; raises HostError and InputError."""
    if wanted.cpu:
        yield _cpu(machine, setting, say)
    told = {**about(machine), **setting.facts}
    quick, rounds = setting.quick, setting.rounds
    if wanted.memory:
        others = Others()
        measures, notes = measure_memory(machine, say, rounds, quick)
        yield _run(results.MEMORY, "", measures, notes, told, others)
    for directory in wanted.storage:
        others = Others()
        seconds = 0.02 if quick else BRIEF if setting.brief else SECONDS
        measures, notes = measure_storage(directory, say, rounds, seconds)
        yield _run(
            results.STORAGE, str(directory), measures, notes, {**told, **held_by(directory)}, others
        )
    for url in wanted.network:
        others = Others()
        requests, seconds = (2, 0.05) if quick else (10, 3.0)
        measures, notes = measure_network(url, say, requests, seconds)
        yield _run(results.NETWORK, url, measures, notes, told, others)


def _cpu(machine: Machine, setting: Setting, say: Say) -> Run:
    if setting.force_mix:
        compiler: Compiler | Missing = Missing(ASKED)
    else:
        compiler = find_compiler(setting.kept, setting.fetch)
    measures, way, busy, notes = measure_cpu(machine, compiler, say, setting.rounds, setting.quick)
    return Run(
        kind=results.CPU,
        node=os.uname().nodename,
        time=round(time.time(), 3),
        measures=measures,
        way=way,
        busy=busy,
        about={**about(machine, compiler), **setting.facts},
        notes=notes,
    )


def _run(
    kind: str,
    target: str,
    measures: Iterable[results.Measure],
    notes: tuple[str, ...],
    told: Mapping[str, str],
    others: Others,
) -> Run:
    return Run(
        kind=kind,
        node=os.uname().nodename,
        time=round(time.time(), 3),
        measures=tuple(measures),
        target=target,
        busy=others.share(),
        about=told,
        notes=notes,
    )
