"""Commits while a build goes on: a result waits only so long until it is durable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from store.action_cache import ActionCache
from store.index import Write
from store.records import define, field

COMMIT_SECONDS: Final = 0.5
"""How long a result may wait until it is made durable together with others."""


@define(eq=False)
class Commits:
    """Commits what was recorded in an action cache, by one of three ways."""

    actions: ActionCache
    _last: float = field(factory=time.monotonic)
    _thread: threading.Thread | None = None

    def if_due(self) -> None:
        """Make results durable that would else wait for the next execution, however long."""
        if time.monotonic() - self._last > COMMIT_SECONDS:
            self.actions.commit()
            self._last = time.monotonic()

    async def regularly(self) -> None:
        """Make results durable for ever, beside what runs. Raises BnError."""
        import trio

        while True:
            await trio.sleep(COMMIT_SECONDS)
            writes = self.actions.take()
            if writes:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self.actions.write, writes)

    def in_thread(self, failed: Callable[[Exception], object]) -> None:
        """Begin to make results durable beside what runs, unless that goes on already; `failed` is
        told in that thread why it cannot be."""
        if self._thread is not None and self._thread.is_alive():
            return
        writes = self.actions.take()
        if writes:
            self._thread = threading.Thread(target=self._write, args=(writes, failed))
            self._thread.start()

    def finish(self) -> None:
        """Wait for what `in_thread` began."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, writes: list[Write], failed: Callable[[Exception], object]) -> None:
        try:
            self.actions.write(writes)
        except Exception as error:
            failed(error)
