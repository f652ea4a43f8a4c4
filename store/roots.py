"""Roots: what the collector keeps with all that it consists of."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from store.digest import Digest, digest_bytes, is_digest
from store.index import Index, Table, Write, to_json
from store.records import frozen

ARTIFACT: Final = "artifact/"
LINK: Final = "link/"
IMPORT: Final = "import/"
REPLAY: Final = "replay/"
LONGEST: Final = 500
"""Bytes of a path that fit into a key."""


@frozen
class Root:
    """A root: `artifact/NAME` (what a build called it last), `link/PATH` (a link to a result),
    `import/NAME` (what came out of an archive) or `replay/NAME` (both outputs of an action that
    came out otherwise when it was replayed).

    `time` is in seconds since 1970. A link is a root while it still leads to the tree; `path` is
    there where it does not fit into a key.
    """

    key: str
    tree: Digest
    time: float
    path: str | None = None

    @property
    def name(self) -> str:
        """The artifact's name, or the link's path."""
        return self.path or self.key.partition("/")[2]

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
    path = str(link)
    try:
        if len(path.encode()) <= LONGEST:
            return _write(f"{LINK}{path}", tree)
    except UnicodeEncodeError:
        pass
    return _write(f"{LINK}{digest_bytes(os.fsencode(path))}", tree, path)


def import_root(name: str, tree: Digest) -> Write:
    """Return the write that makes what was imported under `name` a root."""
    return _write(f"{IMPORT}{name}", tree)


def replay_root(label: str, which: str, tree: Digest) -> Write:
    """Return the write that keeps a step's outputs, those that were `which`: recorded, replayed."""
    return _write(
        f"{REPLAY}{digest_bytes(label.encode())[:16]}/{which}", tree, f"{label} ({which})"
    )


def roots(index: Index) -> Iterator[Root]:
    """Yield all roots, live or not, by key."""
    for key, data in index.items(Table.ROOTS):
        root = root_of(key, data)
        if root is not None:
            yield root


def root_of(key: str, data: bytes) -> Root | None:
    """Return the root in an entry of the table of roots; None where it is damaged."""
    try:
        row = json.loads(data)
        if is_digest(row["tree"]):
            return Root(key, Digest(row["tree"]), float(row["time"]), row.get("path"))
    except (ValueError, KeyError, TypeError):
        pass
    return None


def _write(key: str, tree: Digest, path: str | None = None) -> Write:
    row = {"time": round(time.time(), 3), "tree": tree}
    return (Table.ROOTS, key, to_json(row | {"path": path} if path else row))
