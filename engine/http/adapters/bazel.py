"""Bazel's HTTP cache: `/ac/` and `/cas/` by SHA-256, under any prefix; also of ccache and moon."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from engine.http.adapters.action_result import EMPTY, NOTHING, Needs, needs, tree_needs
from engine.http.adapters.files import BYTES, METHODS, answer, guard, removed, scope_of, stored
from engine.http.message import MISS, Failure, Request, Response, Scope, Stored

if TYPE_CHECKING:
    from engine.http.service import Service

PATH: Final = re.compile(r"(?:/.*)?/(ac|cas)(?:\.v2)?/([0-9a-f]{64})")
RESULTS: Final = "ac"
BLOBS: Final = "sha256"
MOST_WALKED: Final = 32 << 20
"""Bytes of the largest action result, or Tree, that is looked into: a hundred thousand files."""

MOST_INLINE: Final = 32 << 10
"""Bytes of a message that the loop itself looks into."""

MOST_AT_ONCE: Final = 256
"""Blobs of which the loop itself looks whether they are there."""

NO_FILES: Final[frozenset[str] | None] = frozenset()

T = TypeVar("T")


class Bazel:
    """Action results, opaque but for what they need; blobs, held to their digest."""

    name = "bazel"

    def matches(self, request: Request) -> bool:
        """Say whether the path ends in a name of 64 hexadecimal digits under `ac` or `cas`."""
        return request.method in METHODS and PATH.fullmatch(request.path) is not None

    def scope(self, request: Request) -> Scope:
        """Return READ for GET and HEAD."""
        return scope_of(request)

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer; an action result of which an output is gone is a miss."""
        found = PATH.fullmatch(request.path)
        if found is None:
            raise Failure(404, f"{request.path}: no blob and no action result")
        kind = RESULTS if found[1] == "ac" else BLOBS
        key = found[2]
        if request.method == "PUT":
            guard(request, service, kind, key)
            checked = key if kind == BLOBS else None
            await service.put(request.name_space, kind, key, request.body, sha256=checked)
            return stored()
        if request.method == "DELETE":
            return removed(await service.remove(request.name_space, kind, key))
        if kind == RESULTS:
            return await result(service, request.name_space, key)
        if key == EMPTY:
            return Response(200, b"", BYTES, "hit")
        return answer(await service.get(request.name_space, BLOBS, key))


async def result(service: Service, name_space: str, key: str) -> Response:
    """Return an action result, a miss where it is empty or one of its outputs is not there."""
    found = await service.get(name_space, RESULTS, key)
    if found is None or not found.size:
        return MISS
    try:
        needed = await _walked(found, needs, NOTHING)
        complete = await _is_complete(service, name_space, needed)
    except BaseException:
        found.close()
        raise
    if not complete:
        found.close()
        return MISS
    return answer(found)


async def _is_complete(service: Service, name_space: str, needed: Needs) -> bool:
    blobs = set(needed.blobs)
    for digest in needed.trees:
        tree = await service.get(name_space, BLOBS, digest)
        if tree is None:
            return False
        try:
            files = await _walked(tree, tree_needs, NO_FILES)
        finally:
            tree.close()
        if files is None:
            return False
        blobs |= files
    if len(blobs) <= MOST_AT_ONCE:
        return service.is_there(name_space, BLOBS, blobs)
    return await trio.to_thread.run_sync(service.is_there, name_space, BLOBS, blobs)


async def _walked(found: Stored, walk: Callable[[bytes | memoryview], T], too_large: T) -> T:
    """Return what a walk over a stored message gives; a long one is walked in a thread."""
    if found.data is not None:
        if found.size <= MOST_INLINE:
            return walk(found.data)
        return await trio.to_thread.run_sync(walk, found.data)
    if found.size > MOST_WALKED:
        return too_large
    return await trio.to_thread.run_sync(_mapped, found.descriptor, walk)


def _mapped(descriptor: int, walk: Callable[[bytes | memoryview], T]) -> T:
    """Walk over a file without reading it in; the mapping ends with the last view of it."""
    return walk(memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)))
