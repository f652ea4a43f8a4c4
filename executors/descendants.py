"""Descendants of a process, as /proc shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from store.records import frozen

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@frozen
class Usage:
    """What a process tree uses now: processes, and bytes of memory that are resident."""

    processes: int
    memory: int


def usage(pid: int) -> Usage:
    """Return what `pid` and everything below it use. What ends meanwhile counts as nothing."""
    count = memory = 0
    for member in tree(pid):
        count += 1
        memory += _resident(member)
    return Usage(count, memory)


def tree(pid: int) -> Iterator[int]:
    """Yield `pid` and the ids of all its descendants."""
    pending = [pid]
    while pending:
        current = pending.pop()
        yield current
        pending += _children(current)


def host_pid(ancestor: int, inner: int) -> int:
    """Return the host's id of the process below `ancestor` that is `inner` in the namespace around
    its own, of which it is the init; `ancestor` where it is gone."""
    for pid in tree(ancestor):
        for line in _read(f"/proc/{pid}/status").splitlines():
            if line.startswith(b"NSpid:") and line.split()[-2:] == [b"%d" % inner, b"1"]:
                return pid
    return ancestor


def marked(mark: bytes) -> Iterator[int]:
    """Yield the ids of this user's processes that were started with `mark` in their environment.

    This finds what left its process group and its parent behind.
    """
    for name in os.listdir("/proc"):
        if name.isdigit() and mark in _read(f"/proc/{name}/environ").split(b"\0"):
            yield int(name)


def alive(pid: int) -> bool:
    """Say whether `pid` runs (a zombie does not)."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return bool(fields) and fields[0] not in (b"Z", b"X")


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [
        int(child)
        for thread in threads
        for child in _read(f"/proc/{pid}/task/{thread}/children").split()
    ]


def _resident(pid: int) -> int:
    """Return the resident memory in bytes, without what is shared with files (libraries)."""
    fields = _read(f"/proc/{pid}/statm").split()
    return (int(fields[1]) - int(fields[2])) * _PAGE if len(fields) > 2 else 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""
