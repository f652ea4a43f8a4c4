"""Builds on shares of this machine: pins, memory, waits and what is told of them, with real
sandboxes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.e2e.conftest import Bn

ALL = sorted(os.sched_getaffinity(0))
TWO = pytest.mark.skipif(len(ALL) < 2, reason="needs two processors")
EXECUTORS = pytest.mark.parametrize("executor", ["sandbox", "bubblewrap", "native"])

SHOW = (
    "while read -r name value; do "
    "case $name in Cpus_allowed_list:) echo $value;; esac; done < /proc/self/status"
)


def two_and_one(bn: Bn, more: str = "") -> None:
    """Write a spec of two actions that sleep, and a test that needs both."""
    actions = "".join(
        f"""
        [actions.{name}]
        tools = ["sh"]
        script = '({SHOW}) > $out/{name}; sleep 0.4'
        outputs = ["{name}"]
        {more}
        """
        for name in "ab"
    )
    last = f"""
        [actions.last]
        tools = ["sh"]
        kind = "test"
        inputs = ["a", "b"]
        script = 'cp a/a b/b $out; ({SHOW}) > $out/last'
        outputs = ["a", "b", "last"]
        """
    bn.spec(actions + last, "last")


def allowed(bn: Bn) -> dict[str, set[int]]:
    """Return the processors that the actions said they may use."""
    found: dict[str, set[int]] = {}
    for name in ("a", "b", "last"):
        cpus: set[int] = set()
        for part in bn.result(name).strip().split(","):
            first, _, end = part.partition("-")
            cpus.update(range(int(first), int(end or first) + 1))
        found[name] = cpus
    return found


def started(bn: Bn, *names: str) -> dict[str, Any]:
    """Return what `bn explain` tells of some steps."""
    return {name: bn.json("explain", name)[0] for name in names}


@EXECUTORS
@TWO
def test_pinned_to_threads_of_their_own(bn: Bn, executor: str) -> None:
    two_and_one(bn)
    bn.put("bn.toml", '[resources]\npin = "threads"\n')
    bn("build", "--executor", executor)
    said = allowed(bn)
    assert all(len(cpus) == 1 for cpus in said.values())
    assert said["a"] != said["b"]
    told = started(bn, "a")["a"]
    assert set(told["placement"]["cpus"]) == said["a"]


def test_nothing_is_pinned_unless_that_is_asked_for(bn: Bn) -> None:
    two_and_one(bn)
    bn("build")
    assert set(map(frozenset, allowed(bn).values())) == {frozenset(ALL)}


@TWO
def test_a_fixed_share_bounds_slots_and_threads(bn: Bn) -> None:
    two_and_one(bn)
    bn.put("bn.toml", '[resources]\nstrategy = "fixed"\ncpus = 1\n')
    document = bn.json("build")
    assert document["makespan"]["processors"] == 1
    assert set(map(frozenset, allowed(bn).values())) == {frozenset([ALL[0]])}
    assert document["makespan"]["makespan"] > 0.8


@TWO
def test_affinity_by_kind_of_action(bn: Bn) -> None:
    two_and_one(bn)
    first, second = ALL[:2]
    bn.put("bn.toml", f'[resources]\naffinity = {{ build = "{first}", test = "{second}" }}\n')
    bn("build")
    assert allowed(bn) == {"a": {first}, "b": {first}, "last": {second}}
    told = started(bn, "a", "last")
    assert told["a"]["placement"]["node"] == "local.build"
    assert told["last"]["placement"]["node"] == "local.test"


@TWO
def test_what_does_not_fit_into_memory_waits(bn: Bn) -> None:
    two_and_one(bn, 'resources = { memory = "300MB" }')
    bn.put("bn.toml", '[resources]\nstrategy = "fixed"\nmemory = "500MB"\npin = "none"\n')
    said = bn("build", "--explain").stderr
    told = started(bn, "a", "b")
    (late,) = (one for one in told.values() if one["placement"].get("waited", 0) > 0.3)
    assert late["placement"]["for"] == "memory"
    assert late["placement"]["until"] == ({"a", "b"} - {late["label"]}).pop()
    assert "s for memory, until" in said
    assert "never built before; on local: longest chain first" in said


def test_explained_also_when_it_was_cached(bn: Bn) -> None:
    two_and_one(bn)
    bn("build")
    spec = bn.directory / "spec.toml"
    spec.write_text(spec.read_text().replace("cp a/a", "true; cp a/a"))
    bn("build")
    (told,) = bn.json("explain", "a")
    assert told["status"] == "cached"
    assert told["last_run"]["status"] == "succeeded"
    assert told["last_run"]["placement"]["node"] == "local"
    said = bn("explain", "a").stdout
    assert "was not run" in said
    assert "it ran last in build" in said
    assert "ran in build" in bn("explain", "last").stdout


def test_makespan_and_its_bound(bn: Bn) -> None:
    two_and_one(bn)
    told = bn.json("build")["makespan"]
    assert 0.4 <= told["bound"] <= told["makespan"]
    assert told["ratio"] >= 1
    assert 0 < told["utilisation"] <= 1
    assert "critical path" in told["bounds"]
    assert bn.json("build")["makespan"] is None


def test_faults_of_the_configuration_are_placed(bn: Bn) -> None:
    two_and_one(bn)
    bn.put(
        "bn.toml", '[resources]\npin = "treads"\n[resources.affinity]\ntests = "0"\ntest = "x"\n'
    )
    said = bn("build", code=3).stderr
    for text in ("bn.toml:2", "'treads'", "bn.toml:4", "'tests'", "bn.toml:5", "cannot read 'x'"):
        assert text in said
