"""Schedules of a whole build on lanes: the candidates among which a portfolio chooses.

A lane is one processor of a node; lanes of one speed are a group. Steps of several processors are
planned as if they held one, and memory is not looked at: whoever follows a schedule does.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Sequence
from typing import Final, TypeAlias

from engine.placement.work import Work, order
from store.records import frozen

Gap: TypeAlias = tuple[float, float]

WINDOW: Final = 16
"""Steps that may be kept waiting, at one time, for lanes that are faster than those that are idle;
beyond, all that is ready is looked at as a whole."""


@frozen(eq=False)
class Lanes:
    """Groups of lanes, the fastest first: the speed of each, and when its lanes are free."""

    speeds: Sequence[float]
    free: Sequence[Sequence[float]]

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return sum(map(len, self.free))


@frozen(eq=False)
class Schedule:
    """When each step starts and ends, and in which group of lanes; the last end."""

    starts: Sequence[float]
    ends: Sequence[float]
    groups: Sequence[int]
    makespan: float


def lanes_of(speeds: Sequence[float]) -> Lanes:
    """Return lanes of these speeds, all of them free at 0."""
    different = sorted(set(speeds), reverse=True)
    return Lanes(different, [[0.0] * speeds.count(one) for one in different])


class _Run:
    """A schedule while it is made in the order of time."""

    def __init__(self, work: Work, earliest: Sequence[float]) -> None:
        count = len(work)
        self.work = work
        self.starts, self.ends, self.groups = [0.0] * count, [0.0] * count, [0] * count
        self.missing = [len(needs) for needs in work.needs]
        self.events: list[tuple[float, int, int]] = []
        """What happens when: step and group, where a lane becomes free; group -1, where a step may
        start that had to wait for something else."""
        self.running = 0
        for number, time in enumerate(earliest):
            if time > 0:
                self.missing[number] += 1
                heapq.heappush(self.events, (time, number, -1))

    def ready(self) -> list[int]:
        return [number for number, missing in enumerate(self.missing) if not missing]

    def start(self, step: int, group: int, time: float, speed: float) -> float:
        end = time + self.work.seconds[step] / speed
        self.starts[step], self.ends[step], self.groups[step] = time, end, group
        heapq.heappush(self.events, (end, step, group))
        return end

    def next(self) -> tuple[float, list[int], list[tuple[float, int]]]:
        """Return the next time, the steps that are ready then, and lanes that are free: the time
        that was noted for them, and their group."""
        time = self.events[0][0]
        found: list[int] = []
        free: list[tuple[float, int]] = []
        while self.events and self.events[0][0] <= time:
            end, step, group = heapq.heappop(self.events)
            if group >= 0:
                free.append((end, group))
            for other in self.work.after[step] if group >= 0 and step >= 0 else (step,):
                if other < 0:
                    continue
                self.missing[other] -= 1
                if not self.missing[other]:
                    found.append(other)
        return time, found, free

    def done(self) -> Schedule:
        return Schedule(self.starts, self.ends, self.groups, max(self.ends, default=0.0))


def never_idle(
    work: Work, lanes: Lanes, priority: Sequence[float] | None, earliest: Sequence[float] = ()
) -> Schedule:
    """Start whatever is ready on the fastest free lane: least `priority` first, None for in the
    order in which they became ready."""
    run = _Run(work, earliest)
    free: list[int] = []
    for group, times in enumerate(lanes.free):
        for time in times:
            if time > 0:
                heapq.heappush(run.events, (time, -1, group))
            else:
                free.append(group)
    heapq.heapify(free)
    ready = [(priority[one] if priority else 0.0, one) for one in run.ready()]
    heapq.heapify(ready)
    now, turn = 0.0, 0
    while True:
        while ready and free:
            step, group = heapq.heappop(ready)[1], heapq.heappop(free)
            run.start(step, group, now, lanes.speeds[group])
        if not run.events:
            return run.done()
        now, steps, gone = run.next()
        turn += 1
        for _, group in gone:
            heapq.heappush(free, group)
        for step in steps:
            heapq.heappush(ready, (priority[step] if priority else float(turn), step))


class _Ahead:
    """The lanes of a schedule that looks ahead: what is idle, and when what runs ends."""

    def __init__(self, run: _Run, lanes: Lanes) -> None:
        self.speeds = lanes.speeds
        self.groups = [group for group, times in enumerate(lanes.free) if times]
        self.free = [0] * len(self.speeds)
        self.speed = sum(self.speeds[one] * len(lanes.free[one]) for one in self.groups)
        self.backlog = 0
        """Microseconds at speed 1 of all that is ready."""
        self.ends: list[list[float]] = [[] for _ in self.speeds]
        for group in self.groups:
            for time in lanes.free[group]:
                if time > 0:
                    heapq.heappush(run.events, (time, -1, group))
                    insort(self.ends[group], time)
                else:
                    self.free[group] += 1

    def start(self, run: _Run, ready: list[tuple[float, int]], now: float) -> None:
        """Start what ends first on an idle lane; the others stay in `ready`, a heap."""
        left: list[tuple[float, int]] = []
        kept: list[list[float] | None] = [None] * len(self.speeds)
        free, ends, speeds, seconds = self.free, self.ends, self.speeds, run.work.seconds
        while ready and any(free):
            rank, step = heapq.heappop(ready)
            if len(left) < WINDOW:
                best, least = self._first(seconds[step], now, kept)
            else:
                best = next(one for one in self.groups if free[one])
                least = now + seconds[step] / speeds[best]
                drained = now + self.backlog / 1e6 / self.speed
                if least > drained + seconds[step] / speeds[self.groups[0]]:
                    left.append((rank, step))
                    break
            if free[best]:
                free[best] -= 1
                self.backlog -= round(seconds[step] * 1e6)
                insort(ends[best], run.start(step, best, now, speeds[best]))
                kept[best] = None
            else:
                times = kept[best] = kept[best] or ends[best][:]
                heapq.heapreplace(times, least)
                left.append((rank, step))
        for one in left:
            heapq.heappush(ready, one)

    def _first(
        self, seconds: float, now: float, kept: Sequence[list[float] | None]
    ) -> tuple[int, float]:
        """Return the group of lanes where a step would end first, and when."""
        best, least = -1, math.inf
        for group in self.groups:
            begin = now if self.free[group] else (kept[group] or self.ends[group])[0]
            end = begin + seconds / self.speeds[group]
            if end < least:
                best, least = group, end
            if self.free[group]:
                break  # the others are slower
        return best, least


def look_ahead(
    work: Work, lanes: Lanes, priority: Sequence[float], earliest: Sequence[float] = ()
) -> Schedule:
    """Start what is ready where it would end first, least `priority` first; where that is a lane
    that is still busy, it is kept for the step, and a slower lane may stay idle."""
    run = _Run(work, earliest)
    ahead = _Ahead(run, lanes)
    ready = sorted((priority[one], one) for one in run.ready())
    ahead.backlog = sum(round(work.seconds[one] * 1e6) for _, one in ready)
    now = 0.0
    while True:
        ahead.start(run, ready, now)
        if not run.events:
            return run.done()
        now, steps, gone = run.next()
        for end, group in gone:
            ahead.ends[group].remove(end)
            ahead.free[group] += 1
        for step in steps:
            ahead.backlog += round(work.seconds[step] * 1e6)
            heapq.heappush(ready, (priority[step], step))


def insertion(
    work: Work, lanes: Lanes, steps: Sequence[int], earliest: Sequence[float] = ()
) -> Schedule:
    """Put one step after the other where it ends first, also before what was put there already:
    HEFT (Topcuoglu et al., 2002). `steps` has needed ones first."""
    count = len(work)
    starts, ends, groups = [0.0] * count, [0.0] * count, [0] * count
    gaps: list[list[Gap]] = [sorted((time, math.inf) for time in times) for times in lanes.free]
    shortest = min((seconds for seconds in work.seconds if seconds), default=0.0)
    seconds, needs, speeds = work.seconds, work.needs, lanes.speeds
    for step in steps:
        begin = earliest[step] if earliest else 0.0
        for need in needs[step]:
            if ends[need] > begin:
                begin = ends[need]
        least, best, gap = _first_gap(gaps, speeds, begin, seconds[step])
        free, until = gaps[best].pop(gap)
        start = max(free, begin)
        if start - free >= shortest / speeds[best] and start > free:
            insort(gaps[best], (free, start))
        if until - least >= shortest / speeds[best]:
            insort(gaps[best], (least, until))
        starts[step], ends[step], groups[step] = start, least, best
    return Schedule(starts, ends, groups, max(ends, default=0.0))


def _first_gap(
    gaps: Sequence[Sequence[Gap]], speeds: Sequence[float], begin: float, seconds: float
) -> tuple[float, int, int]:
    """Return when a step can end first, and the group and the place of the gap for it."""
    least, best, gap = math.inf, 0, 0
    for group, speed in enumerate(speeds):
        takes = seconds / speed
        if begin + takes >= least:
            break  # the others are slower
        for place, (free, until) in enumerate(gaps[group]):
            if free >= begin:
                if free + takes >= least:
                    break
                if free + takes <= until:
                    least, best, gap = free + takes, group, place
                    break
            elif begin + takes < least and begin + takes <= until:
                least, best, gap = begin + takes, group, place
    return least, best, gap


def on_the_fastest(work: Work, lanes: Lanes) -> Schedule:
    """Run everything on one of the fastest lanes, one step after another."""
    group = next(group for group, times in enumerate(lanes.free) if times)
    first = Lanes(lanes.speeds[group : group + 1], [sorted(lanes.free[group])[:1]])
    return never_idle(work, first, None)


def back_and_forth(work: Work, lanes: Lanes, schedule: Schedule, rounds: int) -> Schedule:
    """Improve a schedule: pack it from its end, then again from its beginning, as long as it gets
    shorter (forward-backward improvement; Li and Willis, 1992). Lanes are free at 0."""
    places = [0] * len(work)
    for place, step in enumerate(order(work)):
        places[step] = place
    best, reverse = schedule, work.reverse
    for _ in range(rounds):
        ends = best.ends
        steps = sorted(range(len(work)), key=lambda one: (-ends[one], -places[one]))
        back = insertion(reverse, lanes, steps)
        late = back.ends  # the time from here to the end of all
        steps = sorted(range(len(work)), key=lambda one: (-late[one], places[one]))
        again = insertion(work, lanes, steps)
        if again.makespan >= best.makespan * (1 - 1e-9):
            break
        best = again
    return best
