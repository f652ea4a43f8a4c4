"""How much of the processors' time others used while something was measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

IDLE: Final = (3, 4)
"""Columns of /proc/stat that count no work: idle, and waiting for disks."""

COUNTED: Final = 8
"""Columns that are counted at all; those after them are part of these."""


class Others:
    """A watch that is started when it is made."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._began = self._now()

    def share(self) -> float | None:
        """Return the share (0-1) of all processors' time since then that other processes, and a
        hypervisor, had; None where the kernel does not tell. This process's children count as its
        own once they ended."""
        before, after = self._began, self._now()
        if before is None or after is None or after[1] <= before[1]:
            return None
        used = after[0] - before[0] - (after[2] - before[2])
        return round(min(1.0, max(0.0, used / (after[1] - before[1]))), 3)

    def _now(self) -> tuple[float, float, float] | None:
        """Return seconds of work, seconds altogether, and seconds of this process's work."""
        try:
            line = (self._root / "proc/stat").read_text().splitlines()[0].split()
            ticks = [int(word) for word in line[1 : COUNTED + 1]]
        except (OSError, ValueError, IndexError):
            return None
        rate = os.sysconf("SC_CLK_TCK")
        work = sum(count for at, count in enumerate(ticks) if at not in IDLE)
        return work / rate, sum(ticks) / rate, sum(os.times()[:4])
