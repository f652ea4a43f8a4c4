"""The turnstile: commands that may run now, and those that start the moment another one has ended.

What is staged before its turn needs nobody's attention to start: not the loop's, which is busy with
what the last one left. So processors do not stand idle meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable


class Pass:
    """A command's way through the turnstile; `since` is when it started, by `time.monotonic`, None
    while it waits."""

    def __init__(self, start: Callable[[], None], share: int, room: int) -> None:
        """Nothing started yet."""
        self.start = start
        self.share = share
        self.room = room
        self.since: float | None = None


class Turnstile:
    """Lets commands run that hold so many processors together. Who enters has to leave."""

    def __init__(self) -> None:
        """Nothing runs."""
        self._held = 0
        self._line: deque[Pass] = deque()

    def enter(self, start: Callable[[], None], share: int = 1, room: int = 0) -> Pass:
        """Have `start` called as soon as what runs leaves `share` of the processors in `room`, now
        if there are (0: always). It must not raise where others call it, as they leave."""
        one = Pass(start, share, room)
        self._line.append(one)
        self._let_through()
        return one

    def leave(self, one: Pass) -> None:
        """Make room for the next one, and start it."""
        if one.since is not None:
            self._held -= one.share
        else:
            self._line.remove(one)
        self._let_through()

    def _let_through(self) -> None:
        while self._line:
            one = self._line[0]
            if one.room and self._held and self._held + one.share > one.room:
                return
            self._line.popleft()
            self._held += one.share
            one.since = time.monotonic()
            one.start()
