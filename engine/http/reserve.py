"""Bounds: quotas of name spaces, and a reserve of the disk's room that uploads may not take.

::

    free:   2 × reserve        reserve                0
    ─────────────┼────────────────┼──────────────────┤
     all is well   entries go, the   uploads are refused (507),
                   oldest first      reads and removals go on

The rest of the machine, the index and the log need some room to go on when the disk is full.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine.http.message import Failure
from engine.units import show_size
from store.room import free_bytes, total_bytes

SHARE: Final = 0.05
MOST: Final = 2 * 10**9
"""Where nothing is configured, the reserve is this share of the disk, but not more bytes."""

OTHERS: Final = "*"
"""The quota of name spaces that none is given for by name."""

LOOK_SECONDS: Final = 0.25
"""How long the free room that was found is believed."""

RETRY_SECONDS: Final = 30
"""After how long a client that was refused may come again: by then the janitor was there."""


def quota_of(quotas: Mapping[str, int], name_space: str) -> int | None:
    """Return the most bytes that a name space may hold, None where there is no limit."""
    return quotas.get(name_space, quotas.get(OTHERS))


class Reserve:
    """The reserve of the disk that holds `root`: `size` bytes, or the default."""

    def __init__(self, root: Path, size: int | None = None) -> None:
        self._root = root
        self._given = size
        self._looked = float("-inf")
        self._free = 0
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that are to stay free."""
        self._look()
        return self._size

    @property
    def free(self) -> int:
        """Bytes that were free just now; 0 where the disk is gone."""
        self._look()
        return self._free

    def is_short(self, more: int = 0) -> bool:
        """Say whether the reserve is touched, or would be by `more` bytes."""
        self._look()
        return self._free - more < self._size

    def check(self, more: int = 0) -> None:
        """Raise Failure(507) where uploads are refused."""
        if not self.is_short(more):
            return
        raise Failure(
            507,
            f"the store's disk is full: {show_size(self._free)} are free, "
            f"and {show_size(self._size)} of them kept back",
            "free some space there, or give the name spaces smaller quotas",
            {"retry-after": str(RETRY_SECONDS)},
        )

    def missing(self) -> int:
        """Return how many bytes are to be freed until all is well again, 0 where it is."""
        self._look()
        return max(0, 2 * self._size - self._free)

    def freed_since(self, before: int) -> int:
        """Return by how many bytes `free` grew since it was `before`; it is looked up again."""
        self._looked = float("-inf")
        self._look()
        return max(0, self._free - before)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._free = free_bytes(self._root)
            default = min(MOST, int(total_bytes(self._root) * SHARE))
            self._size = default if self._given is None else self._given
        except OSError:
            self._free = 0
