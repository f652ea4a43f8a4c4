"""What is said of tiers and of what they hold."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from store.digest import Digest
from store.records import frozen

RAM, NVME, SSD, HDD, NETWORK = range(5)
LEVEL_NAMES: Final = ("RAM disk", "NVMe", "SATA SSD", "HDD", "network")


class Form(StrEnum):
    """In what form a blob lies in a tier: as a file, whose name ends so, or in the table of
    objects."""

    PLAIN = ""
    EXECUTABLE = ".x"
    PACKED = ".zst"
    OBJECT = "/"


FILES: Final = (Form.PLAIN, Form.EXECUTABLE, Form.PACKED)
"""The forms that are files."""


class State(StrEnum):
    """What can be done with a tier now."""

    OK = "ok"
    FULL = "full"
    READ_ONLY = "read-only"
    GONE = "gone"
    ABSENT = "absent"
    """A RAM disk that nothing was put on yet; its directory is made when something is."""


@frozen(kw_only=True)
class TierSpec:
    """A tier as configured: `level` is 0 RAM disk, 1 NVMe, 2 SATA SSD, 3 HDD, 4 network.

    `max_size` is in bytes; `cleanup_policy` is lru (what was used longest ago goes first when the
    limit is reached), age (only what is older than `retention_days`) or none.
    """

    name: str
    path: Path
    level: int
    max_size: int | None = None
    auto_create: bool = True
    cleanup_policy: str = "lru"
    retention_days: float | None = None


@frozen
class Held:
    """A form that holds a blob: its size on disk in bytes, the time of its last use (a file's
    change time, seconds since 1970), and how many names it has."""

    digest: Digest
    form: Form
    size: int
    used: float
    links: int


@frozen
class Incident:
    """Something that happened to a tier while it was used; the work went on without it."""

    tier: str
    state: State
    reason: str
