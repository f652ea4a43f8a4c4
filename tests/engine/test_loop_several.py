"""The build loop on several nodes places as the simulator does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.placement import Node
from engine.placement.modes import policy_of
from engine.placement.work import make_work
from engine.places import Places, Thread
from engine.simulation.core import Settings, simulate
from engine.simulation.hardware import Hardware, Machine
from executors.simulated import Simulation

if TYPE_CHECKING:
    from executors.base import ExecutionRequest
    from tests.engine.conftest import Workshop

SPEEDS = {"fast": 2.0, "slow": 1.0}
MEMORY = 2**33


def places(policy: str) -> Places:
    """Return nodes of these speeds; each has one processor, by which the executor knows it."""
    return Places(
        nodes=tuple(
            Node(name=name, cpus=1, memory=MEMORY, free_cpus=1, free_memory=MEMORY, speed=speed)
            for name, speed in SPEEDS.items()
        ),
        memory=MEMORY,
        policy=policy_of(policy),
        threads={name: (Thread(cpu, cpu, None),) for cpu, name in enumerate(SPEEDS)},
    )


SECONDS = {f"s{n:02}": 2.0 + n * 7 % 5 + n / 128 for n in range(16)}
"""How long steps take at speed 1; no two take equally long."""

NEEDS = {f"s{n:02}": [f"s{m:02}" for m in {n // 2, n // 3} if m != n] for n in range(1, 16)}


@pytest.mark.parametrize("policy", ["unified", "smart", "fastest", "least_loaded", "round_robin"])
def test_the_build_loop_places_alike_on_several_nodes(workshop: Workshop, policy: str) -> None:
    def behave(request: ExecutionRequest) -> Simulation:
        (cpu,) = request.cpus
        return Simulation(seconds=SECONDS[request.label] / list(SPEEDS.values())[cpu])

    workshop.behave = behave
    makespan = None
    for build in ("once", "again"):  # the second time history knows how long they take
        actions = {
            name: {"run": [name, build], "inputs": NEEDS.get(name, []), "outputs": ["o"]}
            for name in SECONDS
        }
        graph = workshop.graph({"actions": actions})
        makespan = workshop.build(graph, places=places(policy)).makespan
    hardware = Hardware(nodes=tuple(Machine(name=n, speed=s) for n, s in SPEEDS.items()))
    work = make_work(SECONDS, NEEDS)
    done = simulate(work, hardware, Settings(policy=policy_of(policy)))
    assert makespan is not None
    assert makespan.seconds == pytest.approx(done.makespan)
    began = [(time, event.label, event.placement["node"]) for time, event in workshop.starts()]
    expected = [(round(time, 6), label, node) for time, label, node in done.placements()]
    assert sorted(began) == sorted(expected)
