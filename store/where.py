"""Where the store is. It stands alone because an up-to-date build asks nothing else."""

from __future__ import annotations

import os
from pathlib import Path


def default_store() -> Path:
    """Return `$BN_STORE`, else `bn` under `$XDG_CACHE_HOME` (`~/.cache`)."""
    if chosen := os.environ.get("BN_STORE"):
        return Path(chosen).absolute()
    cache_home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache_home) / "bn"
