"""The nodes of a decision, indexed: which have room, which are alike, what ends when."""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Iterable, Sequence
from typing import Final

from engine.placement.model import Node, Policy, Ready
from engine.placement.plan import group_speeds
from engine.placement.thermal import headroom

PREFERENCES: Final = {"": 1.0, "preferred": 1.5, "avoid": 0.25, "disabled": 0.0}
"""What a node's preference multiplies its score with."""


LEAST: Final = 0.01
"""The multiplier of a node's speed where it is to get nothing: only the coolest is asked then."""


UNSTABLE: Final = 0.2
"""By how much a recent failure multiplies the time that a step is expected to take there."""

SUSTAINED: Final = 0.75
"""The share of its speed below which a hot node is taken to be throttled: what is expected of
steps may be wrong by a third."""

EARLIER: Final = 0.5
"""What earlier steps count of a node's pace when another one ends."""


class Seat:
    """A node while decisions are made: what of it is free now, and what it counts for."""

    __slots__ = (
        "blocked",
        "ends",
        "free_cpus",
        "free_memory",
        "group",
        "index",
        "node",
        "pace",
        "ran",
        "share",
        "speed",
        "stable",
        "thermal",
        "value",
        "withheld",
    )

    def __init__(self, index: int, node: Node, neutral: float, policy: Policy) -> None:
        self.index = index
        self.blocked = False
        self.group: Group
        self.withheld = 0
        """Processors that get nothing to do, as the node is hot: of those that are free."""
        self.pace = 1.0
        """The share of its speed at which it did the last steps, where it was hot meanwhile."""
        self.ran = 0.0, 0.0
        """Seconds that these were to take, and took: the last ones count the most."""
        self.assess(node, neutral, policy)
        self.free_cpus, self.free_memory = node.free_cpus, node.free_memory
        self.ends = sorted(node.ends)

    def assess(self, node: Node, neutral: float, policy: Policy) -> None:
        """Take over what is known of the node; `neutral` is the speed where none is known."""
        self.node = node
        self.speed = neutral if node.speed is None else node.speed
        self.thermal = headroom(node.samples, node.limit)
        if policy.heat != 1 and self.thermal < 1:
            self.thermal **= policy.heat
        self.stable = 1 / (1 + node.failures)
        liked = PREFERENCES[node.preference]
        self.value = self.thermal * self.stable * liked
        self.share = LEAST
        """What of its speed is expected of it."""
        if self.value > 0:
            self.share = self.pace * math.sqrt(self.thermal) * liked
            self.share /= 1 + UNSTABLE * node.failures

    def learn(self, expected: float, took: float) -> None:
        """Note that a step took so many seconds that should have taken `expected` at full speed. It
        counts where the node is hot: there it may be throttled, elsewhere the step was longer."""
        if self.thermal >= 1 and self.pace >= 1:
            return
        before = self.ran
        self.ran = EARLIER * before[0] + expected, EARLIER * before[1] + took
        share = round(8 * self.ran[0] / self.ran[1]) / 8 if self.ran[1] else 1.0
        self.pace = max(1 / 8, share) if share <= SUSTAINED else 1.0

    def has_room(self, cpus: int, memory: int) -> bool:
        """Say whether a step of that size can start there now."""
        return not self.blocked and cpus <= self.free_cpus and memory <= self.free_memory

    @property
    def used(self) -> float:
        """The share of its processors that are taken."""
        return 1 - self.free_cpus / self.node.cpus

    def to_withhold(self) -> int:
        """Return how many of the free processors are to get nothing to do: a hot node works with
        the share of them that its headroom says. One on which nothing runs takes what comes, so
        that also a step that needs all of it runs at last."""
        idle = self.free_cpus + self.withheld
        if self.thermal >= 1 or idle >= self.node.cpus:
            return 0
        allowed = max(1, math.ceil(self.node.cpus * self.thermal))
        return max(0, min(idle, self.node.cpus - allowed))


class Group:
    """Nodes that are alike but for what runs on them: their rate is speed times multipliers."""

    def __init__(self, key: object, number: int, seat: Seat, rate: float) -> None:
        self.key = key
        self.number = number
        self.rate = rate
        self.value = seat.value
        self.only = seat.node.only
        self.price = seat.node.price
        self.cpus = seat.node.cpus
        self.memory = seat.node.memory
        self.sample = seat.node.name
        self.count = 0
        self.free_cpus = 0
        self.free: list[tuple[float, float, int]] = []
        """A heap of nodes with free processors: share used, speed (negative) and index."""
        self.ends: list[float] = []
        """When, on the clock of the cluster, what runs there is expected to end."""


class Cluster:
    """All nodes. Changes are told to it; `time` is the clock by which ends are kept."""

    def __init__(self, nodes: Sequence[Node], policy: Policy) -> None:
        known = [node.speed for node in nodes if node.speed is not None]
        self.neutral = sum(known) / len(known) if known else 1.0
        self.policy = policy
        self.time = 0.0
        self.seats = [Seat(n, node, self.neutral, policy) for n, node in enumerate(nodes)]
        self.by_name = {seat.node.name: seat for seat in self.seats}
        self._speeds = group_speeds([seat.speed for seat in self.seats])
        self.fastest = max((seat.speed for seat in self.seats), default=1.0)
        self.dearest = max((seat.node.price for seat in self.seats), default=0.0)
        self._least_cpus = min((seat.node.cpus for seat in self.seats), default=0)
        self._least_memory = min((seat.node.memory for seat in self.seats), default=0)
        self.free_cpus = 0
        self.running = 0
        self._groups: dict[object, Group] = {}
        self.groups: list[Group] = []
        """The groups, the one with the highest rate first."""
        for seat in self.seats:
            self._join(seat)

    def _join(self, seat: Seat) -> None:
        node = seat.node
        number = self._speeds[seat.speed]
        key = (number, seat.value, seat.share, node.only, node.price, node.cpus, node.memory)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, number, seat, seat.speed * seat.share)
            insort(self.groups, group, key=lambda one: (-one.rate, one.number))
        seat.group = group
        group.count += 1
        for end, cpus in seat.ends:
            for _ in range(cpus):
                insort(group.ends, end)
        self.running += len(seat.ends)
        self.free_cpus += seat.free_cpus
        group.free_cpus += seat.free_cpus
        self._offer(seat)

    def _leave(self, seat: Seat) -> None:
        seat.group.count -= 1
        for end, cpus in seat.ends:
            for _ in range(cpus):
                seat.group.ends.remove(end)
        self.running -= len(seat.ends)
        self.free_cpus -= seat.free_cpus
        seat.group.free_cpus -= seat.free_cpus
        if not seat.group.count:
            self.groups.remove(seat.group)
            del self._groups[seat.group.key]

    def _offer(self, seat: Seat) -> None:
        if seat.free_cpus > 0:
            heapq.heappush(seat.group.free, (seat.used, -seat.speed, seat.index))

    def update(self, node: Node) -> None:
        """Take over a node's speed, temperature, preference and failures; what runs there stays."""
        seat = self.by_name[node.name]
        before = seat.value, seat.share, seat.speed
        seat.assess(node, self.neutral, self.policy)
        if (seat.value, seat.share, seat.speed) != before:
            self._leave(seat)
            self._join(seat)
        self._withhold(seat)

    def learn(self, name: str, expected: float, took: float) -> None:
        """Note how long a step took on a node that should have taken `expected` seconds."""
        seat = self.by_name[name]
        before = seat.pace
        seat.learn(expected, took)
        if seat.pace != before:
            self.update(seat.node)

    def take(self, name: str, cpus: int, memory: int, end: float) -> None:
        """Note that something runs on a node until `end`, on the clock of the cluster."""
        seat = self.by_name[name]
        seat.free_cpus -= cpus
        seat.free_memory -= memory
        insort(seat.ends, (end, cpus))
        for _ in range(cpus):
            insort(seat.group.ends, end)
        self.running += 1
        self.free_cpus -= cpus
        seat.group.free_cpus -= cpus
        if seat.thermal < 1:
            self._withhold(seat)
        self._offer(seat)

    def give(self, name: str, cpus: int, memory: int, end: float) -> None:
        """Note that it no longer does; `end` is what was expected when it began."""
        seat = self.by_name[name]
        seat.free_cpus += cpus
        seat.free_memory += memory
        seat.ends.remove((end, cpus))
        for _ in range(cpus):
            seat.group.ends.remove(end)
        self.running -= 1
        self.free_cpus += cpus
        seat.group.free_cpus += cpus
        if seat.withheld or seat.thermal < 1:
            self._withhold(seat)
        self._offer(seat)

    def _withhold(self, seat: Seat) -> None:
        """Let a hot node's free processors be free or not, as its headroom says now."""
        more = seat.to_withhold() - seat.withheld
        if more:
            seat.withheld += more
            seat.free_cpus -= more
            self.free_cpus -= more
            seat.group.free_cpus -= more
            self._offer(seat)

    def first(self, group: Group, cpus: int, memory: int) -> Seat | None:
        """Return the node of a group that has room and of whose processors the least are taken."""
        if group.free_cpus <= 0:
            return None
        passed: list[tuple[float, float, int]] = []
        found = None
        heap = group.free
        while heap:
            used, _, index = heap[0]
            seat = self.seats[index]
            if seat.group is not group or seat.used != used or not seat.free_cpus:
                heapq.heappop(heap)
            elif seat.has_room(cpus, memory):
                found = seat
                break
            else:
                passed.append(heapq.heappop(heap))
        if passed:
            for entry in dict.fromkeys(passed):
                heapq.heappush(heap, entry)
        return found

    def suits(self, group: Group, step: Ready) -> bool:
        """Say whether a step may run on the nodes of a group at all."""
        return group.count > 0 and group.value > 0 and (not group.only or step.target in group.only)

    def sizes(self, groups: Iterable[Group], step: Ready) -> tuple[int, int]:
        """Return processors and memory of the step: no more than the largest node has."""
        cpus, memory = step.cpus, step.memory
        if cpus > self._least_cpus or memory > self._least_memory:
            largest = max(groups, key=lambda one: (one.cpus, one.memory))
            cpus = min(cpus, largest.cpus)
            most = max((one.memory for one in groups if one.cpus >= cpus), default=0)
            memory = min(memory, most)
        return cpus, memory
