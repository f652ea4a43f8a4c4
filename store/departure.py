"""Departure: a tier is emptied, of what others have or of everything."""

from __future__ import annotations

import itertools
from typing import Final

from attrs import define

from store.alone import alone
from store.shelf import clear_shelf
from store.store import Store
from store.tiers import Tier

BATCH: Final = 256
"""Blobs that are removed while the gate is closed once."""


@define
class Cleared:
    """What was removed (blobs, and the bytes that they had), how many of these are lost, and how
    many stayed because no other tier has them."""

    removed: int = 0
    bytes: int = 0
    lost: int = 0
    kept: int = 0


def clear(store: Store, tier: Tier, *, force: bool = False) -> Cleared:
    """Remove what `tier` holds: all of a RAM disk, of others what a durable tier has, too, or with
    `force` everything.

    Raises OSError where it cannot be removed.
    """
    done = Cleared()
    cas = store.cas
    others = [one for one in cas.tier_set.readable() if one.durable and one is not tier]
    with alone(store.root, "clear a tier"):
        clear_shelf(cas, tier.root)
        digests = iter(dict.fromkeys(held.digest for held in tier.held()))
        while batch := list(itertools.islice(digests, BATCH)):
            with cas.gate.closed():
                safe = [digest for digest in batch if any(one.holds(digest) for one in others)]
                gone = batch if force or not tier.durable else safe
                done.bytes += tier.remove(*gone)
            done.removed += len(gone)
            done.kept += len(batch) - len(gone)
            done.lost += len(gone) - len(safe) if len(gone) > len(safe) else 0
    return done
