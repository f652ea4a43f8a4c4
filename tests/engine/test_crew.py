"""Crews: when nothing but one execution can go on at a time."""

import itertools

import pytest

from engine.crew import is_chain
from engine.plan import Blocked, Plan, Run, Step
from engine.remembered import Cached
from store.digest import digest_bytes

CACHED = Cached(digest_bytes(b"tree"), digest_bytes(b"action"))
RUN = Run("never built before")


@pytest.mark.parametrize(
    ("steps", "chain"),
    [
        ({"a": RUN}, True),
        ({"c": CACHED, "a": RUN, "b": Blocked(("a",))}, True),
        ({"a": RUN, "c": CACHED, "b": Blocked(("a",)), "d": Blocked(("a", "b"))}, True),
        ({"a": RUN, "b": RUN}, False),
        ({"a": RUN, "b": Blocked(("a",)), "d": Blocked(("a",))}, False),
        ({"a": RUN, "b": RUN, "d": Blocked(("a", "b"))}, False),
    ],
)
def test_chains(steps: dict[str, Step], chain: bool) -> None:
    assert is_chain(Plan(tuple(steps), steps)) is chain


def test_a_chain_of_at_most_so_many() -> None:
    names = [f"s{number:03}" for number in range(20)]
    steps: dict[str, Step] = {"c": CACHED, "s000": RUN}
    steps |= {after: Blocked((name,)) for name, after in itertools.pairwise(names)}
    plan = Plan(("all",), steps)
    assert is_chain(plan)
    assert is_chain(plan, 20)
    assert not is_chain(plan, 19)
