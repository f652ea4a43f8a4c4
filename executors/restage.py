"""Inputs staged over those of the action before: only what differs is touched."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from executors.kernel import lists_by_name
from store.alike import differing
from store.cas import EPOCH_NS, Cas
from store.digest import Digest
from store.materialise import materialise
from store.objects import Directory, Entry, File, Link, Tree
from store.packed_entries import PackedEntries
from store.records import define, field
from store.store import remove_tree

_Change: TypeAlias = tuple[str, Entry | None, Entry | None]
"""A name, and what it stands for in one tree and in the other."""


class Grown(Exception):
    """A directory keeps the size that it had with more entries: an action could see that."""


@define
class Stage:
    """Turns directories that hold one tree into directories that hold another.

    What comes out is what `materialise` would make, entries in sorted order included, because some
    file systems list them in an order that depends on it. `aside` is an empty directory on the
    same file system, `empty_size` the size of a directory that never held anything, in bytes;
    `in_place` says whether a file that takes another one's place is listed where that was.
    """

    cas: Cas
    aside: str
    empty_size: int
    in_place: bool = False
    _by_name: bool | None = None
    _numbers: itertools.count[int] = field(factory=itertools.count)

    @property
    def by_name(self) -> bool:
        """Whether it does not matter in which order names came. To find out takes 0.15 ms."""
        if self._by_name is None:
            self._by_name = lists_by_name(self.aside)
        return self._by_name

    def restage(self, path: str, old: Digest | None, new: Digest) -> None:
        """Make the directory `path`, which holds the tree `old` (None: it is not there), hold
        `new`. It is the same directory afterwards, so that what is bound to it stays bound.

        Raises Grown where that cannot be, and OSError, HostError and MissingBlob; then what is
        there is undefined.
        """
        if old == new:
            return
        if old is None:
            materialise(self.cas, new, path)
            return
        whole = self.cas.get_tree(old), self.cas.get_tree(new)
        if all(map(self._stays, self._changes(old, new, *whole))):
            self._change(path, self._changes(old, new, *whole))
        elif self.by_name and os.stat(path).st_size == self.empty_size:
            for name, was, entry in self._changes(old, new, *whole):
                if was is not None and not self._stays((name, was, entry)):
                    self._remove(f"{path}/{name}", was)
            self._change(path, self._changes(old, new, *whole))
            if os.stat(path).st_size != self.empty_size:
                raise Grown  # with the same entries and no gaps it may be smaller
        else:
            kept = self._empty(path, whole[0].entries, whole[1].entries)
            self._fill(path, whole[1], kept)

    def _change(self, path: str, changes: Iterable[_Change]) -> None:
        """Make changes to a directory from which what does not stay has been removed."""
        changed = False
        for name, was, entry in changes:
            place = f"{path}/{name}"
            if isinstance(entry, Directory) and isinstance(was, Directory):
                self._restage_below(place, was.digest, entry.digest)
                continue
            changed = True
            if isinstance(entry, File) and isinstance(was, File) and self.in_place:
                aside = f"{self.aside}/{next(self._numbers)}"
                self.cas.link_out(entry, aside)
                os.rename(aside, place)
            elif entry is not None:
                self._make(place, entry)
        if changed:
            os.utime(path, ns=EPOCH_NS)

    def _restage_below(self, path: str, old: Digest, new: Digest) -> None:
        try:
            self.restage(path, old, new)
        except Grown:
            remove_tree(path)
            materialise(self.cas, new, path)

    def _empty(
        self, path: str, before: Mapping[str, Entry], after: Mapping[str, Entry]
    ) -> dict[str, tuple[str, Digest]]:
        """Empty a directory; return where the directories that it keeps are, and what they hold."""
        kept = {}
        for name, entry in before.items():
            place = f"{path}/{name}"
            if isinstance(entry, Directory) and isinstance(after.get(name), Directory):
                aside = f"{self.aside}/{next(self._numbers)}"
                os.rename(place, aside)
                kept[name] = (aside, entry.digest)
            else:
                self._remove(place, entry)
        if os.stat(path).st_size != self.empty_size:
            for aside, _ in kept.values():
                remove_tree(aside)
            raise Grown
        return kept

    def _fill(
        self,
        path: str,
        after: Tree,
        kept: Mapping[str, tuple[str, Digest]],
    ) -> None:
        for name, entry in after.sorted():
            place = f"{path}/{name}"
            if isinstance(entry, Directory) and name in kept:
                aside, was = kept[name]
                os.rename(aside, place)
                self._restage_below(place, was, entry.digest)
            else:
                self._make(place, entry)
        os.utime(path, ns=EPOCH_NS)

    def _make(self, place: str, entry: Entry) -> None:
        """Make what an entry says where there is nothing."""
        match entry:
            case File():
                self.cas.link_out(entry, place)
            case Link(target):
                os.symlink(target, place)
                os.utime(place, ns=EPOCH_NS, follow_symlinks=False)
            case Directory(digest):
                materialise(self.cas, digest, place)

    def _remove(self, place: str, entry: Entry) -> None:
        """Remove what an entry says."""
        if isinstance(entry, Directory):
            remove_tree(place)
        else:
            os.unlink(place)

    def _changes(self, old: Digest, new: Digest, before: Tree, after: Tree) -> Iterator[_Change]:
        """Yield what differs between two trees."""
        was, now = before.entries, after.entries
        if isinstance(was, PackedEntries) and isinstance(now, PackedEntries):
            return differing(self.cas, old, new)
        names = now if was.keys() == now.keys() else was.keys() | now.keys()
        rows = ((name, was.get(name), now.get(name)) for name in names)
        return (row for row in rows if row[1] is not row[2] and row[1] != row[2])

    def _stays(self, change: _Change) -> bool:
        """Say whether a directory need not be emptied for this change to be made: it is one inside
        of a directory below, or of a file that can change in place."""
        _, was, now = change
        kinds = (Directory, File) if self.in_place else (Directory,)
        return type(was) is type(now) and isinstance(now, kinds)
