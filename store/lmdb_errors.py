"""Errors of LMDB as ours, and the system's as LMDB's."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

import lmdb

from store.errors import BnError, HostError

Value = TypeVar("Value")


def told(error: lmdb.Error, what: str, size: int, corrupt: Callable[[str], BnError]) -> BnError:
    """Return the error of ours that says what LMDB did: `what` begins with the place and says what
    could not be done, `size` is that of the map in bytes, `corrupt` makes the error of a damaged
    table."""
    match error:
        case lmdb.CorruptedError() | lmdb.InvalidError() | lmdb.PageNotFoundError():
            return corrupt(str(error))
        case lmdb.VersionMismatchError() | lmdb.IncompatibleError() | lmdb.PanicError():
            return corrupt(str(error))
        case lmdb.MapFullError():
            return HostError(
                f"{what}: it does not fit into {size} bytes of address space",
                "raise the limit on address space (ulimit -v)",
            )
    return HostError(f"{what}: {error}", "check its owner and the space on its disk")


def as_lmdb(action: Callable[[], Value]) -> Value:
    """Return what `action` gives; the system's errors become LMDB's."""
    try:
        return action()
    except OSError as error:
        raise lmdb.Error(os.strerror(error.errno or errno.EIO)) from error


def error_number(error: BaseException | None) -> int:
    """Return the number of the system's error behind one of LMDB's, EIO where it is unknown: LMDB
    only tells its text."""
    if isinstance(error, lmdb.MapFullError):
        return errno.ENOSPC
    text = str(error)
    if "already open" in text:
        return errno.EBUSY
    known = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)
    return next((number for number in known if os.strerror(number) in text), errno.EIO)
