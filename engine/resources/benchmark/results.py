"""Results: what was measured, when, how, and how far single measurements lay apart."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import asdict, frozen

CPU: Final = "cpu"
MEMORY: Final = "memory"
STORAGE: Final = "storage"
NETWORK: Final = "network"
KINDS: Final = (CPU, MEMORY, STORAGE, NETWORK)

FORMAT: Final = 1
"""The version of what is written down."""

MANY: Final = 8
"""Samples of which one may lie far off by chance."""

LOWER_IS_BETTER: Final = ("latency",)
"""The last word of the names of measures that are good when they are low."""


@frozen(kw_only=True)
class Measure:
    """One measured thing, as `cpu.single`: the median of `samples`, and how far they lay apart
    (greatest less least, over the median). `unit` is BPU, B/s, 1/s, s or points."""

    name: str
    value: float
    unit: str
    spread: float = 0.0
    samples: int = 1

    @property
    def lower_is_better(self) -> bool:
        """Say whether less is better."""
        return self.name.rpartition(".")[2] in LOWER_IS_BETTER


@frozen(kw_only=True)
class Run:
    """One benchmark of one kind on one node.

    `target` is the directory or address that was measured, "" for processors and memory. `way` says
    how: `typescript` or `mix` for processors. `busy` is, for processors, the share of time in which
    other work held them up, and else the share of all processors' time that other work had; None
    where that cannot be told. `about` tells of the machine: model, threads,
    versions. `time` is in seconds since 1970.
    """

    kind: str
    node: str
    time: float
    measures: tuple[Measure, ...]
    target: str = ""
    way: str = ""
    busy: float | None = None
    about: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def value(self, name: str) -> float | None:
        """Return the value of a measure by name, None if it is not among them."""
        return next((one.value for one in self.measures if one.name == name), None)


def measure(name: str, unit: str, samples: Sequence[float]) -> Measure:
    """Return the measure of some samples, at least one.

    Where there are many, the least and the greatest do not count for the spread.
    """
    value, count = statistics.median(samples), len(samples)
    if len(samples) >= MANY:
        samples = sorted(samples)[1:-1]
    spread = (max(samples) - min(samples)) / value if value else 0.0
    return Measure(name=name, value=value, unit=unit, spread=spread, samples=count)


def document(runs: Iterable[Run]) -> dict[str, Any]:
    """Return runs for machines; `runs_of` reads it."""
    return {"format": FORMAT, "runs": [asdict(run) for run in runs]}


def runs_of(document: Any) -> list[Run]:
    """Return the runs of a document, or of one run in it; raises ValueError."""
    import cattrs

    try:
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} is not known")
        return cattrs.Converter().structure(document["runs"], list[Run])
    except ValueError:
        raise
    except Exception as error:
        raise ValueError("it does not hold results of bn benchmark") from error


def latest(runs: Iterable[Run]) -> list[Run]:
    """Return the last run of each node, kind and target, in the order of these."""
    last: dict[tuple[str, str, str], Run] = {}
    for run in sorted(runs, key=lambda run: run.time):
        last[run.node, run.kind, run.target] = run
    return [
        last[key] for key in sorted(last, key=lambda key: (key[0], KINDS.index(key[1]), key[2]))
    ]


def show_value(value: float, unit: str) -> str:
    """Return a value for people."""
    match unit:
        case "B/s":
            for name, size in (("GB/s", 1e9), ("MB/s", 1e6)):
                if value >= size:
                    return f"{value / size:.3g} {name}"
            return f"{value / 1e3:.3g} kB/s"
        case "s":
            if value < 1e-3:
                return f"{value * 1e6:.3g} µs"
            return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
        case "1/s":
            return f"{value:,.0f} /s"
        case "points":
            return f"{value:.0f} of 1000"
        case _:
            return f"{value:.2f} {unit}"
