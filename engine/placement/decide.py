"""The decision: which steps start now, and where. The same for one round and for a long build."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from engine.placement.model import Costs, Explanation, Node, Placement, Policy, Ready

if TYPE_CHECKING:
    from engine.placement.cluster import Cluster, Group, Seat
    from engine.placement.queue import Queue

_COSTS = Costs()
_POLICY = Policy()


def place(
    ready: Iterable[Ready],
    nodes: Sequence[Node],
    costs: Costs = _COSTS,
    policy: Policy = _POLICY,
) -> list[Placement]:
    """Return which of the `ready` steps start now, and on which of the `nodes`.

    Longest chain first (with a plan: in its order), names break ties. Nothing is given more than is
    free. A step for which no node has room keeps one for itself, so that small steps cannot keep a
    large one waiting for ever; what is larger than any node gets all of the largest.
    """
    if policy is _POLICY and costs is _COSTS and len(nodes) == 1 and _is_plain(nodes[0]):
        return _on_one(ready, nodes[0])
    from engine.placement.cluster import Cluster
    from engine.placement.queue import Queue

    queue = Queue(costs.plan)
    for step in ready:
        queue.add(step)
    return decide(queue, Cluster(nodes, policy), costs, policy)[0]


def _is_plain(node: Node) -> bool:
    return not node.preference and not node.only and not node.samples


def _on_one(ready: Iterable[Ready], node: Node) -> list[Placement]:
    """Do as `decide` does where there is nothing to choose."""
    placed: list[Placement] = []
    free_cpus, free_memory = node.free_cpus, node.free_memory
    for step in sorted(ready, key=lambda one: (-one.rank, one.label)):
        cpus, memory = min(step.cpus, node.cpus), min(step.memory, node.memory)
        if cpus > free_cpus or memory > free_memory:
            break
        why = Explanation(reason=reason(step, cpus, free_cpus))
        placed.append(
            Placement(label=step.label, node=node.name, cpus=cpus, memory=memory, explanation=why)
        )
        free_cpus, free_memory = free_cpus - cpus, free_memory - memory
    return placed


def reason(step: Ready, cpus: int, free: int) -> str:
    """Return why it is this step's turn."""
    return f"longest chain first ({step.rank:.1f} s), {cpus} of {free} free cpus"


def decide(
    queue: Queue, cluster: Cluster, costs: Costs, policy: Policy
) -> tuple[list[Placement], dict[str, tuple[str, float]]]:
    """Return placements, which `queue` and `cluster` take note of, and for steps that are kept
    waiting for a node that is busy, another one that is free and by how many seconds they would end
    later there."""
    from engine.placement.strategies import Round

    if cluster.free_cpus <= 0 or not queue.ready:
        return [], {}
    turn = Round(cluster, costs, policy, queue.backlog)
    try:
        plan = costs.plan
        if policy.strategy == "portfolio" and plan is not None and plan.rule == "follow":
            from engine.placement.follow import Follow

            Follow(queue, turn, plan).place()
        else:
            passed = 0
            for step in queue.look():
                if passed >= policy.window or turn.is_full():
                    break
                if turn.put(step):
                    queue.remove(step.label)
                else:
                    passed += 1
        return turn.placed, turn.held
    finally:
        queue.put_back()
        turn.close()


def earliest_room(
    cluster: Cluster, groups: Iterable[Group], cpus: int, memory: int
) -> tuple[float, Seat] | None:
    """Return the node that is large enough and is expected to have room first, and when."""
    wanted = {id(group) for group in groups}
    found: tuple[float, Seat] | None = None
    for seat in cluster.seats:
        node = seat.node
        if id(seat.group) not in wanted or seat.blocked or cpus > node.cpus or memory > node.memory:
            continue
        free, when = seat.free_cpus, cluster.time
        for end, given in seat.ends:
            if free >= cpus and memory <= seat.free_memory:
                break
            free, when = free + given, max(when, end)
        if free < cpus:
            when = math.inf  # nobody knows
        if found is None or when < found[0]:
            found = when, seat
    return found
