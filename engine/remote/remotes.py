"""The remote caches of a store: its last tier, and where results of others are looked up.

::

    build ── realise, results ──▶ ┌────────────┐        loop.py, a thread
      │                           │            │ ──▶ client.py ──▶ remote, next remote, …
    Cas ── has, bring ──────────▶ │  Remotes   │
      │                           │            │ ──▶ fetch.py ──▶ Cas
    build ── built ─────────────▶ └────────────┘ ──▶ uploads.py

Nothing of the network is loaded, and no thread started, before something is asked for.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from engine.remote.found import Found, Needed
from engine.remote.known import Known
from engine.remote.settings import CacheSpec
from engine.timeline.events import Event
from store.digest import Digest, digest_bytes
from store.errors import BnError
from store.index import Table, to_json
from store.objects import (
    EMPTY_TREE,
    ActionResult,
    Directory,
    Entry,
    File,
    Realisation,
)
from store.spans import span
from store.store import Store
from store.upstream import UNKNOWN

if TYPE_CHECKING:
    from concurrent.futures import Future

    from engine.remote.network import Network
    from engine.remote.uploads import Item

T = TypeVar("T")

_EMPTY: Final = EMPTY_TREE.digest()
_NOTHING: Final = digest_bytes(b"")


class Remotes:
    """All remotes of a store. Questions about blobs may come from any thread, others from one."""

    def __init__(self, store: Store, cache: CacheSpec) -> None:
        self._store = store
        self._cache = cache
        self._known = Known(store)
        self._whole: set[Digest] = set()
        self._network: Network | None = None
        self._off = False
        self._kept_back = 0
        """Results that no remote was given, as all that may be written to had been given up."""

    # blobs: the store's upstream

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Say whether a blob is known to be at a remote that can still be asked."""
        if self._off:
            return False
        there = self._known.get(digest)
        return there is not None and there.fits(size) and self._is_readable(there.remote)

    def bring(self, entries: Iterable[Entry]) -> None:
        """Fetch what is missing here of the files in `entries` and below them."""
        pending = self._bringing(entries)
        if pending is not None:
            pending.result()

    async def bring_soon(self, entries: Iterable[Entry]) -> None:
        """Do the same while others go on."""
        pending = self._bringing(entries)
        if pending is not None:
            await _waited(pending)

    def close(self) -> None:
        """End all that goes on; what waits to be uploaded is not."""
        if self._network is not None:
            self._network.close()
            self._network = None

    # results

    @property
    def readable(self) -> bool:
        """Whether some remote may be asked."""
        if self._off:
            return False
        if self._network is None:
            return any(spec.read for spec in self._cache.remotes)
        return bool(self._network.peers.readable())

    @property
    def writable(self) -> bool:
        """Whether some remote may be given something."""
        if self._off:
            return False
        if self._network is None:
            return any(spec.write for spec in self._cache.remotes)
        return bool(self._network.peers.writable())

    def realise(self, recipes: Sequence[Digest], needed: Needed = set) -> dict[Digest, Found]:
        """Ask what recipes came to, and keep what is `needed` of that; return it."""
        return self._kept(self._asked("realisations", recipes, needed).result())

    def results(self, actions: Sequence[Digest]) -> dict[Digest, Found]:
        """Ask for results of actions; return those that some remote has. They are not kept yet:
        `keep_result` does that."""
        return self._asked("results", actions).result()

    async def results_soon(self, actions: Sequence[Digest]) -> dict[Digest, Found]:
        """Do the same while others go on."""
        return await _waited(self._asked("results", actions))

    def keep_parts(self, found: Found) -> None:
        """Keep the trees of a result, where its blobs are, and where it came from."""
        cas = self._store.cas
        for digest, (tree, data) in found.trees.items():
            cas.put_object(data)
            cas.know_tree(digest, tree)
            for entry in tree.entries.values():
                if isinstance(entry, File):
                    self._known.note(entry.digest, found.remote, entry.size)
        if found.result.outputs == _EMPTY:
            cas.put_tree(EMPTY_TREE)
        if found.result.log == _NOTHING:
            cas.put_object(b"")
        else:
            self._known.note(found.result.log, found.remote, UNKNOWN)
        origin: dict[str, Any] = {
            "remote": found.remote,
            "result": found.result.digest(),
            "time": int(time.time()),
        }
        if found.took:
            origin["seconds"] = found.took
        if found.key:
            origin["key"] = found.key
        elif self._network is not None:
            self._network.uploader.sure = False
        self._store.actions.also((Table.ORIGINS, found.result.action, to_json(origin)))

    # what was built here

    def built(self, result: ActionResult, recipes: Iterable[Digest], seconds: float = 0.0) -> None:
        """Upload a result, which took so long, beside all else, as far as a remote takes any."""
        if not self.writable:
            self._kept_back += not self._off and any(spec.write for spec in self._cache.remotes)
            return
        from engine.remote.uploads import Item

        self.give([Item(result, tuple(recipes), seconds=seconds)])

    def give(self, items: Iterable[Item]) -> None:
        """Upload results (`uploads.Item`) beside all else."""
        network = self._started()
        network.loop.soon(functools.partial(network.add, list(items)))

    def given(self) -> tuple[int, int, int]:
        """Return how many results wait to be uploaded, were, and were refused by some remote, or
        not given as all were given up."""
        if self._network is None:
            return 0, 0, self._kept_back
        uploader = self._network.uploader
        return uploader.waiting, uploader.taken, uploader.lost + self._kept_back

    def wait_for_uploads(self, seconds: float) -> bool:
        """Wait until all is uploaded or refused, but not longer; say whether it is."""
        if self._network is None:
            return True
        from concurrent.futures import TimeoutError as TooLong

        try:
            self._network.loop.submit(self._network.uploader.idle).result(seconds)
        except TooLong:
            return False
        return True

    # what happens

    def doubt(self, *, altogether: bool) -> None:
        """Look again at what is known to be at remotes, as something was not; `altogether` do
        without them from here on."""
        self._off = self._off or altogether
        if not self._off and self.readable:
            network = self._started()
            there = self._known.at(peer.name for peer in network.peers.readable())
            wanted: dict[str, list[Digest]] = {}
            for digest, place in there.items():
                wanted.setdefault(place.remote, []).append(digest)
            self._known.gone(network.loop.submit(lambda: network.missing(wanted)).result())
        self._store.cas.forget_known()
        if not self._store.read_only:
            for row in self._known.forgotten():
                self._store.actions.also(row)

    def take_events(self) -> Iterable[Event]:
        """Return what happened since the last call."""
        return () if self._network is None else self._network.peers.take()

    # inside

    def _started(self) -> Network:
        if self._network is None:
            with span("load the client"):
                from engine.remote.network import Network

                self._network = Network(self._store, self._cache, self._known)
        return self._network

    def _is_readable(self, remote: str) -> bool:
        if self._network is not None:
            return self._network.peers.called(remote) is not None
        return any(spec.read and spec.base == remote for spec in self._cache.remotes)

    def _bringing(self, entries: Iterable[Entry]) -> Future[None] | None:
        wanted: dict[str, list[File]] = {}
        for file in self._missing(entries):
            there = self._known.get(file.digest)
            if there is not None:
                wanted.setdefault(there.remote, []).append(file)
        if not wanted or self._off:
            return None
        network = self._started()
        if network.loop.is_mine():
            return None  # it cannot wait for itself: who asks finds the blob missing
        return network.loop.submit(lambda: network.bring(wanted))

    def _missing(self, entries: Iterable[Entry]) -> list[File]:
        """Return the files in `entries` and below that are not here and known to be elsewhere."""
        cas = self._store.cas
        found: dict[Digest, File] = {}
        seen: set[Digest] = set()
        pending = list(entries)
        while pending:
            match pending.pop():
                case File(digest, size, executable):
                    there = self._known.get(digest)
                    length = None if size == UNKNOWN else size
                    if there is not None and not cas.is_here(digest, length):
                        asked = there.size if length is None else length
                        found[digest] = File(digest, asked, executable)
                case Directory(digest) if digest not in seen and digest not in self._whole:
                    seen.add(digest)
                    try:
                        pending += cas.get_tree(digest).entries.values()
                    except BnError:
                        continue  # whoever needs it says so
        if not found:
            self._whole |= seen
        return list(found.values())

    def _asked(
        self, kind: str, digests: Sequence[Digest], needed: Needed = set
    ) -> Future[dict[Digest, Found]]:
        network = self._started()
        return network.loop.submit(lambda: network.find(kind, digests, needed))

    def _kept(self, found: dict[Digest, Found]) -> dict[Digest, Found]:
        with span("keep", results=len(found)):
            return self._keep(found)

    def _keep(self, found: dict[Digest, Found]) -> dict[Digest, Found]:
        actions = self._store.actions
        for one in found.values():
            made = one.realisation
            assert made is not None
            self.keep_parts(one)
            mine = actions.result_of(made.action)  # what was built here, or taken first, stays
            if mine is None:
                actions.take_over(one.result)
                if one.made_of is not None:
                    self._store.cas.put_object(one.made_of)
            elif mine.outputs != made.outputs:
                made = Realisation(recipe=made.recipe, action=made.action, outputs=mine.outputs)
            actions.record_realisation(made)
        return found


async def _waited(future: Future[T]) -> T:
    """Wait for what goes on in the loop, from another one."""
    import trio

    return await trio.to_thread.run_sync(future.result, abandon_on_cancel=True)
