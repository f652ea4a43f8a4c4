"""Directories followed: what a directory held when it was looked at last, and only what changed
since looked at anew.

Who walks a directory asks of each entry what it is; here all signatures are compared at once. A
directory that looks as before has the same names in it; of another one the names are listed again.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from operator import ne
from typing import Final

from store.cas import Cas
from store.digest import Digest
from store.ingest import MOST_REREAD, MOST_UNWRITTEN, RACY_NS, Signature, Snapshot, signature
from store.objects import File
from store.records import frozen
from store.seen import Seen, mark_at, replace, unpacked

UNKNOWN: Final[Signature] = (0, 0, 0, 0)
"""The signature of what is looked at again whatever it looks like."""

NOTHING: Final[Mapping[str, Signature]] = {}
"""What somebody was told who was told nothing."""


@frozen(eq=False)
class Look:
    """How a directory looked: the signatures of all that was in it, packed, in the order of what
    was seen in the first place. `news` are files that are not as they were then, by number."""

    marks: bytes
    news: Mapping[int, tuple[Digest, int, bool]]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Look:
        """Return how a directory looked that was taken in."""
        return cls(_settled(snapshot.seen.packed_marks(), snapshot.taken_ns), {})


@frozen(eq=False)
class Followed:
    """What came of following: the directory as it is now, how it looked, and whether so much had to
    be read that it is better to remember that look."""

    snapshot: Snapshot
    look: Look
    is_much: bool


def follow(
    cas: Cas,
    root: str,
    exclude: Callable[[str], bool],
    look: Look,
    first: Seen,
    told: Mapping[str, Signature] = NOTHING,
) -> Followed | None:
    """Return the directory at the absolute path `root` as it is now, where it differs from what was
    seen there at `first` in the contents of files only; else None. The snapshot has no tree, and
    whether blobs that did not change are in the store is for the caller to see. Files that the
    caller was `told` of, by absolute path, look like that.

    Raises OSError, and BnError as `ingest_directory` does.
    """
    now = time.time_ns()
    paths = (f"{root}/{name}" if name else root for name in first.names)
    seen = chain((signature(os.stat(next(paths))),), signatures(paths, told))
    differ = map(ne, seen, unpacked(look.marks))
    changed = [number for number, is_new in enumerate(differ) if is_new]
    news = dict(look.news)
    reread = files = 0
    found = bytearray(look.marks)
    for number in changed:
        name = first.names[number]
        path = f"{root}/{name}" if name else root
        status = os.lstat(path) if name else os.stat(path)
        mark = signature(status)
        replace(found, number, mark)
        if first.is_file(number):
            if not stat.S_ISREG(status.st_mode):
                return None
            file = cas.copy_in(path, status.st_size, bool(status.st_mode & stat.S_IXUSR))
            if signature(os.lstat(path)) != mark:
                return None
            news[number] = (file.digest, file.size, file.executable)
            reread, files = reread + file.size, files + 1
        elif not (
            first.is_directory(number)
            and stat.S_ISDIR(status.st_mode)
            and _same_names(cas, path, name, first.names, exclude)
        ):
            return None
    marks = bytes(found)
    fresh = {number: File(*plain) for number, plain in news.items()}
    snapshot = Snapshot(root, None, first.renewed(marks, fresh), now)
    is_much = files > MOST_UNWRITTEN or reread > MOST_REREAD
    return Followed(snapshot, Look(_settled(marks, now, changed), news), is_much)


def signatures(paths: Iterable[str], told: Mapping[str, Signature]) -> Iterable[Signature]:
    """Return what files look like: as the caller was `told` by path, else as is seen now.

    Raises OSError.
    """
    if not told:
        return map(signature, map(os.lstat, paths))
    return (told.get(path) or signature(os.lstat(path)) for path in paths)


def _settled(marks: bytes, now: int, numbers: Iterable[int] | None = None) -> bytes:
    """Return signatures, `UNKNOWN` in place of those where a later change might look the same; of
    those with these `numbers` alone, if there are some."""
    limit = now - RACY_NS
    of = (
        enumerate(unpacked(marks)) if numbers is None else ((n, mark_at(marks, n)) for n in numbers)
    )
    racy = [number for number, mark in of if max(mark[0], mark[1]) >= limit]
    if not racy:
        return marks
    settled = bytearray(marks)
    for number in racy:
        replace(settled, number, UNKNOWN)
    return bytes(settled)


def _same_names(
    cas: Cas, path: str, directory: str, names: Iterable[str], exclude: Callable[[str], bool]
) -> bool:
    """Say whether nothing came into a directory that belongs to its source."""
    start = f"{directory}/" if directory else ""
    known = {name[len(start) :] for name in names if name.startswith(start)}
    for name in os.listdir(path):
        if name in known or exclude(f"{start}{name}"):
            continue
        inner = f"{path}/{name}"
        if not os.path.islink(inner) or not cas.is_inside(os.readlink(inner)):
            return False
    return True
