"""Where the store is. It stands alone because an up-to-date build asks nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from store.errors import HostError


def default_store() -> Path:
    """Return `$BN_STORE`, else `bn` under `$XDG_CACHE_HOME` (`~/.cache`), an absolute path.

    Raises HostError for a user without a home.
    """
    if chosen := os.environ.get("BN_STORE"):
        return Path(chosen).absolute()
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache_home):  # such a value is to be ignored, says the XDG specification
        cache_home = os.path.expanduser("~/.cache")
    if not os.path.isabs(cache_home):
        raise HostError(
            "there is no home directory to keep the store in",
            "set HOME, or BN_STORE to a directory",
        )
    return Path(cache_home) / "bn"
