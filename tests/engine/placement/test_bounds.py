"""Lower bounds: never above the best schedule there is, and sharp where that is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.placement.bounds import lower_bound
from engine.placement.schedule import insertion, lanes_of
from engine.placement.work import Work, make_work, order
from tests.engine.placement.graphs import best_makespan, random_work

speeds = st.lists(st.sampled_from([1.0, 1.0, 1.5, 2.0, 3.0]), min_size=1, max_size=3)


@st.composite
def works(draw: st.DrawFn) -> Work:
    size = draw(st.integers(1, 6))
    names = [f"s{number}" for number in range(size)]
    seconds = {name: float(draw(st.integers(0, 9))) for name in names}
    needs = {
        name: draw(st.lists(st.sampled_from(names[:n]), max_size=2)) if n else []
        for n, name in enumerate(names)
    }
    return make_work(seconds, needs)


@settings(max_examples=150, deadline=None)
@given(works(), speeds)
def test_no_schedule_beats_it(work: Work, speeds: list[float]) -> None:
    assert lower_bound(work, speeds).seconds <= best_makespan(work, speeds) * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("speeds", [[1.0] * 7, [1.0, 1.5, 2.0, 3.0]])
def test_no_schedule_of_a_larger_graph_beats_it(seed: int, speeds: list[float]) -> None:
    work = random_work(60, seed)
    span = insertion(work, lanes_of(speeds), order(work)).makespan
    assert 0 < lower_bound(work, speeds).seconds <= span * (1 + 1e-9)


def flat(*seconds: float) -> Work:
    return make_work({f"s{n}": value for n, value in enumerate(seconds)}, {})


def test_five_equal_steps_on_four_equal_lanes_take_two_rounds() -> None:
    assert lower_bound(flat(3, 3, 3, 3, 3), [1.0] * 4).seconds == 6


def test_two_equal_steps_on_unequal_lanes_wait_for_the_slower_lane_or_each_other() -> None:
    assert lower_bound(flat(4, 4), [2.0, 1.0]).seconds == pytest.approx(4)
    assert lower_bound(flat(4, 4), [4.0, 1.0]).seconds == pytest.approx(2)


def test_what_comes_before_all_and_after_all_is_added() -> None:
    middle = [f"m{n}" for n in range(8)]
    needs = {"last": middle, **{name: ["first"] for name in middle}}
    work = make_work({"first": 2, **dict.fromkeys(middle, 3.0), "last": 5}, needs)
    bound = lower_bound(work, [1.0] * 4)
    assert bound.seconds == 2 + 6 + 5
    assert bound.critical_path == 10
    assert bound.work == 31 / 4


def test_stages_one_after_the_other_are_added() -> None:
    stages = [[f"{letter}{n}" for n in range(5)] for letter in "abc"]
    needs = dict.fromkeys(stages[1], stages[0]) | dict.fromkeys(stages[2], stages[1])
    work = make_work({name: 1.0 for stage in stages for name in stage}, needs)
    assert lower_bound(work, [1.0] * 4).seconds == 6


def test_a_step_that_is_too_long_for_slow_lanes_is_left_to_the_fast_one() -> None:
    bound = lower_bound(flat(10, 10, 1, 1), [10.0, 1.0, 1.0])
    assert bound.seconds == pytest.approx(2, rel=1e-3)


def test_nothing_takes_no_time() -> None:
    assert lower_bound(flat(), [1.0]).seconds == 0
