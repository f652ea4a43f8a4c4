"""The queue of steps that could start, longest chain first."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from engine.graph import Resources
from engine.placement import Node, Placement, Ready, place


class ReadyQueue:
    """Steps whose inputs are known and that have to run, each with the reason why and the digest of
    its inputs.

    A heap, so that a decision costs nothing for the thousands that wait; what each of them may use
    is asked of `resources` when its turn comes.
    """

    def __init__(self, resources: Callable[[str], Resources]) -> None:
        self._resources = resources
        self._heap: list[tuple[float, str, str, bytes]] = []

    def add(self, label: str, rank: float, reason: str, input_root: bytes) -> None:
        """Put a step into the queue."""
        heapq.heappush(self._heap, (-rank, label, reason, input_root))

    def take(self, node: Node) -> list[tuple[Placement, str, bytes]]:
        """Take out what starts on `node` now, with its reason and inputs.

        No more can start than there are free processors, so the rest is not looked at.
        """
        first: dict[str, tuple[float, str, str, bytes]] = {}
        while self._heap and len(first) < node.free_cpus:
            entry = heapq.heappop(self._heap)
            first[entry[1]] = entry
        placements = place([self._ready(-rank, label) for rank, label, *_ in first.values()], (node,))
        taken = [(one, *first.pop(one.label)[2:]) for one in placements]
        for entry in first.values():
            heapq.heappush(self._heap, entry)
        return taken

    def _ready(self, rank: float, label: str) -> Ready:
        resources = self._resources(label)
        return Ready(label=label, rank=rank, cpus=resources.cpus, memory=resources.memory or 0)
