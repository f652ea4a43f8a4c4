"""Makespans: how near a build came to the least possible."""

from __future__ import annotations

import pytest

from engine.makespan import CHAIN, SHARP, SIMPLE, Clock, Took
from engine.placement import Node


def node(name: str = "local", cpus: int = 2, speed: float | None = None) -> Node:
    return Node(name=name, cpus=cpus, memory=1, free_cpus=cpus, free_memory=1, speed=speed)


def clock(**took: float) -> Clock:
    """Return a clock of two processors on which steps took so long, one after another."""
    made, now = Clock([node()]), 0.0
    for label, seconds in took.items():
        now += seconds
        made.ran(label, Took(seconds, 1, "local"), now)
    return made


def test_nothing_ran() -> None:
    assert Clock([node()]).makespan({"a": ()}) is None


def test_a_chain_could_not_be_shorter() -> None:
    found = clock(a=1.0, b=2.0).makespan({"a": (), "b": ("a",)})
    assert found is not None
    assert (found.seconds, found.bound, found.bounds) == (3.0, 3.0, CHAIN)
    assert (found.ratio, found.utilisation) == (1.0, 0.5)


def test_what_was_cached_in_between_takes_no_time_but_is_waited_for() -> None:
    found = clock(a=1.0, c=1.0).makespan({"a": (), "b": ("a",), "c": ("b",)})
    assert found is not None
    assert found.bound == 2.0


def test_steps_side_by_side_are_bounded_by_their_work() -> None:
    found = clock(a=1.0, b=1.0, c=1.0).makespan({"a": (), "b": (), "c": ()})
    assert found is not None
    assert found.bounds == SHARP
    assert found.bound == pytest.approx(2.0)  # one of two lanes has two of them
    assert found.document()["ratio"] == 1.5


def test_many_quick_steps_have_simple_bounds() -> None:
    made = Clock([node()])
    for number in range(2000):
        made.ran(str(number), Took(0.001, 1, "local"), 0.001 * number)
    found = made.makespan({str(number): () for number in range(2000)})
    assert found is not None
    assert found.bounds == SIMPLE
    assert found.bound == pytest.approx(1.0)


def test_work_is_measured_by_the_speed_of_its_node() -> None:
    made = Clock([node("fast", 1, 2.0), node("slow", 1, 1.0)])
    made.ran("a", Took(4.0, 1, "slow"), 4.0)
    found = made.makespan({"a": ()})
    assert found is not None
    assert (found.bound, found.ratio, found.utilisation) == (2.0, 2.0, 0.5)
