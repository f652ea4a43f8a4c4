"""Nx's self-hosted cache: `/v1/cache/HASH`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from engine.http.adapters.files import READING, answer, scope_of, stored
from engine.http.message import Failure, Request, Response, Scope

if TYPE_CHECKING:
    from engine.http.service import Service

KIND: Final = "nx"
PATH: Final = re.compile(r"(?:/.*)?/v1/cache/([0-9A-Za-z._-]{1,128})")


class Nx:
    """Archives by hash. Nx takes nothing but 200 and 404 for GET, and 200 for PUT."""

    name = "nx"

    def matches(self, request: Request) -> bool:
        """Say whether the path is of this interface."""
        return PATH.fullmatch(request.path) is not None

    def scope(self, request: Request) -> Scope:
        """Return READ for GET and HEAD."""
        return scope_of(request)

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer."""
        found = PATH.fullmatch(request.path)
        key = found[1] if found else ""
        if request.method in READING:
            return answer(await service.get(request.name_space, KIND, key))
        if request.method == "PUT":
            await service.put(request.name_space, KIND, key, request.body)
            return stored()
        raise Failure(405, f"{request.method} is not served there")
