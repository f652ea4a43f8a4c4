"""Crews: how executions are carried out, side by side in trio or one after another without it."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from engine.finished import Running
from engine.plan import Blocked, Cached, Plan, Step
from executors.base import Outcome
from store.digest import Digest

if TYPE_CHECKING:
    import trio

    from engine.history import History

LOADING_SECONDS: Final = 0.05
"""What it takes to load trio."""

FEW: Final = 16
"""Steps up to which it is worth while to ask how long each took."""

Ending: TypeAlias = tuple[Digest, Outcome | Exception | None]
"""The digest of an action that ended, and what came of it; None where remotes were only asked."""

Execution: TypeAlias = Callable[[], Coroutine[Any, Any, Ending]]


class Crew(Protocol):
    """Whoever carries out the executions of a build."""

    def start(self, execution: Execution) -> None:
        """Begin an execution, or put it in line."""

    async def ended(self) -> list[Ending]:
        """Wait until some of those started have ended, and return these, in any order."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether executions wait in line that had better run side by side."""
        ...

    def take_rest(self) -> list[Execution]:
        """Give up the executions that wait in line, and return them."""
        ...


class InTurn:
    """One after another: for builds in which no two steps can run at a time, or all are short."""

    def __init__(self) -> None:
        self._line: deque[Execution] = deque()
        self._took = 0.0

    def start(self, execution: Execution) -> None:
        """Put an execution in line."""
        self._line.append(execution)

    async def ended(self) -> list[Ending]:
        """Carry out the next execution."""
        began = time.monotonic()
        ending = await self._line.popleft()()
        self._took = time.monotonic() - began
        return [ending]

    @property
    def is_behind(self) -> bool:
        """Whether the last one took long, and more than one are in line."""
        return self._took > LOADING_SECONDS and len(self._line) > 1

    def take_rest(self) -> list[Execution]:
        """Give up the executions that wait in line, and return them."""
        rest, self._line = [*self._line], deque()
        return rest


class SideBySide:
    """All at a time, as tasks in a nursery."""

    is_behind = False

    def __init__(self, nursery: trio.Nursery) -> None:
        import trio

        self._nursery = nursery
        self._none_yet = trio.WouldBlock
        self._send, self._receive = trio.open_memory_channel[Ending](math.inf)

    def take_rest(self) -> list[Execution]:
        """Return nothing: none is in line."""
        return []

    def start(self, execution: Execution) -> None:
        """Begin an execution."""
        self._nursery.start_soon(self._carry_out, execution)

    def wake(self) -> None:
        """End a wait though nothing ended: an ending of nothing comes in."""
        self._send.send_nowait((Digest(""), None))

    async def ended(self) -> list[Ending]:
        """Wait until some executions have ended."""
        ended = [await self._receive.receive()]
        with contextlib.suppress(self._none_yet):
            while True:
                ended.append(self._receive.receive_nowait())
        return ended

    async def _carry_out(self, execution: Execution) -> None:
        self._send.send_nowait(await execution())


def in_order(endings: Iterable[Ending], running: Mapping[Digest, Running]) -> list[Ending]:
    """Return those endings that are of something, by the labels of what ran: trio shuffles what
    ends together."""

    def first(one: Ending) -> str:
        return running[one[0]].labels[0] if one[0] in running else ""

    return sorted(filter(itemgetter(0), endings), key=first)


def is_chain(plan: Plan, longest: float = math.inf) -> bool:
    """Say whether of the steps that may have to run, at most so many, each waits for the one before
    it."""
    before, steps = "", 0
    for label, step in plan.others.items():
        if isinstance(step, Cached):
            continue
        steps += 1
        if steps > longest or (before and not _waits_for(step, before)):
            return False
        before = label
    return True


def is_quick(plan: Plan, history: History) -> bool:
    """Say whether the steps that may have to run are few, and took so little when they ran last
    that it hardly takes longer to run them one after another than to load trio."""
    took: list[float] = []
    for label, step in plan.others.items():
        if isinstance(step, Cached):
            continue
        past = next((past for past in history.of(label) if past.seconds), None)
        if past is None or past.failed or len(took) == FEW:
            return False
        took.append(past.seconds)
    return sum(took) - max(took, default=0.0) <= LOADING_SECONDS


def _waits_for(step: Step, label: str) -> bool:
    return isinstance(step, Blocked) and label in step.waits_for
