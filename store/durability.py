"""Durability: what was written is on the disk when this returns."""

from __future__ import annotations

import os
from pathlib import Path

from store.errors import host_error


def sync_file_system(path: Path) -> None:
    """Flush the file system that holds `path` (syncfs(2)); raises HostError where that fails."""
    import ctypes

    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(handle) != 0:
            number = ctypes.get_errno()
            error = OSError(number, os.strerror(number), str(path))
            raise host_error(error, "cannot make the store durable")
    finally:
        os.close(handle)
