"""Builds on nodes that get warm: recorded /sys trees that change while virtual time goes by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from engine.placement.settings import PlacementTable, Placing, placing
from engine.places import NO_SENSOR, Places, places_of
from engine.resources.allocation import Share
from engine.resources.discover import discover_compute
from engine.resources.heat import Thermometer, thermometer
from engine.resources.node_settings import NodeSpec
from engine.resources.settings import Resources
from engine.timeline.events import StepStarted
from executors.simulated import Simulation
from store.records import evolve
from tests.engine.conftest import Maker, Workshop
from tests.engine.resources.conftest import Tree, write
from tests.engine.resources.test_sensors import CORE

if TYPE_CHECKING:
    from store.store import Store

SECOND = {
    "sys/class/hwmon/hwmon1/name": "coretemp",
    "sys/class/hwmon/hwmon1/temp1_input": "45000",
    "sys/class/hwmon/hwmon1/temp1_label": "Package id 1",
}
FIRST_INPUT = "sys/class/hwmon/hwmon0/temp1_input"
COOL = "40000"

Starts = list[tuple[float, StepStarted]]


@pytest.fixture
def workshop(store: Store) -> Workshop:
    return Workshop(store, Maker())


class Changing(Thermometer):
    """A thermometer whose sensors change by the clock of the build."""

    def __init__(self, inner: Thermometer, change: Callable[[float], None]) -> None:
        super().__init__({}, inner.every)
        self.inner, self.change, self.began = inner, change, -1.0

    def read(self) -> dict[str, float | None]:
        now = trio.current_time()
        self.began = now if self.began < 0 else self.began
        self.change(now - self.began)
        return self.inner.read()

    async def look(self) -> dict[str, float | None]:
        return self.read()


def told(root: Path, nodes: tuple[NodeSpec, ...] = (), how: Placing | None = None) -> Places:
    """Return the places of a recorded machine."""
    wanted = Resources(share=Share(strategy="fixed", cpus=4), pin="share", nodes=nodes)
    return places_of(discover_compute(root), wanted, {}, None, how, root)


def warm(root: Path, course: Mapping[float, str | None]) -> Callable[[float], None]:
    """Return what sets the first sensor: from so many seconds on to that; None removes it."""

    def change(now: float) -> None:
        last = [value for since, value in course.items() if since <= now][-1]
        if last is None:
            (root / FIRST_INPUT).unlink(missing_ok=True)
        else:
            write(root, {FIRST_INPUT: last})

    return change


def build(workshop: Workshop, places: Places, steps: int, seconds: float = 1.0) -> Starts:
    """Build steps that need nothing and return their starts, by time since the first."""
    actions = {f"s{n:03}": {"run": [str(n)], "outputs": ["o"]} for n in range(steps)}
    workshop.behave = lambda _: Simulation(seconds=seconds)
    workshop.build(workshop.graph({"actions": actions}), places=places)
    starts = workshop.starts()
    assert len(starts) == steps
    return starts


def nodes() -> tuple[NodeSpec, ...]:
    """Return two nodes of two processors, each with a package's sensor."""
    return (
        NodeSpec(name="hot", cpus=(0, 1), sensor="coretemp/Package id 0"),
        NodeSpec(name="cool", cpus=(2, 3), sensor="coretemp/Package id 1"),
    )


def test_a_node_gets_nothing_while_it_is_hot(tree: Tree, workshop: Workshop) -> None:
    root = tree("server", CORE | SECOND | {FIRST_INPUT: COOL})
    places = told(root, nodes())
    assert isinstance(places.thermometer, Thermometer)
    course = warm(root, {0: COOL, 4: "90000", 12: COOL})
    starts = build(workshop, evolve(places, thermometer=Changing(places.thermometer, course)), 60)
    on_hot = [time for time, event in starts if event.placement["node"] == "hot"]
    assert [time for time in on_hot if 4 < time < 12] == []
    assert [time for time in on_hot if time <= 4]
    assert [time for time in on_hot if time >= 12]
    during = next(event for time, event in starts if 6 < time < 12)
    assert during.placement["node"] == "cool"
    assert "45 °C, soon 45 of 85" in during.placement["heat"]
    assert "hot is hot (90 °C" in during.placement["hot"][0]


def test_it_is_throttled_before_it_is_too_hot(tree: Tree, workshop: Workshop) -> None:
    root = tree("server", CORE)
    places = told(root, (NodeSpec(name="local", limit=80.0),))
    assert places.thermometer is not None
    assert [node.limit for node in places.nodes] == [80.0]
    course = warm(root, {0: "74000"})
    starts = build(workshop, evolve(places, thermometer=Changing(places.thermometer, course)), 8)
    at_a_time = [sum(time == one for one, _ in starts) for time in sorted({t for t, _ in starts})]
    assert max(at_a_time) == 2
    assert "2 of 4 processors used" in starts[-1][1].placement["hot"][0]


def test_a_rise_counts_before_it_is_there(tree: Tree, workshop: Workshop) -> None:
    root = tree("server", CORE | SECOND)
    places = told(root, nodes())
    assert places.thermometer is not None
    course = warm(root, {n: str(60000 + 1000 * n) for n in range(20)})
    starts = build(workshop, evolve(places, thermometer=Changing(places.thermometer, course)), 40)
    last = max(time for time, event in starts if event.placement["node"] == "hot")
    assert last < 12  # 71 °C, rising by 15 in a quarter of a minute


def test_where_all_are_too_hot_one_after_another_still_runs(tree: Tree, workshop: Workshop) -> None:
    root = tree("server", CORE)
    places = told(root, (NodeSpec(name="local"),))
    assert places.thermometer is not None
    course = warm(root, {0: "99000"})
    starts = build(workshop, evolve(places, thermometer=Changing(places.thermometer, course)), 3)
    assert [time for time, _ in starts] == [0.0, 1.0, 2.0]


def test_what_waits_starts_when_it_is_cool_though_nothing_ends(
    tree: Tree, workshop: Workshop
) -> None:
    root = tree("server", CORE)
    places = told(root, (NodeSpec(name="local"),))
    assert places.thermometer is not None
    course = warm(root, {0: "99000", 5: COOL})
    changing = evolve(places, thermometer=Changing(places.thermometer, course))
    starts = build(workshop, changing, 3, seconds=100.0)
    assert [time for time, _ in starts] == [0.0, 6.0, 6.0]


def test_sensors_are_looked_at_as_often_as_that_is_said(tree: Tree, workshop: Workshop) -> None:
    root = tree("server", CORE)
    how = placing([PlacementTable(sample_seconds=5.0, max_wait=1.0)])
    places = told(root, (NodeSpec(name="local"),), how)
    assert places.thermometer is not None
    looks: list[float] = []
    changing = evolve(places, thermometer=Changing(places.thermometer, looks.append))
    build(workshop, changing, 8, seconds=10.0)
    assert [round(one, 2) for one in looks[:4]] == [0.0, 5.0, 10.0, 15.0]


def test_a_sensor_that_is_lost_is_neutral(tree: Tree, workshop: Workshop) -> None:
    root = tree("server", CORE | SECOND)
    places = told(root, nodes())
    assert places.thermometer is not None
    course = warm(root, {0: "99000", 3: None})
    starts = build(workshop, evolve(places, thermometer=Changing(places.thermometer, course)), 20)
    late = [event.placement for time, event in starts if time >= 4]
    assert {one["node"] for one in late} == {"hot", "cool"}
    assert {one["heat"] for one in late if one["node"] == "hot"} == {NO_SENSOR}


def test_no_sensor_is_neutral_and_says_so(tree: Tree, workshop: Workshop) -> None:
    places = told(tree("vm"), (NodeSpec(name="local"),))
    assert places.thermometer is None
    starts = build(workshop, places, 2)
    assert {event.placement["heat"] for _, event in starts} == {NO_SENSOR}
    off = placing([PlacementTable(mode="thermal", sample_seconds=0.0)])
    assert "not looked at" in told(tree("server", CORE), (), off).no_heat


def test_nobody_looks_where_placement_is_not_asked_for(tree: Tree) -> None:
    places = told(tree("server", CORE))
    assert (places.thermometer, places.no_heat, places.asked) == (None, "", False)
    asked = told(tree("server", CORE), (), placing([], mode="thermal"))
    assert asked.thermometer is not None


def test_a_thermometer_reads_in_a_thread(tree: Tree) -> None:
    found = thermometer({"a": "", "b": "nvme"}, 2.0, tree(more=CORE))
    assert found is not None
    assert trio.run(found.look) == {"a": 55.0, "b": None}
