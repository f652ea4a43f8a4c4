"""Crews: how executions are carried out, side by side in trio or one after another without it."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from engine.finished import Running
from engine.plan import Blocked, Cached, Plan, Step
from executors.base import Outcome
from store.digest import Digest

if TYPE_CHECKING:
    import trio

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


class InTurn:
    """One after another: for builds in which no two steps can run at a time."""

    def __init__(self) -> None:
        self._line: deque[Execution] = deque()

    def start(self, execution: Execution) -> None:
        """Put an execution in line."""
        self._line.append(execution)

    async def ended(self) -> list[Ending]:
        """Carry out the next execution."""
        return [await self._line.popleft()()]


class SideBySide:
    """All at a time, as tasks in a nursery."""

    def __init__(self, nursery: trio.Nursery) -> None:
        import trio

        self._nursery = nursery
        self._none_yet = trio.WouldBlock
        self._send, self._receive = trio.open_memory_channel[Ending](math.inf)

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


def _waits_for(step: Step, label: str) -> bool:
    return isinstance(step, Blocked) and label in step.waits_for
