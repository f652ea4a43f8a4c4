"""Placement: never over-committed, longest chain first, the same every time."""

from __future__ import annotations

import random

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from engine.placement import Node, Ready, place, release, take

steps = st.builds(
    Ready,
    label=st.text("abcdef", min_size=1, max_size=4),
    rank=st.floats(0, 1000),
    cpus=st.integers(1, 12),
    memory=st.integers(0, 40),
)
ready = st.lists(steps, max_size=12, unique_by=lambda step: step.label)


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    cpus, memory = draw(st.integers(1, 8)), draw(st.integers(0, 32))
    return Node(
        name="n",
        cpus=cpus,
        memory=memory,
        free_cpus=draw(st.integers(0, cpus)),
        free_memory=draw(st.integers(0, memory)),
    )


def free(node: Node) -> Node:
    """Return the node with nothing on it."""
    return evolve(node, free_cpus=node.cpus, free_memory=node.memory)


@given(ready, nodes())
def test_a_node_is_never_over_committed(ready: list[Ready], node: Node) -> None:
    placed = place(ready, [node])
    assert sum(one.cpus for one in placed) <= node.free_cpus
    assert sum(one.memory for one in placed) <= node.free_memory
    assert len({one.label for one in placed}) == len(placed)
    assert {one.node for one in placed} <= {"n"}


@given(ready, nodes())
def test_no_step_overtakes_one_with_a_longer_chain(ready: list[Ready], node: Node) -> None:
    in_order = sorted(ready, key=lambda step: (-step.rank, step.label))
    labels = [one.label for one in place(ready, [node])]
    assert labels == [step.label for step in in_order[: len(labels)]]


@given(ready, nodes(), st.randoms(use_true_random=False))
def test_order_of_the_ready_steps_does_not_matter(
    ready: list[Ready], node: Node, random: random.Random
) -> None:
    assert place(random.sample(ready, len(ready)), [node]) == place(ready, [node])


@given(ready, nodes())
def test_an_idle_node_always_takes_something(ready: list[Ready], node: Node) -> None:
    assert bool(place(ready, [free(node)])) == bool(ready)


@given(ready, nodes())
def test_what_did_not_fit_does_not_fit_after_the_others(ready: list[Ready], node: Node) -> None:
    placed = place(ready, [node])
    for one in placed:
        node = take(node, one)
    left = [step for step in ready if step.label not in {one.label for one in placed}]
    assert place(left, [node]) == []


@given(ready, nodes())
def test_what_was_taken_is_given_back(ready: list[Ready], node: Node) -> None:
    placed = place(ready, [node])
    after = node
    for one in placed:
        after = take(after, one)
    for one in reversed(placed):
        after = release(after, one)
    assert after == node


def test_a_step_larger_than_the_node_runs_alone() -> None:
    node = Node(name="n", cpus=4, memory=10, free_cpus=4, free_memory=10)
    large = Ready(label="large", rank=2, cpus=64, memory=1000)
    small = Ready(label="small", rank=1)
    (placed,) = place([small, large], [node])
    assert (placed.label, placed.cpus, placed.memory) == ("large", 4, 10)
    assert place([large], [take(node, placed)]) == []
    assert not take(node, placed).idle
    assert release(take(node, placed), placed).idle


def test_small_steps_do_not_keep_a_large_one_waiting() -> None:
    node = Node(name="n", cpus=4, memory=10, free_cpus=2, free_memory=10)
    large = Ready(label="large", rank=2, cpus=4)
    assert place([large, Ready(label="small", rank=1)], [node]) == []


def test_a_placement_says_why() -> None:
    node = Node(name="n", cpus=4, memory=10, free_cpus=3, free_memory=10)
    (placed,) = place([Ready(label="a", rank=12.34, cpus=2)], [node])
    assert str(placed.explanation) == "longest chain first (12.3 s), 2 of 3 free cpus"
