"""Commits while a build goes on: a result waits only so long until it is durable."""

from __future__ import annotations

import threading
import time
from typing import Final

from store.action_cache import ActionCache
from store.index import Write
from store.records import define, field

COMMIT_SECONDS: Final = 0.5
"""How long a result may wait until it is made durable together with others."""


@define(eq=False)
class Commits:
    """Commits what was recorded in an action cache, in trio or without it."""

    actions: ActionCache
    _last: float = field(factory=time.monotonic)
    _thread: threading.Thread | None = None
    _failure: Exception | None = None

    async def regularly(self) -> None:
        """Make results durable for ever, beside what runs. Raises BnError."""
        import trio

        while True:
            await trio.sleep(COMMIT_SECONDS)
            writes = self.actions.take()
            if writes:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self.actions.write, writes)

    def if_due(self) -> None:
        """Without trio: begin to make results durable that would else wait for the next execution,
        however long. Raises BnError where that failed the time before."""
        if time.monotonic() - self._last > COMMIT_SECONDS:
            self.finish()
            if writes := self.actions.take():
                self._thread = threading.Thread(target=self._write, args=(writes,))
                self._thread.start()
            self._last = time.monotonic()

    def finish(self) -> None:
        """Wait for what `if_due` began. Raises BnError where it failed."""
        if self._thread is not None:
            self._thread.join()
        failure, self._thread, self._failure = self._failure, None, None
        if failure is not None:
            raise failure

    def _write(self, writes: list[Write]) -> None:
        try:
            self.actions.write(writes)
        except Exception as error:
            self._failure = error
