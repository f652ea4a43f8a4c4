"""The kernel's side of FUSE: requests and replies as bytes.

The layouts are those of linux/fuse.h, in the machine's byte order.
"""

from __future__ import annotations

import functools
import operator
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
    INIT = 26
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


MAJOR: Final = 7
MINOR: Final = 31, 40
"""The oldest minor version of the protocol that will do, and the newest that is known here."""


class Wish(IntFlag):
    """What is asked for in the reply to INIT, of what the kernel offers there."""

    ASYNC_READ = 1 << 0
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    INIT_EXT = 1 << 30
    PASSTHROUGH = 1 << 37


class Opened(IntFlag):
    """What a reply to OPEN or OPENDIR allows the kernel."""

    NOTHING = 0
    KEEP_CACHE = 2
    CACHE_DIR = 8
    NO_FLUSH = 32
    PASSTHROUGH = 128


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

BACKING_OPEN: Final = 0x4010E501
BACKING_CLOSE: Final = 0x4004E502
"""The ioctls that tell the kernel of a file from which it may read by itself, and end that."""

BACKING: Final = Struct("=iI8x")
BACKING_ID: Final = Struct("=I")

PAGES: Final = 256
"""The most that one READ asks for, in pages."""

SMALLEST_BUFFER: Final = 65536
"""Bytes that a request fits into: nothing is written, so names are the longest that comes."""

_INIT: Final = Struct("=IIII")
_INIT_MORE: Final = Struct("=I")
_INIT_REPLY: Final = Struct("=IIIIHHIIHHII24x")
_BACKGROUND: Final = 64
_LARGEST_WRITE: Final = 4096
_STACKED: Final = 1

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


def greeting(body: memoryview) -> tuple[bytes, Wish]:
    """Return the answer to INIT, and what was agreed on.

    Raises ValueError where the kernel is too old.
    """
    major, minor, read_ahead, flags = _INIT.unpack_from(body)
    if (major, minor) < (MAJOR, MINOR[0]):
        raise ValueError(f"the kernel speaks FUSE {major}.{minor}, needed is {MAJOR}.{MINOR[0]}")
    if major > MAJOR:  # it asks again, in our version
        return _INIT_REPLY.pack(MAJOR, *[0] * 11), Wish(0)
    if flags & Wish.INIT_EXT:
        flags |= _INIT_MORE.unpack_from(body, _INIT.size)[0] << 32
    agreed = functools.reduce(operator.or_, Wish) & Wish(flags)
    reply = _INIT_REPLY.pack(
        MAJOR,
        min(minor, MINOR[1]),
        read_ahead,
        agreed & 0xFFFFFFFF,
        _BACKGROUND,
        _BACKGROUND * 3 // 4,
        _LARGEST_WRITE,
        1,
        PAGES,
        0,
        agreed >> 32,
        _STACKED if Wish.PASSTHROUGH in agreed else 0,
    )
    return reply, agreed


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


def opened(handle: int, allowed: Opened, backing: int = 0) -> bytes:
    """Return an answer to OPEN or OPENDIR; `backing` names the file for PASSTHROUGH."""
    return _OPENED.pack(handle, allowed, backing)


def listed(inode: int, mode: int, name: bytes, offset: int) -> bytes:
    """Return one line of an answer to READDIR; `offset` is where the next line is found."""
    line = _NAME.pack(inode, offset, len(name), stat.S_IFMT(mode) >> 12) + name
    return line + bytes(-len(line) % 8)


def statfs(blocks: tuple[int, int, int], files: tuple[int, int], size: tuple[int, int]) -> bytes:
    """Return an answer to STATFS: blocks, free and available ones; files and free ones; block and
    fragment size in bytes."""
    return _STATFS.pack(*blocks, *files, size[0], NAME_LONGEST, size[1], 0)
