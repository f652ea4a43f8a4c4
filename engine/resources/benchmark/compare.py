"""Comparison of two nodes, measure by measure; also with the reference and the best possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import frozen

from engine.resources.benchmark.results import CPU, STORAGE, Measure, Run, latest

REFERENCE: Final = "reference"
BEST: Final = "best"
"""Names that stand for no node: the machine that BPU is defined by, and what can be had at best."""

CORES: Final = 6
SECOND_THREADS: Final = 1.25
"""Cores of an i5-10400, and what a core is worth with both of its threads at work: usual figures
for compilers are 1.2 to 1.3."""


@frozen(kw_only=True)
class Row:
    """A measure of both; None where one was not measured. `ratio` is how many times better the
    first is."""

    name: str
    unit: str
    first: Measure | None
    second: Measure | None

    @property
    def ratio(self) -> float | None:
        """How many times better the first is than the second."""
        if not self.first or not self.second or not self.first.value or not self.second.value:
            return None
        ratio = self.first.value / self.second.value
        return 1 / ratio if self.first.lower_is_better else ratio

    @property
    def sure(self) -> bool:
        """Say whether the difference is greater than what single measurements differ by."""
        if self.ratio is None or not self.first or not self.second:
            return False
        return abs(self.ratio - 1) > max(self.first.spread, self.second.spread, 0.03)


def compare(first: Sequence[Run], second: Sequence[Run]) -> list[Row]:
    """Return the measures of two nodes side by side.

    What has a target (storage, network) is compared where both have the same one, or by the best
    one of each where they share none.
    """
    one, other = _by_name(first), _by_name(second)
    return [
        Row(
            name=name,
            unit=(one.get(name) or other[name]).unit,
            first=one.get(name),
            second=other.get(name),
        )
        for name in dict.fromkeys([*one, *other])
    ]


def same_way(first: Sequence[Run], second: Sequence[Run]) -> bool:
    """Say whether processors were measured in the same way in both."""
    ways = [
        {run.way for run in latest(runs) if run.kind == CPU and run.way} for runs in (first, second)
    ]
    return not ways[0] or not ways[1] or ways[0] == ways[1]


def _by_name(runs: Iterable[Run]) -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    for run in latest(runs):
        for one in run.measures:
            known = found.get(one.name)
            better = known is None or (one.value < known.value) == one.lower_is_better
            if better:
                found[one.name] = one
    return found


def reference() -> list[Run]:
    """Return the machine that BPU is defined by: 1 for a core, by definition."""
    return [
        _stand_in(
            REFERENCE,
            CPU,
            Measure(name="cpu.single", value=1.0, unit="BPU"),
            Measure(name="cpu.multi", value=CORES * SECOND_THREADS, unit="BPU"),
            about={"cores": str(CORES), "threads": str(2 * CORES)},
        )
    ]


def best(runs: Iterable[Run], node: str) -> list[Run]:
    """Return the best possible for a node: the best of all known ones, and where a scale has an
    end, that; all of its threads as fast as one alone."""
    runs = list(runs)
    known = _by_name(runs)
    mine = [run for run in latest(runs) if run.node == node and run.kind == CPU]
    measures = {name: one for name, one in known.items() if not name.startswith("cpu.")}
    for name in ("storage.score", "network.score"):
        if name in known:
            measures[name] = Measure(name=name, value=1000.0, unit="points")
    made = [_stand_in(BEST, STORAGE, *measures.values())] if measures else []
    if mine:
        singles = [one for one in mine[-1].measures if one.name.startswith("cpu.single")]
        top = max((one.value for one in singles), default=0.0)
        threads = int(mine[-1].about.get("threads", "1"))
        ideal = Measure(name="cpu.multi", value=top * threads, unit="BPU")
        bests = [known[one.name] for one in singles]
        made.insert(0, _stand_in(BEST, CPU, *bests, ideal))
    return made


def _stand_in(
    name: str, kind: str, *measures: Measure, about: Mapping[str, str] | None = None
) -> Run:
    return Run(kind=kind, node=name, time=0.0, measures=measures, about=about or {})
