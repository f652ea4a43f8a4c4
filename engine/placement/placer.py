"""The placement of a whole build, decision by decision: what `place` does, kept up to date."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from engine.placement.cluster import Cluster, Seat
from engine.placement.decide import decide
from engine.placement.model import Costs, Explanation, Node, Placement, Policy, Ready
from engine.placement.plan import Plan, make_plan
from engine.placement.queue import Queue
from engine.placement.schedule import Lanes
from engine.placement.work import Work, without
from store.records import evolve

OFF: Final = 0.02
"""The share of its makespan by which a plan may be off before another one is made."""

MUCH: Final = 0.1
"""The change of a node's multipliers after which a plan made before is not followed any more."""

SHORT: Final = 0.005
"""Seconds up to which a wait is not told of: nothing starts at once."""

SHARE: Final = 2
"""A new plan at the earliest when so much (one divided by it) of what was left has ended."""


def _because(seat: Seat, free: Seat, later: float) -> str:
    """Return why a step waited for a node while another one was free, on which it would have ended
    so many seconds later as far as speed and preference tell."""
    name = f"{free.node.name}, which was free,"
    if free.node.preference == "avoid" != seat.node.preference:
        return f"{name} is to be avoided"
    if seat.node.preference == "preferred" != free.node.preference:
        return f"it is preferred to {free.node.name}, which was free"
    if free.stable < seat.stable:
        return f"{name} had failures"
    return f"on {name} it would have ended {later:.1f} s later"


class Placer:
    """Decides for a build; it is told what became ready, what ended, and how nodes are.

    Times are in seconds on any clock. With the strategy "portfolio" it plans `work`; where
    durations differ, it plans what is left anew; once nodes change, it looks ahead each time.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        policy: Policy,
        costs: Costs | None = None,
        work: Work | None = None,
    ) -> None:
        self.policy = policy
        self.cluster = Cluster(nodes, policy)
        self.plans: list[Plan] = []
        self._costs = costs or Costs()
        self._work = work
        self._numbers = {label: n for n, label in enumerate(work.labels)} if work else {}
        self._gone = bytearray(len(work) if work else 0)
        self._ended = 0
        self._planned_at = 0.0
        self._planned_ended = 0
        self._plans = policy.strategy == "portfolio" and not any(node.only for node in nodes)
        """Whether plans are made: they know of no node that is only for some steps."""
        self.steady = True
        """Whether nodes are as they were when the plan was made."""
        self._queue = Queue()
        self._since: dict[str, float] = {}
        self._running: dict[str, tuple[str, int, int, float]] = {}
        self._begun: dict[str, tuple[float, float]] = {}
        """When what runs began, and for how many seconds on a node that is not throttled."""
        self._started: set[str] = set()
        self._held: dict[str, tuple[str, float]] = {}
        self._drift = 0.0

    def add(self, step: Ready, now: float) -> None:
        """Put a step among those that could start."""
        self._since[step.label] = now - step.waited
        self._queue.add(step)

    def where(self, held: Mapping[str, Collection[str]]) -> None:
        """Use this as the record of which nodes hold what; it is looked at in each decision."""
        self._costs = evolve(self._costs, held=held)

    def decide(self, now: float) -> list[Placement]:
        """Return what starts now. It counts as running until `end` is called."""
        if self.cluster.free_cpus <= 0 or not self._queue.ready:
            return []
        self.cluster.time = now
        if self._work is not None and self.steady and self._plans:
            self._plan_where_useful(now)
        limit = self.policy.max_wait
        if limit < float("inf"):
            self._age(now, limit)
        costs = evolve(
            self._costs,
            elapsed=now - self._planned_at,
            started=self._started,
            turn=len(self._started),
        )
        placed, held = decide(self._queue, self.cluster, costs, self.policy)
        for one in placed:
            self._running[one.label] = (one.node, one.cpus, one.memory, now + one.seconds)
            self._begun[one.label] = now, one.seconds * self.cluster.by_name[one.node].pace
            self._started.add(one.label)
        self._held.update(held)
        if self._held or (self._costs.plan is not None and len(self.cluster.groups) > 1):
            return [self._with_wait(one, now) for one in placed]
        return placed

    def end(self, label: str, now: float, done: bool = True) -> None:
        """Note that a step no longer runs; where it is not `done`, it may be added again."""
        node, cpus, memory, end = self._running.pop(label)
        self.cluster.give(node, cpus, memory, end)
        began, expected = self._begun.pop(label)
        if not done:
            self._started.discard(label)
            self._unsteady()
            return
        self._ended += 1
        self._drift = max(self._drift, abs(now - end))
        self.cluster.learn(node, expected, now - began)
        if self._work is not None:
            self._gone[self._numbers[label]] = 1

    def move(self, placement: Placement, node: str, now: float) -> Placement | None:
        """Let a step that was placed start on another node, as somebody wants it; None where that
        has no room for it now."""
        seat = self.cluster.by_name[node]
        if not seat.has_room(placement.cpus, placement.memory):
            return None
        before = self.cluster.by_name[placement.node].group.rate
        self.cluster.give(*self._running.pop(placement.label))
        seconds = placement.seconds * before / seat.group.rate
        end = now + seconds
        self.cluster.take(node, placement.cpus, placement.memory, end)
        self._running[placement.label] = (node, placement.cpus, placement.memory, end)
        self._begun[placement.label] = now, seconds * seat.pace
        self._unsteady()
        why = Explanation(reason="moved there by hand", score=0.0)
        return evolve(placement, node=node, seconds=seconds, explanation=why)

    def force(self, placement: Placement, step: Ready, now: float) -> Placement:
        """Let a step start where `placement` says, whatever would be decided; return it with the
        seconds that it is expected to take."""
        label, name = placement.label, placement.node
        if label in self._queue.ready:
            self._queue.remove(label)
        self._held.pop(label, None)
        seat = self.cluster.by_name[name]
        seconds = step.seconds / (seat.speed * seat.pace)
        self.cluster.take(name, placement.cpus, placement.memory, now + seconds)
        self._running[label] = (name, placement.cpus, placement.memory, now + seconds)
        self._begun[label] = now, seconds * seat.pace
        self._started.add(label)
        return evolve(placement, seconds=seconds)

    def withdraw(self, label: str, again: bool = False) -> None:
        """Note that a step does not start after all, or need not: it is waited for no more. With
        `again` it may be added later."""
        running = self._running.pop(label, None)
        if running is not None:
            self.cluster.give(*running)
        elif label in self._queue.ready:
            self._queue.remove(label)
        if again:
            self._started.discard(label)
        else:
            self._started.add(label)
            if self._work is not None:
                self._gone[self._numbers[label]] = 1

    def update(self, node: Node) -> None:
        """Take over a node's speed, temperatures, preference and failures."""
        before = self.cluster.by_name[node.name].value
        self.cluster.update(node)
        after = self.cluster.by_name[node.name].value
        if (before == 0) != (after == 0) or abs(before - after) > MUCH:
            self._unsteady()

    def _unsteady(self) -> None:
        """Give up planning: from here on each decision looks ahead from how nodes are then."""
        if self.steady and self.policy.strategy == "portfolio" and self._started:
            self.steady = False
            self._costs = evolve(self._costs, plan=None)
            self._queue.sort(None)

    def _with_wait(self, placement: Placement, now: float) -> Placement:
        waited = now - self._since[placement.label]
        free, later = self._held.pop(placement.label, ("", 0.0))
        if waited < SHORT:
            return placement
        seat = self.cluster.by_name[placement.node]
        if not free:
            others = (one for one in self.cluster.groups if one.free_cpus > 0 and one.value > 0)
            slow = next((one for one in others if one.rate < seat.group.rate), None)
            if slow is None:
                return placement
            free = slow.sample
            later = placement.seconds * (seat.group.rate / slow.rate - 1)
        if free == placement.node:
            text = f"waited {waited:.1f} s for a faster node than {free} in vain"
        else:
            why = _because(seat, self.cluster.by_name[free], later)
            text = f"waited {waited:.1f} s for node {placement.node} because {why}"
        return evolve(placement, explanation=evolve(placement.explanation, waited=text))

    def _age(self, now: float, limit: float) -> None:
        for label, step in self._queue.ready.items():
            waited = now - self._since[label]
            if waited > limit >= step.waited:
                self._queue.ready[label] = evolve(step, waited=waited)

    # plans

    def _plan_where_useful(self, now: float) -> None:
        assert self._work is not None
        plan, ended = self._costs.plan, self._ended - self._planned_ended
        if plan is not None:
            if plan.rule != "follow" or self._drift <= OFF * plan.makespan:
                return
            if ended < max(8, (len(self._work) - self._planned_ended) // SHARE):
                return
        lanes, groups = self._lanes(now)
        if not lanes.speeds:
            return
        work, earliest = self._left(now)
        steady = not any(one.node.samples or one.node.failures for one in self.cluster.seats)
        plan = make_plan(work, lanes, groups, earliest, light=bool(self.plans), steady=steady)
        self.plans.append(plan)
        self._costs = evolve(self._costs, plan=plan)
        self._queue.sort(plan)
        self._planned_at, self._planned_ended = now, self._ended
        self._drift = 0.0

    def _left(self, now: float) -> tuple[Work, list[float]]:
        """Return what has not started, and when at the earliest what runs lets it start."""
        assert self._work is not None
        gone = bytearray(self._gone)
        until: dict[int, float] = {}
        for label, (_, _, _, end) in self._running.items():
            number = self._numbers[label]
            gone[number] = 1
            for other in self._work.after[number]:
                until[other] = max(until.get(other, 0.0), end - now, 0.0)
        if not any(gone):
            return self._work, []
        work, numbers = without(self._work, gone)
        return work, [until.get(number, 0.0) for number in numbers] if until else []

    def _lanes(self, now: float) -> tuple[Lanes, dict[str, int]]:
        """Return the processors of all nodes that may be used, and the group of each node."""
        groups = [one for one in self.cluster.groups if one.count and one.value > 0]
        rates = sorted({group.rate for group in groups}, reverse=True)
        numbers = {rate: number for number, rate in enumerate(rates)}
        free: list[list[float]] = [[] for _ in rates]
        names: dict[str, int] = {}
        for seat in self.cluster.seats:
            rate = seat.group.rate
            if rate not in numbers or seat.value <= 0:
                continue
            number = names[seat.node.name] = numbers[rate]
            free[number] += [0.0] * seat.free_cpus
            for end, cpus in seat.ends:
                free[number] += [max(0.0, end - now)] * cpus
        return Lanes(rates, free), names
