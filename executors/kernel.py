"""Kernel calls for which Python has no names."""

from __future__ import annotations

import ctypes
from typing import Final

_ADDR_NO_RANDOMIZE: Final = 0x0040000
_QUERY_PERSONALITY: Final = 0xFFFFFFFF
_PR_SET_CHILD_SUBREAPER: Final = 36


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


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent ends.

    So the init process of a sandbox, which outlives bubblewrap for a moment, can be waited for:
    when it has gone, everything in the sandbox has.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
