"""What trees hold: files, sub-trees, links."""

from __future__ import annotations

from typing import TypeAlias

from store.digest import Digest
from store.records import frozen


@frozen
class File:
    """A regular file in a tree; `size` in bytes. Owner, times and other mode bits do not exist."""

    digest: Digest
    size: int
    executable: bool = False


@frozen
class Directory:
    """A sub-tree, named by the digest of its canonical bytes."""

    digest: Digest


@frozen
class Link:
    """A symbolic link and its target, as text."""

    target: str


Entry: TypeAlias = File | Directory | Link
