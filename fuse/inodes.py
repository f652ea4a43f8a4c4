"""The inodes that the kernel knows, and how often it has been told of each."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define

from fuse.nodes import Node


@define(eq=False)
class Known:
    """A node with its inode in this mount, and how often the kernel was told of it."""

    node: Node
    inode: int
    told: int = 0


class Inodes:
    """Nodes by inode, kept while the kernel knows them."""

    def __init__(self, root: Node) -> None:
        self._root = Known(root, root.inode, 1)
        self._known = {root.inode: self._root}

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, inode: int) -> Node:
        """Return what has that inode; raises KeyError where the kernel knows none."""
        return self._known[inode].node

    def number(self, node: Node) -> int:
        """Return the inode of a node in this mount.

        Where another node has its number, which only malice could bring about, it is the next free
        one: no file ever shows the bytes of another.
        """
        inode = node.inode
        while (known := self._known.get(inode)) is not None and known.node != node:
            inode += 1
        return inode

    def tell(self, node: Node) -> int:
        """Note that the kernel is told of a node, and return the node's inode."""
        inode = node.inode
        known = self._known.get(inode)
        if known is None or known.node != node:
            inode = self.number(node)
            known = self._known.setdefault(inode, Known(node, inode))
        known.told += 1
        return inode

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> None:
        """Take back as many tellings of each inode as the kernel says."""
        for inode, count in forgotten:
            known = self._known.get(inode)
            if known is None or known is self._root:
                continue
            known.told -= count
            if known.told <= 0:
                del self._known[inode]
