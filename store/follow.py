"""Directories followed: what a directory held when it was looked at last, and only what changed
since looked at anew.

Who walks a directory asks of each entry what it is; here all signatures are compared at once. A
directory that looks as before has the same names in it; of another one the names are listed again.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import ne
from typing import Any, Final, TypeAlias, overload

from store.cas import Cas
from store.ingest import MOST_REREAD, MOST_UNWRITTEN, RACY_NS, Signature, Snapshot, signature
from store.objects import Directory, Entry, File, Link
from store.records import frozen

Plain: TypeAlias = Any
"""A file as (digest, size, executable), a link as where it leads: see `engine/packer.py`."""

UNKNOWN: Final[Signature] = (0, 0, 0, 0)
"""The signature of what is looked at again whatever it looks like."""

NOTHING: Final[Mapping[str, Signature]] = {}
"""What somebody was told who was told nothing."""


class PlainFiles(Mapping[str, Entry]):
    """Entries by relative path that are made when they are asked for; those in `news` count more
    than those in `plain`."""

    def __init__(self, plain: Mapping[str, Plain], news: Mapping[str, Plain]) -> None:
        self.plain = plain
        self.news = news

    def __getitem__(self, path: str) -> Entry:
        return entry_of(self.news[path] if path in self.news else self.plain[path])

    def __contains__(self, path: object) -> bool:
        return path in self.plain

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)


def entry_of(plain: Plain) -> Entry:
    """Return the entry that was made plain."""
    if isinstance(plain, str):
        return Link(plain)
    return Directory(*plain) if len(plain) == 1 else File(*plain)


@frozen(eq=False)
class Look:
    """How a directory looked: the relative paths of all that was in it, directories included and
    itself, as "", the first, with their signatures. `news` are files that are not as they were in
    the first place, plain."""

    names: Sequence[str]
    marks: Sequence[Signature]
    news: Mapping[str, Plain]

    @classmethod
    def of(cls, snapshot: Snapshot) -> Look:
        """Return how a directory looked that was taken in."""
        stats, taken = snapshot.stats, snapshot.taken_ns
        marks = _Column(len(stats), lambda: (_settled(mark, taken) for mark in stats.values()))
        return cls(_Column(len(stats), lambda: iter(stats)), marks, {})


class _Column(Sequence[Any]):
    """Values that are made each time somebody goes through them."""

    def __init__(self, many: int, values: Callable[[], Iterator[Any]]) -> None:
        self._many = many
        self._values = values

    def __len__(self) -> int:
        return self._many

    def __iter__(self) -> Iterator[Any]:
        return self._values()

    @overload
    def __getitem__(self, number: int) -> Any: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Any]: ...

    def __getitem__(self, number: int | slice) -> Any:
        return list(self)[number]


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
    plain: Mapping[str, Plain],
    told: Mapping[str, Signature] = NOTHING,
) -> Followed | None:
    """Return the directory at the absolute path `root` as it is now, where it differs from `plain`,
    what was there in the first place, in the contents of files only; else None. The snapshot has no
    tree, and whether blobs that did not change are in the store is for the caller to see. Files
    that the caller was `told` of, by absolute path, look like that.

    Raises OSError, and BnError as `ingest_directory` does.
    """
    now = time.time_ns()
    names = look.names
    paths = [f"{root}/{name}" for name in names]
    paths[0] = root
    seen = chain((signature(os.stat(root)),), signatures(paths[1:], told))
    changed = [number for number, is_new in enumerate(map(ne, seen, look.marks)) if is_new]
    news = dict(look.news)
    reread = files = 0
    found = [*look.marks]
    marks = [*found]  # what is as it was may be believed as it was
    for number in changed:
        name, path = names[number], paths[number]
        status = os.lstat(path) if number else os.stat(path)
        found[number] = mark = signature(status)
        marks[number] = _settled(mark, now)
        if name in plain:
            if not stat.S_ISREG(status.st_mode) or isinstance(plain[name], str):
                return None
            file = cas.copy_in(path, status.st_size, bool(status.st_mode & stat.S_IXUSR))
            if signature(os.lstat(path)) != mark:
                return None
            news[name] = (file.digest, file.size, file.executable)
            reread, files = reread + file.size, files + 1
        elif not stat.S_ISDIR(status.st_mode) or not _same_names(cas, path, name, names, exclude):
            return None
    snapshot = Snapshot(
        root, None, PlainFiles(plain, news), dict(zip(names, found, strict=True)), now
    )
    is_much = files > MOST_UNWRITTEN or reread > MOST_REREAD
    return Followed(snapshot, Look(names, marks, news), is_much)


def signatures(paths: Sequence[str], told: Mapping[str, Signature]) -> Iterable[Signature]:
    """Return what files look like: as the caller was `told` by path, else as is seen now.

    Raises OSError.
    """
    if not told:
        return map(signature, map(os.lstat, paths))
    return [told.get(path) or signature(os.lstat(path)) for path in paths]


def _settled(mark: Signature, now: int) -> Signature:
    """Return a signature, `UNKNOWN` where a later change might look the same."""
    return mark if max(mark[0], mark[1]) < now - RACY_NS else UNKNOWN


def _same_names(
    cas: Cas, path: str, directory: str, names: Sequence[str], exclude: Callable[[str], bool]
) -> bool:
    """Say whether nothing came into a directory that belongs to its source."""
    start = f"{directory}/" if directory else ""
    known = {name[len(start) :] for name in names[1:] if name.startswith(start)}
    for name in os.listdir(path):
        if name in known or exclude(f"{start}{name}"):
            continue
        inner = f"{path}/{name}"
        if not os.path.islink(inner) or not cas.is_inside(os.readlink(inner)):
            return False
    return True
