"""What was seen of a directory, packed: of thousands of files their signatures and digests would
take four times the memory as values of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, ValuesView
from typing import Any, Final, TypeAlias

from store.digest import Digest
from store.names import Names
from store.objects import Entry, File, Link

Mark: TypeAlias = tuple[int, int, int, int]
"""A signature, as `store.ingest` has it."""

_MARK: Final = struct.Struct("<qqqQ")
_ROW: Final = struct.Struct("<qB32s")
"""Size of a file's contents, kind, and the digest's bytes."""
_KIND: Final = _ROW.size - 33
_DIRECTORY, _PLAIN, _EXECUTABLE, _LINK = range(4)
_FORMS: Final = bytes.maketrans(bytes([_EXECUTABLE]), bytes([_PLAIN]))
"""What becomes executable, or no longer is, is a file as it was."""


class Seen:
    """What is in a directory, by relative path, and what it looks like; each is noted once."""

    def __init__(self) -> None:
        self.names = Names()
        self._marks: bytes | bytearray = bytearray()
        self._rows: bytes | bytearray = bytearray()
        self._links: dict[int, str] = {}

    @staticmethod
    def read(plain: Any, marks: bytes) -> Seen:
        """Return what `plain` gave, with these signatures."""
        seen = Seen()
        names, seen._rows, seen._links = plain
        seen.names, seen._marks = Names.read(names), marks
        return seen

    def plain(self) -> Any:
        """Return what is in it as plain values; signatures are not told."""
        return (self.names.plain(), self._rows, self._links)

    def note(self, path: str, mark: Mark, entry: File | Link | None) -> None:
        """Note what an entry looks like and what it is; None is a directory."""
        number = self.names.add(path)
        self._marks += _MARK.pack(*mark)
        match entry:
            case File():
                self._rows += _row(entry)
            case Link(target):
                self._links[number] = target
                self._rows += _ROW.pack(0, _LINK, b"")
            case _:
                self._rows += _ROW.pack(0, _DIRECTORY, b"")

    def renewed(self, marks: bytes, news: Mapping[int, File]) -> Seen:
        """Return the same names with other signatures, and other contents of some files."""
        seen = Seen()
        seen.names, seen._links = self.names, self._links
        seen._marks, seen._rows = marks, self._rows
        if news:
            seen._rows = rows = bytearray(self._rows)
            for number, file in news.items():
                rows[_ROW.size * number : _ROW.size * (number + 1)] = _row(file)
        return seen

    def is_file(self, number: int) -> bool:
        """Say whether an entry is a regular file."""
        return self._kind(number) in (_PLAIN, _EXECUTABLE)

    def is_directory(self, number: int) -> bool:
        """Say whether an entry is a directory."""
        return self._kind(number) == _DIRECTORY

    def entry(self, number: int) -> File | Link | None:
        """Return an entry; None is a directory."""
        size, kind, digest = _ROW.unpack_from(self._rows, _ROW.size * number)
        if kind == _DIRECTORY:
            return None
        if kind == _LINK:
            return Link(self._links[number])
        return File(Digest(digest.hex()), size, kind == _EXECUTABLE)

    def mark(self, number: int) -> Mark:
        """Return the signature of an entry."""
        return mark_at(self._marks, number)

    def packed_marks(self) -> bytes:
        """Return all signatures in a row."""
        return bytes(self._marks)

    def unlike(self, other: Seen) -> set[str] | None:
        """Return the paths whose contents are others there; None where names, or kinds, are."""
        kinds, others = self._kinds(), other._kinds()
        if self.names.plain() != other.names.plain():
            return None
        if kinds.translate(_FORMS) != others.translate(_FORMS):
            return None
        step = _ROW.size
        starts = range(0, len(self._rows), step)
        mine, theirs = self._rows, other._rows
        changed = {at // step for at in starts if mine[at : at + step] != theirs[at : at + step]}
        changed |= {n for n, target in self._links.items() if other._links[n] != target}
        return {self.names[number] for number in changed}

    @property
    def files(self) -> Mapping[str, Entry]:
        """Everything but directories, each made when it is asked for."""
        return _Files(self)

    @property
    def marks(self) -> Mapping[str, Mark]:
        """The signatures of everything."""
        return _Marks(self)

    def _kinds(self) -> bytes:
        return bytes(self._rows[_KIND :: _ROW.size])

    def _kind(self, number: int) -> int:
        return self._rows[_ROW.size * number + _KIND]


def unpacked(marks: bytes) -> Iterator[Mark]:
    """Yield the signatures that `packed_marks` gave."""
    return _MARK.iter_unpack(marks)


def mark_at(marks: bytes | bytearray, number: int) -> Mark:
    """Return one of the signatures that `packed_marks` gave."""
    modified, changed, size, inode = _MARK.unpack_from(marks, _MARK.size * number)
    return (modified, changed, size, inode)


def replace(marks: bytearray, number: int, mark: Mark) -> None:
    """Put another signature in the place of one."""
    _MARK.pack_into(marks, _MARK.size * number, *mark)


def _row(file: File) -> bytes:
    kind = _EXECUTABLE if file.executable else _PLAIN
    return _ROW.pack(file.size, kind, bytes.fromhex(file.digest))


class _Files(Mapping[str, Entry]):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def __getitem__(self, path: str) -> Entry:
        number = self._seen.names.find(path)
        entry = None if number < 0 else self._seen.entry(number)
        if entry is None:
            raise KeyError(path)
        return entry

    def __contains__(self, path: object) -> bool:
        number = self._seen.names.find(path) if isinstance(path, str) else -1
        return number >= 0 and not self._seen.is_directory(number)

    def __iter__(self) -> Iterator[str]:
        kinds = self._seen._kinds()
        return (name for name, kind in zip(self._seen.names, kinds, strict=True) if kind)

    def __len__(self) -> int:
        return len(self._seen.names) - self._seen._kinds().count(_DIRECTORY)


class _Marks(Mapping[str, Mark]):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def __getitem__(self, path: str) -> Mark:
        number = self._seen.names.find(path)
        if number < 0:
            raise KeyError(path)
        return self._seen.mark(number)

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen.names)

    def __len__(self) -> int:
        return len(self._seen.names)

    def values(self) -> ValuesView[Mark]:
        return _Values(self._seen)


class _Values(ValuesView[Mark]):
    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.marks)
        self._seen = seen

    def __iter__(self) -> Iterator[Mark]:
        return unpacked(self._seen.packed_marks())
