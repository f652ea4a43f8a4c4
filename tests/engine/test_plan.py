"""Plans: what is cached, what would run and why, and what has to wait to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.plan import Blocked, Cached, Run
from executors.simulated import Simulation

if TYPE_CHECKING:
    from engine.plan import Plan
    from tests.engine.conftest import Document, Workshop

SOURCES = {"src": {"a": "1", "b": "2"}}


def document(**needs: str) -> Document:
    """Return a document of actions by what they need, each with an output `o`."""
    actions: dict[str, Any] = {
        name: {"run": [name], "inputs": needed.split(), "outputs": ["o"]}
        for name, needed in needs.items()
    }
    return {"actions": actions, "sources": {"src": {"path": "."}}}


def kinds(plan: Plan) -> dict[str, str]:
    """Return the steps by the names of their classes."""
    return {label: type(step).__name__ for label, step in plan.steps.items()}


def reason(workshop: Workshop, document: Document, **options: Any) -> str:
    """Return why the action `a` would run."""
    step = workshop.plan(workshop.graph(document, SOURCES, **options)).steps["a"]
    assert isinstance(step, Run), step
    return step.reason


def test_what_was_never_built_runs_or_waits(workshop: Workshop) -> None:
    plan = workshop.plan(workshop.graph(document(c="b", b="a src:a", a="src:b"), SOURCES))
    assert plan.steps["a"] == Run("never built before")
    assert plan.steps["b"] == Blocked(("a",))
    assert plan.steps["c"] == Blocked(("b",))
    assert list(plan.steps) == ["a", "b", "c"]


def test_planning_changes_nothing(workshop: Workshop) -> None:
    graph = workshop.graph(document(b="a", a="src:a"), SOURCES)
    first = workshop.plan(graph)
    assert workshop.plan(graph).steps == first.steps


def test_below_what_is_realised_nothing_is_looked_at(workshop: Workshop) -> None:
    graph = workshop.graph(document(c="b", b="a", a="src:a"), SOURCES)
    workshop.build(graph)
    assert kinds(workshop.plan(graph, "c")) == {"c": "Cached"}
    assert kinds(workshop.plan(graph, "b")) == {"b": "Cached"}


def test_a_target_below_another_one_is_planned(workshop: Workshop) -> None:
    graph = workshop.graph(document(c="b", b="a", a="src:a"), SOURCES)
    workshop.build(graph)
    assert kinds(workshop.plan(graph, "c", "a")) == {"a": "Cached", "c": "Cached"}


def test_a_new_step_on_realised_ones_is_resolved_at_once(workshop: Workshop) -> None:
    workshop.build(workshop.graph(document(b="a", a="src:a"), SOURCES))
    graph = workshop.graph(document(c="b", b="a", a="src:a"), SOURCES)
    assert kinds(workshop.plan(graph, "c")) == {"b": "Cached", "c": "Run"}


def test_a_lost_realisation_is_made_up_for_by_the_action_cache(workshop: Workshop) -> None:
    made = document(a="src:a")
    workshop.build(workshop.graph(made, SOURCES))
    made["actions"]["a"]["inputs"] = ["src:a", "src:[a]"]  # another recipe, the same action
    graph = workshop.graph(made, SOURCES)
    assert isinstance(workshop.plan(graph).steps["a"], Cached)


def test_what_failed_last_time_says_so(workshop: Workshop) -> None:
    workshop.behave = lambda request: Simulation(exit_code=1)
    workshop.build(workshop.graph(document(a="src:a"), SOURCES))
    assert reason(workshop, document(a="src:a")) == "failed last time"


def test_what_was_lost_says_so(workshop: Workshop) -> None:
    result = workshop.build(workshop.graph(document(a="src:a"), SOURCES))
    cas = workshop.store.cas
    lost = cas.get_tree(result.steps["a"].outputs).entries["o"]  # type: ignore[union-attr]
    cas.quarantine(lost.digest, False)  # type: ignore[union-attr]
    assert reason(workshop, document(a="src:a")) == "its result is no longer in the store"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"run": ["a", "-v"]}, "flag added: -v"),
        ({"env": {"A": "1"}}, "variable A added: 1"),
        ({"outputs": ["o", "p"]}, "output p added"),
        ({"inputs": ["src:a", "src:b"]}, "file src/b added"),
        ({"depfile": True}, "depfile False → True"),
        ({"env": {"A": "1"}, "run": ["b"]}, "flag a → b; variable A added: 1"),
    ],
)
def test_a_change_is_the_reason(workshop: Workshop, change: dict[str, Any], expected: str) -> None:
    made = document(a="src:a")
    workshop.build(workshop.graph(made, SOURCES))
    made["actions"]["a"].update(change)
    assert reason(workshop, made) == expected


def test_the_reason_is_the_difference_to_the_closest_past_action(workshop: Workshop) -> None:
    made = document(a="src:a")
    for value in ("1", "2"):
        made["actions"]["a"].update(env={"A": value, "B": value}, run=["a", value])
        workshop.build(workshop.graph(made, SOURCES))
    made["actions"]["a"].update(env={"A": "1", "B": "3"}, run=["a", "1"])
    assert reason(workshop, made) == "variable B 1 → 3"


def test_a_need_that_matches_nothing_is_told(workshop: Workshop) -> None:
    workshop.build(workshop.graph(document(a="src:a", b="a"), SOURCES))
    plan = workshop.plan(workshop.graph(document(a="src:a", b="a:o/*.h"), SOURCES))
    assert plan.steps["b"] == Run("nothing in a matches 'o/*.h'")


def test_long_chains_do_not_recurse(workshop: Workshop) -> None:
    chain = {f"a{n}": f"a{n - 1}" if n else "src:a" for n in range(3000)}
    graph = workshop.graph(document(**chain), SOURCES)
    assert len(workshop.plan(graph, "a2999").steps) == 3000
