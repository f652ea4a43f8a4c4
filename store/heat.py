"""Heat: how often blobs are used, and copies of the hot ones on the RAM disk.

What is on the RAM disk is a cache: any of it may be gone at any time, and nothing is there alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from store.cas import Cas, most_used
from store.digest import Digest, is_digest
from store.errors import BnError
from store.index import Index, Table, Write
from store.policy import Policy
from store.tiers import Form, State, Tier

COUNTED: Final = 1024
"""Blobs whose uses are noted at a time, the most used ones: a note costs as much as a read."""

RENEWED: Final = 64
"""Hot blobs whose copies are renewed at a time."""

LARGEST: Final = 16 * 2**20
"""Bytes above which a blob stays where it is: a disk streams it fast enough."""

WARM_SECONDS: Final = 0.25
"""How long copying to the RAM disk may take at a time."""

ROOM: Final = 0.9
"""The share of its limit down to which a full RAM disk is emptied."""


def take_heat(cas: Cas, index: Index, policy: Policy) -> tuple[list[Write], list[Digest]]:
    """Return what to write about the uses since the last call, and which of these blobs are hot,
    those that became so first, then some of those that were: their copies are renewed.

    What is hot is not counted on.
    """
    uses, cas.uses = cas.uses, {}
    now = time.time()
    writes: list[Write] = []
    hot: list[tuple[int, Digest]] = []
    still: list[Digest] = []
    most = most_used(uses, COUNTED)
    rows = index.get_many(Table.HEAT, [digest for digest, _ in most])
    for digest, count in most:
        before, since = _row(rows.get(digest))
        if now - since > policy.hot_hours * 3600 or since > now:
            before, since = 0, now
        if before >= policy.hot_accesses:
            still.append(digest)
            continue
        writes.append((Table.HEAT, digest, b"[%d,%d]" % (before + count, int(since))))
        if before + count >= policy.hot_accesses:
            hot.append((before + count, digest))
    hot.sort(reverse=True)
    return writes, [digest for _, digest in hot] + still[:RENEWED]


def hot_blobs(index: Index, policy: Policy) -> Iterator[Digest]:
    """Yield what was used often enough, lately enough, by digest."""
    oldest = time.time() - policy.hot_hours * 3600
    for key, data in index.items(Table.HEAT):
        count, since = _row(data)
        if count >= policy.hot_accesses and since >= oldest and is_digest(key):
            yield Digest(key)


def _row(data: bytes | None) -> tuple[int, float]:
    """Return the count and since when it goes of an entry, `[COUNT,SECONDS]`."""
    try:
        count, since = (data or b"")[1:-1].split(b",")
        return int(count), int(since)
    except ValueError:
        return 0, 0.0


def warm(
    cas: Cas, hot: Iterable[Digest], seconds: float = WARM_SECONDS, used: int | None = None
) -> int:
    """Copy blobs to the RAM disk, if there is one, and return how many came there: one at least, if
    there is room, and no more once the `seconds` are over.

    `used` is how many bytes it holds by the index's count, if that is known: while that is far from
    the limit nothing has to be counted.

    What was used longest ago makes room. Nobody is disturbed by that, leases or not: whoever has a
    file open keeps it, and whoever comes later finds the blob in the tier that it was copied from.
    """
    ram = next(
        (t for t in cas.tiers if not t.durable and t.state in (State.OK, State.ABSENT)), None
    )
    if ram is None:
        return 0
    wanted: Mapping[Digest, Tier] = dict(_missing(cas, ram, hot))
    if not wanted:
        return 0
    end, copied = time.monotonic() + seconds, 0
    try:
        cas.tier_set.open(ram)
        size = sum(_size(tier, digest) for digest, tier in wanted.items())
        limit = ram.limit()
        far = used is not None and used + size < limit // 2
        room = limit - (used or 0) if far else _make_room(ram, size)
        before = ram.added
        for digest, source in wanted.items():
            taken = ram.added - before + _size(source, digest)
            if taken > room or (copied and time.monotonic() > end):
                break
            copied += _copy(cas, source, ram, digest)
    except OSError as error:
        cas.tier_set.drop(ram, State.FULL, error)
    return copied


def _missing(cas: Cas, ram: Tier, hot: Iterable[Digest]) -> Iterator[tuple[Digest, Tier]]:
    """Yield what is not on the RAM disk yet, with the tier that has it; renew what is."""
    tiers = [tier for tier in cas.tier_set.readable() if tier.durable]
    for digest in hot:
        if ram.state is State.OK and ram.has_plain(digest):
            cas.tier_set.attempt(ram, ram.touch, digest, Form.PLAIN)
            continue
        if any(tier.has_object(digest) for tier in tiers):
            continue  # it is found there before anybody looks at the RAM disk
        source = next((tier for tier in tiers if tier.find(digest)), None)
        if source is not None and _size(source, digest) <= LARGEST:
            yield digest, source


def _size(tier: Tier, digest: Digest) -> int:
    forms = (tier.look(digest, form) for form in Form)
    return next((held.size for held in forms if held is not None), 0)


def _make_room(ram: Tier, size: int) -> int:
    """Make room for `size` bytes, as far as the tier may hold that; return how much there is."""
    held = sorted(ram.held(), key=lambda one: one.used)
    used = sum(one.size for one in held)
    limit = ram.limit()
    size = min(size, limit)
    if used + size > limit:
        for one in held:
            if used + size <= limit * ROOM:
                break
            used -= ram.remove(one.digest)
    return max(0, limit - used)


def _copy(cas: Cas, source: Tier, ram: Tier, digest: Digest) -> bool:
    def copy(tier: Tier) -> bool:
        with tier.open(digest) as reading:
            if reading is None:
                return False
            ram.copy_in(digest, reading, executable=False)
            return True

    try:
        return bool(cas.tier_set.copy(source, copy))
    except (ValueError, BnError):
        return False  # it is not what its name says: found where it is read
