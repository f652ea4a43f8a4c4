"""What is bad is removed, and refused from then on: a blob, and all results and realisations that
it is part of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from engine.http.bn.refusals import holds_refused, refuse_in
from engine.http.bn.requests import DIGESTS_MOST, answer, digest_of, json_in
from engine.http.bn.rows import BLOB, REALISATION, RESULT
from engine.http.bn.walk import Known, Walk, document
from engine.http.candidates import Candidate, parsed
from engine.http.message import Failure, Request, Response
from store.digest import Digest
from store.errors import BnError
from store.refused import pair

if TYPE_CHECKING:
    from engine.http.service import Service
    from store.entries import Row

_PORTION: Final = 200
"""Candidates that are looked through at a time."""

_ROWS: Final = 2_000
"""Rows that are removed in one transaction."""

_FORM: Final = '{"digest": …} or {"digests": […]}'

_Keyed = tuple[str, str, "Row", Candidate | None]


async def taint(request: Request, service: Service, *, known: Known) -> Response:
    """Remove what has one of the digests, is stored under it, or consists of it, and refuse it."""
    bad = frozenset(_digests(await json_in(request, 4 * 2**20)))
    name_space = request.name_space
    await _refuse(service, name_space, bad)
    found: list[_Keyed] = []
    some: list[tuple[str, str, Row]] = []
    for kind in (RESULT, REALISATION):
        for key, row in service.entries.each(name_space, kind):
            some.append((kind, key, row))
            if len(some) == _PORTION:
                found += await _naming(service, name_space, known, bad, some)
                some = []
    found += await _naming(service, name_space, known, bad, some)
    candidates = [one for *_, one in found if one is not None]
    more = {digest for one in candidates for digest in (one.digest, pair(one.action, one.outputs))}
    await _refuse(service, name_space, more)
    blobs = service.entries.find_many(name_space, BLOB, bad)
    found += [(BLOB, digest, row, None) for digest, row in blobs.items()]
    rows = [row for _, _, row, _ in found]
    for start in range(0, len(rows), _ROWS):
        await service.remove_rows(rows[start : start + _ROWS])
    removed = [
        {"kind": kind, "key": key.partition("/")[0], "digest": row.digest}
        for kind, key, row, _ in found
    ]
    return answer({"removed": removed})


def _digests(value: Any) -> Iterable[Digest]:
    match value:
        case {"digest": str(text), **rest} if not rest:
            return [digest_of(text)]
        case {"digests": list(texts), **rest} if not rest:
            if len(texts) > DIGESTS_MOST:
                raise Failure(413, f"{len(texts)} digests in a request", f"at most {DIGESTS_MOST}")
            if all(isinstance(text, str) for text in texts):
                return map(digest_of, texts)
    raise Failure(400, "the body has another form", _FORM)


async def _refuse(service: Service, name_space: str, digests: Iterable[Digest]) -> None:
    try:
        await trio.to_thread.run_sync(refuse_in, service, name_space, sorted(digests), "tainted")
    except BnError as error:
        raise Failure(507, error.message, error.hint) from error


async def _naming(
    service: Service,
    name_space: str,
    known: Known,
    bad: frozenset[Digest],
    some: Sequence[tuple[str, str, Row]],
) -> list[_Keyed]:
    """Return those of some candidates that are bad, or name what is."""
    walk = Walk(service, name_space, known)
    candidates: list[_Keyed] = []
    for kind, key, row in some:
        data = await document(service, row)
        candidates.append((kind, key, row, None if data is None else parsed(data, kind)))
    await walk.add(found.outputs for *_, found in candidates if found is not None)
    return [
        (kind, key, row, found)
        for kind, key, row, found in candidates
        if key.partition("/")[0] in bad
        or row.digest in bad
        or (found is not None and (found.action in bad or holds_refused(walk, found, bad)))
    ]
