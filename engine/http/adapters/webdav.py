"""WebDAV without locks (RFC 4918, class 1): what is not GET, HEAD, PUT or DELETE of a file.

Directories are the parts of files' paths: every path that ends in `/` is one, there is nothing to
make first. MKCOL leaves a mark, an entry that ends in `/`, so that an empty one shows in listings.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

import trio

from engine.http.adapters.files import KIND, METHODS, TEXT, allow, guard, key_of
from engine.http.message import MISS, Failure, Request, Response, Scope, Stored

if TYPE_CHECKING:
    from engine.http.service import Service
    from store.entries import Row

ALL: Final = ("OPTIONS", *METHODS, "PROPFIND", "MKCOL", "MOVE", "COPY")
OWN: Final = ("OPTIONS", "PROPFIND", "MKCOL", "MOVE", "COPY")
XML: Final = {"content-type": "application/xml; charset=utf-8"}
MOST_XML: Final = 64 * 1024
"""Bytes of a request's XML, which is not looked at: all properties there are come each time."""

NOT_XML: Final = re.compile("[\ufffe\uffff]")
"""Characters that XML cannot have at all, of those that paths can."""

SOME: Final = 256
"""Entries that are listed, or removed, at a time."""

PART: Final = 1 << 20
"""Bytes that are copied at a time."""

HEAD: Final = b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
TAIL: Final = b"</D:multistatus>\n"
ITEM: Final = (
    "<D:response><D:href>{href}</D:href><D:propstat><D:prop>"
    "<D:displayname>{name}</D:displayname>{properties}"
    "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n"
)


class WebDav:
    """Listings, directories, copies; removal of directories."""

    name = "webdav"

    def matches(self, request: Request) -> bool:
        """Take WebDAV's own methods on any path, and DELETE of a directory."""
        if request.method == "DELETE":
            return request.path.endswith("/")
        return request.method in OWN

    def scope(self, request: Request) -> Scope:
        """Return READ for a listing, nothing for the question for what is possible."""
        if request.method == "OPTIONS":
            return Scope.NONE
        return Scope.READ if request.method == "PROPFIND" else Scope.WRITE

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer."""
        match request.method:
            case "OPTIONS":
                return Response(200, b"", {**allow(*ALL), "dav": "1", "ms-author-via": "DAV"})
            case "PROPFIND":
                return await _list(request, service)
            case "MKCOL":
                return await _make(request, service)
            case "DELETE":
                return await _remove(request, service)
        return await _copy(request, service)


async def _list(request: Request, service: Service) -> Response:
    """Answer PROPFIND with what is at a path, and with depth 1 what is in it."""
    depth = request.headers.get("depth", "1").strip().lower()
    if depth not in ("0", "1"):
        raise Failure(403, "listings have depth 0 or 1", "ask for each directory by itself")
    await request.body.read(MOST_XML)
    key = key_of(request)
    if not key.endswith("/"):
        row = service.find(request.name_space, KIND, key)
        if row is not None:
            return Response(207, HEAD + _file(request, key, row) + TAIL, XML)
        key = f"{key}/"
        if not _is_directory(request, service, key):
            return MISS
    listing = _listing(request, service, key, depth == "1")
    if depth == "1":
        return Response(207, listing, XML)
    return Response(207, b"".join([part async for part in listing]), XML)


async def _listing(
    request: Request, service: Service, key: str, children: bool
) -> AsyncIterator[bytes]:
    """Give a listing in parts: the directory, then files and directories in it by name."""
    mark = service.find(request.name_space, KIND, key)
    parts = [HEAD, _directory(request, key, mark.stored if mark else None)]
    last = ""
    if children:
        found = service.entries.each(request.name_space, KIND, key)
        for number, (path, row) in enumerate(found):
            if number % SOME == SOME - 1:
                await trio.lowlevel.checkpoint()
            name, slash, _ = path[len(key) :].partition("/")
            if not name or name + slash == last:
                continue
            last = name + slash
            if slash:
                parts.append(_directory(request, f"{key}{last}", row.stored))
            else:
                parts.append(_file(request, path, row))
            if len(parts) >= SOME:
                yield b"".join(parts)
                parts = []
    yield b"".join([*parts, TAIL])


def _file(request: Request, key: str, row: Row) -> bytes:
    return _item(
        request,
        key,
        "<D:resourcetype/>"
        f"<D:getcontentlength>{row.size}</D:getcontentlength>"
        f'<D:getetag>"{row.digest}"</D:getetag>',
        row.stored,
    )


def _directory(request: Request, key: str, stored: float | None) -> bytes:
    return _item(request, key, "<D:resourcetype><D:collection/></D:resourcetype>", stored or 0.0)


def _item(request: Request, key: str, properties: str, stored: float) -> bytes:
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stored))
    return ITEM.format(
        href=quote(request.base + key),
        name=escape(NOT_XML.sub("", key.rstrip("/").rpartition("/")[2])),
        properties=f"{properties}"
        f"<D:getlastmodified>{formatdate(stored, usegmt=True)}</D:getlastmodified>"
        f"<D:creationdate>{made}</D:creationdate>",
    ).encode()


def _is_directory(request: Request, service: Service, key: str) -> bool:
    """Say whether there is anything whose path begins with `key`."""
    return bool(_some(request, service, key, 1))


async def _make(request: Request, service: Service) -> Response:
    """Answer MKCOL: leave a mark."""
    if await request.body.read(MOST_XML):
        raise Failure(415, "MKCOL takes no body")
    key = f"{key_of(request).rstrip('/')}/"
    there = service.find(request.name_space, KIND, key[:-1]) is not None
    if there or key == "/" or _is_directory(request, service, key):
        raise Failure(405, f"{request.path}: is there already", headers=allow(*ALL))
    await service.put(request.name_space, KIND, key, b"")
    return Response(201, b"", TEXT, "stored")


async def _remove(request: Request, service: Service) -> Response:
    """Answer DELETE of a directory, with all that is in it."""
    key = key_of(request)
    found = False
    while paths := _some(request, service, key):
        gone = [await service.remove(request.name_space, KIND, path) for path in paths]
        if not any(gone):
            break  # somebody else is at it
        found = True
    return Response(204) if found else MISS


def _some(request: Request, service: Service, key: str, most: int = SOME) -> list[str]:
    """Return some paths that begin with `key`."""
    found = service.entries.each(request.name_space, KIND, key)
    return [path for path, _ in islice(found, most)]


async def _copy(request: Request, service: Service) -> Response:
    """Answer MOVE and COPY of a file."""
    source, target = key_of(request), _destination(request)
    if source.endswith("/"):
        raise Failure(403, "only files can be moved and copied, one by one")
    if source == target:
        raise Failure(403, "a file cannot be moved or copied onto itself")
    replaced = service.find(request.name_space, KIND, target) is not None
    if replaced and request.headers.get("overwrite", "").strip().upper() == "F":
        raise Failure(412, f"{target}: is there already, and Overwrite is F")
    guard(request, service, KIND, source)
    found = await service.get(request.name_space, KIND, source)
    if found is None:
        return MISS
    try:
        await service.put(request.name_space, KIND, target, Again(found))
    finally:
        found.close()
    if request.method == "MOVE":
        await service.remove(request.name_space, KIND, source)
    return Response(204 if replaced else 201, b"", TEXT, "stored")


def _destination(request: Request) -> str:
    """Return the key that a Destination header names, on this server and in the name space."""
    target = urlsplit(request.headers.get("destination", ""))
    if target.netloc and target.netloc.lower() != request.headers.get("host", "").lower():
        raise Failure(502, "files can be moved and copied on this server only")
    path = unquote(target.path, errors="surrogateescape")
    elsewhere = path.startswith("/ns/") and not request.base
    if elsewhere or not path.isprintable() or not path.startswith(f"{request.base}/"):
        raise Failure(400, "the Destination header is to name a place in the same name space")
    path = path.removeprefix(request.base)
    if path.endswith("/"):
        raise Failure(403, "only files can be moved and copied, one by one")
    if any(part in ("", ".", "..") for part in path.split("/")[1:]):
        raise Failure(400, f"Destination {path}: has a part that is no name")
    return path


class Again:
    """What is stored, as a body; it stays open."""

    def __init__(self, found: Stored) -> None:
        self.length: int | None = found.size
        self._found = found
        self._read: Callable[[int], bytes] = partial(_part, found)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the parts."""
        if self._found.data is not None:
            if self._found.data:
                yield self._found.data
            return
        at = 0
        while at < self._found.size:
            part = await trio.to_thread.run_sync(self._read, at)
            if not part:
                raise Failure(404, "the file was cut short")
            at += len(part)
            yield part

    async def read(self, limit: int) -> bytes:
        """Return all of it; raises Failure(413) where it is more than `limit` bytes."""
        if self._found.size > limit:
            raise Failure(413, f"more than {limit} bytes")
        return b"".join([part async for part in self])


def _part(found: Stored, at: int) -> bytes:
    return os.pread(found.descriptor, PART, at)
