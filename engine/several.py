"""Seats on several nodes of one machine: the placement decides, for the whole build."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.pins import Pins
from engine.placement import Ready
from engine.placement.model import Placement
from engine.placement.placer import Placer
from engine.placement.work import Work
from engine.places import Places
from engine.seats import MEMORY, PROCESSORS, SHORT, Needs, Turn, plain
from store.records import evolve


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
        target: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._needs = needs
        self._target = target
        self._placer = Placer(places.nodes, places.policy, work=work)
        self._numbers = {label: number for number, label in enumerate(work.labels)}
        self._work = work
        self._pins = Pins.of(places)
        self._memory = self._free = places.memory
        self._aside: list[Ready] = []
        self._waiting: dict[str, tuple[Ready, str, bytes, float, bool]] = {}
        self._short_of: dict[str, str] = {}
        self._ended = ""

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
            target=self._target(label),
        )
        self._waiting[label] = (step, reason, input_root, now, learned)
        self._placer.add(step, now)

    def take(self) -> list[Turn]:
        """Return what starts now; each has its room until `end` or `drop`."""
        now = self.clock()
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
            why = plain(placement, step.rank, pinned, learned)
            if now - since >= SHORT:
                short = self._short_of.pop(placement.label, PROCESSORS)
                why |= {"waited": round(now - since, 3), "for": short, "until": self._ended}
            turns.append(Turn(placement, reason, input_root, pinned, why))
        return turns

    def end(self, turn: Turn) -> None:
        """Note that a step ended."""
        self._ended = turn.placement.label
        self._placer.end(turn.placement.label, self.clock())
        self._give(turn.placement, turn.cpus)

    def drop(self, turn: Turn) -> None:
        """Note that a step whose turn it was need not run."""
        self._placer.withdraw(turn.placement.label)
        self._give(turn.placement, turn.cpus)

    def gone(self, label: str) -> None:
        """Note that a step will never need a turn."""
        if label in self._numbers:
            self._placer.withdraw(label)

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
