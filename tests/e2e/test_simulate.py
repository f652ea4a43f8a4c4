"""`bn simulate`: workflows, specs and past builds on other hardware."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

INPUT = 3
USAGE = 2

NODES = '[[nodes]]\nname = "fast"\nspeed = 4.0\n[[nodes]]\nname = "slow"\ncpus = 2\n'


def workflow(bn: Bn) -> str:
    steps = [{"name": "a", "seconds": 4}, {"name": "b", "seconds": 4, "needs": ["a"]}]
    bn.put("w.json", json.dumps({"format": "bn.workflow.1", "steps": steps}))
    bn.put("nodes.toml", NODES)
    return "w.json"


def test_a_workflow_is_simulated(small: Bn) -> None:
    name = workflow(small)
    said = small("simulate", name, "--nodes", "nodes.toml", "--svg", "c.svg", "--explain").stdout
    assert "makespan     2.00 s" in said
    assert "lower bound  2.00 s" in said
    assert "a on fast: plan" in said
    assert (small.directory / "c.svg").read_text().startswith("<svg")
    slow = small.json("simulate", name, "--nodes", "nodes.toml", "--policy", "round_robin")
    assert slow["makespan"] == 5
    assert [run["node"] for run in slow["runs"]] == ["fast", "slow"]


def test_the_same_seed_gives_the_same_history(small: Bn) -> None:
    name = workflow(small)
    for seed, file in ((1, "one"), (1, "again"), (2, "two")):
        small("simulate", name, "--error", "0.3", "--seed", str(seed), "--history", file)
    one, again, two = ((small.directory / file).read_bytes() for file in ("one", "again", "two"))
    assert one == again != two


def test_a_spec_and_a_build_are_simulated(small: Bn) -> None:
    report = small.json("build")
    spec = small.json("simulate", "spec.toml")
    assert {run["label"] for run in spec["runs"]} >= {"first", "second"}
    build = small.json("simulate", "--build", report["build"], "--policy", "fastest")
    assert [run["label"] for run in build["runs"]] == ["first", "second"]


def test_what_cannot_be_simulated_is_refused(small: Bn) -> None:
    assert small("simulate", code=USAGE).stderr
    assert "not recorded" in small("simulate", "--build", "none", code=INPUT).stderr
    assert "cannot be read" in small("simulate", "none.json", code=INPUT).stderr
