"""A build in virtual time, event by event: the placement is that of real builds, all else made up.

The same work, hardware, policy and seed give the same history, byte for byte.
"""

from __future__ import annotations

import heapq
from typing import Final

from attrs import frozen

from engine.placement.bounds import Bound, lower_bound
from engine.placement.model import Costs, Placement, Policy, Ready
from engine.placement.placer import Placer
from engine.placement.work import Work, ranks
from engine.simulation.hardware import Hardware
from engine.simulation.history import History, NodeReport, Run
from engine.simulation.state import Simulated
from executors.physics import Attempt, roll
from store.records import evolve

PATIENCE: Final = 1.0
"""Seconds after which placement is asked again where something waits and nothing happens."""

END, LOOK, VANISH, BACK, ASK = range(5)


@frozen(kw_only=True)
class Settings:
    """How to simulate: what the random numbers come from, by what share durations differ from what
    is expected at most, whether to keep explanations and to compute the bound."""

    policy: Policy = Policy(strategy="portfolio")
    seed: int = 0
    error: float = 0.0
    explain: bool = False
    bound: bool = True
    first_come: bool = False
    """Whether steps are looked at as they became ready, not the longest chain first."""
    targets: tuple[str, ...] = ()
    """The target of each step, where nodes are kept for targets."""


def simulate(work: Work, hardware: Hardware, settings: Settings | None = None) -> History:
    """Run `work` on `hardware` and return what happened."""
    return _Simulation(work, hardware, settings or Settings()).run()


class _Simulation:
    def __init__(self, work: Work, hardware: Hardware, settings: Settings) -> None:
        self.work, self.settings = work, settings
        named, seed = hardware.named(), settings.seed
        self.nodes = {node.name: Simulated(node, one, seed) for node, one in named}
        self.wire = hardware.wire
        self.moves = not self.wire.is_free
        self.costs = Costs(bandwidth=self.wire.bandwidth, latency=self.wire.latency)
        self.held: dict[str, set[str]] = {}
        self.rank = ranks(work)
        seats = [one.node for one in self.nodes.values()]
        self.placer = Placer(seats, settings.policy, self.costs, work)
        if self.moves:
            self.placer.where(self.held)
        self.events: list[tuple[float, int, int, str, int]] = []
        self.count = self.came = 0
        self.missing = [len(needs) for needs in work.needs]
        self.tries = [0] * len(work)
        self.took = list(work.seconds)
        """Seconds at speed 1 that each step really takes."""
        self.numbers = {label: number for number, label in enumerate(work.labels)}
        self.runs: list[Run] = []
        self.left = len(work)
        self.reasons: dict[str, Placement] = {}
        self.asked = -1.0
        self.uneven = settings.error or any(one.nature.failures for one in self.nodes.values())

    def run(self) -> History:
        now = last = 0.0
        for name, one in self.nodes.items():
            if one.heat is not None:
                self._later(one.heat.every, LOOK, name)
                if one.heat.sensor:
                    self.placer.update(one.seen(now))
            if one.nature.vanish:
                self._later(one.lasts(), VANISH, name)
        for number, missing in enumerate(self.missing):
            if not missing:
                self._ready(number, now)
        while self.left:
            for placement in self.placer.decide(now):
                self._start(placement, now)
            if not self.events or (not self.running and not self._may_go_on(now)):
                break
            now = self.events[0][0]
            while self.events and self.events[0][0] <= now:
                _, _, kind, name, version = heapq.heappop(self.events)
                if kind == END:
                    last = now if self._end(now, name, version) else last
                else:
                    self._happen(now, kind, name)
        return self._history(last)

    @property
    def running(self) -> int:
        """How many steps run."""
        return self.placer.cluster.running

    def _may_go_on(self, now: float) -> bool:
        """Say whether time alone can help where nothing runs: a node may return or cool down."""
        if all(one.heat is None and (one.up or not one.nature.back) for one in self.nodes.values()):
            return False
        if self.asked <= now:
            self.asked = now + PATIENCE
            self._later(self.asked, ASK, "")
        return now < 1e7

    def _later(self, time: float, kind: int, name: str, version: int = 0) -> None:
        self.count += 1
        heapq.heappush(self.events, (time, self.count, kind, name, version))

    def _ready(self, number: int, now: float) -> None:
        work = self.work
        label = work.labels[number]
        inputs = self._inputs(number) if self.moves else ()
        self.came += 1
        targets = self.settings.targets
        step = Ready(
            label=label,
            rank=-self.came if self.settings.first_come else self.rank[number],
            cpus=work.cpus[number],
            memory=work.memory[number],
            seconds=work.seconds[number],
            target=targets[number] if targets else "",
            inputs=inputs,
        )
        self.placer.add(step, now)

    def _start(self, placement: Placement, now: float) -> None:
        number = self.numbers[placement.label]
        node = self.nodes[placement.node]
        one = Attempt(number, placement.label, placement.cpus, now)
        one.left = self.work.seconds[number]
        if self.uneven:
            self._roll(one, node)
        if self.moves:
            one.moves = self.wire.move(self.held, self._inputs(number), placement.node)
        self.tries[number] += 1
        node.begin(one, now)
        if self.settings.explain:
            self.reasons[one.label] = placement
        self._later(node.end_of(one), END, f"{node.node.name}\0{one.label}", one.version)

    def _roll(self, one: Attempt, node: Simulated) -> None:
        settings, attempt = self.settings, self.tries[one.number]
        failures = node.nature.failures
        length, share = roll(settings.seed, one.label, attempt, settings.error, failures)
        if settings.error:
            one.left *= length
            self.took[one.number] = one.left
        if share < 1:
            one.fails = True
            one.left *= share

    def _inputs(self, number: int) -> tuple[tuple[str, int], ...]:
        """Return what a step reads, and the bytes of it."""
        work = self.work
        return tuple((work.labels[need], work.sizes[need]) for need in work.needs[number])

    def _stop(self, node: Simulated, one: Attempt, now: float, outcome: str) -> None:
        node.stop(one, now)
        why = str(self.reasons.pop(one.label).explanation) if self.settings.explain else ""
        self.runs.append(Run(one.label, node.node.name, one.started, now, outcome, one.cpus, why))
        self.placer.end(one.label, now, done=outcome == "ended")

    def _end(self, now: float, name: str, version: int) -> bool:
        where, _, label = name.partition("\0")
        node = self.nodes[where]
        one = node.running.get(label)
        if one is None or one.version != version:
            return False
        if one.fails:
            self._stop(node, one, now, "failed")
            node.fault(now)
            self.placer.update(node.seen(now))
            self._ready(one.number, now)
            return True
        self._stop(node, one, now, "ended")
        if self.moves:
            self.held.setdefault(label, set()).add(where)
        self.left -= 1
        for other in self.work.after[one.number]:
            self.missing[other] -= 1
            if not self.missing[other]:
                self._ready(other, now)
        return True

    def _happen(self, now: float, kind: int, name: str) -> None:
        node = self.nodes.get(name)
        if kind == LOOK and node is not None and node.heat is not None:
            self._look(now, name)
            self._later(now + node.heat.every, LOOK, name)
        elif kind == VANISH and node is not None:
            node.up = False
            node.fault(now)
            self.placer.update(node.seen(now))
            for one in list(node.running.values()):
                self._stop(node, one, now, "vanished")
                self._ready(one.number, now)
            if node.nature.back:
                self._later(now + node.nature.back, BACK, name)
        elif kind == BACK and node is not None:
            node.up = True
            self.placer.update(node.seen(now))
            self._later(now + node.lasts(now), VANISH, name)

    def _look(self, now: float, name: str) -> None:
        node = self.nodes[name]
        if node.look(now):
            for one in node.running.values():
                one.version += 1
                self._later(node.end_of(one), END, f"{name}\0{one.label}", one.version)
        if node.heat is not None and node.heat.sensor:
            self.placer.update(node.seen(now))

    def _history(self, makespan: float) -> History:
        none = Bound(seconds=0.0, critical_path=0.0, work=0.0)
        widest = max(one.node.cpus for one in self.nodes.values())
        work = evolve(
            self.work,
            seconds=self.took,
            cpus=[min(count, widest) for count in self.work.cpus],
        )
        speeds = [one.nature.speed for one in self.nodes.values() for _ in range(one.node.cpus)]
        done = {run.label for run in self.runs if run.outcome == "ended"}
        return History(
            makespan=makespan,
            bound=lower_bound(work, speeds) if self.settings.bound else none,
            runs=tuple(self.runs),
            nodes=tuple(
                NodeReport(
                    name=name,
                    cpus=one.node.cpus,
                    busy=one.busy_seconds,
                    peak=None if one.heat is None else one.peak,
                )
                for name, one in self.nodes.items()
            ),
            plans=(
                *(plan.name for plan in self.placer.plans),
                *(() if self.placer.steady else ("look ahead, as nodes changed",)),
            ),
            unfinished=tuple(label for label in self.work.labels if label not in done)
            if self.left
            else (),
        )
