"""Local nodes: this machine as placement sees it, one node for each kind of core."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from engine.resources.machine import CoreClass, Machine
from store.records import evolve, frozen

LOCAL: Final = "local"
LIMIT: Final = 85.0
"""Degrees Celsius that a node is kept below where nobody says another limit."""


@frozen(kw_only=True)
class LocalNode:
    """A kind of core of this machine, and what of it may be used.

    `capacity` is in processors: the usable threads, or less by the quota of the control group.
    `memory` is its share of the machine's by threads; all nodes of a machine together share
    `machine_memory`. `speed` is in BPU for one core, None where nobody measured it: then it counts
    as equal to others, and `notes` say so. `celsius` is None without a sensor: it counts as cool.
    """

    name: str
    cpus: tuple[int, ...]
    cores: int
    capacity: float
    memory: int | None
    machine_memory: int | None
    speed: float | None
    celsius: float | None
    limit: float = LIMIT
    notes: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        """How many actions of one processor may run at a time, at least one."""
        return max(1, math.floor(self.capacity + 1e-9))


def local_nodes(
    machine: Machine, speeds: Mapping[str, float] | None = None, limit: float = LIMIT
) -> tuple[LocalNode, ...]:
    """Return the nodes of a machine: `local`, or `local.performance` and `local.efficiency`.

    `speeds` are the measured BPU of one core by kind of core, "" for a machine of one kind. A quota
    is filled with the better cores first; a kind that it leaves less than one processor is left
    out.
    """
    usable = set(machine.usable_cpus)
    present = [one for one in machine.cpu.classes if usable & set(one.cpus)]
    left = machine.share
    nodes: list[LocalNode] = []
    for kind in present:
        cpus = tuple(cpu for cpu in kind.cpus if cpu in usable)
        capacity = min(float(len(cpus)), left)
        left -= capacity
        if capacity >= 1 or not nodes:
            nodes.append(_node(machine, kind, cpus, capacity, speeds or {}, limit))
    threads = sum(len(one.cpus) for one in nodes)
    return tuple(_with_memory(one, machine.usable_memory, threads) for one in nodes)


def _node(
    machine: Machine,
    kind: CoreClass,
    cpus: tuple[int, ...],
    capacity: float,
    speeds: Mapping[str, float],
    limit: float,
) -> LocalNode:
    name = f"{LOCAL}.{kind.name}" if kind.name else LOCAL
    speed = speeds.get(kind.name)
    notes = []
    if speed is None:
        notes.append("speed not measured: counts as equal to others (`bn benchmark --cpu`)")
    if machine.celsius is None:
        notes.append("no temperature sensor: counts as cool")
    if capacity < len(cpus):
        notes.append(f"the control group's quota leaves {capacity:g} of {len(cpus)} threads")
    return LocalNode(
        name=name,
        cpus=cpus,
        cores=sum(bool(set(core.cpus) & set(cpus)) for core in machine.cpu.cores),
        capacity=capacity,
        memory=None,
        machine_memory=machine.usable_memory,
        speed=speed,
        celsius=machine.celsius,
        limit=limit,
        notes=tuple(notes),
    )


def _with_memory(node: LocalNode, memory: int | None, threads: int) -> LocalNode:
    return evolve(node, memory=None if memory is None else memory * len(node.cpus) // threads)
