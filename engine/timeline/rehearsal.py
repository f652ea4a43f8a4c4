"""A build run through again on paper: steps as long as asked, on the nodes where they ran.

Each node takes its steps in the order in which it took them then, as soon as what they need is done
and enough processors are free; one for which there are too few lets the next ones go first.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from engine.timeline.course import Course, Step

PASSED: Final = 16
"""Steps for which there are too few processors that others may go before at a time."""


@define
class _Node:
    """The free processors of a node, and the steps that wait for them, a heap."""

    free: int
    waiting: list[int] = field(factory=list)

    def take(self, held: Sequence[int]) -> list[int]:
        """Return the steps that start now; they have their processors then."""
        taken: list[int] = []
        passed: list[int] = []
        while self.waiting and self.free and len(passed) < PASSED:
            number = heapq.heappop(self.waiting)
            if held[number] > self.free:
                passed.append(number)
            else:
                self.free -= held[number]
                taken.append(number)
        for number in passed:
            heapq.heappush(self.waiting, number)
        return taken


@frozen
class Rehearsal:
    """What ran in a build, in the order of its beginning: names, seconds, needs by number, and the
    node of each, with the processors by node; `held` are the processors of each (none: one)."""

    labels: Sequence[str]
    seconds: Sequence[float]
    needs: Sequence[Sequence[int]]
    nodes: Sequence[str]
    cpus: Mapping[str, int]
    held: Sequence[int] = ()
    _after: Sequence[Sequence[int]] = field(init=False, repr=False)

    @_after.default
    def _turned(self) -> list[list[int]]:
        after: list[list[int]] = [[] for _ in self.needs]
        for number, needs in enumerate(self.needs):
            for need in needs:
                after[need].append(number)
        return after

    @property
    def _widths(self) -> Sequence[int]:
        return self.held or [1] * len(self.labels)

    def makespan(self, other: Mapping[int, float] | None = None) -> float:
        """Return the seconds that all takes, where some steps, by number, take others."""
        changed = other or {}
        held = [min(one, self.cpus[at]) for one, at in zip(self._widths, self.nodes, strict=True)]
        missing = [len(needs) for needs in self.needs]
        nodes = {name: _Node(cpus) for name, cpus in self.cpus.items()}
        for number, count in enumerate(missing):
            if not count:
                nodes[self.nodes[number]].waiting.append(number)
        touched = dict.fromkeys(nodes)
        ending: list[tuple[float, int]] = []
        now = 0.0
        while True:
            for name in touched:
                for number in nodes[name].take(held):
                    seconds = changed.get(number, self.seconds[number])
                    heapq.heappush(ending, (now + seconds, number))
            if not ending:
                return now
            now = ending[0][0]
            touched = {}
            while ending and ending[0][0] <= now:
                _, number = heapq.heappop(ending)
                nodes[self.nodes[number]].free += held[number]
                touched[self.nodes[number]] = None
                for later in self._after[number]:
                    missing[later] -= 1
                    if not missing[later]:
                        heapq.heappush(nodes[self.nodes[later]].waiting, later)
                        touched[self.nodes[later]] = None

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
        held=[step.processors for step in ran],
    )


def _seconds(step: Step) -> float:
    if step.began is None or step.ended is None:
        return step.seconds
    return max(0.0, step.ended - step.began)


def _most(steps: Sequence[Step]) -> int:
    """Return how many of some steps ran at a time at most."""
    changes: list[tuple[float, int]] = []
    for step in steps:
        held = step.processors
        changes += [(step.began or 0.0, held), (step.ended or 0.0, -held)]
    most = running = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return max(1, most)
