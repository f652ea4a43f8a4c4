"""Lower bounds: a time that no schedule of a build can beat.

Every step has a head and a tail: what has to happen before it and after it takes at least so long.
Each bound is about a set of steps with heads ≥ a and tails ≥ b, which takes at least a + b and

- what its longest step takes on the fastest lane (with a = b = 0: the critical path),
- its work over the speed of all lanes,
- for each k: the time in which the lanes can do k steps as long as its k-th longest one,
- its work, where each lane begins after a head of its own and ends before a tail of its own
  (Carlier, 1987, for lanes of one speed).

- for each k, where lanes differ: the work of k chains over the speed of the k fastest lanes, as of
  k chains no more than k steps run at a time.

Heads and tails are found in the same way: a step begins when all those before it are done, and
these are a set as above. For lanes of different speeds, last, a time is refuted: steps that a slow
lane could not do within it are left to the others, and these have to manage.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Iterable, Sequence
from typing import Final

from engine.placement.work import Work, order
from store.records import frozen

CUTS: Final = 48
"""Values of heads and of tails that are tried."""

CHAIN_CUTS: Final = 6
CHAIN_EFFORT: Final = 100_000
"""The same for chains: this divided by steps × lanes, between 2 and CHAIN_CUTS."""

CUT_EFFORT: Final = 10_000_000
"""Steps × values of heads × values of tails that are looked at: few values of very large graphs."""

HEAD_EFFORT: Final = 4_000_000
"""Pairs of steps that are looked at to find heads by all that comes before a step."""

CHAIN_VISITS: Final = 1_200_000
"""Steps that are looked at to find chains."""

CLOSE: Final = 1e-4
"""How exactly a time is refuted."""


@frozen(kw_only=True)
class Bound:
    """A lower bound in seconds, and the simple ones: the critical path on the fastest lane, and the
    work over the speed of all lanes."""

    seconds: float
    critical_path: float
    work: float


def lower_bound(work: Work, speeds: Iterable[float], cuts: int = CUTS) -> Bound:
    """Return the time that `work` takes at least on lanes of these speeds, without transfers.

    A step of several processors counts as one lane's work, as often as it holds lanes.
    """
    lanes = sorted(speeds, reverse=True)
    seconds, numbers = list(work.seconds), order(work)
    if not seconds or not lanes:
        return Bound(seconds=0.0, critical_path=0.0, work=0.0)
    wide = any(count > 1 for count in work.cpus)
    area = [s * min(c, len(lanes)) for s, c in zip(seconds, work.cpus, strict=True)]
    total = sum(area) / sum(lanes)
    counts = Counts(lanes)
    heads = _heads(work, numbers, area, counts)
    tails = _heads(work.reverse, numbers[::-1], area, counts)
    found = max(h + s / lanes[0] + t for h, s, t in zip(heads, seconds, tails, strict=True))
    path = [0.0] * len(seconds)
    for one in numbers:
        path[one] = seconds[one] + max((path[need] for need in work.needs[one]), default=0.0)
    by_length = sorted(range(len(seconds)), key=lambda one: (-seconds[one], one))
    bound = max(found, total, _sets(seconds, area, heads, tails, by_length, counts, cuts, wide))
    if lanes[0] != lanes[-1]:
        bound = max(bound, _chains(work, numbers, heads, tails, lanes))
        bound = _refuted(bound, _Times(seconds, area, heads, tails, by_length), counts)
    return Bound(seconds=bound, critical_path=max(path) / lanes[0], work=total)


class Counts:
    """How soon lanes can have done a number of steps; `lanes` are speeds, the highest first."""

    def __init__(self, lanes: Sequence[float]) -> None:
        self.lanes = lanes
        self.speed = sum(lanes)
        self._next = [(1 / speed, number, 1) for number, speed in enumerate(lanes)]
        heapq.heapify(self._next)
        self._times: list[float] = []

    def first(self, lanes: int) -> Counts:
        """Return the same for the first few lanes."""
        return Counts(self.lanes[:lanes])

    def longest(self, lengths: Sequence[float]) -> float:
        """Return the time that steps (their seconds, the longest first) take at least."""
        while len(self._times) < len(lengths):
            time, number, done = self._next[0]
            self._times.append(time)
            later = ((done + 1) / self.lanes[number], number, done + 1)
            heapq.heapreplace(self._next, later)
        found = max(map(float.__mul__, map(float, lengths), self._times), default=0.0)
        count = len(self.lanes)
        if self.lanes[0] == self.lanes[-1]:  # of k × lanes + 1 steps one lane does k + 1
            for k in range(1, (len(lengths) - 1) // count + 1):
                found = max(found, sum(lengths[k * count - k : k * count + 1]) / self.lanes[0])
        work = speed = 0.0
        for length, lane in zip(lengths, self.lanes, strict=False):
            work += length
            speed += lane
            found = max(found, work / speed)
        return found

    def within(self, area: float, heads: Iterable[float], tails: Iterable[float]) -> float:
        """Return the time for some work where the lanes begin and end by different heads and tails:
        the fastest lane by the least ones."""
        count = len(self.lanes)
        least = zip(heapq.nsmallest(count, heads), heapq.nsmallest(count, tails), strict=True)
        speed = 0.0
        for lane, (head, tail) in zip(self.lanes, least, strict=False):
            if speed and area / speed <= head + tail:
                break
            speed += lane
            area += lane * (head + tail)
        return area / speed


def _heads(
    work: Work, numbers: Sequence[int], area: Sequence[float], counts: Counts
) -> list[float]:
    """Return how long it takes at least until each step can begin."""
    heads = [0.0] * len(numbers)
    before = [0] * len(numbers)
    done: list[tuple[float, int]] = []
    seconds, fastest = work.seconds, counts.lanes[0]
    budget = HEAD_EFFORT
    for one in numbers:
        needs, head, known = work.needs[one], 0.0, 0
        for need in needs:
            head = max(head, heads[need] + seconds[need] / fastest)
            if budget > 0:
                known |= before[need] | 1 << need
        before[one] = known
        if len(needs) > 1:
            direct = sorted((seconds[need] for need in needs), reverse=True)
            head = max(head, min(heads[need] for need in needs) + counts.longest(direct))
            budget -= len(done)
            if budget > 0:
                head = max(head, _all_before(known, done, area, counts.speed))
        heads[one] = head
        insort(done, (head, one))
    return heads


def _all_before(
    known: int, done: Sequence[tuple[float, int]], area: Sequence[float], speed: float
) -> float:
    """Return the time until all of some steps (bits of `known`) can be done, by their work."""
    bits = f"{known:b}"[::-1]
    found = total = 0.0
    length = len(bits)
    for head, one in reversed(done):
        if one < length and bits[one] == "1":
            total += area[one]
            found = max(found, head + total / speed)
    return found


def _cut(values: Iterable[float], cuts: int) -> list[float]:
    """Return some of the values, the least and the greatest among them."""
    all_of_them = sorted(set(values))
    last = len(all_of_them) - 1
    if last < cuts:
        return all_of_them
    return [all_of_them[place * last // (cuts - 1)] for place in range(cuts)]


def _sets(
    seconds: Sequence[float],
    area: Sequence[float],
    heads: Sequence[float],
    tails: Sequence[float],
    by_length: Sequence[int],
    counts: Counts,
    cuts: int,
    wide: bool,
) -> float:
    """Return the greatest of the bounds of sets of steps by head and tail."""
    found = 0.0
    cuts = max(4, min(cuts, math.isqrt(CUT_EFFORT // len(seconds))))
    ends = _cut(tails, cuts)
    for head in _cut(heads, cuts):
        later = [one for one in by_length if heads[one] >= head]
        for tail in ends:
            some = [one for one in later if tails[one] >= tail]
            if not some:
                break
            rest = counts.longest([seconds[one] for one in some])
            work = sum([area[one] for one in some])
            found = max(found, head + tail + max(rest, work / counts.speed))
            if not wide:
                starts, ends_ = [heads[one] for one in some], [tails[one] for one in some]
                found = max(found, counts.within(work, starts, ends_))
    return found


def _chains(
    work: Work,
    numbers: Sequence[int],
    heads: Sequence[float],
    tails: Sequence[float],
    lanes: Sequence[float],
) -> float:
    """Return the greatest of the bounds of chains of steps, by head and tail."""
    found = 0.0
    cuts = max(2, min(CHAIN_CUTS, CHAIN_EFFORT // (len(numbers) * len(lanes))))
    visits = 0
    for head in _cut(heads, cuts):
        later = [one for one in numbers if heads[one] >= head]
        for tail in _cut(tails, cuts):
            left = {one for one in later if tails[one] >= tail}
            done = speed = 0.0
            for lane in lanes[:-1]:
                visits += len(later)
                if visits > CHAIN_VISITS:
                    return found
                chain = _longest_chain([one for one in later if one in left], left, work)
                if not chain:
                    break
                left.difference_update(chain)
                done += sum(work.seconds[one] for one in chain)
                speed += lane
                found = max(found, head + tail + done / speed)
    return found


def _longest_chain(numbers: Sequence[int], within: set[int], work: Work) -> list[int]:
    """Return the chain of most seconds of some steps, given needed ones first."""
    length: dict[int, float] = {}
    before: dict[int, int] = {}
    last, longest = -1, -1.0
    for one in numbers:
        most, best = 0.0, -1
        for need in work.needs[one]:
            if need in within and length[need] > most:
                most, best = length[need], need
        before[one] = best
        length[one] = total = most + work.seconds[one]
        if total > longest:
            last, longest = one, total
    chain = []
    while last >= 0:
        chain.append(last)
        last = before[last]
    return chain


@frozen(eq=False)
class _Times:
    seconds: Sequence[float]
    area: Sequence[float]
    heads: Sequence[float]
    tails: Sequence[float]
    by_length: Sequence[int]


def _refuted(bound: float, times: _Times, counts: Counts) -> float:
    """Return the greatest time found that is impossible where lanes differ, at least `bound`."""
    lanes = counts.lanes
    firsts = [counts.first(n) for n in range(1, len(lanes)) if lanes[n] != lanes[n - 1]]
    if len(firsts) > 64 or len(times.seconds) > 20_000:
        return bound
    low, high = bound, bound * 2
    if _possible(low * (1 + CLOSE), times, firsts, lanes):
        return bound
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        if _possible(middle, times, firsts, lanes):
            high = middle
        else:
            low = middle
    return low


def _possible(
    limit: float, times: _Times, firsts: Sequence[Counts], lanes: Sequence[float]
) -> bool:
    """Say whether the first lanes can do within `limit` what the others cannot."""
    heads, tails, seconds = times.heads, times.tails, times.seconds
    left: Sequence[int] = times.by_length
    for first in reversed(firsts):  # the fewer lanes are left to the others, the fewer steps
        nth = lanes[len(first.lanes)]
        some = [one for one in left if heads[one] + seconds[one] / nth + tails[one] > limit]
        if not some:
            break
        left = some
        starts, ends = [heads[one] for one in some], [tails[one] for one in some]
        work = sum([seconds[one] for one in some])
        if first.within(work, starts, ends) > limit:
            return False
        if min(starts) + min(ends) + first.longest([seconds[one] for one in some]) > limit:
            return False
    return True
