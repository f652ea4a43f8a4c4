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
_EXT: Final = 0xEF53
"""f_type of ext4, ext3 and ext2."""
_REPLACED_IN_PLACE: Final = (_EXT, 0x58465342)
"""f_type of those and of XFS: there rename(2) onto a name writes another inode number into the
entry, wherever that stands. btrfs and tmpfs make a new entry, at the end or the start."""


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
    return _kind(directory) in _REPLACED_IN_PLACE


def lists_by_name(directory: str) -> bool:
    """Say whether a directory lists names in an order that they alone decide, not when they came.
    ext4 does, which lists by a hash of them, but for one made without `dir_index`. Raises OSError.
    """
    if _kind(directory) != _EXT:
        return False
    one, names = f"{directory}/order", [f"order.{number}" for number in range(4)]
    listed = []
    os.close(os.open(one, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        for order in (names, names[::-1]):
            for name in order:
                os.link(one, f"{directory}/{name}")
            listed.append([name for name in os.listdir(directory) if name in names])
            for name in order:
                os.unlink(f"{directory}/{name}")
    finally:
        os.unlink(one)
    return listed[0] == listed[1]


def _kind(directory: str) -> int | None:
    """Return the f_type of the file system of a directory, None where that is not to be had."""
    status = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None).statfs(os.fsencode(directory), status):
        return None
    return ctypes.c_long.from_buffer(status).value
