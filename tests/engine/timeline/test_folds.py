"""Folds over timelines: Chrome traces, summaries, comparisons, words, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.timeline.chrome import to_chrome
from engine.timeline.differing import compare
from engine.timeline.events import BuildStarted
from engine.timeline.log import TimelineLog
from engine.timeline.named import find_build
from engine.timeline.summary import UNKNOWN, summary
from engine.timeline.words import in_words
from store.errors import InputError
from store.store import Store


def started(label: str, time: float, node: str = "local") -> dict[str, Any]:
    return {
        "event": "StepStarted",
        "time": time,
        "label": label,
        "action": label * 64,
        "reason": "never built before",
        "placement": {"node": node},
    }


def finished(label: str, time: float, outputs: str | None = "o") -> dict[str, Any]:
    return {
        "event": "StepFinished",
        "time": time,
        "label": label,
        "action": label * 64,
        "status": "succeeded" if outputs else "failed",
        "reason": "" if outputs else "it exited with 1",
        "outputs": outputs,
        "exit_code": 0,
        "seconds": 1.0,
        "cpu_seconds": 0.5,
        "peak_memory": 1000,
    }


BEGAN = {"event": "BuildStarted", "time": 10.0, "build": "b", "spec": "s", "steps": 3, "cached": 0}
EVENTS = [
    BEGAN,
    started("a", 10.0),
    started("b", 10.5),
    finished("a", 11.0),
    started("c", 11.0),
    finished("b", 12.0, None),
]


def test_a_chrome_trace_has_each_action_on_a_row_that_is_free() -> None:
    trace = to_chrome(EVENTS)["traceEvents"]
    actions = {one["name"]: one for one in trace if one["ph"] == "X"}
    assert {name: (one["ts"], one["dur"]) for name, one in actions.items()} == {
        "a": (0, 1_000_000),
        "b": (500_000, 1_500_000),
        "c": (1_000_000, 1_000_000),
    }
    assert actions["a"]["tid"] == actions["c"]["tid"] != actions["b"]["tid"]
    assert actions["c"]["args"]["status"] == "no end is known"
    assert [one["args"]["actions"] for one in trace if one["ph"] == "C"] == [1, 2, 1, 2, 1]
    assert all(isinstance(one["ts"], int) for one in trace if one["ph"] != "M")


def test_nodes_are_processes_of_a_trace() -> None:
    trace = to_chrome([BEGAN, started("a", 10.0, "n1"), started("b", 10.0, "n2")])["traceEvents"]
    named = {one["args"]["name"]: one["pid"] for one in trace if one["name"] == "process_name"}
    rows = {one["name"]: one["pid"] for one in trace if one["ph"] == "X"}
    assert rows == {"a": named["node n1"], "b": named["node n2"]}


def test_a_build_that_was_killed_has_no_end() -> None:
    found = summary("b", EVENTS)
    assert (found.status, dict(found.counts), found.events) == (
        UNKNOWN,
        {"built": 1, "failed": 1},
        6,
    )


def test_steps_that_came_out_otherwise_are_told(tmp_path: Path) -> None:
    after = [{**BEGAN, "spec": "t"}, started("a", 20.0), finished("a", 21.0, "other")]
    with Store(tmp_path) as store:
        found = compare(store.cas, EVENTS, after)
    assert found.asked == (("spec", "s", "t"),)
    by_label = {one.label: one for one in found.steps}
    assert set(by_label) == {"a", "b"}
    assert by_label["b"].after is None
    assert not by_label["a"].other_action


def test_every_kind_of_event_has_words() -> None:
    for event in EVENTS:
        assert in_words(event)
    assert "never seen: x 1" in in_words({"event": "never seen", "time": 1.0, "x": 1})


def test_builds_have_names(tmp_path: Path) -> None:
    for number in range(3):
        log = TimelineLog(tmp_path, f"2026-{number}")
        log(BuildStarted(build="", spec=f"/{number % 2}", targets=(), steps=0, cached=0))
        log.close()
    assert find_build(tmp_path) == "2026-2"
    assert find_build(tmp_path, "last~2") == "2026-0"
    assert find_build(tmp_path, "2026-1") == "2026-1"
    assert find_build(tmp_path, spec=Path("/1")) == "2026-1"
    for text in ("2026", "last~3", "x", ""):
        with pytest.raises(InputError):
            find_build(tmp_path, text)
    with pytest.raises(InputError, match="no build of /2"):
        find_build(tmp_path, spec=Path("/2"))
    with pytest.raises(InputError, match="no build is recorded"):
        find_build(tmp_path / "none")
