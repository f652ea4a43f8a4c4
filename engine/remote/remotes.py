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
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

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
    Tree,
)
from store.records import frozen
from store.spans import span
from store.store import Store
from store.upstream import UNKNOWN

if TYPE_CHECKING:
    from concurrent.futures import Future

    from engine.remote.fetch import Fetcher
    from engine.remote.loop import Loop
    from engine.remote.peers import Peer, Peers
    from engine.remote.trust import Accepted, Policy
    from engine.remote.uploads import Uploader
    from engine.remote.wire import Candidate

T = TypeVar("T")

Needed: TypeAlias = Callable[[Iterable[Digest]], Set[Digest]]
"""Tells which of the things that remotes have are needed; asked while the caller waits."""

_EMPTY: Final = EMPTY_TREE.digest()
_NOTHING: Final = digest_bytes(b"")


@frozen
class Found:
    """A result that a remote has, whose signature (the key's name) made it believed, and the trees
    that it consists of, with their bytes."""

    remote: str
    result: ActionResult
    realisation: Realisation | None
    key: str
    trees: Mapping[Digest, tuple[Tree, bytes]]
    seconds: float


class Remotes:
    """All remotes of a store. Questions about blobs may come from any thread, others from one."""

    def __init__(self, store: Store, cache: CacheSpec) -> None:
        self._store = store
        self._cache = cache
        self._known = Known(store)
        self._whole: set[Digest] = set()
        self._network: _Network | None = None
        self._off = False

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
        origin = {"remote": found.remote, "result": found.result.digest(), "time": int(time.time())}
        if found.key:
            origin["key"] = found.key
        elif self._network is not None:
            self._network.uploader.sure = False
        self._store.actions.also((Table.ORIGINS, found.result.action, to_json(origin)))

    # what was built here

    def built(self, result: ActionResult, recipes: Iterable[Digest]) -> None:
        """Upload a result beside all else."""
        from engine.remote.uploads import Item

        self.give([Item(result, tuple(recipes))])

    def give(self, items: Iterable[object]) -> None:
        """Upload results (`uploads.Item`) beside all else."""
        network = self._started()
        network.loop.soon(functools.partial(network.add, list(items)))

    def given(self) -> tuple[int, int, int]:
        """Return how many results wait to be uploaded, were, and were refused by some remote."""
        if self._network is None:
            return 0, 0, 0
        uploader = self._network.uploader
        return uploader.waiting, uploader.taken, uploader.lost

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

    def _started(self) -> _Network:
        if self._network is None:
            with span("load the client"):
                self._network = _Network(self._store, self._cache, self._known)
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
            elif mine.outputs != made.outputs:
                made = Realisation(recipe=made.recipe, action=made.action, outputs=mine.outputs)
            actions.record_realisation(made)
        return found


class _Network:
    """All that is there once something is asked: the loop, and what runs in it."""

    def __init__(self, store: Store, cache: CacheSpec, known: Known) -> None:
        from engine.remote.fetch import Fetcher
        from engine.remote.loop import Loop
        from engine.remote.peers import Peer, Peers
        from engine.remote.trust import has_unsigned, policy_of
        from engine.remote.uploads import Uploader
        from store.refused import read_refused

        self.peers: Peers = Peers([Peer(spec) for spec in cache.remotes])
        self._cas = store.cas
        self._known = known
        self._policy: Policy = policy_of(cache, read_refused(store.root))
        self.uploader: Uploader = Uploader(store.cas, self.peers, self._policy)
        self.uploader.sure = self._policy.signer is not None and not has_unsigned(store)
        self._fetcher: Fetcher = Fetcher(store.cas, self.peers)
        self._uploading = False
        self.loop: Loop = Loop(self.peers.close)

    def close(self) -> None:
        """End the loop and all that goes on in it."""
        self.loop.close()

    def add(self, items: list[object]) -> None:
        """Put results in line to be uploaded, which goes on by itself."""
        self.uploader.add(items)  # type: ignore[arg-type]
        if not self._uploading:
            self._uploading = True
            self.loop.submit(self.uploader.run)

    async def bring(self, wanted: Mapping[str, Sequence[File]]) -> None:
        """Fetch files; what nobody gave is not said to be anywhere any more."""
        left = await self._fetcher.fetch(wanted)
        if left:
            self._known.gone(left)
            self._cas.forget_known()

    async def missing(self, wanted: Mapping[str, Sequence[Digest]]) -> set[Digest]:
        """Return what is not where it is known to be."""
        from engine.remote.client import GivenUp

        found: set[Digest] = set()
        for name, digests in wanted.items():
            peer = self.peers.called(name)
            if peer is not None:
                try:
                    found |= await self.peers.client(peer).missing(digests)
                except GivenUp as error:
                    self.peers.give_up(peer, error)
        return found

    async def find(
        self, kind: str, digests: Sequence[Digest], needed: Needed
    ) -> dict[Digest, Found]:
        """Ask the remotes in order; each only for what those before do not have, and take what is
        `needed`."""
        from engine.remote.client import GivenUp

        found: dict[Digest, Found] = {}
        for peer in self.peers.readable():
            left = [digest for digest in digests if digest not in found]
            if not left:
                break
            try:
                before = frozenset(found)

                def wanted(new: Iterable[Digest], before: Set[Digest] = before) -> Set[Digest]:
                    return needed({*before, *new})

                found |= await self._find_at(peer, kind, left, wanted)
            except GivenUp as error:
                self.peers.give_up(peer, error)
                self._cas.forget_known()
        return found

    async def _find_at(
        self, peer: Peer, kind: str, digests: Sequence[Digest], needed: Needed
    ) -> dict[Digest, Found]:
        from engine.remote.trust import accepted
        from engine.remote.wire import below

        begun = time.monotonic()
        client = self.peers.client(peer)
        ask = client.realisations if kind == "realisations" else client.results
        offered: dict[Digest, list[Candidate]] = await ask(digests)
        taken: dict[Digest, Accepted] = {}
        for digest, candidates in offered.items():
            one = accepted(candidates, self._policy)
            if one is not None:
                taken[digest] = one
        wanted = needed(taken.keys())
        taken = {digest: one for digest, one in taken.items() if digest in wanted}
        roots = {one.candidate.result.outputs for one in taken.values()} - {_EMPTY}
        trees = await client.closures(list(roots)) if roots else {}
        found = {}
        for digest, one in taken.items():
            result = one.candidate.result
            parts = {} if result.outputs == _EMPTY else below(result.outputs, trees)
            if parts is None or self._is_gone(result, parts):
                continue
            seconds = time.monotonic() - begun
            made = one.candidate.realisation
            found[digest] = Found(peer.name, result, made, one.key, parts, seconds)
        return found

    def _is_gone(self, result: ActionResult, trees: Mapping[Digest, tuple[Tree, bytes]]) -> bool:
        """Say whether something that a result consists of turned out not to be there."""
        files = (entry for tree, _ in trees.values() for entry in tree.entries.values())
        return self._known.is_gone(result.log) or any(
            isinstance(entry, File) and self._known.is_gone(entry.digest) for entry in files
        )


async def _waited(future: Future[T]) -> T:
    """Wait for what goes on in the loop, from another one."""
    import trio

    return await trio.to_thread.run_sync(future.result, abandon_on_cancel=True)
