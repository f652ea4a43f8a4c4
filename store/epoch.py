"""The modification time of everything that is stored or staged."""

from __future__ import annotations

from typing import Final

EPOCH: Final = 315_532_800
"""Seconds since 1970 of 1980-01-01T00:00:00Z, the oldest time that zip can tell: the modification
time of every stored and staged file, and SOURCE_DATE_EPOCH in actions."""

EPOCH_NS: Final = (EPOCH * 1_000_000_000, EPOCH * 1_000_000_000)
