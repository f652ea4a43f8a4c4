"""What an import looked at on this machine, kept: while all of it is as it was, so is the tree."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from operator import attrgetter, eq
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from engine.memo import memo_path, read_memo, write_memo
from store.digest import Digest
from store.errors import BnError
from store.follow import NOTHING
from store.ingest import RACY_NS, Signature, signature
from store.objects import Directory
from store.presence import blobs_under, present
from store.records import frozen
from store.store import Store

if TYPE_CHECKING:
    from engine.spec.model import ToolchainSpec
    from engine.toolchains.host import Host

KIND: Final = "toolchain"
FORMAT: Final = "1"
"""Another one wherever the same files would be taken otherwise, or the memo has another form."""

ABSENT: Final[Signature] = (0, 0, 0, 0)

AT_A_TIME: Final = 128
"""Things that are looked at at a time: that takes less than a millisecond."""

_IDENTITY: Final = attrgetter("st_dev", "st_ino")

Looked: TypeAlias = tuple[dict[str, Signature], list[tuple[str, int, int]]]
"""The signature of everything that was asked for, absent things too; of directories that were only
passed through, which change with whatever else is in them, their place, device and inode."""


@frozen(eq=False)
class Known:
    """The tree of a toolchain, what is watched for it, which did not change, and all that was
    looked at."""

    tree: Digest
    watched: Mapping[str, Signature]
    looked: Looked

    def look(self) -> Iterator[bool]:
        """Look at all that is not watched, some things for each value that is yielded: False where
        one is not as it was."""
        marks, directories = self.looked
        marks = {place: mark for place, mark in marks.items() if place not in self.watched}
        yield all(mark_of(place) == ABSENT for place, mark in marks.items() if mark == ABSENT)
        there = [place for place, mark in marks.items() if mark != ABSENT]
        passed = [place for place, _, _ in directories]
        identities = [(device, inode) for _, device, inode in directories]
        for places, look, wanted in (
            (there, signature, [marks[place] for place in there]),
            (passed, _IDENTITY, identities),
        ):
            for first in range(0, len(places), AT_A_TIME):
                some = slice(first, first + AT_A_TIME)
                try:
                    yield all(map(eq, map(look, map(os.lstat, places[some])), wanted[some]))
                except OSError:
                    yield False


def recall(
    store: Store, path: str, doubt: bool = True, told: Mapping[str, Signature] = NOTHING
) -> Known | None:
    """Return the toolchain whose memo is at `path`, if nothing of what is watched changed and its
    blobs are here, which is taken for granted unless there is `doubt`. Files that the caller was
    `told` of look like that. Whether all else is as it was is for the caller to `look`."""
    memo: Any = read_memo(path)
    if memo is None:
        return None
    tree, watched, marks, directories, blobs = memo
    seen = {place: marks[place] for place in watched}
    if any((told.get(place) or mark_of(place)) != mark for place, mark in seen.items()):
        return None
    if not present(store.cas, blobs if doubt else [one for one in blobs if one[1] < 0]):
        return None
    return Known(tree, seen, (marks, directories))


def marks_of(host: Host, before: Mapping[str, Signature]) -> Looked:
    """Return what was looked at on this machine, `before` of which was looked at first of all."""
    marks, directories = {**before}, []
    for path, status in host.seen.items():
        if status is None:
            marks.setdefault(path, ABSENT)
        elif not stat.S_ISDIR(status.st_mode):
            marks.setdefault(path, signature(status))
        elif path not in marks:
            directories.append((path, status.st_dev, status.st_ino))
    return marks, directories


class Memory:
    """The memo of one toolchain's import, at `path`."""

    def __init__(self, store: Store, spec: ToolchainSpec, base: Path) -> None:
        self._store = store
        self._began = time.time_ns()
        from engine.toolchains.dpkg import admin_directory

        words = (*spec.debian, "", *spec.paths, "", *spec.exclude)
        place = (str(base.absolute()), admin_directory(), str(os.geteuid()))
        self.path = memo_path(store.root, KIND, FORMAT, *place, *words)

    def recall(self) -> Known | None:
        """Return the toolchain if nothing of what was looked at changed and its blobs are here."""
        known = recall(self._store, self.path)
        return known if known is not None and all(known.look()) else None

    def keep(self, tree: Digest, watched: tuple[str, ...], looked: Looked) -> None:
        """Keep what the import came to, unless something may still change without a trace."""
        marks, directories = looked
        if all(max(mark[0], mark[1]) < self._began - RACY_NS for mark in marks.values()):
            try:
                blobs = blobs_under(self._store.cas, Directory(tree))
            except BnError:
                return
            write_memo(self.path, (tree, watched, marks, directories, blobs))


def mark_of(path: str) -> Signature:
    """Return what is at `path` looks like, `ABSENT` where there is nothing."""
    try:
        return signature(os.lstat(path))
    except OSError:
        return ABSENT
