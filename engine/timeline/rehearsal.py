"""A build run through again on paper: steps as long as asked, on the nodes where they ran.

Each node takes its steps in the order in which it took them then, as soon as what they need is done
and a processor is free. A step counts as holding one processor.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from engine.timeline.course import Course, Step


@frozen
class Rehearsal:
    """What ran in a build, in the order of its beginning: names, seconds, needs by number, and the
    node of each, with the processors by node."""

    labels: Sequence[str]
    seconds: Sequence[float]
    needs: Sequence[Sequence[int]]
    nodes: Sequence[str]
    cpus: Mapping[str, int]
    _after: Sequence[Sequence[int]] = field(init=False, repr=False)

    @_after.default
    def _turned(self) -> list[list[int]]:
        after: list[list[int]] = [[] for _ in self.needs]
        for number, needs in enumerate(self.needs):
            for need in needs:
                after[need].append(number)
        return after

    def makespan(self, other: Mapping[int, float] | None = None) -> float:
        """Return the seconds that all takes, where some steps, by number, take others."""
        changed = other or {}
        missing = [len(needs) for needs in self.needs]
        free = dict(self.cpus)
        ready: dict[str, list[int]] = {node: [] for node in free}
        ending: list[tuple[float, int]] = []
        now = 0.0

        def start(node: str) -> None:
            waiting = ready[node]
            while waiting and free[node]:
                number = heapq.heappop(waiting)
                free[node] -= 1
                seconds = changed.get(number, self.seconds[number])
                heapq.heappush(ending, (now + seconds, number))

        for number, count in enumerate(missing):
            if not count:
                ready[self.nodes[number]].append(number)
        for node in free:
            start(node)
        while ending:
            now = ending[0][0]
            touched: dict[str, None] = {}
            while ending and ending[0][0] <= now:
                _, number = heapq.heappop(ending)
                free[self.nodes[number]] += 1
                touched[self.nodes[number]] = None
                for later in self._after[number]:
                    missing[later] -= 1
                    if not missing[later]:
                        heapq.heappush(ready[self.nodes[later]], later)
                        touched[self.nodes[later]] = None
            for node in touched:
                start(node)
        return now

    def longest(self) -> float:
        """Return the seconds of the longest chain of needs."""
        ends: list[float] = []
        for needs, seconds in zip(self.needs, self.seconds, strict=True):
            ends.append(seconds + max((ends[need] for need in needs), default=0.0))
        return max(ends, default=0.0)


def rehearsal(course: Course) -> Rehearsal:
    """Return what ran in a build, ready to be run through. A node that did not say how many
    processors it has counts with as many as it used at a time."""
    ran = course.ran()
    numbers = {step.label: number for number, step in enumerate(ran)}
    cpus = {node: max(1, count) for node, count in course.nodes.items()}
    nodes = [step.node for step in ran]
    for node in dict.fromkeys(nodes):
        if node not in cpus:
            cpus[node] = _most([step for step in ran if step.node == node])
    needs = [
        [numbers[need] for need in step.needs if numbers.get(need, number) < number]
        for number, step in enumerate(ran)
    ]
    return Rehearsal(
        labels=[step.label for step in ran],
        seconds=[_seconds(step) for step in ran],
        needs=needs,
        nodes=nodes,
        cpus=cpus,
    )


def _seconds(step: Step) -> float:
    if step.began is None or step.ended is None:
        return step.seconds
    return max(0.0, step.ended - step.began)


def _most(steps: Sequence[Step]) -> int:
    """Return how many of some steps ran at a time at most."""
    changes: list[tuple[float, int]] = []
    for step in steps:
        changes += [(step.began or 0.0, 1), (step.ended or 0.0, -1)]
    most = running = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return max(1, most)
