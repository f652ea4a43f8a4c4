"""Trees put on disk: what comes back from there is what was put."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.cas import EPOCH, MissingBlob
from store.digest import Digest
from store.errors import HostError
from store.ingest import ingest_directory
from store.materialise import materialise, materialised
from store.objects import Directory, File, Link
from store.store import Store
from store.trees import build_tree

if TYPE_CHECKING:
    from store.objects import Entry

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))
targets = st.lists(names, min_size=1, max_size=3).map("/".join)
# a directory is a dict, a file its bytes and whether it is executable, a link its target
contents = st.recursive(
    st.tuples(st.binary(max_size=20), st.booleans()) | targets,
    lambda below: st.dictionaries(names, below, max_size=4),
    max_leaves=8,
)
directories = st.dictionaries(names, contents, max_size=4)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that many examples share."""
    with Store(tmp_path_factory.mktemp("shared")) as store:
        yield store


def tree_of(store: Store, content: Mapping[str, object]) -> Digest:
    """Store a drawn directory."""
    entries: dict[str, Entry] = {}
    for name, held in content.items():
        match held:
            case dict():
                entries[name] = Directory(tree_of(store, held))
            case (bytes(data), bool(executable)):
                digest = store.cas.put_bytes(data, executable)
                entries[name] = File(digest, len(data), executable)
            case str(target):
                entries[name] = Link(target)
    return build_tree(store.cas, entries)


@given(directories, st.booleans())
def test_what_was_materialised_is_ingested_again(
    shared: Store, content: dict[str, object], copy: bool
) -> None:
    tree = tree_of(shared, content)
    with tempfile.TemporaryDirectory() as directory:
        target = f"{directory}/target"
        materialise(shared.cas, tree, target, copy)
        assert ingest_directory(shared.cas, shared.index, target).tree == tree


@pytest.fixture
def tree(store: Store) -> Digest:
    """A tree of each kind of entry."""
    content = {"d": {"tool": (b"x", True)}, "file": (b"y", False), "link": "d/tool", "empty": {}}
    return tree_of(store, content)


def test_files_are_links_to_blobs(store: Store, tree: Digest, tmp_path: Path) -> None:
    materialise(store.cas, tree, str(tmp_path / "out"))
    assert (tmp_path / "out/file").stat().st_nlink == 2
    assert not (tmp_path / "out/file").stat().st_mode & 0o222
    assert os.readlink(tmp_path / "out/link") == "d/tool"


def test_everything_has_the_same_time(store: Store, tree: Digest, tmp_path: Path) -> None:
    materialise(store.cas, tree, str(tmp_path / "out"))
    found = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(found) == 6
    assert {os.lstat(path).st_mtime for path in found} == {EPOCH}


def test_a_copy_can_be_changed(store: Store, tree: Digest, tmp_path: Path) -> None:
    materialise(store.cas, tree, str(tmp_path / "out"), copy=True)
    (tmp_path / "out/file").write_text("changed")
    (tmp_path / "out/d/tool").write_text("changed")
    assert os.access(tmp_path / "out/d/tool", os.X_OK)
    assert store.cas.complete(Directory(tree))


def test_a_directory_in_the_way_is_left_alone(store: Store, tree: Digest, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("mine")
    with pytest.raises(HostError, match="cannot materialise"):
        materialise(store.cas, tree, str(tmp_path / "out"))
    assert (tmp_path / "out/file").read_text() == "mine"


def test_a_missing_blob_is_told(store: Store, tree: Digest, tmp_path: Path) -> None:
    (file,) = [e for e in store.cas.get_tree(tree).entries.values() if isinstance(e, File)]
    store.cas.quarantine(file.digest, False)
    with pytest.raises(MissingBlob):
        materialise(store.cas, tree, str(tmp_path / "out"))


def test_a_shown_tree_is_made_once(store: Store, tree: Digest) -> None:
    shown = materialised(store.cas, tree)
    mark = shown.stat().st_ino
    assert materialised(store.cas, tree) == shown
    assert shown.stat().st_ino == mark
    assert shown.is_relative_to(store.root)
    assert store.cas.unfinished() == []


def test_a_tree_that_cannot_be_shown_leaves_nothing(store: Store, tree: Digest) -> None:
    (file,) = [e for e in store.cas.get_tree(tree).entries.values() if isinstance(e, File)]
    store.cas.quarantine(file.digest, False)
    with pytest.raises(MissingBlob):
        materialised(store.cas, tree)
    assert store.cas.unfinished() == []
    assert not (store.cas.root / "trees" / tree).exists()


def test_nothing_is_shown_before_it_is_durable(store: Store) -> None:
    tree = build_tree(store.cas, {"a": File(store.cas.put_bytes(b"a"), 1)})
    shown = store.root / "trees" / tree

    def failed() -> None:
        assert not shown.exists()
        raise HostError("the disk is gone")

    store.cas.settled = failed
    with pytest.raises(HostError, match="the disk is gone"):
        materialised(store.cas, tree)
    assert not shown.exists()
    store.cas.settled = int
    assert materialised(store.cas, tree) == shown
