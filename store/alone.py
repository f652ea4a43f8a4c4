"""The lock that those take who remove copies because others are there: one of them at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from store.errors import host_error


@contextlib.contextmanager
def alone(root: Path, what: str, *, wait: bool = True) -> Iterator[bool]:
    """Keep the collector and other migrations out of the store at `root` while the context lasts.

    Gives False where somebody is there and `wait` is not. Raises HostError, saying `what` could not
    be done, where the store cannot be written.
    """
    try:
        handle = os.open(root / "gc.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise host_error(error, f"cannot {what}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def is_free(root: Path) -> bool:
    """Say whether nobody keeps others out just now."""
    try:
        handle = os.open(root / "gc.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
