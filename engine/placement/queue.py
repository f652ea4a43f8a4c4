"""The steps that could start, in the order in which they are looked at."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TypeAlias

from engine.placement.model import Ready
from engine.placement.plan import Plan

Entry: TypeAlias = tuple[float, float, str]


class Queue:
    """Ready steps: by the plan's order where there is one, then longest chain first, then by name.

    A heap, so that a decision costs nothing for the thousands that wait.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        self.ready: dict[str, Ready] = {}
        self.reached: dict[int, int] = {}
        """Of each sequence of the plan, up to where everything has started."""
        self.backlog = 0
        """Microseconds at speed 1 of all that is ready."""
        self._plan = plan
        self._heap: list[Entry] = []
        self._looked_at: list[Entry] = []

    def add(self, step: Ready) -> None:
        """Put a step into the queue."""
        self.ready[step.label] = step
        self.backlog += round(step.seconds * 1e6)
        heapq.heappush(self._heap, self._entry(step))

    def remove(self, label: str) -> None:
        """Take a step out."""
        self.backlog -= round(self.ready.pop(label).seconds * 1e6)

    def look(self) -> Iterator[Ready]:
        """Yield steps in order; `put_back` has to follow."""
        while self._heap:
            entry = heapq.heappop(self._heap)
            step = self.ready.get(entry[2])
            if step is not None:
                self._looked_at.append(entry)
                yield step

    def put_back(self) -> None:
        """End a look: what is still ready will be looked at again."""
        for entry in self._looked_at:
            if entry[2] in self.ready:
                heapq.heappush(self._heap, entry)
        self._looked_at.clear()

    def sort(self, plan: Plan | None) -> None:
        """Put all into the order of another plan."""
        self._plan = plan
        self.reached.clear()
        self._heap = [self._entry(step) for step in self.ready.values()]
        heapq.heapify(self._heap)

    def _entry(self, step: Ready) -> Entry:
        planned = 0.0 if self._plan is None else self._plan.priority.get(step.label, 0.0)
        return (planned, -step.rank, step.label)
