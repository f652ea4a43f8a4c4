"""`bn node`, `bn cpu` and `bn benchmark`, as users run them; what is measured is kept small."""

from __future__ import annotations

import json
import os
from typing import Any
from xml.etree import ElementTree

import pytest

from engine.resources.benchmark.kept import keep
from tests.e2e.conftest import Bn
from tests.engine.resources.benchmark.samples import run

USAGE, INPUT = 2, 3


@pytest.fixture
def measured(bn: Bn) -> Bn:
    """A store that knows results of this node and of another one."""
    here = os.uname().nodename
    first = run("cpu", 1e9, here, values={"single": 1.4, "multi": 2.6}, way="typescript")
    disk = run("storage", 1.1e9, here, values={"score": 120.0}, target=str(bn.store))
    other = run("cpu", 1.2e9, "other", values={"single": 2.8, "multi": 20.0}, way="typescript")
    keep([first, disk, other], bn.store)
    return bn


def test_node(bn: Bn) -> None:
    said = bn("node", "show").stdout
    for name in ("machine", "cpu", "usable", "memory", "load", "storage", "network", "nodes"):
        assert f"\n{name} " in f"\n{said}"
    told = bn.json("node", "show")
    assert told["usable_cpus"]
    assert told["share"] > 0
    assert told["local"][0]["name"].startswith("local")
    assert "speed not measured" in said


def test_processors(bn: Bn) -> None:
    assert "thread" in bn("cpu", "info").stdout
    shown = bn("cpu", "info", "--topology").stdout
    assert "package 0" in shown
    told = bn.json("cpu", "info", "--topology")
    assert told["cpu"]["cores"]
    assert "nodes" in told


def test_speed_is_known_once_it_was_measured(measured: Bn) -> None:
    assert "1.40 BPU a core" in measured("node", "show").stdout
    assert measured.json("node", "show")["local"][0]["speed"] == 1.4


def test_benchmark_is_kept(bn: Bn) -> None:
    told = bn.json("benchmark", "--storage", ".")
    (one,) = told["runs"]
    assert one["kind"] == "storage"
    assert one["target"] == str(bn.directory)
    assert bn.json("benchmark", "results")["runs"] == told["runs"]


def test_results(measured: Bn) -> None:
    said = measured("benchmark", "results").stdout
    assert "cpu.single  1.40 BPU" in said
    assert "advice: the store is on a disk as slow as an HDD (120 of 1000)" in said
    only = measured.json("benchmark", "results", "--node", "other")
    assert {one["node"] for one in only["runs"]} == {"other"}
    assert len(measured("benchmark", "results", "--history").stdout.splitlines()) == 3
    ElementTree.fromstring(measured("benchmark", "results", "--format", "svg").stdout)


def test_comparison(measured: Bn) -> None:
    here = os.uname().nodename
    said = measured("benchmark", "compare", here, "other").stdout
    assert "other 2.00×" in said
    rows: Any = measured.json("benchmark", "compare", "other", "reference")
    assert {row["name"]: row["ratio"] for row in rows}["cpu.single"] == 2.8
    best = measured("benchmark", "compare", here, "best").stdout
    assert "1000 of 1000" in best
    ElementTree.fromstring(measured("benchmark", "compare", here, "best", "--format", "svg").stdout)


def test_results_of_another_machine_are_taken_in(measured: Bn) -> None:
    told = measured.json("benchmark", "results", "--node", "other")
    for one in told["runs"]:
        one["node"] = "third"
    measured.put("third.json", json.dumps(told))
    said = measured("benchmark", "compare", "other", "third.json").stdout
    assert "about the same" in said
    assert "1 runs taken in" in measured("benchmark", "results", "--import", "third.json").stderr
    assert "0 runs taken in" in measured("benchmark", "results", "--import", "third.json").stderr
    assert measured.json("benchmark", "results", "--node", "third")["runs"]


def test_what_is_due(measured: Bn) -> None:
    days = "cpu_days = 0\nmemory_days = 0\nstorage_days = 0\nnetwork_days = 0\n"
    measured.put("bn.toml", f"[benchmark]\n{days}")
    assert "nothing is due" in measured("benchmark", "--due").stderr
    measured.put("bn.toml", "[benchmark]\nautomatic = false\n")
    assert "switched off" in measured("benchmark", "--due", "--automatic").stderr


def test_results_and_doctor_say_what_is_due(measured: Bn) -> None:
    """Nobody has to run for that: a machine without `bn watch` measures nothing by itself."""
    measured.put("bn.toml", "[benchmark]\nmemory_days = 0\n")
    said = measured("benchmark", "results").stdout
    assert "due: cpu: measured " in said
    assert "meant to be every 30 days" in said
    assert "due: memory" not in said
    told = {one["check"]: one for one in measured.json("doctor")}["benchmarks"]
    assert "cpu: measured " in told["message"]
    assert "bn benchmark --due" in told["mend"]
    days = "cpu_days = 0\nmemory_days = 0\nstorage_days = 0\nnetwork_days = 0\n"
    measured.put("bn.toml", f"[benchmark]\n{days}")
    assert "due" not in measured("benchmark", "results").stdout


def test_one_truth_for_the_speed_of_a_tier(bn: Bn) -> None:
    def shown() -> tuple[int, float]:
        (tier,) = bn.json("store", "stat")["tiers"]
        return tier["score"], tier["measured"]

    bn.put("bn.toml", f'[tiers.main]\npath = "{bn.store}"\n')
    first = shown()
    assert shown() == first, "measured once"
    (kept,) = bn.json("benchmark", "results")["runs"]
    assert kept["time"] == first[1]
    assert kept["target"] == str(bn.store)
    (run,) = bn.json("benchmark", "--storage", str(bn.store))["runs"]
    values = {one["name"]: one["value"] for one in run["measures"]}
    assert shown() == (round(values["storage.score"]), run["time"])


def test_mistakes(measured: Bn) -> None:
    assert "say what" in measured("benchmark", code=USAGE).stderr
    said = measured("benchmark", "compare", "othr", "best", code=INPUT).stderr
    assert "neither a node with results nor a file" in said
    assert "other" in said
    said = measured("benchmark", "results", "--node", "othr", code=INPUT).stderr
    assert "did you mean 'other'" in said
    assert "name that" in measured("benchmark", "compare", "best", "best", code=INPUT).stderr
    measured.put("bad.json", "no")
    assert "no JSON" in measured("benchmark", "compare", "bad.json", "best", code=INPUT).stderr
    measured.put("bad.json", "{}")
    assert "bad.json" in measured("benchmark", "results", "--import", "bad.json", code=INPUT).stderr
    assert "no address" in measured("benchmark", "--network", "nowhere", code=INPUT).stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[resources]\nstrategy = "al"\n', "did you mean 'all'"),
        ('[resources]\nstrategy = "percentage"\n', "needs `percent`"),
        ("[resources]\npercent = 120\n", "between 0 and 100"),
        ('[resources]\nmemory = "many"\n', "is not a size"),
        ("[benchmark]\ncpu_days = -1\n", "less than 0 days"),
    ],
)
def test_configuration_that_is_wrong(bn: Bn, text: str, expected: str) -> None:
    bn.put("bn.toml", text)
    assert expected in bn("benchmark", "--due", code=INPUT).stderr
