"""The framing of many blobs in one body: `application/x-bn-blobs`, for server and client.

::

    64 hexadecimal digits, space, length in decimal, LF, that many bytes; the next blob …

An empty body holds no blobs. Pure: nothing here reads, writes, or checks a digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from store.digest import Digest

MEDIA_TYPE: Final = "application/x-bn-blobs"

WHOLE: Final = 128 * 1024
"""Bytes up to which a decoder gives a blob as one piece."""

LARGEST: Final = 2**40
"""Bytes of the largest blob that a head may announce, where nothing less is said."""

_HEAD: Final = re.compile(rb"([0-9a-f]{64}) (0|[1-9][0-9]{0,15})\n")
_HEAD_MOST: Final = 64 + 1 + 16 + 1


class FramingError(ValueError):
    """The bytes are no frames, or end within one."""


class Piece(NamedTuple):
    """Bytes of a blob, in order; each blob is at least one piece, a small one exactly one."""

    digest: Digest
    size: int
    """Bytes of the whole blob."""
    offset: int
    """Where in the blob `data` begins."""
    data: bytes

    @property
    def last(self) -> bool:
        """Whether the blob ends with this piece."""
        return self.offset + len(self.data) == self.size


def head(digest: str, size: int) -> bytes:
    """Return what stands before a blob of `size` bytes."""
    return b"%s %d\n" % (digest.encode(), size)


class Decoder:
    """Takes frames apart as their bytes come, and holds back less than `whole` bytes and a head.

    A blob over `limit` bytes is refused by its head. Every other spelling of a head than the one
    that `head` gives is, too.
    """

    def __init__(self, *, limit: int = LARGEST, whole: int = WHOLE) -> None:
        self._limit = limit
        self._whole = whole
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._needed = 0  # bytes with which it goes on
        self._digest = Digest("")
        self._size = 0
        self._left = -1  # bytes of the blob that are to come; negative: a head is to come

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces that `data` completes; take all of them before the next call.

        Raises FramingError, after which the decoder is of no more use.
        """
        if self._kept:
            self._keep(data)
            if self._kept_bytes < self._needed:
                return
            data = b"".join(self._kept)
            self._kept, self._kept_bytes = [], 0
        self._needed = 0
        at, end = 0, len(data)
        while at < end or self._left == 0:
            if self._left < 0:
                after = self._read_head(data, at)
                if after is None:
                    break
                at = after
            ready = min(self._left, end - at)
            if ready < self._left and (ready == 0 or self._size <= self._whole):
                self._needed = self._left
                break
            offset = self._size - self._left
            self._left -= ready
            piece = Piece(self._digest, self._size, offset, data[at : at + ready])
            at += ready
            if self._left == 0:
                self._left = -1
            yield piece
        if at < end:
            self._keep(data[at:])

    def finish(self) -> None:
        """Say that no more bytes come; raises FramingError where the last blob is cut short."""
        if self._left >= 0:
            raise FramingError(f"blob {self._digest} is cut short")
        if self._kept:
            raise FramingError("the head of a blob is cut short")

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)

    def _read_head(self, data: bytes, at: int) -> int | None:
        """Take over the head at `at` and return where it ends; None where bytes of it are to
        come."""
        found = _HEAD.match(data, at)
        if found is None:
            rest = data[at : at + _HEAD_MOST]
            if len(rest) == _HEAD_MOST or b"\n" in rest or not _may_begin(rest):
                raise FramingError("a blob begins with its digest, a space, its length and LF")
            return None
        size = int(found[2])
        if size > self._limit:
            raise FramingError(f"a blob of {size} bytes is over the limit of {self._limit}")
        self._digest = Digest(found[1].decode())
        self._size = self._left = size
        return found.end()


_BEGUN: Final = re.compile(rb"[0-9a-f]{0,64}|[0-9a-f]{64} (0|[1-9][0-9]{0,15})?")


def _may_begin(data: bytes) -> bool:
    """Say whether a head may begin with `data`."""
    return _BEGUN.fullmatch(data) is not None
