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

ABSENT: Final = 1.0
"""Seconds after which it is looked at again whether a node that dropped out is back."""

GIVEN_UP: Final = 3600.0
"""Seconds for which it is waited for the last node that could run something."""

OFTEN: Final = 4
"""Looks within `max_wait` at whether something waited for so long."""


class SeveralNodes:
    """Seats on the nodes of `places`, for the steps in `work`.

    The nodes share the machine's memory. The placement sees all of it in each of them, so what it
    gives away is counted here once more: a step that would take more than is left is put aside,
    and with it all that need memory and come after it. Once there is room they are brought back,
    those first that were put aside first; that room is kept for them until they start.
    """

    def __init__(
        self,
        places: Places,
        work: Work,
        needs: Needs,
        classes: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        is_there: Callable[[str], bool] | None = None,
    ) -> None:
        """`is_there` says of a node whether it can run something; without it all of them can."""
        self.clock = clock
        self._is_there = is_there
        self._away: dict[str, float] = {}
        """Nodes that dropped out, and when."""
        self._needs = needs
        self._classes = classes
        self._placer = Placer(places.nodes, places.policy, work=work)
        self._numbers = {label: number for number, label in enumerate(work.labels)}
        self._work = work
        self._pins = Pins.of(places)
        self._memory = self._free = places.memory
        self._aside: list[Ready] = []
        self._back: dict[str, int] = {}
        """Steps that were brought back and have not started, and the bytes kept for each."""
        self._waiting: dict[str, tuple[Ready, str, bytes, float, bool]] = {}
        self._short_of: dict[str, str] = {}
        self._ended = ""
        self._nodes = {node.name: node for node in places.nodes}
        self._samples: dict[str, deque[tuple[float, float]]] = {}
        self._heat = dict.fromkeys(self._nodes, places.no_heat) if places.no_heat else {}
        """The temperature of each node, in words, as far as somebody wanted to know."""
        self._looked = False
        """Whether sensors were looked at."""
        self._failures: dict[str, tuple[float, float]] = {}
        """Of each node, how many failures were not forgotten, and when that was so."""
        self._seen = -AGAIN
        waits = [places.policy.max_wait / OFTEN] if places.policy.max_wait < float("inf") else []
        heat = [places.thermometer.every] if places.thermometer else []
        there = [ABSENT] if is_there else []
        often = [*waits, *heat, *there]
        self.every = max(0.05, min(often)) if often else None
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
        if self._is_there is not None:
            self._look_who_is_there(self._is_there, now)
        if self._failures and now - self._seen >= AGAIN:
            self._see(now, self._failures)
        self._bring_back(now)
        turns = []
        for placement in self._placer.decide(now):
            step, reason, input_root, since, learned = self._waiting[placement.label]
            if not self._is_room(placement):
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

    def _is_room(self, placement: Placement) -> bool:
        """Say whether there is memory for a step, of that which is not kept for others."""
        if self._back.pop(placement.label, None) is None and placement.memory and self._aside:
            return False
        return not placement.memory or placement.memory <= self._free - sum(self._back.values())

    def end(self, turn: Turn, blame: float = 0.0) -> None:
        """Note that a step ended; `blame` is how much of a failure of its node that was."""
        self._ended = turn.placement.label
        now, name = self.clock(), turn.placement.node
        self._placer.end(turn.placement.label, now)
        self._give(turn.placement, turn.cpus)
        if blame:
            self._blame(name, blame, now)

    def lost(self, turn: Turn) -> None:
        """Note that a step did not end, as its node did not let it: it may be added again."""
        now, name = self.clock(), turn.placement.node
        self._placer.end(turn.placement.label, now, done=False)
        self._give(turn.placement, turn.cpus)
        if self._is_there is None or self._is_there(name):
            self._blame(name, 1.0, now)

    def move(self, turn: Turn, node: str) -> Turn | None:
        """Give the room of a step that has not started to another node; None where that has none
        for it."""
        placement = self._placer.move(turn.placement, node, self.clock())
        if placement is None:
            return None
        pinned = turn.cpus
        if self._pins is not None:
            self._pins.give(turn.cpus)
            pinned = self._pins.take(node, placement.cpus)
        why = {key: one for key, one in turn.why.items() if key in ("rank", "memory", "learned")}
        why |= {"node": node, "reason": placement.explanation.reason}
        return Turn(placement, turn.reason, turn.input_root, pinned, why)

    def is_waiting(self) -> bool:
        """Say whether a node that dropped out may come back for what nothing else can run."""
        now = self.clock()
        recent = any(now - since < GIVEN_UP for since in self._away.values())
        return recent and bool(self._waiting or self._aside)

    def _look_who_is_there(self, is_there: Callable[[str], bool], now: float) -> None:
        for name in self._nodes:
            if is_there(name):
                if self._away.pop(name, None) is not None:
                    self._see(now, (name,))
            elif name not in self._away:
                self._away[name] = now
                self._blame(name, 1.0, now)

    def _blame(self, name: str, much: float, now: float) -> None:
        """Count so much of a failure as the node's."""
        self._failures[name] = (self._failed(name, now) + much, now)
        self._see(now, (name,))

    def warm(self, celsius: Mapping[str, float | None]) -> None:
        """Take over how warm the nodes are now, in °C; None where nothing tells."""
        now = self.clock()
        self._looked = True
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

    def close(self) -> None:
        """There is nothing to do."""

    def undo(self, turn: Turn) -> None:
        """Take back a turn, as if it had not been given: the step has to be added again."""
        self._placer.withdraw(turn.placement.label, again=True)
        self._give(turn.placement, turn.cpus)

    def force(self, placement: Placement, cpus: tuple[int, ...]) -> Turn:
        """Give a step that waits a turn, whatever would be decided."""
        label = placement.label
        step, reason, input_root, _, learned = self._waiting.pop(label)
        self._aside = [one for one in self._aside if one.label != label]
        self._back.pop(label, None)
        self._short_of.pop(label, None)
        placement = self._placer.force(placement, step, self.clock())
        self._free -= placement.memory
        if self._pins is not None:
            self._pins.hold(cpus)
        why = self._why(placement, step, cpus, learned)
        return Turn(placement, reason, input_root, cpus, why)

    def _see(self, now: float, names: Collection[str]) -> None:
        """Let the placement see how nodes are now."""
        self._seen = now
        for name in names:
            node = evolve(
                self._nodes[name],
                samples=tuple((time - now, one) for time, one in self._samples.get(name, ())),
                failures=self._failed(name, now),
                preference="disabled" if name in self._away else self._nodes[name].preference,
            )
            self._placer.update(node)
            if self._looked:
                self._heat.pop(name, None)

    def _warmth(self, node: Node) -> str:
        """Return a node's temperature in words."""
        if node.name not in self._heat:
            self._heat[node.name] = told(node.samples, node.limit)
        return self._heat[node.name]

    def _hot(self) -> list[str]:
        """Say what is used of hot nodes."""
        found = []
        for seat in self._placer.cluster.seats:
            if seat.thermal < 1:
                node, left = seat.node, headroom(seat.node.samples, seat.node.limit)
                used = f"{math.ceil(node.cpus * left)} of {node.cpus} processors used"
                found.append(f"{node.name} is hot ({self._warmth(node)}): {used}")
        return found

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
        if (self._looked or self._heat) and "factors" not in why:
            why["heat"] = self._warmth(self._placer.cluster.by_name[name].node)
        hot = self._hot() if self._looked else []
        if hot:
            why["hot"] = hot
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
        left = self._free - sum(self._back.values())
        while self._aside and min(self._aside[0].memory, self._memory) <= left:
            step = self._aside.pop(0)
            kept = self._back[step.label] = min(step.memory, self._memory)
            left -= kept
            since = self._waiting[step.label][3]
            self._placer.add(evolve(step, waited=now - since), now)
