"""The error tree of bn and its exit codes.

::

    BnError                 never raised itself
    ├── InputError      3   the user can mend it; carries file:line:column where there is one
    ├── HostError       4   the machine: no space, store locked, no sandbox, network down
    ├── IntegrityError  5   bytes are not what their digest says; a corrupt index
    └── InternalError  70   a bug in bn

An action that fails is a result and exits with 1 (`ACTION_FAILED`); a build that did not reproduce
exits with 6; wrong usage of the command line with 2; an interrupt with 130.

It stands in `store` because that is the lowest layer: everything above raises these too.
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final

OK: Final = 0
ACTION_FAILED: Final = 1
USAGE: Final = 2
NOT_REPRODUCIBLE: Final = 6
INTERRUPTED: Final = 130


class BnError(Exception):
    """An error with a place, a message (`where: what is wrong`) and an optional hint."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def render(self) -> str:
        """Return the message and, on a line of its own, the hint."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InputError(BnError):
    """Something that the user wrote is wrong and the user can mend it."""

    exit_code = 3


class HostError(BnError):
    """The machine does not give what is needed."""

    exit_code = 4


class NoSpace(HostError):
    """A file system is full, or was until what was half-written there was removed again."""


class IntegrityError(BnError):
    """Bytes are not what their digest says."""

    exit_code = 5


class InternalError(BnError):
    """A bug in bn."""

    exit_code = 70


_HINTS: Final = {
    errno.ENOSPC: "free some space, or put the store elsewhere with BN_STORE",
    errno.EDQUOT: "your disk quota is used up: free some space or move the store with BN_STORE",
    errno.EROFS: "the file system is read-only: put the store elsewhere with BN_STORE",
    errno.EACCES: "check who owns it and its permissions",
    errno.EPERM: "check who owns it and its permissions",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}


def host_error(error: OSError, what: str) -> HostError:
    """Turn an operating system error into a `HostError` that says what bn was doing."""
    place = f"{error.filename}: " if error.filename else ""
    reason = (error.strerror or str(error)).lower()
    kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostError
    return kind(f"{place}{what}: {reason}", _HINTS.get(error.errno or 0, ""))
