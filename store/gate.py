"""The gate: the collector removes while it is closed, so nothing is removed that is just taken up.

Whoever begins to use the store (a lease), or something in it that was not used for long (a touch),
goes through the open gate; the collector closes it for a moment, looks at leases and change times,
and removes what still counts as unused. So a use comes either before that look, which then sees it,
or after the removal, and then what is gone is seen to be gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from store.errors import host_error


class Gate:
    """The gate of the store at `root`: a file that is locked (flock(2)), shared or alone.

    Where the store cannot be written to, nothing can be removed from it either: no lock is taken.
    """

    def __init__(self, root: Path) -> None:
        self._path = f"{root}/gate"

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Take something up: wait while the gate is closed, and keep it from being closed."""
        with self._locked(fcntl.LOCK_SH):
            yield

    def mark(self) -> None:
        """Note that somebody came who may use anything from now on."""
        with contextlib.suppress(OSError):
            handle = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
            )
            os.write(handle, b".")
            os.close(handle)

    def marks(self) -> int:
        """Return how many came so far."""
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Remove something: nobody takes up anything meanwhile."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise host_error(error, "cannot lock the store") from error
            yield
            return
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)
