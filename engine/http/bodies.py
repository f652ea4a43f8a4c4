"""Bodies of requests, as they come from a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from engine.http.chunks import Chunks
from engine.http.head import CHUNKED
from engine.http.message import Failure

if TYPE_CHECKING:
    from engine.http.connection import Connection

PART: Final = 256 * 1024
"""Most bytes of a part."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Incoming:
    """A body on the wire: of a known length, or in chunks. Read once; parts are never empty.

    Raises Failure: 400 where the client stops before the end, or its chunks are none; 408 where it
    is too slow; 413 where it is more than `limit` bytes.
    """

    __slots__ = ("_chunks", "_connection", "_left", "_limit", "expecting", "length", "received")

    def __init__(self, connection: Connection, length: int, limit: int, expecting: bool) -> None:
        self._connection = connection
        self._chunks = Chunks() if length == CHUNKED else None
        self._left = max(length, 0)
        self._limit = limit
        self.length: int | None = None if length == CHUNKED else length
        self.expecting = expecting
        """Whether the client waits to be told to send it."""
        self.received = 0
        """Bytes of it on the wire so far."""

    @property
    def done(self) -> bool:
        """Whether all of it was read."""
        return self._chunks.done if self._chunks is not None else self._left == 0

    @property
    def left(self) -> int:
        """Bytes that are still to come; CHUNKED where that is not known."""
        return self._left if self._chunks is None else CHUNKED

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._chunks is None:
            if not self._left:
                raise StopAsyncIteration
            part = await self._next(min(self._left, PART))
            self._left -= len(part)
            return part
        return await self._next_chunk(self._chunks)

    async def read(self, limit: int) -> bytes:
        """Return all of it; raises Failure(413) where it is more than `limit` bytes."""
        if self.length is not None and self.length > limit:
            raise too_large(limit)
        parts = []
        size = 0
        async for part in self:
            size += len(part)
            if size > limit:
                raise too_large(limit)
            parts.append(part)
        return b"".join(parts) if len(parts) != 1 else parts[0]

    async def _next_chunk(self, chunks: Chunks) -> bytes:
        while not chunks.done:
            data = await self._next(PART)
            part = chunks.feed(data)
            behind = chunks.behind()
            if behind:
                self._connection.give_back(behind)
                self.received -= len(behind)
            if part:
                self._left += len(part)  # what has come
                if self._left > self._limit:
                    raise too_large(self._limit)
                return part
        raise StopAsyncIteration

    async def _next(self, most: int) -> bytes:
        connection = self._connection
        part = connection.take(most)
        if not part:
            if self.expecting:
                self.expecting = False
                await connection.send_now(CONTINUE)
            part = await connection.receive_some(most)
            if not part:
                raise Failure(400, "the client stopped before the end of the body")
        self.received += len(part)
        return part


class Empty:
    """No body."""

    __slots__ = ()
    length: int | None = 0
    done = True
    expecting = False
    left = 0
    received = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        """Return nothing."""
        return b""


def too_large(limit: int) -> Failure:
    """Return the failure of a body that is more than `limit` bytes."""
    return Failure(413, f"the body is more than {limit} bytes")
