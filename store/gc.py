"""The collector: what is needed is found and kept, everything else goes.

::

    census ─▶ mark roots ─▶ mark claims, newest first, while they fit ─▶ mark what is spared
                                                                              │
      entries of the index ─▶ shown trees ─▶ blobs ─▶ leftovers  ◀── sweep ───┘

Entries go before what they name, so that a kill at any point leaves garbage and never an entry that
claims what is gone. What is spared though nothing needs it (running builds may use it, its tier is
not to be cleaned) stays with all that it consists of.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from store.action_cache import USED
from store.alone import alone
from store.census import Count
from store.closure import Claim
from store.errors import HostError
from store.index import Table
from store.keep import make_plan
from store.store import Store
from store.sweep import Sweep
from store.tiers import Tier


@frozen(kw_only=True)
class Report:
    """What a collection did, or would do.

    `removed` counts by kind (blobs, shown trees, quarantined, records, builds, sandboxes, entries);
    `freed` is in bytes by tier and smaller than what was removed where a file has other names;
    `kept` counts blobs by why they are kept. `over` are the bytes above the size that was asked
    for, which could not be freed.
    """

    dry_run: bool
    removed: Mapping[str, Count]
    freed: Mapping[str, int]
    kept: Mapping[str, Count]
    used: Mapping[str, int]
    evicted: tuple[str, ...] = ()
    over: int = 0
    seconds: float = 0.0


def collect(
    store: Store,
    claims: Iterable[Claim] = (),
    expired: Sequence[Path] = (),
    *,
    max_size: int | None = None,
    dry_run: bool = False,
    wait: bool = True,
) -> Report | None:
    """Remove what neither roots nor `claims` need, and the build directories `expired`.

    While other processes hold leases, what was used since the oldest began is spared. With
    `max_size`, in bytes over all durable tiers, the oldest claims give way, too. Without `wait`,
    None where another process collects just now. Raises HostError where the store is read-only, or
    where a tier is gone that says what else is needed.
    """
    started = time.monotonic()
    if store.read_only and not dry_run:
        raise HostError(f"{store.root}: the store is read-only", "make it writable to collect")
    with alone(store.root, "collect", wait=wait) as is_alone:
        if not is_alone:
            return None
        if not store.read_only:
            store.cas.commit_objects()
        counted = {tier.name: _counted(store, tier) for tier in store.cas.tiers}
        if not dry_run:
            note = (Table.META, "collected", f"{time.time():.0f}".encode())
            with contextlib.suppress(HostError):  # on a full disk there may be no room for it
                store.index.write([note])  # who relies on what was here sees that it may go
        plan = make_plan(store, claims, max_size)
        sweep = Sweep(store, plan, dry_run)
        sweep.entries()
        sweep.shown_trees()
        sweep.blobs()
        sweep.leftovers(expired)
        store.cas.begin_use()  # what was known to be here may be gone
        if not dry_run:
            _count(store, sweep.used, counted)
    used = sweep.used
    durable = sum(used[tier.name] for tier in plan.census.tiers if tier.durable)
    return Report(
        dry_run=dry_run,
        removed=sweep.removed,
        freed=sweep.freed,
        kept=plan.kept,
        used=used,
        evicted=plan.evicted,
        over=max(0, durable - max_size) if max_size is not None else 0,
        seconds=time.monotonic() - started,
    )


def _counted(store: Store, tier: Tier) -> int:
    return store.index.number(f"{USED}{tier.name}") or 0


def _count(store: Store, used: Mapping[str, int], before: Mapping[str, int]) -> None:
    """Write down how many bytes each tier holds, with what others added meanwhile."""
    now = {tier.name: _counted(store, tier) - before[tier.name] for tier in store.cas.tiers}
    writes = [(Table.META, f"{USED}{n}", b"%d" % max(0, used[n] + now[n])) for n in used]
    store.index.write(writes)
