"""Times that order what happens in a process, though the machine's clock is set back now and then.

Where a clock is set by another one, as in virtual machines, it goes back by fractions of a second
without notice: what was used just now would then count as used before what was stored earlier.
"""

from __future__ import annotations

import threading
import time
from typing import Final

STEP: Final = 2e-6
"""Seconds between two times at least: they are kept in microseconds."""

BACK: Final = 3600.0
"""Seconds by which the clock may have been wrong; more than that is taken for a correction."""


class Clock:
    """Gives times (seconds since 1970), each later than all before it. Threads may share it."""

    def __init__(self) -> None:
        self._last = 0.0
        self._lock = threading.Lock()

    def now(self, number: int = 1) -> float:
        """Return the first of so many times, `STEP` apart, that nobody else gets."""
        with self._lock:
            now = time.time()
            if self._last - BACK < now < self._last + STEP:
                now = self._last + STEP
            self._last = now + STEP * (number - 1)
            return now
