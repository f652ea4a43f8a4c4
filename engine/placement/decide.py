"""The decision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.placement.model import Costs, Explanation, Node, Placement, Policy, Ready
from store.records import evolve


def place(
    ready: Iterable[Ready],
    nodes: Sequence[Node],
    costs: Costs | None = None,
    policy: Policy | None = None,
) -> list[Placement]:
    placed: list[Placement] = []
    (node,) = nodes
    for step in sorted(ready, key=lambda one: (-one.rank, one.label)):
        cpus, memory = min(step.cpus, node.cpus), min(step.memory, node.memory)
        if cpus > node.free_cpus or memory > node.free_memory:
            break
        why = Explanation(reason=f"longest chain first ({step.rank:.1f} s), {cpus} of {node.free_cpus} free cpus")
        placed.append(
            Placement(label=step.label, node=node.name, cpus=cpus, memory=memory, explanation=why)
        )
        node = evolve(node, free_cpus=node.free_cpus - cpus, free_memory=node.free_memory - memory)
    return placed
