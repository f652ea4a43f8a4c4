"""Trees that are nearly alike: what differs between two, found in their bytes without taking all of
both apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from store.cas import Cas
from store.digest import Digest
from store.errors import IntegrityError
from store.objects import Entry, Tree
from store.packed_entries import PackedEntries

_HEAD: Final = b'{"_":"tree.1","entries":{'
_START: Final = _HEAD + b'"'
_BETWEEN: Final = b'},"'
"""Stands between two entries. Elsewhere it can only be the end of a name."""
_END: Final = b"}}}"

FEW: Final = 64
"""Entries up to which it is not worth while."""


def differing(
    cas: Cas, old: Digest, new: Digest
) -> tuple[Mapping[str, Entry], Mapping[str, Entry]]:
    """Return the entries of each of two trees that are not in the other one as they are there.

    Raises MissingBlob and IntegrityError.
    """
    was, now = _apart(cas.get_bytes(old), cas.get_bytes(new))
    try:
        return _but(was, now), _but(now, was)
    except IntegrityError:  # a name that looks like an end, or it is no tree
        left, right = cas.get_tree(old).entries, cas.get_tree(new).entries
        return (
            {name: entry for name, entry in left.items() if right.get(name) != entry},
            {name: entry for name, entry in right.items() if left.get(name) != entry},
        )


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
        left, right = differing(cas, one, other)
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
    gone, came = differing(cas, digest, like)
    entries = {name: entry for name, entry in near.items() if name not in came or name in gone}
    cas.know_tree(digest, Tree({**entries, **gone}))


def _apart(before: bytes, after: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the texts of the entries of two trees, less most of those that both begin with, and
    of those that both end with."""
    if not all(data.startswith(_START) and data.endswith(_END) for data in (before, after)):
        return [before], [after]
    was, now = before[len(_START) : -len(_END)], after[len(_START) : -len(_END)]
    start = was.rfind(_BETWEEN, 0, _alike(was, now)) + len(_BETWEEN)
    if start >= len(_BETWEEN):
        was, now = was[start:], now[start:]
    end = was.find(_BETWEEN, len(was) - _alike(was, now, from_end=True))
    if end >= 0:
        was, now = was[:end], now[: end + len(now) - len(was)]
    return was.split(_BETWEEN), now.split(_BETWEEN)


def _alike(one: bytes, other: bytes, *, from_end: bool = False) -> int:
    """Return with how many same bytes two texts begin, or end."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        half = (least + most + 1) // 2
        if from_end:
            same = one[-half : len(one) - least] == other[-half : len(other) - least]
        else:
            same = one[least:half] == other[least:half]
        if same:
            least = half
        else:
            most = half - 1
    return least


def _but(parts: list[bytes], others: list[bytes]) -> Mapping[str, Entry]:
    """Return the entries of `parts` that are not among `others`. Raises IntegrityError."""
    known = set(others)
    left = [part for part in parts if part not in known]
    return Tree.decode(_START + _BETWEEN.join(left) + _END).entries if left else {}
