"""Rows of a name space, many at a time: blobs that are really there, and what is under keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from store.digest import Digest

if TYPE_CHECKING:
    from engine.http.service import Service
    from store.entries import Row

BLOB: Final = "blob"
RESULT: Final = "action"
REALISATION: Final = "realisation"
"""Kinds of rows."""

PORTION: Final = 250
"""Rows that are looked at before others get their turn: a few milliseconds."""


def portions(digests: Sequence[Digest]) -> list[Sequence[Digest]]:
    """Return digests some at a time."""
    return [digests[at : at + PORTION] for at in range(0, len(digests), PORTION)]


def held(service: Service, name_space: str, digests: Iterable[Digest]) -> dict[Digest, Row]:
    """Return the rows of those blobs that are in a name space and whose bytes are in the store;
    this is a use of them."""
    rows = service.entries.find_many(name_space, BLOB, digests)
    return {Digest(key): row for key, row in rows.items() if service.has(row)}
