"""Who holds the space: bytes by root, in all and by it alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from attrs import frozen

from store.census import Census
from store.closure import Claim, Closure, Kind, Needed
from store.digest import Digest
from store.keep import lately_used
from store.roots import Root, roots
from store.store import Store


@frozen
class Share:
    """What one root, or all recent builds together, need: blobs and bytes in the durable tiers;
    `alone` are the bytes that nothing else needs, so that letting go of it would free them."""

    name: str
    blobs: int
    bytes: int
    alone: int


def shares(store: Store, claims: Iterable[Claim] = ()) -> list[Share]:
    """Return who holds the space, the largest first, what nothing needs at the end."""
    census = Census(store.cas)
    needs: dict[str, list[Needed]] = {
        root.key: [(Kind.TREE, root.tree)] for root in roots(store.index) if root.live
    }
    for claim in [*claims, *lately_used(store, census)]:
        needs.setdefault(claim.why, []).extend(claim.needs)
    held: dict[str, set[Digest]] = {}
    for name, needed in needs.items():
        closure = Closure(store.cas, store.index)
        closure.mark(needed)
        held[name] = closure.live
    holders = Counter(digest for live in held.values() for digest in live)
    rows = [
        Share(
            name,
            len(live),
            census.size(live),
            census.size(digest for digest in live if holders[digest] == 1),
        )
        for name, live in held.items()
    ]
    rows.sort(key=lambda row: (-row.bytes, row.name))
    unneeded = [digest for digest in census.files if digest not in holders]
    size = census.size(unneeded)
    return [*rows, Share("nothing", len(unneeded), size, size)]


def size_of(store: Store, census: Census, root: Root) -> int:
    """Return the bytes in all that a root consists of."""
    closure = Closure(store.cas, store.index)
    closure.mark([(Kind.TREE, root.tree)])
    return census.size(closure.live)
