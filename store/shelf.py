"""The shelf: large directories that were staged for an action, laid aside for the next build.

::

    staged/KEY/note     what tree it is, and what each of its directories looks like
    staged/KEY/tree/    hard links to blobs

Only a cache: whoever takes something up compares every directory first, and every file before
anything is believed that came of it: that takes longest, and can be done while the action runs.
Something is taken by one rename, so that two builds cannot have the same, nor a build and the
collector.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator
from operator import attrgetter, eq
from pathlib import Path
from typing import Final, TypeAlias

from store.alike import know_alike, same_names
from store.cas import EPOCH_NS, Cas
from store.digest import Digest
from store.errors import BnError
from store.objects import Directory, Entry, File, Link
from store.store import remove_tree

LARGE: Final = 256
"""Entries from which on a tree is worth while; to stage them takes some 5 ms."""

MOST: Final = 8
"""Trees that are kept; the one that was laid aside first goes."""

AT_A_TIME: Final = 512
"""Files of a directory that are looked at at a time: what thousands look like takes much room."""

_DIRECTORY: Final = "staged"

_FORM: Final = attrgetter("st_mtime_ns", "st_size")
_CHANGED: Final = attrgetter("st_ctime")

_Mark: TypeAlias = list[int]
"""Inode and change time: entries cannot come, go or change place without a later one."""


class Shelf:
    """The trees that lie aside in the primary tier of a store.

    `aside` is a directory on the same file system that only the caller uses, and removes.
    """

    def __init__(self, cas: Cas, aside: str) -> None:
        self._cas = cas
        self._aside = aside
        self._taken = 0

    def is_large(self, tree: Digest) -> bool:
        """Say whether a tree is worth being kept. Raises MissingBlob."""
        left, pending = LARGE, [tree]
        while pending:
            entries = self._cas.get_tree(pending.pop()).entries
            left -= len(entries)
            if left <= 0:
                return True
            pending += [one.digest for one in entries.values() if isinstance(one, Directory)]
        return False

    def has(self, key: str) -> bool:
        """Say whether something lies under `key`."""
        return os.path.lexists(_place(self._cas.root, key))

    def take(self, key: str, wanted: Digest, place: str) -> Digest | None:
        """Move what lies under `key` to the path `place` and return the tree that it holds, which
        has the names of `wanted`; None where there is nothing like it, or it has other entries.

        Whether somebody wrote to its files is to be asked (`is_as_left`) before anything is
        believed that came of them.
        """
        box = self._fetch(_place(self._cas.root, key))
        if box is None:
            return None
        try:
            with open(f"{box}/note", "rb") as file:
                held, marks = json.load(file)
            know_alike(self._cas, Digest(held), wanted)
            if not same_names(self._cas, Digest(held), wanted):
                return None
            if list(self._marks(f"{box}/tree", Digest(held))) != marks:
                return None
            os.rename(f"{box}/tree", place)
        except (BnError, OSError, ValueError, TypeError):
            return None
        return Digest(held)

    def is_as_left(self, path: str, tree: Digest) -> bool:
        """Say whether nobody wrote to the files of a tree at `path`, as is asked of a blob before
        it is linked to.

        Files that were not used lately do not count: a new link shows their use.
        """
        try:
            rows = self._cas.get_tree(tree).sorted()
            while some := list(itertools.islice(rows, AT_A_TIME)):
                inner = ((name, one) for name, one in some if isinstance(one, Directory))
                if not self._are_as_left(path, some) or not all(
                    self.is_as_left(f"{path}/{name}", one.digest) for name, one in inner
                ):
                    return False
        except (BnError, OSError):
            return False
        return True

    def put(self, key: str, path: str, tree: Digest) -> None:
        """Lay aside the directory `path`, which holds `tree`; where that fails it is not kept."""
        box = self._free()
        shelf = f"{self._cas.root}/{_DIRECTORY}"
        with contextlib.suppress(OSError, BnError):
            os.mkdir(box)
            os.rename(path, f"{box}/tree")
            marks = list(self._marks(f"{box}/tree", tree))
            with open(f"{box}/note", "w", encoding="ascii") as file:
                json.dump([tree, marks], file)
            with contextlib.suppress(FileExistsError):
                os.mkdir(shelf)
            self._fetch(f"{shelf}/{key}")
            os.rename(box, f"{shelf}/{key}")
            held = sorted(os.scandir(shelf), key=lambda one: one.stat().st_mtime_ns)
            for one in held[:-MOST]:
                self._fetch(one.path)

    def _fetch(self, path: str) -> str | None:
        """Take something off the shelf; return where it is now."""
        box = self._free()
        try:
            os.rename(path, box)
        except OSError:
            return None
        return box

    def _free(self) -> str:
        self._taken += 1
        return f"{self._aside}/box{self._taken}"

    def _marks(self, path: str, tree: Digest) -> Iterator[_Mark]:
        """Yield what the directories of a tree look like."""
        status = os.lstat(path)
        yield [status.st_ino, status.st_ctime_ns]
        for name, entry in self._cas.get_tree(tree).sorted():
            if isinstance(entry, Directory):
                yield from self._marks(f"{path}/{name}", entry.digest)

    def _are_as_left(self, path: str, some: Iterable[tuple[str, Entry]]) -> bool:
        """Say whether nobody wrote to some entries of a directory."""
        epoch = EPOCH_NS[0]
        sizes = {f"{path}/{n}": (epoch, one.size) for n, one in some if isinstance(one, File)}
        found = list(map(os.lstat, sizes))
        links = [f"{path}/{name}" for name, entry in some if isinstance(entry, Link)]
        return (
            all(map(eq, map(_FORM, found), sizes.values()))
            and min(map(_CHANGED, found), default=math.inf) >= self._cas.touch_before
            and all(os.lstat(link).st_mtime_ns == epoch for link in links)
        )


def clear_shelf(cas: Cas, root: Path) -> int:
    """Remove all that lies aside under a tier's root and return how many trees that were."""
    removed = 0
    try:
        names = os.listdir(root / _DIRECTORY)
    except OSError:
        return 0
    for name in names:
        temporary = cas.temporary()
        with contextlib.suppress(OSError):
            os.rename(_place(root, name), temporary)
            remove_tree(temporary)
            removed += 1
    return removed


def _place(root: Path, key: str) -> str:
    return f"{root}/{_DIRECTORY}/{key}"
