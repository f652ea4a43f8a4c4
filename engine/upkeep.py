"""Upkeep: what a build does for the store after its end, within bounds."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from engine.timeline.events import BlobsMoved
from store.action_cache import USED
from store.digest import Digest
from store.errors import BnError
from store.index import Write
from store.store import Store
from store.tiers import RAM, Tier

if TYPE_CHECKING:
    from store.migrate import Move, Moved

DEMOTION_SECONDS: Final = 2.0
"""How long a build moves blobs from a tier that is over its limit; `bn store migrate` moves all."""

WARM_SHARE: Final = 1 / 32
"""The share of a build's time that goes into copies on the RAM disk, for later ones."""


def load() -> None:
    """Import what comes after a build's last action; to be done while that runs."""
    from store import heat, orphans  # noqa: F401


def note_uses(store: Store, tell: Callable[[BlobsMoved], None], took: float = math.inf) -> None:
    """Copy what became hot to the RAM disk, for a small share of the seconds that a build `took`,
    and note what was used: with the next transaction of the index. Nothing here makes a build
    fail."""
    if store.cas.uses:
        from store.heat import take_heat

        with contextlib.suppress(BnError, OSError):
            writes, hot = take_heat(store.cas, store.index, store.policy)
            store.index.later(writes)
            if hot:
                _warm(store, hot, tell, took * WARM_SHARE)


def look_after(store: Store, build: str = "") -> None:
    """Note what was used, copy hot blobs to the RAM disk, make room in tiers over their limit,
    collect where the whole store is over its own. The timeline of `build` tells what was moved.

    Nothing here makes a build fail.
    """
    moves: list[BlobsMoved] = []
    with contextlib.suppress(BnError, OSError):  # the next build, or `bn store gc`, comes to it
        _look_after(store, moves.append)
    if moves and build:
        from engine.timeline.log import append

        append(store, build, moves)


def _look_after(store: Store, tell: Callable[[BlobsMoved], None]) -> None:
    note_uses(store, tell)
    count(store)
    if any(tier.level == RAM for tier in store.cas.tiers):
        from store.orphans import tidy_ram

        tidy_ram(store)
    relieve(store, tell=tell)
    if is_full(store):
        from engine.retention import bound

        bound(store)


def _warm(
    store: Store, hot: Sequence[Digest], tell: Callable[[BlobsMoved], None], seconds: float
) -> None:
    """Copy what became hot to the RAM disk, for at most so many seconds."""
    from store.heat import WARM_SECONDS, warm

    ram = next((t.name for t in store.cas.tiers if t.level == RAM), "")
    used = store.index.number(f"{USED}{ram}")
    copied = warm(store.cas, hot, min(seconds, WARM_SECONDS), used)
    if copied:
        tell(BlobsMoved(target=ram, why="hot", blobs=copied))


def is_full(store: Store) -> bool:
    """Say whether the whole store is over its limit, by the index's count."""
    names = (tier.name for tier in store.cas.tiers if tier.durable)
    used = sum(store.index.number(f"{USED}{name}") or 0 for name in names)
    return used > store.policy.limit(store.root)


def relieve(
    store: Store,
    seconds: float = DEMOTION_SECONDS,
    tell: Callable[[BlobsMoved], None] = lambda _: None,
) -> Moved | None:
    """Move blobs to slower tiers for a while if a tier is over its limit; None if none is. `tell`
    is told of what moved from where to where."""
    durable = [tier for tier in store.cas.tiers if tier.durable]
    if not any(_is_over(store, tier) for tier in durable[:-1]):
        return None
    from store.migrate import Moved, migrate, plan_migration

    alike: dict[tuple[str, str, str], list[Move]] = {}
    for move in plan_migration(store):
        alike.setdefault((move.source.name, move.target.name, move.why), []).append(move)
    if not alike:
        return migrate(store, (), seconds, wait=False)
    end = time.monotonic() + seconds
    whole = Moved()
    for (source, target, why), moves in alike.items():
        one = migrate(store, moves, end - time.monotonic(), wait=False)
        if one.blobs:
            event = BlobsMoved(
                source=source, target=target, why=why, blobs=one.blobs, bytes=one.bytes
            )
            tell(event)
        whole.blobs, whole.bytes = whole.blobs + one.blobs, whole.bytes + one.bytes
        whole.kept += one.kept
    return whole


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
