"""Objects and their encoding: round trips, canonical form, names that no tree may hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.digest import Digest, digest_bytes
from store.encoding import decode, encode
from store.errors import IntegrityError
from store.objects import (
    Action,
    ActionResult,
    Directory,
    Entry,
    File,
    Link,
    Realisation,
    Tree,
)

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = text.filter(lambda name: name not in ("", ".", "..") and "/" not in name)
digests = st.binary(max_size=8).map(digest_bytes)
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(File, digests, st.integers(0, 2**60), st.booleans()),
    st.builds(Directory, digests),
    st.builds(Link, text.filter(bool)),
)
trees = st.builds(Tree, st.dictionaries(names, entries, max_size=6))
actions = st.builds(
    Action,
    command=st.lists(text, max_size=4).map(tuple),
    env=st.dictionaries(text, text, max_size=3),
    input_root=digests,
    toolchains=st.lists(digests, max_size=2).map(tuple),
    outputs=st.lists(text, max_size=3).map(tuple),
    depfile=st.booleans(),
)
results = st.builds(
    ActionResult,
    action=digests,
    outputs=digests,
    log=digests,
    observed=st.none() | st.lists(text, max_size=3).map(tuple),
)
realisations = st.builds(Realisation, recipe=digests, action=digests, outputs=digests)


@given(trees)
def test_tree_decodes_to_what_was_encoded(tree: Tree) -> None:
    assert Tree.decode(tree.encode()) == tree


@given(actions)
def test_action_decodes_to_what_was_encoded(action: Action) -> None:
    assert Action.decode(action.encode()) == action


@given(results)
def test_result_decodes_to_what_was_encoded(result: ActionResult) -> None:
    assert ActionResult.decode(result.encode()) == result


@given(realisations)
def test_realisation_decodes_to_what_was_encoded(realisation: Realisation) -> None:
    assert Realisation.decode(realisation.encode()) == realisation


@given(trees, st.randoms())
def test_order_of_entries_does_not_matter(tree: Tree, random: object) -> None:
    items = list(tree.entries.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert Tree(dict(items)).digest() == tree.digest()


@given(actions, actions)
def test_different_actions_have_different_digests(one: Action, other: Action) -> None:
    assert (one == other) == (one.digest() == other.digest())


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "nul\0"])
def test_forbidden_names_are_refused_both_ways(name: str) -> None:
    with pytest.raises(IntegrityError):
        Tree({name: Link("x")}).encode()
    data = encode({"_": "tree.1", "entries": {name: {"link": "x"}}})
    with pytest.raises(IntegrityError):
        Tree.decode(data)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"file": "0" * 64},
        {"file": "0" * 63, "size": 1},
        {"file": "0" * 64, "size": -1},
        {"file": "0" * 64, "size": 1, "executable": False},
        {"tree": "0" * 64, "size": 1},
        {"link": ""},
        {"device": "sda"},
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_malformed_entries_are_refused(
    entry: dict[str, object], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr("store.objects.LARGE", 0)
    with pytest.raises(IntegrityError):
        Tree.decode(encode({"_": "tree.1", "entries": {"name": entry}}))


@given(trees)
def test_a_large_tree_is_decoded_as_any_other(tree: Tree) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.objects.LARGE", 0)
        assert Tree.decode(tree.encode()) == tree


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"_":"tree.1"}',
        b'{"_":"tree.2","entries":{}}',
        b'{"_":"tree.1","entries":[]}',
        b'{"_":"tree.1","entries":{} }',
        b'{"_":"tree.1","entries":{},"more":1}',
        b'{"_":"tree.1","entries":{"link":"x"}}',
        b'{"_":"tree.1","entries":{"a":{"link":"x"},"a":{"link":"x"}}}',
        b'{"_":"tree.1","entries":{"b":{"link":"x"},"a":{"link":"x"}}}',
        b'{"_":"tree.1","entries":{"..":{"link":"x"}}}',
        b'{"link":"x"}',
    ],
)
def test_a_large_tree_that_is_not_canonical_is_refused(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.objects.LARGE", -1)
    with pytest.raises(IntegrityError):
        Tree.decode(data)


def test_bytes_that_are_not_canonical_are_refused() -> None:
    canonical = encode({"_": "x.1", "a": 1, "b": "é"})
    assert decode(canonical, "x.1") == {"_": "x.1", "a": 1, "b": "é"}
    for other in (json.dumps(json.loads(canonical)).encode(), b'{"b":1,"_":"x.1"}', b"[]", b"\xff"):
        with pytest.raises(IntegrityError):
            decode(other, "x.1")


def test_objects_of_another_type_are_refused() -> None:
    with pytest.raises(IntegrityError, match=r"tree\.1"):
        Tree.decode(Realisation(recipe=_d, action=_d, outputs=_d).encode())


def test_floats_have_no_canonical_form() -> None:
    with pytest.raises(TypeError, match="float"):
        encode({"_": "x.1", "a": [0.5]})


_d = Digest("0" * 64)


def test_a_large_tree_is_encoded_as_any_other() -> None:
    digest = digest_bytes(b"x")
    entries: dict[str, Entry] = {f"é{number}": File(digest, number) for number in range(5000)}
    tree = Tree(entries)
    assert tree.encode() == encode(json.loads(tree.encode()))
    assert Tree.decode(tree.encode()) == tree


FILE = f'"file":"{"0" * 64}","size":7'
HEAD = '{"_":"tree.1","entries":{'
NOT_CANONICAL = {
    "order": f'{HEAD}"b":{{{FILE}}},"a":{{{FILE}}}}}}}',
    "twice": f'{HEAD}"a":{{{FILE}}},"a":{{{FILE}}}}}}}',
    "white space": f'{HEAD}"a":{{{FILE}}}, "b":{{{FILE}}}}}}}',
    "a comma at the end": f'{HEAD}"a":{{{FILE}}},}}}}',
    "something after it": f'{HEAD}"a":{{{FILE}}}}}}}\n',
    "an end too early": f'{HEAD}"a":{{{FILE}}}}}}}"b":{{{FILE}}}}}}}',
    "a size with a zero": f'{HEAD}"a":{{{FILE.replace(":7", ":07")}}}}}}}',
    "a flag that says nothing": f'{HEAD}"a":{{"executable":false,{FILE}}}}}}}',
    "an escape": f'{HEAD}"\\u0061":{{{FILE}}}}}}}',
    "a slash": f'{HEAD}"a/b":{{{FILE}}}}}}}',
    "dots": f'{HEAD}"..":{{{FILE}}}}}}}',
    "no name": f'{HEAD}"":{{{FILE}}}}}}}',
    "a digit of others": f'{HEAD}"a":{{{FILE.replace("7", chr(0x667))}}}}}}}',
    "another kind": f'{HEAD.replace("tree.1", "tree.2")}"a":{{{FILE}}}}}}}',
}


@pytest.mark.parametrize("text", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_files_alone_are_read_as_strictly_as_other_trees(text: str) -> None:
    with pytest.raises(IntegrityError):
        Tree.decode(text.encode())


@pytest.mark.parametrize("executable", [False, True])
@pytest.mark.parametrize("name", ["a", "a b", "ü", "\x7f", '"', "\\", "\n", "...", "}}"])
def test_trees_of_files_are_read_as_they_were(name: str, executable: bool) -> None:
    one = File(Digest("0" * 64), 10**15, executable)
    tree = Tree({name: one, "other": File(Digest("1" * 64), 0)})
    assert Tree.decode(tree.encode()) == tree
