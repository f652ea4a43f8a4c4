"""The timeline on disk: events come back as they were, whatever a kill did to the last line."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.retention import read_past
from engine.timeline.events import BuildStarted, Event, StepSkipped, cached_together
from engine.timeline.log import NAME, TimelineLog, builds, new_build_id, read_timeline
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
