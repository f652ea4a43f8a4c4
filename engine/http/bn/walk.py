"""What trees consist of, as far as it is in a name space: is a result whole, what is missing.

A walk looks rows up a level at a time, reads each tree once, and judges each once, so that
many results that share their trees cost little more than one.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from engine.http.bn.rows import held, portions
from engine.http.message import Failure
from store.digest import Digest
from store.errors import IntegrityError
from store.objects import Directory, File, Tree

if TYPE_CHECKING:
    from engine.http.service import Service
    from store.entries import Row

ENTRIES_MOST: Final = 250_000
"""Entries of trees that one request may be about."""

LEVELS_MOST: Final = 1_000
TREE_MOST: Final = 32 * 2**20
"""Bytes of a tree's document."""

MISSING_MOST: Final = 1_000
"""Digests that are listed as missing, of one candidate."""

_KEPT_ENTRIES: Final = 100_000
"""Entries of trees that a process keeps in memory between requests."""

_PORTION: Final = 256
"""Trees that are read before others get their turn."""


@frozen
class Below:
    """What a tree names: trees, and blobs with their size in bytes."""

    trees: tuple[Digest, ...]
    blobs: tuple[tuple[Digest, int], ...]

    @property
    def entries(self) -> int:
        """How many it names."""
        return 1 + len(self.trees) + len(self.blobs)


class Known:
    """Trees that were read lately, by digest: what has this digest never changes."""

    def __init__(self) -> None:
        self._trees: OrderedDict[Digest, Below] = OrderedDict()
        self._entries = 0

    def get(self, digest: Digest) -> Below | None:
        """Return what a tree names, if it is known."""
        found = self._trees.get(digest)
        if found is not None:
            self._trees.move_to_end(digest)
        return found

    def add(self, digest: Digest, below: Below) -> None:
        """Keep what a tree names, and forget what was not asked for longest."""
        if digest not in self._trees:
            self._trees[digest] = below
            self._entries += below.entries
            while self._entries > _KEPT_ENTRIES:
                self._entries -= self._trees.popitem(last=False)[1].entries


class Walk:
    """One look at what is there of some trees and blobs, for one request."""

    def __init__(self, service: Service, name_space: str, known: Known) -> None:
        self.rows: dict[Digest, Row] = {}
        """Of all that was looked at and is there."""
        self.below: dict[Digest, Below] = {}
        """Of all trees that are there."""
        self._service = service
        self._name_space = name_space
        self._known = known
        self._looked: set[Digest] = set()
        self._lacking: dict[Digest, tuple[Digest, ...]] = {}
        self._entries = 0

    async def add(self, trees: Iterable[Digest], blobs: Iterable[Digest] = ()) -> None:
        """Look at trees with all below them, and at blobs. Raises Failure(413)."""
        level, others = list(dict.fromkeys(trees)), list(blobs)
        for _ in range(LEVELS_MOST):
            await self._look([*level, *others])
            below = await self._read(level)
            if not below:
                return
            level = list(dict.fromkeys(tree for one in below for tree in one.trees))
            others = [digest for one in below for digest, _ in one.blobs]
        raise Failure(413, f"a tree has more than {LEVELS_MOST} levels")

    def is_whole(self, tree: Digest) -> bool:
        """Say whether a tree that was added is there with all below it."""
        return not self._lacks(tree)

    def missing(self, trees: Iterable[Digest], blobs: Iterable[Digest] = ()) -> list[Digest]:
        """Return what is not there, of what was added, or has another size than a tree says: up to
        1,000 digests."""
        found = dict.fromkeys(digest for digest in blobs if digest not in self.rows)
        stack = [tree for tree in trees if self._lacks(tree)]
        seen = set(stack)
        while stack and len(found) < MISSING_MOST:
            for digest in self._lacks(stack.pop()):
                if digest in self.below and self._lacking[digest]:
                    if digest not in seen:
                        seen.add(digest)
                        stack.append(digest)
                else:
                    found[digest] = None
        return list(found)[:MISSING_MOST]

    def all_below(self, trees: Iterable[Digest]) -> Iterator[Digest]:
        """Yield those of some trees, and of all below them, that are there, each once."""
        stack = list(dict.fromkeys(trees))
        seen = set(stack)
        while stack:
            tree = stack.pop()
            below = self.below.get(tree)
            if below is None:
                continue
            yield tree
            for child in below.trees:
                if child not in seen:
                    seen.add(child)
                    stack.append(child)

    # inside

    async def _look(self, digests: Iterable[Digest]) -> None:
        """Find the rows of blobs that were not looked at before."""
        fresh = list(dict.fromkeys(one for one in digests if one not in self._looked))
        self._looked.update(fresh)
        for some in portions(fresh):
            self.rows.update(held(self._service, self._name_space, some))
            await trio.lowlevel.checkpoint()

    async def _read(self, trees: Iterable[Digest]) -> list[Below]:
        """Read trees that are there and were not read before."""
        read = []
        for number, tree in enumerate(trees, 1):
            if tree not in self.below and (below := await self._below(tree)) is not None:
                self.below[tree] = below
                read.append(below)
                self._entries += below.entries
                if self._entries > ENTRIES_MOST:
                    raise Failure(413, f"more than {ENTRIES_MOST} entries", "ask for fewer trees")
            if number % _PORTION == 0:
                await trio.lowlevel.checkpoint()
        return read

    async def _below(self, tree: Digest) -> Below | None:
        """Return what a tree names; None where it is not there, or is none."""
        row = self.rows.get(tree)
        if row is None or row.size > TREE_MOST:
            return None
        known = self._known.get(tree)
        if known is not None:
            return known
        data = await document(self._service, row)
        try:
            entries = Tree.decode(data or b"").entries.values()
        except (IntegrityError, RecursionError):
            return None
        trees = tuple(dict.fromkeys(one.digest for one in entries if isinstance(one, Directory)))
        blobs = {(one.digest, one.size): None for one in entries if isinstance(one, File)}
        below = Below(trees, tuple(blobs))
        self._known.add(tree, below)
        return below

    def _lacks(self, tree: Digest) -> tuple[Digest, ...]:
        """Return what a tree lacks: blobs, and trees that lack something; itself where it is not
        there."""
        stack = [tree]
        while stack:
            top = stack[-1]
            below = self.below.get(top)
            if below is None:
                self._lacking[top] = (top,)
            if top in self._lacking or below is None:
                stack.pop()
                continue
            ahead = [child for child in below.trees if child not in self._lacking]
            if ahead:
                stack += ahead
                continue
            blobs = tuple(one for one, size in below.blobs if not self._has(one, size))
            self._lacking[top] = (*blobs, *filter(self._lacking.get, below.trees))
        return self._lacking[tree]

    def _has(self, digest: Digest, size: int) -> bool:
        row = self.rows.get(digest)
        return row is not None and row.size == size


async def document(service: Service, row: Row) -> bytes | None:
    """Return all bytes of a blob that is a document, checked; None where they are gone."""
    stored = await service.open(row)
    if stored is None:
        return None
    if stored.data is not None:
        return stored.data
    try:
        return await trio.to_thread.run_sync(read_all, stored.descriptor, stored.size)
    finally:
        stored.close()


def read_all(descriptor: int, size: int) -> bytes:
    """Return `size` bytes from the beginning of a file. Raises OSError where it is shorter."""
    parts, at = [], 0
    while at < size:
        part = os.pread(descriptor, min(size - at, 2**24), at)
        if not part:
            raise OSError(errno.EIO, "a blob is shorter than it was")
        parts.append(part)
        at += len(part)
    return b"".join(parts)
