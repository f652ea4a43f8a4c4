"""Blobs of bn's own protocol: one at a time, and many in frames."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final

import trio

from engine.http.bn.requests import MISS, answer, digests_in
from engine.http.bn.rows import BLOB, held, portions
from engine.http.framing import MEDIA_TYPE, Decoder, FramingError, Piece, head
from engine.http.message import Body, Failure, Request, Response, Stored
from engine.http.service import Item, Service
from store.digest import Digest

_HEADERS: Final = {
    "content-type": "application/octet-stream",
    "cache-control": "private, max-age=31536000, immutable",
}

_SEND_BYTES: Final = 256 * 1024
"""Bytes that are collected before they are sent."""

_READ_BYTES: Final = 2**20

_PUT_BYTES: Final = 8 * 2**20
_PUT_BLOBS: Final = 2_000
"""Small blobs that are collected before they are stored together."""


async def get_blob(request: Request, service: Service, digest: Digest) -> Response:
    """Answer with a blob."""
    row = service.entries.find(request.name_space, BLOB, digest)
    stored = None if row is None else await service.open(row)
    return MISS if stored is None else Response(200, stored, _HEADERS, "hit")


async def put_blob(request: Request, service: Service, digest: Digest) -> Response:
    """Store a blob."""
    row = await service.put(request.name_space, BLOB, digest, request.body, blake3=digest)
    return answer({"digest": row.digest, "size": row.size}, "stored")


async def missing_blobs(request: Request, service: Service) -> Response:
    """Answer which blobs are not there."""
    missing: list[Digest] = []
    for digests in portions(await digests_in(request)):
        there = held(service, request.name_space, digests)
        missing += [digest for digest in digests if digest not in there]
        await trio.lowlevel.checkpoint()
    return answer({"missing": missing})


async def get_blobs(request: Request, service: Service) -> Response:
    """Answer with all blobs that are there."""
    digests = await digests_in(request)
    return Response(
        200, _frames(service, request.name_space, digests), {"content-type": MEDIA_TYPE}, "hit"
    )


async def put_blobs(request: Request, service: Service) -> Response:
    """Store blobs as they come: small ones together, others one by one. Raises Failure."""
    stored = 0
    small: dict[Digest, bytes] = {}
    waiting = 0
    async with aclosing(_pieces(request.body)) as pieces:
        async for piece in pieces:
            stored += 1
            if not piece.last:
                await service.put(
                    request.name_space,
                    BLOB,
                    piece.digest,
                    _Framed(piece, pieces),
                    blake3=piece.digest,
                )
                continue
            small[piece.digest] = piece.data
            waiting += len(piece.data)
            if waiting > _PUT_BYTES or len(small) > _PUT_BLOBS:
                await _put_small(request, service, small)
                small, waiting = {}, 0
    await _put_small(request, service, small)
    return answer({"stored": stored}, "stored")


async def _put_small(request: Request, service: Service, blobs: Mapping[Digest, bytes]) -> None:
    """Store small blobs together."""
    items = [Item(BLOB, digest, data, blake3=digest) for digest, data in blobs.items()]
    await service.put_many(request.name_space, items)


class _Framed(Body):
    """A large blob among frames, as a body of its own."""

    def __init__(self, first: Piece, pieces: AsyncIterator[Piece]) -> None:
        self.length = first.size
        self._first = first
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece = self._first
        yield piece.data
        while not piece.last:
            piece = await anext(self._pieces)
            yield piece.data

    async def read(self, limit: int) -> bytes:
        """Return all of it; raises Failure(413) where that is more than `limit` bytes."""
        if self._first.size > limit:
            raise Failure(413, f"a blob of {self._first.size} bytes, over the limit of {limit}")
        return b"".join([part async for part in self])


async def _pieces(body: Body) -> AsyncGenerator[Piece]:
    """Yield the pieces of blobs in a body. Raises Failure(400)."""
    decoder = Decoder()
    try:
        async for data in body:
            for piece in decoder.feed(data):
                yield piece
        decoder.finish()
    except FramingError as error:
        raise Failure(400, f"the body is malformed: {error}") from None


async def _frames(
    service: Service, name_space: str, digests: Sequence[Digest]
) -> AsyncIterator[bytes]:
    """Yield the frames of those blobs that are there."""
    parts: list[bytes] = []
    size = 0
    for some in portions(digests):
        rows = service.entries.find_many(name_space, BLOB, some)
        for digest in some:
            row = rows.get(digest)
            stored = None if row is None else await service.open(row)
            if stored is None:
                continue
            parts.append(head(digest, stored.size))
            size += stored.size
            if stored.data is not None:
                parts.append(stored.data)
            else:
                async with aclosing(_parts(stored)) as read:
                    async for part in read:
                        yield b"".join([*parts, part])
                        parts.clear()
                size = 0
            if size >= _SEND_BYTES:
                yield b"".join(parts)
                parts.clear()
                size = 0
    if parts:
        yield b"".join(parts)


async def _parts(stored: Stored) -> AsyncGenerator[bytes]:
    """Yield the bytes of a large blob. Raises OSError where they are fewer than they should be:
    nothing else can be said then, as the answer has begun."""
    try:
        at = 0
        while at < stored.size:
            wanted = min(stored.size - at, _READ_BYTES)
            part = await trio.to_thread.run_sync(os.pread, stored.descriptor, wanted, at)
            if not part:
                raise OSError(f"blob {stored.digest} is shorter than it was")
            at += len(part)
            yield part
    finally:
        stored.close()
