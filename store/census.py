"""The census: which blobs lie in which tiers, how large they are, when they were used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen

from store.action_cache import USED
from store.cas import Cas
from store.digest import Digest
from store.index import Index, Table
from store.tiers import Held, Tier


@frozen
class Count:
    """How many of something, and how many bytes they have."""

    number: int = 0
    bytes: int = 0

    def plus(self, size: int) -> Count:
        """Return the count with one more of `size` bytes."""
        return Count(self.number + 1, self.bytes + size)


class Census:
    """Every file that holds a blob, as one pass over all tiers finds them."""

    def __init__(self, cas: Cas, prefix: str = "") -> None:
        """Look at all of them, or at those whose digest begins with `prefix`."""
        self.tiers = [tier for tier in cas.tiers if tier.readable]
        self.files: dict[Digest, list[tuple[Tier, Held]]] = {}
        self.used = dict.fromkeys((tier.name for tier in self.tiers), 0)
        for tier in self.tiers:
            for held in cas.tier_set.attempt(tier, _all, tier, prefix) or ():
                self.files.setdefault(held.digest, []).append((tier, held))
                self.used[tier.name] += held.size

    def last_use(self, digest: Digest) -> float:
        """Return when the blob was used last, in seconds since 1970; 0 where it is not here."""
        return max((held.used for _, held in self.files.get(digest, ())), default=0.0)

    def size(self, digests: Iterable[Digest]) -> int:
        """Return the bytes that blobs take in the durable tiers, in all their forms."""
        return sum(
            held.size
            for digest in digests
            for tier, held in self.files.get(digest, ())
            if tier.durable
        )

    def alone(self, digest: Digest) -> Iterator[tuple[Tier, Held]]:
        """Yield the files of a blob where one durable tier alone has it."""
        files = [(tier, held) for tier, held in self.files.get(digest, ()) if tier.durable]
        if len({tier.name for tier, _ in files}) == 1:
            yield from files


def recount(cas: Cas, index: Index) -> None:
    """Write down anew how many bytes each tier holds."""
    used = {
        f"{USED}{tier.name}": sum(held.size for held in tier.held())
        for tier in cas.tiers
        if tier.readable
    }
    index.write([(Table.META, name, b"%d" % size) for name, size in used.items()])


def _all(tier: Tier, prefix: str) -> list[Held]:
    return list(tier.held(prefix))
