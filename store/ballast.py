"""Ballast: some room that is kept back, so that a full disk does not keep us from removing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from store.room import free_bytes

SIZE: Final = 4 * 2**20
"""Bytes that are kept back: a transaction that removes rows needs new pages, too."""

PLENTY: Final = 4 * SIZE
"""Bytes that must be free for the ballast to be taken in."""


class Ballast:
    """A file at `path` that only takes room. Nothing here raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take_in(self) -> None:
        """Make the file, where it is not there and the disk has plenty of room."""
        with contextlib.suppress(OSError):
            if self._size() >= SIZE or free_bytes(self._path.parent) < PLENTY:
                return
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(handle, 0, SIZE)
            finally:
                os.close(handle)

    def drop(self) -> bool:
        """Give the room back to the disk; say whether there was any."""
        try:
            had = self._size() > 0
            if had:
                os.truncate(self._path, 0)
        except OSError:
            return False
        return had

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size
        except FileNotFoundError:
            return 0
