"""Plain HTTP: GET, HEAD, PUT and DELETE of whatever no other protocol has taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.http.adapters.files import handle, scope_of
from engine.http.message import Request, Response, Scope

if TYPE_CHECKING:
    from engine.http.service import Service


class Generic:
    """Files by path; it is to be the last adapter."""

    name = "generic"

    def matches(self, request: Request) -> bool:
        """Take what is not the server's own, if only to say that the method is not served."""
        return not request.path.startswith("/bn/")

    def scope(self, request: Request) -> Scope:
        """Return READ for GET and HEAD."""
        return scope_of(request)

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer."""
        return await handle(request, service)
