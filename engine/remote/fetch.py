"""Blobs fetched from remotes: in batches, checked, and kept in the store."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import blake3
import trio

from engine.remote.client import Absent, GivenUp
from engine.remote.peers import Peer, Peers, given_up
from engine.timeline.events import RemoteFetched
from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.errors import host_error
from store.objects import File
from store.upstream import UNKNOWN

LARGE: Final = 1 << 20
"""Bytes from which a blob is fetched by itself, into a file."""

BATCH_BYTES: Final = 8 << 20
BATCH: Final = 1000
"""Bytes and blobs in one request."""

AT_ONCE: Final = 4
"""Requests under way to one remote."""


LONGEST: Final = 256 << 20
"""Bytes up to which a blob is taken of which only the digest is known."""

Got: TypeAlias = AsyncGenerator[tuple[Digest, int], None]
"""Blobs that are in the store now, and their sizes."""


class Fetcher:
    """Fetches blobs into `cas`, each only once at a time; used within the loop."""

    def __init__(self, cas: Cas, peers: Peers) -> None:
        self._cas = cas
        self._peers = peers
        self._under_way: dict[Digest, trio.Event] = {}

    async def fetch(self, wanted: Mapping[str, Sequence[File]]) -> set[Digest]:
        """Fetch files, by the name of the remote that is said to have them, and from the others
        where it does not; return the digests of those that nobody gave.

        Raises HostError where the store cannot be written.
        """
        files = {file.digest: file for some in wanted.values() for file in some}
        mine = {digest: file for digest, file in files.items() if digest not in self._under_way}
        others = [self._under_way[digest] for digest in files if digest not in mine]
        for digest in mine:
            self._under_way[digest] = trio.Event()
        left = dict(mine)
        try:
            for name, some in wanted.items():
                peer = self._peers.called(name)
                if peer is not None:
                    await self._from(peer, left, [one.digest for one in some])
            for peer in self._peers.readable():
                if left:
                    await self._from(peer, left, list(left))
        finally:
            for digest in mine:
                self._under_way.pop(digest).set()
        for event in others:
            await event.wait()
        there = (digest for digest in files if digest not in mine)
        return {*left, *(digest for digest in there if not self._cas.is_here(digest))}

    async def _from(self, peer: Peer, left: dict[Digest, File], some: Iterable[Digest]) -> None:
        """Take of `left` what a remote gives; it is given up where it fails."""
        files = [left[digest] for digest in some if digest in left]
        if not files:
            return
        begun = time.monotonic()
        before = len(left)
        size = [0]
        limiter = trio.CapacityLimiter(AT_ONCE)
        try:
            async with trio.open_nursery() as nursery:
                for batch in batches(files):
                    nursery.start_soon(self._batch, peer, batch, left, size, limiter)
        except BaseExceptionGroup as group:
            self._peers.give_up(peer, given_up(group))
        if len(left) < before:
            self._peers.tell(
                RemoteFetched(
                    remote=peer.name,
                    blobs=before - len(left),
                    bytes=size[0],
                    seconds=time.monotonic() - begun,
                )
            )

    async def _batch(
        self,
        peer: Peer,
        batch: Sequence[File],
        left: dict[Digest, File],
        size: list[int],
        limiter: trio.CapacityLimiter,
    ) -> None:
        async with limiter:
            if not peer.readable:
                return
            if len(batch) == 1 and batch[0].size >= LARGE:
                got = self._large(peer, batch[0])
            else:
                got = self._small(peer, {file.digest: file for file in batch})
            async with contextlib.aclosing(got):
                async for digest, length in got:
                    left.pop(digest, None)
                    size[0] += length

    async def _small(self, peer: Peer, files: Mapping[Digest, File]) -> Got:
        client = self._peers.client(peer)
        parts: list[bytes] = []
        async with contextlib.aclosing(client.blobs(list(files))) as pieces:
            async for piece in pieces:
                file = files[piece.digest]
                if piece.size > (LONGEST if file.size == UNKNOWN else file.size):
                    raise GivenUp(_LIES)
                parts.append(piece.data)
                if piece.last:
                    data = b"".join(parts) if len(parts) > 1 else parts[0]
                    parts = []
                    self._keep(file, data)
                    yield file.digest, len(data)

    async def _large(self, peer: Peer, file: File) -> Got:
        client = self._peers.client(peer)
        temporary = self._cas.temporary()
        hasher, length = blake3.blake3(), 0
        try:
            with _writing(temporary) as handle:
                async with contextlib.aclosing(client.blob(file.digest)) as parts:
                    async for part in parts:
                        length += len(part)
                        if length > file.size:
                            raise GivenUp(_LIES)
                        hasher.update(part)
                        _write(handle, part)
            if length != file.size or hasher.hexdigest() != file.digest:
                raise GivenUp(_LIES)
            self._cas.adopt(temporary, file.executable)
            yield file.digest, length
        except Absent:
            return
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def _keep(self, file: File, data: bytes) -> None:
        """Store the bytes of a blob, of which only the digest counts."""
        if file.size not in (UNKNOWN, len(data)) or digest_bytes(data) != file.digest:
            raise GivenUp(_LIES)
        if file.size == UNKNOWN:
            self._cas.put_object(data)
        else:
            self._cas.put_bytes(data, file.executable)


_LIES: Final = "it is not to be believed: bytes are not what their digest says"


def batches(files: Iterable[File]) -> Iterator[list[File]]:
    """Yield what is fetched in one request each: large files by themselves, last."""
    small: list[File] = []
    large: list[File] = []
    size = 0
    for file in files:
        if file.size >= LARGE:
            large.append(file)
            continue
        if len(small) == BATCH or (small and size + file.size > BATCH_BYTES):
            yield small
            small, size = [], 0
        small.append(file)
        size += max(0, file.size)
    if small:
        yield small
    for file in large:
        yield [file]


@contextlib.contextmanager
def _writing(path: str) -> Iterator[int]:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise host_error(error, "cannot write to the store") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(handle, view) :]
    except OSError as error:
        raise host_error(error, "cannot write to the store") from error
