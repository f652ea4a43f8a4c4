"""The inodes that the kernel knows, and how often it has been told of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from attrs import define

from fuse.nodes import LiveFile, Node

Entry = TypeVar("Entry")


@define(eq=False)
class Known(Generic[Entry]):
    """A node with its inode in this mount, what is told of it, and how often it was told."""

    node: Node
    inode: int
    entry: Entry
    lookups: int = 0


class Inodes(Generic[Entry]):
    """Nodes by inode. `describe` makes what is told of a node: its entry."""

    def __init__(self, root: Node, describe: Callable[[Node, int], Entry]) -> None:
        self._describe = describe
        self._known: dict[int, Known[Entry]] = {}
        self._root = self.of(root)
        self._root.lookups = 1
        self._known[self._root.inode] = self._root

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, inode: int) -> Known[Entry]:
        """Return what has that inode; raises KeyError where the kernel was told of none."""
        return self._known[inode]

    def of(self, node: Node) -> Known[Entry]:
        """Return the record of a node, made where there is none; it counts when it is told.

        Where another node has its number, which only malice could bring about, the next free one is
        taken: no file ever shows the bytes of another.
        """
        inode = node.inode
        while (known := self._known.get(inode)) is not None:
            if known.node == node:
                if isinstance(node, LiveFile):
                    known.entry = self._describe(node, inode)
                return known
            inode += 1
        return Known(node, inode, self._describe(node, inode))

    def current(self, known: Known[Entry]) -> Known[Entry]:
        """Return the record to tell in place of one that was kept aside for a while."""
        present = self._known.get(known.inode)
        return known if present is known or present is None else self.of(known.node)

    def told(self, known: Known[Entry]) -> None:
        """Note that the kernel was told of a record that is current."""
        known.lookups += 1
        if known.lookups == 1:
            self._known[known.inode] = known

    def forget(self, inodes: Iterable[tuple[int, int]]) -> None:
        """Take away as many tellings of each inode as the kernel says."""
        for inode, count in inodes:
            known = self._known.get(inode)
            if known is None or known is self._root:
                continue
            known.lookups -= count
            if known.lookups <= 0:
                known.lookups = 0
                del self._known[inode]
