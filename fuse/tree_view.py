"""The view: what the store looks like as a tree of directories. Pure, it knows no FUSE.

::

    artifacts/NAME/…                     the trees of named results
    trees/DIGEST/…                       any tree
    blobs/DIGEST                         any blob
    builds/ID/timeline.jsonl             the events of a build, as they happen
    builds/ID/LABEL/action.json          a step: its action,
    builds/ID/LABEL/log                  what it printed,
    builds/ID/LABEL/outputs/…            and what it left
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Final

from attrs import field, frozen

from fuse.catalogue import Build, Catalogue, Step
from fuse.names import safe_name
from fuse.nodes import (
    DIRECTORY_MODE,
    ROOT_INODE,
    Attributes,
    DirectoryNode,
    DocumentFile,
    LiveFile,
    Node,
    TreeDirectory,
    inode_number,
    load_tree,
    sized_blob,
)
from store.cas import Cas, MissingBlob
from store.digest import Digest, is_digest
from store.errors import BnError
from store.objects import Action

LISTED: Final = 20_000
"""Entries that `trees` and `blobs` list at most; every other digest can still be looked up."""

TIMELINE: Final = "timeline.jsonl"


@frozen
class _Place:
    """A directory that is no stored object; what it lists may change at any time."""

    cas: Cas = field(eq=False, repr=False)
    catalogue: Catalogue = field(eq=False, repr=False)
    inode: int
    parent: int

    @property
    def lasting(self) -> bool:
        """Whether it never changes."""
        return False

    def attributes(self) -> Attributes:
        """Return what stat(2) says."""
        return Attributes(DIRECTORY_MODE, 0)

    def near(self, name: str | None = None) -> bool:
        """Say whether looking up will not have to fetch anything."""
        return True

    def _tree(self, name: str, digest: Digest) -> TreeDirectory:
        inode = inode_number("tree", self.inode, name, digest)
        return TreeDirectory(self.cas, inode, self.inode, digest)


class Root(_Place):
    """The top of the mount."""

    def child(self, name: str) -> Node | None:
        """Return one of the four places."""
        kind = _PLACES.get(name)
        if kind is None:
            return None
        return kind(self.cas, self.catalogue, inode_number("place", name), self.inode)

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield the four places."""
        for name in _PLACES:
            if node := self.child(name):
                yield name, node


class Artifacts(_Place):
    """The named results."""

    def child(self, name: str) -> Node | None:
        """Return the tree that has this name now."""
        digest = self._named().get(name)
        return None if digest is None else self._tree(name, digest)

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield all named results."""
        for name, digest in sorted(self._named().items()):
            yield name, self._tree(name, digest)

    def _named(self) -> dict[str, Digest]:
        return {safe_name(name): tree for name, tree in self.catalogue.artifacts().items()}


class Trees(_Place):
    """Trees by digest. Any can be looked up; listed are the artifacts and what builds left."""

    def near(self, name: str | None = None) -> bool:
        """Say whether the tree of that name is on a fast tier."""
        return name is None or not is_digest(name) or self.cas.is_near(Digest(name))

    def child(self, name: str) -> Node | None:
        """Return the tree of that digest, None where the store has no such tree."""
        if not is_digest(name):
            return None
        try:
            load_tree(self.cas, Digest(name))
        except BnError:
            return None
        return self._tree(name, Digest(name))

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield the trees that are known by name, up to `LISTED`, by digest."""
        known = dict.fromkeys(self._known())
        there = itertools.islice(filter(self.cas.has, known), LISTED)
        for digest in sorted(there):
            yield digest, self._tree(digest, digest)

    def _known(self) -> Iterator[Digest]:
        yield from self.catalogue.artifacts().values()
        for name in self.catalogue.builds():
            build = self.catalogue.build(name)
            for step in build.steps if build else ():
                if step.outputs is not None:
                    yield step.outputs


class Blobs(_Place):
    """Blobs by digest. Any can be looked up; listed are those on fast tiers, up to `LISTED`."""

    def near(self, name: str | None = None) -> bool:
        """Say whether the blob of that name is on a fast tier."""
        return name is None or not is_digest(name) or self.cas.is_near(Digest(name))

    def child(self, name: str) -> Node | None:
        """Return the blob of that digest, None where the store has none."""
        if not is_digest(name) or not self.cas.has(Digest(name)):
            return None
        try:
            return sized_blob(self.cas, Digest(name))
        except MissingBlob:
            return None

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield blobs by digest."""
        found = 0
        for prefix in range(256):
            for digest in sorted(self.cas.digests(f"{prefix:02x}")):
                if found == LISTED:
                    return
                if node := self.child(digest):
                    found += 1
                    yield digest, node


class Builds(_Place):
    """The recorded builds."""

    def child(self, name: str) -> Node | None:
        """Return the build of that name."""
        return self._build(name) if name in self.catalogue.builds() else None

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield all builds, by name."""
        for name in sorted(self.catalogue.builds()):
            yield name, self._build(name)

    def _build(self, name: str) -> Node:
        inode = inode_number("build", self.inode, name)
        return BuildDirectory(self.cas, self.catalogue, inode, self.inode, name)


@frozen
class BuildDirectory(_Place):
    """A recorded build: its timeline and a directory for each step."""

    name: str

    def child(self, name: str) -> Node | None:
        """Return the timeline or the step of that name."""
        build = self.catalogue.build(self.name)
        return None if build is None else dict(self._entries(build)).get(name)

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield the timeline and all steps so far."""
        build = self.catalogue.build(self.name)
        return iter(()) if build is None else self._entries(build)

    def _entries(self, build: Build) -> Iterator[tuple[str, Node]]:
        yield TIMELINE, LiveFile(inode_number("timeline", self.inode), str(build.timeline))
        for label in sorted(step.label for step in build.steps):
            name = safe_name(label, taken=(TIMELINE,))
            inode = inode_number("step", self.inode, name)
            yield (
                name,
                StepDirectory(self.cas, self.catalogue, inode, self.inode, self.name, label),
            )


@frozen
class StepDirectory(_Place):
    """A step of a build. What the store has no longer is not there."""

    build: str
    label: str

    def near(self, name: str | None = None) -> bool:
        """Say whether its action and log are on a fast tier."""
        step = self._step()
        needed = (step.action, step.log) if step else ()
        return all(map(self.cas.is_near, filter(None, needed)))

    def child(self, name: str) -> Node | None:
        """Return `action.json`, `log` or `outputs`."""
        return dict(self.children()).get(name)

    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield what there is of the step."""
        step = self._step()
        if step is None:
            return
        if step.action is not None and (document := self._action(step.action)):
            yield "action.json", document
        if step.log is not None and self.cas.has(step.log):
            yield "log", sized_blob(self.cas, step.log)
        if step.outputs is not None:
            yield "outputs", self._tree("outputs", step.outputs)

    def _step(self) -> Step | None:
        build = self.catalogue.build(self.build)
        steps = build.steps if build else ()
        return next((step for step in steps if step.label == self.label), None)

    def _action(self, digest: Digest) -> DocumentFile | None:
        try:
            document = Action.decode(self.cas.get_bytes(digest)).document()
        except BnError:
            return None
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        return DocumentFile(inode_number("action", digest), text.encode())


_PLACES: Final = {"artifacts": Artifacts, "blobs": Blobs, "builds": Builds, "trees": Trees}


def view(cas: Cas, catalogue: Catalogue) -> DirectoryNode:
    """Return the top of the view on a store."""
    return Root(cas, catalogue, ROOT_INODE, ROOT_INODE)


def find(top: DirectoryNode, path: str) -> Node | None:
    """Return the node at a slash-separated path below `top`, links not followed."""
    node: Node | None = top
    for name in filter(None, path.split("/")):
        child = getattr(node, "child", None)
        if child is None:
            return None
        node = child(name)
    return node
