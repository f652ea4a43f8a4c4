"""What was seen of a directory, packed: of thousands of files their signatures and digests would
take four times the memory as values of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from store.digest import Digest
from store.objects import Entry, File, Link

Mark: TypeAlias = tuple[int, int, int, int]
"""A signature, as `store.ingest` has it."""

_ROW: Final = struct.Struct("<qqqQqB")
"""Signature, size of a file's contents, kind; then the digest's bytes, or a link's target."""
_KIND: Final = _ROW.size - 1
_DIRECTORY, _PLAIN, _EXECUTABLE, _LINK = range(4)


class Seen:
    """What is in a directory, by relative path."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}

    def note(self, path: str, mark: Mark, entry: File | Link | None) -> None:
        """Note what an entry looks like and what it is; None is a directory."""
        match entry:
            case File(digest, size, executable):
                kind = _EXECUTABLE if executable else _PLAIN
                row = _ROW.pack(*mark, size, kind) + bytes.fromhex(digest)
            case Link(target):
                row = _ROW.pack(*mark, 0, _LINK) + target.encode()
            case _:
                row = _ROW.pack(*mark, 0, _DIRECTORY)
        self._rows[path] = row

    @property
    def files(self) -> Mapping[str, Entry]:
        """Everything but directories, each made when it is asked for."""
        return _Files(self._rows)

    @property
    def marks(self) -> Mapping[str, Mark]:
        """The signatures of everything."""
        return _Marks(self._rows)


class _Files(Mapping[str, Entry]):
    def __init__(self, rows: Mapping[str, bytes]) -> None:
        self._rows = rows

    def __getitem__(self, path: str) -> Entry:
        row = self._rows[path]
        kind, rest = row[_KIND], row[_ROW.size :]
        if kind == _DIRECTORY:
            raise KeyError(path)
        if kind == _LINK:
            return Link(rest.decode())
        return File(Digest(rest.hex()), _ROW.unpack_from(row)[4], kind == _EXECUTABLE)

    def __contains__(self, path: object) -> bool:
        row = self._rows.get(path) if isinstance(path, str) else None
        return row is not None and row[_KIND] != _DIRECTORY

    def __iter__(self) -> Iterator[str]:
        return (path for path, row in self._rows.items() if row[_KIND] != _DIRECTORY)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Marks(Mapping[str, Mark]):
    def __init__(self, rows: Mapping[str, bytes]) -> None:
        self._rows = rows

    def __getitem__(self, path: str) -> Mark:
        modified, changed, size, inode, *_ = _ROW.unpack_from(self._rows[path])
        return (modified, changed, size, inode)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
