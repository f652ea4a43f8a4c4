"""Files by path: what ccache, Gradle, sccache and plain HTTP or WebDAV clients share.

All of them live in one tree, so that what was put at a path is there for every client; which of the
protocols a path looks like only names the request in the log and in the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from engine.http.encodings import Foreign
from engine.http.message import MISS, Body, Failure, Request, Response, Scope, Stored
from engine.http.replies import names

if TYPE_CHECKING:
    from engine.http.service import Service

KIND: Final = "webdav"
READING: Final = ("GET", "HEAD")
METHODS: Final = (*READING, "PUT", "DELETE")
DAV_METHODS: Final = ("OPTIONS", *METHODS, "PROPFIND", "MKCOL", "MOVE", "COPY")
CODING: Final = "encoding"
"""The key of a row's `meta` under which its encoding stands."""
TEXT: Final = {"content-type": "text/plain; charset=utf-8"}
BYTES: Final = {"content-type": "application/octet-stream"}


class Files:
    """GET, HEAD, PUT and DELETE of whole files whose path looks like one client's."""

    name: str
    pattern: re.Pattern[str]

    def matches(self, request: Request) -> bool:
        """Say whether the path looks like this client's."""
        return request.method in METHODS and self.pattern.fullmatch(request.path) is not None

    def scope(self, request: Request) -> Scope:
        """Return READ for GET and HEAD."""
        return scope_of(request)

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer one of the four methods."""
        return await handle(request, service)


class Ccache(Files):
    """Layouts `subdirs` and `flat`: 20 bytes, two of them in base 16 and the others in base 32."""

    name = "ccache"
    pattern = re.compile(r"(?:/[^/]+)*?/(?:[0-9a-v]{2}/[0-9a-v]{31}|[0-9a-v]{33})")


class Sccache(Files):
    """Names of 64 digits under their first three, and the file by which it tries the server."""

    name = "sccache"
    pattern = re.compile(
        r"(?:/[^/]+)*?/(?:([0-9a-f])/([0-9a-f])/([0-9a-f])/\1\2\3[0-9a-f]{61}|\.sccache_check)"
    )


class Gradle(Files):
    """Names of 32 digits."""

    name = "gradle"
    pattern = re.compile(r"(?:/[^/]+)*?/[0-9a-f]{32}")


def scope_of(request: Request, reading: tuple[str, ...] = READING) -> Scope:
    """Return READ for the methods that change nothing, else WRITE."""
    return Scope.READ if request.method in reading else Scope.WRITE


async def handle(request: Request, service: Service, kind: str = KIND) -> Response:
    """Answer GET, HEAD, PUT or DELETE of the file at the request's path."""
    key = key_of(request)
    if request.method in READING:
        if key.endswith("/"):
            return MISS  # a directory
        return answer(await service.get(request.name_space, kind, key))
    if request.method == "PUT":
        if key.endswith("/"):
            raise Failure(
                405, f"{key}: a file's name does not end in /", headers=allow(*DAV_METHODS)
            )
        guard(request, service, kind, key)
        body, meta = as_it_came(request)
        await service.put(request.name_space, kind, key, body, meta=meta)
        return stored()
    if request.method == "DELETE":
        guard(request, service, kind, key)
        return removed(await service.remove(request.name_space, kind, key))
    raise Failure(405, f"{request.method} is not served there", headers=allow(*DAV_METHODS))


def as_it_came(request: Request) -> tuple[Body, dict[str, str]]:
    """Return the body of an upload and the `meta` of its row: what is in an encoding that only its
    clients know is kept so, and said to be so when it is sent again."""
    if isinstance(request.body, Foreign):
        return request.body.coded, {CODING: request.body.coding}
    return request.body, {}


def key_of(request: Request) -> str:
    """Return the key of what is at the request's path; raises Failure(414) where it is too long."""
    if len(request.path.encode()) > MOST_KEY:
        raise Failure(414, f"paths have at most {MOST_KEY} bytes")
    return request.path


MOST_KEY: Final = 4096
"""Bytes of a path."""


def answer(found: Stored | None, headers: Mapping[str, str] = BYTES) -> Response:
    """Return what was found, in the encoding that it came in, or a miss."""
    if found is None:
        return MISS
    if CODING in found.meta:
        headers = {**headers, "content-encoding": found.meta[CODING]}
    return Response(200, found, headers, "hit")


def stored(content: bytes = b"", headers: Mapping[str, str] = TEXT) -> Response:
    """Return the answer to an upload: 200, as no client objects to that."""
    return Response(200, content, headers, "stored")


def removed(was_there: bool) -> Response:
    """Return the answer to DELETE."""
    return Response(204) if was_there else MISS


def allow(*methods: str) -> dict[str, str]:
    """Return the header of methods that may be used."""
    return {"allow": ", ".join(methods)}


def guard(request: Request, service: Service, kind: str, key: str) -> None:
    """Hold an upload, or a removal, to its conditions; raises Failure(412)."""
    wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
    if wanted is None and unwanted is None:
        return
    row = service.find(request.name_space, kind, key)
    tag = "" if row is None else f'"{row.digest}"'
    if wanted is not None and not (tag and names(wanted, tag)):
        raise Failure(412, f"{key}: not what If-Match names")
    if unwanted is not None and tag and names(unwanted, tag, weak=True):
        raise Failure(412, f"{key}: is there already, which If-None-Match excludes")
