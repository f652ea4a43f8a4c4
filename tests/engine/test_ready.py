"""What waits for its turn: where ranks are known beforehand, it comes in the same order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ready import Heap, Ranked

RANKS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 1e9]), min_size=1, max_size=12)


@given(
    RANKS, st.randoms(use_true_random=False), st.lists(st.sampled_from(["push", "pop", "remove"]))
)
def test_both_lines_are_the_same(ranks: list[float], random: object, steps: list[str]) -> None:
    from random import Random

    assert isinstance(random, Random)
    labels = [f"step {number * 7 % len(ranks)}:{number}" for number in range(len(ranks))]
    numbers = {label: number for number, label in enumerate(labels)}
    lines = Heap(), Ranked(labels, numbers, ranks)
    outside = labels[:]
    random.shuffle(outside)
    for time, step in enumerate(steps):
        if step == "push" and outside:
            label = outside.pop()
            inputs = bytes([time % 256]) * 32
            entry = (-ranks[numbers[label]], label, f"reason {time % 3}", inputs, float(time))
            for line in lines:
                line.push(entry)
        elif step != "push" and len(outside) < len(labels):
            inside = sorted(set(labels).difference(outside))
            name = random.choice(inside)
            first, second = (line.pop() if step == "pop" else line.remove(name) for line in lines)
            assert first == second
            outside.append(first[1])
        assert {len(line) for line in lines} == {len(labels) - len(outside)}


def test_nothing_waits() -> None:
    for line in (Heap(), Ranked(["a"], {"a": 0}, [1.0])):
        with pytest.raises(IndexError):
            line.pop()
