"""The timeline on disk: events come back as they were, whatever a kill did to the last line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.retention import read_past
from engine.timeline.events import (
    BlobsMoved,
    BuildStarted,
    Event,
    Interrupted,
    NodeLeft,
    NodeReturned,
    NodesWarm,
    PolicyChosen,
    StepSkipped,
    TurnMoved,
    TurnsTaken,
    WorkKnown,
    cached_together,
    to_document,
)
from engine.timeline.log import NAME, TimelineLog, builds, new_build_id, read_timeline
from engine.timeline.words import in_words
from store.errors import HostError

EVENTS: list[Event] = [
    BuildStarted(build="b", spec="/é.toml", targets=("x", "y"), steps=2, cached=0),
    StepSkipped(label="y", because='x "quoted"\nline'),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store's directory with the timeline of a build `b` of two events."""
    log = TimelineLog(tmp_path, "b")
    for event in EVENTS:
        log(event)
    log.close()
    return tmp_path


def test_events_come_back_in_order(root: Path) -> None:
    first, second = read_timeline(root, "b")
    assert first["event"] == "BuildStarted"
    assert (first["spec"], first["targets"], first["steps"]) == ("/é.toml", ["x", "y"], 2)
    assert (second["event"], second["because"]) == ("StepSkipped", 'x "quoted"\nline')
    assert first["time"] <= second["time"]


def test_a_last_line_that_was_cut_off_is_left_out(root: Path) -> None:
    path = root / "builds" / "b" / NAME
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        complete = (length >= first - 1) + (length >= len(whole) - 1)
        assert len(list(read_timeline(root, "b"))) == complete


def test_events_are_there_while_the_build_runs(tmp_path: Path) -> None:
    log = TimelineLog(tmp_path, "b")
    for number, event in enumerate(EVENTS, 1):
        log(event)
        assert len(list(read_timeline(tmp_path, "b"))) == number
    log.close()


def test_turns_are_written_with_what_came_of_them(tmp_path: Path) -> None:
    log = TimelineLog(tmp_path, "b")
    log(EVENTS[0])
    turns = TurnsTaken(told=(("wait", 1.5, "y", 2.0), ("take", 1.5, (("y", "local"),))))
    log(turns)
    assert len(list(read_timeline(tmp_path, "b"))) == 1
    log(EVENTS[1])
    _, told, _ = read_timeline(tmp_path, "b")
    assert in_words(told) == "turns  waiting now: y → y on local"
    log(turns)
    log.close()
    assert len(list(read_timeline(tmp_path, "b"))) == 4


WORDS: dict[str, Event] = {
    "node n dropped out": NodeLeft(node="n"),
    "node n is back": NodeReturned(node="n"),
    "warmth a 61 °C": NodesWarm(at=1.0, celsius={"a": 61.2, "b": None}),
    "warmth is not known": NodesWarm(at=1.0, celsius={}),
    "policy: one node, the longest chain first": PolicyChosen(),
    "policy: strategy smart; speed 1; waits for 9.0 s at most; heat counts to the power of 2; "
    "nodes divided among targets": PolicyChosen(
        policy={"strategy": "smart", "weights": {"speed": 1.0}, "max_wait": 9.0, "heat": 2.0},
        isolated=True,
    ),
    "work   a, b: 3.0 s at speed 1": WorkKnown(
        labels=("a", "b"), seconds=(1.0, 2.0), needs=((), (0,))
    ),
    "turns  ended: b, c, e and 1 more; never need a turn: d; "
    "a counts as 0.5 of a failure of its node → none": TurnsTaken(
        told=(*(("end", 1.0, x) for x in "bce"), ("end", 1.0, "a", 0.5), ("gone", "d"))
    ),
    "moved  a to n, by hand": TurnMoved(label="a", node="n", at=1.0),
    "interrupted by SIGINT": Interrupted(signal="SIGINT"),
    "3 blobs copied to ram: hot": BlobsMoved(target="ram", why="hot", blobs=3),
    "3 blobs (2.0 kB) from main to slow: cold": BlobsMoved(
        source="main", target="slow", why="cold", blobs=3, bytes=2000
    ),
}


@pytest.mark.parametrize("words", WORDS)
def test_events_of_decisions_in_words(words: str) -> None:
    assert in_words(json.loads(json.dumps(to_document(WORDS[words], 0.0)))) == words


def test_a_build_without_a_timeline_has_no_events(tmp_path: Path) -> None:
    assert list(read_timeline(tmp_path, "none")) == []
    assert builds(tmp_path) == []


def test_builds_are_listed_the_last_one_first(tmp_path: Path) -> None:
    names = [new_build_id() for _ in range(20)]
    for name in dict.fromkeys(names):
        TimelineLog(tmp_path, name).close()
    assert builds(tmp_path) == list(dict.fromkeys(reversed(names)))


def test_a_timeline_is_never_written_over(root: Path) -> None:
    with pytest.raises(HostError, match="cannot write the timeline"):
        TimelineLog(root, "b")


def test_steps_told_of_together_come_one_by_one(tmp_path: Path) -> None:
    rows = [
        (f"é {number}", f"{number:064x}", f"{number + 1:064x}", f"{number + 2:064x}")
        for number in range(2500)
    ]
    log = TimelineLog(tmp_path, "b")
    for event in cached_together(rows):
        log(event)
    log.close()
    path = tmp_path / "builds/b" / NAME
    assert len(path.read_bytes().splitlines()) == 3
    read = list(read_timeline(tmp_path, "b"))
    assert [(one["label"], one["action"], one["outputs"], one["recipe"]) for one in read] == rows
    assert {one["event"] for one in read} == {"StepCached"}
    past = read_past(path.parent)
    assert past.cached == {action for _, action, *_ in rows}
    assert len(past.needs) == 2 * len(rows)


@pytest.mark.parametrize("line", ['{"event":"StepsCached"}', '{"event":"StepsCached","labels":3}'])
def test_strange_events_of_many_steps_name_nothing(root: Path, line: str) -> None:
    path = root / "builds/b" / NAME
    path.write_text(line)
    assert list(read_timeline(root, "b")) == []
    assert not read_past(path.parent).needs
