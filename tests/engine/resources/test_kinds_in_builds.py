"""Builds on a recorded laptop with two kinds of cores: what runs where, and pinned to what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.places import places_of
from engine.resources.allocation import Share
from engine.resources.discover import discover_compute
from engine.resources.settings import Resources
from executors.base import ExecutionRequest
from executors.simulated import Simulation
from tests.engine.conftest import Maker, Workshop
from tests.engine.resources.conftest import Tree

if TYPE_CHECKING:
    from store.store import Store

SPEEDS = {"performance": 2.0, "efficiency": 1.25}
PERFORMANCE, EFFICIENCY = set(range(12)), set(range(12, 20))


@pytest.mark.parametrize("pin", ["kinds", "threads"])
def test_long_chains_on_fast_cores_and_all_pinned(tree: Tree, store: Store, pin: str) -> None:
    workshop = Workshop(store, Maker())
    root = tree("laptop")
    wanted = Resources(share=Share(), pin=pin)
    places = places_of(discover_compute(root), wanted, SPEEDS, None, None, root)
    assert [node.name for node in places.nodes] == ["local.performance", "local.efficiency"]
    seen: dict[str, set[int]] = {}

    def behave(request: ExecutionRequest) -> Simulation:
        cpus = set(request.cpus)
        seen[request.label] = cpus
        if pin == "threads":
            assert len(cpus) == 1
        assert cpus <= PERFORMANCE or cpus <= EFFICIENCY
        speed = SPEEDS["performance" if cpus <= PERFORMANCE else "efficiency"]
        seconds = 10.0 if request.label.startswith("chain") else 4.0
        return Simulation(seconds=seconds / speed)

    workshop.behave = behave
    result, chain, short = None, {}, {}
    for word in ("once", "again"):
        chain = {
            f"chain{n}": {
                "run": [word, str(n)],
                "inputs": [f"chain{n - 1}"] if n else [],
                "outputs": ["o"],
            }
            for n in range(4)
        }
        short = {f"s{n:02}": {"run": [word, f"s{n}"], "outputs": ["o"]} for n in range(60)}
        result = workshop.build(workshop.graph({"actions": {**chain, **short}}), places=places)
    assert all(seen[label] <= PERFORMANCE for label in chain)
    assert any(seen[label] <= EFFICIENCY for label in short)
    assert result is not None
    assert result.makespan is not None
    assert result.makespan.ratio < 1.1
    told = {event.label: event.placement for _, event in workshop.starts()}
    assert told["chain0"]["node"] == "local.performance"
    assert set(told["chain0"]["cpus"]) == seen["chain0"]
    assert workshop.history.seconds("chain0") == pytest.approx(10.0)
    assert workshop.history.seconds("s59") == pytest.approx(4.0)
