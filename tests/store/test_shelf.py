"""The shelf: what lies aside is taken up again only as it was left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from store.cas import EPOCH_NS
from store.digest import Digest
from store.gc import collect
from store.materialise import materialise
from store.objects import File, Link
from store.shelf import LARGE, MOST, Shelf, clear_shelf
from store.store import Store
from store.trees import build_tree

pytestmark = pytest.mark.usefixtures("trees")


def tree_of(store: Store, text: str = "", names: str = "f") -> Digest:
    """Return a tree that is worth being kept."""
    files = {f"{names}{n:04}": store.cas.put_bytes(f"{n}{text}".encode()) for n in range(LARGE)}
    sizes = {name: len(store.cas.get_bytes(digest)) for name, digest in files.items()}
    entries = {f"d/{name}": File(digest, sizes[name]) for name, digest in files.items()}
    return build_tree(store.cas, {**entries, "l": Link("d")})


@pytest.fixture
def aside(store: Store) -> str:
    """A directory of the caller's own."""
    path = store.work() / "aside"
    path.mkdir()
    return str(path)


@pytest.fixture
def tree(store: Store, aside: str) -> Digest:
    """A tree that lies aside under the key `k`."""
    tree = tree_of(store)
    lay_aside(store, aside, tree)
    return tree


def lay_aside(store: Store, aside: str, tree: Digest, key: str = "k") -> None:
    """Stage a tree and lay it aside."""
    materialise(store.cas, tree, f"{aside}/staged")
    Shelf(store.cas, aside).put(key, f"{aside}/staged", tree)


def test_what_was_laid_aside_is_taken_up_once(store: Store, aside: str, tree: Digest) -> None:
    shelf, place = Shelf(store.cas, aside), f"{aside}/place"
    assert shelf.has("k")
    assert shelf.take("k", tree_of(store, "other contents"), place) == tree
    assert sorted(os.listdir(place)) == ["d", "l"]
    assert len(os.listdir(f"{place}/d")) == LARGE
    assert not shelf.has("k")
    assert shelf.take("k", tree, f"{aside}/again") is None


def test_a_tree_with_other_names_is_not_taken(store: Store, aside: str, tree: Digest) -> None:
    other = build_tree(store.cas, {"other": Link("x")})
    assert Shelf(store.cas, aside).take("k", other, f"{aside}/place") is None
    assert not os.path.exists(f"{aside}/place")


def overwritten(tree: Path) -> None:
    file = tree / "d/f0007"
    file.chmod(0o644)
    file.write_bytes(b"x")


def replaced(tree: Path) -> None:
    (tree / "new").write_bytes(b"7")
    os.utime(tree / "new", (315532800, 315532800))
    os.replace(tree / "new", tree / "d/f0007")


def with_another_link(tree: Path) -> None:
    (tree / "l").unlink()
    (tree / "l").symlink_to("/etc")
    os.utime(tree / "l", (315532800, 315532800), follow_symlinks=False)


def copied(tree: Path) -> None:
    os.rename(tree / "d", tree / "was")
    os.mkdir(tree / "d")
    for name in os.listdir(tree / "was"):
        os.link(tree / "was" / name, tree / "d" / name)
    for name in os.listdir(tree / "was"):
        os.unlink(tree / "was" / name)
    os.rmdir(tree / "was")


def with_another_note(tree: Path) -> None:
    note = tree.parent / "note"
    note.write_text(note.read_text().replace("[", "[1, ", 1))


def without_a_note(tree: Path) -> None:
    (tree.parent / "note").unlink()


CHANGES: list[Callable[[Path], object]] = [
    overwritten,
    replaced,
    with_another_link,
    copied,
    with_another_note,
    without_a_note,
    lambda tree: (tree / "d/f0007").unlink(),
    lambda tree: (tree / "d/more").write_bytes(b""),
    lambda tree: (tree / "d/f0007").rename(tree / "d/f0008"),
    lambda tree: (tree / "d").chmod(0o700),
    lambda tree: (tree.parent / "note").write_bytes(b"\0\xff"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_touched_is_seen(
    store: Store, aside: str, tree: Digest, change: Callable[[Path], object]
) -> None:
    change(store.root / "staged/k/tree")
    shelf, place = Shelf(store.cas, aside), f"{aside}/place"
    taken = shelf.take("k", tree, place)
    if change is overwritten:
        assert taken == tree
        assert not shelf.is_as_left(place, tree)
    else:
        assert taken is None
        assert not os.path.exists(place)


def test_files_are_looked_at_in_portions(
    store: Store, aside: str, tree: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.shelf.AT_A_TIME", 100)
    shelf, place = Shelf(store.cas, aside), f"{aside}/place"
    assert shelf.take("k", tree, place) == tree
    assert shelf.is_as_left(place, tree)
    for name in ("f0000", f"f{LARGE - 1:04}"):
        os.utime(f"{place}/d/{name}", (1, 1))
        assert not shelf.is_as_left(place, tree)
        os.utime(f"{place}/d/{name}", ns=EPOCH_NS)
        assert shelf.is_as_left(place, tree)
    os.unlink(f"{place}/d/f0000")
    assert not shelf.is_as_left(place, tree)
    assert not shelf.is_as_left(f"{aside}/nothing", tree)


def test_what_was_not_used_lately_is_seen(store: Store, aside: str, tree: Digest) -> None:
    shelf, place = Shelf(store.cas, aside), f"{aside}/place"
    assert shelf.take("k", tree, place) == tree
    store.cas._touch_before = store.cas.touch_before * 2
    assert not shelf.is_as_left(place, tree)


def test_few_trees_are_kept(store: Store, aside: str) -> None:
    trees = [tree_of(store, names=f"{number}-") for number in range(2)]
    shelf = Shelf(store.cas, aside)
    for number in range(MOST + 3):
        materialise(store.cas, trees[number % 2], f"{aside}/staged")
        shelf.put(f"k{number}", f"{aside}/staged", trees[number % 2])
    assert sorted(os.listdir(store.root / "staged")) == sorted(f"k{n + 3}" for n in range(MOST))


def test_small_trees_are_not_worth_while(store: Store, aside: str, tree: Digest) -> None:
    shelf = Shelf(store.cas, aside)
    assert shelf.is_large(tree)
    assert not shelf.is_large(build_tree(store.cas, {"a": Link("x"), "b/c": Link("y")}))


def test_the_shelf_is_cleared(store: Store, tree: Digest) -> None:
    assert clear_shelf(store.cas, store.cas.root) == 1
    assert os.listdir(store.root / "staged") == []
    assert store.cas.unfinished() == []
    assert clear_shelf(store.cas, store.root / "nowhere") == 0


def test_a_collection_frees_what_lies_aside(store: Store, tree: Digest) -> None:
    report = collect(store, [], [])
    assert report is not None
    assert os.listdir(store.root / "staged") == []
    assert sum(report.freed.values()) >= LARGE
