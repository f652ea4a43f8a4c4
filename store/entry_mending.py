"""Damaged tables of entries: set aside, and made again of every row whose check is right."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from store.entries import DIRECTORY, HINT, WHAT, Entries, Put, Row, lock
from store.entry_rows import parts_of, row_of
from store.entry_tables import PORTION, TABLES
from store.environment import check
from store.errors import HostError, IntegrityError
from store.pages import DATA, found_values

PATIENCE: Final = 10.0
"""Seconds for which others are waited for that find the same."""


def opened(root: Path, *, relaxed: bool = False) -> Entries:
    """Open the entries of the store at `root`, mended where they are damaged; `relaxed` as those.

    Raises HostError where they are and another process uses them.
    """
    with contextlib.suppress(IntegrityError):
        return Entries(root, relaxed=relaxed)
    mend(root)
    return Entries(root, relaxed=relaxed)


def mend(root: Path) -> int | None:
    """Where the entries of the store at `root` are damaged, set their tables aside and make others
    of every row that is good; return how many that are, None where nothing is wrong.

    A row that was removed, or changed, lately may come back. Raises HostError where they are
    damaged and another process has them open.
    """
    path = root / DIRECTORY
    if not (path / DATA).exists() or _is_sound(path):
        return None
    with _alone(root):
        if _is_sound(path):
            return None  # another process was quicker
        aside = root / "quarantine" / f"{DIRECTORY}.{time.time_ns()}"
        aside.parent.mkdir(exist_ok=True)
        os.rename(path, aside)
    newest: dict[bytes, tuple[Row, bytes]] = {}
    for name, value in found_values(f"{aside}/{DATA}"):
        row = row_of(name, value)
        if row is not None and (name not in newest or newest[name][0].stored < row.stored):
            newest[name] = (row, value)
    entries = Entries(root)
    try:
        puts = [
            Put(*parts_of(name, value), row.digest, row.size, row.meta)
            for name, (row, value) in newest.items()
        ]
        for start in range(0, len(puts), PORTION):
            entries.put(puts[start : start + PORTION])
    finally:
        entries.close()
    return len(newest)


def in_use(root: Path) -> bool:
    """Say whether a process has the entries of the store at `root` open, as a server does all the
    time. Raises HostError where the store cannot be written."""
    if not (root / DIRECTORY).exists():
        return False
    try:
        os.close(lock(root, fcntl.LOCK_EX | fcntl.LOCK_NB))
    except BlockingIOError:
        return True
    return False


def _is_sound(path: Path) -> bool:
    try:
        check(path, TABLES, WHAT, HINT)
    except IntegrityError:
        return False
    return True


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep the entries from being opened; raises HostError where somebody has them open."""
    handle, last = -1, time.monotonic() + PATIENCE
    while handle < 0:
        try:
            handle = lock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > last:
                raise HostError(
                    f"{root / DIRECTORY}: the {WHAT} is damaged, and another process uses it",
                    "stop the server, then run `bn store rebuild-index`",
                ) from None
            time.sleep(0.05)
    try:
        yield
    finally:
        os.close(handle)
