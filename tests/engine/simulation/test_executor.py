"""The build loop on simulated nodes: heat, transfers, failures and drop-outs in virtual time, and
the same history as the simulator's where both describe the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from engine.graph import Graph
from engine.job import Job, Options
from engine.modes import run_build
from engine.placement import Node
from engine.placement.modes import policy_of
from engine.placement.work import Work, make_work
from engine.places import Places
from engine.resources.heat import Thermometer
from engine.result import BuildStatus, Result
from engine.simulation.core import Settings, simulate
from engine.simulation.hardware import Hardware, Machine, Network
from engine.timeline.events import StepFinished, StepStarted
from executors.base import ExecutionRequest
from executors.physics import Heat, World
from executors.simulated import Simulated, Simulation
from tests.engine.placement.graphs import random_work

if TYPE_CHECKING:
    from tests.engine.conftest import Workshop

BLIND = Heat(full=110.0, throttle_at=70.0, seconds=5.0, throttled=0.5, sensor=False, every=1.0)


class Sensors(Thermometer):
    """The sensors of a world's nodes, read every so many seconds."""

    def __init__(self, world: World, every: float) -> None:
        super().__init__({}, every)
        self._world = world

    def read(self) -> dict[str, float | None]:
        return self._world.celsius(trio.current_time())

    async def look(self) -> dict[str, float | None]:
        return self.read()


@define
class Lab:
    """Builds of made-up work by the real loop, on nodes that are simulated."""

    workshop: Workshop
    work: Work
    hardware: Hardware
    policy: str = "unified"
    seed: int = 0
    events: list[tuple[float, Any]] = field(factory=list)
    peaks: dict[str, float] = field(factory=dict)
    order: list[str] = field(factory=list)
    """The steps in the order of the loop's plan: what is equally good goes by that."""

    def build(self) -> Result:
        """Let history learn the durations at speed 1 in a first build, and build on the nodes."""
        alone = Node(name="alone", cpus=9, memory=1, free_cpus=9, free_memory=1, speed=1.0)
        assert self._run(Places(nodes=(alone,), memory=1)).status is BuildStatus.OK
        named = self.hardware.named()
        natures = {node.name: machine.nature for node, machine in named}
        world = World(natures, self.hardware.wire, self.seed)
        seen = any(one.heat and one.heat.sensor for one in natures.values())
        places = Places(
            nodes=tuple(node for node, _ in named),
            memory=2**50,
            policy=policy_of(self.policy),
            thermometer=Sensors(world, 5.0) if seen else None,
        )
        result = self._run(places, world)
        self.peaks = {name: body.peak for name, body in world.bodies.items()}
        return result

    def _run(self, places: Places, world: World | None = None) -> Result:
        shop = self.workshop
        shop.builds += 1
        graph = self._graph(f"for the {shop.builds}th time")
        plan = shop.plan(graph)
        self.order, self.events = list(plan.steps), []
        job = Job(
            build=f"build-{shop.builds}",
            graph=graph,
            plan=plan,
            store=shop.store,
            executor=Simulated(shop.store.cas, self._behave, world),
            history=shop.history,
            options=Options(places=places),
            emit=lambda event: self.events.append((trio.current_time(), event)),
        )
        return trio.run(run_build, job, clock=MockClock(autojump_threshold=0))

    def _behave(self, request: ExecutionRequest) -> Simulation:
        number = self.work.labels.index(request.label)
        inputs = tuple((self.work.labels[n], self.work.sizes[n]) for n in self.work.needs[number])
        free = self.hardware.wire.is_free
        return Simulation(seconds=self.work.seconds[number], inputs=() if free else inputs)

    def _graph(self, argument: str) -> Graph:
        work = self.work
        return self.workshop.graph(
            {
                "actions": {
                    label: {
                        "run": [label, argument],
                        "inputs": [work.labels[need] for need in work.needs[number]],
                        "outputs": ["o"],
                    }
                    for number, label in enumerate(work.labels)
                }
            }
        )

    def runs(self) -> list[tuple[float, float, str, str, str]]:
        """Return start, end, step, node and outcome of every run of the loop's, in order."""
        began = self.events[0][0]
        found, open_runs = [], {}
        for time, event in self.events:
            if isinstance(event, StepStarted):
                assert isinstance(event.placement, dict)
                open_runs[event.label] = (time - began, event.placement["node"])
            elif isinstance(event, StepFinished):
                start, node = open_runs.pop(event.label)
                how = {"succeeded": "ended", "lost": "lost"}[event.status]
                row = round(start, 6), round(time - began, 6), event.label, node, how
                found.append(row)
        return sorted(found)

    def simulated(self) -> list[tuple[float, float, str, str, str]]:
        """Return the same of the simulator's."""
        settings = Settings(policy=policy_of(self.policy), seed=self.seed)
        done = simulate(ordered(self.work, self.order), self.hardware, settings)
        return sorted(
            (
                round(run.start, 6),
                round(run.end, 6),
                run.label,
                run.node,
                "ended" if run.outcome == "ended" else "lost",
            )
            for run in done.runs
        )


def ordered(work: Work, labels: Sequence[str]) -> Work:
    """Return the same work in another order."""
    numbers = [work.labels.index(label) for label in labels]
    return make_work(
        {work.labels[n]: work.seconds[n] for n in numbers},
        {work.labels[n]: [work.labels[need] for need in work.needs[n]] for n in numbers},
        sizes={work.labels[n]: work.sizes[n] for n in numbers},
    )


def speeds(*named: float, **more: Any) -> tuple[Machine, ...]:
    return tuple(Machine(name=f"n{n}", speed=speed, **more) for n, speed in enumerate(named))


@pytest.mark.parametrize("policy", ["unified", "round_robin", "smart", "least_loaded"])
@pytest.mark.parametrize(
    "hardware",
    [
        Hardware(nodes=speeds(1.0, 2.5, 1.7)),
        Hardware(nodes=(*speeds(2.0, 1.3), Machine(name="hot", speed=3.0, cpus=2, heat=BLIND))),
    ],
    ids=["speeds", "throttled without a sensor"],
)
def test_the_loop_has_the_same_history_as_the_simulator(
    workshop: Workshop, hardware: Hardware, policy: str
) -> None:
    lab = Lab(workshop, random_work(24, 3), hardware, policy)
    assert lab.build().status is BuildStatus.OK
    assert lab.runs() == lab.simulated()


def test_so_it_has_where_inputs_move_and_steps_fail(workshop: Workshop) -> None:
    work = random_work(24, 4)
    sizes = [1000 * (n % 5) for n in range(len(work))]
    work = make_work(
        dict(zip(work.labels, work.seconds, strict=True)),
        {label: [work.labels[one] for one in work.needs[n]] for n, label in enumerate(work.labels)},
        sizes=dict(zip(work.labels, sizes, strict=True)),
    )
    hardware = Hardware(
        nodes=speeds(1.0, 1.5, 2.0, failures=0.2), network=Network(bandwidth="1kB", latency=0.1)
    )
    lab = Lab(workshop, work, hardware, "round_robin", seed=2)
    assert lab.build().status is BuildStatus.OK
    runs = lab.runs()
    assert runs == lab.simulated()
    assert "lost" in {run[-1] for run in runs}


def test_what_was_lost_with_a_node_runs_again(workshop: Workshop) -> None:
    hardware = Hardware(
        nodes=(Machine(name="stays"), Machine(name="lost", speed=3.0, vanish=400.0, back=15.0))
    )
    work = make_work({f"s{n}": 4.0 for n in range(40)}, {})
    lab = Lab(workshop, work, hardware, seed=5)
    assert lab.build().status is BuildStatus.OK
    runs = lab.runs()
    assert sorted(run[2] for run in runs if run[-1] == "ended") == sorted(work.labels)
    gone = [run for run in runs if run[-1] == "lost"]
    assert gone
    assert {run[3] for run in gone} == {"lost"}
    assert any(run[3] == "lost" and run[0] > gone[0][1] for run in runs)  # it came back
    first = lab.runs()
    lab.build()
    assert lab.runs() == first


def test_a_node_that_never_returns_leaves_its_work_to_the_others(workshop: Workshop) -> None:
    hardware = Hardware(
        nodes=(Machine(name="stays"), Machine(name="lost", speed=9.0, vanish=3600.0))
    )
    lab = Lab(workshop, make_work({"a": 80.0, "b": 5.0}, {"b": ["a"]}), hardware)
    assert lab.build().status is BuildStatus.OK
    assert lab.runs() == lab.simulated()
    assert lab.runs()[0][3:] == ("lost", "lost")


def test_without_any_node_the_build_ends_and_says_so(workshop: Workshop) -> None:
    hardware = Hardware(nodes=speeds(1.0, 1.0, vanish=36000.0))
    lab = Lab(workshop, make_work({"a": 3000.0}, {}), hardware)
    assert lab.build().status is not BuildStatus.OK


def test_the_loop_spares_a_hot_node_that_has_a_sensor(workshop: Workshop) -> None:
    heat = Heat(full=105.0, throttle_at=90.0, seconds=30.0, every=5.0)
    nodes = (Machine(name="cool"), Machine(name="hot", heat=heat))
    work = make_work({f"s{n:02}": 3.0 for n in range(60)}, {})
    lab = Lab(workshop, work, Hardware(nodes=nodes))
    assert lab.build().status is BuildStatus.OK
    assert 70 < lab.peaks["hot"] < 90
