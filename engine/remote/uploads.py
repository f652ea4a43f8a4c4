"""Uploads beside the build: blobs first, then the results that name them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import trio

from engine.remote import trust
from engine.remote.client import GivenUp, TooLarge
from engine.remote.peers import Peer, Peers, given_up
from engine.timeline.events import RemoteUploaded
from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.errors import BnError, IntegrityError
from store.objects import REALISATION, RESULT, ActionResult, Directory, File, Realisation
from store.presence import blobs_under
from store.records import frozen

GATHER_SECONDS: Final = 1.0
"""How long what was built may wait for more, to go in one request: each costs the server a sync,
and this process some milliseconds. The end of a build does not wait for that."""

ITEMS: Final = 500
"""Results that are uploaded together."""

LARGE: Final = 1 << 20
BATCH_BYTES: Final = 4 << 20
"""Bytes from which a blob goes by itself, and of the others in one request."""

AT_ONCE: Final = 4


@frozen
class Item:
    """A result, and the recipes that came to it; it is signed if it is `mine`: it ran here. It took
    `seconds`, 0 where that is not known."""

    result: ActionResult
    recipes: tuple[Digest, ...]
    mine: bool = True
    seconds: float = 0.0


class Uploader:
    """Uploads to all remotes that may be written to; used within the loop."""

    def __init__(self, cas: Cas, peers: Peers, policy: trust.Policy) -> None:
        self._cas = cas
        self._policy = policy
        self._peers = peers
        self._line: deque[Item] = deque()
        self._more = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._hurried = trio.Event()
        self.sure = True
        """Whether nothing that was taken here, unsigned, may be what realisations rest on."""
        self.waiting = 0
        """Results that are not at every remote yet; any thread may look."""
        self.lost = 0
        """Results that at least one remote did not take."""
        self.taken = 0

    def add(self, items: Iterable[Item]) -> None:
        """Put results in line."""
        before = len(self._line)
        self._line.extend(items)
        self.waiting += len(self._line) - before
        if self.waiting:
            self._idle = self._idle if not self._idle.is_set() else trio.Event()
            self._more.set()

    async def run(self) -> None:
        """Upload what comes, for ever."""
        while True:
            await self._more.wait()
            if len(self._line) < ITEMS:
                with trio.move_on_after(GATHER_SECONDS):
                    await self._hurried.wait()
            some = [self._line.popleft() for _ in range(min(ITEMS, len(self._line)))]
            whole = 0
            try:
                whole = await self._everywhere(some)
            except (BnError, OSError):
                pass  # the store cannot be read: the build itself says so
            finally:
                self.waiting -= len(some)
            self.taken += whole
            self.lost += len(some) - whole
            if not self._line:
                self._more = trio.Event()
                self._idle.set()

    async def idle(self) -> None:
        """Wait until nothing is left to upload; no more is gathered."""
        self._hurried.set()
        await self._idle.wait()

    async def _everywhere(self, items: Sequence[Item]) -> int:
        """Upload to all remotes, and return how many results all of them took."""
        peers = [peer for peer in self._peers.all if peer.spec.write]
        least = len(items)
        for peer in peers:
            took = 0
            if peer.writable:
                try:
                    took = await self._upload(peer, items)
                except GivenUp as error:
                    self._peers.give_up(peer, error, writing=True)
                except BaseExceptionGroup as group:
                    self._peers.give_up(peer, given_up(group), writing=True)
            least = min(least, took)
        return least

    async def _upload(self, peer: Peer, items: Sequence[Item]) -> int:
        """Upload to one remote, and return how many results it took. Raises GivenUp."""
        begun = time.monotonic()
        client = self._peers.client(peer)
        needs = [(item, self._closure(item.result)) for item in items]
        whole = [(item, blobs) for item, blobs in needs if blobs is not None]
        wanted: dict[Digest, tuple[int, bool]] = {}
        for _, blobs in whole:
            wanted |= blobs
        missing = await client.missing(list(wanted)) if wanted else set()
        refused, size = await self._put(peer, {d: wanted[d] for d in wanted if d in missing})
        ready = [item for item, blobs in whole if refused.isdisjoint(blobs)]
        stored = 0
        bare = [item for item in ready if not item.recipes]
        if bare:
            stored += await client.put("actions", [self._result(item) for item in bare])
        realised = [(item, recipe) for item in ready for recipe in item.recipes]
        if realised:  # they bring their results with them
            took = await client.put("realisations", [self._realised(*one) for one in realised])
            stored += min(took, len(ready) - len(bare))
        self._peers.tell(
            RemoteUploaded(
                remote=peer.name,
                results=stored,
                blobs=len(missing) - len(refused),
                bytes=size,
                seconds=time.monotonic() - begun,
            )
        )
        return stored

    def _closure(self, result: ActionResult) -> dict[Digest, tuple[int, bool]] | None:
        """Return the blobs that a result names, and its action, if that is here, with size and kind
        of file; a size of -1 stands for an object's. None where they are not all here."""
        try:
            blobs = blobs_under(self._cas, Directory(result.outputs))
        except BnError:
            return None
        found = {digest: (size, executable) for digest, size, executable in blobs}
        if self._cas.object(result.action) is not None:
            found[result.action] = (-1, False)
        return {**found, result.log: (-1, False)}

    async def _put(
        self, peer: Peer, blobs: Mapping[Digest, tuple[int, bool]]
    ) -> tuple[set[Digest], int]:
        """Upload blobs; return those that are not there afterwards, and the bytes of all others."""
        limiter = trio.CapacityLimiter(AT_ONCE)
        failed: set[Digest] = set()
        sizes: list[int] = []

        async def small(batch: list[tuple[Digest, bytes]]) -> None:
            async with limiter:
                try:
                    await self._peers.client(peer).put_blobs(batch)
                    sizes.extend(len(data) for _, data in batch)
                except TooLarge:
                    failed.update(digest for digest, _ in batch)

        async def large(file: File) -> None:
            async with limiter:
                try:
                    with self._opened(file) as reading:
                        await self._peers.client(peer).put_blob(file.digest, file.size, reading)
                    sizes.append(file.size)
                except (TooLarge, OSError, BnError):
                    failed.add(file.digest)

        async with trio.open_nursery() as nursery:
            for batch in self._batches(blobs, failed):
                async with limiter:  # no more is read than is about to be sent
                    nursery.start_soon(small, batch)
            for digest, (size, executable) in blobs.items():
                if size >= LARGE:
                    nursery.start_soon(large, File(digest, size, executable))
        return failed, sum(sizes)

    def _batches(
        self, blobs: Mapping[Digest, tuple[int, bool]], failed: set[Digest]
    ) -> Iterator[list[tuple[Digest, bytes]]]:
        batch: list[tuple[Digest, bytes]] = []
        size = 0
        for digest, (length, executable) in blobs.items():
            if length >= LARGE:
                continue
            try:
                data = self._read(digest, length, executable)
            except (BnError, OSError):
                failed.add(digest)
                continue
            if batch and size + len(data) > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append((digest, data))
            size += len(data)
        if batch:
            yield batch

    def _read(self, digest: Digest, size: int, executable: bool) -> bytes:
        """Return the bytes of a small blob, without noting a use."""
        data = self._cas.object(digest)
        if data is None:
            data = Path(self._path(File(digest, size, executable))).read_bytes()
            if digest_bytes(data) != digest:
                raise IntegrityError(f"blob {digest} is not what its name says")
        return data

    def _opened(self, file: File) -> IO[bytes]:
        return open(self._path(file), "rb", buffering=0)

    def _path(self, file: File) -> str:
        """Return where a file's bytes are in the primary tier; nothing is fetched for that."""
        size = None if file.size < 0 else file.size
        if not self._cas.is_here(file.digest, size):
            raise IntegrityError(f"blob {file.digest} is not here")
        return self._cas.local(file.digest, file.executable, size)

    def _result(self, item: Item) -> dict[str, Any]:
        result = item.result
        signed = trust.signatures(RESULT, result.digest(), self._policy) if item.mine else []
        took = {"seconds": round(item.seconds, 3)} if item.seconds else {}
        return {"result": result.document(), **took, "signatures": signed}

    def _realised(self, item: Item, recipe: Digest) -> dict[str, Any]:
        result = item.result
        made = Realisation(recipe=recipe, action=result.action, outputs=result.outputs)
        sign = item.mine and self.sure
        return {
            "realisation": made.document(),
            "signatures": trust.signatures(REALISATION, made.digest(), self._policy)
            if sign
            else [],
            "results": [self._result(item)],
        }
