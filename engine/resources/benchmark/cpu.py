"""Processors measured in BPU: one core of an Intel Core i5-10400 at 2.9 GHz is 1.

What is compared is processor time, user and system, of a process that is pinned to one processor.
Unlike the wall clock it does not count other work that had its turn; what it does count is what
others do to a core: a second thread on it, shared caches, a lower clock by heat.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from engine.resources.benchmark import mix
from engine.resources.benchmark.pinned import Taken, python, run_pinned
from engine.resources.benchmark.program import MODULES, write_program
from engine.resources.benchmark.results import Measure, measure
from engine.resources.benchmark.typescript import VERSION, Compiler, Missing
from engine.resources.machine import Machine
from store.errors import HostError

TYPESCRIPT_SECONDS: Final = 5.4
"""Seconds of processor time that 1 BPU takes to compile the program; see README.md."""

MIX_SECONDS: Final = 2.9
"""Seconds of processor time that 1 BPU takes for the mix; see README.md."""

UNCERTAINTY: Final = {"typescript": 0.2, "mix": 0.35}
"""How far off BPU may be by either way, as a share; mostly that of the reference. Machines that
were measured in the same way compare better than that."""

MEMORY_EACH: Final = 600 * 2**20
"""Bytes that each compiler may need; fewer run at a time where that is more than there is."""

Say = Callable[[str], None]


@frozen
class Work:
    """What is run to be timed: a command, its directory, and the seconds that 1 BPU takes."""

    way: str
    command: Sequence[str]
    directory: Path
    seconds: float
    expected: str = ""


def measure_cpu(
    machine: Machine,
    compiler: Compiler | Missing,
    say: Say,
    rounds: int = 3,
    quick: bool = False,
) -> tuple[tuple[Measure, ...], str, float | None, tuple[str, ...]]:
    """Measure one core of each kind, and all threads at once.

    Returns measures, the way, the share of time that others held it up, and notes. `quick` is for
    tests: it runs so little that the values mean nothing. Raises HostError.
    """
    notes: list[str] = []
    if isinstance(compiler, Missing):
        notes.append(f"measured by the mix: {compiler.why}")
    with tempfile.TemporaryDirectory(prefix="bn-benchmark-") as scratch:
        work = _work(Path(scratch), compiler, quick)
        measures: list[Measure] = []
        walls: list[Taken] = []
        for name, cpu in _firsts(machine):
            say(f"one core{f' ({name})' if name else ''}: {rounds} × {work.way}")
            if not quick:
                run_pinned(work.command, [cpu], work.directory)  # what it reads is in memory then
            taken = [_checked(work, [cpu])[0] for _ in range(rounds)]
            walls += taken
            named = f"cpu.single.{name}" if name else "cpu.single"
            measures.append(measure(named, "BPU", [work.seconds / one.cpu for one in taken]))
        measures.append(_multi(machine, work, say, rounds, notes))
    busy = 1 - sum(one.cpu for one in walls) / sum(one.wall for one in walls)
    return tuple(measures), work.way, round(max(0.0, busy), 3), tuple(notes)


def _work(scratch: Path, compiler: Compiler | Missing, quick: bool) -> Work:
    if isinstance(compiler, Missing):
        rounds = 2 if quick else mix.ROUNDS
        command = [python(), "-I", "-S", str(Path(mix.__file__)), str(rounds)]
        seconds = MIX_SECONDS * rounds / mix.ROUNDS
        return Work("mix", command, scratch, seconds, "" if quick else f"{mix.RESULT}\n")
    modules = 1 if quick else MODULES
    write_program(scratch, modules)
    # what it writes is written over by others that compile the same to the same bytes
    command = [compiler.node, str(compiler.script), "-p", "tsconfig.json"]
    return Work("typescript", command, scratch, TYPESCRIPT_SECONDS * modules / MODULES)


def _checked(work: Work, cpus: Sequence[int]) -> list[Taken]:
    taken = run_pinned(work.command, cpus, work.directory)
    if work.expected and any(one.printed != work.expected for one in taken):
        raise HostError("the benchmark came to another result than it has to", "is the CPU sound?")
    return taken


def _firsts(machine: Machine) -> list[tuple[str, int]]:
    """Return each kind of core with the first thread of one of its cores that may be used.

    Not the first core of all where there is another: the kernel gives it most interrupts.
    """
    usable = set(machine.usable_cpus)
    found = []
    for kind in machine.cpu.classes:
        firsts = [
            next(cpu for cpu in core.cpus if cpu in usable)
            for core in machine.cpu.cores
            if core.id in kind.cores and usable & set(core.cpus)
        ]
        if firsts:
            found.append((kind.name, firsts[min(1, len(firsts) - 1)]))
    return found


def _multi(machine: Machine, work: Work, say: Say, rounds: int, notes: list[str]) -> Measure:
    """Measure all threads at once: the sum of what each comes to."""
    cpus = list(machine.usable_cpus)
    memory = machine.memory.available or machine.usable_memory
    room = len(cpus) if memory is None else max(1, memory // MEMORY_EACH)
    used = cpus[:: -(-len(cpus) // room)] if room < len(cpus) else cpus
    if len(used) < len(cpus):
        notes.append(f"memory for {len(used)} of {len(cpus)} threads at once: reckoned for all")
    noun = "thread" if len(used) == 1 else "threads"
    say(f"{len(used)} {noun} at once: {max(1, rounds - 1)} × {work.way}")
    totals = []
    for _ in range(max(1, rounds - 1)):
        speeds = [work.seconds / one.cpu for one in _checked(work, used)]
        totals.append(sum(speeds) * len(cpus) / len(used))
    quota = machine.limits.quota
    if quota is not None and quota < len(cpus):
        totals = [total * quota / len(cpus) for total in totals]
        notes.append(f"the control group allows {quota:g} of {len(cpus)} threads: reckoned for it")
    return measure("cpu.multi", "BPU", totals)


def about(machine: Machine, compiler: Compiler | Missing | None = None) -> dict[str, str]:
    """Return what a run says of the machine."""
    import platform

    from engine import __version__

    told = {
        "bn": __version__,
        "model": machine.cpu.model or "unknown",
        "cores": str(len(machine.cpu.cores)),
        "threads": str(len(machine.usable_cpus)),
        "kernel": machine.kernel or "unknown",
        "python": platform.python_version(),
        "host": os.uname().nodename,
    }
    if isinstance(compiler, Compiler):
        told |= {"node": compiler.node_version, "typescript": VERSION}
    return told
