"""`bn build --profile-bn`: where bn's own time goes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn


def test_profile(c_project: Bn) -> None:
    c_project("build", "--profile-bn", "trace.json")
    events = json.loads((c_project.directory / "trace.json").read_text())["traceEvents"]
    names = {event["name"] for event in events}
    assert {"start-up", "evaluate", "plan", "run", "stage", "take in", "commit", "record"} <= names
    staged = [event for event in events if event["name"] == "stage"]
    assert {event["args"]["step"] for event in staged} >= {"compile[src/a.c]", "app"}
    assert all(event["ts"] > 0 and event["dur"] > 0 for event in staged)


def test_profile_of_a_failed_build(c_project: Bn) -> None:
    c_project.put("src/a.c", "no C")
    c_project("build", "--profile-bn", "trace.json", code=1)
    assert json.loads((c_project.directory / "trace.json").read_text())["traceEvents"]
