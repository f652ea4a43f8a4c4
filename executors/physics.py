"""The physics of simulated nodes: speed, heat, failures, drop-outs, and how long inputs move.

Both `executors/simulated.py`, on which real builds run in virtual time, and `engine/simulation` go
by it. Chance comes from a seed and from what it is about (a step and its attempt, a node), never
from the order in which somebody asks: so the same seed gives the same history.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from attrs import frozen

SAMPLES: Final = 16
"""Temperatures that a node's sensor remembers."""

HYSTERESIS: Final = 5.0
"""°C below the point of throttling at which full speed returns."""

ATTEMPTS: Final = 20
"""Runs of a step of which the last one does not fail, whatever the node."""


@frozen(kw_only=True)
class Heat:
    """How a node gets warm, in °C: at rest, and with all processors busy for long; it comes to 63 %
    of a change within `seconds`. From `throttle_at` on it runs at the speed times `throttled`,
    until it is 5 °C cooler. Without a sensor nobody knows."""

    idle: float = 40.0
    full: float = 80.0
    seconds: float = 60.0
    throttle_at: float = 95.0
    throttled: float = 0.5
    sensor: bool = True
    every: float = 2.0
    """Seconds between two looks at the temperature."""


@frozen(kw_only=True)
class Nature:
    """What a node is: `failures` is the share of actions that fail there for no reason of their own
    and are run again; `vanish` how often an hour it drops out, with all that runs on it, and `back`
    after how many seconds it returns (0: never)."""

    cpus: int = 1
    speed: float = 1.0
    failures: float = 0.0
    vanish: float = 0.0
    back: float = 0.0
    heat: Heat | None = None


@frozen(kw_only=True)
class Wire:
    """The network between nodes: bytes a second, and seconds until the first one arrives."""

    bandwidth: float = math.inf
    latency: float = 0.0

    @property
    def is_free(self) -> bool:
        """Whether moving inputs takes no time at all."""
        return self.bandwidth == math.inf and self.latency <= 0

    def move(
        self, held: dict[str, set[str]], inputs: Iterable[tuple[str, int]], node: str
    ) -> float:
        """Have inputs (names, bytes) on a node, note so in `held`, and return the seconds that it
        takes. What nobody holds is there already: it came with the sources."""
        total, missing = 0, False
        for name, size in inputs:
            there = held.setdefault(name, {node})
            if node not in there:
                total, missing = total + size, True
                there.add(node)
        return self.latency + total / self.bandwidth if missing else 0.0


class Attempt:
    """A run of a step: what is left of it, in seconds at speed 1, as of `since`."""

    __slots__ = ("cpus", "fails", "label", "left", "lost", "moves", "number", "since", "started",
                 "version")  # fmt: skip

    def __init__(self, number: int, label: str, cpus: int, started: float) -> None:
        self.number, self.label, self.cpus = number, label, cpus
        self.started = self.since = started
        self.left = self.moves = 0.0
        self.fails = self.lost = False
        self.version = 0


def roll(seed: int, label: str, attempt: int, error: float, failures: float) -> tuple[float, float]:
    """Return how the run of a step goes, the `attempt`-th one from 0: what its duration is to be
    multiplied by, and after which share of it it fails (1: it does not).

    Durations differ from what is expected by up to the share `error`.
    """
    dice = random.Random(f"{seed}/{label}/{attempt}")
    length = 1 + error * (2 * dice.random() - 1) if error else 1.0
    if failures and dice.random() < failures and attempt + 1 < ATTEMPTS:
        return length, dice.random()
    return length, 1.0


class Body:
    """A node as it is: what runs there, how warm it is, how fast that lets it be."""

    def __init__(self, name: str, nature: Nature, seed: int = 0) -> None:
        self.name, self.nature, self.seed = name, nature, seed
        self.heat = nature.heat
        self.running: dict[str, Attempt] = {}
        self.busy_cpus = 0
        self.busy_seconds = 0.0
        self.celsius = nature.heat.idle if nature.heat else math.nan
        self.peak = self.celsius
        self.samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self.throttled = False
        self.up = True
        self.looked = 0.0
        if nature.heat and nature.heat.sensor:
            self.samples.append((0.0, self.celsius))

    @property
    def rate(self) -> float:
        """Seconds at speed 1 that it does in a second."""
        if self.throttled and self.heat:
            return self.nature.speed * self.heat.throttled
        return self.nature.speed

    def lasts(self, now: float = 0.0) -> float:
        """Return the seconds from `now`, when it came up, until it drops out (inf: never)."""
        if not self.nature.vanish:
            return math.inf
        dice = random.Random(f"{self.seed}/vanish/{self.name}" + (f"/{now!r}" if now else ""))
        return dice.expovariate(self.nature.vanish / 3600)

    def begin(self, one: Attempt, now: float) -> None:
        """Let a step run there."""
        self.warm(now)
        self.running[one.label] = one
        self.busy_cpus += one.cpus

    def stop(self, one: Attempt, now: float) -> None:
        """Note that a step no longer runs there."""
        self.warm(now)
        del self.running[one.label]
        self.busy_cpus -= one.cpus
        self.busy_seconds += one.cpus * (now - one.started)

    def warm(self, now: float) -> None:
        """Bring the temperature up to date: a body of one capacity behind one resistance."""
        if self.heat is None:
            return
        if now > self.looked:
            share = self.busy_cpus / self.nature.cpus
            goal = self.heat.idle + (self.heat.full - self.heat.idle) * share
            self.celsius = goal + (self.celsius - goal) * math.exp(
                (self.looked - now) / self.heat.seconds
            )
            self.peak = max(self.peak, self.celsius)
            self.looked = now

    def look(self, now: float) -> bool:
        """Take a sample, throttle or not; say whether what runs there became slower or faster."""
        assert self.heat is not None
        self.warm(now)
        if self.heat.sensor:
            self.samples.append((now, self.celsius))
        rate, before = self.rate, self.throttled
        if self.celsius >= self.heat.throttle_at:
            self.throttled = True
        elif self.celsius < self.heat.throttle_at - HYSTERESIS:
            self.throttled = False
        if self.throttled == before:
            return False
        self._progress(now, rate)
        return True

    def _progress(self, now: float, rate: float) -> None:
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


class World:
    """Nodes in virtual time for whoever asks at times that do not go back: between two questions
    all happens that is due by then, at its own time and in its order."""

    def __init__(
        self, natures: Mapping[str, Nature], wire: Wire | None = None, seed: int = 0
    ) -> None:
        self.wire, self.seed = wire or Wire(), seed
        self.held: dict[str, set[str]] = {}
        self.bodies = {name: Body(name, one, seed) for name, one in natures.items()}
        self._tries: dict[str, int] = {}
        self._looks = {name: one.heat.every for name, one in natures.items() if one.heat}
        self._turns = {name: body.lasts() for name, body in self.bodies.items()}
        """When each node drops out next, or comes back."""

    def begin(
        self, node: str, label: str, seconds: float, now: float,
        inputs: Collection[tuple[str, int]] = (), cpus: int = 1, error: float = 0.0,
    ) -> Attempt:  # fmt: skip
        """Let a step run on a node, which has to be up; `seconds` at speed 1."""
        self.advance(node, now)
        body, attempt = self.bodies[node], self._tries.get(label, 0)
        one = Attempt(attempt, label, cpus, now)
        length, share = roll(self.seed, label, attempt, error, body.nature.failures)
        one.left, one.fails = seconds * length * share, share < 1
        one.moves = self.wire.move(self.held, inputs, node)
        self._tries[label] = attempt + 1
        body.begin(one, now)
        return one

    def advance(self, node: str, now: float) -> None:
        """Let all happen on a node that is due by `now`."""
        body = self.bodies[node]
        while (due := self.next(node)) <= now:
            if due >= self._turns[node]:
                self._turn(body, due)
            else:
                assert body.heat is not None
                body.look(due)
                self._looks[node] = due + body.heat.every

    def next(self, node: str) -> float:
        """Return when something happens on a node next that is not the end of a step."""
        return min(self._looks.get(node, math.inf), self._turns[node])

    def _turn(self, body: Body, now: float) -> None:
        body.up = not body.up
        if body.up:
            self._turns[body.name] = now + body.lasts(now)
            return
        for one in list(body.running.values()):
            one.lost = True
            body.stop(one, now)
        self._turns[body.name] = now + (body.nature.back or math.inf)

    def celsius(self, now: float) -> dict[str, float | None]:
        """Return the temperature that each node's sensor tells."""
        for name in self.bodies:
            self.advance(name, now)
        found: dict[str, float | None] = {}
        for name, body in self.bodies.items():
            found[name] = body.samples[-1][1] if body.samples else None
        return found

    def is_up(self, node: str, now: float) -> bool:
        """Say whether a node is there."""
        self.advance(node, now)
        return self.bodies[node].up
