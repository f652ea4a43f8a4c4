"""Who waits for whom: ranks, and what may be looked at when a step has ended."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from engine.waits import Waits

Chains = tuple[dict[str, tuple[str, ...]], dict[str, float]]


@st.composite
def chains(draw: st.DrawFn) -> Chains:
    """Return an acyclic graph of steps and how long each takes."""
    labels = [f"s{number}" for number in range(draw(st.integers(1, 8)))]
    needs = {
        label: tuple(draw(st.lists(st.sampled_from(labels[:number]), max_size=3))) if number else ()
        for number, label in enumerate(labels)
    }
    return needs, {label: float(draw(st.integers(0, 9))) for label in labels}


def waits_of(chains: Chains) -> Waits:
    needs, seconds = chains
    return Waits(needs, needs.__getitem__, seconds.__getitem__)


@given(chains())
def test_a_rank_is_the_longest_chain_to_the_end(chains: Chains) -> None:
    needs, seconds = chains

    def longest(label: str) -> float:
        after = [one for one in needs if label in needs[one]]
        return seconds[label] + max(map(longest, after), default=0.0)

    waits = waits_of(chains)
    assert {one: waits.rank(one) for one in needs} == {one: longest(one) for one in needs}


@given(chains())
def test_a_step_is_yielded_once_when_the_last_that_it_needs_has_ended(chains: Chains) -> None:
    needs, _ = chains
    waits = waits_of(chains)
    ended: list[str] = []
    free = [label for label in needs if not waits.is_waiting(label)]
    assert free == [label for label in needs if not needs[label]]
    while free:
        ended.append(free.pop())
        assert list(waits.after(ended[-1])) == [one for one in needs if ended[-1] in needs[one]]
        fresh = list(waits.end(ended[-1]))
        assert all(set(needs[one]) <= set(ended) for one in fresh)
        assert not any(map(waits.is_waiting, fresh))
        free += fresh
    assert sorted(ended) == sorted(needs)


def test_ranks_of_long_chains() -> None:
    labels = [str(number) for number in range(5000)]
    needs = {"0": (), **{b: (a,) for a, b in itertools.pairwise(labels)}}
    waits = waits_of((needs, dict.fromkeys(labels, 1.0)))
    assert (waits.rank("0"), waits.rank("4999")) == (5000, 1)


def test_what_is_no_step_of_the_plan_is_not_waited_for() -> None:
    waits = waits_of(({"b": ("a",)}, {"b": 2.0}))
    assert waits.rank("b") == 2.0
    assert not waits.is_waiting("b")
