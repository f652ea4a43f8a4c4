"""`bn timeline`: what happened in builds, as it was written, also after a kill."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from engine.timeline.log import NAME
from tests.e2e.conftest import Bn

INTEGRITY = 5
INPUT = 3


def test_builds_are_listed_and_shown(small: Bn) -> None:
    report = small.json("build")
    small("build", "first", "--no-link")
    last, first = small.json("timeline", "list")
    assert (first["build"], first["status"]) == (report["build"], "ok")
    assert first["counts"] == {"built": 2}
    assert last["counts"] == {"cached": 1}
    assert small.json("timeline", "list", "-n", "1") == [last]
    assert small.json("timeline", "list", "other.toml") == []
    events = small.json("timeline", "show", first["build"])
    assert next(event["event"] for event in events) == "BuildStarted"
    assert events[0]["command"] == ["build", "--json"]
    assert events[-1]["event"] == "BuildFinished"
    started = small.json("timeline", "show", "last~1", "--event", "StepStarted")
    assert [(one["label"], one["needs"]) for one in started] == [
        ("first", []),
        ("second", ["first"]),
    ]
    shown = small("timeline", "show", "last~1", "--label", "second").stdout.splitlines()
    assert len(shown) >= 2
    assert "start  second on local: never built before" in shown[-2]
    assert "built  second in" in shown[-1]


def test_every_event_is_verified(small: Bn) -> None:
    small("build")
    assert "all as they were written" in small("timeline", "verify").stdout
    (path,) = (small.store / "builds").glob(f"*/{NAME}")
    lines = path.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines, 1) if b'"StepFinished"' in line)
    for changed, problem in (
        ([*lines[: number - 1], *lines[number:]], "is missing"),
        (
            [
                lines[n].replace(b'"status":"succeeded"', b'"status":"failed"')
                if n == number - 1
                else lines[n]
                for n in range(len(lines))
            ],
            "was changed",
        ),
        (
            [*lines[: number - 1], lines[number], lines[number - 1], *lines[number + 1 :]],
            "stands after",
        ),
        (lines[: number - 1], "are missing at the end"),
    ):
        path.write_bytes(b"".join(changed))
        (found,) = small.json("timeline", "verify", code=INTEGRITY)
        assert found["faults"][0]["number"] == number
        assert problem in found["faults"][0]["problem"], found
    path.write_bytes(b"".join(lines))
    assert small.json("timeline", "verify", "--all")[0]["faults"] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_timeline_is_whole_up_to_a_kill(bn: Bn, number: signal.Signals) -> None:
    bn.spec(
        """
        [actions.first]
        tools = ["sh"]
        script = "echo 1 > {out}/x"
        outputs = ["x"]
        [actions.long]
        tools = ["sh"]
        inputs = ["first"]
        script = "sleep 60; cp first/x {out}/y"
        outputs = ["y"]
        """,
        default="long",
    )
    building = bn.start("build")
    limit = time.monotonic() + 60
    while b'"label":"long"' not in b"".join(
        path.read_bytes() for path in (bn.store / "builds").glob(f"*/{NAME}")
    ):
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.killpg(building.pid, number)
    building.communicate(timeout=60)
    (found,) = bn.json("timeline", "verify")
    assert found["faults"] == []
    assert found["ended"] is (number is signal.SIGTERM)
    events = bn.json("timeline", "show")
    assert [event["label"] for event in events if event["event"] == "StepFinished"] == ["first"]


def test_a_trace_for_perfetto(small: Bn) -> None:
    small("build")
    small("timeline", "export", "--format", "chrome", "-o", "trace.json")
    trace = json.loads((small.directory / "trace.json").read_text())
    actions = [one for one in trace["traceEvents"] if one["ph"] == "X"]
    assert [one["name"] for one in actions] == ["first", "second"]
    lines = small("timeline", "export").stdout.splitlines()
    assert next(json.loads(line)["event"] for line in lines) == "BuildStarted"


def test_two_builds_compared(small: Bn) -> None:
    small("build")
    (small.directory / "src" / "file").write_text("other\n")
    small("build")
    said = small("timeline", "diff", "last~1", "last").stdout
    assert "because of file src/file changed (line 1)" in said
    found = small.json("timeline", "diff", "last~1", "last")
    assert {one["label"] for one in found["steps"]} >= {"first"}
    assert found["asked"] == []


def test_bad_input(small: Bn) -> None:
    assert "no build is recorded" in small("timeline", "show", code=INPUT).stderr
    small("build")
    assert "not recorded" in small("timeline", "verify", "x", code=INPUT).stderr
    assert "only 1 are recorded" in small("timeline", "show", "last~1", code=INPUT).stderr
    small("timeline", "verify", "--all", "last", code=2)
    assert "cannot write" in small("timeline", "export", "-o", "none/x", code=4).stderr
