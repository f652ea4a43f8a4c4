"""Trees: built, walked, searched, merged; links that stay inside."""

from __future__ import annotations

import os

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from store.cas import Cas, empty_tree
from store.digest import Digest, digest_bytes
from store.errors import IntegrityError
from store.objects import Directory, Entry, File, Link
from store.trees import ConflictError, build_tree, find, merge, stays_inside, walk

names = st.sampled_from(["a", "b", "c", "a.b", "é"])
leaves: st.SearchStrategy[Entry] = st.one_of(
    st.builds(File, st.sampled_from("xy").map(lambda t: digest_bytes(t.encode())), st.just(1)),
    st.builds(Link, st.sampled_from(["x", "y"])),
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@st.composite
def listings(draw: st.DrawFn) -> dict[str, Entry]:
    """Return entries by path, none of which lies below another one."""
    drawn = draw(st.dictionaries(paths, leaves, max_size=6))
    return {
        path: entry
        for path, entry in drawn.items()
        if not any(other.startswith(f"{path}/") for other in drawn)
    }


@pytest.fixture(scope="module")
def cas(tmp_path_factory: pytest.TempPathFactory) -> Cas:
    made = Cas(tmp_path_factory.mktemp("cas"))
    made.create()
    return made


def entries(cas: Cas, tree: Digest) -> dict[str, Entry]:
    """Return what a tree holds by path."""
    return dict(walk(cas, tree))


@given(listings())
def test_what_was_built_is_walked(cas: Cas, files: dict[str, Entry]) -> None:
    assert entries(cas, build_tree(cas, files)) == files


@given(listings(), st.randoms())
def test_order_of_entries_does_not_matter(
    cas: Cas, files: dict[str, Entry], random: object
) -> None:
    items = list(files.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert build_tree(cas, dict(items)) == build_tree(cas, files)


@given(listings(), paths)
def test_what_is_there_is_found_and_nothing_else(
    cas: Cas, files: dict[str, Entry], path: str
) -> None:
    tree = build_tree(cas, files)
    assert all(find(cas, tree, one) == entry for one, entry in files.items())
    found = find(cas, tree, path)
    if path not in files:
        below = {one for one in files if one.startswith(f"{path}/")}
        assert isinstance(found, Directory) == bool(below)
        assert found is None or below
    assert find(cas, tree, "") == Directory(tree)
    assert find(cas, tree, f"{path}/none") is None


def test_walking_tells_of_empty_directories(cas: Cas) -> None:
    empty = Directory(empty_tree(cas))
    files: dict[str, Entry] = {"d/empty": empty, "d/file": Link("x"), "e": empty}
    assert entries(cas, build_tree(cas, files)) == files


def test_paths_are_laid_over_a_directory(cas: Cas) -> None:
    below = Directory(build_tree(cas, {"a": Link("1"), "d/b": Link("2")}))
    tree = build_tree(cas, {"x": below, "x/a": Link("3"), "x/d/c": Link("4")})
    assert entries(cas, tree) == {"x/a": Link("3"), "x/d/b": Link("2"), "x/d/c": Link("4")}


def test_a_path_is_not_a_file_and_a_directory(cas: Cas) -> None:
    below = Directory(build_tree(cas, {"a": Link("1")}))
    both: list[dict[str, Entry]] = [{"x": Link("1"), "x/y": Link("2")}]
    both.append({"x": below, "x/a/b": Link("2")})
    for files in both:
        with pytest.raises(IntegrityError, match="is a file"):
            build_tree(cas, files)


def model(trees: list[dict[str, Entry]]) -> dict[str, Entry]:
    """Return the union of listings, the first wins, as one would do it by hand."""
    made: dict[str, Entry] = {}
    for files in trees:
        for path, entry in files.items():
            above = {path[:n] for n, char in enumerate(path) if char == "/"} | {path}
            if not above & made.keys() and not any(one.startswith(f"{path}/") for one in made):
                made[path] = entry
    return made


@given(st.lists(listings(), max_size=4))
def test_the_first_of_merged_trees_wins(cas: Cas, trees: list[dict[str, Entry]]) -> None:
    merged = merge(cas, [build_tree(cas, files) for files in trees])
    assert entries(cas, merged) == model(trees)


@given(st.lists(listings(), max_size=3))
def test_a_strict_merge_is_the_same_or_a_conflict(cas: Cas, trees: list[dict[str, Entry]]) -> None:
    digests = [build_tree(cas, files) for files in trees]
    united = {path: entry for files in trees for path, entry in files.items()}
    agree = all(files[path] == united[path] for files in trees for path in files)
    agree = agree and not any(one.startswith(f"{two}/") for one in united for two in united)
    if agree:
        assert merge(cas, digests, strict=True) == merge(cas, digests)
    else:
        with pytest.raises(ConflictError) as caught:
            merge(cas, digests, strict=True)
        path = str(caught.value)
        assert any(one == path or one.startswith(f"{path}/") for one in united)


@given(listings())
def test_a_tree_merged_with_itself_or_nothing_is_itself(cas: Cas, files: dict[str, Entry]) -> None:
    tree = build_tree(cas, files)
    assert merge(cas, [tree, tree]) == merge(cas, [empty_tree(cas), tree]) == tree


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        *[("a", "b", True), ("a", ".", True), ("a", "./b/../c", True), ("a", "..b", True)],
        *[("d/a", "../b", True), ("d/a", "..", True), ("d/e/a", "../../b", True)],
        *[("a", "..", False), ("a", "../b", False), ("d/a", "../../b", False)],
        *[("a", "b/../..", False), ("d/a", "../../d/a", False), ("a", "/b", False)],
    ],
)
def test_links_that_stay_inside(path: str, target: str, inside: bool) -> None:
    assert stays_inside(path, target) == inside


steps = st.lists(st.sampled_from(["..", ".", "a", "b", ""]), min_size=1, max_size=5).map("/".join)


@given(paths, steps)
def test_a_link_that_stays_inside_leads_below_the_root(path: str, target: str) -> None:
    assume(target)
    if stays_inside(path, target):
        reached = os.path.normpath(f"/top/{os.path.dirname(path)}/{target}")
        assert f"{reached}/".startswith("/top/")
