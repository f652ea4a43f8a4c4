"""Turns of the workers that serve one mount, in place of trio's scheduling of them.

pyfuse3 takes what it needs of trio from a module attribute that can be replaced (its own asyncio
support does that). Its workers queue for a lock; the one that holds it waits for a request, lets
go, and serves it. With trio's lock and `wait_readable` a request costs three passes of the
scheduler, which is more than serving it. Here:

- A worker that serves a request without waiting for anything takes the lock again, and nobody was
  woken. One that has to wait for something lets another one have its turn first (`elsewhere`).
- The holder lingers in poll(2) for a moment: the next request of a busy client is mostly there
  within microseconds. When nothing comes, trio waits.
"""

from __future__ import annotations

import select
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, TypeVar, TypeVarTuple

import trio

LINGER_MS: Final = 1
"""Milliseconds for which everything else in the process is held up, at most, to wait for the next
request."""

FAIR_SECONDS: Final = 0.005
"""Under steady load, everything else in the process has its turn this often."""

Given = TypeVarTuple("Given")
Value = TypeVar("Value")


class Turns:
    """The lock of the workers, and all that stands in for trio in pyfuse3."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._elsewhere = 0
        self._last_pause = 0.0
        self._poll: select.poll | None = None

    def as_trio(self) -> SimpleNamespace:
        """Return what takes the place of the module trio in pyfuse3."""
        low = SimpleNamespace(
            current_task=trio.lowlevel.current_task,
            current_trio_token=trio.lowlevel.current_trio_token,
            notify_closing=trio.lowlevel.notify_closing,
            wait_readable=self._wait_readable,
        )
        return SimpleNamespace(
            ClosedResourceError=trio.ClosedResourceError,
            Lock=lambda: self,
            lowlevel=low,
            open_nursery=self._open_nursery,
        )

    async def elsewhere(self, function: Callable[[*Given], Value], *given: *Given) -> Value:
        """Run what may block in a thread, while other workers serve."""
        self._waiting.unpark()
        self._elsewhere += 1
        try:
            return await trio.to_thread.run_sync(function, *given, abandon_on_cancel=True)
        finally:
            self._elsewhere -= 1

    async def __aenter__(self) -> None:
        """Wait for the turn."""
        while self._held:
            await self._waiting.park()
        self._held = True

    async def __aexit__(self, *exception: object) -> None:
        self._held = False

    async def _wait_readable(self, handle: int) -> None:
        """Wait until a request can be read. Raises ClosedResourceError where the mount ended."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(handle, select.POLLIN)
        if not self._poll.poll(0 if self._elsewhere else LINGER_MS):
            await trio.lowlevel.wait_readable(handle)
        elif time.monotonic() - self._last_pause > FAIR_SECONDS:
            await trio.lowlevel.checkpoint()
        else:
            return
        self._last_pause = time.monotonic()

    @asynccontextmanager
    async def _open_nursery(self) -> AsyncIterator[SimpleNamespace]:
        async with trio.open_nursery() as nursery:
            yield SimpleNamespace(start_soon=partial(self._start, nursery))

    def _start(
        self,
        nursery: trio.Nursery,
        worker: Callable[..., Coroutine[Any, Any, None]],
        *given: Any,
        name: str | None = None,
    ) -> None:
        nursery.start_soon(partial(self._work, worker), *given, name=name)

    async def _work(self, worker: Callable[..., Coroutine[Any, Any, None]], *given: Any) -> None:
        """Run a worker; when it ends, because the mount did, the next one has to see that too."""
        try:
            await worker(*given)
        finally:
            self._waiting.unpark()
