"""inotify(7) through ctypes: files and directories watched by inode."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MODIFY: Final = 0x002
ATTRIB: Final = 0x004
CLOSE_WRITE: Final = 0x008
OPEN: Final = 0x020
NAMES: Final = 0x040 | 0x080 | 0x100 | 0x200
"""A name in a directory came, went, or was moved here or away."""
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
UNMOUNT: Final = 0x2000
OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
DONT_FOLLOW: Final = 0x2000000
MASK_ADD: Final = 0x20000000

GONE: Final = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED
"""What is watched is no more where it was, or no more watched."""

FILE: Final = OPEN | MODIFY | ATTRIB | CLOSE_WRITE | DELETE_SELF | MOVE_SELF
DIRECTORY: Final = NAMES | ATTRIB | DELETE_SELF | MOVE_SELF
PLACE: Final = ATTRIB | DELETE_SELF | MOVE_SELF

LIMIT: Final = Path("/proc/sys/fs/inotify/max_user_watches")

_EVENT: Final = struct.Struct("iIII")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_BUFFER: Final = 1 << 18
_INIT_FLAGS: Final = os.O_CLOEXEC | os.O_NONBLOCK


class Inotify:
    """One queue of events and the inodes that it is about. Raises OSError where there is none."""

    def __init__(self) -> None:
        self.handle = _checked(_LIBC.inotify_init1(_INIT_FLAGS), b"inotify")

    def add(self, path: bytes, mask: int) -> int:
        """Watch what is at `path` itself, not what a link leads to; return the watch's number.

        An inode has one number, and asks for all that was ever asked. Raises OSError, of ENOSPC
        where the user has no watch left.
        """
        flags = ctypes.c_uint32(mask | DONT_FOLLOW | MASK_ADD)
        return _checked(_LIBC.inotify_add_watch(self.handle, path, flags), path)

    def events(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield what is in the queue now: the watch's number (-1 of an overflow), mask, name."""
        while True:
            try:
                data = os.read(self.handle, _BUFFER)
            except BlockingIOError:
                return
            yield from parsed(data)

    def no_more_opens(self, path: bytes) -> None:
        """Tell no more of it when the file at `path` is opened. Raises OSError."""
        flags = ctypes.c_uint32((FILE & ~OPEN) | DONT_FOLLOW)
        _checked(_LIBC.inotify_add_watch(self.handle, path, flags), path)

    def close(self) -> None:
        """End all watches."""
        os.close(self.handle)


def parsed(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the events that were read from a queue."""
    place = 0
    while place < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, place)
        place += _EVENT.size + length
        yield watch, mask, data[place - length : place].rstrip(b"\0")


def most_watches() -> int:
    """Return how many inodes a user may watch in all; 0 where the system does not say."""
    try:
        return int(LIMIT.read_text())
    except (OSError, ValueError):
        return 0


def _checked(result: int, path: bytes) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    return int(result)
