"""Courses of builds, their critical path, and builds run through again on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.timeline.course import course
from engine.timeline.critical import BEGIN, NEED, ROOM, critical
from engine.timeline.rehearsal import Rehearsal, rehearsal
from tests.engine.timeline.conftest import steps, taking

if TYPE_CHECKING:
    from tests.engine.conftest import Document
    from tests.engine.timeline.conftest import Recorder


# courses


def test_a_course_says_what_became_of_each_step(recorder: Recorder) -> None:
    recorder.workshop.behave = taking(bad=-2)
    graph = recorder.workshop.graph(steps(good="", bad="good", after="bad", last="after"))
    found = recorder.build(graph, sets={"x": "1"})
    assert {label: step.status for label, step in found.steps.items()} == {
        "good": "succeeded",
        "bad": "failed",
        "after": "skipped",
        "last": "skipped",
    }
    bad = found.steps["bad"]
    assert (bad.needs, bad.began, bad.ended, bad.exit_code) == (("good",), 1, 3, 1)
    assert [(one.began, one.ended, one.status) for one in bad.attempts] == [(1, 3, "failed")]
    assert found.after("bad") == ["after", "last"]
    assert found.after("good", "after") == ["bad", "last"]
    assert [step.label for step in found.failures()] == ["bad"]
    assert (found.status, found.sets) == ("failed", {"x": "1"})
    again = recorder.build(recorder.workshop.graph(steps(good="")))
    assert again.steps["good"].status == "cached"


def test_of_a_build_that_was_killed_steps_are_running() -> None:
    begun = {"event": "BuildStarted", "time": 5.0, "spec": "s"}
    started = {"event": "StepStarted", "time": 6.0, "label": "a", "action": "x", "placement": "old"}
    found = course("b", [begun, started])
    assert (found.status, found.steps["a"].status, found.steps["a"].failed) == (
        "",
        "running",
        False,
    )
    assert not found.ran()


def test_a_step_that_ran_twice_has_two_attempts() -> None:
    def started(time: float, node: str) -> dict[str, Any]:
        values = {"label": "a", "action": "x", "placement": {"node": node}}
        return {"event": "StepStarted", "time": time, **values}

    def finished(time: float, status: str, outputs: str | None) -> dict[str, Any]:
        values = {"label": "a", "action": "x", "status": status, "outputs": outputs}
        return {"event": "StepFinished", "time": time, "reason": status, **values}

    found = course(
        "b",
        [
            {"event": "BuildStarted", "time": 0.0},
            started(1.0, "n1"),
            finished(2.0, "lost", None),
            started(3.0, "n2"),
            finished(4.0, "succeeded", "o"),
        ],
    ).steps["a"]
    tried = [(one.node, one.began, one.ended, one.status) for one in found.attempts]
    assert tried == [("n1", 1.0, 2.0, "lost"), ("n2", 3.0, 4.0, "succeeded")]
    assert (found.status, found.began, found.ended) == ("succeeded", 3.0, 4.0)


def test_a_step_that_could_not_begin_is_refused(recorder: Recorder) -> None:
    document: Document = {
        "actions": {
            "gen": {"run": ["gen"], "outputs": ["d"]},
            "use": {"run": ["use"], "inputs": ["gen:d/*.h"], "outputs": ["o"]},
            "after": {"run": ["after"], "inputs": ["use"]},
        }
    }
    found = recorder.build(recorder.workshop.graph(document))
    (failed,) = found.failures()
    assert (failed.label, failed.status, failed.needs) == ("use", "refused", ("gen",))
    assert failed.reason == "nothing in gen matches 'd/*.h'"
    assert found.after("use") == ["after"]


def test_earlier_timelines_tell_it_only_by_what_was_skipped() -> None:
    skipped = {"event": "StepSkipped", "time": 1.0, "label": "b", "because": "a", "needs": ["a"]}
    stopped = {"event": "StepSkipped", "time": 1.0, "label": "c", "because": "interrupted"}
    found = course("b", [{"event": "BuildStarted", "time": 0.0}, skipped, stopped])
    assert [(one.label, one.status) for one in found.failures()] == [("a", "refused")]
    assert found.after("a") == ["b"]


# the path


def test_the_path_goes_back_from_what_ended_last(recorder: Recorder) -> None:
    recorder.workshop.behave = taking(a=2, b=5, c=1, end=3)
    graph = recorder.workshop.graph(steps(a="", b="a", c="a", end="b c"))
    found = critical(recorder.build(graph, cpus=4))
    chain = [(link.label, link.began, link.seconds, link.waited_for) for link in found.chain]
    assert chain == [("a", 0, 2, BEGIN), ("b", 2, 5, NEED), ("end", 7, 3, NEED)]
    assert (found.makespan, found.longest, found.rehearsed) == (10, 10, 10)
    assert sum(link.share for link in found.chain) == pytest.approx(1)
    gains = {gain.label: (gain.half, gain.zero, gain.on_path) for gain in found.gains}
    assert gains == {
        "a": (1, 2, True),
        "b": (2.5, 4, True),  # c takes one second in any case
        "c": (0, 0, False),
        "end": (1.5, 3, True),
    }


def test_a_step_that_waited_for_a_processor_comes_after_who_had_it(recorder: Recorder) -> None:
    recorder.workshop.behave = taking(long=5, short=1, other=2)
    graph = recorder.workshop.graph(steps(long="", short="", other=""))
    found = critical(recorder.build(graph, cpus=1))
    assert found.on_path == found.makespan == 8
    assert [link.waited_for for link in found.chain] == [BEGIN, ROOM, ROOM]
    assert {gain.zero for gain in found.gains} == {5, 1, 2}
    assert found.longest == 5


def test_where_nothing_ran_there_is_no_path(recorder: Recorder) -> None:
    graph = recorder.workshop.graph(steps(a=""))
    recorder.build(graph)
    found = critical(recorder.build(graph))
    assert (found.chain, found.gains, found.makespan) == ((), (), 0)


def test_a_node_that_said_nothing_has_the_processors_that_it_used(recorder: Recorder) -> None:
    graph = recorder.workshop.graph(steps(a="", b="", c="a b"))
    found = recorder.build(graph, cpus=2)
    found.nodes.clear()
    assert rehearsal(found).cpus == {"node": 2}
    assert critical(found).rehearsed == 2


def test_a_step_of_several_processors_holds_them_on_paper_too(recorder: Recorder) -> None:
    document = steps(wide="", a="", b="")
    document["actions"]["wide"]["resources"] = {"cpus": 2}
    recorder.workshop.behave = taking(wide=3, a=2, b=2)
    found = recorder.build(recorder.workshop.graph(document), cpus=2)
    assert found.steps["wide"].processors == 2
    assert critical(found).rehearsed == critical(found).makespan == 5


# on paper


@st.composite
def rehearsals(draw: st.DrawFn) -> Rehearsal:
    count = draw(st.integers(1, 12))
    needs = [
        draw(st.lists(st.integers(0, number - 1), unique=True, max_size=3)) if number else []
        for number in range(count)
    ]
    seconds = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    cpus = {"x": draw(st.integers(1, 3)), "y": draw(st.integers(1, 3))}
    nodes = draw(st.lists(st.sampled_from(["x", "y"]), min_size=count, max_size=count))
    held = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    labels = [str(number) for number in range(count)]
    return Rehearsal(labels, [float(one) for one in seconds], needs, nodes, cpus, held)


@given(rehearsals())
def test_a_rehearsal_is_within_its_bounds(paper: Rehearsal) -> None:
    whole = paper.makespan()
    assert paper.longest() <= whole <= sum(paper.seconds)
    for node, cpus in paper.cpus.items():
        rows = zip(paper.seconds, paper.nodes, paper.held, strict=True)
        work = sum(seconds * min(held, cpus) for seconds, at, held in rows if at == node)
        assert whole >= work / cpus - 1e-9
    assert paper.makespan({}) == whole
    assert paper.makespan(dict.fromkeys(range(len(paper.labels)), 0.0)) == 0


@given(rehearsals())
def test_on_many_processors_it_takes_the_longest_chain_and_on_one_all(paper: Rehearsal) -> None:
    count = len(paper.labels)
    many = Rehearsal(paper.labels, paper.seconds, paper.needs, ["x"] * count, {"x": count})
    assert many.makespan() == paper.longest()
    one = Rehearsal(paper.labels, paper.seconds, paper.needs, ["x"] * count, {"x": 1})
    assert one.makespan() == sum(paper.seconds)
    for number, seconds in enumerate(paper.seconds):
        assert one.makespan({number: 0.0}) == one.makespan() - seconds
