"""Several coroutines side by side without trio, for what waits through `waiting.py` only.

::

    spawn ─▶ ready ──step──▶ parked: for a descriptor, for time, or to be rung for
               ▲                │
               └── event, time, ring, or cancelled (not while shielded) ◀┘
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from types import FrameType, coroutine
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")

_Wish: TypeAlias = tuple[int | None, int, float | None]
"""A descriptor, the events of it, and seconds to wait for them at most."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Cancelled(BaseException):
    """What waits is to end, and to tidy up."""


class _Task:
    """One coroutine, and where it is."""

    __slots__ = ("cancelled", "coroutine", "deadline", "descriptor", "parked", "shields")

    def __init__(self, work: Coroutine[Any, Any, object]) -> None:
        self.coroutine = work
        self.shields = 0
        self.cancelled = False
        self.parked = False
        self.descriptor: int | None = None
        self.deadline = math.inf


class Together:
    """A loop of coroutines. Each step of one goes on until it waits; nothing runs meanwhile.

    `run` goes on until its own coroutine ends, which sees to the others by `end_others`. Where one
    of them raises what it should not, all end, and `end_others` raises that.
    """

    now: Together | None = None
    """The loop of this process, while it runs; a process has only one main thread."""

    def __init__(self, signalled: Callable[[int], None]) -> None:
        """Make a loop that tells `signalled` of each SIGINT and SIGTERM."""
        self._signalled = signalled
        self._poll = select.poll()
        self._ready: deque[tuple[_Task, bool]] = deque()
        self._tasks: dict[_Task, None] = {}
        self._waiting: dict[int, _Task] = {}
        self._rings = False
        self._came: deque[int] = deque()
        self._calls: deque[Callable[[], object]] = deque()
        self._tick: tuple[float, Callable[[], object]] | None = None
        self._ticks_at = math.inf
        self._failure: BaseException | None = None
        self._waking, self._woken = -1, -1

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and all that it spawns. Must be called in the main thread."""
        assert Together.now is None
        self._woken, self._waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll.register(self._woken, select.POLLIN)
        handlers = [signal.signal(number, self._note) for number in _SIGNALS]
        wakeup = signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        Together.now = self
        self._current = self._main = _Task(main)
        self._tasks[self._main] = None
        self._ready.append((self._main, False))
        try:
            while True:
                while self._ready:
                    task, value = self._ready.popleft()
                    try:
                        self._step(task, value)
                    except StopIteration as end:
                        ended: T = end.value
                        return ended
                self._wait()
        finally:
            Together.now = None
            signal.set_wakeup_fd(wakeup)
            for number, handler in zip(_SIGNALS, handlers, strict=True):
                signal.signal(number, handler)
            os.close(self._woken)
            os.close(self._waking)
            for task in self._tasks:
                task.coroutine.close()

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Have a coroutine run beside the others."""
        task = _Task(work)
        self._tasks[task] = None
        self._ready.append((task, False))

    async def wait(self, descriptor: int | None, events: int, seconds: float | None) -> bool:
        """Wait for such events, at most one task for each descriptor; False where `seconds` passed
        before."""
        return await _parked((descriptor, events, seconds))

    async def rung(self) -> None:
        """Wait until `ring` is called, or was since the last wait; for the main coroutine alone."""
        if not self._rings:
            await _parked((None, 0, None))
        self._rings = False

    def ring(self) -> None:
        """Let the main coroutine go on that waits by `rung`."""
        self._rings = True
        main = self._main
        if main.parked and main.descriptor is None and main.deadline == math.inf:
            self._unpark(main, True)

    def every(self, seconds: float, call: Callable[[], object]) -> None:
        """Have something short called again and again; one thing at most."""
        self._tick = seconds, call
        self._ticks_at = time.monotonic() + seconds

    def from_thread(self, call: Callable[[], object]) -> None:
        """Have something short called in the loop, asked for by another thread."""
        self._calls.append(call)
        with contextlib.suppress(BlockingIOError):
            os.write(self._waking, b"c")

    def cancel(self) -> None:
        """Have every wait end by `Cancelled` from now on, but in a shield."""
        for task in self._tasks:
            task.cancelled = True
            if task.parked and not task.shields:
                self._unpark(task, False)

    async def end_others(self) -> None:
        """Cancel all but the main coroutine, which goes on, and wait for their end."""
        self.cancel()
        with self.shielded():
            while len(self._tasks) > 1:
                await _parked((None, 0, None))
        self._main.cancelled = False
        if self._failure is not None:
            raise self._failure

    @contextlib.contextmanager
    def shielded(self) -> Iterator[None]:
        """Keep the waits of the task that runs now from being cancelled."""
        task = self._current
        task.shields += 1
        try:
            yield
        finally:
            task.shields -= 1

    # inside

    def _step(self, task: _Task, value: bool) -> None:
        """Let a task go on until it waits or ends. Raises StopIteration at the main one's end."""
        self._current = task
        try:
            if task.cancelled and not task.shields:
                wish: _Wish = task.coroutine.throw(Cancelled())
            else:
                wish = task.coroutine.send(value or None)
        except BaseException as end:
            del self._tasks[task]
            if task is self._main:
                raise
            if not isinstance(end, StopIteration | Cancelled):
                self._failure = self._failure or end
                self.cancel()
            self.ring()
            return
        if task.cancelled and not task.shields:
            self._ready.append((task, False))
        else:
            self._park(task, wish)

    def _park(self, task: _Task, wish: _Wish) -> None:
        descriptor, events, seconds = wish
        task.parked, task.descriptor = True, descriptor
        if seconds is not None:
            task.deadline = time.monotonic() + seconds
        if descriptor is not None:
            self._waiting[descriptor] = task
            self._poll.register(descriptor, events)

    def _unpark(self, task: _Task, value: bool) -> None:
        if task.descriptor is not None:
            del self._waiting[task.descriptor]
            self._poll.unregister(task.descriptor)
        task.parked, task.descriptor, task.deadline = False, None, math.inf
        self._ready.append((task, value))

    def _wait(self) -> None:
        """Wait until something is ready, or a signal, a call or a tick is due."""
        due = min(self._ticks_at, *(task.deadline for task in self._tasks))
        left = None if due == math.inf else max(0, math.ceil((due - time.monotonic()) * 1000))
        for descriptor, _ in self._poll.poll(left):
            if descriptor == self._woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
            elif descriptor in self._waiting:
                self._unpark(self._waiting[descriptor], True)
        while self._came:
            self._signalled(self._came.popleft())
        while self._calls:
            self._calls.popleft()()
        if due < math.inf:
            now = time.monotonic()
            for task in [one for one in self._tasks if one.deadline <= now]:
                self._unpark(task, False)
            if self._tick is not None and self._ticks_at <= now:
                seconds, call = self._tick
                self._ticks_at = now + seconds
                call()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came.append(number)


@coroutine
def _parked(wish: _Wish) -> Generator[_Wish, bool | None, bool]:
    """Leave it to the loop when to go on; return whether there was an event."""
    return bool((yield wish))
