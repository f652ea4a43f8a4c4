"""What is bad is removed: a blob, and every result and realisation that it is part of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from engine.http.bn.requests import answer, digest_of, json_in
from engine.http.bn.rows import BLOB, REALISATION, RESULT
from engine.http.bn.walk import Known, Walk, document
from engine.http.candidates import Candidate, parsed
from engine.http.message import Failure, Request, Response
from store.digest import Digest

if TYPE_CHECKING:
    from engine.http.service import Service
    from store.entries import Row

_PORTION: Final = 200
"""Candidates that are looked through at a time."""

_Keyed = tuple[str, str, "Row"]


async def taint(request: Request, service: Service, *, known: Known) -> Response:
    """Remove what has the digest, is stored under it, or consists of it."""
    value = await json_in(request, 4096)
    match value:
        case {"digest": str(text), **rest} if not rest:
            bad = digest_of(text)
        case _:
            raise Failure(400, "the body has another form", '{"digest": …}')
    name_space = request.name_space
    found: list[_Keyed] = []
    some: list[_Keyed] = []
    for kind in (RESULT, REALISATION):
        for key, row in service.entries.each(name_space, kind):
            some.append((kind, key, row))
            if len(some) == _PORTION:
                found += await _naming(service, name_space, known, bad, some)
                some = []
    found += await _naming(service, name_space, known, bad, some)
    blob = service.entries.find(name_space, BLOB, bad)
    if blob is not None:
        found.append((BLOB, bad, blob))
    for kind, key, _ in found:
        await service.remove(name_space, kind, key)
    removed = [
        {"kind": kind, "key": key.partition("/")[0], "digest": row.digest}
        for kind, key, row in found
    ]
    return answer({"removed": removed})


async def _naming(
    service: Service, name_space: str, known: Known, bad: Digest, some: Sequence[_Keyed]
) -> list[_Keyed]:
    """Return those of some candidates that are bad, or name what is."""
    walk = Walk(service, name_space, known)
    candidates: list[tuple[_Keyed, Candidate | None]] = []
    for one in some:
        kind, _, row = one
        data = await document(service, row)
        candidates.append((one, None if data is None else parsed(data, kind)))
    await walk.add(found.outputs for _, found in candidates if found is not None)
    return [
        one
        for one, found in candidates
        if bad in (one[1].partition("/")[0], one[2].digest)
        or (found is not None and _names(walk, found, bad))
    ]


def _names(walk: Walk, found: Candidate, bad: Digest) -> bool:
    if bad in (found.action, found.outputs, found.log):
        return True
    below = (walk.below[tree] for tree in walk.all_below([found.outputs]))
    return any(bad in one.trees or any(bad == blob for blob, _ in one.blobs) for one in below)
