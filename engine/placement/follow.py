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

import itertools
import math
from collections.abc import Iterator
from typing import Final, TypeAlias

from engine.placement.cluster import Group
from engine.placement.model import Explanation, Ready
from engine.placement.plan import Plan
from engine.placement.queue import Queue
from engine.placement.strategies import Round

Free: TypeAlias = tuple[int, list[Group], float]
"""A group's number, its nodes, and until when (seconds of the plan) one of them may be used."""

AHEAD: Final = 8
"""Steps of a group that are not ready, beyond which no ready one is looked for: it would have to be
so short that it ends before all of them begin."""

LOOKED_AT: Final = 16
"""Steps that are ready, the next ones by plan, of which one may start elsewhere than planned."""

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
        passed, most = 0, min(LOOKED_AT, self._turn.policy.window)
        free, begins = self._free(), self._begins()
        for step in self._queue.look():
            if passed >= most or not free or self._turn.is_full():
                break
            if self._elsewhere(step, free, begins):
                free, begins = self._free(), self._begins()
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
                if len(kept) > AHEAD + 2 * room:
                    break
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

    def _free(self) -> list[Free]:
        """Return the groups that have room, with their numbers, the fastest first, and until when
        a processor of each is not needed by what was planned for it."""
        found: list[Free] = []
        for number, groups in self._groups.items():
            room = self._room(groups)
            if room > 0:
                needed = next(itertools.islice(self._left(number), room - 1, None), None)
                until = math.inf if needed is None else self._plan.priority[needed]
                found.append((number, groups, until))
        return found

    def _begins(self) -> dict[int, list[tuple[float, float]]]:
        """Return of each group when something ends there next, and its rate."""
        ahead = self._now - self._turn.cluster.time
        return {
            number: [(ahead + one.ends[0], one.rate) for one in groups if one.ends]
            for number, groups in self._groups.items()
        }

    def _elsewhere(
        self,
        step: Ready,
        free: list[Free],
        begins: dict[int, list[tuple[float, float]]],
    ) -> bool:
        """Start a step in another group than planned, where it ends sooner and is in nobody's way:
        or anywhere, where the plan does not know it. Say whether it started."""
        plan, label, seconds = self._plan, step.label, step.seconds
        own, limit = plan.group_of.get(label, -1), 0.0
        late = own not in begins or step.waited > self._turn.policy.max_wait
        if not late:
            planned = plan.priority[label]
            for begin, rate in begins[own]:
                end = (planned if planned > begin else begin) + seconds / rate
                limit = end if end > limit else limit
        for number, groups, until in free:
            end = self._now + seconds / groups[0].rate
            if not late:
                if end >= limit - LATE:
                    return False  # the others are slower
                if until < end and (number != own or not self._is_free(number, groups, label, end)):
                    continue
            if self._start(step, groups):
                return True
        return False

    def _is_free(self, number: int, groups: list[Group], label: str, end: float) -> bool:
        """Say whether a processor of a step's own group is not needed by others until `end`."""
        room = self._room(groups)
        for other in self._left(number):
            if room <= 0 or self._plan.priority[other] >= end:
                break
            room -= other != label
        return room > 0

    def _room(self, groups: list[Group]) -> int:
        room = groups[0].free_cpus
        for group in groups[1:]:
            room += group.free_cpus
        return room

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
