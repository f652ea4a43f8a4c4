"""Bandwidth of memory: large copies, by one process and by one on every core at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from engine.resources.benchmark.cpu import Say
from engine.resources.benchmark.pinned import python, run_pinned
from engine.resources.benchmark.results import Measure, measure
from engine.resources.machine import Machine

LEAST: Final = 64 * 2**20
MOST: Final = 512 * 2**20
"""Bytes that are copied at a time: four times the last-level cache, between these ends."""

SECONDS: Final = 1.0

COPY: Final = """
import sys, time
size, seconds = int(sys.argv[1]), float(sys.argv[2])
one, other = bytearray(b"x") * size, bytearray(size)
source, target = memoryview(one), memoryview(other)
target[:] = source
best, end = 0.0, time.perf_counter() + seconds
while True:
    began = time.thread_time()
    target[:] = source
    took = time.thread_time() - began
    best = max(best, 2 * size / max(took, 1e-9))
    if time.perf_counter() > end:
        break
print(best)
"""
"""A copy reads and writes, so it counts twice. Timed by processor time, the best of a second."""


def measure_memory(
    machine: Machine, say: Say, rounds: int = 3, quick: bool = False
) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """Measure bandwidth in bytes a second, read and written; raises HostError."""
    usable = set(machine.usable_cpus)
    cores = [
        next(cpu for cpu in core.cpus if cpu in usable)
        for core in machine.cpu.cores
        if usable & set(core.cpus)
    ]
    if not cores:
        return (), ("no processor is known to measure on",)
    caches = [cache.size for cache in machine.cpu.caches]
    size = min(MOST, max(LEAST, 4 * max(caches, default=0)))
    memory = machine.memory.available or machine.usable_memory or 2**30
    notes = []
    if 2 * size * len(cores) > memory // 2:
        size = max(2**20, memory // (4 * len(cores)))
        notes.append(f"little memory is free: copies of {size >> 20} MiB only")
    if quick:
        size = 2**20
    command = [python(), "-I", "-S", "-c", COPY, str(size), str(0.01 if quick else SECONDS)]
    say(f"memory: copies of {size >> 20} MiB by one core, then by {len(cores)}")

    def bandwidth(cpus: list[int]) -> float:
        return sum(float(one.printed) for one in run_pinned(command, cpus, Path("/")))

    began = time.perf_counter()
    single = [bandwidth(cores[:1]) for _ in range(rounds)]
    every = [bandwidth(cores) for _ in range(max(1, rounds - 1))]
    if time.perf_counter() - began > 20 * SECONDS * rounds:
        notes.append("the machine was busy: measure again when idle")
    return (
        measure("memory.single", "B/s", single),
        measure("memory.multi", "B/s", every),
    ), tuple(notes)
