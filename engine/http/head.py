"""Heads of requests: strict, so that no two programs in a row can read one differently.

The bytes of a head go to httptools (llhttp) only when they are all there; how long a body is, is
said by `Head.length` alone.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from engine.http.message import Failure

METHODS: Final = frozenset(
    [
        *("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "MOVE", "COPY", "LOCK", "UNLOCK"),
    ]
)
"""Methods that some adapter might know; others of HTTP are answered 405, and what is none 501."""

_ALLOW: Final = {"allow": "GET, HEAD, PUT, POST, DELETE, OPTIONS, PROPFIND, MKCOL"}

CHUNKED: Final = -1
"""The length of a body that is sent in chunks."""

_ONCE: Final = frozenset(
    [
        *("authorization", "content-encoding", "content-length", "content-range", "content-type"),
        *("expect", "host", "if-range", "range", "transfer-encoding"),
    ]
)
_HOST: Final = re.compile(
    r"[A-Za-z0-9._~%!$&'()*+,;=-]*(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"
)
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_MOST_NAMES: Final = 1024
_LONGEST_KEPT: Final = 256


class Head:
    """A request's line and headers."""

    __slots__ = ("headers", "keep", "length", "method", "modern", "target")

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: dict[str, str],
        length: int,
        modern: bool,
        keep: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        """By lower-case name; what came several times is joined by `, `."""
        self.length = length
        """Bytes of the body on the wire, or CHUNKED."""
        self.modern = modern
        """Whether it is HTTP/1.1, not 1.0."""
        self.keep = keep
        """Whether the client wants to send more requests."""


class _Lines:
    """What the parser finds."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


_names: dict[bytes, str] = {}
_hosts: set[str] = set()
"""What was found to be one; clients ask for few."""


def read_head(data: bytes, most_headers: int) -> Head:
    """Return the head that `data`, which ends with an empty line, is. Raises Failure."""
    if data.count(b" ", 0, data.find(b"\r")) != 2:
        raise Failure(400, "the request's line is not a method, a target and a version")
    lines = _Lines()
    parser = httptools.HttpRequestParser(lines)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserInvalidMethodError:
        raise Failure(501, "the method is not known") from None
    except httptools.HttpParserError as error:
        raise Failure(400, f"the head is no HTTP: {error}") from None
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise Failure(505, "the version is neither HTTP/1.1 nor HTTP/1.0")
    method = parser.get_method().decode("ascii")
    if method not in METHODS:
        raise Failure(405, f"{method} is for nothing here", headers=_ALLOW)
    if len(lines.headers) > most_headers:
        raise Failure(431, f"the head has more than {most_headers} headers")
    headers = _headers(lines.headers)
    modern = version == "1.1"
    if "host" not in headers:
        if modern:
            raise Failure(400, "the Host header is missing")
    elif headers["host"] not in _hosts:
        _check_host(headers["host"])
    connection = headers.get("connection")
    if connection is None:
        keep = modern
    else:
        words = [word.strip() for word in connection.lower().split(",")]
        keep = "close" not in words and (modern or "keep-alive" in words)
    return Head(method, lines.target, headers, _length(headers, modern), modern, keep)


def _check_host(host: str) -> None:
    if not _HOST.fullmatch(host):
        raise Failure(400, "the Host header is not a host")
    if len(_hosts) < _MOST_NAMES and len(host) < _LONGEST_KEPT:
        _hosts.add(host)


def _check_lines(data: bytes) -> None:
    """Raise Failure for what the parser would take: other ends of lines, other blanks."""
    if data.count(b"\n") != data.count(b"\r\n") or data.count(b"\r") != data.count(b"\n"):
        raise Failure(400, "a line of the head does not end with CR LF")
    if data.count(b" ", 0, data.find(b"\r")) != 2:
        raise Failure(400, "the first line is not a method, a target and a version")


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw, value in pairs:
        name = _names.get(raw)
        if name is None:
            name = raw.decode("latin-1").lower()
            if len(_names) < _MOST_NAMES and len(name) < _LONGEST_KEPT:
                _names[raw] = name
        text = value.decode("latin-1").rstrip(" \t")
        if name in headers:
            if name in _ONCE:
                raise Failure(400, f"the header {name} is there twice")
            text = f"{headers[name]}, {text}"
        headers[name] = text
    return headers


def _length(headers: dict[str, str], modern: bool) -> int:
    """Return how long the body is."""
    coding = headers.get("transfer-encoding")
    text = headers.get("content-length")
    if coding is None:
        if text is None:
            return 0
        if not _LENGTH.fullmatch(text):
            raise Failure(400, "the Content-Length is no number")
        return int(text)
    if text is not None:
        raise Failure(400, "there are both Transfer-Encoding and Content-Length")
    if not modern:
        raise Failure(400, "HTTP/1.0 has no Transfer-Encoding")
    if coding.strip().lower() != "chunked":
        raise Failure(501, "the only Transfer-Encoding that is known is chunked")
    return CHUNKED
