"""Seats on the nodes of one machine: the placement decides, for the whole build."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from engine.pins import Pins
from engine.placement import Node, Ready
from engine.placement.model import Placement
from engine.placement.placer import Placer
from engine.placement.thermal import RECENT, headroom, told
from engine.placement.work import Work
from engine.places import Places
from engine.seats import MEMORY, SHORT, Needs, Turn, plain
from store.records import evolve

HALF_LIFE: Final = 600.0
"""Seconds in which half of a node's failures are forgotten."""

FORGOTTEN: Final = 0.05
"""Failures below which there are none."""

AGAIN: Final = 10.0
"""Seconds after which it is looked at again how much of a node's failures is forgotten."""

OFTEN: Final = 4
"""Looks within `max_wait` at whether something waited for so long."""


class SeveralNodes:
    """Seats on the nodes of `places`, for the steps in `work`.

    The nodes share the machine's memory. The placement sees all of it in each of them, so what it
    gives away is counted here once more: a step that would take more than is left is put aside,
    and with it all that need memory and come after it, until there is room.
    """

    def __init__(
        self,
        places: Places,
        work: Work,
        needs: Needs,
        classes: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._needs = needs
        self._classes = classes
        self._placer = Placer(places.nodes, places.policy, work=work)
        self._numbers = {label: number for number, label in enumerate(work.labels)}
        self._work = work
        self._pins = Pins.of(places)
        self._memory = self._free = places.memory
        self._aside: list[Ready] = []
        self._waiting: dict[str, tuple[Ready, str, bytes, float, bool]] = {}
        self._short_of: dict[str, str] = {}
        self._ended = ""
        self._nodes = {node.name: node for node in places.nodes}
        self._samples: dict[str, deque[tuple[float, float]]] = {}
        self._heat = dict.fromkeys(self._nodes, places.no_heat) if places.no_heat else {}
        """The temperature of each node, in words, once somebody looked."""
        self._hot: dict[str, str] = {}
        self._failures: dict[str, tuple[float, float]] = {}
        """Of each node, how many failures were not forgotten, and when that was so."""
        self._seen = -AGAIN
        waits = [places.policy.max_wait / OFTEN] if places.policy.max_wait < float("inf") else []
        heat = [places.thermometer.every] if places.thermometer else []
        self.every = max(0.05, min([*waits, *heat])) if waits or heat else None
        """Seconds after which to look again though nothing ended; None: no need to."""

    def add(self, label: str, rank: float, reason: str, input_root: bytes) -> None:
        """Let a step wait for its turn."""
        now = self.clock()
        cpus, memory, learned = self._needs.of(label)
        seconds = self._work.seconds[self._numbers[label]]
        step = Ready(
            label=label,
            rank=rank,
            cpus=cpus,
            memory=memory,
            seconds=seconds,
            target=self._classes.get(label, ""),
        )
        self._waiting[label] = (step, reason, input_root, now, learned)
        self._placer.add(step, now)

    def take(self) -> list[Turn]:
        """Return what starts now; each has its room until `end` or `drop`."""
        now = self.clock()
        if self._failures and now - self._seen >= AGAIN:
            self._see(now, self._failures)
        self._bring_back(now)
        turns = []
        for placement in self._placer.decide(now):
            step, reason, input_root, since, learned = self._waiting[placement.label]
            if placement.memory and (self._aside or placement.memory > self._free):
                self._placer.withdraw(placement.label, again=True)
                self._aside.append(step)
                self._short_of[placement.label] = MEMORY
                continue
            del self._waiting[placement.label]
            self._free -= placement.memory
            pinned = self._pins.take(placement.node, placement.cpus) if self._pins else ()
            why = self._why(placement, step, pinned, learned)
            if now - since >= SHORT:
                short = self._short_of.pop(placement.label, "")
                if not short:
                    short = f"node {placement.node} because no node had room for it"
                why |= {"waited": round(now - since, 3), "for": short, "until": self._ended}
            turns.append(Turn(placement, reason, input_root, pinned, why))
        return turns

    def end(self, turn: Turn, blame: float = 0.0) -> None:
        """Note that a step ended; `blame` is how much of a failure of its node that was."""
        self._ended = turn.placement.label
        now, name = self.clock(), turn.placement.node
        self._placer.end(turn.placement.label, now)
        self._give(turn.placement, turn.cpus)
        if blame:
            self._failures[name] = (self._failed(name, now) + blame, now)
            self._see(now, (name,))

    def warm(self, celsius: Mapping[str, float | None]) -> None:
        """Take over how warm the nodes are now, in °C; None where nothing tells."""
        now = self.clock()
        for name, degrees in celsius.items():
            samples = self._samples.setdefault(name, deque())
            if degrees is None:
                samples.clear()
            else:
                samples.append((now, degrees))
            while samples and samples[0][0] < now - RECENT:
                samples.popleft()
        self._see(now, celsius)

    def drop(self, turn: Turn) -> None:
        """Note that a step whose turn it was need not run."""
        self._placer.withdraw(turn.placement.label)
        self._give(turn.placement, turn.cpus)

    def gone(self, label: str) -> None:
        """Note that a step will never need a turn."""
        if label in self._numbers:
            self._placer.withdraw(label)

    def _see(self, now: float, names: Collection[str]) -> None:
        """Let the placement see how nodes are now."""
        self._seen = now
        for name in names:
            node = evolve(
                self._nodes[name],
                samples=tuple((time - now, one) for time, one in self._samples.get(name, ())),
                failures=self._failed(name, now),
            )
            self._placer.update(node)
            if name in self._samples:
                self._heat[name] = told(node.samples, node.limit)
                self._note_hot(node)

    def _note_hot(self, node: Node) -> None:
        """Note what of a hot node is used."""
        left = headroom(node.samples, node.limit)
        self._hot.pop(node.name, None)
        if left < 1:
            used = f"{math.ceil(node.cpus * left)} of {node.cpus} processors used"
            self._hot[node.name] = f"{node.name} is hot ({self._heat[node.name]}): {used}"

    def _failed(self, name: str, now: float) -> float:
        """Return a node's failures that are not forgotten yet."""
        count, then = self._failures.get(name, (0.0, now))
        left = count * 2.0 ** ((then - now) / HALF_LIFE)
        return left if left > FORGOTTEN else 0.0

    def _why(
        self, placement: Placement, step: Ready, pinned: tuple[int, ...], learned: bool
    ) -> dict[str, Any]:
        """Return why a step starts where it does, as plain values."""
        why = plain(placement, step.rank, pinned, learned)
        name = placement.node
        speed = self._nodes[name].speed
        if speed is not None:
            why["speed"] = speed
        if name in self._heat and "factors" not in why:
            why["heat"] = self._heat[name]
        if self._hot:
            why["hot"] = list(self._hot.values())
        if name in self._failures and "factors" not in why:
            failed = self._placer.cluster.by_name[name].node.failures
            if failed:
                why["failures"] = round(failed, 2)
        return why

    def _give(self, placement: Placement, cpus: tuple[int, ...]) -> None:
        self._free += placement.memory
        if self._pins is not None:
            self._pins.give(cpus)

    def _bring_back(self, now: float) -> None:
        """Let those wait again that were put aside, in order, as far as there is room for them."""
        left = self._free
        while self._aside and min(self._aside[0].memory, self._memory) <= left:
            step = self._aside.pop(0)
            left -= min(step.memory, self._memory)
            since = self._waiting[step.label][3]
            self._placer.add(evolve(step, waited=now - since), now)
