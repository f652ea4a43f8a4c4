"""Following a schedule: each step where and in the order in which it was planned, repaired where
durations turn out otherwise.

Steps of a group of nodes start in the order of their planned starts. One that comes later starts
before one that is not ready yet only on a processor that the other does not need meanwhile. So with
durations as planned no step starts later than planned (by induction: at its planned start all that
come before it in the order started no later than planned, and nothing else is in their place). A
step that is late loses its place, and one whose own group is full may go to another group where it
ends sooner.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.placement.cluster import Group
from engine.placement.model import Explanation, Ready
from engine.placement.plan import Plan
from engine.placement.queue import Queue
from engine.placement.strategies import Round

LATE: Final = 1e-6
"""Seconds after its planned start from which on a step that is not ready is late."""


class Follow:
    """One decision by a plan."""

    def __init__(self, queue: Queue, turn: Round, plan: Plan) -> None:
        self._queue, self._turn, self._plan = queue, turn, plan
        self._now = turn.costs.elapsed
        self._begun: set[str] = set()
        self._groups: dict[int, list[Group]] = {}
        for group in turn.groups:
            number = plan.groups.get(group.sample)
            if number is not None:
                self._groups.setdefault(number, []).append(group)

    def place(self) -> None:
        """Place what the plan has for now."""
        for number, groups in self._groups.items():
            if self._room(groups) > 0:
                self._own(number, groups)
        if self._turn.is_full():
            return
        passed, free = 0, self._free()
        for step in self._queue.look():
            if passed >= self._turn.policy.window or not free or self._turn.is_full():
                break
            if self._elsewhere(step, free):
                free = self._free()
            else:
                passed += 1

    def _own(self, number: int, groups: list[Group]) -> None:
        """Start what a group has to do, but keep processors for what comes before it."""
        kept: list[float] = []
        room = self._room(groups)
        passed = 0
        for label in self._left(number):
            if passed >= self._turn.policy.window:
                break
            passed += 1
            begin = self._plan.priority[label]
            step = self._queue.ready.get(label)
            if step is None:
                if begin >= self._now - LATE:
                    kept.append(begin)
                continue
            end = self._now + step.seconds / groups[0].rate - LATE
            if room <= sum(one < end for one in kept):
                continue
            if not self._start(step, groups):
                if step.cpus > 1 or step.memory:
                    break  # it waits for room, and those behind it with it
                continue
            passed -= 1
            room = self._room(groups)
            if room <= 0:
                break

    def _left(self, number: int) -> Iterator[str]:
        """Yield the steps of a group that have not started, by planned start."""
        sequence, started = self._plan.sequences[number], self._turn.costs.started
        first = self._queue.reached.get(number, 0)
        while first < len(sequence) and sequence[first] in started:
            first += 1
        self._queue.reached[number] = first
        for place in range(first, len(sequence)):
            label = sequence[place]
            if label not in started and label not in self._begun:
                yield label

    def _free(self) -> list[tuple[int, list[Group], int]]:
        """Return the groups that have room, with their numbers and how much."""
        rooms = [(number, some, self._room(some)) for number, some in self._groups.items()]
        return [one for one in rooms if one[2] > 0]

    def _elsewhere(self, step: Ready, free: list[tuple[int, list[Group], int]]) -> bool:
        """Start a step in another group than planned, where it ends sooner and is in nobody's way:
        or anywhere, where the plan does not know it. Say whether it started."""
        plan, clock = self._plan, self._turn.cluster.time
        own, limit = plan.group_of.get(step.label), 0.0
        for group in self._groups.get(own, ()) if own is not None else ():
            if group.ends:
                begin = max(plan.priority[step.label], self._now + group.ends[0] - clock)
                limit = max(limit, begin + step.seconds / group.rate)
        late = own not in self._groups or step.waited > self._turn.policy.max_wait
        if not late and not limit:
            return False
        for number, groups, room in free:
            end = self._now + step.seconds / groups[0].rate
            if not late and end >= limit - LATE:
                continue
            for label in self._left(number):
                if room <= 0 or plan.priority[label] >= end or late:
                    break
                room -= label != step.label
            if room > 0 and self._start(step, groups):
                return True
        return False

    def _room(self, groups: list[Group]) -> int:
        return sum(group.free_cpus for group in groups)

    def _start(self, step: Ready, groups: list[Group]) -> bool:
        allowed = self._turn.groups_for(step)
        if not allowed:
            return False
        cpus, memory = self._turn.cluster.sizes(allowed, step)
        for group in groups:
            seat = self._turn.cluster.first(group, cpus, memory) if group in allowed else None
            if seat is not None:
                begin = self._plan.priority.get(step.label, self._now)
                planned = f"planned for {begin:.1f} s, now {self._now:.1f} s"
                why = Explanation(
                    reason=f"{self._plan.reason}; {planned}",
                    strategy="portfolio",
                    score=seat.group.rate,
                )
                self._turn.start(step, seat, cpus, memory, why)
                self._queue.remove(step.label)
                self._begun.add(step.label)
                return True
        return False
