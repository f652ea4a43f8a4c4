"""Runs as benchmarks give them, with values of our choice."""

from __future__ import annotations

from typing import Any

from engine.resources.benchmark.results import Measure, Run

DAY = 86400.0


def run(kind: str, time: float = 0.0, node: str = "here", **more: Any) -> Run:
    """Return a run; `values` are measures by name: a value, or a value and its spread."""
    units = {"cpu": "BPU", "memory": "B/s", "storage": "points", "network": "points"}
    measures = []
    for name, told in more.pop("values", {}).items():
        value, spread = told if isinstance(told, tuple) else (told, 0.0)
        unit = "s" if name.endswith("latency") else units[kind]
        full = f"{kind}.{name}"
        measures.append(Measure(name=full, value=value, unit=unit, spread=spread, samples=3))
    about = more.pop("about", {"threads": "4", "cores": "4"})
    return Run(kind=kind, node=node, time=time, measures=tuple(measures), about=about, **more)
