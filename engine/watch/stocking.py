"""The zygote's stock: taken in after a worker's end, piece by piece, so that clients do not wait.

A worker leaves a file that says what it had to work out: paths of memos, rows of the stat cache,
trees, and the kind of sandbox that it asked for first. The zygote works out the same from the
bytes, whose digests it computes itself; so whatever that file says, no value can be in stock under
a digest that it does not have.
"""

from __future__ import annotations

import contextlib
import marshal
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Final

from engine import kept_graph, remembered
from engine.memo import parsed
from executors.cells import Kind
from store import stock
from store.digest import digest_bytes
from store.errors import BnError
from store.ingest import parsed_row
from store.objects import Tree

MOST_BYTES: Final = 16 << 20
"""Bytes that may be in stock; what they mean takes some four times that. The oldest ones go."""

MOST: Final = 64
"""Pieces that may be in stock."""

LARGEST: Final = 4 << 20
"""A piece of more bytes is left out: to work it out takes longer than a client waits."""

IDLE_SECONDS: Final = 1800.0
"""How long after the last worker's end the stock is kept."""

AT_HAND: Final[dict[str, Callable[[Any], Any]]] = {
    "recipes": kept_graph.at_hand,
    remembered.KIND: remembered.at_hand,
}
"""How memos are made quicker to use, by the end of their names."""


def leave(place: Path) -> None:
    """Write down at `place` what this process missed. Nothing is lost where that fails."""
    if missed := stock.noted():
        with contextlib.suppress(OSError):
            place.write_bytes(marshal.dumps(missed))


class Stocking:
    """What is in stock, and what is still to be taken in."""

    def __init__(self) -> None:
        self._due: list[tuple[str, str | bytes]] = []
        self._held: OrderedDict[tuple[str, Hashable], int] = OrderedDict()
        self._memos: dict[str, bytes] = {}
        self.cell: Kind | None = None
        """The kind of sandbox that the next worker will hardly go without."""
        self.early = 0
        """How many workers found that worked out."""

    @property
    def is_due(self) -> bool:
        """Whether there is something to take in."""
        return bool(self._due)

    @property
    def held(self) -> int:
        """Bytes that are in stock."""
        return sum(self._held.values())

    def take(self, place: Path) -> None:
        """Note for later what a worker left."""
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            if place.stat().st_size <= MOST_BYTES:
                self._due += marshal.loads(place.read_bytes())
        with contextlib.suppress(OSError):
            place.unlink()

    def step(self) -> bool:
        """Take in one piece of what is due; say whether it was the last one."""
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError, BnError, KeyError):
            kind, source = self._due.pop(0)
            match kind, source:
                case stock.MEMO, str():
                    self._take_memo(source)
                case stock.ROW, bytes():
                    self._put(kind, source, parsed_row(source), len(source))
                case stock.CELL, bytes():
                    self._take_cell(source)
                case stock.EARLY, _:
                    self.early += 1
                case stock.TREE, bytes():
                    self._put(kind, digest_bytes(source), Tree.decode(source), len(source))
        return not self._due

    def clear(self) -> None:
        """Let go of all."""
        self.cell = None
        self._due.clear()
        self._memos.clear()
        for one in list(self._held):
            self._drop(one)

    def _take_memo(self, path: str) -> None:
        if os.stat(path).st_size > LARGEST:
            return
        with open(path, "rb", buffering=0) as file:
            digest, data = file.read(32), file.readall()
        value = parsed(digest, data)
        if value is not None:
            self._drop((stock.MEMO, self._memos.pop(path, b"")))
            self._memos[path] = digest
            ready = AT_HAND.get(path.rpartition(".")[2])
            self._put(stock.MEMO, digest, ready(value) if ready else value, len(data))

    def _take_cell(self, source: bytes) -> None:
        root, *limits = marshal.loads(source)
        if isinstance(root, str) and all(isinstance(one, int | None) for one in limits):
            self.cell = Kind(root, *limits)

    def _put(self, kind: str, key: Hashable, value: Any, size: int) -> None:
        if size > LARGEST:
            return
        stock.put(kind, key, value)
        self._held.pop((kind, key), None)
        self._held[kind, key] = size
        while self.held > MOST_BYTES or len(self._held) > MOST:
            self._drop(next(iter(self._held)))

    def _drop(self, one: tuple[str, Hashable]) -> None:
        self._held.pop(one, None)
        stock.drop(*one)
