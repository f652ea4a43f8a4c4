"""What recipes came to, remembered for all steps of a package in one file.

The index knows it too, object by object; where one file of a thousand changed, the thousand others
are found here at once. Like a realisation it is only a cache: its blobs are looked for in the store
before it is believed.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable
from typing import Final, TypeAlias

from engine.memo import memo_path, read_memo, write_memo
from store.digest import Digest
from store.errors import BnError
from store.objects import Directory, File, Tree
from store.presence import Blob, blobs_under, present
from store.records import frozen
from store.store import Store

KIND: Final = "outcomes"

MOST_BLOBS: Final = 64
"""Blobs up to which an outcome is remembered: larger ones cost as much to read here as there."""

_Row: TypeAlias = tuple[Digest, Digest, list[Blob], list[str] | None]
"""Action, outputs, the blobs that the outputs consist of, and, where the first of these is a tree
of nothing but the others, the names of those."""


@frozen
class Cached:
    """The step's outputs are in the store."""

    outputs: Digest
    action: Digest


class Remembered:
    """The outcomes of the package called `package`, by recipe digest; read when first asked."""

    def __init__(self, store: Store, package: str) -> None:
        self._store = store
        self._path = memo_path(store.root, KIND, "1", package)
        self._rows: dict[bytes, bytes] | None = None

    def find(self, recipe: Digest) -> Cached | None:
        """Return the outcome of a recipe if it is known and all of its blobs are in the store."""
        data = self._known().get(bytes.fromhex(recipe))
        if data is None:
            return None
        row: _Row = marshal.loads(data)
        action, outputs, blobs, names = row
        if not present(self._store.cas, blobs):
            return None
        if names is not None:
            files = [File(*blob) for blob in blobs[1:]]
            self._store.cas.know_tree(outputs, Tree(dict(zip(names, files, strict=True))))
        return Cached(outputs, action)

    def keep(self, outcomes: Iterable[tuple[Digest, Cached]]) -> None:
        """Remember the outcomes of these recipes, and of no others."""
        before = self._known()
        rows: dict[bytes, bytes] = {}
        for recipe, outcome in outcomes:
            key = bytes.fromhex(recipe)
            row = before.get(key)
            if row is None or marshal.loads(row)[:2] != (outcome.action, outcome.outputs):
                row = self._row(outcome)
            if row is not None:
                rows[key] = row
        if rows != before:
            write_memo(self._path, rows)

    def _known(self) -> dict[bytes, bytes]:
        if self._rows is None:
            value = read_memo(self._path)
            self._rows = value if isinstance(value, dict) else {}
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
        if flat:
            blobs = [(outcome.outputs, -1, False), *files]
        return marshal.dumps(
            (outcome.action, outcome.outputs, blobs, list(tree) if flat else None), 2
        )
