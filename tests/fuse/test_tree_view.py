"""What the view shows, without a kernel."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuse.catalogue import Build, Step
from fuse.nodes import DirectoryNode, Node, OpenNode
from fuse.tree_view import find, view
from store.digest import Digest
from store.errors import IntegrityError
from store.materialise import materialise
from store.objects import Action, Entry, File, Link
from store.store import Store
from store.trees import build_tree


@define
class Names:
    """A catalogue made of what it is to answer."""

    named: dict[str, Digest] = field(factory=dict)
    recorded: dict[str, Build] = field(factory=dict)

    def artifacts(self) -> Mapping[str, Digest]:
        return self.named

    def builds(self) -> list[str]:
        return list(self.recorded)

    def build(self, name: str) -> Build | None:
        return self.recorded.get(name)


def top_of(store: Store, **named: Digest) -> DirectoryNode:
    """Return the top of a view with these artifacts."""
    return view(store.cas, Names(dict(named)))


def at(top: DirectoryNode, path: str) -> Any:
    """Return the node at a path; there must be one."""
    node = find(top, path)
    assert node is not None, path
    return node


def names(directory: Node) -> list[str]:
    """Return what a directory lists; each of it must be found by its name, and be the same."""
    node = cast(DirectoryNode, directory)
    children = list(node.children())
    for name, child in children:
        assert node.child(name) == child
    return [name for name, _ in children]


def read(node: Node) -> bytes:
    """Return a file's bytes."""
    handle = cast(OpenNode, node).open()
    with os.fdopen(handle, "rb") as file:
        return file.read()


def store_file(store: Store, data: bytes, executable: bool = False) -> File:
    """Store a file."""
    return File(store.cas.put_bytes(data, executable), len(data), executable)


NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
LEAVES = st.one_of(
    st.tuples(st.binary(max_size=40), st.booleans()),
    st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=20),
)
TREES = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda below: st.dictionaries(NAMES, below, max_size=4)), max_size=5
)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves by path; empty directories are left out."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = value
    return found


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TREES)
def test_a_tree_is_what_was_stored(store: Store, tree: dict[str, Any]) -> None:
    leaves = flat(tree)
    entries: dict[str, Entry] = {
        path: Link(leaf) if isinstance(leaf, str) else store_file(store, *leaf)
        for path, leaf in leaves.items()
    }
    artifact = at(top_of(store, it=build_tree(store.cas, entries)), "artifacts/it")
    seen: set[str] = set()
    walk(artifact, "", seen)
    assert seen == set(leaves)
    inodes: dict[int, Any] = {}
    for path, leaf in leaves.items():
        node = at(artifact, path)
        found = node.attributes()
        if isinstance(leaf, str):
            assert (found.mode, found.size) == (stat.S_IFLNK | 0o777, len(leaf.encode()))
            assert node.target == leaf
        else:
            data, executable = leaf
            mode = stat.S_IFREG | (0o555 if executable else 0o444)
            assert (found.mode, found.size) == (mode, len(data))
            assert read(node) == data
        assert inodes.setdefault(node.inode, leaf) == leaf, "two leaves share an inode"


def walk(node: Any, prefix: str, seen: set[str]) -> None:
    """Note the paths of all leaves; directories must each have a number of their own."""
    listed = names(node)
    assert listed == sorted(listed)
    for name in listed:
        child = node.child(name)
        if hasattr(child, "children"):
            assert child.parent == node.inode
            walk(child, f"{prefix}{name}/", seen)
        else:
            seen.add(f"{prefix}{name}")


def test_the_view_agrees_with_a_materialised_tree(store: Store, tmp_path: Path) -> None:
    entries: dict[str, Entry] = {
        "bin/tool": store_file(store, b"#!/bin/sh\n", True),
        "lib/deep/er": store_file(store, b"x" * 5000),
        "lib/link": Link("deep/er"),
    }
    tree = build_tree(store.cas, entries)
    materialise(store.cas, tree, str(tmp_path / "out"))
    artifact = at(top_of(store, it=tree), "artifacts/it")
    for path in (tmp_path / "out").rglob("*"):
        native = path.lstat()
        found = at(artifact, str(PurePosixPath(path.relative_to(tmp_path / "out")))).attributes()
        if not path.is_dir() or path.is_symlink():
            assert (found.mode, found.size) == (native.st_mode, native.st_size)
        assert found.mtime == native.st_mtime_ns


def test_places(store: Store) -> None:
    file = store_file(store, b"data")
    tree = build_tree(store.cas, {"a": file})
    top = top_of(store, **{"app/x y": tree})
    assert names(top) == ["artifacts", "blobs", "builds", "trees"]
    assert names(at(top, "artifacts")) == ["app%2Fx%20y"]
    assert names(at(top, "trees")) == [tree]
    assert set(names(at(top, "blobs"))) == {tree, file.digest}
    assert read(at(top, f"trees/{tree}/a")) == b"data"
    assert at(top, f"trees/{tree}/a") == at(top, f"blobs/{file.digest}")
    assert at(top, f"trees/{tree}").inode != at(top, "artifacts/app%2Fx%20y").inode
    for absent in ("x", "trees/x", "blobs/x", f"trees/{'0' * 64}", f"trees/{file.digest}"):
        assert find(top, absent) is None
    assert not any(at(top, place).lasting for place in names(top))
    assert at(top, f"trees/{tree}").lasting


def test_listings_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuse.tree_view.LISTED", 3)
    trees = {str(n): build_tree(store.cas, {str(n): Link("x")}) for n in range(5)}
    top = top_of(store, **trees)
    assert len(names(at(top, "trees"))) == len(names(at(top, "blobs"))) == 3
    assert all(find(top, f"trees/{tree}") for tree in trees.values())


def test_builds(store: Store, tmp_path: Path) -> None:
    tree = build_tree(store.cas, {"app": store_file(store, b"app", True)})
    action = Action(command=("cc", "-o", "ä"), input_root=tree)
    timeline = tmp_path / "timeline.jsonl"
    timeline.write_text('{"event": "BuildStarted"}\n')
    finished = Step(
        label="obj[src/a.c]",
        action=store.cas.put_bytes(action.encode()),
        log=store.cas.put_bytes(b"said\n"),
        outputs=tree,
    )
    gone = Step(label="gone", action=Digest("0" * 64), log=Digest("1" * 64))
    strange = Step(label="timeline.jsonl")
    catalogue = Names()
    top = view(store.cas, catalogue)
    catalogue.recorded["7"] = Build(name="7", timeline=timeline, steps=(finished,))
    build = at(top, "builds/7")
    step = "obj[src%2Fa.c]"
    assert names(build) == ["timeline.jsonl", step]
    assert names(at(build, step)) == ["action.json", "log", "outputs"]
    assert read(at(build, f"{step}/log")) == b"said\n"
    assert read(at(build, f"{step}/outputs/app")) == b"app"
    document = at(build, f"{step}/action.json")
    assert json.loads(read(document)) == action.document()
    assert len(read(document)) == document.attributes().size
    catalogue.recorded["7"] = Build(name="7", timeline=timeline, steps=(finished, gone, strange))
    assert names(build) == ["timeline.jsonl", "gone", step, "%74imeline.jsonl"]
    assert names(at(build, "gone")) == []
    assert find(build, "gone/log") is None
    assert names(at(build, "%74imeline.jsonl")) == []


def test_a_timeline_grows(store: Store, tmp_path: Path) -> None:
    timeline = tmp_path / "timeline.jsonl"
    timeline.write_text("one\n")
    catalogue = Names(recorded={"7": Build(name="7", timeline=timeline)})
    node = at(view(store.cas, catalogue), "builds/7/timeline.jsonl")
    assert (node.attributes().size, node.attributes().lasting) == (4, False)
    timeline.write_text("one\ntwo\n")
    assert node.attributes().size == 8
    assert read(node) == b"one\ntwo\n"


def test_what_the_store_lost_is_an_error_not_an_absence(store: Store) -> None:
    inner = {"d/a": store_file(store, b"data")}
    tree = build_tree(store.cas, inner)
    artifact = at(top_of(store, it=tree), "artifacts/it")
    file = at(artifact, "d/a")
    os.unlink(store.cas.path(file.file.digest))
    with pytest.raises(IntegrityError):
        file.open()
    wrong_size = File(store.cas.put_bytes(b"longer"), 3)
    tree = build_tree(store.cas, {"a": wrong_size})
    with pytest.raises(IntegrityError, match="another size"):
        at(top_of(store, it=tree), "artifacts/it/a").open()
    lost = at(top_of(store, it=Digest("0" * 64)), "artifacts/it")
    with pytest.raises(IntegrityError):
        lost.child("a")
    with pytest.raises(IntegrityError):
        list(lost.children())
