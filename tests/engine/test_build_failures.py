"""The build loop when something goes wrong: failures, interrupts, broken machines, moved inputs."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from engine.graph import Selection
from engine.plan import Cached
from engine.result import BuildStatus, Built, Cancelled, Failed, Skipped
from engine.timeline.events import BuildFinished, StepFinished, StepSkipped, StepStarted
from executors.simulated import Simulation
from store.cas import MissingBlob
from store.digest import Digest
from store.errors import HostError
from store.ingest import ingest_directory

if TYPE_CHECKING:
    from collections.abc import Callable
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


def failing(*labels: str, seconds: float = 1.0) -> Callable[[ExecutionRequest], Simulation]:
    """Return the behaviour of which some actions fail."""

    def behave(request: ExecutionRequest) -> Simulation:
        return Simulation(seconds=seconds, exit_code=2 if request.label in labels else 0)

    return behave


def kinds(steps: object) -> dict[str, str]:
    """Return how each step ended, as the name of its class."""
    assert isinstance(steps, Mapping)
    return {label: type(step).__name__ for label, step in sorted(steps.items())}


def test_after_a_failure_nothing_more_starts(workshop: Workshop) -> None:
    workshop.behave = failing("bad")
    graph = workshop.graph(actions(bad="", after="bad", later="after", other="", z="other"))
    result = workshop.build(graph, cpus=2)
    assert result.status is BuildStatus.FAILED
    assert kinds(result.steps) == {
        "after": "Skipped",
        "bad": "Failed",
        "later": "Skipped",
        "other": "Built",
        "z": "Skipped",
    }
    assert result.steps["z"] == Skipped("bad")


def test_with_keep_going_only_what_needs_it_is_skipped(workshop: Workshop) -> None:
    workshop.behave = failing("bad", "worse")
    needs = {"bad": "", "after": "bad other", "later": "after", "other": "", "z": "other"}
    graph = workshop.graph(actions(**needs, worse="z"))
    result = workshop.build(graph, cpus=1, keep_going=True)
    assert result.status is BuildStatus.FAILED
    assert kinds(result.steps) == {
        "after": "Skipped",
        "bad": "Failed",
        "later": "Skipped",
        "other": "Built",
        "worse": "Failed",
        "z": "Built",
    }
    assert {(e.label, e.because) for e in workshop.told(StepSkipped)} == {
        ("after", "bad"),
        ("later", "bad"),
    }
    counts = workshop.told(BuildFinished)[0].counts
    assert (counts["built"], counts["failed"], counts["skipped"]) == (2, 2, 2)


def test_a_failed_step_says_what_happened(workshop: Workshop) -> None:
    workshop.behave = failing("bad")
    result = workshop.build(workshop.graph(actions(bad="")))
    step = result.steps["bad"]
    assert isinstance(step, Failed)
    assert step.outcome
    assert (step.reason, step.outcome.exit_code) == ("exited with 2", 2)
    (event,) = workshop.told(StepFinished)
    assert (event.status, event.exit_code, event.outputs) == ("failed", 2, None)
    assert workshop.store.cas.get_bytes(Digest(event.log)) == b"exited with 2\n"


def test_a_failure_is_never_cached(workshop: Workshop) -> None:
    graph = workshop.graph(actions(bad="", after="bad"))
    workshop.behave = failing("bad")
    for _ in range(2):
        assert isinstance(workshop.build(graph).steps["bad"], Failed)
    workshop.behave = failing()
    assert workshop.build(graph).count(Built) == 2
    assert workshop.told(StepStarted)[0].reason == "failed last time"


def test_identical_actions_fail_together(workshop: Workshop) -> None:
    document = actions(a="", b="", after_b="b")
    document["actions"]["b"]["run"] = ["a"]
    workshop.behave = failing("a", "b")
    result = workshop.build(workshop.graph(document), keep_going=True)
    assert kinds(result.steps) == {"a": "Failed", "after_b": "Skipped", "b": "Failed"}
    assert len(workshop.told(StepStarted)) == 1


def test_an_action_that_takes_too_long_is_killed(workshop: Workshop) -> None:
    document = actions(slow="", quick="")
    document["actions"]["slow"]["resources"] = {"timeout": "10s"}
    workshop.behave = lambda request: Simulation(seconds=11)
    result = workshop.build(workshop.graph(document))
    assert isinstance(result.steps["quick"], Built)
    step = result.steps["slow"]
    assert isinstance(step, Failed)
    assert step.reason == "timed out after 10 s"


def test_an_output_that_is_not_there_fails_what_selects_it(workshop: Workshop) -> None:
    document = actions(a="", b="a:o/*.h")
    result = workshop.build(workshop.graph(document))
    step = result.steps["b"]
    assert isinstance(step, Failed)
    assert step.reason == "nothing in a matches 'o/*.h'"
    assert result.status is BuildStatus.FAILED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_build_and_keeps_what_was_built(
    workshop: Workshop, number: signal.Signals
) -> None:
    def behave(request: ExecutionRequest) -> Simulation:
        if request.label == "b":
            os.kill(os.getpid(), number)
        return Simulation(seconds=1e6 if request.label == "b" else 1)

    workshop.behave = behave
    graph = workshop.graph(actions(a="", b="a", c="b", d="a"))
    result = workshop.build(graph, cpus=1)
    assert result.status is BuildStatus.INTERRUPTED
    assert {label for label, step in result.steps.items() if isinstance(step, Cancelled)} >= {
        *("b", "c")
    }
    assert workshop.told(BuildFinished)[0].status == "interrupted"
    workshop.behave = failing()
    again = workshop.build(graph)
    assert isinstance(again.steps["a"], Cached)
    assert again.status is BuildStatus.OK


@pytest.mark.parametrize(
    "error",
    [HostError("no sandbox"), MissingBlob(Digest("0" * 64)), RuntimeError("a bug")],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_machine_ends_the_build_and_keeps_what_was_built(
    workshop: Workshop, error: Exception
) -> None:
    def behave(request: ExecutionRequest) -> Simulation:
        broken = request.label == "b"
        return Simulation(seconds=1 if broken else 2, error=error if broken else None)

    workshop.behave = behave
    graph = workshop.graph(actions(a="", b="a", c="a", d="c"))
    with pytest.raises(type(error)) as caught:
        workshop.build(graph)
    assert caught.value is error
    workshop.behave = failing()
    result = workshop.build(graph)
    assert isinstance(result.steps["a"], Cached)
    assert isinstance(result.steps["b"], Built)


def test_what_ends_together_with_an_error_is_kept(workshop: Workshop) -> None:
    error = HostError("no sandbox")
    workshop.behave = lambda request: Simulation(error=error if request.label == "a" else None)
    graph = workshop.graph(actions(a="", b="", c=""))
    with pytest.raises(HostError):
        workshop.build(graph)
    workshop.behave = failing()
    assert kinds(workshop.build(graph).steps) == {"a": "Built", "b": "Cached", "c": "Cached"}


def test_an_input_that_is_gone_is_an_error(workshop: Workshop) -> None:
    document = {**actions(a="src:f"), "sources": {"src": {"path": "."}}}
    graph = workshop.graph(document, {"src": {"f": "text"}})
    entry = graph.recipes["a"].selections[0].entries["src/f"]
    workshop.store.cas.quarantine(entry.digest, False)  # type: ignore[union-attr]
    with pytest.raises(MissingBlob):
        workshop.build(graph)


@pytest.mark.parametrize("selector", ["src", "src:f", "src:*"])
def test_an_input_that_changes_during_the_build_fails_the_action(
    workshop: Workshop, tmp_path: Path, selector: str
) -> None:
    directory = tmp_path / "src"
    directory.mkdir()
    (directory / "f").write_text("text")
    snapshot = ingest_directory(workshop.store.cas, workshop.store.index, str(directory))
    document = {**actions(a=selector, b="a"), "sources": {"src": {"path": "."}}}
    graph = workshop.graph(document, {"src": {"f": "text"}})
    recipe = graph.recipes["a"]
    taken = [Selection(s.stage, s.entries, s.digest, snapshot) for s in recipe.selections]
    recipes = {**graph.recipes, "a": evolve(recipe, selections=tuple(taken))}
    graph = evolve(graph, recipes=recipes, digests=None, needs=None, resources=None)
    assert workshop.build(graph, "a").status is BuildStatus.OK

    def behave(request: ExecutionRequest) -> Simulation:
        (directory / "f").write_text("changed text")
        return Simulation()

    workshop.behave = behave
    recipes["a"] = evolve(recipes["a"], env={"A": "1"}, digest=Digest("1" * 64))
    result = workshop.build(evolve(graph, recipes=recipes))
    step = result.steps["a"]
    assert isinstance(step, Failed)
    assert step.reason == f"its input changed during the build: {directory}/f"
    assert isinstance(result.steps["b"], Skipped)
    assert isinstance(workshop.build(evolve(graph, recipes=recipes)).steps["a"], Failed)
