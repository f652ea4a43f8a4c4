"""What was seen of a directory, packed: of thousands of files their signatures and digests would
take four times the memory as values of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, ValuesView
from typing import Final, TypeAlias

from store.digest import Digest
from store.names import Names
from store.objects import Entry, File, Link

Mark: TypeAlias = tuple[int, int, int, int]
"""A signature, as `store.ingest` has it."""

_ROW: Final = struct.Struct("<qqqQqB32s")
"""Signature, size of a file's contents, kind, and the digest's bytes."""
_KIND: Final = _ROW.size - 33
_DIRECTORY, _PLAIN, _EXECUTABLE, _LINK = range(4)


class Seen:
    """What is in a directory, by relative path; each is noted once."""

    def __init__(self) -> None:
        self.names = Names()
        self.rows = bytearray()
        self.links: dict[int, str] = {}

    def note(self, path: str, mark: Mark, entry: File | Link | None) -> None:
        """Note what an entry looks like and what it is; None is a directory."""
        number = self.names.add(path)
        match entry:
            case File(digest, size, executable):
                kind = _EXECUTABLE if executable else _PLAIN
                self.rows += _ROW.pack(*mark, size, kind, bytes.fromhex(digest))
            case Link(target):
                self.links[number] = target
                self.rows += _ROW.pack(*mark, 0, _LINK, b"")
            case _:
                self.rows += _ROW.pack(*mark, 0, _DIRECTORY, b"")

    def kind(self, number: int) -> int:
        """Return the kind of an entry."""
        return self.rows[_ROW.size * number + _KIND]

    @property
    def files(self) -> Mapping[str, Entry]:
        """Everything but directories, each made when it is asked for."""
        return _Files(self)

    @property
    def marks(self) -> Mapping[str, Mark]:
        """The signatures of everything."""
        return _Marks(self)


class _Files(Mapping[str, Entry]):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def __getitem__(self, path: str) -> Entry:
        seen = self._seen
        number = seen.names.find(path)
        if number < 0:
            raise KeyError(path)
        *_, size, kind, digest = _ROW.unpack_from(seen.rows, _ROW.size * number)
        if kind == _DIRECTORY:
            raise KeyError(path)
        if kind == _LINK:
            return Link(seen.links[number])
        return File(Digest(digest.hex()), size, kind == _EXECUTABLE)

    def __contains__(self, path: object) -> bool:
        number = self._seen.names.find(path) if isinstance(path, str) else -1
        return number >= 0 and self._seen.kind(number) != _DIRECTORY

    def __iter__(self) -> Iterator[str]:
        seen = self._seen
        numbers = range(len(seen.names))
        return (seen.names[number] for number in numbers if seen.kind(number) != _DIRECTORY)

    def __len__(self) -> int:
        seen = self._seen
        return len(seen.names) - seen.rows[_KIND :: _ROW.size].count(_DIRECTORY)


class _Marks(Mapping[str, Mark]):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def __getitem__(self, path: str) -> Mark:
        number = self._seen.names.find(path)
        if number < 0:
            raise KeyError(path)
        return self._mark(number)

    def __iter__(self) -> Iterator[str]:
        return (self._seen.names[number] for number in range(len(self)))

    def __len__(self) -> int:
        return len(self._seen.names)

    def values(self) -> ValuesView[Mark]:
        return _Values(self)

    def _mark(self, number: int) -> Mark:
        modified, changed, size, inode, *_ = _ROW.unpack_from(self._seen.rows, _ROW.size * number)
        return (modified, changed, size, inode)


class _Values(ValuesView[Mark]):
    def __init__(self, marks: _Marks) -> None:
        super().__init__(marks)
        self._marks = marks

    def __iter__(self) -> Iterator[Mark]:
        return map(self._marks._mark, range(len(self._marks)))
