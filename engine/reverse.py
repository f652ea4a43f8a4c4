"""Graphs read backwards: which recipes take a file of a source, and which need another one's
outputs. What follows from a changed file is found without a look at all the others.

Lists of numbers stand one after another in arrays; where each of them ends is in a second array.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final
from zlib import crc32

from engine.packer import Rows, set_in
from store.records import frozen

FEW: Final = 256
"""Recipes up to which it is as quick to look at all of them."""

_LOW: Final = (1 << 32) - 1


class Lists:
    """Lists of numbers, by number."""

    def __init__(self, numbers: bytes, ends: bytes) -> None:
        self._numbers, self._ends = array("i", numbers), array("i", ends)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> array[int]:
        return self._numbers[self._ends[number - 1] if number else 0 : self._ends[number]]

    @staticmethod
    def of(rows: Iterable[tuple[int, Iterable[int]]], many: int) -> tuple[bytes, bytes]:
        """Return what so many lists are made of, to which each row says: into these, that."""
        those, into = array("i"), array("i")
        counts = array("i", [0]) * many
        for number, places in rows:
            for place in places:
                those.append(number)
                into.append(place)
                counts[place] += 1
        ends = array("i", accumulate(counts))
        free = array("i", [0, *ends[:-1]]) if many else array("i")
        numbers = array("i", [0]) * len(those)
        for number, place in zip(those, into, strict=True):
            numbers[free[place]] = number
            free[place] += 1
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
        due, looked = bytearray(len(self.rows)), bytearray(len(self.needing))
        for number in selections:
            for recipe in self.users[number]:
                due[recipe] = 1
        for recipe in set_in(due):
            yield recipe
            for row in self.rows[recipe]:
                if not looked[row]:
                    looked[row] = 1
                    for needing in self.needing[row]:  # each of them stands behind what it needs
                        due[needing] = 1

    def _named(self, path: str) -> Iterator[int]:
        """Yield the selections that name such a file, and perhaps others."""
        wanted = _hash(path)
        at = bisect_left(self.hashes, wanted)
        while at < len(self.hashes) and self.hashes[at] == wanted:
            yield self.takers[at]
            at += 1


def reversed_graph(packed: Any) -> Any:
    """Return a packed graph read backwards, as plain values."""
    named = array("Q")
    whole: list[tuple[int, int]] = []
    selections, needs = Rows(*packed["selections"]), Rows(*packed["needs"])
    recipes = Rows(*packed["recipes"])
    for number, (source, _, paths, _) in enumerate(selections):
        if source < 0:
            continue
        if paths is None:
            whole.append((number, source))
        else:
            named.extend([_hash(path) << 32 | number for path in paths])
    named = array("Q", sorted(named))
    return (
        array("I", (both >> 32 for both in named)).tobytes(),
        array("i", (both & _LOW for both in named)).tobytes(),
        whole,
        Lists.of(((n, dict.fromkeys(row[3])) for n, row in enumerate(recipes)), len(selections)),
        Lists.of(
            ((n, dict.fromkeys([one for one, _, _ in some])) for n, some in enumerate(needs)),
            len(recipes),
        ),
        Lists.of(((n, (row[4],)) for n, row in enumerate(recipes)), len(needs)),
    )


def _hash(path: str) -> int:
    return crc32(path.encode("utf-8", "surrogateescape"))
