"""A past build played again, in the times of then."""

from __future__ import annotations

import json

from engine.timeline.events import (
    BuildFinished,
    BuildStarted,
    Event,
    StepFinished,
    StepStarted,
    from_document,
    to_document,
)
from engine.timeline.play import play

EVENTS: list[Event] = [
    BuildStarted(build="b", spec="s", targets=("x", "y"), steps=2, cached=0, sets={"a": "1"}),
    StepStarted(label="x", action="a", reason="new", placement={"node": "local"}, needs=("y",)),
    StepFinished(
        label="x",
        action="a",
        status="succeeded",
        exit_code=0,
        reason="",
        log="l",
        outputs="o",
        kept=None,
        seconds=1.5,
        cpu_seconds=1.0,
        peak_memory=10,
    ),
    BuildFinished(build="b", status="ok", counts={"built": 1}, seconds=2.0),
]
TIMES = [10.0, 10.5, 12.0, 12.25]
DOCUMENTS = [
    json.loads(json.dumps(to_document(one, time))) for one, time in zip(EVENTS, TIMES, strict=True)
]


def test_events_come_back_from_their_documents() -> None:
    assert [from_document(one) for one in DOCUMENTS] == EVENTS


def test_events_of_other_versions_are_none() -> None:
    assert from_document({"event": "NeverSeen", "time": 1.0}) is None
    assert from_document({"event": "StepFinished", "label": "x"}) is None
    assert from_document({}) is None
    later = {**DOCUMENTS[0], "what_only_a_later_version_knows": 1}
    assert from_document(later) == EVENTS[0]


def test_pauses_are_as_long_as_they_were() -> None:
    shown: list[Event] = []
    pauses: list[float] = []
    strange = {"event": "NeverSeen", "time": 12.1}
    play([*DOCUMENTS[:3], strange, DOCUMENTS[3]], shown.append, 2.0, pauses.append)
    assert shown == EVENTS
    assert [round(pause, 6) for pause in pauses] == [0.25, 0.75, 0.05, 0.075]
