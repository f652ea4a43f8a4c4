"""The store's policy: how large it may grow, what it keeps, what is hot and what is cold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from store.records import frozen
from store.room import total_bytes

DEFAULT_SHARE: Final = 0.25
"""The share of its file system that a store without another limit may fill."""


@frozen(kw_only=True)
class Policy:
    """Limits and thresholds; `max_size` in bytes over all durable tiers, None for `DEFAULT_SHARE`.

    Results that no build used for `keep_days` are garbage. A blob used `hot_accesses` times within
    `hot_hours` is copied to the RAM disk; one not used for `cold_hours` moves to a slower tier.
    """

    max_size: int | None = None
    keep_days: float = 30.0
    hot_accesses: int = 3
    hot_hours: float = 24.0
    cold_hours: float = 14 * 24.0

    def limit(self, root: Path) -> int:
        """Return the most bytes that the store at `root` may hold."""
        if self.max_size is not None:
            return self.max_size
        return int(total_bytes(root) * DEFAULT_SHARE)
