"""Recipe digests: what of a spec they depend on, and what not."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from engine.graph import Graph
    from tests.engine.conftest import Maker

SOURCES = {
    "src": {"a.c": "A", "b.c": "B", "inc/a.h": "H", "inc/b.h": "I"},
    "data": {"x.txt": "X", "d/y.txt": "Y"},
}
DOCUMENT: dict[str, Any] = {
    "params": {"opt": 2, "debug": False},
    "sources": {"src": {"path": "src"}, "data": {"path": "data"}},
    "toolchains": {"cc": "cc.toml", "sh": "sh.toml"},
    "actions": {
        "compile": {
            "foreach": ["src:*.c"],
            "tools": ["cc"],
            "inputs": ["{item}", "src:inc/*.h"],
            "run": ["cc", "-O{opt}", "{item}", "-o", "{out}/{item.stem}.o"],
            "outputs": ["{item.stem}.o"],
            "env": {"CFLAGS": "-g", "LANG_X": "c"},
            "depfile": True,
            "resources": {"cpus": 1},
        },
        "link": {
            "tools": ["cc"],
            "inputs": ["compile:a.o", "compile:b.o", "data", "src:inc/a.h"],
            "script": "cc compile/*.o -o $out/app",
            "outputs": ["app", "lib/x", "map"],
        },
        "many": {
            "tools": ["cc"],
            "matrix": {"n": [1, 2], "size": ["s", "l"]},
            "inputs": ["link", "data:**"],
            "run": ["touch", "{out}/{matrix.n}{matrix.size}"],
            "outputs": ["{matrix.n}{matrix.size}"],
        },
        "check": {"kind": "test", "tools": ["sh"], "inputs": ["many"], "script": "true"},
    },
}
LISTS_WITHOUT_ORDER = {"inputs", "outputs", "foreach"}


def permuted(value: Any, random: random.Random, name: str = "") -> Any:
    """Return a document with the same meaning: tables, keys and some lists in another order."""
    if isinstance(value, dict):
        keys = list(value)
        if name != "matrix":
            random.shuffle(keys)
        return {key: permuted(value[key], random, key) for key in keys}
    if isinstance(value, list) and name in LISTS_WITHOUT_ORDER:
        return random.sample(value, len(value))
    return value


def digests(graph: Graph) -> dict[str, str]:
    """Return the recipe digests by label."""
    return {label: recipe.digest for label, recipe in graph.recipes.items()}


def changed_by(maker: Maker, change: Callable[[Any], object], **options: Any) -> set[str]:
    """Return the artifacts of which a recipe digest changes with a change of the document."""
    other = copy.deepcopy(DOCUMENT)
    change(other["actions"])
    before = maker.graph(DOCUMENT, SOURCES)
    after = maker.graph(other, options.pop("sources", SOURCES), **options)
    assert before.artifacts.keys() == after.artifacts.keys()
    return {
        name
        for name in before.artifacts
        if {before.recipes[label].digest for label in before.artifacts[name]}
        != {after.recipes[label].digest for label in after.artifacts[name]}
    }


@given(st.randoms(use_true_random=False))
def test_order_of_tables_keys_and_inputs_does_not_matter(
    maker: Maker, random: random.Random
) -> None:
    other = permuted(DOCUMENT, random)
    assert digests(maker.graph(other, SOURCES)) == digests(maker.graph(DOCUMENT, SOURCES))


@given(st.permutations([1, 2]), st.permutations(["s", "l"]), st.permutations(["n", "size"]))
def test_order_of_a_matrix_does_not_matter(
    maker: Maker, ns: list[int], sizes: list[str], axes: list[str]
) -> None:
    values: dict[str, list[Any]] = {"n": ns, "size": sizes}

    def change(actions: Any) -> None:
        actions["many"]["matrix"] = {axis: values[axis] for axis in axes}

    assert changed_by(maker, change) == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda actions: actions["link"].update(resources={"cpus": 4, "memory": "1GB"}),
        lambda actions: actions["compile"].update(resources={"timeout": "1s"}),
        lambda actions: actions["check"].update(kind="build"),
        lambda actions: actions["link"].update(kind="test"),
        lambda actions: actions["link"].update(when={"opt": 2}),
        lambda actions: actions["link"]["inputs"].append("data"),
        lambda actions: actions["compile"].update(foreach=["src:a.c", "src:b.c", "src:*.c"]),
    ],
)
def test_what_cannot_change_bytes_is_in_no_digest(
    maker: Maker, change: Callable[[Any], object]
) -> None:
    assert changed_by(maker, change) == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda action: action["run"].append("-v"),
        lambda action: action["run"].insert(0, action["run"].pop()),
        lambda action: action["env"].update(CFLAGS="-g3"),
        lambda action: action["env"].update(MORE=""),
        lambda action: action["env"].clear(),
        lambda action: action["outputs"].append("{item.stem}.d"),
        lambda action: action.update(depfile=False),
        lambda action: action.update(tools=["cc", "sh"]),
        lambda action: action.update(tools=["sh"]),
        lambda action: action["inputs"].append("data:x.txt"),
        lambda action: action["inputs"].pop(),
    ],
)
def test_what_can_change_bytes_changes_all_that_needs_it(
    maker: Maker, change: Callable[[Any], object]
) -> None:
    changed = changed_by(maker, lambda actions: change(actions["compile"]))
    assert changed == {"compile", "link", "many", "check"}


def test_a_change_at_the_end_changes_nothing_before_it(maker: Maker) -> None:
    assert changed_by(maker, lambda actions: actions["check"].update(script="false")) == {"check"}


def test_where_an_input_is_staged_is_in_the_digest(maker: Maker) -> None:
    actions = {
        "one": {"tools": ["sh"], "script": "x", "outputs": ["x"]},
        "two": {"tools": ["sh"], "script": "x", "outputs": ["x"]},
        "with_one": {"tools": ["sh"], "script": "y", "inputs": ["one"]},
        "with_two": {"tools": ["sh"], "script": "y", "inputs": ["two"]},
        "with_part": {"tools": ["sh"], "script": "y", "inputs": ["two:x"]},
    }
    found = digests(maker.graph({"toolchains": {"sh": "sh.toml"}, "actions": actions}))
    assert found["one"] == found["two"]
    assert len({found[name] for name in ("with_one", "with_two", "with_part")}) == 3


def test_a_name_under_which_nothing_is_staged_is_in_no_digest(maker: Maker) -> None:
    renamed = copy.deepcopy(DOCUMENT)
    renamed["actions"]["verify"] = renamed["actions"].pop("check")
    renamed["params"]["unused"] = 1
    renamed["package"] = {"name": "other", "version": "2"}
    before = digests(maker.graph(DOCUMENT, SOURCES))
    after = digests(maker.graph(renamed, SOURCES))
    assert after.pop("verify") == before.pop("check")
    assert after == before


def test_a_changed_file_changes_what_takes_it(maker: Maker) -> None:
    def changed(source: str, path: str) -> set[str]:
        sources = {**SOURCES, source: {**SOURCES[source], path: "changed"}}
        return changed_by(maker, lambda _: None, sources=sources)

    assert changed("src", "a.c") == {"compile", "link", "many", "check"}
    assert changed("data", "d/y.txt") == {"link", "many", "check"}


def test_a_new_file_changes_what_takes_it(maker: Maker) -> None:
    def changed(path: str) -> set[str]:
        sources = {**SOURCES, "src": {**SOURCES["src"], path: "new"}}
        return changed_by(maker, lambda _: None, sources=sources)

    assert changed("inc/c.h") == {"compile", "link", "many", "check"}
    assert changed("README") == set()


def test_another_toolchain_changes_all_that_use_it(maker: Maker) -> None:
    everything = {"compile", "link", "many", "check"}
    assert changed_by(maker, lambda _: None, toolchain=b"newer") == everything


def test_parameters_change_what_names_them_and_come_back(maker: Maker) -> None:
    first = digests(maker.graph(DOCUMENT, SOURCES))
    other = digests(maker.graph(DOCUMENT, SOURCES, {"opt": 3}))
    assert {label for label in first if first[label] != other[label]} == set(first)
    assert digests(maker.graph(DOCUMENT, SOURCES, {"opt": 2})) == first
    assert digests(maker.graph(DOCUMENT, SOURCES, {"debug": True})) == first
