"""Roots: what the collector keeps with all that it consists of."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

from store.digest import Digest, is_digest
from store.index import Index, Table, Write, to_json

ARTIFACT: Final = "artifact/"
LINK: Final = "link/"


@frozen
class Root:
    """A root: `artifact/NAME` (what a build called it last) or `link/PATH` (a link to a result).

    `time` is in seconds since 1970. A link is a root while it still leads to the tree.
    """

    key: str
    tree: Digest
    time: float

    @property
    def name(self) -> str:
        """The artifact's name, or the link's path."""
        return self.key.partition("/")[2]

    @property
    def live(self) -> bool:
        """Whether it still is a root: artifacts always are, links while they lead to the tree."""
        if not self.key.startswith(LINK):
            return True
        try:
            return os.path.basename(os.readlink(self.name)) == self.tree
        except OSError:
            return False


def artifact_root(package: str, artifact: str, tree: Digest) -> Write:
    """Return the write that names the result of an artifact, for the collector and the mount."""
    name = artifact if artifact == package else f"{package}.{artifact.replace(':', '.')}"
    return _write(f"{ARTIFACT}{name.replace('/', '_')}", tree)


def link_root(link: Path, tree: Digest) -> Write:
    """Return the write that makes the link at the absolute path `link` a root."""
    return _write(f"{LINK}{link}"[:500], tree)


def roots(index: Index) -> Iterator[Root]:
    """Yield all roots, live or not, by key."""
    for key, data in index.items(Table.ROOTS):
        try:
            row = json.loads(data)
            if is_digest(row["tree"]):
                yield Root(key, Digest(row["tree"]), float(row["time"]))
        except (ValueError, KeyError, TypeError):
            continue


def _write(key: str, tree: Digest) -> Write:
    return (Table.ROOTS, key, to_json({"time": round(time.time(), 3), "tree": tree}))
