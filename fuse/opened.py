"""Open files: descriptors held until they are released, and files that the kernel reads by itself.

Where the kernel can (Linux 6.9, root), it is handed the blob behind a file when that is opened, and
reads and maps it as if it were opened directly: nothing is copied or cached twice. All who have one
file open at one time share one such backing, because the kernel insists on that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from attrs import define

from fuse.nodes import LiveFile, OpenNode
from fuse.wire import Opened

_CANNOT: Final = frozenset({errno.EPERM, errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP})
"""Errors by which the kernel says that it reads nothing by itself; ELOOP is about one file."""


@define
class Backings:
    """How the kernel is handed files: `open` takes a descriptor and gives a number over 0, `close`
    takes that back."""

    open: Callable[[int], int]
    close: Callable[[int], None]


@define(eq=False)
class _Shared:
    """What all who have one inode open share; `backing` is 0 where requests are read for them."""

    backing: int
    users: int = 0


class OpenFiles:
    """The open files of one mount, by handle."""

    def __init__(self) -> None:
        self.backings: Backings | None = None
        self._shared: dict[int, _Shared] = {}
        self._open: dict[int, tuple[int, int | None]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, inode: int, node: OpenNode, descriptor: int) -> tuple[int, Opened, int]:
        """Take over a descriptor; return the handle, what the kernel may do, and the backing."""
        shared = self._shared.get(inode)
        if shared is None:
            live = isinstance(node, LiveFile)
            shared = self._shared[inode] = _Shared(0 if live else self._back(descriptor))
        shared.users += 1
        self._last += 1
        if shared.backing:
            os.close(descriptor)  # the kernel holds the file now
            self._open[self._last] = (inode, None)
            return self._last, Opened.NO_FLUSH | Opened.PASSTHROUGH, shared.backing
        self._open[self._last] = (inode, descriptor)
        cache = Opened.NOTHING if isinstance(node, LiveFile) else Opened.KEEP_CACHE
        return self._last, Opened.NO_FLUSH | cache, 0

    def descriptor(self, handle: int) -> int:
        """Return what is read from. Raises KeyError where that handle is not open here."""
        descriptor = self._open[handle][1]
        if descriptor is None:
            raise KeyError(handle)
        return descriptor

    def release(self, handle: int) -> None:
        """Let go of an open file. Raises KeyError where that handle is not open."""
        inode, descriptor = self._open.pop(handle)
        if descriptor is not None:
            os.close(descriptor)
        shared = self._shared[inode]
        shared.users -= 1
        if not shared.users:
            del self._shared[inode]
            if shared.backing and self.backings is not None:
                self.backings.close(shared.backing)

    def _back(self, descriptor: int) -> int:
        """Return the number under which the kernel has the file, 0 if it cannot have it."""
        if self.backings is None:
            return 0
        try:
            return self.backings.open(descriptor)
        except OSError as error:
            if error.errno in _CANNOT:
                self.backings = None
            return 0
