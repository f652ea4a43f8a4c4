"""The closure of what is needed: marking from roots over trees, actions and results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, Final

from attrs import field, frozen

from store.cas import Cas
from store.digest import Digest, digest_bytes, is_digest
from store.encoding import HEAD, TYPE_KEY
from store.index import Index, Table
from store.objects import ACTION, RESULT, TREE


class Kind(Enum):
    """What a digest is needed as: a blob alone, or an object with all that it names."""

    BLOB = "blob"
    TREE = "tree"
    ACTION = "action"
    RESULT = "result"


Needed = tuple[Kind, Digest]

_TYPES: Final = {Kind.TREE: TREE, Kind.ACTION: ACTION, Kind.RESULT: RESULT}


@frozen(kw_only=True)
class Claim:
    """Something that was used lately and why: each of `needs` with all that it consists of.

    `time`, in seconds since 1970, says when; the oldest claims give way first.
    """

    why: str
    name: str
    time: float
    needs: tuple[Needed, ...]


@frozen
class Marked:
    """What one call of `mark` marked anew: blobs, and those of them that were looked into."""

    live: list[Digest] = field(factory=list)
    opened: list[Digest] = field(factory=list)


class Closure:
    """What is reachable from all that was marked; every object is read once.

    `missing` are objects that some tier should have and none has, so that nobody knows what they
    name. An action takes its result with it, and an action that is not there its result alone. What
    an action was made of whose result came from elsewhere may never have been here.
    """

    def __init__(self, cas: Cas, index: Index) -> None:
        self.live: set[Digest] = set()
        self.missing: set[Digest] = set()
        self._expanded: set[Digest] = set()
        self._cas = cas
        self._results = dict(index.items(Table.ACTION_CACHE))
        self._foreign = {key for key, _ in index.items(Table.ORIGINS)}

    def mark(self, needed: Iterable[Needed]) -> Marked:
        """Mark with all that is named by it, and return what was not marked before."""
        fresh, opened = Marked(), self._expanded
        live = self.live
        stack = list(needed)
        while stack:
            kind, digest = stack.pop()
            if digest not in live:
                live.add(digest)
                fresh.live.append(digest)
            if kind is not Kind.BLOB and digest not in opened:
                opened.add(digest)
                fresh.opened.append(digest)
                stack.extend(self._named(kind, digest))
        return fresh

    def unmark(self, fresh: Marked) -> None:
        """Take back what a call of `mark` returned."""
        self.live.difference_update(fresh.live)
        self._expanded.difference_update(fresh.opened)

    def has_whole(self, digest: Digest) -> bool:
        """Say whether the digest was marked as a tree, action or result, with all that it names."""
        return digest in self._expanded

    def _named(self, kind: Kind, digest: Digest) -> Iterator[Needed]:
        document = self._document(kind, digest)
        if kind is Kind.ACTION:
            result = self._results.get(digest, b"").decode(errors="replace")
            if is_digest(result):
                yield Kind.RESULT, Digest(result)
        elif document is None:
            self.missing.add(digest)
        if document is not None and kind is Kind.ACTION and digest in self._foreign:
            yield from (one for one in names_of(document) if read(self._cas, one[1]) is not None)
        elif document is not None:
            yield from names_of(document)

    def _document(self, kind: Kind, digest: Digest) -> dict[str, Any] | None:
        data = read(self._cas, digest)
        document = None if data is None else parse(data)
        if document is None or document.get(TYPE_KEY) != _TYPES[kind]:
            return None
        return document


def read(cas: Cas, digest: Digest) -> bytes | None:
    """Return a blob's bytes, checked, from any tier, and leave everything as it is; None if there
    is no good copy."""
    data = cas.waiting(digest)
    if data is not None:
        return data
    for tier in cas.tier_set.readable():
        data = cas.tier_set.attempt(tier, tier.read, digest)
        if data is not None and digest_bytes(data) == digest:
            return data
    return None


def parse(data: bytes) -> dict[str, Any] | None:
    """Return the document in an object's bytes; None where they are none."""
    if not data.startswith(HEAD):
        return None
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def names_of(document: dict[str, Any]) -> Iterator[Needed]:
    """Yield what an object names: what it is nothing without."""
    match document:
        case {"_": "tree.1", "entries": dict(entries)}:
            for entry in entries.values():
                match entry:
                    case {"file": str(digest)}:
                        yield Kind.BLOB, Digest(digest)
                    case {"tree": str(digest)}:
                        yield Kind.TREE, Digest(digest)
        case {"_": "action.1", "input_root": str(root), "toolchains": list(toolchains)}:
            yield Kind.TREE, Digest(root)
            for toolchain in toolchains:
                yield Kind.TREE, Digest(str(toolchain))
        case {"_": "result.1", "outputs": str(outputs), "log": str(log)}:
            yield Kind.TREE, Digest(outputs)
            yield Kind.BLOB, Digest(log)
        case {"_": "realisation.1", "outputs": str(outputs)}:
            yield Kind.TREE, Digest(outputs)
