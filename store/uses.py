"""Times of use, beside the tables of what is used."""

from __future__ import annotations

import errno
import os
import struct
import time
from typing import Final

_TIME: Final = struct.Struct("<d")


class Uses:
    """When something was used last, in a file of one number for each of `slots`.

    It is no part of the table because it has to be seen at once and needs no sync: a time that is
    lost, or that of something else, only makes something go earlier or later than it could.
    """

    def __init__(self, path: str, slots: int) -> None:
        self._path = path
        self._size = slots * _TIME.size
        self._handle = -1
        self._is_whole = False

    def note(self, slot: int, now: float | None = None) -> None:
        """Note a use, at this moment unless another one is given. Raises OSError."""
        handle = self._handle
        if not self._is_whole:
            handle = self._opened(os.O_RDWR | os.O_CREAT)
            if os.fstat(handle).st_size < self._size:
                os.posix_fallocate(handle, 0, self._size)
            self._is_whole = True
        os.pwrite(handle, _TIME.pack(time.time() if now is None else now), slot * _TIME.size)

    def of(self, slot: int) -> float:
        """Return the last use noted, 0 where there is none."""
        try:
            data = os.pread(self._opened(os.O_RDWR), _TIME.size, slot * _TIME.size)
        except OSError:
            return 0.0
        return float(_TIME.unpack(data)[0]) if len(data) == _TIME.size else 0.0

    def all(self) -> list[float]:
        """Return the last use of each slot."""
        try:
            data = os.pread(self._opened(os.O_RDWR), self._size, 0)
        except OSError:
            data = b""
        return [row[0] for row in _TIME.iter_unpack(data.ljust(self._size, b"\0")[: self._size])]

    def close(self) -> None:
        """Close the file; it opens again when it is needed."""
        handle, self._handle = self._handle, -1
        self._is_whole = False
        if handle >= 0:
            os.close(handle)

    def _opened(self, flags: int) -> int:
        if self._handle < 0:
            try:
                self._handle = os.open(self._path, flags | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if flags & os.O_CREAT or error.errno not in (errno.EROFS, errno.EACCES):
                    raise
                self._handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self._handle
