"""Replies: an adapter's response made what goes on the wire, with conditions and ranges (RFC 9110).

Of several ranges in one request none is taken: the answer is the whole, with status 200.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

from engine.http.message import Failure, Response, Stored

UNKNOWN: Final = -1
"""The length of content that shows at its end."""

_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
_RANGE: Final = re.compile(
    r"\s*bytes\s*=\s*(?:([0-9]{1,18})\s*-\s*([0-9]{0,18})|-\s*([0-9]{1,18}))\s*"
)
_OWN: Final = frozenset(["connection", "content-length", "date", "transfer-encoding"])
_BODYLESS: Final = (204, 304)

CONDITIONS: Final = frozenset(["if-match", "if-none-match", "if-range", "range"])
"""Headers of requests that change what is answered."""


class Reply:
    """What is sent: bytes `start` to `start + length` of the content, after the headers."""

    __slots__ = ("content", "headers", "length", "start", "status")

    def __init__(self, response: Response) -> None:
        content = response.content
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.content: bytes | Stored | AsyncIterator[bytes] = content
        self.start = 0
        if isinstance(content, bytes):
            self.length = len(content)
        else:
            self.length = content.size if isinstance(content, Stored) else UNKNOWN

    def drop(self) -> None:
        """Send nothing after the headers."""
        if isinstance(self.content, Stored):
            self.content.close()
        self.content = b""
        self.start = 0

    def head(self, date: str, keep: bool, modern: bool, silent: bool) -> bytes:
        """Return the head; `silent` for an answer without content, be it to HEAD.

        The length is told but of content that is sent in chunks, or until the connection ends.
        """
        parts = [_LINES.get(self.status) or f"HTTP/1.1 {self.status} \r\n", date]
        for name, value in self.headers.items():
            if name not in _OWN and value.isprintable():
                parts.append(f"{name}: {value}\r\n")
        if self.status not in _BODYLESS:
            if self.length >= 0:
                parts.append(f"content-length: {self.length}\r\n")
            elif modern and not silent:
                parts.append("transfer-encoding: chunked\r\n")
        if not keep:
            parts.append("connection: close\r\n\r\n")
        elif not modern:
            parts.append("connection: keep-alive\r\n\r\n")
        else:
            parts.append("\r\n")
        return "".join(parts).encode("latin-1", "replace")


def reply_to(method: str, headers: Mapping[str, str], response: Response) -> Reply:
    """Return what to send for a response, by the request's method and headers."""
    reply = Reply(response)
    content = response.content
    if response.status == 200 and isinstance(content, Stored) and method in ("GET", "HEAD"):
        told = response.headers
        tag = told.get("etag") or f'"{content.digest}"'
        reply.headers = {**told, "etag": tag, "accept-ranges": "bytes"}
        if not CONDITIONS.isdisjoint(headers):
            _limit(reply, method, headers, tag)
    return reply


def _limit(reply: Reply, method: str, headers: Mapping[str, str], tag: str) -> None:
    """Hold a reply to the request's conditions and range."""
    wanted = headers.get("if-match")
    if wanted is not None and not names(wanted, tag):
        reply.drop()
        reply.status, reply.length = 412, 0
        return
    unwanted = headers.get("if-none-match")
    if unwanted is not None and names(unwanted, tag, weak=True):
        reply.drop()
        reply.status, reply.length = 304, 0
        return
    if method != "GET" or "range" not in headers:
        return
    condition = headers.get("if-range")
    if condition is not None and condition.strip() != tag:
        return
    match = _RANGE.fullmatch(headers["range"])
    if match is None:
        return
    size = reply.length
    if match[3] is not None:
        first, last = max(0, size - int(match[3])), size - 1
    else:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            return  # no range at all, by its grammar
    if first > last:
        reply.drop()
        reply.status, reply.length = 416, 0
        reply.headers = {"content-range": f"bytes */{size}", "accept-ranges": "bytes"}
        return
    reply.status, reply.start, reply.length = 206, first, last - first + 1
    reply.headers = {**reply.headers, "content-range": f"bytes {first}-{last}/{size}"}


def names(tags: str, tag: str, *, weak: bool = False) -> bool:
    """Say whether a list of entity tags, or `*`, has `tag`; the same content encoded for the wire
    has the tag with `-zstd`, which counts as equal where the comparison is `weak`."""
    for part in tags.split(","):
        given = part.strip()
        if given in ("*", tag):
            return True
        if weak and given.removeprefix("W/").replace('-zstd"', '"') == tag:
            return True
    return False


def told(failure: Failure, method: str = "") -> Response:
    """Return the response that says what a failure does."""
    headers = {"cache-control": "no-store", **failure.headers}
    if failure.status == 401:  # there are clients that show it to people only as text
        text = f"{failure.message}\n" + (f"{failure.hint}\n" if failure.hint else "")
        headers.setdefault("content-type", "text/plain; charset=utf-8")
        return Response(failure.status, text.encode("utf-8", "replace"), headers)
    headers.setdefault("content-type", "application/json")
    document = {"error": failure.message, "hint": failure.hint}
    return Response(failure.status, json.dumps(document).encode() + b"\n", headers)


class Clock:
    """The line that says the date, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._line = ""

    def line(self) -> str:
        """Return the line."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            day = time.gmtime(second)
            self._line = (
                f"date: {_DAYS[day.tm_wday]}, {day.tm_mday:02} {_MONTHS[day.tm_mon - 1]} "
                f"{day.tm_year} {day.tm_hour:02}:{day.tm_min:02}:{day.tm_sec:02} GMT\r\n"
            )
        return self._line


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
