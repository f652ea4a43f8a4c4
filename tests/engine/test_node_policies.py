"""Nodes that are preferred, avoided, disabled or for certain targets, in builds in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from engine.placed import in_words
from engine.placement import Node
from engine.placement.modes import policy_of
from engine.places import Places, Thread
from engine.timeline.events import StepFinished
from executors.base import ExecutionRequest
from executors.simulated import Simulation
from store.errors import InputError
from store.records import evolve
from tests.engine.conftest import Workshop

MEMORY = 2**33


def node(name: str, speed: float = 1.0, cpus: int = 1, **more: Any) -> Node:
    return Node(
        name=name,
        cpus=cpus,
        memory=MEMORY,
        free_cpus=cpus,
        free_memory=MEMORY,
        speed=speed,
        **more,
    )


def places(*nodes: Node, policy: str = "unified", **more: Any) -> Places:
    """Return nodes whose processors are numbered through."""
    threads: dict[str, tuple[Thread, ...]] = {}
    for one in nodes:
        first = sum(map(len, threads.values()))
        threads[one.name] = tuple(Thread(n, n, None) for n in range(first, first + one.cpus))
    return Places(
        nodes=nodes,
        memory=MEMORY,
        policy=policy_of(policy),
        threads=threads,
        asked=True,
        **more,
    )


def document(**targets: int) -> dict[str, Any]:
    """Return a spec with so many steps a target."""
    actions = {
        f"{name}{number}": {"run": [name, str(number)], "outputs": ["o"]}
        for name, count in targets.items()
        for number in range(count)
    }
    return {"actions": actions}


def nodes_of(workshop: Workshop) -> dict[str, str]:
    return {event.label: event.placement["node"] for _, event in workshop.starts()}


def test_only_its_targets_and_what_they_need(workshop: Workshop) -> None:
    spec = document(a=3, b=3)
    spec["actions"]["last"] = {"run": ["x"], "inputs": ["a0", "a1"], "outputs": ["o"]}
    where = places(node("all"), node("kept", 9.0, only=("last", "unknown")))
    workshop.build(workshop.graph(spec), places=where)
    found = nodes_of(workshop)
    assert {label for label, name in found.items() if name == "kept"} == {"a0", "a1", "last"}


@pytest.mark.parametrize("policy", ["unified", "smart", "fastest", "least_loaded", "round_robin"])
def test_disabled_nodes_get_nothing_whatever_the_policy(workshop: Workshop, policy: str) -> None:
    where = places(node("off", 9.0, preference="disabled"), node("on"), policy=policy)
    workshop.build(workshop.graph(document(a=4)), places=where)
    assert set(nodes_of(workshop).values()) == {"on"}


def test_preferred_first_and_avoided_last(workshop: Workshop) -> None:
    where = places(
        node("plain", 1.2), node("liked", preference="preferred"), node("bad", preference="avoid")
    )
    workshop.build(workshop.graph(document(a=3)), places=evolve(where, policy=policy_of("smart")))
    assert list(nodes_of(workshop).values()) == ["liked", "plain", "bad"]


def test_a_step_that_no_node_is_for_is_an_error_at_once(workshop: Workshop) -> None:
    where = places(node("x", only=("a0",)))
    with pytest.raises(InputError) as caught:
        workshop.build(workshop.graph(document(a=2)), places=where)
    assert "a1: no node is for it" in caught.value.render()


def test_kinds_of_actions_and_targets_at_once(workshop: Workshop) -> None:
    spec = document(a=2, b=2)
    spec["actions"]["t"] = {"run": ["t"], "inputs": ["a0"], "outputs": ["o"], "kind": "test"}
    where = places(
        node("builds", 3.0, only=("a0", "b1")), node("tests"), kinds={"builds": ("build",)}
    )
    workshop.build(workshop.graph(spec), "a0", "a1", "b0", "b1", "t", places=where)
    found = nodes_of(workshop)
    assert found["t"] == found["a1"] == found["b0"] == "tests"
    assert found["a0"] == found["b1"] == "builds"


def test_isolated_targets_have_nodes_of_their_own(workshop: Workshop) -> None:
    spec = {
        "actions": {
            name: {
                "matrix": {"n": ["1", "2", "3", "4"]},
                "run": [name, "{matrix.n}"],
                "outputs": ["o{matrix.n}"],
            }
            for name in ("one", "two")
        }
    }
    graph = workshop.graph(spec)
    where = places(node("x"), node("y"), policy="target-isolated", isolated=True)
    workshop.build(graph, places=where)
    by_target: dict[str, set[str]] = {}
    for label, name in nodes_of(workshop).items():
        by_target.setdefault(label[:3], set()).add(name)
    assert sorted(map(sorted, by_target.values())) == [["x"], ["y"]]


def test_a_node_whose_actions_are_killed_gets_less(workshop: Workshop) -> None:
    def behave(request: ExecutionRequest) -> Simulation:
        return Simulation(seconds=2.0 if request.cpus == (0,) else 1.5)

    workshop.behave = behave
    spec = document(a=12)
    for action in spec["actions"].values():
        action["resources"] = {"timeout": "1800ms"}
    where = places(node("bad", 1.1), node("good"))
    workshop.build(workshop.graph(spec), places=where, keep_going=True)
    status = {event.label: event.status for event in workshop.told(StepFinished)}
    found = nodes_of(workshop)
    bad = [label for label, name in found.items() if name == "bad"]
    assert {status[label] for label in bad} == {"killed"}
    assert 1 <= len(bad) < 6
    told = [event.placement for _, event in workshop.starts() if event.placement["node"] == "bad"]
    assert all(one.get("failures", 0) >= 1 for one in told[1:])


def test_after_max_wait_it_takes_what_has_room(workshop: Workshop) -> None:
    workshop.behave = lambda request: Simulation(seconds=10.0 if request.cpus == (0,) else 40.0)
    patient = places(node("fast", 4.0), node("slow", 1.0))
    slow = []
    for name, where, most in (
        ("once", patient, 0),
        ("patient", patient, 0),
        ("hasty", evolve(patient, policy=evolve(patient.policy, max_wait=3.0)), 1),
    ):
        spec = document(a=3)
        for action in spec["actions"].values():
            action["run"].append(name)
        workshop.build(workshop.graph(spec), places=where)
        if name != "once":
            slow = [(t, e) for t, e in workshop.starts() if e.placement["node"] == "slow"]
            assert len(slow) == most
    ((time, event),) = slow
    assert 3.0 < time < 4.0
    assert "waited for more than 3 s" in event.placement["reason"]


def test_the_wait_for_a_faster_node_is_told_in_words(workshop: Workshop) -> None:
    workshop.behave = lambda request: Simulation(seconds=10.0 if request.cpus == (0,) else 40.0)
    for name in ("once", "again"):
        spec = document(a=3)
        for action in spec["actions"].values():
            action["run"].append(name)
        workshop.build(workshop.graph(spec), places=places(node("fast", 4.0), node("slow", 1.0)))
    late = [event.placement for time, event in workshop.starts() if time > 0]
    assert [one["node"] for one in late] == ["fast", "fast"]
    assert late[0]["wait"].startswith("waited 10.0 s for node fast because on slow, which was free")
    assert "s later" in late[0]["wait"]


@pytest.mark.parametrize(
    ("fast", "slow", "said"),
    [
        ("", "avoid", "because slow, which was free, is to be avoided"),
        ("preferred", "", "because it is preferred to slow, which was free"),
    ],
)
def test_a_preference_is_told_as_the_reason_of_a_wait(
    workshop: Workshop, fast: str, slow: str, said: str
) -> None:
    where = places(node("fast", 2.0, preference=fast), node("slow", 1.0, preference=slow))
    workshop.build(workshop.graph(document(a=3)), places=where)
    waits = [event.placement.get("wait", "") for _, event in workshop.starts()]
    assert any(said in one for one in waits)
    told = next(event.placement for _, event in workshop.starts() if "wait" in event.placement)
    words = "; ".join(in_words(told))
    assert "s for node fast, until a" in words
    assert f"ended, {said}" in words
