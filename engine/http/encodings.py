"""Encodings of content on the wire: zstd both ways, gzip for what comes in.

What is sent is compressed only where the client asks for it, the content is worth it by its first
part, and no range was asked for. What comes in is decoded in parts of at most `PART` bytes, however
well it was compressed.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol

import trio

from engine.http.bodies import PART, too_large
from engine.http.message import Body, Failure, Response, Stored

if TYPE_CHECKING:
    import zstandard

LEAST: Final = 1024
"""Bytes below which nothing is compressed."""

_LEVEL: Final = 1
_WORTH: Final = 0.85
"""Most of its size that the first part may keep."""

_SAMPLE: Final = 64 * 1024
_INLINE: Final = 256 * 1024
_WINDOW: Final = 8 * 2**20
_BLOCK: Final = 128 * 1024
_STEP: Final = 4 * 2**20
"""Bytes of a file that a thread compresses at once."""

_CODING: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,23}")
_ACCEPTED: Final = re.compile(r"(?:^|,)\s*zstd\s*(?:;\s*q=([01](?:\.[0-9]*)?)\s*)?(?:,|$)")


def accepts(headers: Mapping[str, str]) -> bool:
    """Say whether the client wants zstd."""
    match = _ACCEPTED.search(headers.get("accept-encoding", "").lower())
    return match is not None and (match[1] is None or float(match[1]) > 0)


async def encoded(
    response: Response, method: str, headers: Mapping[str, str], modern: bool
) -> Response:
    """Return a response as the client wants it. Content of which a range is asked, answers to
    HEAD, and what is encoded already stay as they are."""
    content = response.content
    if (
        method == "HEAD"
        or "range" in headers
        or not isinstance(content, bytes | Stored)
        or "content-encoding" in response.headers
        or not accepts(headers)
    ):
        return response
    size = len(content) if isinstance(content, bytes) else content.size
    if size < LEAST:
        return response
    if isinstance(content, Stored):
        if _is_there(content, headers):
            return response  # 304: nothing is sent
        if content.data is None:
            if not modern:
                return response
            return await _encoded_file(response, content)
        data = content.data
    else:
        data = content
    if len(data) <= _INLINE:
        packed = _packed(data)
    else:
        packed = await trio.to_thread.run_sync(_packed, data)
    return response if packed is None else _changed(response, packed)


def _is_there(content: Stored, headers: Mapping[str, str]) -> bool:
    return "if-none-match" in headers or "if-match" in headers


def _changed(response: Response, content: bytes | AsyncIterator[bytes]) -> Response:
    headers = {**response.headers, "content-encoding": "zstd", "vary": "accept-encoding"}
    if isinstance(response.content, Stored):
        tag = headers.get("etag") or f'"{response.content.digest}"'
        headers["etag"] = f'{tag[:-1]}-zstd"'
    return Response(response.status, content, headers, response.outcome)


def _packed(data: bytes) -> bytes | None:
    """Return the data compressed, None where that is not worth it."""
    import zstandard

    packer = zstandard.ZstdCompressor(level=_LEVEL)
    sample = data[:_SAMPLE]
    packed = packer.compress(sample)
    if len(packed) > len(sample) * _WORTH:
        return None
    return packed if len(sample) == len(data) else packer.compress(data)


async def _encoded_file(response: Response, content: Stored) -> Response:
    """Return the response with its file compressed while it is sent."""
    try:
        sample = os.pread(content.descriptor, _SAMPLE, 0)
    except OSError:
        sample = b""
    if _packed(sample) is None:
        return response
    return _changed(response, _compressing(content))


async def _compressing(content: Stored) -> AsyncIterator[bytes]:
    import zstandard

    try:
        packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=content.size)

        def step(at: int) -> bytes:
            parts = []
            end = min(at + _STEP, content.size)
            while at < end:
                data = os.pread(content.descriptor, min(PART, end - at), at)
                if not data:
                    raise OSError("the file is shorter than it was")
                parts.append(packer.compress(data))
                at += len(data)
            if at == content.size:
                parts.append(packer.flush())
            return b"".join(parts)

        for at in range(0, content.size, _STEP):
            yield await trio.to_thread.run_sync(step, at)
    finally:
        content.close()


class _Decoder(Protocol):
    """Decodes in bounded steps."""

    @property
    def done(self) -> bool:
        """Whether what was fed is whole."""
        ...

    def feed(self, data: bytes) -> None:
        """Take what is on the wire."""
        ...

    def give(self) -> bytes:
        """Return the next bytes, none where more has to be fed. Raises Failure(400)."""
        ...


class _Zstd:
    """Frames of zstd (RFC 8878), handed to the decoder block by block: none gives more than
    128 KiB, and the end of each frame is known."""

    def __init__(self) -> None:
        self._input = b""
        self._at = 0
        self._unpacker: zstandard.ZstdDecompressionObj | None = None
        self._tail = 0
        """Bytes of a check sum, or of a frame to be skipped, that are still to come."""
        self._checked = False
        self._last = False

    @property
    def done(self) -> bool:
        """Whether the last frame is at its end."""
        return self._unpacker is None and not self._tail and self._at == len(self._input)

    def feed(self, data: bytes) -> None:
        """Take what is on the wire."""
        self._input = self._input[self._at :] + data
        self._at = 0

    def give(self) -> bytes:
        """Return the next bytes."""
        import zstandard

        try:
            while True:
                piece = self._piece()
                if piece is None:
                    return b""
                if self._unpacker is None:
                    continue
                out = self._unpacker.decompress(piece)
                if self._last:
                    self._unpacker = None
                if out:
                    return out
        except zstandard.ZstdError as error:
            raise Failure(400, f"the body is not zstd: {error}") from None

    def _piece(self) -> bytes | None:
        """Return a frame's header, a block or a check sum, None where it is not whole."""
        if self._tail:
            if self._unpacker is None:  # a frame to be skipped
                size = min(self._tail, len(self._input) - self._at)
                self._tail -= size
                return self._take(size) if size else None
            piece = self._take(self._tail)
            if piece is not None:
                self._tail, self._last = 0, True
            return piece
        if self._unpacker is None:
            return self._frame()
        return self._block()

    def _frame(self) -> bytes | None:
        import zstandard

        start = self._input[self._at : self._at + 8]
        if len(start) < 8:
            return None
        if start[1:4] == b"\x2a\x4d\x18" and start[0] >> 4 == 5:
            self._tail = int.from_bytes(start[4:], "little")
            return self._take(8)
        if start[:4] != zstandard.FRAME_HEADER:
            raise Failure(400, "the body is not zstd")
        flags = start[4]
        single = flags >> 5 & 1
        size = 6 - single + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        header = self._take(size)
        if header is not None:
            self._checked, self._last = bool(flags & 4), False
            self._unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        return header

    def _block(self) -> bytes | None:
        start = self._input[self._at : self._at + 3]
        if len(start) < 3:
            return None
        told = int.from_bytes(start, "little")
        size = 1 if told & 6 == 2 else told >> 3
        if told & 6 == 6 or size > _BLOCK:
            raise Failure(400, "the body is not zstd: no such block")
        block = self._take(3 + size)
        if block is not None and told & 1:
            self._tail = 4 if self._checked else 0
            self._last = not self._checked
        return block

    def _take(self, size: int) -> bytes | None:
        if len(self._input) - self._at < size:
            return None
        self._at += size
        return self._input[self._at - size : self._at]


class _Gzip:
    """One stream of gzip, or of zlib."""

    def __init__(self, how: int) -> None:
        self._unpacker = zlib.decompressobj(how)
        self._input = b""

    @property
    def done(self) -> bool:
        """Whether the stream is at its end."""
        return self._unpacker.eof

    def feed(self, data: bytes) -> None:
        """Take what is on the wire."""
        self._input += data

    def give(self) -> bytes:
        """Return the next bytes."""
        if self._unpacker.eof:
            if self._input:
                raise Failure(400, "there is more after the end of the gzip stream")
            return b""
        try:
            data = self._unpacker.decompress(self._input, PART)
        except zlib.error as error:
            raise Failure(400, f"the body is not gzip: {error}") from None
        self._input = self._unpacker.unconsumed_tail or self._unpacker.unused_data
        return data


class Decoded:
    """A body that is decoded as it comes; at most `limit` bytes."""

    __slots__ = ("_body", "_decoder", "_left", "_limit", "length")

    def __init__(self, body: Body, decoder: _Decoder, limit: int) -> None:
        self._body = body
        self._decoder = decoder
        self._left = self._limit = limit
        self.length: int | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            part = self._decoder.give()
            if part:
                self._left -= len(part)
                if self._left < 0:
                    raise too_large(self._limit)
                return part
            async for data in self._body:
                self._decoder.feed(data)
                break
            else:
                if not self._decoder.done:
                    raise Failure(400, "the encoded body stops before its end")
                raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        """Return all of it; raises Failure(413) where it is more than `limit` bytes."""
        parts = []
        size = 0
        async for part in self:
            size += len(part)
            if size > limit:
                raise too_large(limit)
            parts.append(part)
        return b"".join(parts)


class Foreign:
    """A body in an encoding that the server cannot undo. Who reads it is refused (415); who keeps
    what came, for clients that know the encoding, takes `coded`."""

    __slots__ = ("coded", "coding", "length")

    def __init__(self, body: Body, coding: str) -> None:
        self.coded = body
        self.coding = coding
        self.length: int | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        raise self._unknown()

    async def read(self, limit: int) -> bytes:
        """Refuse to."""
        raise self._unknown()

    def _unknown(self) -> Failure:
        known = {"accept-encoding": "zstd, gzip"}
        return Failure(415, f"{self.coding}: the encoding is not known here", headers=known)


def decoded(body: Body, headers: Mapping[str, str], limit: int) -> Body:
    """Return a body as it was before it was encoded for the wire, or one that says that it is
    encoded otherwise; raises Failure(415) where that is no one encoding."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        return body
    if coding == "zstd":
        return Decoded(body, _Zstd(), limit)
    if coding in ("gzip", "x-gzip"):
        return Decoded(body, _Gzip(31), limit)
    foreign = Foreign(body, coding)
    if _CODING.fullmatch(coding):
        return foreign
    raise foreign._unknown()
