"""The answers that the kernel gets: from a request's bytes to a reply's, without any waiting."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from attrs import define, frozen

from fuse import wire
from fuse.inodes import Inodes
from fuse.nodes import DIRECTORY_MODE, DirectoryNode, LinkNode, Node, OpenNode
from fuse.opened import OpenFiles
from fuse.wire import Op, Opened, Request
from store.errors import BnError

FOREVER: Final = 10 * 365 * 86400
"""Seconds for which the kernel may believe what cannot change."""

SOON: Final = 1
"""Seconds for which it may believe what can."""

LARGEST_READ: Final = 1 << 20

_TELLING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTDIR})

log = logging.getLogger(__name__)


@frozen
class Later:
    """A reply that needs something from a slow tier: `work` may run in a thread, and `then` makes
    the reply of what it gives."""

    work: Callable[[], Any]
    then: Callable[[Any], Payload]


Payload: TypeAlias = bytes | memoryview
Answer: TypeAlias = Payload | Later | None


class RefusedError(Exception):
    """The reply is an error number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@define(eq=False)
class _Reading:
    """A directory that somebody reads, as it was when they began."""

    node: DirectoryNode
    children: list[tuple[str, Node]] | None = None


class Answers:
    """What one mount answers. Descriptors of open files are held until they are released."""

    def __init__(self, top: DirectoryNode, statfs_of: Path) -> None:
        self._inodes = Inodes(top)
        self._statfs_of = statfs_of
        self._owner = (os.getuid(), os.getgid())
        self.files = OpenFiles()
        self.agreed = wire.Wish(0)
        self._reading: dict[int, _Reading] = {}
        self._last_handle = 0
        self._buffer = memoryview(bytearray(LARGEST_READ))
        self._table: dict[int, Callable[[Request], Answer]] = {
            Op.LOOKUP: self._lookup,
            Op.FORGET: self._forget,
            Op.GETATTR: self._getattr,
            Op.READLINK: self._readlink,
            Op.OPEN: self._open,
            Op.READ: self._read,
            Op.STATFS: self._statfs,
            Op.RELEASE: self._release,
            Op.INIT: self._greet,
            Op.OPENDIR: self._opendir,
            Op.READDIR: partial(self._readdir, plus=False),
            Op.RELEASEDIR: self._releasedir,
            Op.BATCH_FORGET: self._forget_many,
            Op.READDIRPLUS: partial(self._readdir, plus=True),
        }

    def answer(self, request: Request) -> Answer:
        """Return the reply's payload, or how to get it later; None where there is no reply.

        The payload must be sent before the next call. Raises what `error_number` understands.
        """
        method = self._table.get(request.op)
        if method is not None:
            return method(request)
        if request.op in wire.SILENT:
            return None
        raise RefusedError(errno.EROFS if request.op in wire.WRITES else errno.ENOSYS)

    def _greet(self, request: Request) -> Answer:
        reply, self.agreed = wire.greeting(request.body)
        return reply

    # names and attributes

    def _lookup(self, request: Request) -> Answer:
        directory = self._directory(request.inode)
        try:
            name = wire.name_in(request.body).decode()
        except UnicodeDecodeError:
            return self._found(directory, None)  # no tree can hold such a name
        work = partial(directory.child, name)
        if not directory.near(name):
            return Later(work, partial(self._found, directory))
        return self._found(directory, work())

    def _found(self, directory: DirectoryNode, node: Node | None) -> Payload:
        valid = FOREVER if directory.lasting else SOON
        if node is not None:
            found = self._entry(node, valid)
            self._inodes.tell(node)
            return found
        if not directory.lasting:
            raise RefusedError(errno.ENOENT)
        return wire.entry(0, valid, 0, wire.NO_ATTRIBUTES)

    def _entry(self, node: Node, valid: int) -> bytes:
        inode = self._inodes.number(node)
        found = node.attributes()
        packed = wire.attributes(inode, found, self._owner)
        return wire.entry(inode, valid, FOREVER if found.lasting else SOON, packed)

    def _getattr(self, request: Request) -> Answer:
        found = self._inodes[request.inode].attributes()
        packed = wire.attributes(request.inode, found, self._owner)
        return wire.attributes_reply(FOREVER if found.lasting else SOON, packed)

    def _readlink(self, request: Request) -> Answer:
        node = self._inodes[request.inode]
        if not isinstance(node, LinkNode):
            raise RefusedError(errno.EINVAL)
        return os.fsencode(node.target)

    def _forget(self, request: Request) -> Answer:
        (count,) = wire.HANDLE.unpack_from(request.body)
        self._inodes.forget([(request.inode, count)])
        return None

    def _forget_many(self, request: Request) -> Answer:
        (count,) = wire.COUNT.unpack_from(request.body)
        end = wire.COUNT.size + count * wire.FORGOTTEN.size
        self._inodes.forget(wire.FORGOTTEN.iter_unpack(request.body[wire.COUNT.size : end]))
        return None

    def _statfs(self, request: Request) -> Answer:
        found = os.statvfs(self._statfs_of)
        return wire.statfs(
            (found.f_blocks, found.f_bfree, found.f_bavail),
            (found.f_files, found.f_ffree),
            (found.f_bsize, found.f_frsize),
        )

    # files

    def _open(self, request: Request) -> Answer:
        (flags,) = wire.FLAGS.unpack_from(request.body)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise RefusedError(errno.EROFS)
        node = cast(OpenNode, self._inodes[request.inode])
        if not node.near():
            return Later(node.open, partial(self._opened, request.inode, node))
        return self._opened(request.inode, node, node.open())

    def _opened(self, inode: int, node: OpenNode, descriptor: int) -> Payload:
        return wire.opened(*self.files.add(inode, node, descriptor))

    def _read(self, request: Request) -> Answer:
        handle, offset, size = wire.READ.unpack_from(request.body)
        descriptor = self.files.descriptor(handle)
        if size > len(self._buffer):
            self._buffer = memoryview(bytearray(size))
        return self._buffer[: os.preadv(descriptor, [self._buffer[:size]], offset)]

    def _release(self, request: Request) -> Answer:
        self.files.release(*wire.HANDLE.unpack_from(request.body))
        return b""

    # directories

    def _directory(self, inode: int) -> DirectoryNode:
        node = self._inodes[inode]
        if not hasattr(node, "child"):
            raise RefusedError(errno.ENOTDIR)
        return cast(DirectoryNode, node)

    def _opendir(self, request: Request) -> Answer:
        node = self._directory(request.inode)
        self._last_handle += 1
        self._reading[self._last_handle] = _Reading(node)
        allowed = Opened.KEEP_CACHE | Opened.CACHE_DIR if node.lasting else Opened.NOTHING
        return wire.opened(self._last_handle, allowed)

    def _readdir(self, request: Request, plus: bool) -> Answer:
        handle, offset, size = wire.READ.unpack_from(request.body)
        reading = self._reading[handle]
        node = reading.node
        if reading.children is None or (offset == 0 and not node.lasting):
            work = partial(_children, node)
            if not node.near():
                return Later(work, partial(self._listed, reading, offset, size, plus))
            return self._listed(reading, offset, size, plus, work())
        return self._listed(reading, offset, size, plus, reading.children)

    def _listed(
        self,
        reading: _Reading,
        offset: int,
        size: int,
        plus: bool,
        children: list[tuple[str, Node]],
    ) -> Payload:
        """Return the lines from `offset` on that `size` bytes hold; 1 and 2 follow `.` and `..`."""
        reading.children = children
        reply = bytearray()
        for line, node in self._lines(reading.node, children, offset, plus):
            if len(reply) + len(line) > size:
                break
            reply += line
            if node is not None:
                self._inodes.tell(node)
        return bytes(reply)

    def _lines(
        self, directory: DirectoryNode, children: list[tuple[str, Node]], offset: int, plus: bool
    ) -> Iterator[tuple[bytes, Node | None]]:
        """Yield lines, with the node that the kernel is told of where it keeps a count."""
        blank = bytes(wire.ENTRY_SIZE) if plus else b""
        for index, name in ((0, b"."), (1, b"..")):
            if offset <= index:
                inode = directory.parent if index else directory.inode
                yield blank + wire.listed(inode, DIRECTORY_MODE, name, index + 1), None
        valid = FOREVER if directory.lasting else SOON
        for index in range(max(offset - 2, 0), len(children)):
            text, node = children[index]
            try:
                found = node.attributes()
            except OSError:
                continue  # it vanished meanwhile
            inode = self._inodes.number(node)
            line = wire.listed(inode, found.mode, os.fsencode(text), index + 3)
            if not plus:
                yield line, None
                continue
            packed = wire.attributes(inode, found, self._owner)
            lasting = FOREVER if found.lasting else SOON
            yield wire.entry(inode, valid, lasting, packed) + line, node

    def _releasedir(self, request: Request) -> Answer:
        self._reading.pop(*wire.HANDLE.unpack_from(request.body))
        return b""


def _children(node: DirectoryNode) -> list[tuple[str, Node]]:
    return list(node.children())


def error_number(error: BaseException) -> int:
    """Return what a client is told of an error; what nobody expected is logged."""
    match error:
        case RefusedError(number=number):
            return number
        case KeyError():
            return errno.ESTALE
        case OSError(errno=int(number)) if number in _TELLING:
            return number
        case OSError() | BnError():
            log.warning("%s", error)
        case _:
            log.error("cannot answer", exc_info=error)
    return errno.EIO
