"""The kernel's side of FUSE: requests and replies as bytes (protocol 7.31 and later).

The layouts are those of linux/fuse.h, in the machine's byte order.
"""

from __future__ import annotations

import stat
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

from attrs import frozen

from fuse.nodes import Attributes


class Op(IntEnum):
    """What the kernel can ask; all else is refused with ENOSYS, and it asks no more."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    BATCH_FORGET = 42
    READDIRPLUS = 44


WRITES: Final = frozenset({4, 6, 8, 9, 10, 11, 12, 13, 16, 35, 43, 45, 47, 51})
"""SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK, WRITE, CREATE, FALLOCATE, RENAME2,
COPY_FILE_RANGE, TMPFILE: the kernel itself refuses them on a read-only mount."""

SILENT: Final = frozenset({Op.FORGET, Op.BATCH_FORGET, 41})
"""Requests that have no reply; 41 is NOTIFY_REPLY."""


class Opened(IntFlag):
    """What a reply to OPEN or OPENDIR allows the kernel."""

    NOTHING = 0
    KEEP_CACHE = 2
    CACHE_DIR = 8


HEADER: Final = Struct("=IIQQIIIHH")
"""Of a request: length, operation, unique, inode, uid, gid, pid, length of extensions, padding."""

REPLY: Final = Struct("=IiQ")
"""Of a reply: length, negative error number, unique."""

READ: Final = Struct("=QQI")
"""The beginning of a READ or READDIR: handle, offset, size."""

HANDLE: Final = Struct("=Q")
COUNT: Final = Struct("=I4x")
FORGOTTEN: Final = Struct("=QQ")
FLAGS: Final = Struct("=I")

_ATTRIBUTES: Final = Struct("=QQQQQQIIIIIIIIII")
_ENTRY: Final = Struct("=QQQQII")
_VALID: Final = Struct("=QII")
_OPENED: Final = Struct("=QII")
_STATFS: Final = Struct("=QQQQQIIII24x")
_NAME: Final = Struct("=QQII")

ENTRY_SIZE: Final = _ENTRY.size + _ATTRIBUTES.size
NAME_LONGEST: Final = 255


@frozen(slots=True)
class Request:
    """A request; `body` is what follows the header."""

    op: int
    unique: int
    inode: int
    body: memoryview


def parse(data: memoryview) -> Request:
    """Return the request in `data`."""
    _, op, unique, inode, *_ = HEADER.unpack_from(data)
    return Request(op, unique, inode, data[HEADER.size :])


def name_in(body: memoryview) -> bytes:
    """Return the name of a LOOKUP, which ends in NUL."""
    return bytes(body).partition(b"\0")[0]


def attributes(inode: int, found: Attributes, owner: tuple[int, int]) -> bytes:
    """Return the kernel's form of a node's attributes."""
    seconds, nanoseconds = divmod(found.mtime, 10**9)
    times = (seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds)
    blocks = (found.size + 511) // 512
    return _ATTRIBUTES.pack(inode, found.size, blocks, *times, found.mode, 1, *owner, 0, 4096, 0)


def entry(inode: int, valid: int, attributes_valid: int, packed: bytes) -> bytes:
    """Return an answer to LOOKUP: what the name stands for, and for how many seconds it and its
    attributes may be believed. Inode 0: for so long there is no such name."""
    return _ENTRY.pack(inode, 0, valid, attributes_valid, 0, 0) + packed


NO_ATTRIBUTES: Final = bytes(_ATTRIBUTES.size)


def attributes_reply(valid: int, packed: bytes) -> bytes:
    """Return an answer to GETATTR."""
    return _VALID.pack(valid, 0, 0) + packed


def opened(handle: int, allowed: Opened) -> bytes:
    """Return an answer to OPEN or OPENDIR."""
    return _OPENED.pack(handle, allowed, 0)


def listed(inode: int, mode: int, name: bytes, offset: int) -> bytes:
    """Return one line of an answer to READDIR; `offset` is where the next line is found."""
    line = _NAME.pack(inode, offset, len(name), stat.S_IFMT(mode) >> 12) + name
    return line + bytes(-len(line) % 8)


def statfs(blocks: tuple[int, int, int], files: tuple[int, int], size: tuple[int, int]) -> bytes:
    """Return an answer to STATFS: blocks, free and available ones; files and free ones; block and
    fragment size in bytes."""
    return _STATFS.pack(*blocks, *files, size[0], NAME_LONGEST, size[1], 0)
