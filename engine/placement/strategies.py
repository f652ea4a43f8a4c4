"""Strategies: where a step starts, of the nodes that have room, or which one it waits for."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Final

from engine.placement.cluster import PREFERENCES, Cluster, Group, Seat
from engine.placement.decide import earliest_room, reason
from engine.placement.model import Costs, Explanation, Factor, Placement, Policy, Ready
from engine.placement.schedule import WINDOW
from engine.placement.thermal import told
from store.records import evolve

RUNNERS_UP: Final = 2
"""Nodes that an explanation names besides the one that was chosen."""


class Outlook:
    """When a group of nodes takes another step: at `begin`, on the clock of the cluster."""

    __slots__ = ("begin", "group", "idle", "rate")

    def __init__(self, group: Group, rate: float, begin: float, idle: bool) -> None:
        self.group, self.rate, self.begin, self.idle = group, rate, begin, idle


class Round:
    """One decision: what was placed in it, and what is kept free for whom."""

    def __init__(self, cluster: Cluster, costs: Costs, policy: Policy, backlog: int) -> None:
        self.cluster, self.costs, self.policy = cluster, costs, policy
        self.backlog = backlog
        """Microseconds of all that is ready, less what was placed."""
        self.placed: list[Placement] = []
        self.held: dict[str, tuple[str, float]] = {}
        """Of steps that are kept waiting for a node that is busy, one that is free, and by how
        many seconds the step would end later there."""
        self._blocked: list[Seat] = []
        self.groups = [one for one in cluster.groups if one.count and one.value > 0]
        if not self.groups and not cluster.running:
            coolest = _coolest(cluster)
            if coolest is not None:
                self.groups = [coolest.group]
                others = [one for one in cluster.seats if one.group is coolest.group]
                self._blocked = [one for one in others if one is not coolest]
                for seat in self._blocked:
                    seat.blocked = True
        self._room = sum(group.free_cpus for group in self.groups)
        self._room -= sum(seat.free_cpus for seat in self._blocked)
        self._reserved = any(group.only for group in self.groups)
        self._kept: dict[int, list[float]] = {}
        self._over = False
        self._outlook: list[Outlook] | None = None
        name = policy.strategy
        if name == "portfolio":
            name = "fastest" if costs.plan and costs.plan.rule == "never idle" else "look ahead"
        self._choose = _CHOICES[name]

    def is_full(self) -> bool:
        """Say whether no node has a free processor that is not kept for a step."""
        return self._over or self._room <= 0

    def close(self) -> None:
        """Forget what was kept free."""
        for seat in self._blocked:
            seat.blocked = False

    def groups_for(self, step: Ready) -> list[Group]:
        """Return the groups of nodes that the step may run on."""
        if not self._reserved:
            return self.groups
        return [one for one in self.groups if not one.only or step.target in one.only]

    def put(self, step: Ready) -> bool:
        """Place a step, keep it waiting, or keep a node free for it; say whether it was placed."""
        groups = self.groups_for(step)
        if not groups:
            return False
        cpus, memory = self.cluster.sizes(groups, step)
        late = step.waited > self.policy.max_wait
        choice = (_fastest if late else self._choose)(self, step, groups, cpus, memory)
        if choice is not None:
            seat, why = choice
            if late:
                text = f"waited for more than {self.policy.max_wait:g} s: takes what has room"
                why = evolve(why, reason=f"{text}; {why.reason}")
            self.start(step, seat, cpus, memory, why)
            return True
        if step.label not in self.held and (cpus > 1 or memory):
            found = earliest_room(self.cluster, groups, cpus, memory)
            if found is not None:
                found[1].blocked = True
                self._blocked.append(found[1])
                self._room -= found[1].free_cpus
        return False

    def seconds(self, step: Ready, seat: Seat) -> float:
        """Return how long the step is expected to take on a node, with getting its inputs."""
        return self.transfer(step, seat) + step.seconds / (seat.speed * seat.pace)

    def transfer(self, step: Ready, seat: Seat) -> float:
        """Return the seconds until the step's inputs are on a node."""
        if not step.inputs:
            return 0.0
        name, held = seat.node.name, self.costs.held
        missing = [size for key, size in step.inputs if name not in held.get(key, (name,))]
        if not missing:
            return 0.0
        return self.costs.latency + sum(missing) / self.costs.bandwidth

    def start(self, step: Ready, seat: Seat, cpus: int, memory: int, why: Explanation) -> None:
        """Place a step."""
        seconds, name = self.seconds(step, seat), seat.node.name
        self.placed.append(
            Placement(
                label=step.label,
                node=name,
                cpus=cpus,
                memory=memory,
                explanation=why,
                seconds=seconds,
            )
        )
        self.backlog -= round(step.seconds * 1e6)
        self._room -= cpus
        self.cluster.take(name, cpus, memory, self.cluster.time + seconds)
        self._kept.pop(id(seat.group), None)
        self._outlook = None

    # the strategies

    def free_seats(self, groups: Sequence[Group], cpus: int, memory: int) -> list[Seat]:
        """Return a node with room of each group that has one, the fastest first."""
        found = (self.cluster.first(group, cpus, memory) for group in groups)
        return [seat for seat in found if seat is not None]

    def holders(self, step: Ready, groups: Sequence[Group], cpus: int, memory: int) -> list[Seat]:
        """Return the nodes with room that have some of a step's inputs."""
        held, known = self.costs.held, self.cluster.by_name
        found: dict[str, Seat] = {}
        for key, _ in step.inputs:
            for name in held.get(key, ()):
                seat = known.get(name)
                if seat is None or seat.free_cpus < cpus:
                    continue
                if seat.has_room(cpus, memory) and seat.group in groups:
                    found[name] = seat
        return list(found.values())

    def best(
        self,
        step: Ready,
        seats: Sequence[Seat],
        score: Callable[[Seat], float],
        cpus: int,
        factors: Callable[[Seat], tuple[Factor, ...]] = lambda _: (),
    ) -> tuple[Seat, Explanation] | None:
        """Return the node with the highest score, the first of those with equal ones."""
        rated = sorted({(-score(seat), seat.index) for seat in seats})
        if not rated:
            return None
        seat = self.cluster.seats[rated[0][1]]
        others = [(self.cluster.seats[n].node.name, -minus) for minus, n in rated[1:]]
        why = Explanation(
            reason=reason(step, cpus, seat.free_cpus),
            strategy=self.policy.strategy,
            score=-rated[0][0],
            factors=factors(seat),
            runners_up=tuple(others[:RUNNERS_UP]),
        )
        return seat, why

    def ends_of(self, group: Group) -> list[float]:
        """Return when what runs on a group ends, and what it is kept for: a heap."""
        kept = self._kept.get(id(group))
        return group.ends if kept is None else kept

    def drain(self, groups: Sequence[Group]) -> float:
        """Return the seconds in which all processors together can do what is ready."""
        rate = sum(group.rate * group.count * group.cpus for group in groups)
        return self.backlog / 1e6 / rate

    def stop(self) -> None:
        """End the decision: of what comes next nothing will start."""
        self._over = True

    def keep(self, group: Group, end: float) -> None:
        """Keep for a step what becomes free next of a group, until `end`."""
        times = self._kept.get(id(group))
        if times is None:
            times = self._kept[id(group)] = group.ends[:]
        heapq.heapreplace(times, end)
        for one in self._outlook or ():
            if one.group is group:
                one.begin = max(times[0], self.cluster.time)

    def outlook(self) -> list[Outlook]:
        """Return when each group takes a step of one processor, the fastest first, up to the first
        one that takes it now."""
        if self._outlook is None:
            self._outlook = []
            now = self.cluster.time
            for group in self.groups:
                idle = group.free_cpus > 0
                times = self.ends_of(group)
                if idle or times:
                    begin = now if idle else max(times[0], now)
                    self._outlook.append(Outlook(group, group.rate, begin, idle))
                if idle:
                    break
        return self._outlook

    def is_plain(self, step: Ready, cpus: int, memory: int) -> bool:
        """Say whether all nodes alike take the step: then `outlook` says where it ends first."""
        return cpus == 1 and not memory and not self._reserved and not self._blocked


def _coolest(cluster: Cluster) -> Seat | None:
    """Return the node to take where all are too hot and nothing runs, so that nothing can get
    stuck: the one that is the furthest below its limit."""

    def too_hot(seat: Seat) -> float:
        return seat.node.samples[-1][1] - seat.node.limit if seat.node.samples else -math.inf

    allowed = (one for one in cluster.seats if one.node.preference != "disabled")
    return min(allowed, key=lambda one: (too_hot(one), one.index), default=None)


def _fastest(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[Seat, Explanation] | None:
    for group in groups:
        seat = turn.cluster.first(group, cpus, memory)
        if seat is not None:
            plan, name = turn.costs.plan, turn.policy.strategy
            text = reason(step, cpus, seat.free_cpus)
            if plan is not None:
                text = f"{plan.reason}; {text}"
            return seat, Explanation(reason=text, strategy=name, score=group.rate)
    return None


def _look_ahead(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[Seat, Explanation] | None:
    """Choose the node where the step ends first; None where that one is still busy."""
    if len(turn.held) >= WINDOW:
        return _overflow(turn, step, groups, cpus, memory)
    ends = _plain_ends if turn.is_plain(step, cpus, memory) else _ends
    end, group, chosen, idle = ends(turn, step, groups, cpus, memory)
    now = turn.cluster.time
    for seat in turn.holders(step, groups, cpus, memory) if step.inputs else ():
        there = now + step.seconds / seat.group.rate + turn.transfer(step, seat)
        if there < end:
            end, group, chosen = there, seat.group, seat
    if group is None:
        return None
    if chosen is None:
        turn.keep(group, end)
        if idle is not None:
            turn.held[step.label] = idle[1].node.name, idle[0] - end
        return None
    plan = turn.costs.plan
    text = reason(step, cpus, chosen.free_cpus) if plan is None else plan.reason
    why = Explanation(
        reason=f"{text}; ends first there, in {end - now:.1f} s",
        strategy=turn.policy.strategy,
        score=group.rate,
    )
    return chosen, why


def _plain_ends(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[float, Group | None, Seat | None, tuple[float, Seat] | None]:
    """Do as `_ends` does, for a step that all nodes take."""
    now, least, seconds = turn.cluster.time, math.inf, step.seconds
    best: Group | None = None
    outlook = turn.outlook()
    for one in outlook:
        takes = seconds / one.rate
        if now + takes >= least:
            break  # the others are slower
        end = one.begin + takes
        if one.idle:
            seat = turn.cluster.first(one.group, cpus, memory)
            if seat is not None:
                end += turn.transfer(step, seat)
                if end < least:
                    return end, one.group, seat, (end, seat)
        elif end < least:
            least, best = end, one.group
    last = outlook[-1] if outlook else None
    seat = turn.cluster.first(last.group, cpus, memory) if last and last.idle else None
    if last is None or seat is None:
        return least, best, None, None
    return least, best, None, (now + seconds / last.rate, seat)


def _ends(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[float, Group | None, Seat | None, tuple[float, Seat] | None]:
    """Return where the step would end first and when: a group, and a node of it where one is idle;
    and the same for the idle nodes alone."""
    now, least = turn.cluster.time, math.inf
    best: Group | None = None
    chosen: Seat | None = None
    idle: tuple[float, Seat] | None = None
    for group in groups:
        seat = turn.cluster.first(group, cpus, memory) if group.free_cpus > 0 else None
        if seat is not None:
            end = now + step.seconds / group.rate + turn.transfer(step, seat)
            if idle is None or end < idle[0]:
                idle = end, seat
        else:
            times = turn.ends_of(group)
            if len(times) < cpus or group.memory < memory:
                continue
            begin = times[0] if cpus == 1 else heapq.nsmallest(cpus, times)[-1]
            end = (begin if begin > now else now) + step.seconds / group.rate
        if end < least:
            least, best, chosen = end, group, seat
        if seat is not None:
            break  # the others are slower; those that have inputs are looked at by themselves
    return least, best, chosen, idle


def _overflow(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[Seat, Explanation] | None:
    """Choose an idle node after many steps were kept waiting: only if the step ends there before
    the fastest nodes would have come to it, as far as all that is ready tells."""
    choice = _fastest(turn, step, groups, cpus, memory)
    if choice is not None:
        slow = step.seconds / choice[0].group.rate
        if slow <= turn.drain(groups) + step.seconds / groups[0].rate:
            return choice
    turn.stop()
    return None


def _smart(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[Seat, Explanation] | None:
    seats = turn.free_seats(groups, cpus, memory)
    if step.inputs and turn.costs.held:
        seats += turn.holders(step, groups, cpus, memory)
    weights, fastest, dearest = turn.policy.weights, turn.cluster.fastest, turn.cluster.dearest

    def local(seat: Seat) -> float:
        transfer = turn.transfer(step, seat)
        if transfer:
            return 1 - transfer / (transfer + step.seconds / seat.speed)
        return 1.0

    def score(seat: Seat) -> float:
        value = weights.speed * seat.speed / fastest + weights.load * (1 - seat.used)
        value += weights.locality * (local(seat) if step.inputs else 1.0)
        if dearest:
            value += weights.price * (1 - seat.node.price / dearest)
        else:
            value += weights.price
        return value * seat.value

    def factors(seat: Seat) -> tuple[Factor, ...]:
        node = seat.node
        price = 1 - node.price / dearest if dearest else 1.0
        unknown = "" if node.speed is not None else "speed not measured: neutral"
        return (
            Factor(name="speed", value=seat.speed / fastest, weight=weights.speed, note=unknown),
            Factor(name="locality", value=local(seat), weight=weights.locality),
            Factor(name="load", value=1 - seat.used, weight=weights.load),
            Factor(name="cost", value=price, weight=weights.price),
            Factor(name="thermal", value=seat.thermal, note=told(node.samples, node.limit)),
            Factor(name="policy", value=PREFERENCES[node.preference]),
            Factor(name="stability", value=seat.stable),
        )

    return turn.best(step, seats, score, cpus, factors)


def _least_loaded(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[Seat, Explanation] | None:
    seats = turn.free_seats(groups, cpus, memory)
    return turn.best(step, seats, lambda one: (1 - one.used) * one.value, cpus)


def _locality(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[Seat, Explanation] | None:
    seats = turn.holders(step, groups, cpus, memory) + turn.free_seats(groups, cpus, memory)
    total = sum(size for _, size in step.inputs)

    def score(seat: Seat) -> float:
        name, held = seat.node.name, turn.costs.held
        here = sum(size for key, size in step.inputs if name in held.get(key, (name,)))
        share = here / total if total else 1.0
        return (share + 1e-6 * seat.speed / turn.cluster.fastest) * seat.value

    return turn.best(step, seats, score, cpus)


def _round_robin(
    turn: Round, step: Ready, groups: Sequence[Group], cpus: int, memory: int
) -> tuple[Seat, Explanation] | None:
    seats = turn.cluster.seats
    first = turn.costs.turn + len(turn.placed)
    for number in range(len(seats)):
        seat = seats[(first + number) % len(seats)]
        if seat.has_room(cpus, memory) and seat.group in groups:
            why = reason(step, cpus, seat.free_cpus)
            return seat, Explanation(reason=f"{why}, next in turn", strategy="round_robin")
    return None


_CHOICES: Final = {
    "smart": _smart,
    "round_robin": _round_robin,
    "least_loaded": _least_loaded,
    "fastest": _fastest,
    "locality": _locality,
    "look ahead": _look_ahead,
}
