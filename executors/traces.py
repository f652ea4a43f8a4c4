"""Traces: what an action may have left in the directories of its workspace."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Final

from store.store import remove_tree

_GET_FLAGS: Final = 0x80086601
"""FS_IOC_GETFLAGS: the attributes that chattr(1) sets."""


def mark(descriptor: int) -> tuple[object, ...]:
    """Return what an action may have changed of a directory or file of the workspace."""
    status = os.fstat(descriptor)
    try:
        flags = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        flags = b""
    # a directory that held much stays larger on some file systems
    return (status.st_mode, status.st_size, status.st_uid, flags, _attributes(descriptor))


def _attributes(descriptor: int) -> list[str]:
    try:
        return os.listxattr(descriptor)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []


def clear(directory: str, but: set[str] | frozenset[str] = frozenset()) -> None:
    """Remove everything in a directory but some names."""
    for name in os.listdir(directory):
        if name in but:
            continue
        path = f"{directory}/{name}"
        if stat.S_ISDIR(os.lstat(path).st_mode):
            remove_tree(path)
        else:
            os.unlink(path)
