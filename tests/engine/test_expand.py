"""Specs expanded into graphs: matrices, items, selections, and whatever can be wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.spec.faults import SpecError
from store.errors import InputError

if TYPE_CHECKING:
    from engine.graph import Graph, Recipe
    from tests.engine.conftest import Maker

SOURCES = {
    "src": {"a.c": "A", "b.c": "B", "sub/c.c": "C", "sub/d.h": "D", ".hidden.c": "E", "plain": ""}
}


def document(**actions: dict[str, Any]) -> dict[str, Any]:
    """Return a document of actions, each of which runs `x` unless it says otherwise."""
    return {
        "params": {"opt": 2, "debug": True, "who": "you"},
        "sources": {"src": {"path": "."}},
        "toolchains": {"sh": "sh.toml"},
        "actions": {
            name: action if "run" in action or "script" in action else {"run": ["x"], **action}
            for name, action in actions.items()
        },
    }


def graph(maker: Maker, **actions: dict[str, Any]) -> Graph:
    """Return the graph of some actions over `SOURCES`."""
    return maker.graph(document(**actions), SOURCES)


def staged(recipe: Recipe) -> set[str]:
    """Return the paths of all that a recipe takes from sources."""
    return {path for selection in recipe.selections for path in selection.entries}


def faults(maker: Maker, **actions: dict[str, Any]) -> list[str]:
    """Return the messages of what is wrong with some actions."""
    with pytest.raises(SpecError) as caught:
        graph(maker, **actions)
    return [fault.message for fault in caught.value.faults]


def test_one_action_is_one_recipe(maker: Maker) -> None:
    made = graph(maker, x={"run": ["cc", "-O{opt}", "{who}", "{debug}", "{package.name}"]})
    assert made.artifacts == {"x": ("x",)}
    assert made.recipes["x"].command == ("cc", "-O2", "you", "true", "test")


def test_a_script_runs_in_the_shell_of_a_toolchain(maker: Maker) -> None:
    made = graph(maker, x={"script": "echo {who} ${HOME} $out", "tools": ["sh"]})
    assert made.recipes["x"].command == ("/bin/sh", "-eu", "-c", "echo you ${HOME} $out")


def test_foreach_makes_a_recipe_of_each_file_in_order(maker: Maker) -> None:
    made = graph(
        maker,
        x={
            "foreach": "src:**/*.c",
            "inputs": ["{item}"],
            "run": ["cc", "{item}", "{item.name}", "{item.stem}", "{item.dir}"],
            "outputs": ["{item.dir}/{item.stem}.o"],
        },
    )
    assert made.artifacts["x"] == ("x[src/a.c]", "x[src/b.c]", "x[src/sub/c.c]")
    last = made.recipes["x[src/sub/c.c]"]
    assert last.command == ("cc", "src/sub/c.c", "c.c", "c", "src/sub")
    assert last.outputs == ("src/sub/c.o",)
    assert staged(last) == {"src/sub/c.c"}


def test_foreach_runs_over_the_outputs_of_an_action(maker: Maker) -> None:
    made = graph(
        maker,
        make={"outputs": ["a.c", "b.c", "c.h"]},
        x={"foreach": "make:*.c", "inputs": ["{item}"], "outputs": ["{item.stem}"]},
    )
    assert made.artifacts["x"] == ("x[make/a.c]", "x[make/b.c]")
    (need,) = made.recipes["x[make/a.c]"].needs
    assert (need.recipe, need.stage, need.pattern) == ("make", "make", "a.c")


def test_foreach_takes_a_file_once(maker: Maker) -> None:
    made = graph(
        maker, x={"foreach": ["src:b.c", "src:*.c", "src:a.c"], "outputs": ["{item.stem}"]}
    )
    assert sorted(made.artifacts["x"]) == ["x[src/a.c]", "x[src/b.c]"]


def test_a_matrix_makes_all_combinations(maker: Maker) -> None:
    made = graph(
        maker,
        x={
            "matrix": {"n": [1, 2], "b": [True, False]},
            "run": ["x", "{matrix.n}", "{matrix.b}"],
            "outputs": ["{matrix.n}-{matrix.b}"],
        },
    )
    assert made.artifacts["x"] == (
        *("x[n=1,b=true]", "x[n=1,b=false]", "x[n=2,b=true]", "x[n=2,b=false]"),
    )
    assert made.recipes["x[n=2,b=false]"].command == ("x", "2", "false")


@pytest.mark.parametrize(
    ("when", "left"),
    [
        ({}, ["n=1", "n=2", "n=3"]),
        ({"n": 2}, ["n=2"]),
        ({"n": [1, 3]}, ["n=1", "n=3"]),
        ({"n": []}, []),
        ({"n": 4}, []),
        ({"debug": True}, ["n=1", "n=2", "n=3"]),
        ({"debug": False}, []),
        ({"n": 1, "who": ["me", "you"]}, ["n=1"]),
        ({"n": "1"}, []),
    ],
)
def test_when_keeps_what_matches(maker: Maker, when: dict[str, Any], left: list[str]) -> None:
    made = graph(maker, x={"matrix": {"n": [1, 2, 3]}, "when": when, "outputs": ["{matrix.n}"]})
    assert made.artifacts["x"] == tuple(f"x[{one}]" for one in left)


def test_when_tells_numbers_from_booleans(maker: Maker) -> None:
    made = graph(
        maker,
        x={"matrix": {"n": [1, True]}, "when": {"n": True}, "outputs": ["{matrix.n}"]},
        y={"matrix": {"n": [0, False]}, "when": {"n": [0]}, "outputs": ["{matrix.n}"]},
    )
    assert made.artifacts["x"] == ("x[n=true]",)
    assert made.artifacts["y"] == ("y[n=0]",)


def test_a_matrix_and_items_are_crossed(maker: Maker) -> None:
    made = graph(
        maker,
        x={
            "matrix": {"n": [1, 2]},
            "foreach": "src:{matrix.n}*",
            "outputs": ["{matrix.n}"],
            "when": {"n": []},
        },
        y={"matrix": {"n": [1, 2]}, "foreach": "src:?.c", "outputs": ["{matrix.n}{item.stem}"]},
    )
    assert len(made.artifacts["y"]) == 4
    assert "y[src/b.c,n=2]" in made.recipes


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("src", {"src"}),
        ("src:*.c", {"src/a.c", "src/b.c"}),
        ("src:.*", {"src/.hidden.c"}),
        ("src:sub", {"src/sub/c.c", "src/sub/d.h"}),
        ("src:sub/", {"src/sub/c.c", "src/sub/d.h"}),
        ("src:sub/**", {"src/sub/c.c", "src/sub/d.h"}),
        ("src:plain", {"src/plain"}),
    ],
)
def test_selections(maker: Maker, selector: str, expected: set[str]) -> None:
    assert staged(graph(maker, x={"inputs": selector}).recipes["x"]) == expected


def test_order_of_actions_does_not_matter(maker: Maker) -> None:
    made = graph(maker, last={"inputs": "mid"}, mid={"inputs": "first"}, first={"outputs": "x"})
    assert made.order(("last",)) == ["first", "mid", "last"]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({"inputs": "scr"}, "unknown input 'scr'"),
        ({"inputs": "src:*.z"}, "'src:*.z' matches nothing"),
        ({"inputs": "other:*.z"}, "'other:*.z' matches nothing"),
        ({"inputs": "src:"}, "'src:': a selector is artifact, artifact:glob or"),
        ({"inputs": "x"}, "a cycle: x → x"),
        ({"foreach": "src:*.z", "outputs": "{item.stem}"}, "'src:*.z' matches nothing"),
        ({"foreach": "src:*.c", "outputs": "o"}, "duplicate output 'o', by x[src/a.c] and x[src/b"),
        ({"matrix": {"n": [1, 1]}, "outputs": "{matrix.n}"}, "duplicate output '1'"),
        ({"matrix": {"n": [1, 2, 3, 4]}, "outputs": "o"}, "by x[n=1] and x[n=2], and 2 more"),
        ({"outputs": ["a", "a"]}, "duplicate output 'a'"),
        ({"outputs": ["a", "a/b"]}, "overlapping output 'a/b'"),
        ({"outputs": ["a/b", "a"]}, "overlapping output 'a/b'"),
        ({"matrix": {"n": ["a", "a/b"]}, "outputs": "{matrix.n}"}, "overlapping output 'a/b'"),
        ({"matrix": {"n": ["a/b", "a"]}, "outputs": "{matrix.n}"}, "overlapping output 'a'"),
        ({"outputs": "/a"}, "bad output path '/a'"),
        ({"outputs": "../a"}, "bad output path '../a'"),
        ({"outputs": "a//b"}, "bad output path 'a//b'"),
        ({"outputs": "a/"}, "bad output path 'a/'"),
        ({"outputs": ""}, "bad output path ''"),
        ({"outputs": "."}, "bad output path '.'"),
        ({"matrix": {"n": []}}, "axis 'n' has no values"),
        ({"when": {"m": 1}}, "unknown name 'm'"),
        ({"run": []}, "'run' is empty"),
        ({"run": ["x"], "script": "y"}, "has both 'run' or 'script'"),
        ({"script": "y"}, "a script needs a shell"),
        ({"run": ["{depfile}"]}, "unknown name in template {depfile}"),
        ({"run": ["{item}"]}, "unknown name in template {item}"),
        ({"env": {"A": "{x.y}"}}, "unknown name in template {x.y}"),
        ({"tools": ["hs"]}, "unknown toolchain 'hs'"),
        ({"kind": "tset"}, "'kind' is"),
        ({"env": {"TZ": "UTC"}}, "variable 'TZ' is bn's own"),
        ({"env": {"A=B": "C"}}, "'A=B' cannot name a variable"),
        ({"env": {"": "C"}}, "'' cannot name a variable"),
        ({"resources": {"cpus": 0}}, "'cpus' is at least 1"),
        ({"resources": {"memory": "lots"}}, "'lots' is not a size"),
        ({"resources": {"timeout": "1 fortnight"}}, "'1 fortnight' is not a duration"),
    ],
)
def test_faults(maker: Maker, action: dict[str, Any], message: str) -> None:
    found = faults(maker, x=action, other={"outputs": "o"})
    assert [fault for fault in found if message in fault], found


def test_all_faults_are_told_at_once(maker: Maker) -> None:
    found = faults(
        maker,
        x={"inputs": ["nothing", "src:*.z"], "tools": ["hs"], "outputs": "{y}", "run": ["{z}"]},
        y={"kind": "z"},
        z={"inputs": "x"},
    )
    assert len(found) == 6


def test_a_fault_is_told_once_however_many_recipes_have_it(maker: Maker) -> None:
    found = faults(maker, x={"foreach": "src:*.c", "run": ["{z}"], "outputs": "{item.stem}"})
    assert found == ["action 'x': unknown name in template {z}"]


@pytest.mark.parametrize("length", [2, 3, 2000])
def test_cycles_are_told(maker: Maker, length: int) -> None:
    actions = {f"a{n}": {"inputs": f"a{(n + 1) % length}", "outputs": "x"} for n in range(length)}
    (found,) = faults(maker, **actions)
    assert "a cycle: a" in found
    assert found.count("→") == length


@pytest.mark.parametrize("backwards", [False, True])
def test_long_chains_do_not_recurse(maker: Maker, backwards: bool) -> None:
    numbers = range(3000, 0, -1) if backwards else range(1, 3001)
    actions: dict[str, Any] = {f"a{n}": {"inputs": f"a{n - 1}", "outputs": "x"} for n in numbers}
    made = graph(maker, **actions, a0={"outputs": "x"})
    assert made.order(("a3000",))[:3] == ["a0", "a1", "a2"]
    assert len(made.recipes) == 3001


def test_targets_are_artifacts_or_steps(maker: Maker) -> None:
    made = graph(
        maker,
        x={"foreach": "src:*.c", "outputs": "{item.stem}"},
        none={"when": {"debug": False}},
        check={"kind": "test"},
    )
    assert made.labels_of("x") == ("x[src/a.c]", "x[src/b.c]")
    assert made.labels_of("x[src/b.c]") == ("x[src/b.c]",)
    assert made.default_targets() == ("x",)
    assert made.tests() == ("check",)
    with pytest.raises(InputError, match="no combination of it is left"):
        made.labels_of("none")
    with pytest.raises(InputError, match="unknown target 'chek'") as caught:
        made.labels_of("chek")
    assert caught.value.hint == "did you mean 'check'?"
