"""What a build took against the least that it could have taken on the same processors."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from operator import mul
from typing import Any, Final

from engine.placement import Node
from store.records import frozen

DEAR: Final = 4e-6
"""Seconds that a build has to take, for each pair of its steps, so that every bound is computed:
that takes about a hundredth of it. Else only the simple ones are."""

FULL: Final = 10_000
"""Steps up to which every bound is computed at all."""

CUTS: Final = 12
"""Values of heads and tails that are tried: few, as a build waits for it."""

SHARP: Final = "critical path, work, k-longest, head+work+tail"
SIMPLE: Final = "critical path, work"
CHAIN: Final = "critical path"


@frozen(kw_only=True)
class Makespan:
    """Seconds from the beginning of the loop until the last action ended, the lower `bound` and
    which kinds of bounds that is the greatest of, and the share (0 to 1) of the processors' time in
    which actions ran, by what they hold.

    The bound takes the durations as they were and knows no limit of memory.
    """

    seconds: float
    bound: float
    bounds: str
    processors: int
    utilisation: float

    @property
    def ratio(self) -> float:
        """How many times the bound it took."""
        return self.seconds / self.bound if self.bound else 1.0

    def document(self) -> dict[str, Any]:
        """Return its JSON form."""
        return {
            "makespan": round(self.seconds, 4),
            "bound": round(self.bound, 4),
            "bounds": self.bounds,
            "ratio": round(self.ratio, 4),
            "processors": self.processors,
            "utilisation": round(self.utilisation, 4),
        }


@frozen
class Took:
    """What ran: its seconds, the processors that it held, and where."""

    seconds: float
    cpus: int
    node: str


class Clock:
    """Notes what ran, for the end of the build."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._names = tuple(self._nodes)
        self._labels: list[str] = []
        self._seconds = array("d")
        self._cpus = array("l")
        self._on = array("l")
        self._last = 0.0

    def ran(self, label: str, took: Took, now: float) -> None:
        """Note that an action ended `now` (seconds since the build began)."""
        self._labels.append(label)
        self._seconds.append(took.seconds)
        self._cpus.append(took.cpus)
        self._on.append(self._names.index(took.node))
        self._last = now

    def makespan(
        self, needs: Mapping[str, Iterable[str]], numbers: Mapping[str, int] | None = None
    ) -> Makespan | None:
        """Return what the build took, None where nothing ran; `needs` are the steps of the plan
        that were not cached, needed ones first, with what they need; `numbers` count these, and
        maybe others, from 0."""
        if not self._labels:
            return None
        numbers = {label: n for n, label in enumerate(needs)} if numbers is None else numbers
        bound, bounds = self._bound(needs, numbers)
        cpus = sum(node.cpus for node in self._nodes.values())
        area = sum(map(mul, self._seconds, self._cpus))
        seconds = max(self._last, bound)
        return Makespan(
            seconds=seconds,
            bound=bound,
            bounds=bounds,
            processors=cpus,
            utilisation=min(1.0, area / (cpus * seconds)) if seconds else 0.0,
        )

    def _bound(
        self, needs: Mapping[str, Iterable[str]], numbers: Mapping[str, int]
    ) -> tuple[float, str]:
        speeds = self._speeds()
        by_node = [speeds[name] for name in self._names]
        work = array("d", [0.0]) * len(numbers)
        for label, seconds, node in zip(self._labels, self._seconds, self._on, strict=True):
            work[numbers[label]] = seconds * by_node[node]
        fastest = max(speeds.values())
        path = array("d", [0.0]) * len(numbers)
        for label, below in needs.items():
            before = [path[number] for one in below if (number := numbers.get(one)) is not None]
            number = numbers[label]
            path[number] = max(before, default=0.0) + work[number]
        longest = max(path, default=0.0) / fastest
        if math.isclose(longest, sum(work) / fastest):
            return longest, CHAIN
        lanes = [speeds[node.name] for node in self._nodes.values() for _ in range(node.cpus)]
        if len(needs) > FULL or self._last < DEAR * len(needs) ** 2:
            ran = map(numbers.__getitem__, self._labels)
            area = sum(map(mul, map(work.__getitem__, ran), self._cpus))
            return max(longest, area / sum(lanes)), SIMPLE
        from engine.placement.bounds import lower_bound
        from engine.placement.work import make_work

        each = {label: work[numbers[label]] for label in needs}
        cpus = dict(zip(self._labels, self._cpus, strict=True))
        return lower_bound(make_work(each, needs, cpus), lanes, CUTS).seconds, SHARP

    def _speeds(self) -> dict[str, float]:
        """Return the speeds of the nodes; where it was not measured, the mean of the others."""
        known = [node.speed for node in self._nodes.values() if node.speed]
        neutral = sum(known) / len(known) if known else 1.0
        return {name: node.speed or neutral for name, node in self._nodes.items()}
