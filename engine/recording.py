"""Recorded seats: all that decides what starts where is written down, so that it can be decided
again (`engine.replay.decisions`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from engine.seats import Needs, Seats, Turn
from engine.timeline.events import (
    Event,
    NodeLeft,
    NodeReturned,
    NodesWarm,
    TurnMoved,
    TurnsTaken,
)

TOGETHER: Final = 1024
"""Rows of one event at most, so that lines of a timeline do not grow beyond bounds."""


class Recording:
    """Seats in front of others, which decide; what these are told, and when, goes to `emit`.

    What they are told between two decisions takes no event by itself but goes with the next
    decision that starts something: an event costs as much as all the rest. `opening` are events of
    how decisions are made, told before the first one.
    """

    def __init__(
        self,
        seats: Seats,
        needs: Needs,
        emit: Callable[[Event], None],
        opening: Iterable[Event] = (),
    ) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.every = seats.every
        """Seconds after which to look again though nothing ended."""
        self._seats = seats
        self._now = 0.0
        seats.clock = lambda: self._now
        self._needs = needs
        self._emit = emit
        self._opening = opening
        self._rows: list[tuple[Any, ...]] = []
        self._away: set[str] = set()

    def add(self, label: str, rank: float, reason: str, input_root: bytes) -> None:
        """Let a step wait for its turn."""
        now = self._now = self.clock()
        self._seats.add(label, rank, reason, input_root)
        cpus, memory, learned = self._needs.of(label)
        if memory:
            self._note(("wait", now, label, rank, cpus, memory, learned))
        elif cpus != 1:
            self._note(("wait", now, label, rank, cpus))
        else:
            self._note(("wait", now, label, rank))

    def take(self) -> list[Turn]:
        """Return what starts now."""
        now = self._now = self.clock()
        turns = self._seats.take()
        if turns:
            self._rows.append(("take", now, list(map(_row, turns))))
            self._tell()
        else:
            self._note(("take", now))
        return turns

    def end(self, turn: Turn, blame: float = 0.0) -> None:
        """Note that a step ended."""
        now = self._now = self.clock()
        self._seats.end(turn, blame)
        label = turn.placement.label
        self._note(("end", now, label, blame) if blame else ("end", now, label))

    def drop(self, turn: Turn) -> None:
        """Note that a step whose turn it was need not run."""
        now = self._now = self.clock()
        self._seats.drop(turn)
        self._note(("drop", now, turn.placement.label))

    def lost(self, turn: Turn) -> None:
        """Note that a step did not end, as its node did not let it: it may be added again."""
        now = self._now = self.clock()
        self._seats.lost(turn)
        self._note(("lost", now, turn.placement.label))

    def gone(self, label: str) -> None:
        """Note that a step will never need a turn."""
        self._seats.gone(label)
        self._note(("gone", label))

    def warm(self, celsius: Mapping[str, float | None]) -> None:
        """Take over how warm the nodes are now."""
        now = self._now = self.clock()
        self._seats.warm(celsius)
        self._tell()
        self._emit(NodesWarm(at=now, celsius=dict(celsius)))

    def move(self, turn: Turn, node: str) -> Turn | None:
        """Give the room of a step that has not started to another node."""
        now = self._now = self.clock()
        moved = self._seats.move(turn, node)
        if moved is not None and moved is not turn:
            self._tell()
            self._emit(TurnMoved(label=turn.placement.label, node=node, at=now))
        return moved

    def is_waiting(self) -> bool:
        """Say whether a node that dropped out may come back for what nothing else can run."""
        self._now = self.clock()
        return self._seats.is_waiting()

    def close(self) -> None:
        """Write down what is left: nothing is decided any more."""
        self._seats.close()
        if self._rows:
            self._tell()

    def saw(self, node: str, there: bool) -> bool:
        """Write down whether a node came or went, and return whether it is there."""
        if there == (node in self._away):
            self._tell()
            self._emit(NodeReturned(node=node) if there else NodeLeft(node=node))
            self._away.symmetric_difference_update((node,))
        return there

    def _note(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) >= TOGETHER:
            self._tell()

    def _tell(self) -> None:
        for event in self._opening:
            self._emit(event)
        self._opening = ()
        if self._rows:
            rows, self._rows = self._rows, []
            self._emit(TurnsTaken(told=tuple(rows)))


def _row(turn: Turn) -> tuple[Any, ...]:
    one = turn.placement
    if turn.cpus:
        return one.label, one.node, one.cpus, one.memory, turn.cpus
    if one.memory or one.cpus != 1:
        return one.label, one.node, one.cpus, one.memory
    return one.label, one.node
