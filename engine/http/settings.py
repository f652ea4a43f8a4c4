"""Settings: all that a server is started with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import Factory, field, frozen

from engine.http.limits import Limits

if TYPE_CHECKING:
    from engine.http.tls import Tls

PROCESS: Final = "process"
"""An upload that was acknowledged survives the server, and is durable about a second later."""

DISK: Final = "disk"
"""An upload that was acknowledged is durable."""

BIND: Final = "127.0.0.1:8980"
MOST_WORKERS: Final = 4
"""Where nothing is configured."""


def default_workers() -> int:
    """Return the number of processors that this process may use, but not more than 4."""
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)))


@frozen(kw_only=True)
class Settings:
    """`[serve]`, with its paths absolute and its sizes in bytes."""

    bind: tuple[str, ...] = (BIND,)
    workers: int = field(factory=default_workers)
    log: str | None = None
    """A path, `-` for the standard error, None for no log."""
    tokens: Path | None = None
    reserve: int | None = None
    share_local: bool = True
    durability: str = PROCESS
    quotas: Mapping[str, int] = Factory(dict)
    public: Mapping[str, str] = Factory(dict)
    limits: Limits = Factory(Limits)
    tls: Tls | None = None
