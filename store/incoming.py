"""Uploads: received into memory or a temporary, checked, and committed many at a time.

::

    write … finish ─▶ submit ─┐
    write … finish ─▶ submit ─┼─▶ objects, files in place ─▶ one sync ─▶ one transaction of rows
    write … finish ─▶ submit ─┘                         (store.commits)

What is committed was made durable, or will be in a second (store.syncing). What fails, or is given
up, leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Final

import blake3

from store.cas import Cas
from store.digest import Digest
from store.errors import NoSpace, host_error
from store.object_table import LARGEST
from store.tiers import FILE_MODE, discard

SYNC_EVERY: Final = 32 * 2**20
"""Bytes of a large upload after which they are sent to the disk, so that the sync in the end, for
which others wait, is short."""


class Incoming:
    """One upload. Up to `LARGEST` bytes stay in memory, more go to a file in the primary tier.

    Raises HostError where that cannot be written. It is for one thread at a time.
    """

    def __init__(self, cas: Cas, *, sha256: bool = False) -> None:
        self.size = 0
        self.path: str | None = None
        self._cas = cas
        self._hasher = blake3.blake3()
        self._second = hashlib.sha256() if sha256 else None
        self._parts: list[bytes] = []
        self._handle = -1
        self._synced = 0
        self._digest: Digest | None = None

    @property
    def is_small(self) -> bool:
        """Whether all of it is in memory."""
        return self.path is None

    @property
    def digest(self) -> Digest:
        """The BLAKE3 digest, once all came."""
        if self._digest is None:
            self._digest = Digest(self._hasher.hexdigest())
        return self._digest

    @property
    def sha256(self) -> str:
        """The SHA-256 digest, where it was asked for, once all came."""
        return "" if self._second is None else self._second.hexdigest()

    @property
    def data(self) -> bytes:
        """All bytes, of a small one."""
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def write(self, data: bytes) -> None:
        """Take the next bytes; from `LARGEST` on this waits for the disk."""
        self._hasher.update(data)
        if self._second is not None:
            self._second.update(data)
        self.size += len(data)
        if self.path is None:
            self._parts.append(data)
            if self.size > LARGEST:
                self._spill()
        else:
            self._to_file(data)

    def finish(self) -> None:
        """Close the file; all came."""
        if self._handle >= 0:
            try:
                if self._synced:
                    os.fdatasync(self._handle)
            except OSError as error:
                raise self._failed(error) from error
            finally:
                self._close()

    def discard(self) -> None:
        """Give it up, or what is left of it after it was committed."""
        self._close()
        self._parts = []
        if self.path is not None:
            discard(self.path)

    def _spill(self) -> None:
        self.path = self._cas.temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._handle = os.open(self.path, flags, FILE_MODE)
        except OSError as error:
            raise self._failed(error) from error
        parts, self._parts = self._parts, []
        for part in parts:
            self._to_file(part)

    def _to_file(self, data: bytes) -> None:
        view: Any = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
            if self.size - self._synced >= SYNC_EVERY:
                os.fdatasync(self._handle)
                self._synced = self.size
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> Exception:
        self.discard()
        failure = host_error(error, "cannot write to the store")
        if isinstance(failure, NoSpace):
            self._cas.reconsider(failure)  # the next goes to another tier, if there is one
        return failure

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
