"""What recipes came to, remembered for all steps of a package in one file.

The index knows it too, object by object; where one file of a thousand changed, the thousand others
are found here at once. Like a realisation it is only a cache: its blobs are looked for in the store
before it is believed. The last few outcomes stand in a second file, which names the first.
"""

from __future__ import annotations

import marshal
import os
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Any, Final, TypeAlias

from engine.memo import memo_path, read_memo, write_memo
from store.digest import Digest
from store.errors import BnError
from store.mapped import MANY
from store.objects import Directory, File, Tree
from store.presence import Blob, blobs_under, present
from store.records import frozen
from store.store import Store

KIND: Final = "outcomes"
FIELDS: Final = 4
"""Members of the large file."""

MOST_BLOBS: Final = 64
"""Blobs up to which an outcome is remembered: larger ones cost as much to read here as there."""

MOST_NEWS: Final = 64
"""Outcomes that are written into a file of their own, so that the large one stays as it is."""

_Blobs: TypeAlias = list[tuple[bytes, int, bool]]
"""As `Blob`, but with the bytes of a digest."""

_LENGTH: Final = 32


@frozen
class Cached:
    """The step's outputs are in the store."""

    outputs: Digest
    action: Digest


@frozen(eq=False)
class _Outcome:
    """What a row says: the outcome, the blobs that have to be there, and the tree of the outputs
    where it consists of nothing but files."""

    cached: Cached
    blobs: list[Blob]
    tree: Tree | None


def _outcome(row: bytes) -> _Outcome:
    bare: _Blobs
    names: list[str] | None
    bare, names = marshal.loads(memoryview(row)[2 * _LENGTH :])
    blobs = [(Digest(digest.hex()), size, executable) for digest, size, executable in bare]
    outputs = Digest(row[_LENGTH : 2 * _LENGTH].hex())
    tree = None
    if names is not None:
        tree = Tree(dict(zip(names, [File(*blob) for blob in blobs], strict=True)))
    return _Outcome(Cached(outputs, Digest(row[:_LENGTH].hex())), blobs, tree)


def at_hand(memo: Any) -> Any:
    """Return a memo of `Remembered` with all at hand that is packed in it; it says the same."""
    if len(memo) != FIELDS:
        return memo
    rows = _Rows(*memo[1:])
    made = {key: _outcome(row) for key in rows if (row := rows.get(key)) is not None}
    return (*memo, made)


class _Rows:
    """What is remembered, by recipe digest: long strings instead of an object for each.

    A row begins with the digests of action and outputs. What follows is marshalled: the blobs that
    the outputs consist of and, where these are a tree of nothing but files, their names; the tree
    itself is then left out.
    """

    def __init__(
        self,
        keys: bytes = b"",
        ends: bytes = b"",
        rows: bytes = b"",
        made: Mapping[bytes, _Outcome] | None = None,
    ) -> None:
        """Take rows as they were written; `made` has what they say where that is at hand."""
        self.made = made or {}
        self._keys = keys
        self._numbers: dict[bytes, int] | None = None
        self._ends = array("Q", ends)
        self._rows = rows
        firsts = keys[::_LENGTH]
        self._buckets = [bisect_left(firsts, first) for first in range(257)]
        if len(keys) != _LENGTH * len(self._ends) or (self._ends and self._ends[-1] != len(rows)):
            raise ValueError("damaged")

    def __len__(self) -> int:
        return len(self._ends)

    def get(self, key: bytes) -> bytes | None:
        """Return the row of a recipe."""
        if self._numbers is not None:
            found = self._numbers.get(key)
            if found is None:
                return None
            number = found
        else:
            first, last = self._buckets[key[0]], self._buckets[key[0] + 1]
            number = bisect_left(range(last), key, first, key=self._key)
            if number == last or self._key(number) != key:
                return None
        return self._rows[self._ends[number - 1] if number else 0 : self._ends[number]]

    def expect(self, many: int) -> None:
        """Get ready to be asked for so many."""
        if self._numbers is None and many > len(self) // 4:
            self._numbers = {key: number for number, key in enumerate(self)}

    def __iter__(self) -> Iterator[bytes]:
        """Yield the recipes."""
        return map(self._key, range(len(self)))

    def _key(self, number: int) -> bytes:
        return self._keys[_LENGTH * number : _LENGTH * (number + 1)]


def _joined(pieces: Iterable[bytearray]) -> bytearray:
    """Return pieces one after another; `join` would hold all of them beside that."""
    whole = bytearray()
    for piece in pieces:
        whole += piece
    return whole


def _in_order(keys: bytearray) -> list[int]:
    """Return the numbers of keys by key, one of equal ones."""
    each = [bytes(keys[at : at + _LENGTH]) for at in range(0, len(keys), _LENGTH)]
    numbers = sorted(range(len(each)), key=each.__getitem__)
    return [next(group) for _, group in groupby(numbers, each.__getitem__)]


class Remembered:
    """The outcomes of the package called `package`, by recipe digest; read when first asked."""

    def __init__(self, store: Store, package: str) -> None:
        self._store = store
        self._path = memo_path(store.root, KIND, "3", package)
        self._rows: _Rows | None = None
        self._stamp = ""
        self._news: dict[bytes, bytes] = {}
        self.found: set[Digest] = set()
        """The recipes whose outcomes were asked for and found."""

    def find(self, recipe: Digest) -> Cached | None:
        """Return the outcome of a recipe if it is known and all of its blobs are in the store."""
        return self.find_all([recipe])[0]

    def find_all(self, recipes: Sequence[Digest], doubt: bool = True) -> list[Cached | None]:
        """Return the outcomes of recipes, as `find` does, for all at once. Unless there is `doubt`,
        files are not looked for: whoever needs one that is gone finds that out."""
        known, cas = self._known(), self._store.cas
        keys = list(map(bytes.fromhex, recipes))
        known.expect(len(keys))
        outcomes = [self._look(known, key) for key in keys]
        trees = {outcome.cached.outputs for outcome in outcomes if outcome is not None}
        here = cas.recent_objects(trees)
        if self._all_there([one for one in outcomes if one is not None], here, doubt):
            found = [None if one is None else one.cached for one in outcomes]
        else:
            found = [None if one is None else self._found(one, here, doubt) for one in outcomes]
        self.found.update(recipe for recipe, one in zip(recipes, found, strict=True) if one)
        return found

    def put_by(self) -> None:
        """Let go of what was read where that is much: it is read again by who asks once more."""
        if self._rows is not None and len(self._rows) > MANY:
            self._rows = None

    def _look(self, known: _Rows, key: bytes) -> _Outcome | None:
        """Return what is remembered of a recipe."""
        if key in self._news:
            return _outcome(self._news[key])
        if key in known.made:
            return known.made[key]
        row = known.get(key)
        return None if row is None else _outcome(row)

    def _all_there(self, outcomes: list[_Outcome], here: set[Digest], doubt: bool) -> bool:
        """Say whether all blobs of all outcomes are in the store: as a rule they are, and one
        question is quicker than many."""
        cas = self._store.cas
        trees = {one.cached.outputs for one in outcomes if one.tree is not None} - here
        if not all(map(cas.has, trees)):
            return False
        blobs = (blob for one in outcomes for blob in one.blobs if doubt or blob[1] < 0)
        if not present(cas, blobs, here):
            return False
        for one in outcomes:
            if one.tree is not None:
                cas.know_tree(one.cached.outputs, one.tree)
        return True

    def _found(self, outcome: _Outcome, here: set[Digest], doubt: bool) -> Cached | None:
        return outcome.cached if self._all_there([outcome], here, doubt) else None

    def add(self, outcomes: Iterable[tuple[Digest, Cached]], steps: int) -> bool:
        """Remember these outcomes beside those that were found, in a build of so many steps; False
        where that is too much at a time, or there are many of no use: then `keep` is better."""
        if len(self._known()) > steps + MOST_NEWS or not self._stamp:
            return False
        room = MOST_NEWS - len(self._news)
        news: dict[bytes, bytes] = {}
        for recipe, outcome in outcomes:
            if len(news) == room:
                return False
            if row := self._row(outcome):
                news[bytes.fromhex(recipe)] = row
        if news:
            write_memo(f"{self._path}.news", (self._stamp, {**self._news, **news}))
        return True

    def keep(self, outcomes: Iterable[tuple[Digest, Cached]]) -> None:
        """Remember the outcomes of these recipes, and of no others."""
        before = self._known()
        fresh = bool(self._news)
        keys, rows, ends = bytearray(), bytearray(), array("Q", [0])
        for recipe, outcome in outcomes:
            key = bytes.fromhex(recipe)
            row = self._news.get(key) or before.get(key)
            if row is None or not row.startswith(bytes.fromhex(outcome.action + outcome.outputs)):
                row = self._row(outcome)
                fresh = fresh or row is not None
            if row is not None:
                keys += key
                rows += row
                ends.append(len(rows))
        many = len(before)
        del before
        self.put_by()
        order = _in_order(keys)
        if fresh or len(order) != many:
            stamp = f"{time.time_ns()} {os.getpid()}"
            lengths = (ends[number + 1] - ends[number] for number in order)
            write_memo(
                self._path,
                (
                    stamp,
                    _joined(keys[_LENGTH * n : _LENGTH * (n + 1)] for n in order),
                    array("Q", accumulate(lengths)).tobytes(),
                    _joined(rows[ends[n] : ends[n + 1]] for n in order),
                ),
            )

    def _known(self) -> _Rows:
        if self._rows is None:
            try:
                stamp, *rows = read_memo(self._path) or ("",)
                self._rows, self._stamp = _Rows(*rows), stamp
                stamp, news = read_memo(f"{self._path}.news") or ("", {})
                self._news = news if stamp == self._stamp else {}
            except (ValueError, TypeError):
                self._rows, self._stamp = _Rows(), ""
        return self._rows

    def _row(self, outcome: Cached) -> bytes | None:
        cas = self._store.cas
        try:
            blobs = blobs_under(cas, Directory(outcome.outputs))
            tree = cas.get_tree(outcome.outputs).entries
        except BnError:
            return None
        if len(blobs) > MOST_BLOBS:
            return None
        files = [(e.digest, e.size, e.executable) for e in tree.values() if isinstance(e, File)]
        flat = len(files) == len(tree)
        bare = [(bytes.fromhex(d), size, flag) for d, size, flag in (files if flat else blobs)]
        return bytes.fromhex(outcome.action + outcome.outputs) + marshal.dumps(
            (bare, list(tree) if flat else None), 2
        )
