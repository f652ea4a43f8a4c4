"""bn's own protocol: blobs, results, realisations and closures by digest, many at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.http.bn.blobs import get_blob, get_blobs, missing_blobs, put_blob, put_blobs
from engine.http.bn.closures import get_closure, get_closures
from engine.http.bn.requests import JSON, digest_of
from engine.http.bn.results import Results
from engine.http.bn.rows import REALISATION, RESULT
from engine.http.bn.taint import taint
from engine.http.message import Failure, Request, Response, Scope
from store.digest import Digest

if TYPE_CHECKING:
    from engine.http.service import Service

PREFIX: Final = "/bn/v1/"

_DESCRIPTION: Final = "openapi.json"

Plain = Callable[[Request, "Service"], Awaitable[Response]]
ByDigest = Callable[[Request, "Service", Digest], Awaitable[Response]]


class Bn:
    """Requests under `/bn/v1/`, by path and method."""

    name = "bn"

    def __init__(self) -> None:
        results = Results()
        self.plain: Mapping[str, Mapping[str, tuple[Scope, Plain]]] = {
            "blobs:missing": {"POST": (Scope.READ, missing_blobs)},
            "blobs:get": {"POST": (Scope.READ, get_blobs)},
            "blobs:put": {"POST": (Scope.WRITE, put_blobs)},
            "actions:get": {"POST": (Scope.READ, partial(results.get_many, kind=RESULT))},
            "actions:put": {"POST": (Scope.WRITE, partial(results.put_many, kind=RESULT))},
            "realisations:get": {"POST": (Scope.READ, partial(results.get_many, kind=REALISATION))},
            "realisations:put": {
                "POST": (Scope.WRITE, partial(results.put_many, kind=REALISATION))
            },
            "closures:get": {"POST": (Scope.READ, partial(get_closures, known=results.known))},
            "taint": {"POST": (Scope.ADMIN, partial(taint, known=results.known))},
            _DESCRIPTION: {"GET": (Scope.NONE, _describe), "HEAD": (Scope.NONE, _describe)},
        }
        find_result = partial(results.get, kind=RESULT)
        find_realisation = partial(results.get, kind=REALISATION)
        find_closure = partial(get_closure, known=results.known)
        self.by_digest: Mapping[str, Mapping[str, tuple[Scope, ByDigest]]] = {
            "blobs": {**_reading(get_blob), "PUT": (Scope.WRITE, put_blob)},
            "actions": {
                **_reading(find_result),
                "PUT": (Scope.WRITE, partial(results.put, kind=RESULT)),
            },
            "realisations": {
                **_reading(find_realisation),
                "PUT": (Scope.WRITE, partial(results.put, kind=REALISATION)),
            },
            "closures": _reading(find_closure),
        }

    def matches(self, request: Request) -> bool:
        """Say whether the path is under `/bn/v1/`."""
        return request.path.startswith(PREFIX)

    def scope(self, request: Request) -> Scope:
        """Return what a client must be allowed to do; nothing where there is nothing to be had."""
        found = self._methods(request).get(request.method)
        return Scope.NONE if found is None else found[0]

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer. Raises Failure."""
        methods = self._methods(request)
        if not methods:
            raise Failure(
                404, f"{request.path} is nothing of bn's protocol", "see /bn/v1/openapi.json"
            )
        if request.method not in methods:
            allowed = ", ".join(sorted(methods))
            if request.method == "OPTIONS":
                return Response(204, headers={"allow": allowed})
            raise Failure(
                405, f"{request.method} is not for {request.path}", allowed, {"allow": allowed}
            )
        name, _, digest = request.path.removeprefix(PREFIX).partition("/")
        if digest:
            return await self.by_digest[name][request.method][1](
                request, service, digest_of(digest)
            )
        return await self.plain[name][request.method][1](request, service)

    def _methods(self, request: Request) -> Mapping[str, tuple[Scope, Plain | ByDigest]]:
        """Return what can be done with the request's path."""
        name, slash, digest = request.path.removeprefix(PREFIX).partition("/")
        found: Mapping[str, tuple[Scope, Plain | ByDigest]] | None
        if slash:
            found = self.by_digest.get(name) if digest and "/" not in digest else None
        else:
            found = self.plain.get(name)
        return found or {}


def _reading(answer: ByDigest) -> dict[str, tuple[Scope, ByDigest]]:
    return {"GET": (Scope.READ, answer), "HEAD": (Scope.READ, answer)}


@cache
def description() -> bytes:
    """Return the OpenAPI description."""
    return Path(__file__).parents[1].joinpath(_DESCRIPTION).read_bytes()


async def _describe(_request: Request, _service: Service) -> Response:
    return Response(200, description(), JSON)
