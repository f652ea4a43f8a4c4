"""What the store's own builds left, taken over into a name space that may have it.

So one rule holds for all that a client gets: no row, no read. What lies in the store for others
stays out of sight.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from engine.durations import durations
from engine.http.bn.rows import BLOB, REALISATION, RESULT, portions
from engine.http.candidates import SECONDS
from engine.http.message import DEFAULT_NAME_SPACE
from store.cas import MissingBlob
from store.digest import Digest
from store.entries import Put, Vanished
from store.errors import BnError
from store.index import Index, Table
from store.objects import ActionResult, Directory, File, Realisation
from store.reaping import still_there

if TYPE_CHECKING:
    from engine.http.service import Service

_TABLES: Final = {RESULT: Table.ACTION_CACHE, REALISATION: Table.REALISATIONS}

_MOST: Final = 250_000
"""Rows that are written at a time."""


class Local:
    """Takes over what builds left. How long their actions took it remembers, as to find that out
    all of the store's history is read."""

    def __init__(self) -> None:
        self._took: Mapping[str, float] = {}
        self._version = -1
        self._read = 0.0
        self._cost = 0.0

    async def adopt(
        self, service: Service, name_space: str, kind: str, keys: Sequence[Digest]
    ) -> bool:
        """Give rows to whole results, or realisations, of the store's own builds under some keys,
        and to all that they consist of; say whether there were any."""
        if name_space != DEFAULT_NAME_SPACE or not service.share_local:
            return False
        index, table = service.store.index, _TABLES[kind]
        known: list[Digest] = []
        for some in portions(keys):
            known += [key for key in some if index.get(table, key) is not None]
            await trio.lowlevel.checkpoint()
        if not known:
            return False
        return await trio.to_thread.run_sync(self._adopt, service, name_space, kind, known)

    def _adopt(self, service: Service, name_space: str, kind: str, keys: Sequence[Digest]) -> bool:
        store = service.store
        try:
            with store.lease("serve"):
                puts: dict[tuple[str, str], Put] = {}
                took = self._durations(store.index)
                for key in keys:
                    for one in _puts(service, name_space, kind, key, took):
                        puts.setdefault((one.kind, one.key), one)
                    if len(puts) > _MOST:
                        break
                there = partial(still_there, store.cas)
                if puts:
                    service.entries.put([*puts.values()], service.quotas, there)
                return bool(puts)
        except (BnError, Vanished):
            return False

    def _durations(self, index: Index) -> Mapping[str, float]:
        """Return the seconds of actions: read again where the index changed, but while builds do
        that all the time, for a fifth of the time at most."""
        now, version = time.monotonic(), index.version()
        if version != self._version and now - self._read >= 4 * self._cost:
            self._took = durations(index)
            self._version, self._read = version, time.monotonic()
            self._cost = self._read - now
        return self._took


def _puts(
    service: Service, name_space: str, kind: str, key: Digest, took: Mapping[str, float]
) -> Iterator[Put]:
    """Yield the rows of a result or a realisation; none where it is not whole."""
    store = service.store
    realisation = store.actions.realisation(key) if kind == REALISATION else None
    action = key if kind == RESULT else realisation and realisation.action
    result = store.actions.result_of(action) if action else None
    if result is None or (realisation and realisation.outputs != result.outputs):
        return
    for document, of in ((result, RESULT), (realisation, REALISATION)):
        if document is not None:
            yield _candidate(name_space, of, document, took)
    yield from _blobs(service, name_space, result)


def _candidate(
    name_space: str, kind: str, document: ActionResult | Realisation, took: Mapping[str, float]
) -> Put:
    digest = document.digest()
    meta = {}
    if isinstance(document, ActionResult):
        key = document.action
        if took.get(key):
            meta[SECONDS] = f"{took[key]:.3f}"
    else:
        key = document.recipe
    return Put(name_space, kind, f"{key}/{digest}", digest, len(document.encode()), meta)


def _blobs(service: Service, name_space: str, result: ActionResult) -> Iterator[Put]:
    """Yield rows of all blobs that a result names, and of its action, if that is here."""
    cas = service.store.cas
    with contextlib.suppress(MissingBlob):
        size = len(cas.get_bytes(result.action))
        yield Put(name_space, BLOB, result.action, result.action, size)
    log = cas.get_bytes(result.log)
    yield Put(name_space, BLOB, result.log, result.log, len(log))
    pending = [result.outputs]
    while pending:
        digest = pending.pop()
        tree = cas.get_tree(digest)
        yield Put(name_space, BLOB, digest, digest, len(tree.encode()))
        for entry in tree.entries.values():
            match entry:
                case File(blob, size):
                    yield Put(name_space, BLOB, blob, blob, size)
                case Directory(child):
                    pending.append(child)
