"""Trees built, walked, merged and selected from."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from store.cas import Cas
from store.digest import Digest
from store.errors import IntegrityError
from store.objects import PORTION, Directory, Entry, Tree
from store.packed_entries import PackedEntries

_Node = dict[str, "Entry | _Node"]


def build_tree(cas: Cas, entries: Mapping[str, Entry], *, new: bool = False) -> Digest:
    """Store the tree that holds `entries` by slash-separated path and return its digest.

    A `Directory` may stand beside paths below it: they are laid over it. Raises IntegrityError
    where one path is a file and a directory at once. For `new` see `Cas.put_object`.
    """
    root: _Node = {}
    for path in sorted(entries):
        *parents, name = path.split("/")
        node = root
        for parent in parents:
            node = _open(cas, node, parent, path)
        present = node.get(name)
        if isinstance(present, dict):
            raise IntegrityError(f"{path} is a file and a directory at once")
        node[name] = entries[path]
    return _store(cas, root, new=new)


def _open(cas: Cas, node: _Node, name: str, path: str) -> _Node:
    """Return the directory `name` in `node` for writing into, made where it is not there."""
    child = node.setdefault(name, {})
    if isinstance(child, Directory):
        child = node[name] = dict(cas.get_tree(child.digest).entries)
    if not isinstance(child, dict):
        raise IntegrityError(f"{path}: its parent {name!r} is a file")
    return child


def _store(cas: Cas, node: _Node, *, new: bool) -> Digest:
    for name, child in node.items():
        if isinstance(child, dict):
            node[name] = Directory(_store(cas, child, new=new))
    return cas.put_tree(Tree(cast("dict[str, Entry]", node)), new=new)


def walk(cas: Cas, tree: Digest, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Yield path and entry of everything that is not a directory, plus empty directories, sorted
    within each directory."""
    for name, entry in cas.get_tree(tree).sorted():
        path = f"{prefix}{name}"
        if isinstance(entry, Directory):
            if cas.get_tree(entry.digest).entries:
                yield from walk(cas, entry.digest, f"{path}/")
            else:
                yield path, entry
        else:
            yield path, entry


def find(cas: Cas, tree: Digest, path: str) -> Entry | None:
    """Return the entry at a slash-separated path (`""` is the tree itself), None if there is none.

    Links are not followed.
    """
    entry: Entry = Directory(tree)
    for name in path.split("/") if path else []:
        if not isinstance(entry, Directory):
            return None
        child = cas.get_tree(entry.digest).entries.get(name)
        if child is None:
            return None
        entry = child
    return entry


class ConflictError(Exception):
    """Two trees hold different things at the path that is its message."""


def merge(cas: Cas, trees: Iterable[Digest], *, strict: bool = False, at: str = "") -> Digest:
    """Store the union of `trees` and return its digest.

    Where two hold different things at one path the first wins; with `strict`, ConflictError names
    the path (below `at`).
    """
    distinct = (digest for digest, _ in itertools.groupby(trees))
    few = list(itertools.islice(distinct, 2))
    if len(few) == 1:
        return few[0]
    merged: dict[str, Entry] | PackedEntries = {}
    shared: dict[str, list[Digest]] = {}
    for digest in itertools.chain(few, distinct):
        for name, entry in cas.get_tree(digest).entries.items():
            first = merged.setdefault(name, entry)
            if isinstance(first, Directory) and isinstance(entry, Directory):
                shared.setdefault(name, []).append(entry.digest)
            elif strict and first != entry:
                raise ConflictError(f"{at}{name}")
        if len(merged) > PORTION and isinstance(merged, dict):
            merged = PackedEntries.of(merged)
    for name, parts in shared.items():
        merged[name] = Directory(merge(cas, parts, strict=strict, at=f"{at}{name}/"))
    return cas.put_tree(Tree(merged))


def stays_inside(path: str, target: str) -> bool:
    """Say whether a link at `path` (relative to a tree's root) with `target` stays in that tree.

    Judged by the text alone: absolute targets and those that climb over the root do not.
    """
    if target.startswith("/"):
        return False
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return reached != ".." and not reached.startswith("../")
