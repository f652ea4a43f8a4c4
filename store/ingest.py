"""Directories taken into the store: disk → CAS, with a cache of what files looked like."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from attrs import field, frozen

from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.errors import HostError, InputError, host_error
from store.index import Index, Table, Write, to_json
from store.objects import Directory, Entry, File, Link, Tree
from store.trees import stays_inside

Signature: TypeAlias = tuple[int, int, int, int]
"""Modification and change time (ns), size (bytes) and inode: what changes when a file does."""

RACY_NS: Final = 50_000_000
"""A file changed less than this before it was looked at could change again within one tick of the
file system's clock and look the same: its signature is not believed."""


def signature(status: os.stat_result) -> Signature:
    """Return the signature of a file from its stat result."""
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


@frozen
class Snapshot:
    """A directory as it was when it was ingested.

    `files` has every entry but directories by relative path; `stats` the signatures of all entries
    and of all directories (the directory itself is `""`), to notice that something changed since.
    """

    root: str
    tree: Digest
    files: Mapping[str, Entry]
    stats: Mapping[str, Signature] = field(repr=False)
    taken_ns: int = 0

    def changed(self, path: str) -> bool:
        """Say whether the entry at the relative `path` is not what was ingested."""
        try:
            return signature(os.lstat(f"{self.root}/{path}")) != self.stats[path]
        except OSError:
            return True


def ingest_directory(
    cas: Cas, index: Index, root: str, exclude: Callable[[str], bool] = lambda path: False
) -> Snapshot:
    """Store the directory at the absolute path `root`, less what `exclude` says of relative paths.

    Files whose signature is in the index are not read again. Raises InputError for what no tree can
    hold (device nodes, links that leave the directory, names that are not UTF-8) and for files that
    change while they are read.
    """
    walker = _Walker(cas, index, root, exclude)
    try:
        tree = walker.directory("")
    except OSError as error:
        raise _unreadable(error) from error
    index.write(walker.writes) if walker.writes else None
    return Snapshot(root, tree, walker.files, walker.stats, walker.now)


class _Walker:
    """One walk over a directory; collects the snapshot's parts and the stat cache's news."""

    def __init__(self, cas: Cas, index: Index, root: str, exclude: Callable[[str], bool]) -> None:
        self.cas = cas
        self.index = index
        self.root = root
        self.exclude = exclude
        self.now = time.time_ns()
        self.files: dict[str, Entry] = {}
        self.stats: dict[str, Signature] = {}
        self.writes: list[Write] = []

    def directory(self, relative: str) -> Digest:
        """Store one directory and return its tree's digest."""
        path = f"{self.root}/{relative}" if relative else self.root
        self.stats[relative] = signature(os.stat(path))
        key = digest_bytes(os.fsencode(path))
        cached = _load(self.index.get(Table.STATS, key))
        fresh: dict[str, list[object]] = {}
        entries: dict[str, Entry] = {}
        with os.scandir(path) as listing:
            found = sorted(listing, key=lambda item: item.name)
        for item in found:
            name = f"{relative}/{item.name}" if relative else item.name
            if self.exclude(name):
                continue
            _check_utf8(item.name, path)
            if item.is_dir(follow_symlinks=False):
                entries[item.name] = Directory(self.directory(name))
                continue
            entry = self._entry(item, name, cached, fresh)
            if entry is not None:
                entries[item.name] = self.files[name] = entry
        if fresh != cached:
            self.writes.append((Table.STATS, key, to_json(fresh)))
        return self.cas.put_tree(Tree(entries))

    def _entry(
        self,
        item: os.DirEntry[str],
        name: str,
        cached: Mapping[str, list[object]],
        fresh: dict[str, list[object]],
    ) -> Entry | None:
        status = item.stat(follow_symlinks=False)
        mark = signature(status)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(item.path)
            if self.cas.is_inside(target):
                return None
            _check_utf8(target, item.path)
            if not stays_inside(name, target):
                raise InputError(
                    f"{item.path}: a symbolic link that leaves its source: {target}",
                    'leave it out with exclude = ["…"], or copy what it points to',
                )
            self.stats[name] = mark
            return Link(target)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(
                f"{item.path}: not a file, directory or symbolic link",
                'leave it out with exclude = ["…"]',
            )
        self.stats[name] = mark
        executable = bool(status.st_mode & stat.S_IXUSR)
        match cached.get(item.name):
            case [list(seen), str(digest)] if tuple(seen) == mark and self.cas.has(Digest(digest)):
                fresh[item.name] = [seen, digest]
                return File(Digest(digest), status.st_size, executable)
        file = self.cas.copy_in(item.path, status.st_size, executable)
        if signature(os.lstat(item.path)) != mark:
            raise InputError(
                f"{item.path}: changed while it was read", "run the build again when it is at rest"
            )
        if max(mark[0], mark[1]) < self.now - RACY_NS:
            fresh[item.name] = [list(mark), file.digest]
        return file


def _load(data: bytes | None) -> dict[str, list[object]]:
    try:
        value = json.loads(data) if data else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _check_utf8(name: str, directory: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name)
        raise InputError(
            f"{directory}: the name {shown!r} is not UTF-8", "rename the file, or exclude it"
        ) from None


def _unreadable(error: OSError) -> InputError | HostError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError)):
        reason = (error.strerror or "cannot be read").lower()
        return InputError(f"{error.filename}: {reason}", "a source must be there and readable")
    return host_error(error, "cannot ingest")
