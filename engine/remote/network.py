"""All that is there once remotes are asked: the loop, and what runs in it.

Loads httpx and trio, and so is loaded late.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from engine.remote.credentials import GivenUp
from engine.remote.fetch import Fetcher
from engine.remote.found import Found, Needed
from engine.remote.known import Known
from engine.remote.loop import Loop
from engine.remote.peers import Peer, Peers
from engine.remote.settings import CacheSpec
from engine.remote.trust import Accepted, accepted, has_unsigned, policy_of
from engine.remote.uploads import Item, Uploader
from engine.remote.wire import Candidate, below
from store.digest import Digest
from store.objects import EMPTY_TREE, ActionResult, File, Tree
from store.refused import read_refused
from store.store import Store

_EMPTY: Final = EMPTY_TREE.digest()


class Network:
    """All that is there once something is asked: the loop, and what runs in it."""

    def __init__(self, store: Store, cache: CacheSpec, known: Known) -> None:
        self.peers = Peers([Peer(spec) for spec in cache.remotes])
        self._cas = store.cas
        self._known = known
        self._policy = policy_of(cache, read_refused(store.root))
        self.uploader = Uploader(store.cas, self.peers, self._policy)
        self.uploader.sure = self._policy.signer is not None and not has_unsigned(store)
        self._fetcher = Fetcher(store.cas, self.peers)
        self._uploading = False
        self.loop = Loop(self.peers.close)

    def close(self) -> None:
        """End the loop and all that goes on in it."""
        self.loop.close()

    def add(self, items: Sequence[Item]) -> None:
        """Put results in line to be uploaded, which goes on by itself."""
        self.uploader.add(items)
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
            took, made_of = one.candidate.seconds, one.candidate.made_of
            found[digest] = Found(peer.name, result, made, one.key, parts, seconds, took, made_of)
        return found

    def _is_gone(self, result: ActionResult, trees: Mapping[Digest, tuple[Tree, bytes]]) -> bool:
        """Say whether something that a result consists of turned out not to be there."""
        files = (entry for tree, _ in trees.values() for entry in tree.entries.values())
        return self._known.is_gone(result.log) or any(
            isinstance(entry, File) and self._known.is_gone(entry.digest) for entry in files
        )
