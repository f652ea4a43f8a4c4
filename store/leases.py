"""Leases: which processes use the store now, so that nothing is collected under them.

A lease is a file that its process keeps locked (flock(2)); the lock goes with the process, however
it ends, so a lease that nobody holds is seen at once and removed.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from store.errors import host_error
from store.gate import Gate
from store.records import frozen

SLACK: Final = 6 * 3600
"""Seconds: who holds a lease renews the times of what it uses only where they are older."""

DIRECTORY: Final = "leases"

_numbers = itertools.count()


@frozen
class Holder:
    """A process that uses the store: what for, its id, and since when (seconds since 1970). What it
    uses may show a time of use that is `slack` seconds older."""

    purpose: str
    pid: int
    since: float
    slack: float = SLACK


class Lease:
    """A lease on the store at `root` for `purpose` (as "build"), held while the context lasts.

    What it is for may have begun before, at `since` (seconds since 1970; now), where nothing was
    collected from then on. Who renews the time of use of all that it uses where that is older than
    `slack` seconds says so: less is spared then. A store on a read-only file system needs no lease:
    nothing can be collected there.
    """

    def __init__(
        self, root: Path, purpose: str, *, slack: float = SLACK, since: float | None = None
    ) -> None:
        self._root = root
        self._since = since
        self._slack = slack
        self._path = root / DIRECTORY / f"{os.getpid()}-{next(_numbers)}-{purpose}"
        self._handle = -1

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(exist_ok=True)
            gate = Gate(self._root)
            with gate.passing():
                gate.mark()
                while not self._taken():
                    os.close(self._handle)
                self._write()
        except OSError as error:
            if error.errno != errno.EROFS:
                raise host_error(error, "cannot take a lease on the store") from error
        return self

    def renew(self) -> None:
        """Say that the holder comes only now: what it used before it needs no more."""
        self._since = None
        if self._handle >= 0:
            with Gate(self._root).passing():
                self._write()

    def _write(self) -> None:
        since = time.time() if self._since is None else self._since
        os.pwrite(self._handle, f"{since:.3f} {self._slack:.0f}\n".encode(), 0)

    def _taken(self) -> bool:
        """Lock the file; say whether it is still there, as it may be swept before it is locked."""
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        return os.fstat(self._handle).st_nlink > 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._handle)


def holders(root: Path) -> list[Holder]:
    """Return who holds a lease on the store; leases of processes that are gone are removed."""
    found = []
    try:
        paths = sorted((root / DIRECTORY).iterdir())
    except FileNotFoundError:
        return []
    for path in paths:
        pid, _, purpose = path.name.split("-", 2)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            text = os.read(handle, 64).decode() or f"{path.stat().st_mtime}"
            found.append(Holder(purpose, int(pid), *map(float, text.split())))
        finally:
            os.close(handle)
    return found
