"""Trees that are nearly alike: what differs between two, found in their bytes without taking all of
both apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from store.cas import Cas
from store.digest import Digest
from store.errors import IntegrityError
from store.objects import Entry, Tree

_START: Final = b'{"_":"tree.1","entries":{"'
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
    common, or something is not as it was said to be.

    Raises MissingBlob and IntegrityError.
    """
    data, entries = cas.get_bytes(tree), dict(cas.get_tree(tree).entries)
    pairs = list(pairs)
    changes: list[tuple[str, Entry | None, Entry | None]] = []
    for old, new in pairs:
        before, after = cas.get_tree(old).entries, cas.get_tree(new).entries
        if any(entries.pop(name, None) != entry for name, entry in before.items()):
            return None
        changes += [(name, before.get(name), after.get(name)) for name in {**before, **after}]
    for _, new in pairs:
        after = cas.get_tree(new).entries
        if not entries.keys().isdisjoint(after):
            return None
        entries.update(after)
    for name, was, now in changes:
        if was is None or now is None:
            return cas.put_tree(Tree(entries))
        found = _one(name, was)
        if data.count(found) != 1:
            return cas.put_tree(Tree(entries))
        data = data.replace(found, _one(name, now))
    digest = cas.put_object(data)
    cas.know_tree(digest, Tree(entries))
    return digest


def _one(name: str, entry: Entry) -> bytes:
    """Return the text of an entry in its tree."""
    return Tree({name: entry}).encode()[len(_START) - 1 : -2]


def know_alike(cas: Cas, digest: Digest, like: Digest) -> None:
    """Have the tree `digest` at hand, quickly where most of it is as in another one that is.

    Raises MissingBlob and IntegrityError.
    """
    near = cas.get_tree(like).entries
    if len(near) <= FEW or cas.knows_tree(digest):
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
