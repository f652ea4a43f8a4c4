"""`bn replay --decisions`: what a build decided comes out again, and what differs is shown."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from engine.timeline.log import NAME
from tests.e2e.conftest import Bn
from tests.e2e.test_nodes import split
from tests.e2e.test_placement import TWO, two_and_one

INPUT, NOT_REPRODUCIBLE, INTERRUPTED = 3, 6, 130


def timeline(bn: Bn) -> Path:
    """Return the last build's timeline."""
    return max((bn.store / "builds").iterdir()) / NAME


def events(bn: Bn) -> list[dict[str, Any]]:
    return [json.loads(line) for line in timeline(bn).read_text().splitlines()]


def rewrite(bn: Bn, change: Any) -> None:
    """Put `change` of each event, as far as it is any, in its place."""
    kept = filter(None, map(change, events(bn)))
    timeline(bn).write_text("".join(f"{json.dumps(one)}\n" for one in kept))


def test_a_c_project_on_one_node(c_project: Bn) -> None:
    c_project("build", "-j", "3")
    found = c_project.json("replay", "--decisions")
    assert found["same"]
    assert found["turns"] == sum(one["event"] == "StepStarted" for one in events(c_project))
    c_project("build")
    assert "0 turns; all the same today" in c_project("replay", "--decisions").stderr


@TWO
@pytest.mark.parametrize("mode", ["unified", "target-isolated"])
def test_a_c_project_on_nodes(c_project: Bn, mode: str) -> None:
    split(c_project, f'[placement]\nmode = "{mode}"\n')
    c_project("build")
    for one in (c_project.directory / "src").glob("*.c"):
        one.write_text(one.read_text() + "\n/* another */\n")
    c_project("build", "--strategy", "smart")  # now it is known how long all takes
    for build in ("last~1", "last"):
        found = c_project.json("replay", build, "--decisions")
        assert found["same"]
        assert found["turns"] >= 2
    said = c_project("timeline", "show", "last").stdout
    assert "policy: strategy smart" in said
    assert "turns  waiting now: " in said
    c_project("timeline", "verify", "last")


@TWO
def test_what_differs_is_shown(bn: Bn) -> None:
    two_and_one(bn)
    split(bn)
    bn("build")
    assert bn.json("replay", "--decisions")["differences"] == []

    def swapped(event: dict[str, Any]) -> dict[str, Any]:
        if event["event"] == "TurnsTaken":
            other = {"fast": "slow", "slow": "fast"}
            for row in event["told"]:
                for turn in row[2] if row[0] == "take" and row[2:] else []:
                    turn[1] = other[turn[1]]
        return event

    rewrite(bn, swapped)
    done = bn("replay", "--decisions", code=NOT_REPRODUCIBLE)
    assert "after 0.000 s, of a, b:" in done.stdout
    assert "  then   a on " in done.stdout
    assert "  today  a on " in done.stdout
    assert "longest chain first" in done.stdout
    assert "differ" in done.stderr
    found = bn.json("replay", "--decisions", code=NOT_REPRODUCIBLE)
    assert not found["same"]
    assert {one["label"] for one in found["differences"][0]["today"]} == {"a", "b"}

    rewrite(bn, lambda one: None if one["event"] in ("TurnsTaken", "PolicyChosen") else one)
    assert "an earlier version" in bn("replay", "--decisions", code=INPUT).stderr


def test_who_interrupts_a_build_is_told(bn: Bn) -> None:
    bn.spec(
        """
        [actions.first]
        tools = ["sh"]
        script = "echo one > $out/one"
        outputs = ["one"]
        [actions.second]
        tools = ["sh"]
        script = "sleep 20"
        inputs = ["first"]
        outputs = ["two"]
        """,
        "second",
    )
    for number, apart in ((signal.SIGINT, ()), (signal.SIGTERM, ("first", "second"))):
        building = subprocess.Popen(
            bn.command("build", *apart),
            cwd=bn.directory,
            env=bn.env,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert building.stderr is not None
        while not any(one["event"] == "StepStarted" for one in _begun(bn, building)):
            time.sleep(0.05)
        building.send_signal(number)
        building.communicate(timeout=60)
        assert building.returncode == INTERRUPTED
        (told,) = [one for one in events(bn) if one["event"] == "Interrupted"]
        assert told["signal"] == number.name


def _begun(bn: Bn, building: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Return the events of the build that goes on, none where it has not begun."""
    assert building.poll() is None
    try:
        found = events(bn)
    except (OSError, ValueError):
        return []
    return [] if any(one["event"] == "BuildFinished" for one in found) else found
