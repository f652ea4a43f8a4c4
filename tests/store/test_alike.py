"""Trees that are nearly alike: what is put in another one's place gives what a whole union does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from store.alike import differing, exchanged
from store.digest import digest_bytes
from store.objects import Directory, Entry, File, Link, Tree
from store.trees import merge

if TYPE_CHECKING:
    from store.store import Store

pytestmark = pytest.mark.usefixtures("trees")

NAMES = ["a", "b", 'a"b', "b,", ":{", "ü", "a.b", "c\\"]


def entry(store: Store, chance: random.Random) -> Entry:
    text = chance.choice(("x", "y"))
    match chance.randrange(4):
        case 0:
            return Link(text)
        case 1:
            return Directory(store.cas.put_tree(Tree({text: Link("z")})))
    return File(digest_bytes(text.encode()), 1, chance.random() < 0.5)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_exchanged_gives_the_union(store: Store, seed: int) -> None:
    chance, cas = random.Random(seed), store.cas

    def tree(names: list[str]) -> Tree:
        return Tree({name: entry(store, chance) for name in names})

    parts = [[name] for name in NAMES[:5]] + [NAMES[5:7]]
    trees = [cas.put_tree(tree(names)) for names in parts]
    whole = merge(cas, trees)
    changed = chance.sample(range(len(parts)), 2)
    news = list(trees)
    for number in changed:
        names = parts[number] if chance.random() < 0.7 else chance.sample(NAMES, 2)
        news[number] = cas.put_tree(tree(names))
    found = exchanged(cas, whole, [(trees[number], news[number]) for number in changed])
    held = [name for one in news for name in cas.get_tree(one).entries]
    if len(set(held)) < len(held):
        assert found is None
    else:
        assert found == merge(cas, news)
        assert cas.get_tree(found) == Tree.decode(cas.get_bytes(found))


def test_what_is_not_there_is_not_exchanged(store: Store) -> None:
    cas = store.cas
    one, other = (cas.put_tree(Tree({"a": Link(target)})) for target in "xy")
    assert exchanged(cas, merge(cas, [one]), [(other, one)]) is None


@pytest.mark.parametrize("name", ["b", 'a"b', ",", "a,", ":{"])
def test_names_that_end_alike_are_told_apart(store: Store, name: str) -> None:
    cas = store.cas
    trees = [cas.put_tree(Tree({one: Link("x")})) for one in ("b", 'a"b', ",", "a,", ":{")]
    old, new = (cas.put_tree(Tree({name: Link(target)})) for target in "xy")
    wanted = merge(cas, [new, *(one for one in trees if one != old)])
    assert exchanged(cas, merge(cas, trees), [(old, new)]) == wanted
    others = merge(cas, [one for one in trees if one != old])
    assert exchanged(cas, others, [(old, new)]) is None


@pytest.mark.parametrize("seed", range(60))
def test_what_differs_is_found_wherever_it_is(
    store: Store, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, cas = random.Random(seed), store.cas
    names = [*NAMES, "x},", "},", "z", "y"]

    def some(least: int) -> dict[str, Entry]:
        held = chance.sample(names, chance.randrange(least, len(names)))
        return {name: entry(store, chance) for name in held}

    one = some(0)
    other = {**one, **some(0)} if chance.random() < 0.5 else {**one}
    for name in chance.sample(sorted(other), min(len(other), chance.randrange(3))):
        del other[name]
    old, new = (cas.put_tree(Tree(entries)) for entries in (one, other))
    with monkeypatch.context() as patch:
        patch.setattr("store.alike.PORTION", chance.choice((1, 2, 3, 1024)))
        found = list(differing(cas, old, new))
    assert found == [
        (name, one.get(name), other.get(name))
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]
