"""Migration: cold blobs moved from fast tiers to slower ones.

::

    copy to the slow tier ─▶ sync it ─▶ read the copy back, checked ─▶ remove from the fast tier

A kill at any point leaves the blob in one of the two tiers, or in both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, frozen

from store.alone import alone
from store.cas import TOUCH_SECONDS, Cas
from store.digest import Digest
from store.errors import BnError, HostError
from store.leases import holders
from store.packing import SourceFailed, digest_of
from store.policy import Policy
from store.shelf import clear_shelf
from store.store import Store
from store.tiers import Form, Held, State, Tier, trouble

BATCH_FILES: Final = 512
BATCH_BYTES: Final = 64 * 2**20
"""What is copied before a sync and the removals that it allows."""

LEAVES: Final = "its tier is removed"
"""The reason of a move that does not ask whether somebody just used the blob."""

ROOM: Final = 0.9
"""The share of its limit down to which a tier that is over it is emptied."""


@frozen
class Move:
    """A blob to be moved, and why (`cold`, `full`); bytes, last use in seconds since 1970."""

    digest: Digest
    source: Tier
    target: Tier
    size: int
    used: float
    why: str


@define
class Moved:
    """What a migration did: blobs and bytes that left the faster tiers."""

    blobs: int = 0
    bytes: int = 0
    kept: int = 0
    """Blobs that were used meanwhile, or whose copy did not arrive."""


def plan_migration(store: Store, now: float | None = None) -> list[Move]:
    """Return what should move now, for each tier what was used longest ago first.

    Left where it is: what a running build may rely on, what a materialised tree still links to and
    objects (moving them would free nothing), and everything in tiers with the policy `none`.
    """
    now = time.time() if now is None else now
    safe = min((one.since - TOUCH_SECONDS for one in holders(store.root)), default=now + 1)
    tiers = [tier for tier in store.cas.tiers if tier.durable and tier.readable]
    moves: list[Move] = []
    for number, source in enumerate(tiers):
        slower = (tier for tier in tiers[number + 1 :] if tier.level > source.level)
        target = next((tier for tier in slower if tier.writable), None)
        if target is not None and source.spec.cleanup_policy != "none":
            moves += _fitting(_cold(source, target, store.policy, now, safe), target)
    return moves


def plan_departure(store: Store, source: Tier) -> list[Move]:
    """Return the moves that leave nothing in a tier that others do not have.

    Raises HostError where no other durable tier can take them.
    """
    others = [t for t in store.cas.tier_set.readable() if t.durable and t is not source]
    target = next((tier for tier in others if tier.writable), None)
    moves = []
    for digest in dict.fromkeys(held.digest for held in source.held()):
        if any(tier.holds(digest) for tier in others):
            continue
        if target is None:
            raise HostError(
                f"tier {source.name} has blobs that no other tier can take",
                "add a tier with bn store add NAME PATH first",
            )
        moves.append(Move(digest, source, target, 0, 0.0, LEAVES))
    return moves


def _cold(source: Tier, target: Tier, policy: Policy, now: float, safe: float) -> Iterator[Move]:
    """Yield what should leave one tier."""
    blobs: dict[Digest, list[Held]] = {}
    used = 0
    for one in source.held():
        blobs.setdefault(one.digest, []).append(one)
        used += one.size
    spec = source.spec
    hours = policy.cold_hours if spec.retention_days is None else spec.retention_days * 24
    limit = source.limit()
    excess = used - limit * ROOM if used > limit and spec.cleanup_policy == "lru" else 0
    rows = sorted((max(form.used for form in forms), key) for key, forms in blobs.items())
    for last, digest in rows:
        forms = blobs[digest]
        cold = last < now - hours * 3600
        if not cold and excess <= 0:
            return
        if last >= safe or any(form.links > 1 or form.form is Form.OBJECT for form in forms):
            continue
        size = sum(form.size for form in forms)
        excess -= size
        yield Move(digest, source, target, size, last, "cold" if cold else "full")


def _fitting(moves: Iterable[Move], target: Tier) -> Iterator[Move]:
    """Yield the moves for which the target has room, taken that nothing gets smaller there."""
    moves = list(moves)
    if not moves:
        return
    status = os.statvfs(target.root)
    room = status.f_bavail * status.f_frsize * ROOM
    if target.spec.max_size:
        room = min(room, target.spec.max_size - sum(one.size for one in target.held()))
    for move in moves:
        room -= move.size
        if room < 0:
            return
        yield move


def migrate(
    store: Store, moves: Iterable[Move], seconds: float = float("inf"), *, wait: bool = True
) -> Moved:
    """Make the moves, for at most about `seconds`; a tier that fails ends those to it.

    Without `wait` nothing moves while a collector or another migration is at work.
    """
    moved = Moved()
    with alone(store.root, "migrate", wait=wait) as is_alone:
        if is_alone:
            # what has another name, as what lies aside has, would not move
            clear_shelf(store.cas, store.cas.root)
            _migrate(store.cas, moves, time.monotonic() + seconds, moved)
    return moved


def _migrate(cas: Cas, moves: Iterable[Move], end: float, moved: Moved) -> None:
    batch: list[Move] = []
    for move in moves:
        if time.monotonic() > end:
            break
        if batch and (batch[0].target is not move.target or _is_full(batch)):
            _finish(cas, batch, moved)
            batch = []
        if _copied(cas, move):
            batch.append(move)
        else:
            moved.kept += 1
    _finish(cas, batch, moved)


def _is_full(batch: list[Move]) -> bool:
    return len(batch) >= BATCH_FILES or sum(move.size for move in batch) >= BATCH_BYTES


def _copied(cas: Cas, move: Move) -> bool:
    """Copy one blob, unless it is in the target already; say whether it is there now."""
    if not move.target.writable:
        return False
    if move.target.holds(move.digest):
        return True
    try:
        data = move.source.read_object(move.digest)
        if data is not None and move.target.table is not None:
            move.target.write_objects({move.digest: data})
            return True
        with move.source.open(move.digest) as reading:
            if reading is None:
                return False
            move.target.copy_in(move.digest, reading, executable=False)
    except SourceFailed as failure:
        cas.tier_set.failed(move.source, failure.error)
        return False
    except ValueError:
        return False  # it is not what its name says: `verify` tells
    except OSError as error:
        cas.tier_set.drop(move.target, trouble(move.target, error) or State.GONE, error)
        return False
    return True


def _finish(cas: Cas, batch: list[Move], moved: Moved) -> None:
    """Sync a batch, check what arrived, and remove what it was copied from."""
    if not batch:
        return
    target = batch[0].target
    if not cas.sync() or not target.in_place():
        moved.kept += len(batch)
        return
    arrived = [move for move in batch if _arrived(cas, move)]
    with cas.gate.closed():  # whoever begins to use one of them finds it where it is then
        gone = [move for move in arrived if move.why == LEAVES or not _used_since(move)]
        leaving: dict[Tier, list[Digest]] = {}
        for move in gone:
            leaving.setdefault(move.source, []).append(move.digest)
        for source, digests in leaving.items():
            moved.bytes += cas.tier_set.attempt(source, source.remove, *digests) or 0
    moved.blobs += len(gone)
    moved.kept += len(batch) - len(gone)


def _arrived(cas: Cas, move: Move) -> bool:
    """Say whether the copy reads back right, from the disk and not from memory where it can."""
    try:
        path = move.target.find(move.digest)
        if path is not None:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)
        with move.target.open(move.digest) as reading:
            return reading is not None and digest_of(reading) == move.digest
    except (OSError, SourceFailed, BnError):
        return False


def _used_since(move: Move) -> bool:
    """Say whether somebody used the blob, or linked to it, since the move was planned."""
    for path in move.source.variants(move.digest):
        try:
            status = os.stat(path)
        except OSError:
            continue
        if status.st_ctime > move.used or status.st_nlink > 1:
            return True
    return False
