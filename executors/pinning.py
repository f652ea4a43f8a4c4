"""Affinity: the processors that an action's processes may run on.

A process inherits it from whoever starts it, so it holds for the whole tree. An action sees it
(nproc counts these processors) and may undo it: it is there for order, not for safety.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator


@contextlib.contextmanager
def pinned(cpus: Collection[int]) -> Iterator[None]:
    """Have what this thread starts meanwhile run on these processors, on any if there are none.

    Raises OSError where it may not run on any of them.
    """
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
