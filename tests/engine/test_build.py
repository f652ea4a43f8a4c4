"""The build loop in virtual time: what runs, in which order, and what is not run again."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from engine.plan import Cached
from engine.result import BuildStatus, Built
from engine.timeline.events import BuildFinished, StepCached, StepFinished, StepStarted
from executors.simulated import Simulation
from store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from executors.base import ExecutionRequest
    from tests.engine.conftest import Document, Workshop


def actions(**needs: str) -> Document:
    """Return a document of actions by what they need, each with an output `o`."""
    return {
        "actions": {
            name: {"run": [name], "inputs": needed.split(), "outputs": ["o"]}
            for name, needed in needs.items()
        }
    }


def many(width: int, depth: int) -> Document:
    """Return a document of `width * depth` actions, each of which needs three of the layer before
    it."""
    made: dict[str, Any] = {}
    for layer in range(depth):
        for number in range(width):
            near = {(number * 7 + offset) % width for offset in range(3)}
            inputs = [f"a{layer - 1}-{one}" for one in sorted(near)] if layer else []
            name = f"a{layer}-{number}"
            made[name] = {"run": [name], "inputs": inputs, "outputs": ["o"]}
    return {"actions": made}


def uneven(request: ExecutionRequest) -> Simulation:
    """Take one to four seconds, by the action's digest, so that many end at the same time."""
    return Simulation(seconds=1.0 + int(request.action.digest()[:2], 16) % 4)


def order(workshop: Workshop) -> list[tuple[float, str, str]]:
    """Return the starts and ends of the last build with their virtual times since its begin."""
    began = workshop.events[0][0]
    return [
        (time - began, type(event).__name__, event.label)
        for time, event in workshop.events
        if isinstance(event, StepStarted | StepFinished)
    ]


def test_everything_is_built_once_needed_ones_first(workshop: Workshop) -> None:
    result = workshop.build(workshop.graph(actions(c="b", b="a", a="")))
    assert result.status is BuildStatus.OK
    assert list(result.steps) == ["a", "b", "c"]
    assert result.count(Built) == 3
    finished = workshop.told(BuildFinished)
    assert finished[0].counts["built"] == 3


def test_a_second_build_runs_nothing(workshop: Workshop) -> None:
    graph = workshop.graph(actions(c="b", b="a", a=""))
    first = workshop.build(graph)
    second = workshop.build(graph)
    assert second.count(Cached) == len(second.steps) == 3
    assert {label: step.outputs for label, step in second.steps.items()} == {  # type: ignore[union-attr]
        label: step.outputs  # type: ignore[union-attr]
        for label, step in first.steps.items()
    }


def test_only_what_is_needed_is_built(workshop: Workshop) -> None:
    graph = workshop.graph(actions(c="b", b="a", a="", d="a"))
    assert set((workshop.build(graph, "b")).steps) == {"a", "b"}


def test_thousands_of_actions_run_the_same_way_every_time(
    workshop: Workshop, tmp_path: Path
) -> None:
    document = many(width=100, depth=20)
    workshop.behave = uneven
    workshop.build(workshop.graph(document), cpus=16)
    first = order(workshop)
    with Store(tmp_path / "other") as store:
        again = type(workshop)(store, workshop.maker, behave=uneven)
        again.build(again.graph(document), cpus=16)
    assert order(again) == first
    assert len(first) == 2 * 2000


@pytest.mark.parametrize("cpus", [1, 3])
def test_no_more_runs_at_a_time_than_there_are_processors(workshop: Workshop, cpus: int) -> None:
    workshop.behave = uneven
    workshop.build(workshop.graph(many(10, 3)), cpus=cpus)
    running, most = 0, 0
    for _, kind, _ in order(workshop):
        running += 1 if kind == "StepStarted" else -1
        most = max(most, running)
    assert most == cpus


def test_the_longest_chain_starts_first(workshop: Workshop) -> None:
    graph = workshop.graph(actions(x="", y="", z="", y2="y", y3="y2", z2="z"))
    workshop.build(graph, cpus=1)
    assert [event.label for event in workshop.told(StepStarted)] == [
        "y",
        "y2",
        "z",
        "x",
        "y3",
        "z2",
    ]


def test_past_durations_count_for_the_longest_chain(workshop: Workshop) -> None:
    document = actions(x="", y="", y2="y")
    workshop.behave = lambda request: Simulation(seconds=9 if request.label == "x" else 1)
    workshop.build(workshop.graph(document), cpus=1)
    for action in document["actions"].values():
        action["env"] = {"A": "1"}
    workshop.build(workshop.graph(document), cpus=1)
    assert [event.label for event in workshop.told(StepStarted)] == ["x", "y", "y2"]


def test_long_chains_do_not_recurse(workshop: Workshop) -> None:
    chain = {f"a{n}": f"a{n - 1}" if n else "" for n in range(3000)}
    result = workshop.build(workshop.graph(actions(**chain)), "a2999")
    assert result.count(Built) == 3000
    assert result.status is BuildStatus.OK


@pytest.mark.parametrize("cpus", [1, 2, 8])
def test_identical_actions_run_once(workshop: Workshop, cpus: int) -> None:
    document = actions(a="", b="", c="", after_b="b", other="")
    for name in "abc":
        document["actions"][name]["run"] = ["the", "same"]
    result = workshop.build(workshop.graph(document), cpus=cpus)
    assert result.status is BuildStatus.OK
    ran = Counter(type(result.steps[name]) for name in "abc")
    assert ran == {Built: 1, Cached: 2}
    assert len({result.steps[name].outputs for name in "abc"}) == 1  # type: ignore[union-attr]
    assert isinstance(result.steps["after_b"], Built)
    assert isinstance(result.steps["other"], Built)


def test_a_rebuilt_input_with_the_same_bytes_stops_the_rebuild(workshop: Workshop) -> None:
    document = actions(a="", b="a", c="b")
    workshop.behave = lambda request: Simulation(contents={"o": request.label.encode()})
    workshop.build(workshop.graph(document))
    document["actions"]["a"]["env"] = {"COMMENT": "new"}
    result = workshop.build(workshop.graph(document))
    assert [type(result.steps[name]) for name in "abc"] == [Built, Cached, Cached]
    assert [event.label for event in workshop.told(StepCached)] == ["b", "c"]


def test_a_changed_input_runs_what_depends_on_it(workshop: Workshop) -> None:
    document = {**actions(a="src:a", b="src:b", c="a"), "sources": {"src": {"path": "."}}}
    workshop.build(workshop.graph(document, {"src": {"a": "1", "b": "1"}}))
    changed = workshop.graph(document, {"src": {"a": "2", "b": "1"}})
    result = workshop.build(changed)
    assert [type(result.steps[name]) for name in "abc"] == [Built, Cached, Built]
    assert [event.reason for event in workshop.told(StepStarted)] == [
        "file src/a changed (line 1)",
        "file a/o changed (line 1)",
    ]
    back = workshop.build(workshop.graph(document, {"src": {"a": "1", "b": "1"}}))
    assert back.count(Cached) == 3


def test_what_was_not_read_runs_nothing(workshop: Workshop) -> None:
    action = {"run": ["x"], "inputs": ["src"], "outputs": ["o"], "depfile": True}
    document: Document = {"actions": {"x": action}, "sources": {"src": {"path": "."}}}
    workshop.behave = lambda request: Simulation(observed=("src/a",))

    def built(**files: str) -> bool:
        result = workshop.build(workshop.graph(document, {"src": files}))
        return isinstance(result.steps["x"], Built)

    assert built(a="1", b="1")
    assert not built(a="1", b="2")
    assert built(a="2", b="2")
    assert built(a="2", b="2", c="a new file")
    assert not built(a="1", b="3")


def test_a_lost_output_is_built_again(workshop: Workshop) -> None:
    graph = workshop.graph(actions(a="", b="a"))
    first = workshop.build(graph)
    step = first.steps["a"]
    assert isinstance(step, Built)
    cas = workshop.store.cas
    lost = next(iter(cas.get_tree(step.outputs).entries.values()))
    cas.quarantine(lost.digest, False)  # type: ignore[union-attr]
    again = workshop.build(graph, "a")
    assert isinstance(again.steps["a"], Built)
    assert (workshop.build(graph)).count(Cached) == 2
