"""Kernel calls for which Python has no names."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False  # the wall is started before typing is there
if TYPE_CHECKING:
    from typing import Final

_ADDR_NO_RANDOMIZE: Final = 0x0040000
_QUERY_PERSONALITY: Final = 0xFFFFFFFF
_PR_SET_CHILD_SUBREAPER: Final = 36
_REPLACED_IN_PLACE: Final = (0xEF53, 0x58465342)
"""f_type of ext4 (and ext2, ext3) and XFS: there rename(2) onto a name writes another inode number
into the entry, wherever that stands. btrfs and tmpfs make a new entry, at the end or the start."""


def fix_addresses() -> bool:
    """Turn address space randomisation off for what this thread starts; say whether that worked.

    Container engines may forbid it (personality(2) is filtered by seccomp).
    """
    library = ctypes.CDLL(None, use_errno=True)
    now = library.personality(ctypes.c_ulong(_QUERY_PERSONALITY))
    if now < 0:
        return False
    before: int = library.personality(ctypes.c_ulong(now | _ADDR_NO_RANDOMIZE))
    return before >= 0


def fixes_addresses() -> bool:
    """Say whether address space randomisation is off for what this thread starts."""
    now = ctypes.CDLL(None).personality(ctypes.c_ulong(_QUERY_PERSONALITY))
    return bool(now >= 0 and now & _ADDR_NO_RANDOMIZE)


def free_addresses() -> None:
    """Let address spaces be randomised again in what this thread starts."""
    library = ctypes.CDLL(None, use_errno=True)
    now = library.personality(ctypes.c_ulong(_QUERY_PERSONALITY))
    if now >= 0:
        library.personality(ctypes.c_ulong(now & ~_ADDR_NO_RANDOMIZE))


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent ends.

    So the init process of a sandbox, which outlives bubblewrap for a moment, can be waited for:
    when it has gone, everything in the sandbox has.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def replaces_in_place(directory: str) -> bool:
    """Say whether a file renamed onto another in `directory` is listed where that one was."""
    status = ctypes.create_string_buffer(512)
    done = ctypes.CDLL(None).statfs(os.fsencode(directory), status)
    kind = ctypes.c_long.from_buffer(status).value
    return done == 0 and kind in _REPLACED_IN_PLACE
