"""The plan of a collection: what is kept, and why."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from store.cas import TOUCH_SECONDS
from store.census import Census, Count
from store.closure import Claim, Closure, Kind, Needed, parse, read
from store.digest import Digest, is_digest
from store.errors import HostError
from store.gate import Gate
from store.index import Table
from store.leases import holders
from store.roots import Root, roots
from store.store import Store
from store.tiers import Held, State, Tier

if TYPE_CHECKING:
    from store.entry_rows import Row

SLACK_SECONDS: Final = 120
"""What is added to a lease's slack for the time between the opening of a store and its lease."""

DAY: Final = 86400.0
SHOWN: Final = "shown trees"
DOWNLOADS: Final = "downloads"
CACHED: Final = "cache entries"

_TOGETHER: Final = 256
"""Cache entries, of those used one after the other, that are one claim."""


class Users:
    """Who may use the store while a collection goes on, now or since it began.

    `since` is the change time (seconds since 1970) from which on they may use blobs; infinity where
    there is nobody, so that nothing is spared. It never rises: who left may have named something.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._gate = Gate(root)
        self._marks = self._gate.marks()
        self.began = time.time()
        self.since = math.inf
        self.look()

    def look(self) -> float:
        """Look who is there, and return `since`.

        A lease from the future means that the clock jumped: nobody can tell then, all is spared.
        """
        found = holders(self._root)
        came = [holder.since for holder in found]
        since = [holder.since - holder.slack for holder in found]
        if self._gate.marks() != self._marks:
            came.append(self.began)
            since.append(self.began - TOUCH_SECONDS)
        if came:
            jumped = max(came) > time.time() + SLACK_SECONDS
            first = -math.inf if jumped else min(since) - SLACK_SECONDS
            self.since = min(self.since, first)
        return self.since


@frozen(eq=False)
class Plan:
    """What is to be kept: `closure` with the reasons, and what had to give way to a limit."""

    users: Users
    census: Census
    closure: Closure
    dead: tuple[Root, ...]
    shown: frozenset[Digest]
    kept: dict[str, Count]
    evicted: tuple[str, ...]


def make_plan(store: Store, claims: Iterable[Claim] = (), max_size: int | None = None) -> Plan:
    """Find out what is to be kept; nothing is changed."""
    users = Users(store.root)
    census = Census(store.cas)
    closure = Closure(store.cas, store.index)
    named = list(roots(store.index))
    pinned = closure.mark((Kind.TREE, root.tree) for root in named if root.live)
    kept = {"roots": Count(len(pinned.live), census.size(pinned.live))}
    everything = sorted([*claims, *lately_used(store, census)], key=lambda c: c.time, reverse=True)
    evicted = _mark_claims(store, census, closure, everything, max_size, kept)
    _check_tiers(store, closure)
    _mark_realised(store, closure)
    dropped = set(evicted)
    shown = frozenset(
        Digest(claim.name)
        for claim in everything
        if claim.why == SHOWN and claim.name not in dropped
    )
    pinned_trees = {root.tree for root in named if root.live}
    dead = tuple(root for root in named if not root.live)
    return Plan(users, census, closure, dead, shown | pinned_trees, kept, tuple(evicted))


def lately_used(store: Store, census: Census) -> Iterator[Claim]:
    """Yield what the store itself knows to be used lately: downloads, shown trees, and what clients
    of the cache server stored."""
    yield from _downloads(store, census)
    yield from _shown(store)
    yield from _cached(store)


def _downloads(store: Store, census: Census) -> Iterator[Claim]:
    """Yield what was fetched and used lately: without it a build would have to fetch it again."""
    oldest = time.time() - store.policy.keep_days * DAY
    for sha256, data in store.index.items(Table.ALIASES):
        digest = alias(data)
        used = census.last_use(digest) if digest else 0.0
        if digest and used > oldest:
            yield Claim(why=DOWNLOADS, name=sha256, time=used, needs=((Kind.BLOB, digest),))


def alias(data: bytes) -> Digest | None:
    """Return the digest in an entry of the table of aliases."""
    with contextlib.suppress(ValueError):
        match json.loads(data):
            case [str(digest), int(_)] if is_digest(digest):
                return Digest(digest)
    return None


def _shown(store: Store) -> Iterator[Claim]:
    """Yield the materialised trees that were used lately."""
    oldest = time.time() - store.policy.keep_days * DAY
    for path, status in shown_trees(store):
        if status.st_ctime > oldest:
            needs = ((Kind.TREE, Digest(path.name)),)
            yield Claim(why=SHOWN, name=path.name, time=status.st_ctime, needs=needs)


def _cached(store: Store) -> Iterator[Claim]:
    """Yield the blobs of cache entries that were used lately, in portions."""
    if not store.has_entries():
        return
    oldest = time.time() - store.policy.keep_days * DAY
    rows = sorted(
        ((row.used, space, row.digest) for space, *_, row in store.entries().all()), reverse=True
    )
    used = list(itertools.takewhile(lambda row: row[0] > oldest, rows))
    for start in range(0, len(used), _TOGETHER):
        some = used[start : start + _TOGETHER]
        needs = tuple((Kind.BLOB, digest) for *_, digest in some)
        yield Claim(why=CACHED, name=f"{CACHED} of {some[0][1]}", time=some[0][0], needs=needs)


def shown_trees(store: Store) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the directories that show trees, in all tiers."""
    for tier in store.cas.tiers:
        directory = tier.root / "trees"
        if tier.readable and directory.is_dir():
            for item in os.scandir(directory):
                if is_digest(item.name):
                    yield Path(item.path), item.stat(follow_symlinks=False)


def _mark_claims(
    store: Store,
    census: Census,
    closure: Closure,
    claims: Iterable[Claim],
    max_size: int | None,
    kept: dict[str, Count],
) -> list[str]:
    """Mark claims while they fit and return the names of those that do not."""
    budget = _Budget(store, census, closure, max_size)
    evicted: list[str] = []
    for claim in claims:
        for one in claim.needs:
            fresh = budget.mark(one)
            if fresh is None:
                if evicted[-1:] != [claim.name]:
                    evicted.append(claim.name)
            elif fresh:
                before = kept.get(claim.why, Count())
                size = census.size(fresh)
                kept[claim.why] = Count(before.number + len(fresh), before.bytes + size)
    return evicted


class _Budget:
    """What still fits: into the size that was asked for, and into the slowest tier's own limits."""

    def __init__(
        self, store: Store, census: Census, closure: Closure, max_size: int | None
    ) -> None:
        self._census = census
        self._closure = closure
        self._left = math.inf if max_size is None else max_size - census.size(closure.live)
        last = [tier for tier in census.tiers if tier.durable][-1:]  # others pass on to slower ones
        self._tiers = {
            tier.name: float(tier.spec.max_size)
            for tier in last
            if tier.spec.max_size and tier.spec.cleanup_policy == "lru"
        }
        now = time.time()
        self._oldest = {
            tier.name: now - tier.spec.retention_days * DAY
            for tier in last
            if tier.spec.retention_days is not None
        }
        self._bounded = max_size is not None or bool(self._tiers or self._oldest)
        for digest in closure.live if self._tiers else ():
            self._take(digest)

    def mark(self, needed: Needed) -> list[Digest] | None:
        """Mark what fits and return what was not marked before; None where it does not fit."""
        fresh = self._closure.mark([needed])
        if not self._bounded:
            return fresh.live
        size = self._census.size(fresh.live)
        before = dict(self._tiers)
        young = [self._take(digest) for digest in fresh.live]
        if (
            size <= self._left
            and all(young)
            and all(self._tiers[n] >= min(0, b) for n, b in before.items())
        ):
            self._left -= size
            return fresh.live
        if size > self._left:
            self._left = 0  # what is older gives way, too
        self._tiers = before
        self._closure.unmark(fresh)
        return None

    def _take(self, digest: Digest) -> bool:
        """Take a blob's room; False where the only tier that has it does not keep it so long."""
        young = True
        for tier, held in self._census.alone(digest):
            if tier.name in self._tiers:
                self._tiers[tier.name] -= held.size
            young = young and held.used >= self._oldest.get(tier.name, -math.inf)
        return young


def _check_tiers(store: Store, closure: Closure) -> None:
    """Refuse to go on where nobody can know what a tier that is gone would say is needed."""
    gone = [tier.name for tier in store.cas.tiers if tier.state is State.GONE]
    if gone and closure.missing:
        raise HostError(
            f"tier {gone[0]} is gone, and only it knows all that is needed",
            "bring it back, or take it out of use: bn store remove",
        )


def _mark_realised(store: Store, closure: Closure) -> None:
    """Mark the realisations whose outputs are kept: they are small, and spare whole sub-graphs."""
    for _, reference in store.index.items(Table.REALISATIONS):
        digest = Digest(reference.decode(errors="replace"))
        if not is_digest(digest) or digest in closure.live:
            continue
        data = read(store.cas, digest)
        document = parse(data) if data else None
        if document and closure.has_whole(document.get("outputs", "")):
            closure.mark([(Kind.BLOB, digest)])


def stays(tier: Tier, held: Held, limit: float) -> bool:
    """Say whether a file is to be left alone although nothing needs it."""
    spec = tier.spec
    if tier.state is State.READ_ONLY or spec.cleanup_policy == "none" or held.used >= limit:
        return True
    if spec.cleanup_policy == "age" and spec.retention_days is not None:
        return held.used >= time.time() - spec.retention_days * DAY
    return False


def stale_rows(store: Store, plan: Plan, is_used: Callable[[Digest], bool]) -> list[Row]:
    """Return the cache entries that were not used for `keep_days`, or whose blobs go; `is_used`
    says whether a blob came, or was used, since the plan was made."""
    oldest = plan.users.began - store.policy.keep_days * DAY
    return [
        row
        for *_, row in store.entries().all()
        if row.used < oldest
        or (
            row.digest not in plan.closure.live
            and row.used < plan.users.began
            and not is_used(row.digest)
        )
    ]
