"""Upkeep: what a build does for the store after its end, within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from store.action_cache import USED
from store.errors import BnError
from store.index import Write
from store.store import Store
from store.tiers import RAM, Tier

if TYPE_CHECKING:
    from store.migrate import Moved

DEMOTION_SECONDS: Final = 2.0
"""How long a build moves blobs from a tier that is over its limit; `bn store migrate` moves all."""


def look_after(store: Store) -> None:
    """Note what was used, copy hot blobs to the RAM disk, make room in tiers over their limit,
    collect where the whole store is over its own.

    Nothing here makes a build fail.
    """
    try:
        _note_heat(store)
        if any(tier.level == RAM for tier in store.cas.tiers):
            from store.orphans import tidy_ram

            tidy_ram(store)
        relieve(store)
        if is_full(store):
            from engine.retention import bound

            bound(store)
    except (BnError, OSError):
        return  # the next build, or `bn store gc`, comes to it


def _note_heat(store: Store) -> None:
    """Note what was used, copy what became hot to the RAM disk, and count what was added."""
    writes: list[Write] = []
    if store.cas.uses:
        from store.heat import take_heat, warm

        writes, hot = take_heat(store.cas, store.index, store.policy)
        if hot:
            ram = (t.name for t in store.cas.tiers if t.level == RAM)
            warm(store.cas, hot, used=store.index.number(f"{USED}{next(ram, '')}"))
    count(store, writes)


def is_full(store: Store) -> bool:
    """Say whether the whole store is over its limit, by the index's count."""
    names = (tier.name for tier in store.cas.tiers if tier.durable)
    used = sum(store.index.number(f"{USED}{name}") or 0 for name in names)
    return used > store.policy.limit(store.root)


def relieve(store: Store, seconds: float = DEMOTION_SECONDS) -> Moved | None:
    """Move blobs to slower tiers for a while if a tier is over its limit; None if none is."""
    durable = [tier for tier in store.cas.tiers if tier.durable]
    if not any(_is_over(store, tier) for tier in durable[:-1]):
        return None
    from store.migrate import migrate, plan_migration

    return migrate(store, plan_migration(store), seconds, wait=False)


def _is_over(store: Store, tier: Tier) -> bool:
    """Say whether a tier holds more than it may, by the index's count."""
    if tier.spec.max_size is None or not tier.readable:
        return False
    return (store.index.number(f"{USED}{tier.name}") or 0) > tier.spec.max_size


def count(store: Store, writes: Iterable[Write] = ()) -> None:
    """Note how many bytes this process added to each tier, together with `writes`."""
    added = {f"{USED}{name}": size for name, size in store.cas.take_added().items()}
    rows = list(writes)
    if rows or added:
        store.index.later(rows, added)
