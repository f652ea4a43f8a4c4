"""Seats: the steps that could start, what of a machine they hold while they run, and why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from engine.graph import Resources
from engine.pins import Pins
from engine.placement import Explanation, Node, Placement, Ready, place, release, take
from engine.ready import Entry, Heap, Line
from store.records import evolve, frozen

SHORT: Final = 0.005
"""Seconds up to which a wait is not told of: nothing starts at once."""

MUCH: Final = 64 << 20
"""Bytes from which on it is told that a step holds as much as it took last."""

QUICK: Final = 0.02
"""Seconds up to which a step is so short that what is done between two of them counts."""

PROCESSORS: Final = "processors"
MEMORY: Final = "memory"


@frozen
class Turn:
    """A step that starts now: where, the reason for which it runs and the digest of its inputs, the
    processors that it is pinned to, and why it starts there and now, as plain values. Where it is
    `refused`, it does not start after all, for that reason."""

    placement: Placement
    reason: str
    input_root: bytes
    cpus: tuple[int, ...]
    why: dict[str, Any]
    refused: str = ""


class Needs:
    """What a step holds while it runs: what its spec says, else for memory what it took last.

    `peak` gives the bytes of that, 0 where they are not known. It is the peak of the step's largest
    process, so that some is added; it is never a limit.
    """

    MARGIN: Final = 1.25

    def __init__(
        self, resources: Callable[[str], Resources], peak: Callable[[str], int] = lambda _: 0
    ) -> None:
        self._resources = resources
        self._peak = peak

    def of(self, label: str) -> tuple[int, int, bool]:
        """Return processors, bytes, and whether the bytes are from history."""
        declared = self._resources(label)
        if declared.memory:
            return declared.cpus, declared.memory, False
        learned = int(self.MARGIN * self._peak(label))
        return declared.cpus, learned, learned > 0


class Seats(Protocol):
    """Where the steps of a build wait for their turn and have their room."""

    clock: Callable[[], float]
    every: float | None
    """Seconds after which to look again though nothing ended; None: no need to."""

    def add(self, label: str, rank: float, reason: str, input_root: bytes) -> None:
        """Let a step wait for its turn."""

    def take(self) -> list[Turn]:
        """Return what starts now; each has its room until `end` or `drop`."""
        ...

    def end(self, turn: Turn, blame: float = 0.0) -> None:
        """Note that a step ended; `blame` is how much of a failure of its node that was."""

    def warm(self, celsius: Mapping[str, float | None]) -> None:
        """Take over how warm the nodes are now, in °C; None where nothing tells."""

    def drop(self, turn: Turn) -> None:
        """Note that a step whose turn it was need not run."""

    def lost(self, turn: Turn) -> None:
        """Note that a step did not end, as its node did not let it: it may be added again."""

    def move(self, turn: Turn, node: str) -> Turn | None:
        """Give the room of a step that has not started to another node; None where that has none
        for it."""
        ...

    def is_waiting(self) -> bool:
        """Say whether a node that dropped out may come back for what nothing else can run."""
        ...

    def gone(self, label: str) -> None:
        """Note that a step will never need a turn."""

    def close(self) -> None:
        """Note that nothing is decided any more."""


class OneNode:
    """Seats on one node, longest chain first.

    A decision costs nothing for the thousands that wait in `line`; what each of them may use is
    asked when its turn comes. While the last steps were quick, twice as many are given one as there
    are processors, if they may be begun `ahead`: their commands start when others' have ended.
    """

    def __init__(
        self,
        node: Node,
        needs: Needs,
        pins: Pins | None = None,
        line: Line | None = None,
        *,
        ahead: bool = False,
    ) -> None:
        self.clock = time.monotonic
        self.every: float | None = None
        self._node = node
        self._speed = node.speed or 1.0
        self._needs = needs
        self._pins = pins
        self._line = Heap() if line is None else line
        self._short_of: dict[str, str] = {}
        """What those are short of that were looked at in vain."""
        self._ended = ""
        self._ahead = ahead and pins is None
        self._since: dict[str, float] = {}
        """When those that run were given their turn."""
        self._quick = 0
        """How many quick ones ended since a longer one did."""

    def add(self, label: str, rank: float, reason: str, input_root: bytes) -> None:
        """Let a step wait for its turn."""
        rank /= self._speed
        self._line.push((-rank, label, reason, input_root, self.clock()))

    def take(self) -> list[Turn]:
        """Return what starts now; each has its room until `end` or `drop`.

        No more can start than there are free processors, so the rest is not looked at.
        """
        node = self._node
        if self._ahead and self._quick >= node.cpus and not node.idle:
            node = evolve(node, free_cpus=node.free_cpus + node.cpus)
        if not self._line or node.free_cpus <= 0:
            return []
        now = self.clock()
        first: dict[str, Entry] = {}
        ready: list[Ready] = []
        learned: set[str] = set()
        while self._line and len(first) < node.free_cpus:
            entry = self._line.pop()
            label = entry[1]
            first[label] = entry
            cpus, memory, from_history = self._needs.of(label)
            if from_history:
                learned.add(label)
            ready.append(Ready(label=label, rank=-entry[0], cpus=cpus, memory=memory))
        turns = []
        for placement in place(ready, (node,)):
            self._node = take(self._node, placement)
            rank, label, reason, input_root, since = first.pop(placement.label)
            self._since[label] = now
            pinned = self._pins.take(node.name, placement.cpus) if self._pins else ()
            why = plain(placement, -rank, pinned, label in learned)
            if now - since >= SHORT:
                short = self._short_of.pop(label, PROCESSORS)
                why |= {"waited": round(now - since, 3), "for": short, "until": self._ended}
            turns.append(Turn(placement, reason, input_root, pinned, why))
        if first:
            self._note_short([one for one in ready if one.label in first])
        for entry in first.values():
            self._line.push(entry)
        return turns

    def end(self, turn: Turn, blame: float = 0.0) -> None:
        """Note that a step ended."""
        self._ended = label = turn.placement.label
        took = self.clock() - self._since.get(label, -math.inf)
        self._quick = self._quick + 1 if took <= QUICK else 0
        self.drop(turn)

    def drop(self, turn: Turn) -> None:
        """Note that a step whose turn it was need not run."""
        self._since.pop(turn.placement.label, None)
        self._node = release(self._node, turn.placement)
        if self._pins is not None:
            self._pins.give(turn.cpus)

    def lost(self, turn: Turn) -> None:
        """Note that a step did not end, as its node did not let it: it may be added again."""
        self.drop(turn)

    def move(self, turn: Turn, node: str) -> Turn | None:
        """Return the turn if it is this node's."""
        return turn if node == self._node.name else None

    def is_waiting(self) -> bool:
        """Say no: there is no other node, and this one is here."""
        return False

    def gone(self, label: str) -> None:
        """Note that a step will never need a turn."""

    def warm(self, celsius: Mapping[str, float | None]) -> None:
        """With one node that nobody asked about there is nothing to choose."""

    def close(self) -> None:
        """There is nothing to do."""

    def undo(self, turn: Turn) -> None:
        """Take back a turn, as if it had not been given: the step has to be added again."""
        self.drop(turn)

    def force(self, placement: Placement, cpus: tuple[int, ...]) -> Turn:
        """Give a step that waits a turn, whatever would be decided."""
        label = placement.label
        entry = self._line.remove(label)
        self._node = take(self._node, placement)
        if self._pins is not None:
            self._pins.hold(cpus)
        self._short_of.pop(label, None)
        return Turn(placement, entry[2], entry[3], cpus, plain(placement, -entry[0], cpus))

    def _note_short(self, left: list[Ready]) -> None:
        """Note of those that have no room, the first in line first, what they are short of."""
        first = min(left, key=lambda one: (-one.rank, one.label))
        short = PROCESSORS if first.cpus > self._node.free_cpus else MEMORY
        for one in left:
            short_of = short if one is first else f"{first.label}, whose turn is before"
            self._short_of[one.label] = short_of


def plain(
    placement: Placement, rank: float, pinned: tuple[int, ...] = (), learned: bool = False
) -> dict[str, Any]:
    """Return a placement and its explanation as plain values, without what says nothing."""
    why: dict[str, Any] = {"node": placement.node, "rank": round(rank, 3)}
    explanation = placement.explanation
    if placement.cpus > 1:
        why["processors"] = placement.cpus
    if placement.memory and (not learned or placement.memory >= MUCH):
        why["memory"] = placement.memory
        if learned:
            why["learned"] = True
    if pinned:
        why["cpus"] = pinned
    why["reason"] = explanation.reason
    if explanation.waited:
        why["wait"] = explanation.waited
    if explanation.factors or explanation.runners_up:
        why |= _choice(explanation)
    return why


def _choice(explanation: Explanation) -> dict[str, Any]:
    """Return what counted where there was a choice."""
    factors = [
        [one.name, round(one.value, 4), one.weight, *([one.note] if one.note else [])]
        for one in explanation.factors
    ]
    runners_up = [[name, round(score, 4)] for name, score in explanation.runners_up]
    return {
        "strategy": explanation.strategy,
        "score": round(explanation.score, 4),
        **({"factors": factors} if factors else {}),
        **({"then": runners_up} if runners_up else {}),
    }
