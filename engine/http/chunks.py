"""Chunked bodies: taken apart as they come."""

from __future__ import annotations

import re
from typing import Final

from engine.http.message import Failure

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_LONGEST_LINE: Final = 4096
_MOST_TRAILERS: Final = 64

_AT_SIZE, _IN_DATA, _AT_END, _IN_TRAILERS, _DONE = range(5)


class Chunks:
    """Takes bytes of the wire and gives those of the body; trailers are dropped.

    ::

        size line ──> data ──> CR LF ──> size line … size 0 ──> trailers ──> empty line: done
    """

    __slots__ = ("_left", "_rest", "_state", "_trailers")

    def __init__(self) -> None:
        self._state = _AT_SIZE
        self._left = 0
        self._trailers = 0
        self._rest = b""

    @property
    def done(self) -> bool:
        """Whether the body is at its end."""
        return self._state == _DONE

    def behind(self) -> bytes:
        """Return what was fed beyond the end of the body; only once."""
        if self._state != _DONE:
            return b""
        rest, self._rest = self._rest, b""
        return rest

    def feed(self, data: bytes) -> bytes:
        """Return the body's next bytes, maybe none; raises Failure(400)."""
        if self._state == _IN_DATA and not self._rest and len(data) <= self._left:
            self._left -= len(data)
            if not self._left:
                self._state = _AT_END
            return data
        buffer = self._rest + data if self._rest else data
        parts: list[bytes] = []
        at = 0
        while self._state != _DONE:
            if self._state == _IN_DATA:
                part = buffer[at : at + self._left]
                if not part:
                    break
                parts.append(part)
                at += len(part)
                self._left -= len(part)
                if self._left:
                    break
                self._state = _AT_END
            line = self._line(buffer, at)
            if line is None:
                break
            at += len(line) + 2
            self._take(line)
        self._rest = buffer[at:]
        return b"".join(parts)

    def _line(self, buffer: bytes, at: int) -> bytes | None:
        """Return the line that begins at `at`, None where it is not whole."""
        end = buffer.find(b"\n", at, at + _LONGEST_LINE)
        if end < 0:
            if len(buffer) - at >= _LONGEST_LINE:
                raise Failure(400, "a line between the chunks is too long")
            if self._state == _AT_END and buffer[at : at + 2] not in (b"", b"\r"):
                raise Failure(400, "a chunk is longer than it says")
            return None
        if end == at or buffer[end - 1] != 0x0D:
            raise Failure(400, "a line between the chunks does not end with CR LF")
        return buffer[at : end - 1]

    def _take(self, line: bytes) -> None:
        if self._state == _AT_END:
            if line:
                raise Failure(400, "a chunk is longer than it says")
            self._state = _AT_SIZE
        elif self._state == _AT_SIZE:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise Failure(400, "the size of a chunk is no number")
            self._left = int(match[1], 16)
            self._state = _IN_DATA if self._left else _IN_TRAILERS
        elif not line:
            self._state = _DONE
        else:
            self._trailers += 1
            if self._trailers > _MOST_TRAILERS or not _TRAILER.fullmatch(line):
                raise Failure(400, "the trailers are no headers")
