"""Departure: a tier is emptied, of what others have or of everything."""

from __future__ import annotations

import itertools
from typing import Final

from attrs import define

from store.alone import alone
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
        digests = iter(dict.fromkeys(held.digest for held in tier.held()))
        while batch := list(itertools.islice(digests, BATCH)):
            with cas.gate.closed():
                for digest in batch:
                    safe = any(one.find(digest) for one in others)
                    if tier.durable and not safe and not force:
                        done.kept += 1
                        continue
                    done.bytes += tier.remove(digest)
                    done.removed += 1
                    done.lost += not safe
    return done
