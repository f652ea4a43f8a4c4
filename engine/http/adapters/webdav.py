"""WebDAV without locks (RFC 4918, class 1): what is not GET, HEAD, PUT or DELETE of a file.

Directories are the parts of files' paths, and need not be made first. MKCOL leaves a mark, an entry
that ends in `/`, so that an empty one is listed, too. One in the root, or in one that is not there,
counts as there, so that a client can begin with any address; so do those of sccache's layout, which
asks for each before it stores something.
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

from engine.http.adapters.files import DAV_METHODS, KIND, TEXT, allow, guard, key_of, removed
from engine.http.adapters.nix import PATH
from engine.http.message import MISS, Failure, Request, Response, Scope, Stored

if TYPE_CHECKING:
    from engine.http.service import Service
    from store.entries import Row

OWN: Final = ("OPTIONS", "DELETE", "PROPFIND", "MKCOL", "MOVE", "COPY")
XML: Final = {"content-type": "application/xml; charset=utf-8"}
MOST_XML: Final = 64 * 1024
"""Bytes of a request's XML, which is not looked at: all properties there are come each time."""

SPREAD: Final = re.compile(r"/[0-9a-f]/([0-9a-f]/){0,2}$")
"""Directories of one digit each, as sccache has them."""

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
    """Listings, directories, copies; removal of files and directories."""

    name = "webdav"

    def matches(self, request: Request) -> bool:
        """Take WebDAV's own methods, and DELETE, on any path that is not the server's own."""
        return request.method in OWN and not request.path.startswith("/bn/")

    def scope(self, request: Request) -> Scope:
        """Return READ for a listing, nothing for the question for what is possible."""
        if request.method == "OPTIONS":
            return Scope.NONE
        return Scope.READ if request.method == "PROPFIND" else Scope.WRITE

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer."""
        match request.method:
            case "OPTIONS":
                return Response(
                    200, b"", {**allow(*DAV_METHODS), "dav": "1", "ms-author-via": "DAV"}
                )
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
    elif not _counts_as_directory(request, service, key):
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


def _counts_as_directory(request: Request, service: Service, key: str) -> bool:
    """Say whether a path that ends in `/` is a directory's, though there may be nothing in it."""
    if _is_directory(request, service, key):
        return True
    path = key.rstrip("/")
    if service.find(request.name_space, KIND, path) is not None:
        return False
    above = f"{path.rpartition('/')[0]}/"
    return above == "/" or bool(SPREAD.search(key)) or not _is_directory(request, service, above)


async def _make(request: Request, service: Service) -> Response:
    """Answer MKCOL: leave a mark."""
    if await request.body.read(MOST_XML):
        raise Failure(415, "MKCOL takes no body")
    key = f"{key_of(request).rstrip('/')}/"
    if key == "/" or _is_there(request, service, key):
        raise Failure(405, f"{request.path}: is there already", headers=allow(*DAV_METHODS))
    await service.put(request.name_space, KIND, key, b"")
    return Response(201, b"", TEXT, "stored")


async def _remove(request: Request, service: Service) -> Response:
    """Answer DELETE, of a directory with all that is in it."""
    key = key_of(request)
    guard(request, service, KIND, key)
    if not key.endswith("/") and await _remove_all(request, service, key):
        return removed(True)
    return removed(await _remove_all(request, service, f"{key.rstrip('/')}/"))


async def _remove_all(request: Request, service: Service, key: str) -> bool:
    """Remove a file, or all whose path begins with `key`; say whether there was something."""
    if not key.endswith("/"):
        return await service.remove(request.name_space, KIND, key)
    found = False
    while paths := _some(request, service, key):
        gone = [await service.remove(request.name_space, KIND, path) for path in paths]
        if not any(gone):
            break  # somebody else is at it
        found = True
    return found


def _is_there(request: Request, service: Service, key: str) -> bool:
    """Say whether there is a file or a directory at a path."""
    path = key.rstrip("/")
    return service.find(request.name_space, KIND, path) is not None or _is_directory(
        request, service, f"{path}/"
    )


def _some(request: Request, service: Service, key: str, most: int = SOME) -> list[str]:
    """Return some paths that begin with `key`."""
    found = service.entries.each(request.name_space, KIND, key)
    return [path for path, _ in islice(found, most)]


async def _copy(request: Request, service: Service) -> Response:
    """Answer MOVE and COPY, of a directory with all that is in it."""
    source, target = key_of(request), _destination(request)
    if service.find(request.name_space, KIND, source) is None or source.endswith("/"):
        source, target = f"{source.rstrip('/')}/", f"{target.rstrip('/')}/"
        if not _is_directory(request, service, source):
            return MISS
    around = source.startswith(f"{target.rstrip('/')}/")
    if around or source == target or (source.endswith("/") and target.startswith(source)):
        raise Failure(403, "nothing can be moved or copied onto itself, or around, or into itself")
    replaced = _is_there(request, service, target)
    if replaced and request.headers.get("overwrite", "").strip().upper() == "F":
        raise Failure(412, f"{target}: is there already, and Overwrite is F")
    guard(request, service, KIND, source)
    if replaced:
        await _remove_all(request, service, f"{target.rstrip('/')}/")
    if not source.endswith("/"):
        await _copy_file(request, service, source, target)
    else:
        for path, _ in service.entries.each(request.name_space, KIND, source):
            await _copy_file(request, service, path, target + path[len(source) :])
    if request.method == "MOVE":
        await _remove_all(request, service, source)
    return Response(204 if replaced else 201, b"", TEXT, "stored")


async def _copy_file(request: Request, service: Service, source: str, target: str) -> None:
    if PATH.fullmatch(target):
        raise Failure(403, f"{target}: what Nix reads is checked when it is stored; store it there")
    found = await service.get(request.name_space, KIND, source)
    if found is None:
        raise Failure(404, f"{source}: is gone")
    try:
        await service.put(request.name_space, KIND, target, Again(found), meta=found.meta)
    finally:
        found.close()


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
    if any(part in ("", ".", "..") for part in path.rstrip("/").split("/")[1:]):
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
