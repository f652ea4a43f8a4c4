"""Graphs read backwards: which recipes take a file of a source, and which need another one's
outputs. What follows from a changed file is found without a look at all the others.

Lists of numbers stand one after another in arrays; where each of them ends is in a second array.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from zlib import crc32

from engine.packer import Rows
from store.records import frozen

FEW: Final = 256
"""Recipes up to which it is as quick to look at all of them."""


class Lists:
    """Lists of numbers, by number."""

    def __init__(self, numbers: bytes, ends: bytes) -> None:
        self._numbers, self._ends = array("i", numbers), array("i", ends)

    def __getitem__(self, number: int) -> array[int]:
        return self._numbers[self._ends[number - 1] if number else 0 : self._ends[number]]

    @staticmethod
    def of(pairs: Iterable[tuple[int, int]], many: int) -> tuple[bytes, bytes]:
        """Return what so many lists are made of, to which each pair says: into this, that."""
        lists: dict[int, list[int]] = {}
        for into, number in pairs:
            lists.setdefault(into, []).append(number)
        numbers, ends = array("i"), array("i")
        for into in range(many):
            numbers.extend(lists.get(into, ()))
            ends.append(len(numbers))
        return numbers.tobytes(), ends.tobytes()


@frozen(eq=False)
class Reverse:
    """A packed graph read backwards.

    `hashes`, in order, are of the names of files, and `takers` the selections that name them;
    `whole` are the selections of all of a source. `users` are the recipes of each selection,
    `rows` the rows of needs that name a recipe, `needing` the recipes of each such row.
    """

    hashes: array[int]
    takers: array[int]
    whole: Sequence[tuple[int, int]]
    users: Lists
    rows: Lists
    needing: Lists

    @classmethod
    def read(cls, plain: Any) -> Reverse:
        """Return what `reversed_graph` gave."""
        hashes, takers, whole, *lists = plain
        return cls(array("I", hashes), array("i", takers), whole, *(Lists(*one) for one in lists))

    def selections(self, selections: Rows, changed: Sequence[set[str]]) -> set[int]:
        """Return the selections that take one of the changed files of each source."""
        found = {number for number, source in self.whole if changed[source]}
        for source, paths in enumerate(changed):
            for path in paths:
                for number in self._named(path):
                    of, _, names, _ = selections[number]
                    if of == source and path in names:
                        found.add(number)
        return found

    def recipes(self, selections: Iterable[int]) -> Iterator[int]:
        """Yield the recipes that take one of these selections, or need one of those that do,
        needed ones first."""
        heap = sorted({recipe for number in selections for recipe in self.users[number]})
        rows: set[int] = set()
        last = -1
        while heap:
            recipe = heapq.heappop(heap)
            if recipe == last:
                continue
            last = recipe
            yield recipe
            for row in self.rows[recipe]:
                if row not in rows:
                    rows.add(row)
                    for needing in self.needing[row]:
                        heapq.heappush(heap, needing)

    def _named(self, path: str) -> Iterator[int]:
        """Yield the selections that name such a file, and perhaps others."""
        wanted = _hash(path)
        at = bisect_left(self.hashes, wanted)
        while at < len(self.hashes) and self.hashes[at] == wanted:
            yield self.takers[at]
            at += 1


def reversed_graph(packed: Any) -> Any:
    """Return a packed graph read backwards, as plain values."""
    named: list[tuple[int, int]] = []
    whole: list[tuple[int, int]] = []
    selections, needs = Rows(*packed["selections"]), Rows(*packed["needs"])
    recipes = Rows(*packed["recipes"])
    for number, (source, _, paths, _) in enumerate(selections):
        if source < 0:
            continue
        if paths is None:
            whole.append((number, source))
        else:
            named += [(_hash(path), number) for path in paths]
    named.sort()
    users: list[tuple[int, int]] = []
    needing: list[tuple[int, int]] = []
    for number, row in enumerate(recipes):
        users += [(selection, number) for selection in dict.fromkeys(row[3])]
        needing.append((row[4], number))
    naming = (
        (recipe, row)
        for row, some in enumerate(needs)
        for recipe in dict.fromkeys([number for number, _, _ in some])
    )
    return (
        array("I", [name for name, _ in named]).tobytes(),
        array("i", [number for _, number in named]).tobytes(),
        whole,
        Lists.of(users, len(selections)),
        Lists.of(naming, len(recipes)),
        Lists.of(needing, len(needs)),
    )


def _hash(path: str) -> int:
    return crc32(path.encode("utf-8", "surrogateescape"))
