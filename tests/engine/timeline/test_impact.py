"""Impact: what edits make run again, by graph, observed inputs and durations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.timeline.impact import Edit, Impact, impact
from engine.timeline.touched import Touched
from store.errors import InputError
from tests.engine.timeline.conftest import steps

if TYPE_CHECKING:
    from engine.graph import Graph
    from store.store import Store
    from tests.engine.conftest import Document, Files, Maker

C: Document = {
    "actions": {
        "gen": {"inputs": ["src:g.txt"], "run": ["gen"], "outputs": ["g.h", "more"]},
        "compile": {
            "foreach": ["src:*.c"],
            "inputs": ["{item}", "src:*.h", "gen"],
            "run": ["cc", "{item}", "{depfile}"],
            "outputs": ["{item.stem}.o"],
            "depfile": True,
        },
        "link": {"inputs": ["compile"], "run": ["ld"], "outputs": ["app"]},
    },
    "sources": {"src": {"path": "src"}},
}
SRC = {"a.c": "", "b.c": "", "a.h": "", "b.h": "", "g.txt": ""}
READ = {
    "compile[src/a.c]": ("src/a.c", "src/a.h"),
    "compile[src/b.c]": ("src/b.c", "src/b.h", "gen/g.h"),
}


def said(
    graph: Graph,
    edited: Mapping[str, Collection[str]],
    read: Mapping[str, Collection[str]] | None = None,
    took: Mapping[str, float] | None = None,
    processors: int = 2,
) -> Impact:
    """Return the impact of an edit of staged paths, by the steps that take them."""
    steps = {label: frozenset(paths) for label, paths in edited.items()}
    edit = Edit(path="x", kind="file", exact=True, steps=steps)
    return impact(
        graph,
        graph.order(),
        [edit],
        (read or {}).get,
        (took or {}).get,
        processors,
        anyway={"link", "gen"},
    )


def affected(found: Impact) -> dict[str, str]:
    return {one.label: one.because for one in found.affected}


def test_a_header_runs_only_what_read_it_again(maker: Maker) -> None:
    graph = maker.graph(C, {"src": SRC})
    header = dict.fromkeys(READ, ("src/b.h",))
    assert affected(said(graph, header, READ)) == {
        "compile[src/b.c]": "x",
        "link": "compile[src/b.c]",
    }
    assert set(affected(said(graph, header))) == {*READ, "link"}  # nobody knows what was read


def test_what_another_step_makes_counts_where_it_was_read(maker: Maker) -> None:
    graph = maker.graph(C, {"src": SRC})
    found = said(graph, {"gen": ["src/g.txt"]}, READ)
    assert affected(found) == {
        "gen": "x",
        "compile[src/b.c]": "gen",
        "link": "compile[src/b.c]",
    }
    assert (found.steps, found.anyway, found.exact) == (4, (), True)
    assert said(graph, {}).anyway == ("gen", "link")


def test_it_takes_what_it_took_last(maker: Maker) -> None:
    graph = maker.graph(C, {"src": SRC})
    sources = {"compile[src/a.c]": ["src/a.c"], "compile[src/b.c]": ["src/b.c"]}
    took = {"compile[src/a.c]": 4.0, "compile[src/b.c]": 6.0, "link": 1.0}
    both = said(graph, sources, READ, took)
    assert (both.seconds, both.longest, both.work, both.unknown) == (7, 7, 11, 0)
    assert said(graph, sources, READ, took, processors=1).seconds == 11
    del took["compile[src/b.c]"]
    guessed = said(graph, sources, READ, took)
    assert {one.label: (one.seconds, one.known) for one in guessed.affected} == {
        "compile[src/a.c]": (4, True),
        "compile[src/b.c]": (4, False),
        "link": (1, True),
    }
    assert guessed.document()["never_ran"] == 1
    assert said(graph, sources, READ).work == 3  # nothing ever ran


def test_a_spec_is_not_exact(maker: Maker) -> None:
    graph = maker.graph(C, {"src": SRC})
    edit = Edit(path="spec.toml", kind="spec", exact=False, steps={"link": frozenset()})
    found = impact(graph, graph.order(), [edit], READ.get, lambda _: None, 1)
    assert affected(found) == {"link": "spec.toml"}
    assert not found.exact


@given(st.data())
def test_all_that_needs_an_edited_step_is_affected(data: Any) -> None:
    from tests.engine.conftest import Maker

    count = data.draw(st.integers(1, 9))
    needs: dict[str, str] = {}
    for number in range(count):
        below = data.draw(st.sets(st.sampled_from(range(number)), max_size=3)) if number else set()
        needs[f"s{number}"] = " ".join(f"s{one}" for one in sorted(below))
    graph = Maker().graph(steps(**needs))
    edited = data.draw(st.sets(st.sampled_from(sorted(needs))))
    seconds = data.draw(st.fixed_dictionaries(dict.fromkeys(needs, st.integers(1, 9).map(float))))
    processors = data.draw(st.integers(1, 3))
    found = said(graph, dict.fromkeys(edited, ()), took=seconds, processors=processors)
    expected = set(edited)
    for label, below in needs.items():
        if expected & {*below.split()}:
            expected.add(label)
    assert set(affected(found)) == expected
    assert found.work == sum(seconds[label] for label in expected)
    assert max(found.longest, found.work / processors) <= found.seconds <= found.work


# paths


SPEC = """
    [package]
    name = "p"
    [sources.src]
    path = "src"
    [actions.one]
    inputs = ["src:*.c"]
    run = ["x"]
    outputs = ["o"]
    [actions.two]
    inputs = ["src", "one"]
    run = ["y"]
    """


@pytest.fixture
def touched(files: Files, store: Store) -> Touched:
    """What tells of paths of a small project in the current directory."""
    from engine.evaluate import evaluate

    for name in ("src/a.c", "src/b.c", "src/sub/x.txt", "notes.md"):
        files.put(name, name)
    path = files.put("spec.toml", SPEC)
    graph = evaluate(store, path, {}, None, "simulated.1").graph
    return Touched(store.cas, graph, graph.order(), {})


def test_paths_are_known_by_who_takes_them(touched: Touched, files: Files) -> None:
    one = touched.edit("src/a.c")
    assert (one.kind, one.exact) == ("file", True)
    assert one.steps == {"one": {"src/a.c"}, "two": {"src/a.c"}}
    assert touched.edit("src/sub").steps == {"two": {"src/sub/x.txt"}}
    assert touched.edit(str(files.directory / "src")).kind == "directory"
    assert set(touched.edit("./src/../src/").steps) == {"one", "two"}
    spec = touched.edit("spec.toml")
    assert (spec.kind, spec.exact, set(spec.steps)) == ("spec", False, {"one", "two"})


def test_paths_that_are_no_part_of_it_are_errors(touched: Touched, files: Files) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        touched.edit("src/aa.c")
    assert caught.value.hint == "did you mean 'src/a.c'?"
    with pytest.raises(InputError, match="is no part of") as caught:
        touched.edit("notes.md")
    assert "sources lie in src" in caught.value.hint
    files.put("src/new.txt", "")
    found = touched.edit("src/new.txt")  # it came after the evaluation
    assert (found.steps, found.note) == ({}, "no action takes it")
