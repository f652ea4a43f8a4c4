"""The router: which protocol a request speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engine.http.message import Failure, Request, Response, Scope

if TYPE_CHECKING:
    from engine.http.service import Service


class Adapter(Protocol):
    """One protocol over the service."""

    name: str

    def matches(self, request: Request) -> bool:
        """Say whether the request is of this protocol, by its method and path."""
        ...

    def scope(self, request: Request) -> Scope:
        """Return what a client must be allowed to do for it."""
        ...

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer. Raises Failure where that is another answer than the protocol's usual ones."""
        ...


def route(adapters: Sequence[Adapter], request: Request) -> Adapter:
    """Return the first adapter that the request is for; raises Failure(404)."""
    for adapter in adapters:
        if adapter.matches(request):
            return adapter
    raise Failure(404, f"{request.path}: no cache protocol is served there")
