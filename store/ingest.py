"""Directories taken into the store: disk → CAS, with a cache of what files looked like."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, TypeAlias

from store import stock
from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.errors import HostError, InputError, host_error
from store.index import Index, Table, Write, to_json
from store.objects import Directory, Entry, File, Link, Tree
from store.presence import Blob, present
from store.records import field, frozen
from store.seen import Seen
from store.trees import stays_inside

Signature: TypeAlias = tuple[int, int, int, int]
"""Modification and change time (ns), size (bytes) and inode: what changes when a file does."""

RACY_NS: Final = 50_000_000
"""A file changed less than this before it was looked at could change again within one tick of the
file system's clock and look the same: its signature is not believed."""

PORTION: Final = 512
"""Names of a directory that are looked at before they are taken in."""


_Found: TypeAlias = tuple[str, os.stat_result]
"""A name, and what is there."""

MOST_UNWRITTEN: Final = 16
MOST_REREAD: Final = 1 << 20
"""Files, and bytes of them together, up to which what changed in a directory is read again each
time: to write down what hundreds of others look like takes longer."""


signature: Final[Callable[[os.stat_result], Signature]] = attrgetter(
    "st_mtime_ns", "st_ctime_ns", "st_size", "st_ino"
)
"""What gives the signature of a file from its stat result."""


@frozen
class Snapshot:
    """A directory as it was when it was ingested.

    What was `seen` tells later whether something changed since. `whole` is the tree, None where it
    was only followed (`follow.py`), and something had changed.
    """

    root: str
    whole: Digest | None
    seen: Seen = field(repr=False)
    taken_ns: int = 0

    @property
    def files(self) -> Mapping[str, Entry]:
        """Every entry but directories by relative path."""
        return self.seen.files

    @property
    def stats(self) -> Mapping[str, Signature]:
        """The signatures of all entries and of all directories, the directory itself as `""`."""
        return self.seen.marks

    @property
    def tree(self) -> Digest:
        """The tree of all that was in it; not to be asked for where that was only followed."""
        assert self.whole is not None
        return self.whole

    def first_changed(self, paths: Iterable[str]) -> str | None:
        """Return the absolute path of the first entry, of those at the relative `paths`, that is
        not what was ingested, None if all are."""
        root, marks = self.root, self.stats
        for path in paths:
            try:
                if signature(os.lstat(f"{root}/{path}")) == marks[path]:
                    continue
            except OSError:
                pass
            return f"{root}/{path}"
        return None


def ingest_directory(
    cas: Cas, index: Index, root: str, exclude: Callable[[str], bool] = lambda path: False
) -> Snapshot:
    """Store the directory at the absolute path `root`, less what `exclude` says of relative paths.

    Files whose signature is in the index are not read again. Raises InputError for what no tree can
    hold (device nodes, links that leave the directory, names that are not UTF-8) and for files that
    change while they are read.
    """
    try:
        walker = _Walker(cas, index, root, exclude, trusting=True)
        tree = walker.directory("")
        if not present(cas, walker.believed):
            walker = _Walker(cas, index, root, exclude, trusting=False)
            tree = walker.directory("")
    except OSError as error:
        raise _unreadable(error) from error
    if walker.writes:
        index.later(walker.writes)  # it names files alone, which are there
    return Snapshot(root, tree, walker.seen, walker.now)


class _Walker:
    """One walk over a directory; collects the snapshot's parts and the stat cache's news.

    One that is `trusting` leaves it to the caller to see that the blobs that it believed in are
    still in the store: for all at once that is quicker.
    """

    def __init__(
        self, cas: Cas, index: Index, root: str, exclude: Callable[[str], bool], trusting: bool
    ) -> None:
        self.cas = cas
        self.index = index
        self.root = root
        self.exclude = exclude
        self.trusting = trusting
        self.believed: list[Blob] = []
        self.now = time.time_ns()
        self.seen = Seen()
        self.writes: list[Write] = []

    def directory(self, relative: str) -> Digest:
        """Store one directory and return its tree's digest."""
        path = f"{self.root}/{relative}" if relative else self.root
        self.seen.note(relative, signature(os.stat(path)), None)
        key = digest_bytes(os.fsencode(path))
        cached = _load(self.index.get(Table.STATS, key))
        fresh: dict[str, Any] = {}
        entries: dict[str, Entry] = {}
        for portion in self._listed(path, relative):
            files = self._files(path, portion, cached, fresh)
            for name, status in portion:
                inner = f"{relative}/{name}" if relative else name
                entry: File | Link | None = files.get(name)
                if entry is None:
                    if stat.S_ISDIR(status.st_mode):
                        entries[name] = Directory(self.directory(inner))
                        continue
                    entry = self._link(f"{path}/{name}", inner, status)
                if entry is not None:
                    entries[name] = entry
                    self.seen.note(inner, signature(status), entry)
        if fresh != cached and not _is_little(fresh, cached):
            row = to_json(fresh)
            stock.missed(stock.ROW, row)
            self.writes.append((Table.STATS, key, row))
        del cached, fresh  # with many files they are what takes most room
        return self.cas.put_tree(Tree(entries))

    def _listed(self, path: str, relative: str) -> Iterator[list[_Found]]:
        """Yield what is in a directory and not excluded, by name, in portions.

        It is closed meanwhile: neither thousands of results nor a handle for each level are held.
        """
        start = f"{relative}/" if relative else ""
        names = sorted(os.listdir(path))
        for first in range(0, len(names), PORTION):
            found: list[_Found] = []
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for name in names[first : first + PORTION]:
                    if self.exclude(f"{start}{name}"):
                        continue
                    if not name.isascii():
                        _check_utf8(name, path)
                    try:
                        found.append((name, os.stat(name, dir_fd=handle, follow_symlinks=False)))
                    except OSError as error:
                        error.filename = f"{path}/{name}"
                        raise
            finally:
                os.close(handle)
            yield found

    def _files(
        self, path: str, portion: list[_Found], cached: dict[str, Any], fresh: dict[str, Any]
    ) -> dict[str, File]:
        """Return the regular files of a portion, those that are not known taken in."""
        files: dict[str, File] = {}
        unread: list[_Found] = []
        for name, status in portion:
            if not stat.S_ISREG(status.st_mode):
                continue
            seen = cached.get(name)
            digest = _believed(seen, signature(status)) if seen else None
            if digest is not None:
                size, executable = status.st_size, bool(status.st_mode & stat.S_IXUSR)
                if self.trusting:
                    self.believed.append((digest, size, executable))
                if self.trusting or self.cas.has(digest):
                    fresh[name] = seen
                    files[name] = File(digest, size, executable)
                    continue
            unread.append((name, status))
        if unread:
            self._read(path, unread, files, fresh)
        return files

    def _read(
        self, path: str, unread: list[_Found], files: dict[str, File], fresh: dict[str, Any]
    ) -> None:
        """Take in what is not known."""
        read = self.cas.copy_all(
            [
                (f"{path}/{name}", status.st_size, bool(status.st_mode & stat.S_IXUSR))
                for name, status in unread
            ]
        )
        for (name, status), file in zip(unread, read, strict=True):
            mark = signature(status)
            if signature(os.lstat(f"{path}/{name}")) != mark:
                raise InputError(
                    f"{path}/{name}: changed while it was read",
                    "run the build again when it is at rest",
                )
            if max(mark[0], mark[1]) < self.now - RACY_NS:
                fresh[name] = [list(mark), file.digest]
            files[name] = file

    def _link(self, path: str, inner: str, status: os.stat_result) -> Link | None:
        """Take in a link; None for one into the store, which is none of a source."""
        if not stat.S_ISLNK(status.st_mode):
            raise InputError(
                f"{path}: not a file, directory or symbolic link",
                'leave it out with exclude = ["…"]',
            )
        target = os.readlink(path)
        if self.cas.is_inside(target):
            return None
        _check_utf8(target, path)
        if not stays_inside(inner, target):
            raise InputError(
                f"{path}: a symbolic link that leaves its source: {target}",
                'leave it out with exclude = ["…"], or copy what it points to',
            )
        return Link(target)


def _believed(row: Any, mark: Signature) -> Digest | None:
    """Return the digest in a row of the stat cache if it is of a file that looks like `mark`."""
    try:
        seen, digest = row
        return Digest(digest) if tuple(seen) == mark and isinstance(digest, str) else None
    except (TypeError, ValueError):
        return None


def _is_little(fresh: dict[str, Any], cached: dict[str, Any]) -> bool:
    """Say whether it costs less to read again what is not in the stat cache than to write a large
    directory's row anew."""
    news = [row[0][2] for name, row in fresh.items() if row is not cached.get(name)]
    few = min(MOST_UNWRITTEN, len(fresh) // 32)
    return len(news) <= few and sum(news) <= MOST_REREAD


def _load(data: bytes | None) -> dict[str, Any]:
    return stock.made(stock.ROW, data, data, lambda: parsed_row(data)) if data else {}


def parsed_row(data: bytes) -> dict[str, Any]:
    """Return what a row of the stat cache says; nothing where it is damaged."""
    try:
        value = json.loads(data)
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
