"""Writers that say nothing: whether anybody can change a file through memory.

Who has mapped a file for writing changes it without an event until the mapping ends. The kernel
grants a read lease (fcntl(2), F_SETLEASE) only while nobody has the file open or mapped to write.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import Final

FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


def has_no_writer(path: bytes, inode: int, meanwhile: Callable[[int, int], None]) -> bool:
    """Say whether nobody has the regular file open for writing; where that is so, call
    `meanwhile` with its device and inode. Until that returns nobody can begin to: an open for
    writing waits.

    False as well where it cannot be known: the file is another one, or belongs to somebody else.
    """
    try:
        file = os.open(path, FLAGS)
    except OSError:
        return False
    try:
        status = os.fstat(file)
        if status.st_ino != inode:
            return False
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        meanwhile(status.st_dev, inode)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
