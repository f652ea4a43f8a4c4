"""Nodes of the view: files, links and directories of trees, with their numbers and attributes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from attrs import define, field, frozen
from blake3 import blake3

from store.cas import EPOCH_NS, Cas, MissingBlob
from store.digest import Digest
from store.errors import BnError, IntegrityError
from store.objects import Directory as TreeEntry
from store.objects import Entry, File, Link, Tree

ROOT_INODE: Final = 1
FILE_MODE: Final = stat.S_IFREG | 0o444
EXECUTABLE_MODE: Final = stat.S_IFREG | 0o555
DIRECTORY_MODE: Final = stat.S_IFDIR | 0o555
LINK_MODE: Final = stat.S_IFLNK | 0o777


@frozen
class Attributes:
    """What stat(2) says; `size` in bytes, `mtime` in nanoseconds since 1970.

    `lasting` attributes never change while the inode is the same.
    """

    mode: int
    size: int
    mtime: int = EPOCH_NS[0]
    lasting: bool = True


class Node(Protocol):
    """Something with an inode; two nodes that are equal may share it."""

    @property
    def inode(self) -> int: ...
    def attributes(self) -> Attributes:
        """Return what stat(2) says of it now."""
        ...


class OpenNode(Node, Protocol):
    """A regular file."""

    def near(self) -> bool:
        """Say whether `open` will not have to fetch the bytes from a slow tier."""
        ...

    def open(self) -> int:
        """Return a file descriptor on the bytes, which stay readable whatever becomes of them in
        the store. Raises MissingBlob and OSError."""
        ...


class DirectoryNode(Node, Protocol):
    """A directory. `lasting` ones never change: neither what they hold nor what they do not."""

    @property
    def lasting(self) -> bool: ...
    @property
    def parent(self) -> int: ...
    def near(self, name: str | None = None) -> bool:
        """Say whether `child` (or `children`) will not have to fetch anything."""
        ...

    def child(self, name: str) -> Node | None:
        """Return the node of that name; raises IntegrityError where the store lost this one."""
        ...

    def children(self) -> Iterable[tuple[str, Node]]:
        """Yield what is listed, in an order that stays the same; raises as `child` does."""
        ...


def inode_number(*parts: object) -> int:
    """Return the inode (63 bits, over 1) of what `parts` identify: the same in every mount."""
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake3(text).digest()[:8], "big") % (2**63 - 2) + 2


@frozen
class BlobFile:
    """A blob as a file. Equal files share one inode wherever they are, so the kernel caches their
    pages once."""

    cas: Cas = field(eq=False, repr=False)
    inode: int
    file: File

    def attributes(self) -> Attributes:
        """Return what stat(2) says."""
        return Attributes(EXECUTABLE_MODE if self.file.executable else FILE_MODE, self.file.size)

    def near(self) -> bool:
        """Say whether the blob is on a fast tier."""
        return self.cas.is_near(self.file.digest)

    def open(self) -> int:
        """Return a descriptor of the blob; one that somebody changed in place is quarantined, and
        raises MissingBlob."""
        handle = self._open_intact()
        if handle is None:
            self.cas.has(self.file.digest)  # finds what is wrong and sets it aside
            handle = self._open_intact()
        if handle is None:
            raise MissingBlob(self.file.digest, "has another size than its tree says")
        return handle

    def _open_intact(self) -> int | None:
        handle = self.cas.open(self.file.digest)
        status = os.fstat(handle)
        if status.st_size == self.file.size and status.st_mtime_ns == EPOCH_NS[0]:
            return handle
        os.close(handle)
        return None


def blob_file(cas: Cas, file: File) -> BlobFile:
    """Return the node of a file in a tree."""
    return BlobFile(cas, inode_number("file", file.digest, file.size, file.executable), file)


def sized_blob(cas: Cas, digest: Digest) -> BlobFile:
    """Return the node of a blob of which only the digest is known. Raises MissingBlob."""
    handle = cas.open(digest)
    try:
        return blob_file(cas, File(digest, os.fstat(handle).st_size))
    finally:
        os.close(handle)


@frozen
class DocumentFile:
    """A file whose bytes are made from a stored object."""

    inode: int
    data: bytes = field(repr=False)

    def attributes(self) -> Attributes:
        """Return what stat(2) says."""
        return Attributes(FILE_MODE, len(self.data))

    def near(self) -> bool:
        """Say yes: the bytes are here."""
        return True

    def open(self) -> int:
        """Return a descriptor on the bytes in memory."""
        handle = os.memfd_create("bn-document", os.MFD_CLOEXEC)
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(self.data)
        os.lseek(handle, 0, os.SEEK_SET)
        return handle


@frozen
class LiveFile:
    """A file on disk that may grow while it is looked at."""

    inode: int
    path: str

    def attributes(self) -> Attributes:
        """Return what stat(2) says now. Raises OSError."""
        status = os.stat(self.path)
        return Attributes(FILE_MODE, status.st_size, status.st_mtime_ns, lasting=False)

    def near(self) -> bool:
        """Say yes: it is on the store's own file system."""
        return True

    def open(self) -> int:
        """Return a descriptor of the file. Raises OSError."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


@frozen
class LinkNode:
    """A symbolic link; equal ones share one inode."""

    inode: int
    target: str

    def attributes(self) -> Attributes:
        """Return what lstat(2) says."""
        return Attributes(LINK_MODE, len(os.fsencode(self.target)))


@define(eq=False)
class TreeDirectory:
    """A tree as a directory. Its inode belongs to its path: the kernel wants each directory to have
    one place."""

    cas: Cas = field(repr=False)
    inode: int
    parent: int
    digest: Digest
    lasting: bool = True
    _entries: Mapping[str, Entry] | None = field(default=None, init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TreeDirectory):
            return NotImplemented
        return (self.inode, self.digest) == (other.inode, other.digest)

    __hash__ = None  # type: ignore[assignment]

    def attributes(self) -> Attributes:
        """Return what stat(2) says."""
        return Attributes(DIRECTORY_MODE, 0)

    def near(self, name: str | None = None) -> bool:
        """Say whether the tree is known or on a fast tier."""
        return self._entries is not None or self.cas.is_near(self.digest)

    def child(self, name: str) -> Node | None:
        """Return the node of that name. Raises IntegrityError where the tree is gone."""
        entry = self._load().get(name)
        return None if entry is None else self._node(name, entry)

    def children(self) -> Iterable[tuple[str, Node]]:
        """Yield all entries by name. Raises as `child` does."""
        entries = self._load()
        return [(name, self._node(name, entries[name])) for name in sorted(entries)]

    def _load(self) -> Mapping[str, Entry]:
        if self._entries is None:
            self._entries = load_tree(self.cas, self.digest).entries
        return self._entries

    def _node(self, name: str, entry: Entry) -> Node:
        match entry:
            case File():
                return blob_file(self.cas, entry)
            case TreeEntry(digest):
                inode = inode_number("tree", self.inode, name, digest)
                return TreeDirectory(self.cas, inode, self.inode, digest)
            case Link(target):
                return LinkNode(inode_number("link", target), target)


def load_tree(cas: Cas, digest: Digest) -> Tree:
    """Return a tree; raises IntegrityError where it is gone or is none."""
    try:
        return cas.get_tree(digest)
    except BnError:
        raise
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"tree {digest} cannot be read: {error}") from None
