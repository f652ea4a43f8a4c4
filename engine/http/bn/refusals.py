"""What was found to be bad in a name space: it is neither served nor stored any more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.http.bn.walk import Walk
from engine.http.candidates import Candidate
from store.digest import Digest
from store.refused import pair, read_refused, refuse

if TYPE_CHECKING:
    from engine.http.service import Service

DIRECTORY: Final = "serve/refused"
"""In the store; a directory for each name space, with a file as `store.refused` has it."""


def refused_in(service: Service, name_space: str) -> frozenset[Digest]:
    """Return what a name space refuses: one open(2) that fails where that is nothing."""
    return read_refused(_directory(service, name_space))


def refuse_in(service: Service, name_space: str, digests: Iterable[Digest], why: str) -> None:
    """Refuse from now on, durably. It blocks; raises HostError."""
    refuse(_directory(service, name_space), digests, why)


def is_refused(candidate: Candidate, bad: frozenset[Digest]) -> bool:
    """Say whether a candidate is bad, or what it says its action gave."""
    return bool(bad) and not bad.isdisjoint(_named(candidate))


def holds_refused(walk: Walk, candidate: Candidate, bad: frozenset[Digest]) -> bool:
    """Say whether a candidate, all of whose trees are in `walk`, is bad or consists of what is."""
    if not bad:
        return False
    if is_refused(candidate, bad):
        return True
    below = (walk.below[tree] for tree in walk.all_below([candidate.outputs]))
    return any(
        not bad.isdisjoint(one.trees) or any(blob in bad for blob, _ in one.blobs) for one in below
    )


def _named(candidate: Candidate) -> set[Digest]:
    both = pair(candidate.action, candidate.outputs)
    named = {candidate.digest, candidate.outputs, both}
    return named | ({candidate.log} if candidate.log is not None else set())


def _directory(service: Service, name_space: str) -> Path:
    return service.store.root / DIRECTORY / name_space
