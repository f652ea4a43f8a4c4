"""The queue of steps that could start, longest chain first."""

from __future__ import annotations

import heapq

from engine.graph import Resources
from engine.placement import Node, Placement, Ready, place
from engine.resolve import Resolved


class ReadyQueue:
    """Steps whose inputs are known and that have to run, each with the reason why.

    A heap, so that a decision costs nothing for the thousands that wait.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._steps: dict[str, tuple[Ready, Resolved, str]] = {}

    def add(
        self, label: str, rank: float, resources: Resources, resolved: Resolved, reason: str
    ) -> None:
        """Put a step into the queue."""
        memory = resources.memory or 0
        step = Ready(label=label, rank=rank, cpus=resources.cpus, memory=memory)
        self._steps[label] = (step, resolved, reason)
        heapq.heappush(self._heap, (-rank, label))

    def take(self, node: Node) -> list[tuple[Placement, Resolved, str]]:
        """Take out what starts on `node` now, with its reason.

        No more can start than there are free processors, so the rest is not looked at.
        """
        first: list[tuple[float, str]] = []
        while self._heap and len(first) < max(1, node.free_cpus):
            first.append(heapq.heappop(self._heap))
        placements = place([self._steps[label][0] for _, label in first], node)
        placed = {placement.label for placement in placements}
        for entry in first:
            if entry[1] not in placed:
                heapq.heappush(self._heap, entry)
        return [(one, *self._steps.pop(one.label)[1:]) for one in placements]
