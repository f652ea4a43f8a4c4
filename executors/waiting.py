"""Waiting for descriptors and for time: in trio, or without it where only one thing goes on.

Loading trio takes longer than a small build. What waits through the functions here runs in trio's
loop, and also by itself in `run_alone`, where each wait simply blocks.
"""

from __future__ import annotations

import contextlib
import math
import select
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from types import FrameType

T = TypeVar("T")


class Interrupted(BaseException):
    """SIGINT or SIGTERM, by its `number`, came while something ran alone."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


async def readable(descriptor: int, seconds: float | None = None) -> bool:
    """Wait until there is something to read; False where `seconds` passed before."""
    if _Alone.now is not None:
        return _Alone.now.wait(descriptor, select.POLLIN, seconds)
    import trio

    if seconds is None:
        await trio.lowlevel.wait_readable(descriptor)
        return True
    with trio.move_on_after(seconds):
        await trio.lowlevel.wait_readable(descriptor)
        return True
    return False


async def pause(seconds: float) -> None:
    """Let some time pass."""
    if _Alone.now is not None:
        _Alone.now.wait(None, 0, seconds)
        return
    import trio

    await trio.sleep(seconds)


def closing(descriptor: int) -> None:
    """Tell whoever still waits for a descriptor that it is about to be closed."""
    if _Alone.now is None:
        import trio

        trio.lowlevel.notify_closing(descriptor)


def meanwhile(chore: Callable[[], object]) -> None:
    """Have something short done as soon as there is nothing to do but to wait; only for what runs
    alone. What returns True is done again, as soon as there still is nothing else to do. What it
    raises comes out of that wait. Nobody waits just for it to be done."""
    assert _Alone.now is not None
    _Alone.now.chores.append(chore)


def shielded() -> AbstractContextManager[object]:
    """Return a context in which waits are not cut short by a cancellation or a signal."""
    if _Alone.now is not None:
        return _Alone.now.shielded()
    import trio

    return trio.CancelScope(shield=True)


def run_alone(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run something to its end that waits through this module only, without trio.

    SIGINT and SIGTERM raise `Interrupted` out of the wait that goes on, or the next one, once.
    Must be called in the main thread.
    """
    assert _Alone.now is None
    _Alone.now = alone = _Alone()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, alone.interrupt) for number in numbers]
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        _Alone.now = None
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        coroutine.close()
    raise AssertionError("it waited for something else")


class _Alone:
    """What runs alone: whether a signal came, and whether it may be told of now."""

    now: _Alone | None = None
    """What runs alone in this process; a process has only one main thread."""

    def __init__(self) -> None:
        self._came = 0
        """The number of the signal that came."""
        self._told = False
        self._waits = False
        self._shields = 0
        self.chores: list[Callable[[], object]] = []

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal; one that comes during a wait ends it."""
        self._came = number
        if self._waits:
            self._tell()

    def wait(self, descriptor: int | None, events: int, seconds: float | None) -> bool:
        """Block until there are such events; False where `seconds` passed before."""
        poll = select.poll()
        if descriptor is not None:
            poll.register(descriptor, events)
        end = math.inf if seconds is None else time.monotonic() + seconds
        while self.chores and not self._shields and time.monotonic() < end and not poll.poll(0):
            chore = self.chores.pop(0)
            if chore() is True:
                self.chores.insert(0, chore)
        try:
            self._waits = not self._shields
            if self._waits:
                self._tell()
            while True:
                left = end - time.monotonic()
                if poll.poll(None if left == math.inf else max(0, math.ceil(left * 1000))):
                    return True
                if time.monotonic() >= end:
                    return False
        finally:
            self._waits = False

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1

    def _tell(self) -> None:
        if self._came and not self._told:
            self._told, self._waits = True, False
            raise Interrupted(self._came)
