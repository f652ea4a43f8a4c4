"""Placement: which ready steps start now. A pure function; every decision carries its reason."""

from __future__ import annotations

from collections.abc import Iterable

from store.records import evolve, frozen


@frozen(kw_only=True)
class Ready:
    """A step that could start; `rank` is the length in seconds of the longest chain of steps that
    begins with it, `memory` is in bytes."""

    label: str
    rank: float
    cpus: int = 1
    memory: int = 0


@frozen(kw_only=True)
class Node:
    """A machine that runs actions: what it has, and what of it is free (bytes of memory)."""

    name: str
    cpus: int
    memory: int
    free_cpus: int
    free_memory: int

    @property
    def idle(self) -> bool:
        """Say whether nothing runs there."""
        return self.free_cpus == self.cpus


@frozen(kw_only=True)
class Placement:
    """A step to be started on a node, the share of the node that it holds, and why."""

    label: str
    node: str
    cpus: int
    memory: int
    explanation: str


def place(ready: Iterable[Ready], node: Node) -> list[Placement]:
    """Return which of the `ready` steps start on `node` now.

    Longest chain first, names break ties. The first one that does not fit ends the round, so that
    small steps cannot keep a large one waiting for ever; what is larger than the whole node runs
    alone.
    """
    placed: list[Placement] = []
    for step in sorted(ready, key=lambda one: (-one.rank, one.label)):
        cpus, memory = min(step.cpus, node.cpus), min(step.memory, node.memory)
        if cpus > node.free_cpus or memory > node.free_memory:
            break
        why = f"longest chain first ({step.rank:.1f} s), {cpus} of {node.free_cpus} free cpus"
        placed.append(
            Placement(label=step.label, node=node.name, cpus=cpus, memory=memory, explanation=why)
        )
        node = evolve(node, free_cpus=node.free_cpus - cpus, free_memory=node.free_memory - memory)
    return placed


def release(node: Node, placement: Placement) -> Node:
    """Return `node` with what `placement` held given back."""
    return take(node, evolve(placement, cpus=-placement.cpus, memory=-placement.memory))


def take(node: Node, placement: Placement) -> Node:
    """Return `node` less what `placement` holds."""
    return evolve(
        node,
        free_cpus=node.free_cpus - placement.cpus,
        free_memory=node.free_memory - placement.memory,
    )
