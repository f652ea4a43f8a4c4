"""Where the store is. It stands alone because an up-to-date build asks nothing else."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path


def default_store() -> Path:
    """Return `$BN_STORE`, else `bn` under `$XDG_CACHE_HOME` (`~/.cache`), an absolute path.

    Raises HostError for a user without a home.
    """
    from pathlib import Path

    return Path(store_path())


def store_path() -> str:
    """Return the same as text: pathlib takes longer to import than a record to be compared."""
    if chosen := os.environ.get("BN_STORE"):
        return os.path.join(os.getcwd(), chosen)
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache_home):  # such a value is to be ignored, says the XDG specification
        cache_home = os.path.expanduser("~/.cache")
    if not os.path.isabs(cache_home):
        from store.errors import HostError

        raise HostError(
            "there is no home directory to keep the store in",
            "set HOME, or BN_STORE to a directory",
        )
    return os.path.join(cache_home, "bn")
