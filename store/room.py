"""Room on a disk, in bytes."""

from __future__ import annotations

import os
from pathlib import Path


def total_bytes(path: str | Path) -> int:
    """Return the size of the file system that holds `path`. Raises OSError."""
    status = os.statvfs(path)
    return status.f_blocks * status.f_frsize


def free_bytes(path: str | Path) -> int:
    """Return what a user may still put on the file system that holds `path`. Raises OSError."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
