"""Plans and schedules: possible ones, the best of several, and what follows them keeps to them."""

from __future__ import annotations

import pytest

from engine.placement.model import Policy
from engine.placement.plan import group_speeds, make_plan
from engine.placement.schedule import (
    Lanes,
    Schedule,
    back_and_forth,
    insertion,
    lanes_of,
    look_ahead,
    never_idle,
    on_the_fastest,
)
from engine.placement.work import Work, make_work, order, ranks
from engine.simulation.core import Settings, simulate
from engine.simulation.hardware import machines
from tests.bench.families import families
from tests.bench.placement import CLUSTERS, PORTFOLIO, beaten, exact, mean
from tests.engine.placement.graphs import random_work

SPEEDS = [[1.0] * 3, [3.0, 2.0, 2.0, 1.0]]


def check(work: Work, lanes: Lanes, schedule: Schedule) -> None:
    """Assert that steps start after what they need, and that no group has more than its lanes."""
    for step in range(len(work)):
        assert all(schedule.ends[need] <= schedule.starts[step] for need in work.needs[step])
        takes = work.seconds[step] / lanes.speeds[schedule.groups[step]]
        assert schedule.ends[step] - schedule.starts[step] == pytest.approx(takes)
    for group, times in enumerate(lanes.free):
        changes = []
        for step in range(len(work)):
            if schedule.groups[step] == group and schedule.ends[step] > schedule.starts[step]:
                changes += [(schedule.starts[step], 1), (schedule.ends[step], -1)]
        running = 0
        for _, change in sorted(changes):
            running += change
            assert running <= len(times)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("speeds", SPEEDS)
def test_schedules_are_possible(seed: int, speeds: list[float]) -> None:
    work, lanes = random_work(50, seed), lanes_of(speeds)
    rank, places = ranks(work), {step: place for place, step in enumerate(order(work))}
    priority = [-one for one in rank]
    heft = insertion(work, lanes, sorted(places, key=lambda one: (-rank[one], places[one])))
    for schedule in (
        heft,
        never_idle(work, lanes, priority),
        never_idle(work, lanes, None),
        look_ahead(work, lanes, priority),
        on_the_fastest(work, lanes),
        back_and_forth(work, lanes, heft, 4),
    ):
        check(work, lanes, schedule)
    assert back_and_forth(work, lanes, heft, 4).makespan <= heft.makespan


def test_a_slow_lane_stays_idle_where_that_is_quicker() -> None:
    work = make_work({"a": 10, "b": 10}, {})
    lanes = lanes_of([10.0, 1.0])
    assert never_idle(work, lanes, [0, 0]).makespan == 10
    assert look_ahead(work, lanes, [0, 0]).makespan == 2
    assert insertion(work, lanes, [0, 1]).makespan == 2


def test_busy_lanes_and_steps_that_have_to_wait_are_regarded() -> None:
    work = make_work({"a": 4, "b": 4}, {})
    lanes = Lanes([1.0], [[3.0, 0.0]])
    for schedule in (
        never_idle(work, lanes, [0, 1], [5.0, 0.0]),
        look_ahead(work, lanes, [0, 1], [5.0, 0.0]),
        insertion(work, lanes, [0, 1], [5.0, 0.0]),
    ):
        assert list(schedule.starts) == [5.0, 0.0]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("speeds", [*SPEEDS, [1.0 + n / 5 for n in range(9)]])
def test_a_plan_is_kept_to_where_durations_are_as_planned(seed: int, speeds: list[float]) -> None:
    work = random_work(70, seed)
    done = simulate(work, machines(speeds), Settings(policy=Policy(strategy="portfolio")))
    lanes = lanes_of(speeds)
    groups = {f"n{n:03}": lanes.speeds.index(speed) for n, speed in enumerate(speeds)}
    plan = make_plan(work, lanes, groups)
    assert done.plans == (plan.name,)
    assert done.makespan <= plan.makespan * (1 + 1e-9)
    assert plan.makespan <= min(seconds for _, seconds in plan.considered) * 1.0011
    assert done.makespan >= done.bound.seconds * (1 - 1e-9)


def test_speeds_that_are_alike_are_taken_together() -> None:
    assert group_speeds([1.0, 2.0, 1.0]) == {2.0: 0, 1.0: 1}
    many = group_speeds([1 + n / 1000 for n in range(1000)])
    assert sorted(set(many.values())) == list(range(32))
    ordered = [many[speed] for speed in sorted(many, reverse=True)]
    assert ordered == sorted(ordered)


def test_steps_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        order(make_work({"a": 1, "b": 1}, {"a": ["b"], "b": ["a"]}))


def test_placement_is_near_the_best_on_graphs_of_all_shapes() -> None:
    """A small part of `tests.bench.placement`, which has the figures of real workflows. These
    graphs are smaller, and the bound of small graphs on mixed nodes is less sharp."""
    rows = [row for name, work in families(32, seed=3, largest=120) for row in exact(name, work)]
    assert beaten(rows) == []
    for cluster in CLUSTERS:
        most = 1.03 if cluster.endswith("equal") else 1.06
        ratios = [r.ratio for r in rows if (r.cluster, r.scheduler) == (cluster, PORTFOLIO)]
        assert mean(ratios) <= most, cluster
        assert sum(ratio <= 1.1 for ratio in ratios) >= 0.8 * len(ratios), cluster
