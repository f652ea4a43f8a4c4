"""Build records: what was looked at when a build was up to date, so that the next one can say so
without evaluating anything.

A record belongs to one command line in one directory. It holds the signatures of every file and
directory that the answer depended on; while all of them are the same, so is the answer. Nothing
heavy is imported here, not even typing or pathlib: this is the whole of an up-to-date `bn build`.

::

    magic │ identity (16) │ length of head (8) │ head │ names │ marks
              digest of the head ──────────────────┘
    head    fields, NUL after each: digest of names and marks, length of names, directory,
            timeline, stdout, stderr, link, target, link, target, …
    names   paths with NUL between, relative to the directory where they are below it
    marks   for each name four integers of 8 bytes: modification and change time (ns), size, inode

The head is all that is read where a watcher vouches for the rest (`engine/watch`).
"""

from __future__ import annotations

import os
import sys
import time
from _blake2 import blake2b
from _operator import attrgetter, eq, length_hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

MAGIC = f"bn record 2 {sys.byteorder}\n".encode()
DIGEST = 16
"""Bytes of a digest in a record: it finds damage, and tells records apart."""

FIRST_READ = 1 << 16
"""Bytes that are read at first: nearly always more than the head."""

RENEW_SECONDS = 86400
"""Age from which a record and its timeline are touched when they are used."""

SIGNATURE = attrgetter("st_mtime_ns", "st_ctime_ns", "st_size", "st_ino")
"""What is compared of a file; the same as `store.ingest.signature`."""


class Record:
    """A record as it was read: what to print, and what has to be unchanged for that."""

    def __init__(self, data: bytes, read_more: Callable[[], bytes] = lambda: b"") -> None:
        """Take a record apart. Raises ValueError where it is damaged or of another form."""
        start = len(MAGIC) + DIGEST + 8
        if not data.startswith(MAGIC) or len(data) < start:
            raise ValueError("no record")
        end = start + int.from_bytes(data[start - 8 : start], sys.byteorder)
        if len(data) < end:
            data += read_more()
        head = data[start:end]
        self.identity = data[len(MAGIC) : len(MAGIC) + DIGEST]
        if _digest(head) != self.identity:
            raise ValueError("a damaged record")
        fields = head.decode("utf-8", "surrogateescape").split("\0")
        self._digest, length, self.directory, self.timeline, self.stdout, self.stderr = fields[:6]
        self._length = int(length)
        self.links = list(zip(fields[6:-1:2], fields[7:-1:2], strict=True))
        self._body = data[end:]

    def body(self, read_more: Callable[[], bytes]) -> tuple[list[bytes], memoryview]:
        """Return the names and the marks, four integers for each name.

        Raises ValueError where they are damaged.
        """
        body = self._body + read_more()
        if _digest(body).hex() != self._digest:
            raise ValueError("a damaged record")
        names = body[: self._length].split(b"\0") if self._length else []
        return names, memoryview(body)[self._length :].cast("q")


class Stale:
    """A record some of whose files are not as they were, as far as somebody has just found, and all
    others are."""

    def __init__(
        self, record: Record, names: Sequence[bytes], marks: Iterable[int], changed: Sequence[int]
    ) -> None:
        """`changed` are the numbers of the files that are not as they were. Raises ValueError where
        there are no such files."""
        if any(number >= len(names) for number in changed):
            raise ValueError("files that are not in the record")
        self._record, self._names, self._marks = record, names, marks
        self._changed = changed

    @property
    def will_run(self) -> bool:
        """Whether something will probably run. Specs and toolchains are TOML: of these, other words
        may say the same, and nothing runs."""
        return not all(self._names[number].endswith(b".toml") for number in self._changed)

    @property
    def identity(self) -> tuple[bytes, tuple[int, ...]]:
        """What tells of which record it is, and of which files."""
        return self._record.identity, tuple(self._changed)

    def paths(self) -> list[str]:
        """Return the absolute paths of the files that are not as they were."""
        start = self._record.directory
        return [os.path.join(start, os.fsdecode(self._names[n])) for n in self._changed]

    def others(self) -> dict[str, tuple[int, int, int, int]]:
        """Return what files look like that are as they were, by absolute path."""
        start = self._record.directory.rstrip("/")
        texts = os.fsdecode(b"\0".join(self._names)).split("\0")
        paths = [name if name.startswith("/") else f"{start}/{name}" for name in texts]
        one = iter(self._marks)
        found = dict(zip(paths, zip(one, one, one, one, strict=True), strict=True))
        for number in self._changed:
            found.pop(paths[number], None)
        return found


def record_path(store: str | Path, arguments: Sequence[str], directory: str = "") -> str:
    """Return where the record of a command line in a directory lies, by default the current one."""
    words = "\0".join([directory or os.getcwd(), *arguments]).encode("utf-8", "surrogateescape")
    return f"{store}/records/{_digest(words).hex()}"


def read_record(
    path: str | Path, ask: bool = True, tell: Callable[[Stale], object] = id
) -> Record | None:
    """Return the record at `path` if everything that it saw is still as it was, else None; then
    `tell` is told of the files that are not, where that is known.

    A watcher, where one runs, is asked about the files first, unless not to `ask`. A link to the
    result that is gone or leads elsewhere is made again.
    """
    path = os.fspath(path)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        record = Record(os.read(file, FIRST_READ), lambda: _rest(file))
        known = _watcher_says(path, record) if ask else None
        if known is None:
            names, marks = record.body(lambda: _rest(file))
            changed = changed_files(names, marks)
            known = not changed
            if changed:
                tell(Stale(record, names, marks, changed))
        if not known or not _linked(path, record):
            return None
        _renew(path, record.timeline)
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)
    return record


def changed_files(names: Sequence[bytes], marks: Iterable[int]) -> list[int]:
    """Return the numbers of the files that have other signatures than these, or are gone."""
    one, left = iter(marks), iter(names)
    seen = zip(one, one, one, one, strict=True)
    found = map(SIGNATURE, map(os.lstat, left))
    changed: list[int] = []
    while True:
        try:
            if all(map(eq, found, seen)):
                return changed
        except OSError:
            next(seen)  # of which nothing was taken
        changed.append(len(names) - length_hint(left) - 1)


def links_of(path: str | Path) -> list[tuple[str, str]]:
    """Return the links to results, with their targets, that the record at `path` tells of.

    Raises OSError and ValueError where it cannot be read.
    """
    with open(path, "rb") as file:
        return Record(file.read()).links


def write_record(
    path: str | Path,
    watched: Mapping[str, tuple[int, int, int, int]],
    links: Mapping[str, str],
    stdout: str,
    stderr: str,
    timeline: str | None = None,
) -> None:
    """Write a record: signatures by absolute path, links with their targets, what to print when
    nothing of that changed, and the path of the build's timeline."""
    from array import array
    from itertools import chain

    here = os.getcwd()
    below = here.rstrip("/") + "/"
    names = os.fsencode("\0".join([name.removeprefix(below) for name in watched]))
    body = names + array("q", chain.from_iterable(watched.values())).tobytes()
    fields = [_digest(body).hex(), str(len(names)), here, timeline or "", stdout, stderr]
    for link, target in links.items():
        fields += [link, target]
    if any("\0" in field for field in fields):
        raise ValueError("a NUL in what a build prints")
    head = "".join(f"{field}\0" for field in fields).encode("utf-8", "surrogateescape")
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(MAGIC + _digest(head) + len(head).to_bytes(8, sys.byteorder) + head + body)
    os.replace(temporary, path)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST).digest()


def _rest(file: int) -> bytes:
    """Return what is left to read of a file."""
    parts = []
    while part := os.read(file, max(FIRST_READ, os.fstat(file).st_size)):
        parts.append(part)
    return b"".join(parts)


def _watcher_says(path: str, record: Record) -> bool | None:
    """Return what a watcher knows of the record's files, None where there is none that knows."""
    store = os.path.dirname(os.path.dirname(path))
    if not os.path.lexists(f"{store}/watch/socket"):
        return None
    from engine.watch.ask import ask

    return ask(store, os.path.basename(path), record.identity)


def _linked(path: str, record: Record) -> bool:
    """Say whether the links lead to the result, made again where that is all that is amiss."""
    for link, target in record.links:
        try:
            if os.readlink(link) == target and os.path.isdir(target):
                continue
        except OSError:
            pass
        from engine.packages import find_packages

        find_packages()
        from engine.relink import relink

        if not relink(os.path.dirname(os.path.dirname(path)), link, target):
            return False
    return True


def _renew(*paths: str) -> None:
    """Note that the build is still current, so that the collector keeps what it is made of."""
    for path in paths:
        if path and time.time() - os.stat(path).st_mtime > RENEW_SECONDS:
            try:
                os.utime(path)
            except OSError:  # the store is read-only, say
                continue
