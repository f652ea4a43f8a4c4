"""What the steps of a kept graph came to, kept beside it by number: of a thousand steps of which
one changed, nine hundred and ninety-nine stand as they did, and nobody looks at each.

Each row is a fact: a recipe with this digest came to this action and these outputs. The large file
has one row a recipe, as the recipes were when it was written; what others came to since stands in a
second, small one, which names the first. Like `engine.remembered` it is only a cache: whether
outputs are still in the store finds out who needs them, by MissingBlob.
"""

from __future__ import annotations

import functools
import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, TypeAlias

from engine.graph import Graph
from engine.memo import memo_path, read_memo, write_memo
from engine.packed_graph import PackedRecipes
from engine.packer import set_in
from engine.remembered import KIND, Cached
from executors import leaving
from store.alike import exchanged
from store.cas import Cas
from store.digest import Digest
from store.errors import IntegrityError
from store.store import Store
from store.trees import merge

MOST_NEWS: Final = 64
"""Rows in the small file."""

FEWEST: Final = 256
"""Recipes of a graph from which on it is worth while."""

MOST_EXCHANGED: Final = 512
"""Outputs that are exchanged in a union of before: each takes a look at all of its bytes."""

_LENGTH: Final = 32
_ROW: Final = 2 * _LENGTH
_NOTHING: Final = bytes(_ROW)


Merged: TypeAlias = tuple[Digest, Mapping[int, bytes]]
"""A union of outputs in which no two have the same name: its tree, and by number the outputs in it
that are not those in the large file."""


Columns: TypeAlias = tuple[list[str], list[str], list[str], list[str]]

SHORT: Final = 4096
"""Steps of which columns are kept at hand, some 600 bytes each."""


class Standing(Mapping[str, Cached]):
    """Steps that came to what they came to before; a value is made when it is asked for."""

    def __init__(
        self, recipes: PackedRecipes | None = None, numbers: Sequence[int] = (), rows: bytes = b""
    ) -> None:
        """Take the steps with these numbers; `rows` has action and outputs of every recipe."""
        self._recipes = recipes
        self._order = numbers
        self.numbers = frozenset(numbers)
        self._rows = rows
        self._columns: Columns | None = None

    def __getitem__(self, label: str) -> Cached:
        row = self._row(label)
        return Cached(Digest(row[_LENGTH:].hex()), Digest(row[:_LENGTH].hex()))

    def __contains__(self, label: object) -> bool:
        return self._recipes is not None and self._recipes.number_of(label) in self.numbers

    def __iter__(self) -> Iterator[str]:
        return iter(() if self._recipes is None else self._recipes.labels_at(self._order))

    def __len__(self) -> int:
        return len(self._order)

    def outputs(self, label: str) -> Digest:
        """Return the output tree of a step. Raises KeyError where it is none of these."""
        return Digest(self._row(label)[_LENGTH:].hex())

    def get_ready(self) -> None:
        """Have the columns at hand for who asks for them once, where they are not long."""
        if len(self) <= SHORT:
            self._columns = self.columns()

    def columns(self) -> Columns:
        """Return labels, actions, outputs, and recipe digests, all in the same order."""
        if self._columns is not None:
            columns, self._columns = self._columns, None
            return columns
        if self._recipes is None:
            return [], [], [], []
        text, half, whole = self._rows.hex(), 2 * _LENGTH, 2 * _ROW
        places = [whole * number for number in self._order]
        return (
            self._recipes.labels_at(self._order),
            [text[at : at + half] for at in places],
            [text[at + half : at + whole] for at in places],
            self._recipes.digests_at(self._order),
        )

    def _row(self, label: str) -> bytes:
        number = None if self._recipes is None else self._recipes.number_of(label)
        if number is None or number not in self.numbers:
            raise KeyError(label)
        return self._rows[_ROW * number : _ROW * (number + 1)]


class KeptPlan:
    """What the steps of a graph that was kept came to."""

    def __init__(self, store: Store, recipes: PackedRecipes, path: str, of: str) -> None:
        """Read what is kept at `path` with the graph that is told by `of` from earlier ones."""
        self._recipes = recipes
        self._of = of
        self._path = memo_path(store.root, KIND, "kept plan 3", path)
        self._stamp, self._rows = "", b""
        self._gaps: bytes = b""
        self._then = b""
        self._news: dict[int, tuple[bytes, bytes]] = {}
        self._merged: dict[str, Merged] = {}
        self._made: dict[str, tuple[Digest, Mapping[int, bytes] | None]] = {}
        self._standing = Standing()
        self._index = store.index
        self._since = store.index.version()
        self._told: tuple[int | None, bytes] = (None, b"")
        self._odd = self._read()

    @staticmethod
    def of(store: Store, graph: Graph) -> KeptPlan | None:
        """Return what is kept with a graph; None where the graph was not, or has few recipes."""
        if graph.kept is None or len(graph.recipes) < FEWEST:
            return None
        assert isinstance(graph.recipes, PackedRecipes)
        return KeptPlan(store, graph.recipes, *graph.kept)

    def _read(self) -> bytearray:
        """Read both files; return a byte for each recipe: whether its row of the large one says
        nothing of now."""
        odd = bytearray(len(self._recipes))
        of, stamp, rows, gaps, then = read_memo(self._path) or ("", "", b"", b"", b"")
        if of != self._of or len(rows) != _ROW * len(self._recipes):
            return odd
        self._stamp, self._rows, self._gaps, self._then = stamp, rows, gaps, then
        stamp, *rest = read_memo(self._news_path) or ("",)
        if stamp == self._stamp:
            self._news, self._merged, *told = rest
            self._told = (told[0], told[1])
        for number in chain(array("i", gaps), self._news, self._recipes.unlike(then)):
            odd[number] = 1
        return odd

    @property
    def _news_path(self) -> str:
        return f"{self._path.removesuffix(KIND)}news.{KIND}"

    def _is_of_now(self, number: int) -> bool:
        """Say whether a recipe is what it was when the large file was written."""
        then = self._then[_LENGTH * number : _LENGTH * (number + 1)]
        return then.hex() == self._recipes.digest_at(number)

    def find(self, label: str) -> Cached | None:
        """Return what the recipe of a step came to."""
        number = self._recipes.number_of(label)
        if number is None or not self._rows:
            return None
        digest, row = self._news.get(number, (b"", b""))
        if digest.hex() != self._recipes.digest_at(number):
            row = self._rows[_ROW * number : _ROW * (number + 1)]
            if row == _NOTHING or not self._is_of_now(number):
                return None
        return Cached(Digest(row[_LENGTH:].hex()), Digest(row[:_LENGTH].hex()))

    def standing(self, numbers: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Return which of these recipes are as they were when the large file was written and came
        to something then, and the others."""
        if not self._rows:
            return (), numbers
        odd = self._odd
        if 1 not in odd:
            return numbers, ()
        return [n for n in numbers if not odd[n]], [n for n in numbers if odd[n]]

    def steps(self, numbers: Sequence[int]) -> Standing:
        """Return recipes that `standing` named first as steps."""
        self._standing = Standing(self._recipes, numbers, self._rows)
        return self._standing

    def merge(
        self, cas: Cas, into: str, needs: Sequence[str], outputs: Callable[[str], Digest]
    ) -> Digest:
        """Store the union of what some steps came to and return its digest, as `trees.merge` does;
        `into` names who needs it. Where only a few of them came to something else than when that
        was asked last, its tree is made of the one of then."""
        if len(needs) < FEWEST:
            return merge(cas, map(outputs, needs))
        numbers = {label: self._recipes.number_of(label) for label in needs}
        there = self._standing.numbers
        odd = {label: number for label, number in numbers.items() if number not in there}
        is_known = None not in odd.values()
        if is_known and len(odd) <= MOST_EXCHANGED:
            now = {n: bytes.fromhex(outputs(one)) for one, n in odd.items() if n is not None}
            found = None
            if into in self._merged:
                found = self._merge_again(cas, *self._merged[into], now)
            if found is not None:
                self._made[into] = (found, now)
                return found
        else:
            now = None
        found, is_apart = _merged(cas, map(outputs, numbers))
        if is_apart and is_known:
            self._made[into] = (found, now)
        return found

    def _merge_again(
        self, cas: Cas, tree: Digest, then: Mapping[int, bytes], now: Mapping[int, bytes]
    ) -> Digest | None:
        """Return the union, given the one of `then`, in which no two trees had the same name.

        `then` and `now` are the outputs that are not those in the large file. None where that tree,
        or what is to go from it, is no longer in the store.
        """
        pairs = []
        for number in {**then, **now}:
            base = self._rows[_ROW * number + _LENGTH : _ROW * (number + 1)]
            old, new = then.get(number, base), now.get(number, base)
            if old != new:
                pairs.append((Digest(old.hex()), Digest(new.hex())))
        try:
            return exchanged(cas, tree, pairs)
        except IntegrityError:
            return None

    @property
    def is_told(self) -> bool:
        """Whether the history of all that stands begins with what it came to: it did when this was
        written, and nothing was written into the index since."""
        version, numbers = self._told
        return version == self._since and self._standing.numbers.issubset(array("i", numbers))

    def keep(
        self,
        others: Callable[[], Iterable[tuple[str, Cached]]],
        all_of_it: Callable[[], Iterable[tuple[str, Cached]]],
    ) -> None:
        """Keep what the steps of a build came to when all else is written: `others` gives those
        that do not stand as they did, `all_of_it` them with those that do."""
        version = self._index.version_if_alone(self._since)
        leaving.at_last(functools.partial(self._keep, version, others, all_of_it))

    # inside

    def _keep(
        self,
        version: int | None,
        others: Callable[[], Iterable[tuple[str, Cached]]],
        all_of_it: Callable[[], Iterable[tuple[str, Cached]]],
    ) -> None:
        """Do so, `version` being that of the index."""
        recipes = self._recipes
        mine = bytearray(len(recipes))
        for standing in self._standing.numbers:
            mine[standing] = 1
        fresh: dict[int, tuple[bytes, bytes]] = {}
        for label, step in others():
            number = recipes.number_of(label)
            if number is None:
                continue
            mine[number] = 1
            if len(fresh) <= MOST_NEWS and self.find(label) != step:
                fresh[number] = (bytes.fromhex(recipes.digest_at(number)), _row(step))
        numbers = array("i", set_in(mine)).tobytes()
        told = (version, numbers)
        news = {**self._news, **fresh}
        if not self._rows or len(news) > MOST_NEWS:
            self._keep_all(all_of_it(), told)
        elif fresh or self._made or told != self._told:
            few = {into: one for into, one in self._made.items() if one[1] is not None}
            merged = {**self._merged, **few}
            write_memo(self._news_path, (self._stamp, news, merged, *told))

    def _keep_all(
        self, steps: Iterable[tuple[str, Cached]], told: tuple[int | None, bytes]
    ) -> None:
        """Write the large file anew. What it had of recipes that did not change stays."""
        recipes = self._recipes
        rows = bytearray(self._rows or bytes(_ROW * len(recipes)))
        for number in set_in(self._odd):
            if not self._is_of_now(number):
                rows[_ROW * number : _ROW * (number + 1)] = _NOTHING
        for label, step in steps:
            if (at := recipes.number_of(label)) is not None:
                rows[_ROW * at : _ROW * (at + 1)] = _row(step)
        gaps = array("i", (n for n in range(len(recipes)) if rows.startswith(_NOTHING, _ROW * n)))
        stamp = f"{time.time_ns()} {os.getpid()}"
        write_memo(self._path, (self._of, stamp, rows, gaps.tobytes(), recipes.all_digests))
        made: dict[str, Merged] = {into: (tree, {}) for into, (tree, _) in self._made.items()}
        write_memo(self._news_path, (stamp, {}, made, *told))


def _merged(cas: Cas, trees: Iterable[Digest]) -> tuple[Digest, bool]:
    """Store the union of trees; return its digest, and whether no two have the same name."""
    entries = 0

    def counted() -> Iterator[Digest]:
        nonlocal entries
        for one in trees:
            entries += len(cas.get_tree(one).entries)
            yield one

    found = merge(cas, counted())
    return found, len(cas.get_tree(found).entries) == entries


def _row(step: Cached) -> bytes:
    return bytes.fromhex(step.action + step.outputs)
