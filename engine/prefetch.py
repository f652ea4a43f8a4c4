"""Prefetching: what the next steps stage is brought from slow tiers before they start."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from engine.graph import Recipe
from engine.timeline.events import BlobsPromoted
from store.cas import Cas
from store.digest import Digest
from store.errors import BnError
from store.objects import Directory, Entry, File
from store.tiers import form_of

if TYPE_CHECKING:
    import queue

_Wish: TypeAlias = tuple[int, float, int, str, list[Entry]]
"""Whether it can wait, the step's negative rank, a number that breaks ties, the step, its needs."""

_PATIENCE = 10.0
"""Seconds that the end of a build waits for the blob that is being copied."""


class Prefetch:
    """A thread that promotes blobs in the order in which steps will start.

    It only makes sooner what staging would do: what fails here is found there. Without a slower
    tier nothing happens at all. One task adds, takes and closes.
    """

    def __init__(self, cas: Cas) -> None:
        self._cas = cas
        self._numbers = itertools.count()
        self._done: deque[BlobsPromoted] = deque()
        self._seen: set[Digest] = set()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self.is_useful = sum(tier.durable and tier.readable for tier in cas.tiers) > 1
        """Whether there is a slower tier: without one nothing needs to be noted here."""
        if self.is_useful:
            import queue

            self._wishes: queue.PriorityQueue[_Wish] = queue.PriorityQueue()

    def ready(self, label: str, rank: float, trees: Iterable[Digest]) -> None:
        """Note the trees that a step that starts soon needs."""
        self._add(0, label, rank, map(Directory, trees))

    def later(self, recipe: Recipe, rank: float) -> None:
        """Note what is known already of the needs of a step that waits."""
        if self.is_useful:
            files = [entry for one in recipe.selections for entry in one.entries.values()]
            self._add(1, recipe.label, rank, [*files, *map(Directory, recipe.toolchains)])

    def needed(self, label: str, rank: float, outputs: Digest) -> None:
        """Note the outputs of a step that others wait for."""
        self._add(1, label, rank, [Directory(outputs)])

    def take(self) -> list[BlobsPromoted]:
        """Return what was done since the last call."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def close(self) -> None:
        """End the thread; the blob that it copies just now is finished."""
        self._closed.set()
        if self._thread is not None:
            self._wishes.put((-1, 0.0, 0, "", []))
            self._thread.join(_PATIENCE)

    def _add(self, later: int, label: str, rank: float, entries: Iterable[Entry]) -> None:
        if not self.is_useful:
            return
        self._wishes.put((later, -rank, next(self._numbers), label, list(entries)))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            *_, label, entries = self._wishes.get()
            if self._closed.is_set():
                return
            blobs = size = 0
            try:
                for file in self._files(entries):
                    if self._closed.is_set():
                        return
                    if not os.path.exists(self._place(file)) and self._cas.is_here(file.digest):
                        self._cas.local(file.digest, file.executable, file.size)
                        blobs, size = blobs + 1, size + file.size
            except (BnError, OSError):
                pass  # whoever stages this will say it
            if blobs:
                self._done.append(BlobsPromoted(label=label, blobs=blobs, bytes=size))

    def _place(self, file: File) -> str:
        return self._cas.primary.path(file.digest, form_of(file.executable))

    def _files(self, entries: Iterable[Entry]) -> Iterator[File]:
        """Yield the files below `entries`, of each tree only once in a build."""
        for entry in entries:
            match entry:
                case File():
                    yield entry
                case Directory(digest) if digest not in self._seen:
                    self._seen.add(digest)
                    yield from self._files(self._cas.get_tree(digest).entries.values())
