"""Explanations: every difference between two actions is told by the thing that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from engine.explain import Change, differences, in_words, why_other
from store.cas import Cas
from store.digest import Digest
from store.objects import Action, Entry, File, Link
from store.trees import build_tree

if TYPE_CHECKING:
    from store.store import Store


def root(cas: Cas, **files: str | Entry) -> Digest:
    """Store a tree of texts and entries; `__` in a name stands for a slash."""
    entries: dict[str, Entry] = {}
    for name, held in files.items():
        if isinstance(held, str):
            held = File(cas.put_bytes(held.encode()), len(held.encode()))
        entries[name.replace("__", "/")] = held
    return build_tree(cas, entries)


def action(cas: Cas, **changes: Any) -> Action:
    """Return an action, changed."""
    plain = Action(
        command=("cc", "-O2", "-g", "a.c"),
        env={"A": "1", "B": "2"},
        input_root=root(cas),
        toolchains=(root(cas, usr__bin__cc="cc 1"),),
        outputs=("a.o",),
    )
    return evolve(plain, **changes)


def said(store: Store, old: Action, new: Action) -> list[str]:
    """Return the differences as phrases."""
    return [str(change) for change in differences(store.cas, old, new)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("one\ntwo\nthree\n", "one\n2\nthree\n", "file src/a.c changed (line 2)"),
        ("one\n", "one\ntwo\n", "file src/a.c changed (line 2)"),
        ("", "one\n", "file src/a.c changed (line 1)"),
        ("one", "ONE", "file src/a.c changed (line 1)"),
        ("one\0", "two\0", "file src/a.c changed"),
    ],
)
def test_a_changed_file_is_named_with_its_line(
    store: Store, old: str, new: str, expected: str
) -> None:
    before = action(store.cas, input_root=root(store.cas, src__a=Link("x"), **{"src__a.c": old}))
    after = action(store.cas, input_root=root(store.cas, src__a=Link("x"), **{"src__a.c": new}))
    assert said(store, before, after) == [expected]


def test_files_that_come_go_and_turn_into_something_else(store: Store) -> None:
    cas = store.cas
    tool = File(cas.put_bytes(b"x"), 1)
    before = root(cas, gone="1", tool=tool, link=Link("a"), kind="file", d__old="1")
    after = root(
        cas, come="1", tool=evolve(tool, executable=True), link=Link("b"), kind__x="1", d__new="1"
    )
    changes = said(store, action(cas, input_root=before), action(cas, input_root=after))
    assert changes == [
        "file come added",
        "file d/new added",
        "file d/old removed",
        "file gone removed",
        "file kind changed",
        "file link changed (a → b)",
        "file tool changed (executable bit)",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"command": ("cc", "-O3", "-g", "a.c")}, ["flag -O2 → -O3"]),
        ({"command": ("cc", "-O2", "a.c")}, ["flag removed: -g"]),
        ({"command": ("cc", "-O2", "-g", "-v", "a.c")}, ["flag added: -v"]),
        ({"command": ("gcc", "-O2", "-g", "b.c")}, ["flag cc → gcc", "flag a.c → b.c"]),
        ({"env": {"A": "1", "B": "3"}}, ["variable B 2 → 3"]),
        ({"env": {"A": "1"}}, ["variable B removed: 2"]),
        ({"env": {"A": "1", "B": "2", "C": ""}}, ["variable C added: "]),
        ({"outputs": ("a.o", "a.d")}, ["output a.d added"]),
        ({"outputs": ()}, ["output a.o removed"]),
        ({"platform": "aarch64-linux"}, ["platform x86_64-linux → aarch64-linux"]),
        ({"isolation": "native.1"}, ["isolation hermetic.1 → native.1"]),
        ({"depfile": True}, ["depfile False → True"]),
        ({"toolchains": ()}, ["tool toolchains number changed: 1 → 0"]),
    ],
)
def test_what_else_changed_is_named(
    store: Store, changes: dict[str, Any], expected: list[str]
) -> None:
    assert said(store, action(store.cas), action(store.cas, **changes)) == expected


def test_a_changed_tool_is_named(store: Store) -> None:
    newer = root(store.cas, usr__bin__cc="cc 2", usr__bin__ld="ld")
    assert said(store, action(store.cas), action(store.cas, toolchains=(newer,))) == [
        "tool usr/bin/cc changed (line 1)",
        "tool usr/bin/ld added",
    ]


def test_a_changed_script_is_shown(store: Store) -> None:
    script = "cd src\nmake\n"
    before = action(store.cas, command=("/bin/sh", "-eu", "-c", script))
    after = evolve(before, command=("/bin/sh", "-eu", "-c", script.replace("make", "make -j")))
    assert said(store, before, after) == ["script changed: - make + make -j"]


def test_what_the_store_no_longer_holds_is_said_so(store: Store) -> None:
    gone = action(store.cas, input_root=Digest("0" * 64))
    assert said(store, gone, action(store.cas)) == [
        "file changed (what it was before is no longer in the store)"
    ]


texts = st.sampled_from(["a", "b", "c"])
changes = st.fixed_dictionaries(
    {},
    optional={
        "command": st.lists(texts, max_size=4).map(tuple)
        | st.tuples(st.just("sh"), st.just("-eu"), st.just("-c"), texts),
        "env": st.dictionaries(texts, texts, max_size=2),
        "outputs": st.lists(texts, max_size=2, unique=True).map(lambda o: tuple(sorted(o))),
        "platform": texts,
        "isolation": texts,
        "depfile": st.booleans(),
        "files": st.dictionaries(texts, texts, max_size=3),
        "toolchains": st.lists(st.dictionaries(texts, texts, max_size=2), max_size=2),
    },
)


@pytest.fixture(scope="session")
def cas(tmp_path_factory: pytest.TempPathFactory) -> Cas:
    """A CAS that many examples share."""
    made = Cas(tmp_path_factory.mktemp("cas"))
    made.create()
    return made


def drawn(cas: Cas, changes: dict[str, Any]) -> Action:
    """Return the action of a drawn change."""
    rest = {name: value for name, value in changes.items() if name not in ("files", "toolchains")}
    if "toolchains" in changes:
        rest["toolchains"] = tuple(root(cas, **files) for files in changes["toolchains"])
    return action(cas, **rest, input_root=root(cas, **changes.get("files", {})))


@given(changes, changes)
def test_there_is_a_difference_where_and_only_where_the_digests_differ(
    cas: Cas, old: dict[str, Any], new: dict[str, Any]
) -> None:
    before, after = drawn(cas, old), drawn(cas, new)
    assert any(differences(cas, before, after)) == (before.digest() != after.digest())


def test_the_closest_action_is_the_one_with_fewest_differences(store: Store) -> None:
    new = action(store.cas, env={"A": "1", "B": "9"})
    far = action(store.cas, env={"A": "8", "B": "8"})
    near = action(store.cas)
    assert why_other(store.cas, [far, near], new) == "variable B 2 → 9"
    assert why_other(store.cas, [new], new) == ""
    assert why_other(store.cas, [], new) is None


def test_many_changes_are_cut_short() -> None:
    many = [Change("file", name, "added") for name in "abcde"]
    assert in_words(many) == "file a added; file b added; file c added; and 2 more"
    assert in_words(many[:1]) == "file a added"
    assert in_words([]) == ""


def test_of_many_changed_files_the_first_few_are_told_in_detail(store: Store) -> None:
    old, new = (
        action(store.cas, input_root=root(store.cas, **dict.fromkeys("abcde", text)))
        for text in ("same\nold\n", "same\nnew\n")
    )
    assert said(store, old, new) == [f"file {name} changed (line 2)" for name in "abcde"]
    shown = "; ".join(f"file {name} changed (line 2)" for name in "abc")
    assert why_other(store.cas, [old], new) == f"{shown}; and 2 more"
