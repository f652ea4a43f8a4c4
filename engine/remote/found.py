"""What looking up at remotes comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import TypeAlias

from store.digest import Digest
from store.objects import ActionResult, Realisation, Tree
from store.records import frozen

Needed: TypeAlias = Callable[[Iterable[Digest]], Set[Digest]]
"""Tells which of the things that remotes have are needed; asked while the caller waits."""


@frozen
class Found:
    """A result that a remote has, whose signature (the key's name) made it believed, and the trees
    that it consists of, with their bytes. It took `took` seconds where it was built (0: nobody
    knows), and `seconds` to find; `made_of` are the bytes of its action, if these came, too."""

    remote: str
    result: ActionResult
    realisation: Realisation | None
    key: str
    trees: Mapping[Digest, tuple[Tree, bytes]]
    seconds: float
    took: float = 0.0
    made_of: bytes | None = None
