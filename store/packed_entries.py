"""The entries of large trees in some 70 bytes each: values of their own would take four times that.

Names, digests and sizes stand one after another.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from json.encoder import encode_basestring as quoted
from typing import Final

from store.digest import Digest
from store.entry import Directory, Entry, File, Link
from store.errors import IntegrityError
from store.names import Names

_LENGTH: Final = 32
_PLAIN, _EXECUTABLE, _DIRECTORY, _LINK = range(4)
_KINDS: Final = 4
_NO_DIGEST: Final = bytes(_LENGTH)
_LARGEST: Final = 1 << 60
"""Bytes that no file has."""

_TEXT: Final = rb'"(?:[^"\\\x00-\x1f]|\\.)*"'
_ENTRY: Final = (
    rb"(,?)(" + _TEXT + rb'):\{(?:("executable":true,)?"file":"([0-9a-f]{64})","size":'
    rb'(0|[1-9][0-9]*)|"tree":"([0-9a-f]{64})"|"link":(' + _TEXT + rb"))\}"
)
"""A pattern that takes half a millisecond to compile: where it is asked for, `re` keeps it."""


class PackedEntries(Mapping[str, Entry]):
    """Entries by name; each is made when it is asked for."""

    def __init__(self) -> None:
        self._names = Names()
        self._digests = bytearray()
        self._sizes = array("q")
        """Sizes times `_KINDS`, and kinds."""
        self._links: dict[int, str] = {}

    @staticmethod
    def of(entries: Mapping[str, Entry]) -> PackedEntries:
        """Return entries packed."""
        packed = PackedEntries()
        for name, entry in entries.items():
            packed._append(name, entry)
        return packed

    @staticmethod
    def parsed(text: bytes, begin: int, end: int) -> PackedEntries | None:
        """Return the entries whose canonical JSON, as `tree.1` has it, is a part of `text`; None
        where it is none."""
        packed = PackedEntries()
        match = re.compile(_ENTRY).match
        place, comma = begin, b""
        while place < end:
            found = match(text, place, end)
            if found is None or found[1] != comma or not packed._take(found):
                return None
            place, comma = found.end(), b","
        return packed

    def __getitem__(self, name: str) -> Entry:
        number = self._names.find(name)
        if number < 0:
            raise KeyError(name)
        return self._entry(number)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._names.find(name) >= 0

    def __iter__(self) -> Iterator[str]:
        return map(self._names.__getitem__, self._names.sorted())

    def __len__(self) -> int:
        return len(self._names)

    def items(self) -> ItemsView[str, Entry]:
        """Return names with entries, in the order of the names."""
        return _Items(self)

    def values(self) -> ValuesView[Entry]:
        """Return the entries, in the order of the names."""
        return _Values(self)

    def rows(self) -> Iterator[tuple[str, Entry]]:
        """Yield names with entries, in the order of the names."""
        names = self._names
        return ((names[number], self._entry(number)) for number in names.sorted())

    def setdefault(self, name: str, entry: Entry) -> Entry:
        """Return what has that name; where nothing has, it is `entry` from now on."""
        number = self._names.find(name)
        if number >= 0:
            return self._entry(number)
        self._append(name, entry)
        return entry

    def __setitem__(self, name: str, entry: Directory) -> None:
        """Put another directory in the place of one. Raises KeyError where there is none."""
        number = self._names.find(name)
        if number < 0 or self._sizes[number] % _KINDS != _DIRECTORY:
            raise KeyError(name)
        self._digests[_LENGTH * number : _LENGTH * (number + 1)] = bytes.fromhex(entry.digest)

    # inside

    def _entry(self, number: int) -> Entry:
        size, kind = divmod(self._sizes[number], _KINDS)
        if kind == _LINK:
            return Link(self._links[number])
        digest = Digest(self._digests[_LENGTH * number : _LENGTH * (number + 1)].hex())
        return Directory(digest) if kind == _DIRECTORY else File(digest, size, kind == _EXECUTABLE)

    def _append(self, name: str, entry: Entry) -> None:
        number = self._names.add(name)
        match entry:
            case File(digest, size, executable):
                if size > _LARGEST:
                    raise IntegrityError(f"a tree holds a file of {size} bytes")
                kind = _EXECUTABLE if executable else _PLAIN
                self._note(bytes.fromhex(digest), size * _KINDS + kind)
            case Directory(digest):
                self._note(bytes.fromhex(digest), _DIRECTORY)
            case Link(target):
                self._links[number] = target
                self._note(_NO_DIGEST, _LINK)

    def _note(self, digest: bytes, size: int) -> None:
        self._digests += digest
        self._sizes.append(size)

    def _take(self, found: re.Match[bytes]) -> bool:
        """Note an entry that was read; say whether it is canonical and stands where it should."""
        _, name, executable, file, size, tree, link = found.groups()
        key = _plain(name)
        if key is None or not self._names.follows(key):
            return False
        if key in (b"", b".", b"..") or b"/" in key or b"\0" in key:
            return False
        if link is not None:
            target = _plain(link)
            if not target or b"\0" in target:
                return False
            self._append(key.decode(), Link(target.decode()))
            return True
        if tree is not None:
            self._note(bytes.fromhex(tree.decode()), _DIRECTORY)
        else:
            number = int(size)
            if number > _LARGEST:
                return False
            kind = _EXECUTABLE if executable else _PLAIN
            self._note(bytes.fromhex(file.decode()), number * _KINDS + kind)
        self._names.add_bytes(key)
        return True


class _Items(ItemsView[str, Entry]):
    def __init__(self, entries: PackedEntries) -> None:
        super().__init__(entries)
        self._entries = entries

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return self._entries.rows()


class _Values(ValuesView[Entry]):
    def __init__(self, entries: PackedEntries) -> None:
        super().__init__(entries)
        self._entries = entries

    def __iter__(self) -> Iterator[Entry]:
        return (entry for _, entry in self._entries.rows())


def _plain(text: bytes) -> bytes | None:
    """Return what a JSON string says; None where it is not UTF-8 or written in another way."""
    bare = text[1:-1]
    try:
        if b"\\" not in text:
            return bare if bare.isascii() or bare.decode() else b""
        said: str = json.loads(text)
        return said.encode() if quoted(said).encode() == text else None
    except ValueError:
        return None
