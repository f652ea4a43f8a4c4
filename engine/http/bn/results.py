"""Results and realisations of bn's own protocol: whole ones are found, and whole ones are stored.

::

    GET   rows under the key ─▶ documents ─▶ walk over outputs and logs ─▶ the whole ones
    PUT   candidates ─▶ walk ─▶ those that are whole, and not the writer's ninth, get a row each
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import trio
from attrs import define, field, frozen

from engine.http.bn.actions import Actions
from engine.http.bn.local import Local
from engine.http.bn.refusals import holds_refused, is_refused, refused_in
from engine.http.bn.requests import JSON, MISS, answer, candidates_in, digests_in, json_in
from engine.http.bn.rows import PORTION, REALISATION, RESULT, portions
from engine.http.bn.walk import MISSING_MOST, Known, Walk, document
from engine.http.candidates import (
    MOST,
    MOST_OF_ALL,
    WRITER,
    Candidate,
    parsed,
    realisation_candidate,
    realisation_text,
    result_candidate,
    result_text,
    seconds_in,
    shared_out,
    writer_of,
)
from engine.http.message import Failure, Request, Response
from engine.http.service import Item, Service
from store.digest import Digest
from store.entries import Row

_LISTS: Final = {RESULT: "actions", REALISATION: "realisations"}
_KEPT_BYTES: Final = 32 * 2**20
"""Bytes of documents that a process keeps in memory between requests."""

_OBJECT_BYTES: Final = 1024
"""What a short one takes besides."""

_HINT: Final = "store them first"


@frozen
class Found:
    """A candidate that is there, and what its rows say."""

    candidate: Candidate
    rows: Sequence[Row]

    def text(self, action: bytes | None = None) -> bytes:
        """Return the JSON, of a result, perhaps with the document of its action."""
        return result_text(self.candidate.data, [row.meta for row in self.rows], action)


@frozen
class Refused:
    """Why a candidate was not stored."""

    digest: Digest
    error: str
    missing: list[Digest]


@define
class Results:
    """What one process knows of results between requests: documents, and trees."""

    known: Known = field(factory=Known)
    _actions: Actions = field(factory=Actions)
    _local: Local = field(factory=Local)
    _documents: dict[Digest, Candidate] = field(factory=dict)
    _bytes: int = 0

    async def get(self, request: Request, service: Service, key: Digest, *, kind: str) -> Response:
        """Answer with the candidates under a key."""
        texts = (await self._texts(service, request.name_space, kind, [key])).get(key)
        if texts is None:
            return MISS
        name = b"results" if kind == RESULT else b"realisations"
        return Response(200, b'{"%s":[%s]}' % (name, b",".join(texts)), JSON, "hit")

    async def get_many(self, request: Request, service: Service, *, kind: str) -> Response:
        """Answer with the candidates under many keys."""
        keys = await digests_in(request)
        found = await self._texts(service, request.name_space, kind, keys)
        texts = [b'"%s":[%s]' % (key.encode(), b",".join(each)) for key, each in found.items()]
        body = b'{"%s":{%s}}' % (_LISTS[kind].encode(), b",".join(texts))
        return Response(200, body, JSON, "hit" if found else "miss")

    async def put(self, request: Request, service: Service, key: Digest, *, kind: str) -> Response:
        """Store a candidate under its key."""
        value = await json_in(request)
        candidate = _of_kind(kind, value)
        if candidate.key != key:
            message = f"the document is of {candidate.key}"
            raise Failure(400, message, "its key is the last part of the path")
        refused = await self._store(request, service, [candidate])
        if not refused:
            return answer({"stored": 1}, "stored")
        one = refused[0]
        hint = _HINT if one.missing else "an administrator can taint what is bad"
        return answer({"error": one.error, "hint": hint, "missing": one.missing}, status=409)

    async def put_many(self, request: Request, service: Service, *, kind: str) -> Response:
        """Store many candidates, each under its key."""
        values = await candidates_in(request, _LISTS[kind])
        candidates = [_of_kind(kind, value) for value in values]
        refused = await self._store(request, service, candidates)
        listed = [
            {"digest": one.digest, "error": one.error, "missing": one.missing} for one in refused
        ]
        return answer({"stored": len(candidates) - len(refused), "refused": listed}, "stored")

    async def find(
        self, service: Service, name_space: str, kind: str, keys: Sequence[Digest]
    ) -> dict[Digest, list[Found]]:
        """Return whole candidates by key, the oldest first; a realisation is whole with a result.

        What they consist of counts as used.
        """
        found = await self._candidates(service, name_space, kind, keys)
        absent = [key for key in keys if key not in found]
        if absent and await self._local.adopt(service, name_space, kind, absent):
            found.update(await self._candidates(service, name_space, kind, absent))
        return found

    # inside

    async def _texts(
        self, service: Service, name_space: str, kind: str, keys: Sequence[Digest]
    ) -> dict[Digest, list[bytes]]:
        """Return the JSON of whole candidates by key."""
        found = await self.find(service, name_space, kind, keys)
        if kind == RESULT:
            _count(service, name_space, found)
            return {key: [one.text() for one in each] for key, each in found.items()}
        actions = {one.candidate.action: None for each in found.values() for one in each}
        results = await self.find(service, name_space, RESULT, list(actions))
        made_of = await self._actions.find(service, name_space, list(results))
        _count(service, name_space, results)
        texts: dict[Digest, list[bytes]] = {}
        for key, each in found.items():
            for one in each:
                realisation = one.candidate
                fitting = [
                    result.text(made_of.get(realisation.action))
                    for result in results.get(realisation.action, ())
                    if result.candidate.outputs == realisation.outputs
                ]
                if fitting:
                    metas = [row.meta for row in one.rows]
                    text = realisation_text(realisation.data, metas, fitting)
                    texts.setdefault(key, []).append(text)
        return texts

    async def _candidates(
        self, service: Service, name_space: str, kind: str, keys: Sequence[Digest]
    ) -> dict[Digest, list[Found]]:
        """Return what is under keys, of results only those that are whole."""
        found: dict[Digest, list[Found]] = {}
        bad = refused_in(service, name_space)
        for some in portions(keys):
            for key, rows in _rows(service, name_space, kind, some).items():
                for each in shared_out(list(rows.values()), _writer_of_first):
                    candidate = await self._document(service, kind, each[0])
                    good = candidate is not None and not is_refused(candidate, bad)
                    if candidate is not None and good and candidate.key == key:
                        found.setdefault(key, []).append(Found(candidate, each))
            await trio.lowlevel.checkpoint()
        if kind == RESULT and found:
            walk = Walk(service, name_space, self.known)
            await _add(walk, [one.candidate for each in found.values() for one in each])
            for some in portions(list(found)):
                for key in some:
                    found[key] = [
                        one
                        for one in found[key]
                        if not _missing(walk, one.candidate)
                        and not holds_refused(walk, one.candidate, bad)
                    ]
                await trio.lowlevel.checkpoint()
        service.entries.used(row for each in found.values() for one in each for row in one.rows)
        return {key: each for key, each in found.items() if each}

    async def _document(self, service: Service, kind: str, row: Row) -> Candidate | None:
        """Return the candidate that a row names; None where it is gone."""
        known = self._documents.get(row.digest)
        if known is not None and known.kind == kind:
            return known
        data = await document(service, row)
        candidate = None if data is None else parsed(data, kind)
        if candidate is not None:
            self._bytes += len(candidate.data) + _OBJECT_BYTES
            if self._bytes > _KEPT_BYTES:
                self._documents.clear()
                self._bytes = len(candidate.data) + _OBJECT_BYTES
            self._documents[row.digest] = candidate
        return candidate

    async def _store(
        self, request: Request, service: Service, candidates: Sequence[Candidate]
    ) -> list[Refused]:
        """Store candidates, and return why some were not."""
        name_space = request.name_space
        walk = Walk(service, name_space, self.known)
        await _add(walk, [result for one in candidates for result in _results_of(one)])
        refused, whole = [], list[Candidate]()
        bad = refused_in(service, name_space)
        for number, one in enumerate(candidates, 1):
            if number % PORTION == 0:
                await trio.lowlevel.checkpoint()
            missing = {
                digest: None for result in _results_of(one) for digest in _missing(walk, result)
            }
            if missing:
                some = list(missing)[:MISSING_MOST]
                refused.append(Refused(one.key, "blobs that it names are not there", some))
            elif any(holds_refused(walk, each, bad) for each in (one, *one.results)):
                refused.append(Refused(one.key, "it was found to be bad", []))
            else:
                whole.append(one)
        plan = _Plan(service, name_space, writer_of(request.identity.name, request.peer))
        for kind in (RESULT, REALISATION):
            surplus = plan.add(kind, [one for one in whole if one.kind == kind])
            error = f"you stored {MOST} others under its key, or all of you {MOST_OF_ALL}"
            refused += [Refused(one.key, error, []) for one in surplus]
        plan.add(RESULT, [result for one in whole for result in one.results])
        await plan.write()
        return refused


class _Plan:
    """Rows to be written for a writer's candidates, but for those that are there already."""

    def __init__(self, service: Service, name_space: str, writer: str) -> None:
        self._service = service
        self._name_space = name_space
        self._writer = writer
        self._writers: dict[tuple[str, str], dict[str, str | None]] = {}
        """Who stored what, by row: candidates below `KEY`, signatures below `KEY/DIGEST`."""
        self._looked_at: set[tuple[str, Digest]] = set()
        self._items: list[Item] = []

    def add(self, kind: str, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Add candidates of a kind; return those that would be one too many under their key."""
        keys = {one.key: None for one in candidates if (kind, one.key) not in self._looked_at}
        self._looked_at.update((kind, key) for key in keys)
        found = self._service.entries.find_under(self._name_space, kind, keys)
        for rows in found.values():
            for name, row in rows.items():
                self._beside(kind, name)[name] = row.meta.get(WRITER)
        return [one for one in candidates if not self._take(one)]

    def _beside(self, kind: str, name: str) -> dict[str, str | None]:
        """Return who stored the rows beside one, and it itself."""
        return self._writers.setdefault((kind, name.rpartition("/")[0]), {})

    def _take(self, one: Candidate) -> bool:
        """Plan rows for a candidate, but for signatures that are too many; say whether there was
        room for it."""
        (base, meta), *signatures = one.rows(self._writer).items()
        if not self._has_room(one, base, meta):
            return False
        for name, signature in signatures:
            self._has_room(one, name, signature)
        return True

    def _has_room(self, one: Candidate, name: str, meta: dict[str, str]) -> bool:
        beside = self._beside(one.kind, name)
        if name in beside:
            return True
        mine = sum(writer == self._writer for writer in beside.values())
        if mine >= MOST or len(beside) >= MOST_OF_ALL:
            return False
        beside[name] = self._writer
        self._items.append(Item(one.kind, name, one.data, meta))
        return True

    async def write(self) -> None:
        """Write them, durably."""
        await self._service.put_many(self._name_space, self._items)


def _writer_of_first(rows: Sequence[Row]) -> str | None:
    """Return who stored a candidate first."""
    return rows[0].meta.get(WRITER)


def _count(service: Service, name_space: str, found: Mapping[Digest, Sequence[Found]]) -> None:
    """Count the work that results save who asked for them."""
    for each in found.values():
        service.counts.save(name_space, seconds_in(row.meta for row in each[0].rows))


def _of_kind(kind: str, value: object) -> Candidate:
    """Return the candidate in a request. Raises Failure(400)."""
    return result_candidate(value) if kind == RESULT else realisation_candidate(value)


def _results_of(candidate: Candidate) -> Sequence[Candidate]:
    """Return the results that have to be whole for a candidate."""
    return (candidate,) if candidate.kind == RESULT else candidate.results


async def _add(walk: Walk, results: Sequence[Candidate]) -> None:
    """Let a walk look at what results name."""
    logs = (one.log for one in results if one.log is not None)
    await walk.add((one.outputs for one in results), logs)


def _missing(walk: Walk, result: Candidate) -> list[Digest]:
    """Return what a result lacks."""
    return walk.missing([result.outputs], [result.log] if result.log is not None else [])


def _rows(
    service: Service, name_space: str, kind: str, keys: Sequence[Digest]
) -> dict[Digest, dict[Digest, list[Row]]]:
    """Return rows by key and the digest that they name, the oldest first."""
    found: dict[Digest, dict[Digest, list[Row]]] = {}
    for key, rows in service.entries.find_under(name_space, kind, keys).items():
        by_digest = found.setdefault(Digest(key), {})
        for row in sorted(rows.values(), key=lambda row: row.stored):
            by_digest.setdefault(row.digest, []).append(row)
    return found
