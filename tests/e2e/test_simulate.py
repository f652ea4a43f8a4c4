"""`bn simulate`: workflows, specs and past builds on other hardware."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Bn

FAILED = 1
INPUT = 3
USAGE = 2

NODES = '[[nodes]]\nname = "fast"\nspeed = 4.0\n[[nodes]]\nname = "slow"\ncpus = 2\n'

ROUGH = """
[network]
bandwidth = "1kB"
latency = 0.01

[[nodes]]
name = "hot"
count = 2
cpus = 2
speed = 2.0
heat = { full = 99.0, throttle_at = 80.0, seconds = 9.0 }

[[nodes]]
name = "flaky"
failures = 0.1
vanish = 200.0
back = 10.0
"""


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


def test_so_it_does_whatever_the_hashes_of_python(small: Bn, monkeypatch: Any) -> None:
    steps = [
        {"name": f"s{n}", "seconds": 1 + n % 7, "needs": [f"s{n // 3}"] if n else [], "bytes": n}
        for n in range(60)
    ]
    small.put("w.json", json.dumps({"format": "bn.workflow.1", "steps": steps}))
    small.put("nodes.toml", ROUGH)
    told = set()
    for number in ("0", "1", "4711"):
        monkeypatch.setenv("PYTHONHASHSEED", number)
        arguments = ("--nodes", "nodes.toml", "--error", "0.3", "--seed", "5", "--explain")
        shown = small("simulate", "w.json", *arguments, "--history", "h", "--svg", "c.svg").stdout
        written = ((small.directory / file).read_bytes() for file in ("h", "c.svg"))
        told.add((shown, *written))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("speed = -1.0", "n.toml:3:9: node 'a': speed: -1: it has to be more than 0"),
        ('speed = "fast"', "n.toml:3:9: [nodes]: speed: expected a number"),
        ('preference = "avod"', "n.toml:3:14: node 'a': preference: 'avod' is none"),
        ("heat = { throttled = 2.0 }", "n.toml:3:22: node 'a': heat.throttled: 2 is no share"),
        ('memory = "much"', "n.toml:3:10: node 'a': memory: 'much' is no size"),
        ("colour = 1", "n.toml:3:1: [nodes]: unknown field 'colour'"),
        ('[[nodes]]\nname = "a"', "n.toml:4:8: two nodes are named 'a'"),
        ("[network]\nlatency = -1.0", "n.toml:4:11: latency: -1 s"),
    ],
)
def test_what_is_wrong_with_nodes_is_said_with_its_place(small: Bn, line: str, said: str) -> None:
    name = workflow(small)
    small.put("n.toml", f'[[nodes]]\nname = "a"\n{line}\n')
    assert said in small("simulate", name, "--nodes", "n.toml", code=INPUT).stderr


def test_nodes_for_nobody_do_nothing_and_it_says_so(small: Bn) -> None:
    name = workflow(small)
    small.put("n.toml", '[[nodes]]\nname = "a"\nonly = ["x"]\n')
    said = small("simulate", name, "--nodes", "n.toml", code=FAILED).stdout
    assert "not done     2 steps: no node is left for them" in said


def test_what_cannot_be_simulated_is_refused(small: Bn) -> None:
    assert small("simulate", code=USAGE).stderr
    assert "no build is recorded" in small("simulate", "--build", "none", code=INPUT).stderr
    assert "cannot be read" in small("simulate", "none.json", code=INPUT).stderr
