"""The pages of an LMDB file (format 0.9, 64 bits), checked: LMDB itself believes them.

Every page that the tables reach says what and where it is, lies within the file, and is reached
once; the lists of free pages name none of them. Layout after mdb.c: a page has a 16-byte header
(number, flags, bounds), then 2-byte offsets of its nodes; a node has its size or child, its flags,
and the size of its key.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final

BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
DIRTY: Final = 16
DATA: Final = "data.mdb"
"""The name of the file in its directory."""

BIG_DATA, SUB_TABLE = 1, 2
PAGE_SIZE: Final = mmap.PAGESIZE
"""Bytes of a page in files that were made here."""

NONE: Final = 2**64 - 1
MAGIC: Final = 0xBEEFC0DE

_HEADER: Final = struct.Struct("<QHHHH")
_NODE: Final = struct.Struct("<HHHH")
_META: Final = struct.Struct("<IIQQ48s48sQQ")
_TABLE: Final = struct.Struct("<IHHQQQQQ")
_NUMBER: Final = struct.Struct("<Q")


class DamagedPage(Exception):
    """A page that is not what it should be."""


def check_pages(path: str) -> None:
    """Check the file; raises DamagedPage. Nobody may write to it meanwhile."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _Pages(data).check()


def found_values(path: str, page_size: int = PAGE_SIZE) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values that stand in the file, however damaged it is: of all pages that look
    like leaves, in use or free. Nothing of it is sure."""
    with open(path, "rb") as file:
        data = file.read()
    for start in range(2 * page_size, len(data) - page_size + 1, page_size):
        page = data[start : start + page_size]
        _, _, kind, lower, upper = _HEADER.unpack_from(page)
        if kind & ~DIRTY != LEAF or not 16 <= lower <= upper <= page_size:
            continue
        for (offset,) in struct.iter_unpack("<H", page[16 : lower & ~1]):
            if not upper <= offset <= page_size - 8:
                continue
            low, high, flags, length = _NODE.unpack_from(page, offset)
            at, size = offset + 8 + length, low | high << 16
            if flags & BIG_DATA and at + 8 <= page_size:
                first = _NUMBER.unpack_from(page, at)[0] * page_size + 16
                yield page[offset + 8 : at], data[first : first + size]
            elif at + size <= page_size:
                yield page[offset + 8 : at], page[at : at + size]


def last_meta(path: str) -> tuple[int, bytes]:
    """Return the number of the last transaction, and what its first page says. Nobody may commit
    meanwhile. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return max((meta for _, meta in _metas(handle)), key=lambda meta: meta[0])
    finally:
        os.close(handle)


def go_back(path: str, transaction: int, meta: bytes) -> None:
    """Make a transaction the last one again, durably, given what its first page said. Nobody may
    have the file open. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for number, (start, _) in enumerate(_metas(handle)):
            shown = transaction if number == transaction % 2 else max(0, transaction - 1)
            os.pwrite(handle, meta[: -_NUMBER.size] + _NUMBER.pack(shown), start)
        os.fsync(handle)
    finally:
        os.close(handle)


def _metas(handle: int) -> list[tuple[int, tuple[int, bytes]]]:
    """Return where the descriptions in the two first pages are, the number of the transaction
    that each is of, and its bytes."""
    first = os.pread(handle, _META.size, 16)
    if len(first) < _META.size:
        raise OSError(errno.EIO, "the first page is cut off")
    size = struct.unpack_from("<I", _META.unpack(first)[4])[0]
    second = os.pread(handle, _META.size, size + 16)
    if len(second) < _META.size:
        raise OSError(errno.EIO, "the second page is cut off")
    return [
        (start, (_META.unpack(meta)[7], meta)) for start, meta in ((16, first), (size + 16, second))
    ]


class _Pages:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        metas = [_META.unpack_from(data, 16)]
        self._size = struct.unpack_from("<I", metas[0][4])[0]
        if self._size < 512 or self._size & (self._size - 1) or len(data) < 2 * self._size:
            raise DamagedPage("the first page is damaged")
        metas.append(_META.unpack_from(data, self._size + 16))
        if any(meta[0] != MAGIC for meta in metas):
            raise DamagedPage("the first pages are damaged")
        *_, free, main, self._last, _ = max(metas, key=lambda meta: int(meta[7]))
        self._free = _TABLE.unpack(free)[7]
        self._main = _TABLE.unpack(main)[7]
        self._seen: set[int] = set()

    def check(self) -> None:
        """Walk the table of free pages, and the main table with all that are in it."""
        free: set[int] = set()
        for key, value, flags in self._walk(self._free):
            if len(key) != 8 or flags & SUB_TABLE or len(value) % 8 or not value:
                raise DamagedPage("a list of free pages is damaged")
            count, *numbers = struct.unpack(f"<{len(value) // 8}Q", value)
            if count > len(numbers):
                raise DamagedPage("a list of free pages is damaged")
            listed = set(numbers[:count])
            if len(listed) != count or listed & free or any(n < 2 for n in listed):
                raise DamagedPage("a list of free pages is damaged")
            free |= listed
        for _, value, flags in self._walk(self._main):
            if flags & SUB_TABLE:
                if len(value) != _TABLE.size:
                    raise DamagedPage("a table is damaged")
                for _ in self._walk(_TABLE.unpack(value)[7]):
                    pass
        if self._seen & free or max(free, default=0) > self._last:
            raise DamagedPage("a page is in use and free")

    def _walk(self, root: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield key, value and flags of every entry below a page."""
        pending = [] if root == NONE else [root]
        while pending:
            number = pending.pop()
            start, kind, lower, upper = self._page(number)
            if kind not in (BRANCH, LEAF) or not 16 <= lower <= upper <= self._size:
                raise DamagedPage(f"page {number} is damaged")
            for (offset,) in struct.iter_unpack("<H", self._data[start + 16 : start + lower]):
                if not upper <= offset <= self._size - 8:
                    raise DamagedPage(f"page {number} is damaged")
                low, high, flags, length = _NODE.unpack_from(self._data, start + offset)
                key_end = offset + 8 + length
                if key_end > self._size:
                    raise DamagedPage(f"page {number} is damaged")
                if kind == BRANCH:
                    pending.append(low | high << 16 | flags << 32)
                    continue
                key = self._data[start + offset + 8 : start + key_end]
                yield key, self._value(start, key_end, low | high << 16, flags), flags

    def _value(self, start: int, at: int, size: int, flags: int) -> bytes:
        if flags & BIG_DATA:
            if at + 8 > self._size:
                raise DamagedPage("a value is damaged")
            number = _NUMBER.unpack_from(self._data, start + at)[0]
            first, kind, low, high = self._page(number)
            pages = low | high << 16
            if kind != OVERFLOW or not 16 + size <= pages * self._size:
                raise DamagedPage(f"page {number} is damaged")
            for following in range(number + 1, number + pages):
                self._take(following)
            return self._data[first + 16 : first + 16 + size]
        if at + size > self._size:
            raise DamagedPage("a value is damaged")
        return self._data[start + at : start + at + size]

    def _page(self, number: int) -> tuple[int, int, int, int]:
        """Return where a page starts, its kind and its bounds."""
        start: int = self._take(number)
        named, _, kind, lower, upper = _HEADER.unpack_from(self._data, start)
        if named != number:
            raise DamagedPage(f"page {number} says that it is page {named}")
        return start, kind, lower, upper

    def _take(self, number: int) -> int:
        """Note that a page is used and return where it starts."""
        if number in self._seen or not 2 <= number <= self._last:
            raise DamagedPage(f"page {number} is not one, or used twice")
        if (number + 1) * self._size > len(self._data):
            raise DamagedPage("the file is cut off")
        self._seen.add(number)
        return number * int(self._size)
