"""Trees that are nearly alike: what differs between two, found in their bytes without taking all of
both apart at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from store import stock
from store.cas import Cas
from store.digest import Digest
from store.objects import Entry, Tree
from store.packed_entries import PackedEntries

_HEAD: Final = b'{"_":"tree.1","entries":{'
_START: Final = _HEAD + b'"'
_BETWEEN: Final = b'},"'
"""Stands between two entries. Elsewhere it can only be the end of a name."""
_END: Final = b"}}}"
_ODD: Final = b'},":'
"""Stands where a name ends like an entry, or begins with a colon."""

PORTION: Final = 1024
"""Entries of each of two trees that are taken apart at once."""

FEW: Final = 64
"""Entries up to which it is not worth while."""


def differing(
    cas: Cas, old: Digest, new: Digest
) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """Yield each name under which two trees do not have the same, with what is there in the first
    one and in the second one, by name. No more than a portion of either is taken apart at once.

    Raises MissingBlob and IntegrityError.
    """
    was, now = cas.get_bytes(old), cas.get_bytes(new)
    if _is_odd(was) or _is_odd(now):
        left, right = cas.get_tree(old).entries, cas.get_tree(new).entries
        for name in sorted({*left, *right}):
            if left.get(name) != right.get(name):
                yield name, left.get(name), right.get(name)
        return
    start, from_end = _alike_at_both_ends(was, now)
    one = _Parts(was, start, len(was) - from_end)
    other = _Parts(now, start, len(now) - from_end)
    while one.fill() | other.fill():
        left, right = one.but(other), other.but(one)
        last = min([parts.last for parts in (one, other) if parts.is_more], default=None)
        for name in sorted({*left, *right}):
            if last is None or name <= last:
                yield name, left.get(name), right.get(name)
        one.drop(left, last)
        other.drop(right, last)


def exchanged(cas: Cas, tree: Digest, pairs: Iterable[tuple[Digest, Digest]]) -> Digest | None:
    """Store the union `tree` of trees that have no name in common with, for each of `pairs`, the
    second one in the first one's place, and return its digest. None where they would have one in
    common, or something is not as it was said to be. Each of few pairs takes a look at all bytes.

    Raises MissingBlob and IntegrityError.
    """
    pairs = list(pairs)
    data = _exchanged_in(cas.get_bytes(tree), cas, pairs)
    if data is not None:
        digest = cas.put_object(data)
        stock.missed(stock.TREE, data)
        know_alike(cas, digest, tree)
        return digest
    entries = dict(cas.get_tree(tree).entries)
    for old, _ in pairs:
        before = cas.get_tree(old).entries
        if any(entries.pop(name, None) != entry for name, entry in before.items()):
            return None
    for _, new in pairs:
        after = cas.get_tree(new).entries
        if not entries.keys().isdisjoint(after):
            return None
        entries.update(after)
    return cas.put_tree(Tree(entries))


def _exchanged_in(data: bytes, cas: Cas, pairs: Iterable[tuple[Digest, Digest]]) -> bytes | None:
    """Return the bytes of a tree with entries exchanged; None where names come or go, or one is not
    there."""
    for old, new in pairs:
        before, after = cas.get_tree(old).entries, cas.get_tree(new).entries
        if before.keys() != after.keys():
            return None
        for name, was in before.items():
            found = _one(name, was)
            place = (
                len(_HEAD) if data.startswith(found, len(_HEAD)) else data.find(b"," + found) + 1
            )
            if not place:
                return None
            data = b"%b%b%b" % (data[:place], _one(name, after[name]), data[place + len(found) :])
    return data


def same_names(cas: Cas, one: Digest, other: Digest) -> bool:
    """Say whether two trees have the same names at the top. Raises MissingBlob and
    IntegrityError."""
    left, right = cas.get_tree(one).entries, cas.get_tree(other).entries
    if isinstance(left, PackedEntries) and isinstance(right, PackedEntries):
        return all(was and now for _, was, now in differing(cas, one, other))
    return left.keys() == right.keys()


def _one(name: str, entry: Entry) -> bytes:
    """Return the text of an entry in its tree."""
    return Tree({name: entry}).encode()[len(_HEAD) : -2]


def know_alike(cas: Cas, digest: Digest, like: Digest) -> None:
    """Have the tree `digest` at hand, quickly where most of it is as in another one that is; not
    one so large that it is better packed when somebody wants it.

    Raises MissingBlob and IntegrityError.
    """
    near = cas.get_tree(like).entries
    if len(near) <= FEW or isinstance(near, PackedEntries) or cas.knows_tree(digest):
        return
    entries = dict(near)
    for name, entry, _ in differing(cas, digest, like):
        if entry is None:
            del entries[name]
        else:
            entries[name] = entry
    cas.know_tree(digest, Tree(entries))


class _Parts:
    """The entries of a tree's text from one place to another, a portion at a time."""

    def __init__(self, text: bytes, start: int, end: int) -> None:
        self._text = text
        self._at, self._end = start, end
        self._held: list[bytes] = []

    @property
    def is_more(self) -> bool:
        """Whether some are left behind this portion."""
        return self._at < self._end

    @property
    def last(self) -> str:
        """The name of the last one of this portion."""
        return next(iter(_entries(self._held[-1:])))

    def fill(self) -> bool:
        """Make the portion as large as can be; say whether there is anything in it."""
        while self.is_more and len(self._held) < PORTION:
            end = self._text.find(_BETWEEN, self._at, self._end)
            end = self._end if end < 0 else end
            self._held.append(self._text[self._at : end])
            self._at = end + len(_BETWEEN)
        return bool(self._held)

    def but(self, other: _Parts) -> Mapping[str, Entry]:
        """Return the entries of the portion that are not in the other one's. Raises
        IntegrityError."""
        known = set(other._held)
        return _entries([part for part in self._held if part not in known])

    def drop(self, left: Mapping[str, Entry], last: str | None) -> None:
        """Keep of the portion nothing but those that are `left`, behind a name."""
        behind = [] if last is None else [name for name in left if name > last]
        self._held = self._held[len(self._held) - len(behind) :] if behind else []


def _entries(parts: list[bytes]) -> Mapping[str, Entry]:
    """Return the entries of which these are the texts. Raises IntegrityError."""
    return Tree.decode(_START + _BETWEEN.join(parts) + _END).entries if parts else {}


def _is_odd(text: bytes) -> bool:
    """Say whether a text is none of a tree with entries, or a name in it looks like an end."""
    return _ODD in text or not (text.startswith(_START) and text.endswith(_END))


def _alike_at_both_ends(before: bytes, after: bytes) -> tuple[int, int]:
    """Return with how many bytes, heads included, two texts begin of entries that both begin with,
    and with how many they end of those that both end with."""
    start = before.rfind(_BETWEEN, 0, _alike(before, after)) + len(_BETWEEN)
    start = max(start, len(_START))
    alike = _alike(before, after, from_end=True)
    alike = min(alike, len(before) - start, len(after) - start)
    end = before.find(_BETWEEN, len(before) - alike)
    return start, len(_END) if end < 0 else len(before) - end


def _alike(one: bytes, other: bytes, *, from_end: bool = False) -> int:
    """Return with how many same bytes two texts begin, or end."""
    least, most = 0, min(len(one), len(other))
    left, right = memoryview(one), memoryview(other)
    while least < most:
        half = (least + most + 1) // 2
        if from_end:
            same = (
                left[len(one) - half : len(one) - least]
                == right[len(other) - half : len(other) - least]
            )
        else:
            same = left[least:half] == right[least:half]
        if same:
            least = half
        else:
            most = half - 1
    return least
