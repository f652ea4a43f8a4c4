"""Commits while a build goes on: a result waits only so long until it is durable."""

from __future__ import annotations

import time
from typing import Final

from store.action_cache import ActionCache
from store.records import define, field

COMMIT_SECONDS: Final = 0.5
"""How long a result may wait until it is made durable together with others."""


@define(eq=False)
class Commits:
    """Commits what was recorded in an action cache, by one of two ways."""

    actions: ActionCache
    _last: float = field(factory=time.monotonic)

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
