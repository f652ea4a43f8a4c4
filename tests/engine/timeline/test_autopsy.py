"""Autopsies of builds in virtual time, and the pages that show them."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.explain import Change
from engine.timeline.autopsy import autopsy
from engine.timeline.course import Course, Step
from engine.timeline.critical import critical
from engine.timeline.decisive import Line, decisive
from engine.timeline.drawing import draw
from engine.timeline.evidence import evidence
from engine.timeline.folding import MOST, depths, fold
from engine.timeline.likeness import UNSEEN, shared, weighed
from engine.timeline.page import page
from tests.engine.timeline.conftest import steps, taking

if TYPE_CHECKING:
    from engine.timeline.autopsy import Autopsy
    from tests.engine.conftest import Document
    from tests.engine.timeline.conftest import Recorder


def looked_into(recorder: Recorder, course: Course) -> Autopsy:
    return autopsy(course, evidence(recorder.workshop.store, course))


ONE: Document = {
    "actions": {
        "gen": {"inputs": ["src:g"], "run": ["gen"], "outputs": ["o"]},
        "use": {"inputs": ["gen", "src:u"], "run": ["use"], "outputs": ["o"]},
        "after": {"inputs": ["use"], "run": ["after"], "outputs": ["o"]},
        "other": {"inputs": ["src:g"], "run": ["other"], "outputs": ["o"]},
    },
    "sources": {"src": {"path": "src"}},
}


def test_what_changed_since_it_passed_are_the_candidates(recorder: Recorder) -> None:
    recorder.build(recorder.workshop.graph(ONE, {"src": {"g": "1\n", "u": "1\n"}}))
    recorder.workshop.behave = taking(use=-1)
    found = recorder.build(
        recorder.workshop.graph(ONE, {"src": {"g": "2\n", "u": "2\n"}}), keep_going=True
    )
    result = looked_into(recorder, found)
    (failure,) = result.failures
    assert failure.passed
    assert failure.passed.build == "2026-000"
    assert {(str(one), one.between) for one in failure.candidates} == {
        ("file src/u changed (line 1)", ()),
        ("gen ← file src/g changed (line 1)", ("gen",)),
    }
    first, second = failure.candidates
    assert str(first) == "file src/u changed (line 1)"
    assert first.likeness > second.likeness
    assert "1 other step passed with it" in second.because
    assert failure.stopped == ("after",)
    assert result.unreached == ("use", "after")
    assert failure.reproduce == f"bn shell --build {found.build} use --run"
    assert result.document()["failures"][0]["passed_in"] == "2026-000"


def test_a_step_that_passed_as_the_same_action_failed_by_chance(recorder: Recorder) -> None:
    graph = recorder.workshop.graph(steps(a=""))
    recorder.build(graph)
    found = recorder.build(recorder.workshop.graph(steps(b="")), "b")
    assert looked_into(recorder, found).failures == ()
    was = recorder.recorded.was("a", "2026-000")
    assert was
    found.steps["a"] = Step(label="a", status="failed", action=was.action)
    (failure,) = looked_into(recorder, found).failures
    assert failure.candidates[0].change.kind == "chance"
    assert failure.causes == ()


def test_a_limit_is_a_cause_and_tells_what_it_took_before(recorder: Recorder) -> None:
    document = steps(slow="")
    document["actions"]["slow"]["resources"] = {"timeout": "10s"}
    recorder.workshop.behave = taking(slow=4)
    recorder.build(recorder.workshop.graph(document))
    recorder.workshop.behave = taking(slow=60)
    document["actions"]["slow"]["run"] = ["slow", "-x"]
    (failure,) = looked_into(recorder, recorder.build(recorder.workshop.graph(document))).failures
    limit = next(one for one in failure.candidates if one.change.kind == "time limit")
    assert "it took 4.0 s when it passed last" in limit.change.detail
    assert {one.change.kind for one in failure.candidates} == {"time limit", "flag"}


def test_what_never_passed_is_said_to(recorder: Recorder) -> None:
    recorder.workshop.behave = taking(a=-1, b=-1)
    found = recorder.build(recorder.workshop.graph(steps(a="", b="")), keep_going=True)
    result = looked_into(recorder, found)
    assert [one.label for one in result.failures] == ["a", "b"]
    assert all(one.passed is None and one.causes is None for one in result.failures)
    assert {one.change.kind for f in result.failures for one in f.candidates} == {"action"}
    few = autopsy(found, evidence(recorder.workshop.store, found), 1)
    assert (len(few.failures), few.others) == (1, ("b",))


def test_steps_that_were_not_tried_though_nothing_was_wrong_are_told(recorder: Recorder) -> None:
    recorder.workshop.behave = taking(bad=-1)
    graph = recorder.workshop.graph(steps(bad="", after="bad", late="good", good=""))
    result = looked_into(recorder, recorder.build(graph, cpus=1))
    assert result.failures[0].stopped == ("after",)
    assert set(result.untried) == {"good", "late"}
    assert looked_into(recorder, Course(build="none")).failures == ()


def test_a_tool_that_changed_is_one_candidate(recorder: Recorder) -> None:
    changes = [Change("tool", f"usr/bin/{name}", "changed") for name in ("a", "b")]
    found = shared([weighed(one, (), [], 0) for one in changes])
    assert [one.likeness for one in found] == [pytest.approx(1 / (2 + UNSEEN), abs=1e-3)] * 2


# likeness


def test_what_the_log_names_is_likelier() -> None:
    log = decisive("src/a.c:7:1: error: bad\n")
    at, near, far, other = (
        weighed(Change("file", name, f"changed (line {line})"), (), log, 0).weight
        for name, line in (("src/a.c", 7), ("src/a.c", 9), ("src/a.c", 99), ("src/b.c", 7))
    )
    assert at == near > far > other == 1
    flag = decisive("gcc: error: unrecognized command-line option '-fnew'\n")
    assert weighed(Change("flag", "", "added: -fnew"), (), flag, 0).weight > 1
    macro = Change("flag", "", "added: -DUSE_FANCYLIB")
    assert weighed(macro, (), decisive("a.c:1:1: fatal error: fancylib.h: gone\n"), 0).weight > 1
    missing = [Line(number=1, kind="compiler", text="", missing="a.h")]
    assert weighed(Change("file", "src/a.h", "removed"), (), missing, 0).weight > at / 2


CHANGES = st.builds(
    Change,
    st.sampled_from(["file", "flag", "variable", "parameter", "tool", "script"]),
    st.text(max_size=8),
    st.text(max_size=20),
)


@given(
    st.lists(st.tuples(CHANGES, st.lists(st.text(max_size=5), max_size=3), st.integers(0, 9))),
    st.text(max_size=80),
)
def test_likeness_is_a_share(rows: list[tuple[Change, list[str], int]], text: str) -> None:
    lines = decisive(text)
    found = shared([weighed(change, between, lines, others) for change, between, others in rows])
    assert sum(one.likeness for one in found) <= 1.01
    assert all(0 <= one.likeness < 1 for one in found)
    assert [one.likeness for one in found] == sorted((o.likeness for o in found), reverse=True)
    more = shared(
        [weighed(change, between, lines, others + 1) for change, between, others in rows[:1]]
    )
    if rows:
        assert more[0].weight < weighed(rows[0][0], rows[0][1], lines, rows[0][2]).weight


# pages


class Checked(HTMLParser):
    """Checks that tags are closed in their order, and that nothing leads elsewhere."""

    EMPTY = ("meta", "rect", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base", "form")
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action", "data")
            if name == "href":
                assert value
                assert value.startswith("#failure-")
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_is_whole_by_itself(recorder: Recorder) -> None:
    recorder.workshop.behave = taking(bad=-1)
    graph = recorder.workshop.graph(steps(good="", bad="good", after="bad"))
    found = recorder.build(graph)
    text = page(found, critical(found), looked_into(recorder, found))
    checked = Checked(text)
    assert "url(" not in text
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text
    assert checked.tags.count("g") == 3
    for label in ("good", "bad", "after", "exited with 1", "bn shell --build 2026-000 bad --run"):
        assert any(label in one for one in checked.texts), label
    Checked(page(found, critical(found), None))
    Checked(page(Course(build="x"), critical(Course(build="x")), None))


HOSTILE = "<script>alert('&\"')</script>"


def test_what_comes_from_a_build_is_escaped() -> None:
    course = Course(build=HOSTILE, spec=HOSTILE, command=(HOSTILE,), status="failed")
    for label, needs in ((HOSTILE, ()), ("x", (HOSTILE,))):
        course.steps[label] = Step(
            label=label, status="failed", reason=HOSTILE, why=HOSTILE, needs=needs, began=0, ended=1
        )
    checked = Checked(page(course, critical(course), None))
    assert any("<script>" in one for one in checked.texts)


@given(
    st.integers(1, 600), st.integers(1, 40), st.integers(1, 4), st.randoms(use_true_random=False)
)
def test_a_graph_of_any_size_is_folded(count: int, width: int, most_needs: int, dice: Any) -> None:
    course = Course(build="x")
    labels = [f"{'abc'[n % 3]}[{n}]" for n in range(count)]
    for number, label in enumerate(labels):
        before = labels[max(0, number - width) : max(0, number - 3)]
        needs = tuple(dice.sample(before, min(len(before), most_needs)))
        status = dice.choice(["succeeded", "cached", "failed", "skipped"])
        course.steps[label] = Step(label=label, status=status, needs=needs, seconds=1.0)
    important = [label for label, step in course.steps.items() if step.failed]
    graph = fold(course, important, set(labels[::7]))
    assert len(graph.nodes) <= MOST + 100
    shown = [label for node in graph.nodes for label in node.labels]
    assert sorted(shown) == sorted(labels)
    alone = {node.labels[0] for node in graph.nodes if len(node.labels) == 1}
    assert set(important[:10]) <= alone
    deep = depths(course.steps)
    assert all(deep[n] < deep[label] for label in labels for n in course.steps[label].needs)
    Checked(draw(graph, {}))


def test_a_chain_of_thousands_is_folded() -> None:
    course = Course(build="x")
    for number in range(5000):
        needs = (f"a[{number - 1}]",) if number else ()
        course.steps[f"a[{number}]"] = Step(label=f"a[{number}]", status="succeeded", needs=needs)
    graph = fold(course, [], set())
    assert len(graph.nodes) <= MOST
    assert max(graph.columns) == len(graph.nodes) - 1


def test_a_log_is_read_for_what_is_missing(recorder: Recorder) -> None:
    recorder.workshop.behave = taking(a=-1)
    found = recorder.build(recorder.workshop.graph(steps(a="")))
    log = b"cat: in/x: No such file or directory\n"
    found.steps["a"].log = recorder.workshop.store.cas.put_bytes(log)
    (failure,) = looked_into(recorder, found).failures
    assert [line.missing for line in failure.lines] == ["in/x"]
    assert failure.candidates[0].change.kind == "missing"
