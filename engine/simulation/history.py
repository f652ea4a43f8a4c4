"""What a simulation was: every event in order, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from attrs import frozen

from engine.placement.bounds import Bound


@frozen
class Run:
    """A step that ran on a node from `start` to `end` (seconds), and how that ended: "ended",
    "failed" or "vanished"; `why` is the explanation of its placement."""

    label: str
    node: str
    start: float
    end: float
    outcome: str
    cpus: int
    why: str = ""


@frozen(kw_only=True)
class NodeReport:
    """How a node fared: seconds × processors that it was busy, its processors, and its highest
    temperature in °C, None where it has no heat."""

    name: str
    cpus: int
    busy: float
    peak: float | None

    def utilisation(self, makespan: float) -> float:
        """Return the share of its processors' time that it was busy, 0 to 1."""
        return self.busy / (self.cpus * makespan) if makespan else 0.0


@frozen(kw_only=True)
class History:
    """A simulated build, in seconds of virtual time."""

    makespan: float
    bound: Bound
    runs: tuple[Run, ...]
    nodes: tuple[NodeReport, ...]
    plans: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The makespan over its lower bound."""
        return self.makespan / self.bound.seconds if self.bound.seconds else 1.0

    @property
    def utilisation(self) -> float:
        """The share of all processors' time that they were busy."""
        room = sum(one.cpus for one in self.nodes) * self.makespan
        return sum(one.busy for one in self.nodes) / room if room else 0.0

    def lines(self) -> Iterator[str]:
        """Yield the history as JSON, one run a line, in the order of their starts."""
        for one in sorted(self.runs, key=lambda run: (run.start, run.node, run.label, run.end)):
            row = [round(one.start, 6), round(one.end, 6), one.label, one.node, one.outcome]
            yield json.dumps(row, separators=(",", ":"))

    def placements(self) -> list[tuple[float, str, str]]:
        """Return time, step and node of each start, in order."""
        return sorted((round(one.start, 6), one.label, one.node) for one in self.runs)


def encoded(lines: Iterable[str]) -> bytes:
    """Return lines as bytes."""
    return "".join(f"{line}\n" for line in lines).encode()
