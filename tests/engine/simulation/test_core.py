"""Builds in virtual time: the same by the same seed, physically possible, and as the loop does."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from engine.placement.model import Policy
from engine.placement.modes import POLICIES, policy_of
from engine.placement.work import Work, make_work
from engine.simulation.core import Settings, simulate
from engine.simulation.hardware import Hardware, Machine, Network, machines
from engine.simulation.history import History, encoded
from engine.timeline.events import StepStarted
from executors.physics import Heat
from executors.simulated import Simulation
from tests.engine.placement.graphs import random_work

if TYPE_CHECKING:
    from tests.engine.conftest import Workshop

ROUGH = Hardware(
    nodes=(
        Machine(
            name="hot", count=2, cpus=2, speed=2.0, heat=Heat(full=99, throttle_at=80, seconds=9)
        ),
        Machine(name="flaky", count=2, failures=0.1, vanish=200.0, back=10.0),
        Machine(name="plain", cpus=3, memory="100B", speed=1.5),
    ),
    network=Network(bandwidth="1MB", latency=0.01),
)


def settings(policy: str = "unified", seed: int = 0, error: float = 0.0) -> Settings:
    return Settings(policy=policy_of(policy), seed=seed, error=error)


def check(work: Work, history: History) -> None:
    """Assert that every step ran to its end once, after what it needs, where there was room."""
    ended = {run.label: run for run in history.runs if run.outcome == "ended"}
    assert sorted(ended) == sorted(work.labels)
    assert len(ended) == sum(run.outcome == "ended" for run in history.runs)
    for number, label in enumerate(work.labels):
        for need in work.needs[number]:
            for run in history.runs:
                if run.label == label:
                    assert run.start >= ended[work.labels[need]].end
    for node in history.nodes:
        runs = [run for run in history.runs if run.node == node.name and run.end > run.start]
        changes = sorted(
            itertools.chain.from_iterable(
                [(run.start, run.cpus), (run.end, -run.cpus)] for run in runs
            ),
            key=lambda one: (one[0], one[1]),
        )
        assert max(itertools.accumulate(change for _, change in changes), default=0) <= node.cpus
    assert history.makespan == max(run.end for run in history.runs if run.outcome == "ended")


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gets_everything_done_on_rough_hardware(policy: str) -> None:
    work = random_work(80, 1, wide=3, memory=60)
    done = simulate(work, ROUGH, settings(policy, error=0.3))
    check(work, done)
    assert done.unfinished == ()
    assert done.makespan >= done.bound.seconds


@pytest.mark.parametrize("policy", ["unified", "smart"])
def test_the_same_seed_gives_the_same_history_byte_for_byte(policy: str) -> None:
    work = random_work(60, 2)
    first, again, other = (
        encoded(simulate(work, ROUGH, settings(policy, seed, 0.3)).lines()) for seed in (7, 7, 8)
    )
    assert first == again != other


def test_chance_does_not_come_from_the_order_of_decisions() -> None:
    work = make_work({"a": 1.0, "b": 1.0}, {})
    alone = make_work({"b": 1.0}, {})
    both = simulate(work, machines([1.0, 1.0]), settings(error=0.5))
    one = simulate(alone, machines([1.0, 1.0]), settings(error=0.5))
    length = {run.label: run.end for run in both.runs}
    assert length["b"] == one.makespan != length["a"]


def test_speed_makes_steps_short() -> None:
    work = make_work({"a": 6.0}, {})
    assert simulate(work, machines([3.0])).makespan == 2


def test_heat_throttles_and_is_avoided_where_a_sensor_tells() -> None:
    work = make_work({f"s{n:03}": 2.0 for n in range(100)}, {})
    heat = Heat(idle=40, full=100, seconds=20, throttle_at=90, throttled=0.25, every=1)
    cool = simulate(work, machines([1.0, 1.0]))
    blind = Hardware(
        nodes=(Machine(name="cool"), Machine(name="hot", heat=evolve(heat, sensor=False)))
    )
    throttled = simulate(work, blind, settings())
    assert cool.makespan == 100 < throttled.makespan
    seen = Hardware(nodes=(Machine(name="cool"), Machine(name="hot", heat=heat)))
    careful = simulate(work, seen, settings())
    peaks = {one.name: one.peak for one in throttled.nodes}
    assert peaks["cool"] is None
    assert peaks["hot"] is not None
    assert peaks["hot"] > 90
    assert careful.nodes[1].peak is not None
    assert careful.nodes[1].peak < 90
    assert careful.makespan <= throttled.makespan


def test_inputs_move_unless_they_are_there() -> None:
    work = make_work({"a": 1.0, "b": 1.0, "c": 1.0}, {"b": ["a"], "c": ["a"]}, sizes={"a": 2000})
    hardware = Hardware(
        nodes=(Machine(name="n", count=2),), network=Network(bandwidth="1kB", latency=0.5)
    )
    done = simulate(work, hardware, settings("round_robin"))
    spans = {run.label: run.end - run.start for run in done.runs}
    assert sorted(spans.values()) == [1.0, 1.0, 3.5]
    local = simulate(work, hardware, settings("locality"))
    assert {run.end - run.start for run in local.runs if run.label == "b"} == {1.0}


def test_what_was_lost_with_a_node_runs_elsewhere() -> None:
    work = make_work({"a": 50.0}, {})
    hardware = Hardware(
        nodes=(Machine(name="lost", speed=2.0, vanish=3600.0), Machine(name="stays"))
    )
    done = simulate(work, hardware, settings())
    assert [(run.node, run.outcome) for run in done.runs] == [
        ("lost", "vanished"),
        ("stays", "ended"),
    ]


def test_without_any_node_left_it_ends_and_says_what_was_not_done() -> None:
    work = make_work({"a": 5e4, "b": 1.0}, {"b": ["a"]})
    done = simulate(work, Hardware(nodes=(Machine(name="n", vanish=3600.0),)), settings())
    assert done.unfinished == ("a", "b")


def test_a_node_that_returns_is_used_again() -> None:
    work = make_work({f"s{n}": 3.0 for n in range(40)}, {})
    done = simulate(
        work, Hardware(nodes=(Machine(name="n", vanish=300.0, back=20.0),)), settings(seed=3)
    )
    assert done.unfinished == ()
    assert "vanished" in {run.outcome for run in done.runs}


def test_nothing_to_do_takes_no_time() -> None:
    assert simulate(make_work({}, {}), machines([1.0])).makespan == 0


@pytest.mark.parametrize("cpus", [1, 3])
def test_the_build_loop_places_alike(workshop: Workshop, cpus: int) -> None:
    """The same steps, durations and ranks: the loop under a mock clock and the simulator."""
    seconds = {f"s{n}": 1.0 + n * 7 % 5 for n in range(14)}
    needs = {f"s{n}": [f"s{m}" for m in {n // 2, n // 3} if m != n] for n in range(1, 14)}
    workshop.behave = lambda request: Simulation(seconds=seconds[request.label])
    for run in ("once", "again"):  # the second time history knows how long they take
        workshop.build(
            workshop.graph(
                {
                    "actions": {
                        name: {"run": [name, run], "inputs": needs.get(name, []), "outputs": ["o"]}
                        for name in seconds
                    }
                }
            ),
            cpus=cpus,
        )
    began = workshop.events[0][0]
    loop = sorted(
        (round(time - began, 6), event.label)
        for time, event in workshop.events
        if isinstance(event, StepStarted)
    )
    work = make_work(seconds, needs)
    hardware = Hardware(nodes=(Machine(name="node", cpus=cpus),))
    done = simulate(work, hardware, Settings(policy=Policy(strategy="smart")))
    assert [(time, label) for time, label, _ in done.placements()] == loop
