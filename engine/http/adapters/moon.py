"""moon's remote cache over HTTP: `/status`; the rest is Bazel's layout under a prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.http.message import Request, Response, Scope

if TYPE_CHECKING:
    from engine.http.service import Service

PATH: Final = "/status"


class Moon:
    """Whether there is a cache at all; what is in it the bazel adapter gives."""

    name = "moon"

    def matches(self, request: Request) -> bool:
        """Say whether it is the question for the status."""
        return request.method in ("GET", "HEAD") and request.path == PATH

    def scope(self, request: Request) -> Scope:
        """Return READ, so that a wrong token shows at the first request."""
        return Scope.READ

    async def handle(self, request: Request, service: Service) -> Response:
        """Say that all is well."""
        return Response(200, b'{"status": "ok"}\n', {"content-type": "application/json"})
