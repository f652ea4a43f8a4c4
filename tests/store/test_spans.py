"""Spans as a Chrome trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store import spans
from store.errors import InputError


def test_nothing_is_recorded_unless_asked_for(tmp_path: Path) -> None:
    with spans.span("before"):
        pass
    spans.record()
    with spans.span("outer"), spans.span("inner", "cell 1", step="a"):
        pass
    spans.write(tmp_path / "trace.json")
    with spans.span("after"):
        pass
    document = json.loads((tmp_path / "trace.json").read_text())
    events = document["traceEvents"]
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    done = {event["name"]: event for event in events if event["ph"] == "X"}
    assert list(done) == ["start-up", "inner", "outer"]
    assert lanes[done["inner"]["tid"]] == "cell 1"
    assert done["inner"]["args"] == {"step": "a"}
    assert done["outer"]["ts"] <= done["inner"]["ts"]
    assert done["inner"]["dur"] <= done["outer"]["dur"]
    assert done["start-up"]["ts"] == 0


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    spans.record()
    with pytest.raises(InputError, match="cannot write the profile"):
        spans.write(tmp_path / "nowhere" / "trace.json")
    assert list(tmp_path.iterdir()) == []
