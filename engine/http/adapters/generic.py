"""Anything by any name: `/generic/…`, for scripts and for clients that know no protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.http.message import MISS, Failure, Request, Response, Scope
from engine.http.replies import names

if TYPE_CHECKING:
    from engine.http.service import Service

KIND: Final = "generic"
PREFIX: Final = "/generic/"
READING: Final = ("GET", "HEAD")
METHODS: Final = (*READING, "PUT", "DELETE")
MOST_KEY: Final = 400
"""Bytes of a name."""

_BYTES: Final = {"content-type": "application/octet-stream"}
_TEXT: Final = {"content-type": "text/plain; charset=utf-8"}
_ALLOW: Final = {"allow": ", ".join(METHODS)}


class Generic:
    """GET, HEAD, PUT (also with If-Match and If-None-Match) and DELETE."""

    name = "generic"

    def matches(self, request: Request) -> bool:
        """Take all that is under `/generic/`."""
        return request.path.startswith(PREFIX)

    def scope(self, request: Request) -> Scope:
        """Return READ for GET and HEAD."""
        return Scope.READ if request.method in READING else Scope.WRITE

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer."""
        key = request.path[len(PREFIX) :]
        space = request.name_space
        if not key or key[-1] == "/" or len(key.encode()) > MOST_KEY:
            raise Failure(404, f"a name has 1 to {MOST_KEY} bytes, and does not end with /")
        if request.method in READING:
            found = await service.get(space, KIND, key)
            return MISS if found is None else Response(200, found, _BYTES, "hit")
        if request.method == "PUT":
            self._check(request, service, key)
            await service.put(space, KIND, key, request.body)
            return Response(200, b"", _TEXT, "stored")
        if request.method == "DELETE":
            self._check(request, service, key)
            return Response(204) if await service.remove(space, KIND, key) else MISS
        raise Failure(405, f"{request.method} is not served there", headers=_ALLOW)

    def _check(self, request: Request, service: Service, key: str) -> None:
        """Hold a request that changes something to its conditions; raises Failure(412)."""
        wanted = request.headers.get("if-match")
        unwanted = request.headers.get("if-none-match")
        if wanted is None and unwanted is None:
            return
        row = service.find(request.name_space, KIND, key)
        tag = "" if row is None else f'"{row.digest}"'
        if wanted is not None and not (tag and names(wanted, tag)):
            raise Failure(412, "it is not what If-Match names")
        if unwanted is not None and tag and names(unwanted, tag, weak=True):
            raise Failure(412, "it is there already")
