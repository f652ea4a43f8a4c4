"""Whose an unfinished thing is: its name begins with its process, `PID-START-…`.

The process's id alone would not do: in a container the same few ids come again at each start, so
that what a killed server left would seem to be the new one's. START is when the process began, in
ticks of the clock since the machine was started (proc(5)). Names without it are taken, too.
"""

from __future__ import annotations

import os

_marks: dict[int, str] = {}


def mark() -> str:
    """Return what the names of this process's temporaries begin with."""
    pid = os.getpid()
    found = _marks.get(pid)
    if found is None:
        _marks.clear()  # of the process that this one was forked from
        found = _marks[pid] = f"{pid}-{_began(pid) or 0}"
    return found


def is_abandoned(name: str) -> bool:
    """Say whether a name is that of a process that is gone; False where it is nobody's."""
    pid, _, rest = name.partition("-")
    if not pid.isdigit():
        return False
    began = _began(int(pid))
    start, dash, _ = rest.partition("-")
    return began is None or (bool(dash) and start.isdigit() and int(start) != began)


def _began(pid: int) -> int | None:
    """Return when a process began; None where there is none, or only what is left of it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
