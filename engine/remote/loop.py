"""One thread with a trio loop of its own, for all that goes over the network beside a build."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

import trio

T = TypeVar("T")

_PATIENCE = 5.0
"""Seconds that closing waits for what was cancelled."""


class Loop:
    """Carries out coroutines that other threads hand in, side by side, and `at_end` when it is
    closed and they have ended."""

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        self._at_end = at_end
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="remote caches", daemon=True)
        self._thread.start()
        self._ready.wait()

    def submit(self, function: Callable[[], Awaitable[T]]) -> Future[T]:
        """Start `function` in the loop; what it gives or raises is the future's."""
        future: Future[T] = Future()
        try:
            self._token.run_sync_soon(self._start, function, future)
        except trio.RunFinishedError:
            future.cancel()
        return future

    def soon(self, function: Callable[[], object]) -> None:
        """Call `function` in the loop, after what came before by this way or by `submit`."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function)

    def is_mine(self) -> bool:
        """Say whether the caller runs in this loop: it must not wait for it."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Cancel all that goes on."""
        try:
            self._token.run_sync_soon(self._nursery.cancel_scope.cancel)
        except trio.RunFinishedError:
            return
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            self._nursery.start_soon(trio.sleep_forever)
        with trio.move_on_after(_PATIENCE / 2):
            await self._at_end()

    def _start(self, function: Callable[[], Awaitable[T]], future: Future[T]) -> None:
        self._nursery.start_soon(_carry_out, function, future)


async def _carry_out(function: Callable[[], Awaitable[T]], future: Future[T]) -> None:
    try:
        value = await function()
    except trio.Cancelled:
        future.cancel()
        raise
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(value)
