"""Cache entries in archives: name spaces with all their rows, whose blobs go with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from store.digest import Digest, is_digest
from store.entries import Put
from store.entry_rows import Row, name_of, pack
from store.entry_tables import PORTION
from store.errors import InputError, IntegrityError
from store.reaping import still_there
from store.store import Store

Listed = dict[str, dict[str, dict[str, list[Any]]]]
"""Name space → kind → key → digest, size in bytes, small facts."""


def listed(store: Store, name_spaces: Iterable[str]) -> Listed:
    """Return the entries of name spaces whose blobs are there. Raises InputError where a name space
    has none."""
    found: Listed = {}
    wanted = set(name_spaces)
    rows = store.entries().all() if wanted and store.has_entries() else ()
    for space, kind, key, row in rows:
        if space in wanted and key.isprintable() and still_there(store.cas, row.digest):
            kinds = found.setdefault(space, {})
            kinds.setdefault(kind, {})[key] = [row.digest, row.size, dict(row.meta)]
    for space in sorted(wanted - set(found)):
        raise InputError(f"{space}: no such name space has entries", "bn cache stat lists them")
    return found


def blobs_of(entries: Mapping[str, Any]) -> dict[Digest, int]:
    """Return the blobs that entries name, with their sizes in bytes."""
    return {put.digest: put.size for put in _puts(entries)}


def check(entries: object, blobs: Mapping[Digest, int]) -> None:
    """Raise IntegrityError where entries of an archive are malformed or name what is not in it."""
    try:
        right = isinstance(entries, dict) and all(_is_right(put, blobs) for put in _puts(entries))
    except (AttributeError, TypeError, ValueError):
        right = False
    if not right:
        raise IntegrityError("its list of contents is malformed")


def keep(store: Store, entries: Mapping[str, Any]) -> None:
    """Store entries whose blobs are in the store, durably; those of the same keys go."""
    puts = list(_puts(entries))
    if puts:
        store.cas.sync()
    for start in range(0, len(puts), PORTION):
        some = puts[start : start + PORTION]
        store.entries().put(some, None, lambda digest: still_there(store.cas, digest))


def _is_right(put: Put, blobs: Mapping[Digest, int]) -> bool:
    """Say whether a row can be stored; raises errors of its own where it cannot."""
    name = name_of(put.name_space, put.kind, put.key)
    texts = [put.kind, *put.meta, *put.meta.values()]
    if not put.kind or not all(isinstance(text, str) for text in texts):
        return False
    if not is_digest(put.digest) or blobs.get(put.digest) != put.size:
        return False
    return bool(pack(Row(put.digest, put.size, meta=put.meta, name=name), put))


def _puts(entries: Mapping[str, Any]) -> Iterator[Put]:
    for space, kinds in entries.items():
        for kind, keys in kinds.items():
            for key, (digest, size, meta) in keys.items():
                yield Put(space, kind, key, digest, size, meta)
