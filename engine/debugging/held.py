"""Seats that hold what would start until somebody lets it go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from engine.seats import Seats, Turn
from store.records import evolve, frozen

SKIPPED = "skipped in the debugger"


@frozen
class Choice:
    """What becomes of turns that are held: some start, some are skipped, the others stay."""

    start: tuple[Turn, ...] = ()
    skip: tuple[Turn, ...] = ()


class Held:
    """Seats in front of other seats, which decide as ever; `ask` says what of it happens now.

    It is asked with the turns that are held, the one decided first in front, and whether anything
    runs; where nothing does, it has to let one go, or end the build.
    """

    def __init__(self, seats: Seats, ask: Callable[[Sequence[Turn], bool], Choice]) -> None:
        self.turns: list[Turn] = []
        self.waiting: dict[str, float] = {}
        """Steps that are ready but have no room, with their ranks."""
        self.running: dict[str, Turn] = {}
        self._seats = seats
        self._ask = ask
        self._clock: Callable[[], float] = time.monotonic
        self.every = seats.every
        """Seconds after which to look again though nothing ended."""

    @property
    def clock(self) -> Callable[[], float]:
        """The clock that decisions go by."""
        return self._clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:
        self._clock = self._seats.clock = clock

    def add(self, label: str, rank: float, reason: str, input_root: bytes) -> None:
        """Let a step wait for its turn."""
        self.waiting[label] = rank
        self._seats.add(label, rank, reason, input_root)

    def take(self) -> list[Turn]:
        """Return what starts now of all whose turn it is."""
        self._more()
        if not self.turns:
            return []
        choice = self._ask(self.turns, bool(self.running))
        going = [*choice.start, *(evolve(turn, refused=SKIPPED) for turn in choice.skip)]
        gone = {turn.placement.label for turn in going}
        self.turns = [turn for turn in self.turns if turn.placement.label not in gone]
        self.running |= {turn.placement.label: turn for turn in choice.start}
        return going

    def move(self, turn: Turn, node: str) -> Turn | None:
        """Give a turn that is held to another node; None where that has no room for it."""
        moved = self._seats.move(turn, node)
        if moved is not None:
            self.turns = [moved if one is turn else one for one in self.turns]
        return moved

    def end(self, turn: Turn, blame: float = 0.0) -> None:
        """Note that a step ended."""
        self.running.pop(turn.placement.label, None)
        self._seats.end(self._own(turn), blame)

    def drop(self, turn: Turn) -> None:
        """Note that a step whose turn it was need not run."""
        self.running.pop(turn.placement.label, None)
        self._seats.drop(self._own(turn))

    def lost(self, turn: Turn) -> None:
        """Note that a step did not end, as its node did not let it: it may be added again."""
        self.running.pop(turn.placement.label, None)
        self._seats.lost(self._own(turn))

    def gone(self, label: str) -> None:
        """Note that a step will never need a turn."""
        self.waiting.pop(label, None)
        self._seats.gone(label)

    def is_waiting(self) -> bool:
        """Say whether something may start though nothing runs."""
        return self._seats.is_waiting()

    def warm(self, celsius: Mapping[str, float | None]) -> None:
        """Take over how warm the nodes are now."""
        self._seats.warm(celsius)

    def close(self) -> None:
        """Note that nothing is decided any more."""
        self._seats.close()

    def _more(self) -> None:
        for turn in self._seats.take():
            self.waiting.pop(turn.placement.label, None)
            self.turns.append(turn)

    def _own(self, turn: Turn) -> Turn:
        return evolve(turn, refused="") if turn.refused else turn
