"""Upkeep: what a build does for the store after its end, within bounds."""

from __future__ import annotations

from typing import Final

from engine.retention import bound
from store.action_cache import USED
from store.errors import BnError
from store.heat import take_heat, warm
from store.migrate import Moved, migrate, plan_migration
from store.orphans import tidy_ram
from store.store import Store
from store.tiers import Tier

DEMOTION_SECONDS: Final = 2.0
"""How long a build moves blobs from a tier that is over its limit; `bn store migrate` moves all."""


def look_after(store: Store) -> None:
    """Note what was used, copy hot blobs to the RAM disk, make room in tiers over their limit,
    collect where the whole store is over its own.

    Nothing here makes a build fail.
    """
    try:
        writes, hot = take_heat(store.cas, store.index, store.policy)
        if writes:
            store.index.write(writes)
        warm(store.cas, hot)
        tidy_ram(store)
        relieve(store)
        count(store)
        bound(store)
    except (BnError, OSError):
        return  # the next build, or `bn store gc`, comes to it


def relieve(store: Store, seconds: float = DEMOTION_SECONDS) -> Moved:
    """Move blobs to slower tiers for a while if a tier is over its limit."""
    durable = [tier for tier in store.cas.tiers if tier.durable]
    if not any(_is_over(store, tier) for tier in durable[:-1]):
        return Moved()
    return migrate(store, plan_migration(store), seconds, wait=False)


def _is_over(store: Store, tier: Tier) -> bool:
    """Say whether a tier holds more than it may, by the index's count."""
    if tier.spec.max_size is None or not tier.readable:
        return False
    return (store.index.number(f"{USED}{tier.name}") or 0) > tier.spec.max_size


def count(store: Store) -> None:
    """Note how many bytes this process added to each tier."""
    added = {f"{USED}{name}": size for name, size in store.cas.take_added().items()}
    if added:
        store.index.write([], added)
