"""What a simulated node does: what runs there, how warm it is, how fast that lets it be."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from engine.placement.model import Node
from engine.simulation.hardware import Heat, Machine

SAMPLES: Final = 16
"""Temperatures that a node's sensor remembers."""

HYSTERESIS: Final = 5.0
"""°C below the point of throttling at which full speed returns."""

HALF_LIFE: Final = 600.0
"""Seconds in which half of a node's failures are forgotten."""


class Attempt:
    """A run of a step: what is left of it, in seconds at speed 1, as of `since`."""

    __slots__ = ("cpus", "fails", "label", "left", "moves", "number", "since", "started", "version")

    def __init__(self, number: int, label: str, cpus: int, started: float) -> None:
        self.number, self.label, self.cpus = number, label, cpus
        self.started = self.since = started
        self.left = self.moves = 0.0
        self.fails = False
        self.version = 0


class Simulated:
    """One node while a build is simulated."""

    def __init__(self, node: Node, machine: Machine) -> None:
        self.node = node
        self.machine = machine
        self.heat: Heat | None = machine.heat
        self.speed = machine.speed or 1.0
        self.running: dict[str, Attempt] = {}
        self.busy_cpus = 0
        self.busy_seconds = 0.0
        self.celsius = machine.heat.idle if machine.heat else math.nan
        self.peak = self.celsius
        self.samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self.throttled = False
        self.up = True
        self.looked = 0.0
        self.failures = 0.0
        self.failed_at = 0.0

    @property
    def rate(self) -> float:
        """Seconds at speed 1 that it does in a second."""
        return self.speed * self.heat.throttled if self.throttled and self.heat else self.speed

    def warm(self, now: float) -> None:
        """Bring the temperature up to date: a body of one capacity behind one resistance."""
        if self.heat is not None and now > self.looked:
            share = self.busy_cpus / self.node.cpus
            goal = self.heat.idle + (self.heat.full - self.heat.idle) * share
            self.celsius = goal + (self.celsius - goal) * math.exp(
                (self.looked - now) / self.heat.seconds
            )
            self.peak = max(self.peak, self.celsius)
        self.looked = now

    def look(self, now: float) -> bool:
        """Take a sample; say whether the node became slower or faster by its heat."""
        assert self.heat is not None
        self.warm(now)
        if self.heat.sensor:
            self.samples.append((now, self.celsius))
        before = self.throttled
        if self.celsius >= self.heat.throttle_at:
            self.throttled = True
        elif self.celsius < self.heat.throttle_at - HYSTERESIS:
            self.throttled = False
        return self.throttled != before

    def progress(self, now: float, rate: float) -> None:
        """Note what was done at `rate` since the last time."""
        for one in self.running.values():
            spent = now - one.since
            moved = min(spent, one.moves)
            one.moves -= moved
            one.left = max(0.0, one.left - (spent - moved) * rate)
            one.since = now

    def end_of(self, one: Attempt) -> float:
        """Return when a run ends at the present speed."""
        return one.since + one.moves + one.left / self.rate

    def fault(self, now: float) -> None:
        """Count a failure that is the node's."""
        self.failures = self.instability(now) + 1
        self.failed_at = now

    def instability(self, now: float) -> float:
        """Return the failures that are not forgotten yet."""
        kept = self.failures * math.exp2((self.failed_at - now) / HALF_LIFE)
        return round(kept * 2) / 2

    def seen(self, now: float) -> Node:
        """Return the node as placement sees it now."""
        from store.records import evolve

        return evolve(
            self.node,
            samples=tuple((time - now, celsius) for time, celsius in self.samples),
            failures=self.instability(now),
            preference=self.node.preference if self.up else "disabled",
        )
