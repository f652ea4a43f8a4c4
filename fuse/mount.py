"""The adapter between the view and the kernel: the only importer of pyfuse3."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

import pyfuse3
import trio
from attrs import define

from fuse.inodes import Inodes, Known
from fuse.nodes import DirectoryNode, LinkNode, LiveFile, Node, OpenNode
from fuse.points import device_of
from fuse.turns import Turns
from store.errors import BnError, HostError

FOREVER: Final = 10 * 365 * 86400.0
"""Seconds for which the kernel may believe what cannot change."""

SOON: Final = 1.0
"""Seconds for which it may believe what can."""

READ_AHEAD_KB: Final = 1024
LARGEST_READ: Final = 1 << 20
LISTINGS_KEPT: Final = 200_000
"""Entries of directories that are kept ready to be listed again."""

_PASSED_ON: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTDIR})

log = logging.getLogger(__name__)

Given = TypeVarTuple("Given")
Value = TypeVar("Value")
Record = Known[pyfuse3.EntryAttributes]
Listing = list[tuple[bytes, Record]]


@define(eq=False)
class _OpenDirectory:
    """A directory that somebody reads, as it was when they began."""

    node: DirectoryNode
    listing: Listing | None = None


class _Adapter(pyfuse3.Operations):
    """Answers the kernel. What is not here is refused with ENOSYS, and the kernel asks no more:
    extended attributes, flush, fsync. Writing never gets here: the mount is read-only."""

    supports_dot_lookup = False

    def __init__(self, top: DirectoryNode, statfs_of: Path, turns: Turns) -> None:
        super().__init__()
        self._owner = (os.getuid(), os.getgid())
        self._statfs_of = statfs_of
        self._turns = turns
        self._inodes: Inodes[pyfuse3.EntryAttributes] = Inodes(top, self._describe)
        self._directories: dict[int, _OpenDirectory] = {}
        self._last_handle = 0
        self._listings: OrderedDict[int, Listing] = OrderedDict()
        self._listed = 0
        self._buffer = memoryview(bytearray(LARGEST_READ))
        self._absent = pyfuse3.EntryAttributes()
        self._absent.st_ino = 0
        self._absent.entry_timeout = FOREVER

    def _describe(self, node: Node, inode: int) -> pyfuse3.EntryAttributes:
        found = node.attributes()
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = found.mode
        entry.st_size = found.size
        entry.st_blocks = (found.size + 511) // 512
        entry.st_uid, entry.st_gid = self._owner
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = found.mtime
        entry.attr_timeout = FOREVER if found.lasting else SOON
        return entry

    async def _run(self, near: bool, function: Callable[[*Given], Value], *given: *Given) -> Value:
        """Call a function, in a thread where it may have to fetch something."""
        if near:
            return function(*given)
        return await self._turns.elsewhere(function, *given)

    # names and attributes

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        directory = self._directory(parent_inode)
        try:
            text = name.decode()
            node = await self._run(directory.near(text), directory.child, text)
            if node is not None:
                known = self._inodes.of(node)
                self._inodes.told(known)
                known.entry.entry_timeout = FOREVER if directory.lasting else SOON
                return known.entry
        except UnicodeDecodeError:
            pass  # a name that no tree can hold
        except Exception as error:
            raise _fault(error) from None
        if directory.lasting:
            return self._absent
        raise pyfuse3.FUSEError(errno.ENOENT)

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        try:
            known = self._inodes[inode]
            if isinstance(known.node, LiveFile):
                known.entry = self._describe(known.node, inode)
        except Exception as error:
            raise _fault(error) from None
        return known.entry

    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        try:
            node = self._inodes[inode].node
        except KeyError as error:
            raise _fault(error) from None
        if not isinstance(node, LinkNode):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return os.fsencode(node.target)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self._inodes.forget(inode_list)

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        found = os.statvfs(self._statfs_of)
        data = pyfuse3.StatvfsData()
        for name in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail"):
            setattr(data, f"f_{name}", getattr(found, f"f_{name}"))
        data.f_namemax = 255
        return data

    # files

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise pyfuse3.FUSEError(errno.EROFS)
        try:
            node: OpenNode = self._inodes[inode].node  # type: ignore[assignment]
            handle = await self._run(node.near(), node.open)
        except Exception as error:
            raise _fault(error) from None
        return pyfuse3.FileInfo(fh=handle, keep_cache=not isinstance(node, LiveFile))

    async def read(self, fh: int, off: int, size: int) -> memoryview:  # type: ignore[override]
        # One buffer for all: pyfuse3 replies from it before anything else can happen.
        try:
            return self._buffer[: os.preadv(fh, [self._buffer[:size]], off)]
        except OSError as error:
            raise _fault(error) from None

    async def release(self, fh: int) -> None:
        os.close(fh)

    # directories

    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        self._last_handle += 1
        self._directories[self._last_handle] = _OpenDirectory(self._directory(inode))
        return self._last_handle

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        try:
            directory = self._directories[fh]
            if directory.listing is None or (start_id == 0 and not directory.node.lasting):
                directory.listing = await self._listing(directory.node)
            self._reply(directory.listing, start_id, token, directory.node.lasting)
        except Exception as error:
            raise _fault(error) from None

    async def releasedir(self, fh: int) -> None:
        del self._directories[fh]

    def _directory(self, inode: int) -> DirectoryNode:
        try:
            return self._inodes[inode].node  # type: ignore[return-value]
        except KeyError as error:
            raise _fault(error) from None

    def _reply(
        self, listing: Listing, start: int, token: pyfuse3.ReaddirToken, lasting: bool
    ) -> None:
        current, told, reply = self._inodes.current, self._inodes.told, pyfuse3.readdir_reply
        timeout = FOREVER if lasting else SOON
        for index in range(start, len(listing)):
            name, kept = listing[index]
            known = current(kept)
            known.entry.entry_timeout = timeout
            if not reply(token, name, known.entry, index + 1):
                break
            if index > 1:  # of `.` and `..` the kernel keeps no count
                told(known)

    async def _listing(self, node: DirectoryNode) -> Listing:
        """Return a directory's entries, `.` and `..` first; what never changes is made once."""
        listing = self._listings.get(node.inode) if node.lasting else None
        if listing is not None:
            self._listings.move_to_end(node.inode)
            return listing
        children = await self._run(node.near(), lambda: list(node.children()))
        listing = [(b".", self._inodes[node.inode]), (b"..", self._inodes[node.parent])]
        for name, child in children:
            try:
                listing.append((os.fsencode(name), self._inodes.of(child)))
            except OSError:
                continue  # it vanished meanwhile
        if node.lasting:
            self._keep(node.inode, listing)
        return listing

    def _keep(self, inode: int, listing: Listing) -> None:
        self._listings[inode] = listing
        self._listed += len(listing)
        while self._listed > LISTINGS_KEPT and len(self._listings) > 1:
            self._listed -= len(self._listings.popitem(last=False)[1])


def _fault(error: Exception) -> pyfuse3.FUSEError:
    """Return the error number that tells a client what happened; what nobody expected is logged."""
    match error:
        case pyfuse3.FUSEError():
            return error
        case KeyError():
            return pyfuse3.FUSEError(errno.ESTALE)
        case AttributeError():
            pass
        case OSError(errno=int(number)) if number in _PASSED_ON:
            return pyfuse3.FUSEError(number)
        case OSError() | BnError():
            log.warning("%s", error)
            return pyfuse3.FUSEError(errno.EIO)
    log.error("cannot answer", exc_info=error)
    return pyfuse3.FUSEError(errno.EIO)


def serve(
    top: DirectoryNode,
    directory: Path,
    statfs_of: Path,
    *,
    allow_other: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Mount `top` at `directory` and serve it until it is unmounted, or SIGTERM or SIGINT comes.

    `ready` is called when the mount can be used. Raises HostError where it cannot be mounted.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    turns = Turns()
    options = {"default_permissions", f"fsname=bn-{os.getpid()}", "ro", "subtype=bn"}
    if allow_other:
        options.add("allow_other")
    pyfuse3.trio = turns.as_trio()  # type: ignore[attr-defined]
    try:
        pyfuse3.init(_Adapter(top, statfs_of, turns), str(directory), options)
    except RuntimeError as error:
        hint = "see bn doctor; only root may use --allow-other unless user_allow_other is set"
        raise HostError(f"{directory}: cannot mount: {error}", hint) from error
    try:
        trio.run(_serve, directory, ready)
    finally:
        pyfuse3.close(unmount=True)


async def _serve(directory: Path, ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_terminate_on_signal)
        nursery.start_soon(_announce, directory, ready)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


async def _terminate_on_signal() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            pyfuse3.terminate()


async def _announce(directory: Path, ready: Callable[[], None]) -> None:
    """Wait for the kernel's first words, which settle how far it reads ahead; then have it read
    further, where that is allowed, and say that all is ready."""
    await trio.to_thread.run_sync(os.stat, directory, abandon_on_cancel=True)
    device = device_of(directory)
    try:
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KB))
    except OSError as error:
        log.info("reading ahead stays as it is: %s", error)
    ready()
