"""Decisions on several nodes: nothing over-committed, every strategy as it says, all explained."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.placement import Costs, Node, Placement, Policy, Ready, place
from engine.placement.cluster import Cluster
from engine.placement.decide import decide
from engine.placement.model import LIMIT
from engine.placement.modes import MODES, POLICIES, isolated, policy_of
from engine.placement.placer import Placer
from engine.placement.queue import Queue
from engine.placement.thermal import forecast, headroom
from engine.policies import STRATEGIES

HOT = ((-4.0, LIMIT - 8), (-2.0, LIMIT - 4), (0.0, LIMIT - 1))


def node(name: str, cpus: int = 1, **more: Any) -> Node:
    memory = 100
    made = Node(name=name, cpus=cpus, memory=memory, free_cpus=cpus, free_memory=memory)
    return evolve(made, **more)


def step(label: str, rank: float = 1.0, **more: Any) -> Ready:
    return evolve(Ready(label=label, rank=rank), **more)


def where(placed: Sequence[Placement]) -> dict[str, str]:
    return {one.label: one.node for one in placed}


def one(nodes: Sequence[Node], strategy: str, ready: Ready | None = None, **more: Any) -> str:
    """Return the node that a step is placed on."""
    costs = Costs(**more)
    (placed,) = place([ready or step("a")], nodes, costs, Policy(strategy=strategy))
    return placed.node


ready_steps = st.lists(
    st.builds(
        Ready,
        label=st.text("abcdef", min_size=1, max_size=4),
        rank=st.integers(0, 50).map(float),
        cpus=st.integers(1, 6),
        memory=st.integers(0, 150),
        seconds=st.integers(0, 20).map(float),
    ),
    max_size=12,
    unique_by=lambda one: one.label,
)


@st.composite
def some_nodes(draw: st.DrawFn) -> list[Node]:
    found = []
    for number in range(draw(st.integers(1, 5))):
        cpus = draw(st.integers(1, 4))
        free = draw(st.integers(0, cpus))
        found.append(
            node(
                f"n{number}",
                cpus,
                free_cpus=free,
                free_memory=draw(st.integers(0, 100)),
                speed=draw(st.sampled_from([None, 1.0, 2.0, 3.0])),
                preference=draw(st.sampled_from(["", "", "preferred", "avoid", "disabled"])),
                samples=draw(st.sampled_from([(), ((0.0, 50.0),), HOT])),
                ends=((draw(st.integers(1, 9)) * 1.0, cpus - free),) if free < cpus else (),
            )
        )
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=60, deadline=None)
@given(ready=ready_steps, nodes=some_nodes(), dice=st.randoms(use_true_random=False))
def test_nothing_is_over_committed_and_order_does_not_matter(
    strategy: str, ready: list[Ready], nodes: list[Node], dice: random.Random
) -> None:
    policy = Policy(strategy=strategy)
    placed = place(ready, nodes, Costs(), policy)
    for here in nodes:
        mine = [one for one in placed if one.node == here.name]
        assert sum(one.cpus for one in mine) <= here.free_cpus
        assert sum(one.memory for one in mine) <= here.free_memory
        assert not mine or here.preference != "disabled"
    assert len({one.label for one in placed}) == len(placed)
    assert all(str(one.explanation) for one in placed)
    assert place(dice.sample(ready, len(ready)), nodes, Costs(), policy) == placed


@settings(max_examples=60, deadline=None)
@given(ready=ready_steps, cpus=st.integers(1, 4), free=st.integers(0, 4))
def test_one_plain_node_is_decided_for_as_many_are(
    ready: list[Ready], cpus: int, free: int
) -> None:
    nodes = [node("n", cpus, free_cpus=min(free, cpus))]
    queue = Queue()
    for one in ready:
        queue.add(one)
    policy = Policy()
    placed, _ = decide(queue, Cluster(nodes, policy), Costs(), policy)
    shown = [(one.label, one.cpus, one.memory) for one in placed]
    assert shown == [(one.label, one.cpus, one.memory) for one in place(ready, nodes)]


@pytest.mark.parametrize("strategy", ["smart", "least_loaded", "fastest", "round_robin"])
def test_decisions_one_after_the_other_are_those_of_the_pure_function(strategy: str) -> None:
    """What is kept up to date between decisions must come to what a look at everything gives."""
    dice = random.Random(strategy)
    nodes = [node(f"n{n}", n % 3 + 1, speed=1.0 + n % 4) for n in range(9)]
    policy = Policy(strategy=strategy)
    placer = Placer(nodes, policy)
    waiting: dict[str, Ready] = {}
    running: dict[str, Placement] = {}
    began: dict[str, int] = {}
    turn = 0
    for now in range(60):
        for number in range(dice.randint(0, 4)):
            made = step(f"s{now}-{number}", dice.randint(1, 9), cpus=dice.randint(1, 2))
            waiting[made.label] = made
            placer.add(made, float(now))
        held = [[one for one in running.values() if one.node == n.name] for n in nodes]
        seen = [
            evolve(
                n,
                free_cpus=n.cpus - sum(one.cpus for one in mine),
                ends=tuple((began[one.label] + one.seconds - now, one.cpus) for one in mine),
            )
            for n, mine in zip(nodes, held, strict=True)
        ]
        expected = place(waiting.values(), seen, Costs(turn=turn), policy)
        placed = placer.decide(float(now))
        assert where(placed) == where(expected)
        turn += len(placed)
        for one in placed:
            running[one.label] = one
            began[one.label] = now
            del waiting[one.label]
        for label in dice.sample(sorted(running), min(len(running), dice.randint(0, 4))):
            placer.end(label, now + 0.5)
            del running[label]


def test_each_strategy_looks_at_what_it_is_named_for() -> None:
    slow, fast = node("slow", 4, speed=1.0), node("fast", 4, speed=2.0, free_cpus=1)
    assert one([slow, fast], "fastest") == "fast"
    assert one([slow, fast], "least_loaded") == "slow"
    assert one([slow, fast], "round_robin", turn=0) == "slow"
    assert one([slow, fast], "round_robin", turn=1) == "fast"
    reads = step("a", inputs=(("x", 10), ("y", 1)))
    held = {"x": {"slow"}, "y": {"fast"}}
    assert one([slow, fast], "locality", reads, held=held) == "slow"
    assert one([slow, fast], "fastest", reads, held=held) == "fast"


def test_smart_weighs_the_way_of_the_inputs_against_speed() -> None:
    slow, fast = node("slow", speed=1.0), node("fast", speed=1.5)
    reads = step("a", inputs=(("x", 1000),), seconds=10.0)
    assert one([slow, fast], "smart", reads, held={"x": {"slow"}}, bandwidth=1000.0) == "fast"
    assert one([slow, fast], "smart", reads, held={"x": {"slow"}}, bandwidth=1.0) == "slow"


def test_preferences_targets_and_failures_count() -> None:
    assert one([node("a"), node("b", preference="preferred")], "smart") == "b"
    assert one([node("a", preference="avoid"), node("b")], "smart") == "b"
    assert one([node("a", failures=2.0), node("b")], "smart") == "b"
    assert one([node("a", price=3.0), node("b", price=1.0)], "smart") == "b"
    assert place([step("a")], [node("a", preference="disabled")]) == []
    only = [node("a", only=("lib",)), node("b")]
    assert one(only, "fastest", step("s", target="app")) == "b"
    assert one(only, "fastest", step("s", target="lib")) == "a"
    assert place([step("s", target="app")], only[:1]) == []


def test_a_hot_node_gets_less_and_at_its_limit_nothing() -> None:
    assert one([node("a", samples=((0.0, LIMIT - 5),)), node("b")], "smart") == "b"
    warm = node("a", samples=((0.0, LIMIT),), ends=((1.0, 1),), cpus=2, free_cpus=1)
    assert place([step("s")], [warm], policy=Policy(strategy="fastest")) == []


def test_where_all_are_too_hot_and_nothing_runs_the_coolest_takes_something() -> None:
    nodes = [node("a", samples=((0.0, LIMIT + 9),)), node("b", samples=((0.0, LIMIT + 5),))]
    assert one(nodes, "smart") == "b"


def test_the_forecast_follows_the_recent_samples() -> None:
    assert forecast(()) is None
    assert forecast(((0.0, 50.0),)) == 50
    rising = tuple((-10.0 + n, 50.0 + n) for n in range(11))
    assert forecast(rising, 15) == pytest.approx(75)
    falling = tuple((-10.0 + n, 50.0 - n) for n in range(11))
    assert forecast(falling, 10) == pytest.approx(35)
    assert headroom((), LIMIT) == 1
    assert headroom(((0.0, 40.0),), LIMIT) == 1
    assert headroom(HOT, LIMIT) == 0
    assert 0 < headroom(((0.0, LIMIT - 6),), LIMIT) < 1


def test_an_explanation_has_every_factor_and_the_runners_up() -> None:
    nodes = [
        node("a", speed=1.0),
        node("b", speed=2.0, samples=((0.0, 50.0),)),
        node("c", speed=1.5),
    ]
    (placed,) = place([step("s", 12.34)], nodes, Costs(), Policy(strategy="smart", max_wait=9))
    why = placed.explanation
    assert [one.name for one in why.factors] == [
        "speed", "locality", "load", "cost", "thermal", "policy", "stability",
    ]  # fmt: skip
    assert [name for name, _ in why.runners_up] == ["c", "a"]
    weighed = sum(one.value * one.weight for one in why.factors)
    assert why.score == pytest.approx(weighed)
    assert str(why).startswith("longest chain first (12.3 s), 1 of 1 free cpus; score 1.000 = ")
    assert "50 °C, soon 50 of 85" in str(why)
    (placed,) = place([step("s")], [node("a"), node("b")], policy=Policy(max_wait=9))
    assert "speed not measured: neutral" in str(placed.explanation)
    assert "no sensor: heat counts as neutral" in str(placed.explanation)


def test_a_step_waits_for_a_faster_node_and_says_so_but_not_longer_than_allowed() -> None:
    nodes = [node("fast", speed=10.0), node("slow", speed=1.0)]
    for limit, expected, said in (
        (100.0, "fast", "1.0 s for node fast because on slow, which was free, it would have ended"),
        (0.5, "slow", "1.0 s for a faster node than slow in vain; waited for more than 0.5 s"),
    ):
        placer = Placer(nodes, Policy(strategy="portfolio", max_wait=limit))
        placer.add(step("a", 20.0, seconds=10.0), 0.0)
        placer.add(step("b", 10.0, seconds=10.0), 0.0)
        assert where(placer.decide(0.0)) == {"a": "fast"}
        if limit > 1:
            placer.end("a", 1.0)
        (placed,) = placer.decide(1.0)
        assert placed.node == expected
        assert f"waited {said}" in str(placed.explanation)


def test_memory_that_does_not_fit_waits_and_keeps_its_place() -> None:
    nodes = [node("a", 4, free_memory=30, ends=((5.0, 1),), free_cpus=3), node("b", 4, free_cpus=0)]
    large, small = step("large", 9.0, memory=60), step("small", 1.0, memory=1)
    assert place([large, small], nodes, policy=Policy(max_wait=9)) == []
    assert where(place([small], nodes, policy=Policy(max_wait=9))) == {"small": "a"}


def test_modes_and_strategies_are_policies_by_name() -> None:
    assert {"unified", "thermal", "cache-first", "target-isolated"} == set(MODES)
    assert {policy_of(name, 3.0).max_wait for name in POLICIES} == {3.0}
    with pytest.raises(KeyError):
        policy_of("other")


def test_nodes_are_divided_among_targets_by_their_work() -> None:
    nodes = [node(f"n{n}") for n in range(6)]
    divided = isolated(nodes, {"app": 20.0, "lib": 10.0})
    assert sorted(one.only[0] for one in divided) == ["app"] * 4 + ["lib"] * 2
    assert isolated(nodes[:1], {"app": 1.0, "lib": 1.0}) == nodes[:1]
    assert isolated([node("n", only=("app",))], {"app": 1.0})[0].only == ("app",)
