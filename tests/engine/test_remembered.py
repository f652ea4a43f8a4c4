"""Outcomes remembered for a whole package: believed while their blobs are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.remembered import MOST_BLOBS, MOST_NEWS, Cached, Remembered
from store.digest import digest_bytes
from store.objects import Entry, File, Link
from store.trees import build_tree, find
from tests.store.results import lose

if TYPE_CHECKING:
    from store.digest import Digest
    from store.store import Store

RECIPE, OTHER = digest_bytes(b"recipe"), digest_bytes(b"other")


def outcome(store: Store, files: dict[str, str], action: bytes = b"action") -> Cached:
    """Store a tree of files, links among them where the text begins with an arrow."""
    entries: dict[str, Entry] = {}
    for path, text in files.items():
        data = text.encode()
        linked = text.startswith("→")
        entries[path] = Link(text[1:]) if linked else File(store.cas.put_bytes(data), len(data))
    return Cached(build_tree(store.cas, entries), digest_bytes(action))


def asked(store: Store, recipe: Digest = RECIPE) -> Cached | None:
    """Ask as the next process would."""
    return Remembered(store, "p").find(recipe)


@pytest.mark.parametrize(
    "files", [{"a": "A"}, {"a": "A", "d/b": "B"}, {"a": "A", "l": "→a"}, {"d/e/f": "F"}, {}]
)
def test_an_outcome_is_found_until_one_of_its_blobs_is_gone(
    store: Store, files: dict[str, str]
) -> None:
    known = outcome(store, files)
    Remembered(store, "p").keep([(RECIPE, known)])
    assert asked(store) == known
    assert asked(store, OTHER) is None
    blobs = [found.digest for path in files if isinstance(found := _at(store, known, path), File)]
    for digest in [known.outputs, *blobs]:
        data = store.cas.get_bytes(digest)
        lose(store, digest)
        assert asked(store) is None
        if digest == known.outputs:
            store.cas.put_object(data)
        else:
            store.cas.put_bytes(data)
        assert asked(store) == known


def _at(store: Store, known: Cached, path: str) -> Entry | None:
    return find(store.cas, known.outputs, path)


def test_trees_of_files_alone_need_not_be_read(store: Store) -> None:
    known = outcome(store, {"a": "A", "é": "B"})
    Remembered(store, "p").keep([(RECIPE, known)])
    expected = store.cas.get_tree(known.outputs)
    store.cas._trees.clear()
    assert asked(store) == known
    assert store.cas._trees[known.outputs] == expected


def test_only_the_last_ones_are_kept_and_another_outcome_replaces_one(store: Store) -> None:
    first, second = outcome(store, {"a": "A"}), outcome(store, {"a": "B"})
    Remembered(store, "p").keep([(RECIPE, first), (OTHER, second)])
    Remembered(store, "p").keep([(RECIPE, second)])
    assert asked(store) == second
    assert asked(store, OTHER) is None
    Remembered(store, "p").keep([(RECIPE, outcome(store, {"a": "B"}, b"another"))])
    assert asked(store) == Cached(second.outputs, digest_bytes(b"another"))


def test_what_is_large_or_gone_is_left_to_the_index(store: Store) -> None:
    large = outcome(store, {str(number): str(number) for number in range(MOST_BLOBS)})
    gone = Cached(OTHER, OTHER)
    Remembered(store, "p").keep([(RECIPE, large), (OTHER, gone)])
    assert asked(store) is None
    assert asked(store, OTHER) is None


def test_few_outcomes_are_added_beside_those_that_were_found(store: Store) -> None:
    first, second = outcome(store, {"a": "A"}), outcome(store, {"a": "B"})
    Remembered(store, "p").keep([(RECIPE, first)])
    later = Remembered(store, "p")
    assert later.find(RECIPE) == first
    assert later.found == {RECIPE}
    assert later.add([(OTHER, second)], 2)
    assert asked(store) == first
    assert asked(store, OTHER) == second
    lose(store, second.outputs)
    assert asked(store, OTHER) is None


def test_many_outcomes_are_not_added(store: Store) -> None:
    known = outcome(store, {"a": "A"})
    recipes = [digest_bytes(b"%d" % number) for number in range(MOST_NEWS + 2)]
    assert not Remembered(store, "p").add([(RECIPE, known)], 1)  # there is nothing yet
    Remembered(store, "p").keep([(recipe, known) for recipe in recipes])
    assert not Remembered(store, "p").add([], 1)  # most of them are of no use any more
    Remembered(store, "p").keep([(RECIPE, known)])
    assert not Remembered(store, "p").add([(recipe, known) for recipe in recipes], 100)
    assert asked(store, recipes[0]) is None
    assert Remembered(store, "p").add([(recipe, known) for recipe in recipes[:MOST_NEWS]], 100)
    assert asked(store, recipes[0]) == known
    assert not Remembered(store, "p").add([(recipes[-1], known)], 100)


def test_what_was_added_goes_with_what_it_was_added_to(store: Store) -> None:
    first, second = outcome(store, {"a": "A"}), outcome(store, {"a": "B"})
    Remembered(store, "p").keep([(RECIPE, first)])
    assert Remembered(store, "p").add([(OTHER, second)], 2)
    Remembered(store, "p").keep([(RECIPE, first)])
    assert asked(store, OTHER) is None
    assert asked(store) == first
