"""Request targets: what a client wrote after the method, made a path, a name space and a query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote_to_bytes

from attrs import frozen

from engine.http.message import Failure

_PLAIN: Final = re.compile(rb"(?:/[A-Za-z0-9_~@:=+,;-][A-Za-z0-9_~@:=+,;.-]*)+/?|/")
"""Paths that are what they say: no empty parts, none that begins with a dot, nothing escaped."""

_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME_SPACE: Final = re.compile(r"/ns/([A-Za-z0-9][A-Za-z0-9._-]{0,63})(/.*|)", re.DOTALL)
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]*)(.*)", re.IGNORECASE)
_MOST_FIELDS: Final = 100

_NO_QUERY: Final[Mapping[str, list[str]]] = {}


@frozen
class Target:
    """Where a request goes; `name_space` is None where the path names none."""

    path: str
    query: Mapping[str, list[str]]
    name_space: str | None
    base: str


def read_target(target: bytes, host: str) -> Target:
    """Return what a target names. Raises Failure(400).

    `.` and `..` and empty parts are resolved after decoding; what leads above the root is refused.
    A whole URL is taken where it names the same host as the request's header.
    """
    if target[:1] != b"/":
        target = _origin(target, host)
    if b"?" not in target:
        raw, query = target, _NO_QUERY
    else:
        raw, _, rest = target.partition(b"?")
        query = _query(rest)
    path = raw.decode() if _PLAIN.fullmatch(raw) else _clean(raw)
    if path.startswith("/ns/"):
        match = _NAME_SPACE.fullmatch(path)
        if match is None:
            raise Failure(400, "the path's name space is no name", "write /ns/NAME/…")
        return Target(match[2] or "/", query, match[1], f"/ns/{match[1]}")
    return Target(path, query, None, "")


def _origin(target: bytes, host: str) -> bytes:
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Failure(400, "the request's target is neither a path nor a URL")
    if match[1].decode("latin-1").lower() != host.lower():
        raise Failure(400, "the request's URL and its Host header differ")
    return match[2] if match[2][:1] == b"/" else b"/" + match[2]


def _clean(raw: bytes) -> str:
    """Decode a path and resolve its parts."""
    path = _text(raw)
    parts: list[str] = []
    pieces = path.split("/")
    for piece in pieces:
        if piece == "..":
            if not parts:
                raise Failure(400, "the path leads above the root")
            parts.pop()
        elif piece not in ("", "."):
            parts.append(piece)
    if not parts:
        return "/"
    return f"/{'/'.join(parts)}{'/' if pieces[-1] in ('', '.', '..') else ''}"


def _query(raw: bytes) -> Mapping[str, list[str]]:
    text = raw.decode("ascii", "strict") if raw.isascii() else ""
    if not raw.isascii() or _ESCAPE.search(raw):
        raise Failure(400, "the query is not percent-encoded as it should be")
    try:
        return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Failure(400, "the query is not UTF-8, or has too many fields") from None


def _text(raw: bytes) -> str:
    if _ESCAPE.search(raw) or b"#" in raw:
        raise Failure(400, "the path is not percent-encoded as it should be")
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise Failure(400, "the path is not UTF-8") from None
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text):
        raise Failure(400, "the path has a control character")
    return text
